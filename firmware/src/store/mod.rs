//! The store: the configuration and the identities on disk (redb), every change journaled, and an immutable
//! snapshot in memory for readers. A write is durable when `commit` has returned. Knows nothing of HTTP or
//! processes. Opened by one process only.

pub mod identity;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Id, Timestamp};
pub use identity::Identity;

/// What is stored, at one moment. Readers hold it as long as they like; it never changes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts every commit; equal numbers mean equal snapshots.
    pub revision: u64,
    /// Counts the commits that changed `config`: the journal's sequence number.
    pub sequence: u64,
    /// What is wanted.
    pub config: Config,
    /// What the machine was last made to match. Differs from `config` where changes are pending.
    pub applied: Config,
    pub identity: Identity,
}

/// What a commit may change. Dropping out with an error leaves everything as it was.
#[derive(Debug)]
pub struct Draft {
    pub config: Config,
    pub applied: Config,
    pub identity: Identity,
    /// Entries written in the same transaction.
    pub audit: Vec<NewAudit>,
    /// The time of the commit.
    pub now: Timestamp,
}

/// Who makes a change.
#[derive(Debug, Clone)]
pub struct Author {
    /// User id, or a word such as `system`, `setup`, `anonymous`.
    pub actor_id: String,
    /// User name, `key:<name>` for an API key, or the same word.
    pub name: String,
    pub ip: Option<IpAddr>,
}

impl Author {
    pub fn system(name: &str) -> Self {
        Self { actor_id: name.into(), name: name.into(), ip: None }
    }
}

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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// A saved version of the configuration: a named point of the journal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    pub version: u64,
    /// SHA-256 of the configuration document, lower-case hex.
    pub hash: String,
    /// The active version; at most one.
    pub applied: bool,
    pub applied_at: Option<Timestamp>,
    pub rolled_back: bool,
    pub created_by: String,
    pub created_at: Timestamp,
    pub comment: Option<String>,
    pub resource_count: u64,
    /// Journal sequence whose state this is.
    pub sequence: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store cannot be opened: {0}")]
    Open(String),
    #[error("the store could not write: {0}")]
    Write(String),
    #[error("the store could not read: {0}")]
    Read(String),
    #[error("the store is closed")]
    Closed,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<E> {
    /// The caller's own closure refused.
    #[error("{0}")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<()>,
}

#[allow(unused_variables, clippy::todo)]
impl Store {
    /// Opens (or creates) the store in `dir`: `aifw.redb` and `secret.key` (mode 0600). Runs migrations.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        todo!()
    }
    /// The state now: no lock, no disk.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }
    /// Receives the number of each new revision; a slow reader gets the newest only.
    pub fn watch(&self) -> async_channel::Receiver<u64> {
        todo!()
    }
    /// Runs `change` on a draft of the newest state, and makes it durable. Commits are serialised; those that
    /// wait together share one write to the disk. Configuration changes are journaled with before and after.
    pub async fn commit<T, E, F>(&self, author: &Author, change: F) -> Result<T, CommitError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&mut Draft) -> Result<T, E> + Send + 'static,
    {
        todo!()
    }
    /// Audit entries that match, and how many match in all.
    pub fn audit(&self, filter: &AuditFilter) -> Result<(Vec<AuditEntry>, u64), StoreError> {
        todo!()
    }
    /// Saved versions, newest first.
    pub fn versions(&self) -> Vec<Version> {
        todo!()
    }
    /// The configuration as it was at a version.
    pub fn config_at(&self, version: u64) -> Result<Option<Config>, StoreError> {
        todo!()
    }
}
