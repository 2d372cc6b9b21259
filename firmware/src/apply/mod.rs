//! Applying: the one road from a stored configuration to the machine — compile, check, load, verify, and the
//! way back when a step fails. One apply at a time. Called by the API, by start-up and by timers; knows
//! nothing of HTTP.

pub mod pending;
pub mod url_tables;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use pending::Pending;

use crate::pf::Pf;
use crate::platform::Platform;
use crate::store::{Author, CommitError, Draft, NewAudit, Store, StoreError};

/// Why the machine was not made to match.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A step failed; what was loaded before is loaded again. `step` is `aliases`, `filter`, `nat`, `geoip` …
    #[error("{step}: {reason}")]
    Step { step: String, reason: String },
    /// The caller's own connection would be cut.
    #[error(
        "this would cut your own connection from {client}: {reason}; repeat with \"confirm\": true, or start a commit-confirm first"
    )]
    LockOut { client: IpAddr, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why [`Applier::replace`] left everything as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError<E> {
    /// The caller's own closure refused.
    #[error("{0}")]
    Refused(E),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl<E> From<CommitError<E>> for ReplaceError<E> {
    fn from(error: CommitError<E>) -> Self {
        match error {
            CommitError::Refused(refusal) => Self::Refused(refusal),
            CommitError::Store(error) => Self::Apply(ApplyError::Store(error)),
        }
    }
}

/// One step of an apply.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Step {
    pub step: String,
    pub ok: bool,
    pub detail: String,
}

/// What an apply did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Report {
    pub steps: Vec<Step>,
    pub warnings: Vec<String>,
}

/// The connection that asks for an apply, for the lock-out check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConnection {
    pub client: IpAddr,
    /// The appliance's end, where it is known.
    pub server: Option<SocketAddr>,
    /// The administrator has said that being cut off is fine.
    pub confirmed: bool,
}

/// Makes the machine match the store. Clones share it.
#[derive(Clone)]
pub struct Applier {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    pf: Arc<dyn Pf>,
    platform: Arc<dyn Platform>,
}

#[allow(unused_variables, clippy::todo)]
impl Applier {
    pub fn new(store: Store, pf: Arc<dyn Pf>, platform: Arc<dyn Platform>) -> Self {
        Self { inner: Arc::new(Inner { store, pf, platform }) }
    }
    /// `POST /reload`: aliases, geo-IP, filter rules and NAT as stored.
    pub async fn reload(
        &self,
        author: &Author,
        admin: Option<AdminConnection>,
    ) -> Result<Report, ApplyError> {
        todo!()
    }
    /// Changes the stored configuration and makes the machine match at once (import, restore, revert), or
    /// leaves both as they were. `change` edits `draft.config`; `draft.applied` is set here.
    pub async fn replace<E, F>(
        &self,
        author: &Author,
        admin: Option<AdminConnection>,
        change: F,
    ) -> Result<Report, ReplaceError<E>>
    where
        E: Send + 'static,
        F: FnOnce(&mut Draft) -> Result<(), E> + Send + 'static,
    {
        todo!()
    }
    /// Changes something that acts at once without applying other pending edits (block logging): `change`
    /// edits a configuration, and is run on both the stored and the applied one.
    pub async fn amend<E, F>(
        &self,
        author: &Author,
        audit: NewAudit,
        change: F,
    ) -> Result<Report, ReplaceError<E>>
    where
        E: Send + 'static,
        F: Fn(&mut crate::config::Config) -> Result<(), E> + Send + 'static,
    {
        todo!()
    }
    /// Fills the pf tables of the stored host, network and URL aliases at once; rules stay as they are.
    pub async fn fill_alias_tables(&self) -> Result<(), ApplyError> {
        todo!()
    }
    /// Stored changes not yet applied.
    pub fn pending(&self) -> Pending {
        todo!()
    }
    /// Receives the pending flags each time they change; the newest only for a slow reader.
    pub fn watch_pending(&self) -> async_channel::Receiver<Pending> {
        todo!()
    }
}
