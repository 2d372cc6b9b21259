//! What the store keeps about the configuration itself: its saved versions and the commit-confirm window.
//! Changed through the [`Draft`] of a commit, so that a version and the change it names are stored together.

use serde::{Deserialize, Serialize};

use super::Draft;
use crate::config::document::{Document, Object, RowError, document};
use crate::config::secret::{self, Secret};
use crate::config::{Config, Timestamp};

document! {
    /// Versions and the commit-confirm window.
    pub struct Ledger {
        collections {
            versions: Version => "version",
        }
        sections {
            counters: Counters => "counters",
            confirm: ConfirmSlot => "commit_confirm",
        }
    }
}

/// A saved version of the configuration: a named point of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl Object for Version {
    type Key = u64;
    fn key(&self) -> u64 {
        self.version
    }
}

/// Numbers that only ever rise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    pub last_version: u64,
}

/// The one commit-confirm window there can be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfirmSlot {
    pub window: Option<ConfirmWindow>,
}

/// An open commit-confirm window: unless it is closed by `deadline`, the configuration goes back to what it
/// was at journal sequence `target` (contract/config.md §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmWindow {
    pub started_at: Timestamp,
    pub deadline: Timestamp,
    pub description: String,
    pub actor_id: String,
    pub started_by: String,
    pub target: u64,
    /// Where the configuration in force differed from the stored one when the window opened: the way back
    /// restores both.
    pub applied: Vec<KeptRow>,
    /// Version that was active when the window opened.
    pub active_version: Option<u64>,
}

/// One row of the configuration in force, as JSON in a [`Secret`] since it may hold some. `None` = no such row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRow {
    pub kind: String,
    pub key: String,
    pub row: Option<Secret>,
}

impl ConfirmWindow {
    /// The configuration that was in force when the window opened, `stored` being what was stored then.
    pub fn applied_target(&self, stored: &Config) -> Result<Config, RowError> {
        let mut applied = stored.clone();
        for kept in &self.applied {
            let row = kept.row.as_ref().map(|row| row.expose().as_bytes());
            applied.put_row(&kept.kind, &kept.key, row)?;
        }
        Ok(applied)
    }
}

/// Whose state a new version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// As it was before this commit.
    Before,
    /// As this commit leaves it.
    After,
}

/// A version to be saved.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub moment: Moment,
    pub created_by: String,
    pub comment: Option<String>,
    /// SHA-256 of the configuration document at that moment, lower-case hex.
    pub hash: String,
    pub resource_count: u64,
    /// Makes it the active version.
    pub activate: bool,
}

/// Stands for the sequence that the running commit will get.
pub(super) const SEQUENCE_TO_COME: u64 = u64::MAX;

impl Ledger {
    pub fn newest_version(&self) -> Option<&Version> {
        self.versions.get(&self.counters.last_version).map(|version| &**version)
    }
    pub fn active_version(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.applied).map(|version| &**version)
    }

    /// Gives the versions saved in this commit their sequence.
    pub(super) fn settle(&mut self, since: u64, sequence: u64) {
        for number in since + 1..=self.counters.last_version {
            self.change(number, |version| {
                if version.sequence == SEQUENCE_TO_COME {
                    version.sequence = sequence;
                }
            });
        }
    }

    /// Keeps the newest `keep` versions and the active one.
    pub(super) fn prune(&mut self, keep: usize) {
        let excess = self.versions.len().saturating_sub(keep);
        let old: Vec<u64> =
            self.versions.iter().take(excess).filter(|v| !v.applied).map(|v| v.version).collect();
        for number in old {
            self.versions.remove(&number);
        }
    }

    /// The two oldest journal sequences that something refers to. Costs one step per version of the oldest.
    pub(super) fn oldest_span(&self) -> Option<(u64, u64)> {
        let target = self.confirm.window.as_ref().map(|window| window.target);
        let first = self.oldest_sequence()?;
        let next = self.versions.iter().map(|version| version.sequence).find(|sequence| *sequence > first);
        let next = next.into_iter().chain(target.filter(|target| *target > first)).min()?;
        Some((first, next))
    }

    /// The oldest journal sequence that something still refers to.
    pub(super) fn oldest_sequence(&self) -> Option<u64> {
        let version = self.versions.iter().next().map(|version| version.sequence);
        let target = self.confirm.window.as_ref().map(|window| window.target);
        version.into_iter().chain(target).min()
    }

    fn change(&mut self, number: u64, edit: impl FnOnce(&mut Version)) -> bool {
        let Some(version) = self.versions.get(&number) else { return false };
        let mut version = Version::clone(version);
        edit(&mut version);
        self.versions.insert(version);
        true
    }
}

impl Draft {
    /// Saves a version under the next number, which is returned. Old versions go as
    /// `config.history.max_versions` says.
    pub fn save_version(&mut self, new: NewVersion) -> u64 {
        let mut counters = (*self.ledger.counters).clone();
        counters.last_version += 1;
        let number = counters.last_version;
        self.ledger.counters = counters.into();
        self.ledger.versions.insert(Version {
            version: number,
            hash: new.hash,
            applied: false,
            applied_at: None,
            rolled_back: false,
            created_by: new.created_by,
            created_at: self.now,
            comment: new.comment,
            resource_count: new.resource_count,
            sequence: match new.moment {
                Moment::Before => self.base.sequence,
                Moment::After => SEQUENCE_TO_COME,
            },
        });
        if new.activate {
            self.activate_version(number);
        }
        number
    }

    /// Makes a version the active one. Returns the one that was, or `None` also if `number` is unknown.
    pub fn activate_version(&mut self, number: u64) -> Option<u64> {
        if !self.ledger.versions.contains(&number) {
            return None;
        }
        let former = self.ledger.active_version().map(|version| version.version);
        if let Some(former) = former {
            self.ledger.change(former, |version| version.applied = false);
        }
        let now = self.now;
        self.ledger.change(number, |version| {
            version.applied = true;
            version.applied_at = Some(now);
            version.rolled_back = false;
        });
        former
    }

    /// Notes that a version was left for another one. False if it is unknown.
    pub fn mark_rolled_back(&mut self, number: u64) -> bool {
        self.ledger.change(number, |version| version.rolled_back = true)
    }

    /// Takes back what a commit did to versions and window when its change is taken back: what was active is
    /// active again, the window is as it was. Versions saved in that commit stay in the history; one that it
    /// made active is marked rolled back.
    pub fn take_back_ledger(&mut self, before: &Ledger) {
        for number in before.counters.last_version + 1..=self.ledger.counters.last_version {
            self.ledger.change(number, |version| {
                version.rolled_back |= version.applied;
                version.applied = false;
            });
        }
        for old in before.versions.iter() {
            self.ledger.change(old.version, |version| {
                version.applied = old.applied;
                version.applied_at = old.applied_at;
                version.rolled_back = old.rolled_back;
            });
        }
        self.ledger.confirm = before.confirm.clone();
    }

    /// Opens the commit-confirm window; the way back leads to the configuration before this commit. False if
    /// a window is open already.
    pub fn open_window(
        &mut self,
        deadline: Timestamp,
        description: impl Into<String>,
        actor_id: impl Into<String>,
        started_by: impl Into<String>,
    ) -> bool {
        if self.ledger.confirm.window.is_some() {
            return false;
        }
        let rows = secret::revealing(|| self.base.applied.row_changes_since(&self.base.config));
        let applied = rows
            .into_iter()
            .map(|change| KeptRow {
                kind: change.kind.into(),
                key: change.key,
                row: change.after.map(|row| Secret::new(String::from_utf8_lossy(&row))),
            })
            .collect();
        let window = ConfirmWindow {
            applied,
            started_at: self.now,
            deadline,
            description: description.into(),
            actor_id: actor_id.into(),
            started_by: started_by.into(),
            target: self.base.sequence,
            active_version: self.base.ledger.active_version().map(|version| version.version),
        };
        self.ledger.confirm = ConfirmSlot { window: Some(window) }.into();
        true
    }

    /// Closes the window, and returns it.
    pub fn close_window(&mut self) -> Option<ConfirmWindow> {
        let window = self.ledger.confirm.window.clone()?;
        self.ledger.confirm = ConfirmSlot::default().into();
        Some(window)
    }
}
