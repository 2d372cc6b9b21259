//! What the areas of the services share: audit entries, log queries, and telling a failure in words.

use super::{ApiError, App, Call};
use crate::config::ServiceKind;
use crate::services::logs;
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
