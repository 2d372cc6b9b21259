//! `GET /about`: what this build is and what it serves.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::{ApiError, Call, Reply};
use crate::live::view::MemoryBreakdown;

#[derive(Debug, Serialize, JsonSchema)]
pub struct About {
    version: &'static str,
    /// Commit that was built, where the build knew it.
    git_commit: Option<&'static str>,
    /// RFC 3339, where the build knew it.
    built_at: Option<&'static str>,
    /// `freebsd` or `sandbox`.
    platform: &'static str,
    simulated_pf: bool,
    memory: MemoryBreakdown,
    features: Features,
    /// First path segments of the operations that this build serves, sorted.
    areas: &'static [&'static str],
}

/// What is there to be used.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Features {
    ids: bool,
    vpn: bool,
    cluster: bool,
    valkey: bool,
    tls: bool,
    multiwan: bool,
}

/// Areas of the route table.
fn areas() -> &'static [&'static str] {
    static AREAS: OnceLock<Vec<&'static str>> = OnceLock::new();
    AREAS.get_or_init(|| {
        let first = |path: &'static str| path.trim_start_matches('/').split('/').next().unwrap_or("");
        let names: BTreeSet<&str> = crate::api::routes().iter().map(|route| first(route.path)).collect();
        names.into_iter().collect()
    })
}

pub async fn about(call: Call) -> Result<Reply, ApiError> {
    let app = &call.app;
    let memory = app.live.sample().await.map(|sample| sample.memory).unwrap_or_default();
    let sources = app.live.sources();
    let serves = |area: &str| areas().binary_search(&area).is_ok();
    Ok(Reply::json(&About {
        version: env!("CARGO_PKG_VERSION"),
        git_commit: option_env!("AIFW_GIT_COMMIT"),
        built_at: option_env!("AIFW_BUILT_AT"),
        platform: app.platform.kind(),
        simulated_pf: app.pf.is_simulated(),
        memory,
        features: Features {
            ids: sources.ids.is_some(),
            vpn: sources.vpn.is_some(),
            cluster: serves("cluster"),
            valkey: false,
            tls: true,
            multiwan: serves("multiwan"),
        },
        areas: areas(),
    }))
}
