//! What the areas of the services share: audit entries, log queries, and telling a failure in words.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ApiError, App, Call, Reply};
use crate::apply::services::{ServiceApplyError, Wish};
use crate::config::ServiceKind;
use crate::services::{ServiceError, logs};
use crate::store::{Author, Draft, NewAudit, StoreError};

/// An audit entry of an area: `dns`, `dhcp`, `time`, `proxy`, `ids`.
pub fn audit(area: &'static str, author: &Author, what: impl std::fmt::Display) -> NewAudit {
    NewAudit {
        action: "config_changed",
        source: area,
        details: format!("{what} (user {})", author.name),
        ..NewAudit::default()
    }
}

/// Writes an audit entry of something that changed no configuration.
pub async fn note(app: &App, author: &Author, entry: NewAudit) -> Result<(), ApiError> {
    let written = app.store.commit(author, move |draft: &mut Draft| {
        draft.audit.push(entry);
        Ok::<(), StoreError>(())
    });
    Ok(written.await?)
}

/// `lines` and `search` of a log query; `lines` that is no number is refused, other numbers are brought into range.
pub fn log_query(call: &Call, most: usize) -> Result<(usize, Option<&str>), ApiError> {
    let lines = call.query_as::<usize>("lines", "a number")?.unwrap_or(200).clamp(1, most);
    Ok((lines, call.query("search").filter(|text| !text.is_empty())))
}

/// What a daemon has said, newest first, as a log query asks.
pub fn said(call: &Call, kind: ServiceKind, most: usize) -> Result<Vec<String>, ApiError> {
    let (lines, search) = log_query(call, most)?;
    Ok(logs::select(&call.app.services.runner(kind).log(5000), search, lines))
}

pub const LOG_QUERY: &[(&str, &str)] =
    &[("lines", "at most this many, newest first; 200 unless given"), ("search", "text that each must hold")];

/// What was done to a daemon.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Acted {
    message: String,
    /// What about it is not as its author may expect, in one text; absent when there is nothing to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

pub fn acted(message: impl Into<String>, warnings: &[String]) -> Reply {
    let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    Reply::json(&Acted { message: message.into(), warning })
}

/// A daemon as messages and audit entries speak of it.
pub struct Named {
    pub kind: ServiceKind,
    /// Of its audit entries.
    pub area: &'static str,
    pub noun: &'static str,
}

/// Starts, stops or restarts a daemon, as `word` says; a failure is told in words and audited. What its checker
/// refuses is 400, everything else that goes wrong 500.
pub async fn act(call: Call, named: Named, word: &'static str, wish: Wish) -> Result<Reply, ApiError> {
    let author = call.author();
    let Named { kind, area, noun } = named;
    let entry = audit(area, &author, format!("{noun}: {word}"));
    match call.app.applier.service(&author, kind, wish, Some(entry)).await {
        Ok(report) => {
            let state = if report.running { "running" } else { "stopped" };
            Ok(acted(format!("{noun} {word}: {state}"), &report.warnings))
        }
        Err(error) => {
            let text = format!("{noun} {word} failed: {error}");
            note(&call.app, &author, audit(area, &author, &text)).await?;
            let status = match error {
                ServiceApplyError::Service(ServiceError::Refused(_)) => 400,
                _ => 500,
            };
            Err(ApiError::new(status, text))
        }
    }
}
