//! What the areas do on their own for the life of the process: schedules, pollers, readers of logs. One line an
//! area. Started once, after the rules are loaded.

use std::sync::Arc;

use crate::api::App;

/// Starts every area's own tasks. They end with the process.
pub fn start(app: &Arc<App>) {
    let _ = app;
}
