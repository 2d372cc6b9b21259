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
    smol::spawn(follow_time_sources(app.clone())).detach();
    smol::spawn(follow_leases(app.clone())).detach();
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

/// Watches the clock. Names of time sources are resolved again every six hours, and sooner when a source has fallen
/// silent or none has answered yet (DNS may not have been there at the start); the daemon is restarted only if that has
/// changed what it is given.
async fn follow_time_sources(app: Arc<App>) {
    const LOOK: Duration = Duration::from_secs(10);
    const EVERY: Duration = Duration::from_secs(6 * 3600);
    const ONE_SILENT: Duration = Duration::from_secs(600);
    const ALL_SILENT: Duration = Duration::from_secs(60);
    let mut last = std::time::Instant::now();
    let mut told = Vec::new();
    loop {
        async_io::Timer::after(LOOK).await;
        if !app.services.runner(ServiceKind::Time).is_running() {
            last = std::time::Instant::now();
            continue;
        }
        let (applied, services) = (app.store.snapshot().applied.clone(), app.services.clone());
        let state = blocking::unblock(move || services.time_state(&applied)).await;
        // Without minutes, which change, an alarm is told once.
        let alarms = app.services.time_alarms();
        let words: Vec<_> =
            alarms.iter().map(|alarm| alarm.split(" for ").next().map(str::to_owned)).collect();
        if words != told {
            alarms.iter().for_each(|alarm| log::warn!("time: {alarm}"));
            told = words;
        }
        let silent =
            state.map(|state| state.sources.iter().map(|source| !source.reachable).collect::<Vec<_>>());
        let wait = match silent {
            Some(silent) if silent.iter().all(|silent| *silent) => ALL_SILENT,
            Some(silent) if silent.contains(&true) => ONE_SILENT,
            _ => EVERY,
        };
        if last.elapsed() < wait {
            continue;
        }
        last = std::time::Instant::now();
        if let Err(error) = app.applier.refresh_service(ServiceKind::Time).await {
            log::warn!("time sources: {error}");
        }
    }
}

/// Names of DHCP clients go into the DNS, where that is asked for.
async fn follow_leases(app: Arc<App>) {
    loop {
        async_io::Timer::after(Duration::from_secs(10)).await;
        let applied = app.store.snapshot().applied.clone();
        let services = app.services.clone();
        blocking::unblock(move || services.follow_leases(&applied)).await;
    }
}
