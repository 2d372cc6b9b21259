//! The proxy's settings and its daemon: status, start and stop, logs, validate, apply.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{READ, WRITE};
use crate::api::resource::Message;
use crate::api::services_common::{LOG_QUERY, audit, log_query, note, said};
use crate::api::{ApiError, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::config::proxy::*;
use crate::config::{Config, ServiceKind};
use crate::services::{How, ServiceError, trafficcop};

const KIND: ServiceKind = ServiceKind::Proxy;
const LOGS: &[(&str, &str)] = &[LOG_QUERY[0], LOG_QUERY[1], ("log_type", "`access` (default) or `server`")];
/// Lines of a log answer at most.
const MOST_LINES: usize = 5000;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "GET",
            "/reverse-proxy/status",
            READ,
            "The reverse proxy: daemon and objects in use",
            status,
        )
        .answers::<Status>(200),
        Route::new("POST", "/reverse-proxy/start", WRITE, "Start the reverse proxy as applied", |call| {
            act(call, Action::Start)
        })
        .answers::<Message>(200),
        Route::new(
            "POST",
            "/reverse-proxy/stop",
            WRITE,
            "Stop the reverse proxy until the next start",
            |call| act(call, Action::Stop),
        )
        .answers::<Message>(200),
        Route::new("POST", "/reverse-proxy/restart", WRITE, "Restart the reverse proxy as applied", |call| {
            act(call, Action::Restart)
        })
        .answers::<Message>(200),
        Route::new(
            "GET",
            "/reverse-proxy/logs",
            READ,
            "Lines of the access log or the daemon's own, newest first",
            logs,
        )
        .answers::<Vec<String>>(200)
        .with_query(LOGS),
        Route::new(
            "POST",
            "/reverse-proxy/validate",
            WRITE,
            "Check what is stored, as apply would",
            validate,
        )
        .answers::<Validated>(200),
        Route::new("POST", "/reverse-proxy/apply", WRITE, "Make the reverse proxy as stored", apply)
            .answers::<Applied>(200),
        Route::new("GET", "/reverse-proxy/config", READ, "Settings of the reverse proxy", config)
            .answers::<ProxySettings>(200),
        Route::new(
            "PUT",
            "/reverse-proxy/config",
            WRITE,
            "Change settings of the reverse proxy; apply acts",
            change,
        )
        .takes::<ProxySettingsRequest>()
        .answers::<Message>(200),
    ]
}

/// The daemon, and how many enabled objects of each kind there are.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    running: bool,
    /// `unknown` when its program does not tell.
    version: String,
    entrypoints: usize,
    http_routers: usize,
    http_services: usize,
    http_middlewares: usize,
    tcp_routers: usize,
    udp_routers: usize,
}

fn enabled<B: RowBody>(config: &Config) -> usize {
    B::rows(config).iter().filter(|row| row.enabled).count()
}

async fn status(call: Call) -> Result<Reply, ApiError> {
    let runner = call.app.services.runner(KIND).clone();
    let running = runner.is_running();
    let version = blocking::unblock(move || trafficcop::version(&runner.program())).await;
    let config = &call.app.store.snapshot().config;
    Ok(Reply::json(&Status {
        running,
        version: version.unwrap_or_else(|| "unknown".into()),
        entrypoints: enabled::<EntryPoint>(config),
        http_routers: enabled::<HttpRouter>(config),
        http_services: enabled::<HttpService>(config),
        http_middlewares: enabled::<Middleware>(config),
        tcp_routers: enabled::<TcpRouter>(config),
        udp_routers: enabled::<UdpRouter>(config),
    }))
}

#[derive(Clone, Copy)]
enum Action {
    Start,
    Stop,
    Restart,
}

/// Acts on the daemon with what was applied last. Clients judge by the text: a failure holds the word `failed`.
async fn act(call: Call, action: Action) -> Result<Reply, ApiError> {
    let runner = call.app.services.runner(KIND).clone();
    let applied = call.app.store.snapshot().applied.clone();
    let (word, outcome) = match action {
        Action::Stop => {
            let stopped = runner.supervisor().stop(KIND.program()).await;
            ("stop", stopped.map(|()| "stopped").map_err(|error| error.to_string()))
        }
        Action::Start | Action::Restart => {
            let (word, how) = match action {
                Action::Start => ("start", How::Change),
                _ => ("restart", How::Restart),
            };
            let outcome = match KIND.is_enabled(&applied) {
                true => {
                    runner.apply(&applied, how).await.map(|_| "running").map_err(|error| error.to_string())
                }
                false => Err("it is not enabled; set enabled and apply".into()),
            };
            (word, outcome)
        }
    };
    let author = call.author();
    let text = match outcome {
        Ok(done) => format!("TrafficCop {word}: {done}"),
        Err(reason) => format!("TrafficCop {word} failed: {reason}"),
    };
    note(&call.app, &author, audit("proxy", &author, &text)).await?;
    Ok(Reply::message(text))
}

async fn logs(call: Call) -> Result<Reply, ApiError> {
    if call.query("log_type") == Some("server") {
        return Ok(Reply::json(&said(&call, KIND, MOST_LINES)?));
    }
    let (lines, search) = log_query(&call, MOST_LINES)?;
    let search = search.map(str::to_owned);
    let runner = call.app.services.runner(KIND).clone();
    let path = call.app.store.snapshot().applied.proxy.access_log_path.clone();
    let found =
        blocking::unblock(move || trafficcop::tail(&runner.facts().path(&path), search.as_deref(), lines));
    Ok(Reply::json(&found.await))
}

/// The outcome of a check.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Validated {
    message: String,
    valid: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
}

async fn validate(call: Call) -> Result<Reply, ApiError> {
    let runner = call.app.services.runner(KIND).clone();
    let config = call.app.store.snapshot().config.clone();
    let (known, facts) = (config.clone(), runner.clone());
    let (_, findings) = blocking::unblock(move || trafficcop::compile(&known, &facts.facts())).await;
    let errors = match findings.errors.is_empty() {
        false => findings.errors,
        true if !runner.is_installed() => {
            let message = "Failed to run validation: TrafficCop is not installed".to_owned();
            return Ok(Reply::json(&Validated {
                message,
                valid: false,
                errors: Vec::new(),
                warnings: findings.warnings,
            }));
        }
        true => match runner.rehearse(&config).await {
            Ok(_) => Vec::new(),
            Err(ServiceError::Refused(said)) => said.lines().map(str::to_owned).collect(),
            Err(error) => vec![error.to_string()],
        },
    };
    let message = match errors.is_empty() {
        true => "Configuration valid.".to_owned(),
        false => format!("Configuration invalid: {}", errors.join("\n")),
    };
    Ok(Reply::json(&Validated { message, valid: errors.is_empty(), errors, warnings: findings.warnings }))
}

/// What an apply has done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Applied {
    message: String,
    /// The running daemon took the change, and no connection was cut.
    reloaded: bool,
    warnings: Vec<String>,
}

async fn apply(call: Call) -> Result<Reply, ApiError> {
    let author = call.author();
    let entry = audit("proxy", &author, "reverse proxy applied");
    let report = call.app.applier.service(&author, KIND, Wish::AsConfigured, Some(entry)).await?;
    let message = match report.running {
        true => "TrafficCop config applied and service restarted",
        false => "TrafficCop config saved, service stopped",
    };
    Ok(Reply::json(&json!({
        "message": message, "reloaded": report.reloaded, "warnings": report.warnings,
    })))
}

async fn config(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&*call.app.store.snapshot().config.proxy))
}

async fn change(call: Call) -> Result<Reply, ApiError> {
    let request: ProxySettingsRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let settings = request.change(&draft.config.proxy)?;
            draft.audit.push(audit("proxy", &by, "settings of the reverse proxy updated"));
            if settings != *draft.config.proxy {
                draft.config.proxy = settings.into();
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message("TrafficCop config updated"))
}
