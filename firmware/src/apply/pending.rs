//! What is stored but not yet in force.

use std::sync::PoisonError;

use serde::Serialize;

use super::Applier;
use crate::compile;
use crate::config::Timestamp;

/// Stored changes that are not applied, per area (contract/live.md §8). Derived, never set: an area is pending
/// when what the stored configuration compiles to differs from what the applied one compiles to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Pending {
    pub firewall: bool,
    pub nat: bool,
    pub dns: bool,
}

/// The flags of the newest revision, and who wants to hear of changes.
#[derive(Debug, Default)]
pub struct Tracker {
    revision: Option<u64>,
    now: Pending,
    listeners: Vec<async_channel::Sender<Pending>>,
}

impl Applier {
    /// Stored changes not yet applied; computed once per revision.
    pub fn pending(&self) -> Pending {
        self.refresh_pending()
    }

    /// Receives the pending flags each time they change; the newest only for a slow reader.
    pub fn watch_pending(&self) -> async_channel::Receiver<Pending> {
        let (sender, receiver) = async_channel::bounded(1);
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner).listeners.push(sender);
        receiver
    }

    /// Derives the flags for the newest revision, and tells the listeners if they have changed.
    pub(super) fn refresh_pending(&self) -> Pending {
        let mut tracker = self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.inner.store.snapshot();
        if tracker.revision == Some(snapshot.revision) {
            return tracker.now;
        }
        let environment = self.inner.machine.environment(&snapshot.applied, Timestamp::now());
        let differs = compile::differs(&snapshot.applied, &snapshot.config, &environment);
        let now = Pending {
            firewall: differs.firewall || !snapshot.applied.vlans.same(&snapshot.config.vlans),
            nat: differs.nat,
            dns: compile::services::dns::differs(&snapshot.applied, &snapshot.config),
        };
        tracker.revision = Some(snapshot.revision);
        if now != tracker.now {
            tracker.now = now;
            tracker.listeners.retain(|listener| listener.force_send(now).is_ok());
        }
        now
    }
}
