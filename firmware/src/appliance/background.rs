//! What the areas do on their own for the life of the process: schedules, pollers, readers of logs. One line an
//! area. Started once, after the rules are loaded.

use std::sync::Arc;
use std::time::Duration;

use crate::api::App;
use crate::config::ServiceKind;
use crate::services::trafficcop;

/// Starts every area's own tasks. They end with the process.
pub fn start(app: &Arc<App>) {
    smol::spawn(keep_access_log_small(app.clone())).detach();
}

async fn keep_access_log_small(app: Arc<App>) {
    loop {
        async_io::Timer::after(Duration::from_secs(600)).await;
        let path = app.store.snapshot().applied.proxy.access_log_path.clone();
        let path = app.services.runner(ServiceKind::Proxy).facts().path(&path);
        if let Err(error) = blocking::unblock(move || trafficcop::rotate(&path)).await {
            log::warn!("the reverse proxy's access log: {error}");
        }
    }
}
