//! The DHCP server as a whole: status, start and stop, logs, metrics, settings, apply.

use schemars::JsonSchema;
use serde::Serialize;

use super::remote::{HaStatus, ha_now};
use super::{KIND, READ, WRITE, ask, rehearse, wish};
use crate::api::resource::Data;
use crate::api::services_common::{self, Acted, LOG_QUERY, Named, acted, audit, note, said};
use crate::api::{ApiError, Call, Reply, Route};
use crate::apply::services::{ServiceApplyError, Wish};
use crate::config::Timestamp;
use crate::config::dhcp::{DhcpGlobal, DhcpGlobalRequest};
use crate::services::ServiceError;
use crate::services::rdhcpd::PoolStats;

const MOST_LINES: usize = 5000;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/dhcp/status", READ, "The DHCP server: daemon, leases, pools", status)
            .answers::<Status>(200),
        Route::new("POST", "/dhcp/start", WRITE, "Start the DHCP server with what is stored", |call| {
            act(call, "start", Wish::Run)
        })
        .answers::<Acted>(200),
        Route::new("POST", "/dhcp/stop", WRITE, "Stop the DHCP server", |call| act(call, "stop", Wish::Stop))
            .answers::<Acted>(200),
        Route::new("POST", "/dhcp/restart", WRITE, "Restart the DHCP server with what is stored", |call| {
            act(call, "restart", Wish::Restart)
        })
        .answers::<Acted>(200),
        Route::new("GET", "/dhcp/logs", READ, "What the DHCP daemon has said, newest first", logs)
            .answers::<Data<Vec<String>>>(200)
            .with_query(LOG_QUERY),
        Route::new(
            "GET",
            "/dhcp/metrics",
            READ,
            "Counters of the daemon in Prometheus' text format",
            metrics,
        )
        .answers::<String>(200),
        Route::new("GET", "/dhcp/pool-stats", READ, "How full the subnets are, by network", pool_stats)
            .answers::<Data<Vec<PoolStats>>>(200),
        Route::new("GET", "/dhcp/v4/config", READ, "Settings of the DHCP server", config)
            .answers::<DhcpGlobal>(200),
        Route::new(
            "PUT",
            "/dhcp/v4/config",
            WRITE,
            "Change settings of the DHCP server; they act at once",
            change,
        )
        .takes::<DhcpGlobalRequest>()
        .answers::<Acted>(200),
        Route::new("POST", "/dhcp/v4/apply", WRITE, "Make the DHCP server as stored", apply)
            .answers::<Acted>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    running: bool,
    /// Of the daemon; `stopped` or `unknown` when it does not tell.
    version: String,
    /// `3d 4h 5m`
    uptime: Option<String>,
    total_subnets: usize,
    total_reservations: usize,
    /// Bound ones.
    active_leases: usize,
    ha: Option<HaStatus>,
    pool_stats: Vec<PoolStats>,
    warnings: Vec<String>,
    /// Why what was written last does not act, if it does not.
    last_apply_error: Option<String>,
}

/// Days, hours and minutes.
fn duration(since: Timestamp) -> String {
    let minutes = Timestamp::now().duration_since(since).as_secs().max(0) / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, hours) => format!("{hours}h {minutes}m"),
        (days, hours) => format!("{days}d {hours}h {minutes}m"),
    }
}

async fn status(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let runner = call.app.services.runner(KIND).clone();
    let running = runner.is_running();
    let told = ask(&call.app, |client| {
        Ok((client.health()?.version, client.pool_stats()?, client.leases(Some("bound"))?.len()))
    })
    .await;
    let stopped = if running { "unknown" } else { "stopped" };
    let (version, pool_stats, active_leases) = told.unwrap_or_else(|_| (stopped.into(), Vec::new(), 0));
    let (known, stored) = (runner.clone(), snapshot.config.clone());
    let warnings =
        blocking::unblock(move || crate::compile::services::dhcp::warnings(&stored, &known.facts())).await;
    Ok(Reply::json(&Status {
        running,
        version,
        uptime: running.then(|| duration(runner.status().since)),
        total_subnets: snapshot.config.dhcp_subnets.len(),
        total_reservations: snapshot.config.dhcp_reservations.len(),
        active_leases,
        ha: running.then(|| ha_now(&call)),
        pool_stats,
        warnings,
        last_apply_error: call.app.applier.last_soon_error(KIND),
    }))
}

async fn act(call: Call, word: &'static str, wish: Wish) -> Result<Reply, ApiError> {
    services_common::act(call, Named { kind: KIND, area: "dhcp", noun: "DHCP server" }, word, wish).await
}

async fn logs(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::data(&said(&call, KIND, MOST_LINES)?))
}

async fn metrics(call: Call) -> Result<Reply, ApiError> {
    let text = ask(&call.app, |client| client.metrics()).await?;
    Ok(Reply::bytes(200, "text/plain; version=0.0.4", text.into_bytes()))
}

async fn pool_stats(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::data(&ask(&call.app, |client| client.pool_stats()).await?))
}

async fn config(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&*call.app.store.snapshot().config.dhcp))
}

async fn change(call: Call) -> Result<Reply, ApiError> {
    let request: DhcpGlobalRequest = call.json()?;
    let mut candidate = call.app.store.snapshot().config.clone();
    candidate.dhcp = request.clone().change(&candidate.dhcp)?.into();
    known_interfaces(&call, &candidate.dhcp).await?;
    let mut warnings = rehearse(&call.app, &candidate).await?;
    let author = call.author();
    let by = author.clone();
    let toggled = call
        .app
        .store
        .commit(&author, move |draft| {
            let settings = request.change(&draft.config.dhcp)?;
            let toggled = settings.enabled != draft.config.dhcp.enabled;
            draft.audit.push(audit("dhcp", &by, "settings of the DHCP server updated"));
            if settings != *draft.config.dhcp {
                draft.config.dhcp = settings.into();
            }
            Ok::<_, ApiError>(toggled)
        })
        .await?;
    if toggled {
        // Switched on or off: at once. It is stored in any case; what went wrong is told.
        if let Err(error) = call.app.applier.service(&author, KIND, Wish::AsConfigured, None).await {
            warnings.push(error.to_string());
        }
    } else if let Some(wish) = wish(&call.app, &call.app.store.snapshot().config) {
        call.app.applier.service_soon(&author, KIND, wish);
    }
    Ok(acted("DHCP config updated and applied", &warnings))
}

/// Refuses interfaces that were not selected before and are not there.
async fn known_interfaces(call: &Call, wanted: &DhcpGlobal) -> Result<(), ApiError> {
    let before = call.app.store.snapshot().config.dhcp.interfaces.clone();
    let new: Vec<String> = wanted.interfaces.iter().filter(|name| !before.contains(name)).cloned().collect();
    if new.is_empty() {
        return Ok(());
    }
    let runner = call.app.services.runner(KIND).clone();
    let facts = blocking::unblock(move || runner.facts()).await;
    let there = |name: &str| facts.interfaces.iter().any(|interface| interface.name.as_str() == name);
    match new.iter().find(|name| !there(name)) {
        Some(name) => Err(ApiError::bad_request(format!(
            "interfaces: expected interfaces of this machine, which has no {name}"
        ))),
        None => Ok(()),
    }
}

async fn apply(call: Call) -> Result<Reply, ApiError> {
    let author = call.author();
    let entry = audit("dhcp", &author, "DHCP server applied");
    match call.app.applier.service(&author, KIND, Wish::AsConfigured, Some(entry)).await {
        Ok(report) => Ok(acted(
            match report.running {
                true => "DHCP config applied and rDHCP restarted",
                false => "DHCP config saved, rDHCP stopped",
            },
            &report.warnings,
        )),
        Err(error) => {
            note(&call.app, &author, audit("dhcp", &author, format!("DHCP apply failed: {error}"))).await?;
            Err(failed(error))
        }
    }
}

fn failed(error: ServiceApplyError) -> ApiError {
    match error {
        error @ ServiceApplyError::Service(ServiceError::NotReady { .. }) => {
            let ServiceApplyError::Service(ServiceError::NotReady { last_lines, .. }) = &error else {
                return error.into();
            };
            let lines: Vec<&str> = last_lines.iter().rev().take(5).rev().map(String::as_str).collect();
            ApiError::new(500, format!("DHCP apply failed: {error}\n{}", lines.join("\n")))
        }
        error => error.into(),
    }
}
