//! How much of the past the dashboard keeps.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, at_once, changes};
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::settings::{DashboardSettings, HistoryMode};
use crate::config::{Config, Invalid};

pub fn routes() -> Vec<Route> {
    let path = "/settings/dashboard-history";
    vec![
        Route::new("GET", path, READ, "How much of the past the dashboard keeps", get).answers::<View>(200),
        Route::new("PUT", path, WRITE, "Change it; acts at once", put)
            .takes::<Request>()
            .answers::<Done>(200),
    ]
}

/// Entries in a mebibyte, one a second.
const PER_MIB: u64 = 512;

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    history_seconds: u32,
    current_entries: usize,
    estimated_ram_mb: f64,
    mode: HistoryMode,
    /// 0 if it was never set.
    ram_limit_mb: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Request {
    #[serde(default)]
    mode: HistoryMode,
    /// For mode `duration`: brought into 300 to 2592000.
    #[serde(default)]
    history_seconds: Option<i64>,
    /// For mode `ram`: brought into 1 to 256, or a quarter of the memory.
    #[serde(default)]
    ram_limit_mb: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {
    message: String,
    history_seconds: u32,
    estimated_ram_mb: f64,
    mode: HistoryMode,
}

fn megabytes(seconds: u32) -> f64 {
    (f64::from(seconds) / PER_MIB as f64 * 10.0).round() / 10.0
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let settings = call.app.store.snapshot().config.dashboard.clone();
    Ok(Reply::json(&View {
        history_seconds: settings.history_seconds,
        current_entries: call.app.live.history_len(),
        estimated_ram_mb: megabytes(settings.history_seconds),
        mode: settings.mode,
        ram_limit_mb: settings.ram_limit_mb,
    }))
}

impl Request {
    fn change(&self, stored: &DashboardSettings, memory: u64) -> Result<DashboardSettings, Invalid> {
        let mut settings = DashboardSettings { mode: self.mode, ..stored.clone() };
        let wanted = match self.mode {
            HistoryMode::Duration => {
                let seconds = self.history_seconds;
                seconds.ok_or_else(|| Invalid::new("history_seconds", "expected a number of seconds"))?
            }
            HistoryMode::Ram => {
                let limit = self.ram_limit_mb.filter(|limit| limit.is_finite());
                let limit = limit.ok_or_else(|| Invalid::new("ram_limit_mb", "expected a number of MiB"))?;
                let most = ((memory >> 20) / 4).clamp(1, 256) as f64;
                settings.ram_limit_mb = limit.clamp(1.0, most) as u32;
                i64::from(settings.ram_limit_mb) * PER_MIB as i64
            }
        };
        settings.history_seconds = wanted.clamp(300, 2_592_000) as u32;
        Ok(settings)
    }
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: Request = call.json()?;
    let platform = call.app.platform.clone();
    // What cannot be read sets no limit of its own.
    let memory = blocking::unblock(move || platform.vitals().map_or(0, |vitals| vitals.memory.total)).await;
    let memory = if memory == 0 { u64::MAX } else { memory };
    let change = move |config: &mut Config| {
        let changed = request.change(&config.dashboard, memory)?;
        let what = changes("dashboard history", &*config.dashboard, &changed);
        config.dashboard = Arc::new(changed);
        Ok((config.dashboard.clone(), what))
    };
    let adopt = |from: &Config, into: &mut Config| into.dashboard = from.dashboard.clone();
    let settings = at_once(&call, "settings", change, adopt).await?;
    call.app.live.keep_history(settings.history_seconds);
    Ok(Reply::json(&Done {
        message: format!("The dashboard keeps {} seconds", settings.history_seconds),
        history_seconds: settings.history_seconds,
        estimated_ram_mb: megabytes(settings.history_seconds),
        mode: settings.mode,
    }))
}
