//! What the updater remembers between boots: what each slot holds, and how far an update has come.

use std::io;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::slots::SlotName;
use crate::config::Timestamp;

/// Name of the file, below the state directory.
pub const FILE: &str = "update/state.json";

/// A complete, verified content of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub version: Version,
    /// Of the image, where it was written by an update.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub freebsd: Option<String>,
    #[serde(default)]
    pub notes: String,
    #[serde(default)]
    pub written_at: Option<Timestamp>,
}

/// Why a slot is to be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Install,
    Rollback,
}

/// An interface as it was before, which the new firmware is to have again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub name: String,
    pub up: bool,
    /// It had an address.
    pub addressed: bool,
}

/// One try to boot the other slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub kind: Kind,
    pub from: SlotName,
    pub target: SlotName,
    /// Of `from`.
    pub old: Version,
    /// Of `target`.
    pub new: Version,
    #[serde(default)]
    pub links: Vec<Link>,
}

/// How far the store has been handed over to the firmware of the target. It is not open before it is `Given`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreStep {
    Untouched,
    /// A copy of it, as the firmware before left it, has been laid aside.
    Saved,
    /// It is the target's.
    Given,
}

/// How far an update has come. Downloading and checking leave nothing to be remembered here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Idle,
    /// The target may not be booted: it is being written.
    Writing { target: SlotName },
    /// The target is whole; `bootonce` is being set.
    Arming { attempt: Attempt },
    /// The next boot is the target's, once.
    Ready { attempt: Attempt },
    /// The target has been booted, and is not known to be healthy yet.
    Trying {
        attempt: Attempt,
        /// How often the firmware was started in this boot.
        starts: u32,
        store: StoreStep,
    },
    /// The target is healthy; its attributes are being made permanent.
    Committing { attempt: Attempt },
    /// The target is no longer to be booted; its attributes are being cleared.
    Disarming { attempt: Attempt },
}

/// The whole memory. Replaced at each step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What the slots hold: A, B. `None` = unknown or incomplete.
    pub slots: [Option<Content>; 2],
    /// The slot whose firmware last opened the store.
    pub owner: Option<SlotName>,
    pub phase: Phase,
}

impl State {
    pub fn content(&self, slot: SlotName) -> Option<&Content> {
        self.slots[slot.index()].as_ref()
    }
    pub fn load(place: &dyn Place) -> io::Result<Self> {
        let Some(bytes) = place.read(FILE)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} cannot be read: {error}"))
        })
    }
    pub fn save(&self, place: &dyn Place) -> io::Result<()> {
        place.write(FILE, &serde_json::to_vec_pretty(self)?)
    }
}
