//! The audit log of authentication (contract/auth.md §10).

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::{Access, ApiError, Call, Reply, Route};
use super::{Page, route};
use crate::config::{Id, Permission, Timestamp};
use crate::store::{AuditEntry, AuditFilter};

const DEFAULT: usize = 200;
const CAP: usize = 1_000;

#[derive(Serialize, JsonSchema)]
struct EntryView {
    id: Id,
    /// The user it was done to.
    user_id: Option<Id>,
    /// The user who did it, or a word: `anonymous`, `setup`, `system`.
    actor_id: String,
    action: String,
    details: Option<String>,
    ip_addr: Option<IpAddr>,
    created_at: Timestamp,
}

impl From<AuditEntry> for EntryView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            user_id: entry.user_id,
            actor_id: entry.actor_id,
            action: entry.action,
            details: Some(entry.details).filter(|details| !details.is_empty()),
            ip_addr: entry.ip,
            created_at: entry.at,
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("GET", "/auth/audit", Access::Needs(Permission::UsersRead), "Audit log, newest first", list)
            .with_query(&[
                ("limit", "entries at most; 200, up to 1000"),
                ("offset", "entries passed over"),
                ("action", "only this action"),
                ("user_id", "only what was done to this user"),
            ])
            .answers::<Page<EntryView>>(200),
    ]
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(DEFAULT, CAP)?;
    let filter = AuditFilter {
        source: Some(crate::auth::AUDIT_SOURCE.into()),
        action: call.query("action").map(str::to_owned),
        user_id: call.query_as("user_id", "a UUID")?,
        text: None,
        offset: page.offset,
        limit: page.limit,
    };
    let store = call.app.store.clone();
    let (entries, total) = blocking::unblock(move || store.audit(&filter)).await?;
    let views: Vec<EntryView> = entries.into_iter().map(EntryView::from).collect();
    Ok(Reply::page(&views, usize::try_from(total).unwrap_or(usize::MAX)))
}
