//! How many alerts of the intrusion detection are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, at_once, changes};
use crate::api::{ApiError, App, Call, Reply, Route};
use crate::config::{Config, Timestamp};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/settings/ids-alerts", READ, "How many alerts are kept", get).answers::<View>(200),
        Route::new("PUT", "/settings/ids-alerts", WRITE, "Change it; acts at once", put)
            .takes::<Request>()
            .answers::<Done>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct OfClass {
    classification: &'static str,
    count: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Stats {
    count: usize,
    estimated_mb: f64,
    max_mb: u32,
    usage_pct: f64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    by_classification: Vec<OfClass>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    max_mb: u32,
    max_age_secs: u32,
    stats: Stats,
}

/// What is absent stays.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Request {
    /// Brought into 8 to 512.
    max_mb: Option<i64>,
    /// Brought into 3600 to 604800.
    max_age_secs: Option<i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {
    message: String,
    max_mb: u32,
    max_age_secs: u32,
    stats: Stats,
}

fn stats(app: &App, max_mb: u32) -> Stats {
    let alerts = app.services.ids().alerts.newest_first();
    let usage = app.services.ids().alerts.usage();
    let mut classes: BTreeMap<&'static str, usize> = BTreeMap::new();
    for stored in &alerts {
        *classes.entry(stored.alert.classification.as_str()).or_default() += 1;
    }
    let megabytes = usage.bytes as f64 / f64::from(1 << 20);
    Stats {
        count: usage.count,
        estimated_mb: (megabytes * 100.0).round() / 100.0,
        max_mb,
        usage_pct: (megabytes / f64::from(max_mb.max(1)) * 1000.0).round() / 10.0,
        oldest: usage.oldest,
        newest: alerts.first().map(|stored| stored.alert.timestamp),
        by_classification: classes
            .into_iter()
            .map(|(classification, count)| OfClass { classification, count })
            .collect(),
    }
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let settings = call.app.store.snapshot().config.ids.clone();
    let (max_mb, max_age_secs) = (settings.alert_buffer_mb, settings.alert_buffer_age_secs);
    let stats = blocking::unblock(move || stats(&call.app, max_mb)).await;
    Ok(Reply::json(&View { max_mb, max_age_secs, stats }))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: Request = call.json()?;
    let change = move |config: &mut Config| {
        let mut changed = (*config.ids).clone();
        if let Some(megabytes) = request.max_mb {
            changed.alert_buffer_mb = megabytes.clamp(8, 512) as u32;
        }
        if let Some(seconds) = request.max_age_secs {
            changed.alert_buffer_age_secs = seconds.clamp(3_600, 604_800) as u32;
        }
        let what = changes("alerts kept", &*config.ids, &changed);
        config.ids = Arc::new(changed);
        Ok((config.ids.clone(), what))
    };
    // The engine's other settings wait for their own apply.
    let adopt = |from: &Config, into: &mut Config| {
        let ids = Arc::make_mut(&mut into.ids);
        ids.alert_buffer_mb = from.ids.alert_buffer_mb;
        ids.alert_buffer_age_secs = from.ids.alert_buffer_age_secs;
    };
    let settings = at_once(&call, "settings", change, adopt).await?;
    let (max_mb, max_age_secs) = (settings.alert_buffer_mb, settings.alert_buffer_age_secs);
    let stats = blocking::unblock(move || {
        call.app.services.ids().alerts.fit(max_mb, max_age_secs);
        stats(&call.app, max_mb)
    })
    .await;
    let message = format!("Alerts are kept up to {max_mb} MiB and {max_age_secs} seconds, from now on");
    Ok(Reply::json(&Done { message, max_mb, max_age_secs, stats }))
}
