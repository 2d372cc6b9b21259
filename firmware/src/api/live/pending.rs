//! `GET /pending`, `GET /pending/stream` and `POST /reload`.

use std::sync::Arc;

use async_io::Timer;
use futures_lite::future;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RECHECK, current, stream_permit};
use crate::api::{ApiError, App, Call, Reply};
use crate::apply::{AdminConnection, ApplyError, Pending, Step};
use crate::auth::Caller;

pub async fn pending(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&call.app.applier.pending()))
}

pub async fn stream(call: Call) -> Result<Reply, ApiError> {
    let permit = stream_permit(&call)?;
    let caller = call.caller()?.clone();
    let app = call.app.clone();
    // One place: a client that does not read finds the newest state only.
    let (sender, events) = async_channel::bounded(1);
    smol::spawn(async move {
        let _permit = permit;
        send_changes(app, caller, sender).await;
    })
    .detach();
    Ok(Reply::events(events))
}

/// The state now, then each change, until the client goes or may no longer listen.
async fn send_changes(app: Arc<App>, mut caller: Caller, sender: async_channel::Sender<String>) {
    let changes = app.applier.watch_pending();
    let mut sent: Option<Pending> = None;
    let mut now = Some(app.applier.pending());
    let mut recheck = Timer::interval(RECHECK);
    loop {
        if let Some(state) = now.filter(|state| sent != Some(*state)) {
            let event = serde_json::to_string(&state).unwrap_or_default();
            if sender.force_send(event).is_err() {
                return;
            }
            sent = Some(state);
        }
        enum Event {
            Change(Option<Pending>),
            Recheck,
            Gone,
        }
        let change = async { Event::Change(changes.recv().await.ok()) };
        let due = async {
            futures_lite::StreamExt::next(&mut recheck).await;
            Event::Recheck
        };
        let gone = async {
            sender.closed().await;
            Event::Gone
        };
        now = match future::or(gone, future::or(change, due)).await {
            Event::Gone | Event::Change(None) => return,
            Event::Change(state) => state,
            Event::Recheck => match current(&app, &caller) {
                Some(now) => {
                    caller = now;
                    None
                }
                None => return,
            },
        };
    }
}

/// Nothing is required; an empty body will do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReloadRequest {
    /// Apply even if the caller's own connection is cut by it.
    confirm: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    message: &'static str,
    steps: Vec<Step>,
    warnings: Vec<String>,
}

pub async fn reload(call: Call) -> Result<Reply, ApiError> {
    let request: ReloadRequest = call.json_or_default()?;
    let admin =
        call.ip.map(|client| AdminConnection { client, server: call.local_addr, confirmed: request.confirm });
    match call.app.applier.reload(&call.author(), admin).await {
        Ok(report) => Ok(Reply::json(&Reloaded {
            message: "Changes applied successfully",
            steps: report.steps,
            warnings: report.warnings,
        })),
        Err(error @ ApplyError::Step { .. }) => Err(ApiError::new(500, format!("Partial reload: {error}"))),
        Err(error @ ApplyError::LockOut { .. }) => Err(ApiError::conflict(error.to_string())),
        Err(ApplyError::Store(error)) => Err(error.into()),
    }
}
