//! The engine: settings, reload, statistics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{KIND, READ, WRITE};
use crate::api::resource::Data;
use crate::api::services_common::{audit, note};
use crate::api::{ApiError, App, Call, Reply, Route};
use crate::apply::services::{ServiceApplyError, Wish};
use crate::config::ids::{IdsSettings, IdsSettingsRequest, Mode, RuleFormat};
use crate::services::ServiceError;
use crate::services::ids::{CommandSocket, EngineStats};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/ids/config", READ, "Settings of the intrusion detection", config)
            .answers::<Data<IdsSettings>>(200),
        Route::new(
            "PUT",
            "/ids/config",
            WRITE,
            "Change settings of the intrusion detection; they act at once",
            change,
        )
        .takes::<IdsSettingsRequest>()
        .answers::<Data<IdsSettings>>(200),
        Route::new("POST", "/ids/reload", WRITE, "Let the engine read its rules again", reload)
            .answers::<Reloaded>(200),
        Route::new("GET", "/ids/stats", READ, "Counters of the engine and its alerts", stats)
            .answers::<Data<StatsView>>(200),
        Route::new("GET", "/ids/alerts/buffer-stats", READ, "How full the store of alerts is", buffer_stats)
            .answers::<BufferStats>(200),
    ]
}

async fn config(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::data(&*call.app.store.snapshot().config.ids))
}

async fn change(call: Call) -> Result<Reply, ApiError> {
    let request: IdsSettingsRequest = call.json()?;
    let snapshot = call.app.store.snapshot();
    let mut candidate = snapshot.config.clone();
    candidate.ids = request.clone().change(&candidate.ids)?.into();
    if candidate.ids.mode != Mode::Disabled {
        if !call.app.services.runner(KIND).is_installed() {
            return Err(ApiError::new(503, "ids service unavailable: Suricata is not installed"));
        }
        call.app.applier.rehearse_service(KIND, &candidate).await?;
    }
    let author = call.author();
    let by = author.clone();
    let (before, after) = call
        .app
        .store
        .commit(&author, move |draft| {
            let before = draft.config.ids.clone();
            let settings = request.change(&before)?;
            draft.audit.push(audit("ids", &by, format!("settings updated, mode {}", settings.mode.as_str())));
            if settings != *before {
                draft.config.ids = settings.into();
            }
            Ok::<_, ApiError>((before, draft.config.ids.clone()))
        })
        .await?;
    if let Err(error) = call.app.applier.service(&author, KIND, Wish::AsConfigured, None).await {
        // The machine refuses it: stored is what runs.
        call.app
            .store
            .commit(&author, move |draft| {
                if draft.config.ids == after {
                    draft.config.ids = before;
                }
                Ok::<_, ApiError>(())
            })
            .await?;
        return Err(match error {
            ServiceApplyError::Service(error @ ServiceError::NotReady { .. }) => {
                ApiError::new(500, error.to_string())
            }
            error => error.into(),
        });
    }
    if call.app.store.snapshot().applied.ids.mode != Mode::Ips {
        call.app.services.ids().blocks.clear();
    }
    Ok(Reply::data(&*call.app.store.snapshot().config.ids))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    message: &'static str,
    rules_loaded: u64,
    rules_failed: u64,
}

async fn reload(call: Call) -> Result<Reply, ApiError> {
    let author = call.author();
    let entry = audit("ids", &author, "rules reloaded");
    let runner = call.app.services.runner(KIND).clone();
    if call.app.store.snapshot().config.ids.mode == Mode::Disabled {
        call.app.applier.service(&author, KIND, Wish::AsConfigured, Some(entry)).await?;
        return Ok(Reply::json(&Reloaded { message: "rules reloaded", rules_loaded: 0, rules_failed: 0 }));
    }
    if !runner.is_running() {
        return Err(ApiError::new(503, "ids service unavailable"));
    }
    let report = call.app.applier.service(&author, KIND, Wish::AsConfigured, None).await?;
    note(&call.app, &author, entry).await?;
    let fresh = report.reloaded || report.restarted;
    let path = runner.places().run.join("command.sock");
    let rules = blocking::unblock(move || {
        let mut socket = CommandSocket::connect(&path, std::time::Duration::from_secs(180))?;
        if !fresh {
            socket.command("reload-rules", None)?;
        }
        socket.ruleset_stats()
    });
    let rules =
        rules.await.map_err(|error| ApiError::new(503, format!("ids service unavailable: {error}")))?;
    Ok(Reply::json(&Reloaded {
        message: "rules reloaded",
        rules_loaded: rules.loaded,
        rules_failed: rules.failed,
    }))
}

/// The engine's counters; zeros while it does not run.
pub(super) async fn engine(app: &App) -> (bool, EngineStats) {
    let runner = app.services.runner(KIND).clone();
    if !runner.is_running() {
        return (false, EngineStats::default());
    }
    let ids = app.services.ids().clone();
    let stats = blocking::unblock(move || ids.stats.get(&runner.places().run.join("command.sock"))).await;
    (stats.answers, stats)
}

/// As pages of the dashboard read it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Nested {
    packets_inspected: u64,
    alerts_total: u64,
    drops_total: u64,
    bytes_per_sec: f64,
    packets_per_sec: f64,
    active_flows: u64,
    uptime_secs: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StatsView {
    mode: Mode,
    severity_counts: Vec<(&'static str, u64)>,
    top_signatures: Vec<(String, u64)>,
    top_sources: Vec<(String, u64)>,
    loaded_rules: u64,
    enabled_rulesets: usize,
    total_rulesets: usize,
    running: bool,
    packets_inspected: u64,
    alerts_total: u64,
    flow_count: u64,
    flow_reassembly_bytes: u64,
    uptime_secs: u64,
    stats: Nested,
    rules_failed: u64,
    packets_dropped: u64,
    /// Sources that are blocked now.
    blocked_sources: usize,
    engine_version: Option<String>,
    last_error: Option<String>,
}

/// The ten most frequent.
fn top(counts: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(10);
    all
}

async fn stats(call: Call) -> Result<Reply, ApiError> {
    let (running, engine) = engine(&call.app).await;
    let snapshot = call.app.store.snapshot();
    let ids = call.app.services.ids();
    let mut levels = [0_u64; 4];
    let (mut signatures, mut sources) = (BTreeMap::new(), BTreeMap::new());
    for stored in ids.alerts.newest_first() {
        let alert = &stored.alert;
        levels[usize::from(alert.severity.clamp(1, 4)) - 1] += 1;
        *signatures.entry(alert.signature_msg.clone()).or_insert(0) += 1;
        *sources.entry(alert.src_ip.to_string()).or_insert(0) += 1;
    }
    let total = ids.alerts.usage().total;
    let drops = engine.blocked + ids.blocks.made();
    let rulesets = || snapshot.config.ids_rulesets.iter();
    let status = call.app.services.runner(KIND).status();
    let in_use = |ruleset: &&std::sync::Arc<crate::config::ids::IdsRuleset>| {
        ruleset.enabled && ruleset.rule_format == RuleFormat::Suricata
    };
    let names = ["critical", "high", "medium", "info"];
    let view = StatsView {
        mode: snapshot.config.ids.mode,
        severity_counts: names.into_iter().zip(levels).filter(|(_, count)| *count > 0).collect(),
        top_signatures: top(signatures),
        top_sources: top(sources),
        loaded_rules: engine.rules_loaded,
        enabled_rulesets: rulesets().filter(in_use).count(),
        total_rulesets: rulesets().count(),
        running,
        packets_inspected: engine.packets,
        alerts_total: total,
        flow_count: engine.active_flows,
        flow_reassembly_bytes: engine.reassembly_bytes,
        uptime_secs: engine.uptime_secs,
        stats: Nested {
            packets_inspected: engine.packets,
            alerts_total: total,
            drops_total: drops,
            bytes_per_sec: engine.bytes_per_sec,
            packets_per_sec: engine.packets_per_sec,
            active_flows: engine.active_flows,
            uptime_secs: engine.uptime_secs,
        },
        rules_failed: engine.rules_failed,
        packets_dropped: engine.dropped,
        blocked_sources: ids.blocks.entries(std::time::Instant::now()).len(),
        engine_version: engine.version,
        last_error: status.reason.or(status.last_end).filter(|_| !running),
    };
    Ok(Reply::data(&view))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct BufferStats {
    alerts_total: u64,
    running: bool,
    uptime_secs: u64,
    count: usize,
    max_mb: u32,
    used_mb: f64,
    max_age_secs: u32,
    oldest: Option<crate::config::Timestamp>,
}

async fn buffer_stats(call: Call) -> Result<Reply, ApiError> {
    let (running, engine) = engine(&call.app).await;
    let usage = call.app.services.ids().alerts.usage();
    let settings = call.app.store.snapshot().config.ids.clone();
    Ok(Reply::json(&BufferStats {
        alerts_total: usage.total,
        running,
        uptime_secs: engine.uptime_secs,
        count: usage.count,
        max_mb: settings.alert_buffer_mb,
        used_mb: usage.bytes as f64 / f64::from(1 << 20),
        max_age_secs: settings.alert_buffer_age_secs,
        oldest: usage.oldest,
    }))
}
