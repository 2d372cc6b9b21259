//! The audit log: who did what. Written in the transaction of the change it tells of, bounded, read newest
//! first from the disk.

use std::net::IpAddr;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use super::{Author, StoreError};
use crate::config::{Id, Timestamp};

/// An audit entry to be written. `actor` and `ip` come from the commit's author unless given.
#[derive(Debug, Clone, Default)]
pub struct NewAudit {
    pub action: &'static str,
    /// The part of the product that speaks: `engine`, `nat_engine`, `auth`, `config`, `system` …
    pub source: &'static str,
    pub details: String,
    pub rule_id: Option<Id>,
    /// The user the action was done to.
    pub user_id: Option<Id>,
    pub actor: Option<String>,
}

/// An audit entry as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: Id,
    pub at: Timestamp,
    pub action: String,
    pub source: String,
    pub details: String,
    pub rule_id: Option<Id>,
    pub user_id: Option<Id>,
    pub actor_id: String,
    pub ip: Option<IpAddr>,
}

/// Which audit entries are wanted, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub source: Option<String>,
    pub action: Option<String>,
    pub user_id: Option<Id>,
    /// Substring of `details`.
    pub text: Option<String>,
    pub offset: usize,
    pub limit: usize,
}

/// Action, source, user id (or empty), details, and the rest as JSON: what is filtered by can be read
/// without decoding anything.
type Columns = (&'static str, &'static str, &'static str, &'static str, &'static [u8]);
pub(super) const AUDIT: TableDefinition<u64, Columns> = TableDefinition::new("audit");

/// The columns that nothing filters by.
#[derive(Serialize, Deserialize)]
struct Rest {
    id: Id,
    at: Timestamp,
    rule_id: Option<Id>,
    actor_id: String,
    ip: Option<IpAddr>,
}

impl NewAudit {
    pub(super) fn written_by(self, author: &Author, at: Timestamp) -> AuditEntry {
        let mut details = self.details;
        if let Some(key) = author.name.strip_prefix("key:") {
            let suffix = format!(" via key {key}");
            if !details.ends_with(&suffix) {
                details.push_str(&suffix);
            }
        }
        AuditEntry {
            id: Id::new_v4(),
            at,
            action: self.action.into(),
            source: self.source.into(),
            details,
            rule_id: self.rule_id,
            user_id: self.user_id,
            actor_id: self.actor.unwrap_or_else(|| author.actor_id.clone()),
            ip: author.ip,
        }
    }
}

impl AuditFilter {
    fn is_open(&self) -> bool {
        self.source.is_none() && self.action.is_none() && self.user_id.is_none() && self.text.is_none()
    }
}

pub(super) fn insert(
    table: &mut redb::Table<'_, u64, Columns>,
    number: u64,
    entry: &AuditEntry,
) -> Result<(), redb::StorageError> {
    let rest = Rest {
        id: entry.id,
        at: entry.at,
        rule_id: entry.rule_id,
        actor_id: entry.actor_id.clone(),
        ip: entry.ip,
    };
    let rest = crate::config::document::encode(&rest);
    let user = entry.user_id.map(|id| id.to_string()).unwrap_or_default();
    let columns = (
        entry.action.as_str(),
        entry.source.as_str(),
        user.as_str(),
        entry.details.as_str(),
        rest.as_slice(),
    );
    table.insert(number, columns).map(drop)
}

/// Drops the oldest entries beyond `limit`.
pub(super) fn trim(table: &mut redb::Table<'_, u64, Columns>, limit: u64) -> Result<(), redb::StorageError> {
    let excess = table.len()?.saturating_sub(limit);
    for _ in 0..excess {
        table.pop_first()?;
    }
    Ok(())
}

pub(super) fn query(
    transaction: &ReadTransaction,
    filter: &AuditFilter,
) -> Result<(Vec<AuditEntry>, u64), StoreError> {
    let fault = |error: &dyn std::fmt::Display| StoreError::Read(format!("audit log: {error}"));
    let table = match transaction.open_table(AUDIT) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), 0)),
        Err(error) => return Err(fault(&error)),
    };
    let user = filter.user_id.map(|id| id.to_string());
    let differs = |wanted: &Option<String>, found: &str| wanted.as_deref().is_some_and(|w| w != found);
    let mut entries = Vec::new();
    let mut matched = 0_u64;
    let end = filter.offset.saturating_add(filter.limit) as u64;
    for row in table.iter().map_err(|e| fault(&e))?.rev() {
        let (_, columns) = row.map_err(|e| fault(&e))?;
        let (action, source, user_id, details, rest) = columns.value();
        if differs(&filter.action, action)
            || differs(&filter.source, source)
            || differs(&user, user_id)
            || filter.text.as_deref().is_some_and(|text| !details.contains(text))
        {
            continue;
        }
        if matched >= filter.offset as u64 && matched < end {
            let rest: Rest = serde_json::from_slice(rest).map_err(|e| fault(&e))?;
            entries.push(AuditEntry {
                id: rest.id,
                at: rest.at,
                action: action.into(),
                source: source.into(),
                details: details.into(),
                rule_id: rest.rule_id,
                user_id: user_id.parse().ok(),
                actor_id: rest.actor_id,
                ip: rest.ip,
            });
        }
        matched += 1;
        if matched >= end && filter.is_open() {
            matched = table.len().map_err(|e| fault(&e))?;
            break;
        }
    }
    Ok((entries, matched))
}
