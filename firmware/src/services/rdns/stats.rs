//! Figures of the running resolver, whichever it is, in one form (contract/dns.md §2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::control::Control;
use super::{probe_of, unbound};
use crate::config::dns::Backend;
use crate::services::{Runner, ServiceError};

/// Counted since the daemon started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Unix milliseconds.
    pub ts: u64,
    pub cache: Cache,
    pub rpz: Rpz,
    /// `null` where the daemon does not count them.
    #[serde(default)]
    pub queries: Option<Queries>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cache {
    pub entries: u64,
    pub max_entries: u64,
    pub hits: u64,
    pub misses: u64,
    pub insertions: u64,
    pub evictions: u64,
    /// 0 to 100.
    pub hit_rate_pct: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rpz {
    pub rules: u64,
    pub zones: u64,
    pub hits: u64,
    pub per_zone: Vec<Zone>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Zone {
    /// With the final dot.
    pub name: String,
    pub rules: u64,
    pub hits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queries {
    pub total: u64,
    pub nxdomain: u64,
    pub servfail: u64,
}

/// A name that policy zones have answered, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Blocked {
    pub qname: String,
    pub hits: u64,
}

fn no_figures(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::Unreachable { service: "rDNS", reason: error.to_string() }
}

/// Which daemon the files in force are for; rDNS when there are none.
pub async fn backend(runner: &Runner) -> Backend {
    let places = runner.places();
    blocking::unblock(move || probe_of(&places)).await.map_or(Backend::Rdns, |probe| probe.backend)
}

/// The figures as of now.
pub async fn snapshot(runner: &Runner) -> Result<Snapshot, ServiceError> {
    match backend(runner).await {
        Backend::Rdns => {
            let line = Control::of(&runner.places()).ask("stats-json").await?;
            serde_json::from_str(&line).map_err(no_figures)
        }
        Backend::Unbound => unbound::snapshot(runner).await,
    }
}

/// The names blocked most often.
pub async fn top_blocked(runner: &Runner, most: u16) -> Result<Vec<Blocked>, ServiceError> {
    #[derive(Deserialize)]
    struct Top {
        items: Vec<Blocked>,
    }
    if backend(runner).await != Backend::Rdns {
        return Ok(Vec::new());
    }
    let line = Control::of(&runner.places()).ask(&format!("top-blocked {most}")).await?;
    serde_json::from_str::<Top>(&line).map(|top| top.items).map_err(no_figures)
}

/// As the daemon says it itself: `rDNS 1.17.25`.
pub async fn version(runner: &Runner, backend: Backend) -> Option<String> {
    match backend {
        Backend::Rdns => Control::of(&runner.places()).version().await.ok(),
        Backend::Unbound => unbound::version(runner).await,
    }
}
