//! `/dns/resolver`: settings, switching, status and log.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit;
use crate::api::resource::{Data, Message};
use crate::api::{Access, ApiError, Call, Reply, Route, services_common};
use crate::apply::resolver::{LastSwitch, Switched, last_switch, listening};
use crate::apply::services::Wish;
use crate::config::dns::{Backend, DnsResolver};
use crate::config::{Permission, ServiceKind};
use crate::services::ServiceError;
use crate::services::rdns::{probe_of, stats};
use crate::store::Draft;

pub fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::DnsRead), Access::Needs(Permission::DnsWrite));
    let switch = |path, summary, wish| {
        Route::new("POST", path, write, summary, move |call| switch(call, wish))
            .answers::<Switched>(200)
            .with_query(if wish == Wish::AsConfigured { DRY_RUN } else { &[] })
    };
    vec![
        Route::new("GET", "/dns/resolver/config", read, "Settings of the resolver", config)
            .answers::<DnsResolver>(200),
        Route::new(
            "PUT",
            "/dns/resolver/config",
            write,
            "Change settings of the resolver; what is left out stays; in force after an apply",
            set_config,
        )
        .takes::<DnsResolver>()
        .answers::<Message>(200),
        switch(
            "/dns/resolver/apply",
            "Make the resolver as configured; what does not come up is taken back",
            Wish::AsConfigured,
        ),
        switch("/dns/resolver/start", "Start the resolver with what is configured", Wish::Run),
        switch("/dns/resolver/restart", "Start the resolver anew with what is configured", Wish::Restart),
        switch("/dns/resolver/stop", "Stop the resolver", Wish::Stop),
        Route::new("GET", "/dns/resolver/status", read, "State of the resolver", status)
            .answers::<Status>(200),
        Route::new("GET", "/dns/resolver/logs", read, "What the resolver has said, newest first", log)
            .answers::<Data<Vec<String>>>(200)
            .with_query(services_common::LOG_QUERY),
    ]
}

const DRY_RUN: &[(&str, &str)] = &[("dry_run", "true checks what would be applied and touches nothing")];

async fn config(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&*call.app.store.snapshot().config.dns_resolver))
}

async fn set_config(call: Call) -> Result<Reply, ApiError> {
    let change: Map<String, Value> = call.json()?;
    let author = call.author();
    let entry = audit(&author, "resolver settings updated");
    call.app
        .store
        .commit(&author, move |draft: &mut Draft| {
            let settings = draft.config.dns_resolver.changed_by(&change)?;
            if settings != *draft.config.dns_resolver {
                draft.config.dns_resolver = settings.into();
            }
            draft.audit.push(entry);
            Ok::<(), ApiError>(())
        })
        .await?;
    call.app.applier.pending();
    Ok(Reply::message("DNS resolver config saved"))
}

async fn switch(call: Call, wish: Wish) -> Result<Reply, ApiError> {
    if wish == Wish::AsConfigured && call.query_as::<bool>("dry_run", "true or false")? == Some(true) {
        return rehearse(&call).await;
    }
    let author = call.author();
    let word = match wish {
        Wish::AsConfigured => "applied",
        Wish::Run => "started",
        Wish::Restart => "restarted",
        Wish::Stop => "stopped",
    };
    let entry = audit(&author, format_args!("resolver {word}"));
    Ok(Reply::json(&call.app.applier.switch_resolver(&author, wish, entry).await?))
}

/// What an apply would say before it touches anything.
async fn rehearse(call: &Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let (applied, wanted) = (&snapshot.applied.dns_resolver, &snapshot.config.dns_resolver);
    let now = applied.enabled.then(|| applied.backend.word());
    // DHCP's names are those in force: only the resolver's own part is tried.
    let mut tried = snapshot.applied.clone();
    ServiceKind::Dns.adopt(&snapshot.config, &mut tried);
    let (message, warnings) = match call.app.applier.rehearse_service(ServiceKind::Dns, &tried).await {
        Ok(warnings) => {
            (format!("{} configuration checked; nothing was touched", wanted.backend.word()), warnings)
        }
        Err(ServiceError::Refused(reason)) => (format!("refused: {reason}"), Vec::new()),
        Err(error) => (format!("failed: {error}"), Vec::new()),
    };
    Ok(Reply::json(&Switched {
        backend: now.unwrap_or("none"),
        enabled: wanted.enabled,
        probe_udp: false,
        probe_tcp: false,
        rolled_back: false,
        previous: now,
        message,
        warnings,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
struct Status {
    /// The configured backend's daemon runs.
    running: bool,
    version: String,
    total_hosts: usize,
    total_domains: usize,
    total_acls: usize,
    cache_hits: u64,
    cache_misses: u64,
    queries_total: u64,
    /// Applied last: `rdns`, `unbound`, or `none` after a stop.
    backend: String,
    listening_udp: bool,
    listening_tcp: bool,
    last_switch_at: Option<String>,
    /// `ok`, `ok_disabled`, `rolled_back: …`, `failed: …`.
    last_switch_result: Option<String>,
    probe_enabled: bool,
}

/// How long the resolver has to show that it listens.
const PATIENCE: Duration = Duration::from_millis(500);

async fn status(call: Call) -> Result<Reply, ApiError> {
    let config = call.app.store.snapshot().config.clone();
    let runner = call.app.services.runner(ServiceKind::Dns).clone();
    let places = runner.places();
    let known = blocking::unblock(move || (probe_of(&places), last_switch(&places)));
    let (probe, last): (_, Option<LastSwitch>) = known.await;
    let backend = config.dns_resolver.backend;
    let running =
        runner.is_running() && probe.as_ref().map_or(Backend::Rdns, |probe| probe.backend) == backend;
    let (mut figures, mut version) = (None, None);
    if running {
        // Side by side, so that a daemon that hangs is waited for once.
        let (for_version, for_figures) = (runner.clone(), runner.clone());
        let version_task = smol::spawn(async move { stats::version(&for_version, backend).await });
        let figures_task = smol::spawn(async move { stats::snapshot(&for_figures).await.ok() });
        let asked = async { Some((version_task.await, figures_task.await)) };
        let late = async {
            async_io::Timer::after(PATIENCE).await;
            None
        };
        (version, figures) = futures_lite::future::or(asked, late).await.unwrap_or_default();
    }
    let (listening_udp, listening_tcp) = match probe.filter(|probe| probe.enabled && running) {
        Some(probe) => listening(&probe, PATIENCE).await,
        None => (running, running),
    };
    let fallback = match backend {
        Backend::Rdns => "rDNS",
        Backend::Unbound => "Unbound",
    };
    let (hits, misses) = figures.as_ref().map_or((0, 0), |f| (f.cache.hits, f.cache.misses));
    let total =
        figures.as_ref().and_then(|f| f.queries.as_ref()).map_or(hits + misses, |queries| queries.total);
    Ok(Reply::json(&Status {
        running,
        version: version.unwrap_or_else(|| fallback.into()),
        total_hosts: config.dns_hosts.len(),
        total_domains: config.dns_domains.len(),
        total_acls: config.dns_acls.len(),
        cache_hits: hits,
        cache_misses: misses,
        queries_total: total,
        backend: last.as_ref().map_or_else(|| backend.word().to_owned(), |last| last.backend.clone()),
        listening_udp,
        listening_tcp,
        last_switch_at: last.as_ref().map(|last| last.at.to_string()),
        last_switch_result: last.map(|last| last.result),
        probe_enabled: config.dns_resolver.probe_enabled,
    }))
}

async fn log(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::data(&services_common::said(&call, ServiceKind::Dns, 1000)?))
}
