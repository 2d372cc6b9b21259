//! Commit-confirm: a change that undoes itself unless it is confirmed in time. The window, its deadline and the
//! way back lie in the store, so that a restart changes nothing; one that came due while the process was down
//! is reverted at start (contract/config.md §5).

use std::time::Duration;

use serde::Serialize;

use super::{Applier, ReplaceError};
use crate::config::{Timestamp, backup};
use crate::store::{Author, CommitError, Draft, Moment, NewAudit, NewVersion, StoreError};

/// Seconds an administrator may ask for.
pub const TIMEOUT_SECS: std::ops::RangeInclusive<u64> = 10..=86_400;

/// `GET /config/commit-confirm/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ConfirmStatus {
    pub active: bool,
    /// RFC 3339, or `""` when no window is open.
    pub expires_at: String,
    pub seconds_remaining: u64,
    pub description: String,
}

/// Why a window was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    #[error("a commit-confirm window is open already")]
    Open,
    #[error("timeout_secs: expected {} to {} seconds", TIMEOUT_SECS.start(), TIMEOUT_SECS.end())]
    Timeout,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Applier {
    /// Opens the window: what is stored and what is in force now is what a revert goes back to.
    pub async fn confirm_start(
        &self,
        author: &Author,
        timeout_secs: u64,
        description: String,
    ) -> Result<ConfirmStatus, ConfirmError> {
        if !TIMEOUT_SECS.contains(&timeout_secs) {
            return Err(ConfirmError::Timeout);
        }
        let by = author.clone();
        let outcome = self
            .store()
            .commit(author, move |draft: &mut Draft| {
                let deadline = draft.now + Duration::from_secs(timeout_secs);
                if !draft.open_window(deadline, description.clone(), by.actor_id, by.name) {
                    return Err(ConfirmError::Open);
                }
                draft.audit.push(note(format!("commit-confirm started: {timeout_secs} s, {description}")));
                Ok(())
            })
            .await;
        match outcome {
            Ok(()) => Ok(self.confirm_status()),
            Err(CommitError::Refused(error)) => Err(error),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Accepts what was changed. `false` if no window was open.
    pub async fn confirm_accept(&self, author: &Author) -> Result<bool, StoreError> {
        let outcome = self
            .store()
            .commit(author, |draft: &mut Draft| {
                let Some(window) = draft.close_window() else { return Ok(false) };
                draft.audit.push(note(format!("commit-confirm confirmed: {}", window.description)));
                Ok::<bool, StoreError>(true)
            })
            .await;
        outcome.map_err(|error| match error {
            CommitError::Refused(error) | CommitError::Store(error) => error,
        })
    }

    pub fn confirm_status(&self) -> ConfirmStatus {
        let snapshot = self.store().snapshot();
        let Some(window) = &snapshot.ledger.confirm.window else { return ConfirmStatus::default() };
        let left = window.deadline.duration_since(Timestamp::now()).as_secs().max(0);
        ConfirmStatus {
            active: true,
            expires_at: window.deadline.to_string(),
            seconds_remaining: left.unsigned_abs(),
            description: window.description.clone(),
        }
    }

    /// Goes back if the window's time is over. Returns whether it did.
    pub async fn revert_if_due(&self) -> bool {
        let snapshot = self.store().snapshot();
        let Some(window) = snapshot.ledger.confirm.window.clone() else { return false };
        if window.deadline > Timestamp::now() {
            return false;
        }
        let (stored, applied) = match self.store().window_target() {
            Ok(Some(target)) => target,
            Ok(None) => return false,
            Err(error) => {
                log::error!("commit-confirm: the way back cannot be read: {error}");
                return false;
            }
        };
        let author = Author::system("commit-confirm");
        let target = stored.clone();
        let (hash, resource_count) = blocking::unblock(move || backup::fingerprint(&target)).await;
        let reverted = self
            .replace_both(&author, None, move |draft: &mut Draft| {
                // Confirmed in the last moment: nothing to revert.
                let Some(window) = draft.close_window() else { return Err(Confirmed) };
                draft.config = stored;
                draft.applied = applied;
                let number = draft.save_version(NewVersion {
                    moment: Moment::After,
                    created_by: "commit-confirm".into(),
                    comment: Some(format!("auto-revert: {}", window.description)),
                    hash,
                    resource_count,
                    activate: false,
                });
                // A version that became active within the window is what was rolled back.
                let former = draft.activate_version(number);
                if let Some(former) = former.filter(|_| former != window.active_version) {
                    draft.mark_rolled_back(former);
                }
                draft.audit.push(note(format!("commit-confirm reverted: {}", window.description)));
                Ok(())
            })
            .await;
        match reverted {
            Ok(_) => true,
            Err(ReplaceError::Refused(Confirmed)) => false,
            Err(ReplaceError::Apply(error)) => {
                log::error!("commit-confirm: reverting failed: {error}");
                false
            }
        }
    }

    /// Waits for deadlines, for the life of the process.
    pub(super) async fn run_confirm(&self) {
        let changes = self.store().watch();
        loop {
            let window = self.store().snapshot().ledger.confirm.window.clone();
            let due = async {
                match window {
                    Some(window) => {
                        let left = window.deadline.duration_since(Timestamp::now());
                        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
                        async_io::Timer::after(left).await;
                        true
                    }
                    None => futures_lite::future::pending().await,
                }
            };
            let change = async {
                let open = changes.recv().await.is_ok();
                if !open {
                    // The store is closed: nothing will come due any more.
                    futures_lite::future::pending::<()>().await;
                }
                false
            };
            if futures_lite::future::or(due, change).await && !self.revert_if_due().await {
                // It did not go back (pf unreachable, say): try again soon rather than at once.
                let still_due = self.confirm_status().active;
                if still_due {
                    async_io::Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// The window was closed before its revert could run.
#[derive(Debug)]
struct Confirmed;

fn note(details: String) -> NewAudit {
    NewAudit { action: "config_changed", source: "config", details, ..NewAudit::default() }
}
