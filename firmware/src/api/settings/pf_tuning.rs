//! Limits and time-outs of pf: as configured, and as pf has them now.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{READ, WRITE, at_once, changes};
use crate::api::{ApiError, App, Call, Reply, Route};
use crate::config::pf_tuning::{FRAGS, MAX, MIN, PfTuningRequest, SRC_NODES, TIMEOUTS, usual_timeout};
use crate::config::{Config, FirewallSettings};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/settings/pf-tuning", READ, "Limits and time-outs of pf", get)
            .answers::<View>(200),
        Route::new(
            "PUT",
            "/settings/pf-tuning",
            WRITE,
            "Change limits and time-outs of pf at once; rules and states stay",
            put,
        )
        .takes::<PfTuningRequest>()
        .answers::<View>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    configured_max_states: u32,
    /// Null when pf cannot be read.
    live_max_states: Option<u64>,
    current_states: u64,
    min_states: u32,
    max_states: u32,
    /// `src-nodes`, `frags`, `table-entries` as pf has them; as configured while it cannot be read.
    limits: BTreeMap<String, u64>,
    /// By pf's names, seconds (`adaptive.*`: states), as pf has them; as configured while it cannot be read.
    timeouts: BTreeMap<String, u64>,
    /// Those that are set; the others are pf's own.
    configured_limits: BTreeMap<String, u32>,
    configured_timeouts: BTreeMap<String, u32>,
    /// What is not as it is configured, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// More states than this for each row of the hash table make look-ups slow.
const STATES_PER_ROW: u64 = 16;
/// pf's own `net.pf.states_hashsize`, unless the loader is told otherwise.
const ROWS: u64 = 131_072;

fn view(app: &App, settings: &FirewallSettings, warning: Option<String>) -> View {
    let limits = app.pf.limits().unwrap_or_default();
    let mut configured_limits = BTreeMap::from([("table-entries".to_owned(), settings.max_table_entries)]);
    configured_limits.extend(settings.max_src_nodes.map(|limit| ("src-nodes".to_owned(), limit)));
    configured_limits.extend(settings.max_frags.map(|limit| ("frags".to_owned(), limit)));
    let limit = |name: &str| limits.iter().find(|(known, _)| known == name).map(|(_, limit)| *limit);
    let usual = [("src-nodes", SRC_NODES), ("frags", FRAGS), ("table-entries", settings.max_table_entries)];
    let shown_limits = usual.map(|(name, usual)| {
        let configured = configured_limits.get(name).copied().unwrap_or(usual);
        (name.to_owned(), limit(name).unwrap_or(configured.into()))
    });
    let live: BTreeMap<String, u64> = app.pf.timeouts().unwrap_or_default().into_iter().collect();
    let timeouts = TIMEOUTS.iter().map(|(name, _)| {
        let usual = || usual_timeout(name, settings.max_states).unwrap_or(0);
        let configured = settings.timeouts.get(*name).copied().unwrap_or_else(usual);
        ((*name).to_owned(), live.get(*name).copied().unwrap_or(configured.into()))
    });
    let crowded = u64::from(settings.max_states) > ROWS * STATES_PER_ROW;
    let crowded = crowded.then(|| {
        format!(
            "{} states are more than {STATES_PER_ROW} for each of pf's {ROWS} hash rows: raise the loader's \
             net.pf.states_hashsize",
            settings.max_states
        )
    });
    let warnings: Vec<String> = warning.into_iter().chain(crowded).collect();
    View {
        configured_max_states: settings.max_states,
        live_max_states: limit("states"),
        current_states: app.pf.info().map_or(0, |info| info.states),
        min_states: MIN,
        max_states: MAX,
        limits: shown_limits.into_iter().collect(),
        timeouts: timeouts.collect(),
        configured_limits,
        configured_timeouts: settings.timeouts.clone(),
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
    }
}

async fn answer(call: Call, warning: Option<String>) -> Result<Reply, ApiError> {
    let settings = call.app.store.snapshot().config.firewall.clone();
    let view = blocking::unblock(move || view(&call.app, &settings, warning)).await;
    Ok(Reply::json(&view))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    answer(call, None).await
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: PfTuningRequest = call.json()?;
    let change = move |config: &mut Config| {
        let changed = request.change(&config.firewall)?;
        let what = changes("pf tuning", &*config.firewall, &changed);
        config.firewall = changed.into();
        Ok(((), what))
    };
    let adopt = |from: &Config, into: &mut Config| {
        std::sync::Arc::make_mut(&mut into.firewall).adopt_tuning(&from.firewall);
    };
    at_once(&call, "settings", change, adopt).await?;
    // It is stored, and tried again with every load of the rules.
    let warning = call.app.applier.tune().await.err().map(|error| {
        log::warn!("pf tuning: {error}");
        format!("stored, but pf did not take it: {error}")
    });
    answer(call, warning).await
}
