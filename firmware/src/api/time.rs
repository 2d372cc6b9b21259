//! `/time`: the time service (contract/time.md). Settings and sources are only stored; apply, start and restart act.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::{Data, Message};
use super::services_common::{self, Acted, LOG_QUERY, Named, acted, audit, said};
use super::{Access, ApiError, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::compile::services::time;
use crate::config::time::*;
use crate::config::{Id, Permission, ServiceKind};
use crate::services::rtime;

const KIND: ServiceKind = ServiceKind::Time;
const READ: Access = Access::Needs(Permission::SettingsRead);
const WRITE: Access = Access::Needs(Permission::SettingsWrite);
const MOST_LINES: usize = 5000;

pub fn routes() -> Vec<Route> {
    let sources = ("/time/sources", "/time/sources/{id}");
    vec![
        Route::new(
            "GET",
            "/time/status",
            READ,
            "State of the time service, its clock and its sources",
            status,
        )
        .answers::<Status>(200),
        Route::new("GET", "/time/config", READ, "Settings of the time service", config)
            .answers::<TimeSettings>(200),
        Route::new("PUT", "/time/config", WRITE, "Change settings of the time service; apply acts", change)
            .takes::<TimeSettingsRequest>()
            .answers::<Acted>(200),
        Route::new("POST", "/time/apply", WRITE, "Make the time service as stored", apply)
            .answers::<Acted>(200),
        Route::new("POST", "/time/start", WRITE, "Start the time service with what is stored", |call| {
            act(call, "start", Wish::Run)
        })
        .answers::<Acted>(200),
        Route::new("POST", "/time/stop", WRITE, "Stop the time service", |call| {
            act(call, "stop", Wish::Stop)
        })
        .answers::<Acted>(200),
        Route::new("POST", "/time/restart", WRITE, "Restart the time service with what is stored", |call| {
            act(call, "restart", Wish::Restart)
        })
        .answers::<Acted>(200),
        Route::new("GET", "/time/logs", READ, "What the time daemon has said, newest first", logs)
            .answers::<Data<Vec<String>>>(200)
            .with_query(LOG_QUERY),
        Route::new("GET", sources.0, READ, "Servers that are asked for the time, by address", list)
            .answers::<Data<Vec<TimeSource>>>(200),
        Route::new("POST", sources.0, WRITE, "Add a server to ask for the time", create)
            .takes::<TimeSourceRequest>()
            .answers::<Data<TimeSource>>(201),
        Route::new("PUT", sources.1, WRITE, "Replace a server to ask for the time", replace)
            .takes::<TimeSourceRequest>()
            .answers::<Message>(200),
        Route::new("DELETE", sources.1, WRITE, "Delete a server to ask for the time", delete)
            .answers::<Message>(200),
        Route::new("POST", "/time/sources/test", WRITE, "Ask a server once, without storing it", test)
            .takes::<TestRequest>()
            .answers::<rtime::Answer>(200),
    ]
}

/// The daemon and, while its management API answers, its clock.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    running: bool,
    /// `rTime 0.15.1 (running)`
    version: String,
    /// Enabled ones.
    sources_count: usize,
    uptime_seconds: Option<f64>,
    synchronized: Option<bool>,
    /// 16 = not synchronised.
    stratum: Option<u8>,
    offset_ms: Option<f64>,
    jitter_ms: Option<f64>,
    frequency_ppm: Option<f64>,
    sources: Option<Vec<rtime::SourceState>>,
    /// The newest line in which the daemon reports an error.
    last_error: Option<String>,
    warnings: Vec<String>,
    /// What should not stay so: not synchronised for long, too few sources.
    alarms: Vec<String>,
}

async fn status(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let runner = call.app.services.runner(KIND).clone();
    let running = runner.is_running();
    let (applied, stored, known) = (snapshot.applied.clone(), snapshot.config.clone(), runner.clone());
    let services = call.app.services.clone();
    let (state, version, warnings) = blocking::unblock(move || {
        let facts = known.facts();
        let state = services.time_state(&applied);
        let version = match &state {
            Some(state) => Some(state.version.clone()),
            None => rtime::version(&known.program()),
        };
        (state, version, time::warnings(&stored, &facts))
    })
    .await;
    let version = version.map(|version| format!(" {version}")).unwrap_or_default();
    let last_error = runner.log(500).into_iter().rev().find(|line| line.line.contains("ERROR"));
    Ok(Reply::json(&Status {
        running,
        version: format!("rTime{version} ({})", if running { "running" } else { "stopped" }),
        sources_count: snapshot.config.time_sources.iter().filter(|source| source.enabled).count(),
        uptime_seconds: state.as_ref().map(|state| state.uptime_seconds),
        synchronized: state.as_ref().map(|state| state.clock.synchronized),
        stratum: state.as_ref().map(|state| state.clock.stratum),
        offset_ms: state.as_ref().map(|state| state.clock.offset_ms),
        jitter_ms: state.as_ref().map(|state| state.clock.jitter_ms),
        frequency_ppm: state.as_ref().map(|state| state.clock.frequency_ppm),
        sources: state.map(|state| state.sources),
        last_error: last_error.map(|line| crate::services::logs::without_colours(&line.line)),
        warnings,
        alarms: call.app.services.time_alarms(),
    }))
}

async fn config(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&*call.app.store.snapshot().config.time))
}

async fn change(call: Call) -> Result<Reply, ApiError> {
    let request: TimeSettingsRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    let (known, services) = (call.app.store.snapshot().config.time.clone(), call.app.services.clone());
    let asked = request.clone().change(&known)?;
    let warnings = blocking::unblock(move || {
        let facts = services.runner(KIND).facts();
        rtime::check_machine(&asked, &known, &facts).map(|()| time::open_apis(&asked))
    })
    .await?;
    call.app
        .store
        .commit(&author, move |draft| {
            let settings = request.change(&draft.config.time)?;
            draft.audit.push(audit("time", &by, "settings of the time service updated"));
            if settings != *draft.config.time {
                draft.config.time = settings.into();
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(acted("Time service config updated", &warnings))
}

async fn apply(call: Call) -> Result<Reply, ApiError> {
    let author = call.author();
    let entry = audit("time", &author, "time service applied");
    // Names are resolved anew, and the message says that it was restarted.
    let wish = match call.app.store.snapshot().config.time.enabled {
        true => Wish::Restart,
        false => Wish::AsConfigured,
    };
    let report = call.app.applier.service(&author, KIND, wish, Some(entry)).await?;
    let message = match report.running {
        true => "Time config applied and rTime restarted",
        false => "Time config saved, rTime stopped",
    };
    Ok(acted(message, &report.warnings))
}

async fn act(call: Call, word: &'static str, wish: Wish) -> Result<Reply, ApiError> {
    services_common::act(call, Named { kind: KIND, area: "time", noun: "Time service" }, word, wish).await
}

async fn logs(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::data(&said(&call, KIND, MOST_LINES)?))
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut sources: Vec<&TimeSource> = snapshot.config.time_sources.iter().map(|source| &**source).collect();
    sources.sort_by(|a, b| (&a.address, a.id).cmp(&(&b.address, b.id)));
    Ok(Reply::data(&sources))
}

fn missing(id: impl std::fmt::Display) -> ApiError {
    ApiError::not_found(format!("time source {id}"))
}

fn id_of(call: &Call) -> Result<Id, ApiError> {
    call.id("id").map_err(|_| missing(call.param("id")))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let request: TimeSourceRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    let source = call
        .app
        .store
        .commit(&author, move |draft| {
            let source = request.source(None, &draft.config)?;
            draft.audit.push(audit("time", &by, format!("time source {} added", source.address)));
            draft.config.time_sources.insert(source.clone());
            Ok::<_, ApiError>(source)
        })
        .await?;
    Ok(Reply::created(&source))
}

async fn replace(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    if !call.app.store.snapshot().config.time_sources.contains(&id) {
        return Err(missing(id));
    }
    let request: TimeSourceRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let stored = draft.config.time_sources.get(&id).cloned().ok_or_else(|| missing(id))?;
            let source = request.source(Some(&stored), &draft.config)?;
            draft.audit.push(audit("time", &by, format!("time source {} updated", source.address)));
            if source != *stored {
                draft.config.time_sources.insert(source);
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message(format!("Source {id} updated")))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let gone = draft.config.time_sources.remove(&id).ok_or_else(|| missing(id))?;
            draft.audit.push(audit("time", &by, format!("time source {} deleted", gone.address)));
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message(format!("Source {id} deleted")))
}

/// A server to ask.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TestRequest {
    address: String,
}

async fn test(call: Call) -> Result<Reply, ApiError> {
    let request: TestRequest = call.json()?;
    let parsed: SourceAddress =
        request.address.parse().map_err(|bad: crate::config::BadValue| bad.field("address"))?;
    let server = match parsed {
        SourceAddress::Ip(place) => place.to_string(),
        SourceAddress::Name { name, port } => format!("{name}:{port}"),
    };
    let program = call.app.services.runner(KIND).program();
    Ok(Reply::json(&blocking::unblock(move || rtime::query(&program, &server)).await))
}
