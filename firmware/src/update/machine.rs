//! The order in which an update is written, so that a power cut after any single write leaves a slot that boots: the
//! old one, or the new one completely written and verified. Each step is on the medium before the next begins.
//!
//! | step | state | attributes (old, new) | the next boot |
//! |---|---|---|---|
//! | 1 | writing | bootme, none | old |
//! | 2 | writing, image being written | bootme, none | old |
//! | 3 | arming: the image was read back and is good | bootme, none | old, which arms again |
//! | 4 | arming, then ready | bootme, bootme+bootonce | new, once |
//! | 5 | trying (gptboot has cleared bootme) | bootme, bootonce | old: the try has failed |
//! | 6 | committing | bootme, bootme+bootonce | new, which goes on committing |
//! | 7 | committing | none, bootme+bootonce | new, which goes on committing |
//! | 8 | committing, then idle | none, bootme | new |
//!
//! The store goes with the firmware: [`Machine::boot`] runs before it is opened. A firmware that is tried finds it as
//! its predecessor left it, of which a copy is laid aside first; one that is gone back to finds it as it left it.

use std::io::{self, BufRead};

use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use semver::Version;
use serde::Serialize;

use super::gpt::Attribute::{BootFailed, BootMe, BootOnce};
use super::manifest::{Keys, Manifest, Policy};
use super::package::{self, Check, PIECE, PackageError, Sink};
use super::place::Place;
use super::slots::{Medium, SlotError, SlotName, Slots};
use super::state::{Attempt, Content, Kind, Link, Phase, State, StoreStep};
use crate::config::Timestamp;
use crate::store::DATABASE_FILE;

/// A firmware that is started more often than this in one boot without being found healthy has failed.
pub const MOST_STARTS: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error("the updater's memory: {0}")]
    Memory(#[from] io::Error),
    #[error("{0}")]
    Busy(&'static str),
    #[error("there is no earlier version to go back to")]
    NoBackup,
    #[error("{0} does not hold what was written to it; the medium is at fault")]
    ReadBack(SlotName),
}

/// What a job is doing, with how many of how many bytes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The release server is asked.
    Asking,
    Downloading,
    Verifying,
    Writing,
    ReadingBack,
}

/// What an install did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The image was written; the next boot is its.
    Written(Manifest),
    /// The very same image is there already.
    Same(Manifest),
}

/// What the firmware that starts finds out about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// Nothing was going on, or waits still.
    Settled,
    /// An update was cut off while it was written; the slot is empty.
    Interrupted(SlotName),
    /// An update was cut off just before its end; it waits for the next boot now.
    Rearmed(Attempt),
    /// This firmware is being tried: it must be found healthy. `starts` counts how often it was started in this boot;
    /// after [`MOST_STARTS`] it has failed.
    Trying { attempt: Attempt, starts: u32 },
    /// This firmware was found healthy before; it is permanent now.
    Committed(Attempt),
    /// The other firmware was tried and has failed. The store is as this one left it.
    FellBack(Attempt),
}

/// The updater's steps on a boot medium and a memory.
pub struct Machine<'a> {
    pub slots: &'a dyn Slots,
    pub place: &'a dyn Place,
}

/// Where the store of a slot's firmware is laid aside.
pub fn store_copy(slot: SlotName) -> String {
    format!("update/store-{slot}.redb")
}

impl Machine<'_> {
    /// Must be called before the store is opened, at each start. `version` is this firmware's.
    pub fn boot(&self, version: &Version) -> Result<Boot, MachineError> {
        let running = self.slots.running()?;
        let mut state = State::load(self.place).unwrap_or_else(|error| {
            log::error!("the updater begins anew: {error}");
            State::default()
        });
        self.slots.repair()?;
        let phase = state.phase.clone();
        let boot = match phase {
            // Somebody chose the other slot by hand, at the loader: to them, that is going back. The store is the
            // other firmware's.
            Phase::Idle if state.owner == Some(running.other()) => {
                let old = state.content(running.other()).map_or(version, |content| &content.version).clone();
                let (from, new) = (running.other(), version.clone());
                let attempt =
                    Attempt { kind: Kind::Rollback, from, target: running, old, new, links: Vec::new() };
                return self.try_out(&mut state, attempt, 1, StoreStep::Untouched);
            }
            Phase::Idle => Boot::Settled,
            // gptboot clears `bootme` before the try: the next boot is still the target's, and this start is none.
            Phase::Ready { attempt } if attempt.from == running && self.waits(&attempt)? => {
                return Ok(Boot::Settled);
            }
            // It was whole before the first byte was to be written.
            Phase::Writing { target } if target == running => Boot::Settled,
            Phase::Writing { target } => {
                self.forbid(target)?;
                Boot::Interrupted(target)
            }
            Phase::Arming { attempt } if attempt.from == running => {
                self.arm(&mut state, attempt.clone())?;
                return Ok(Boot::Rearmed(attempt));
            }
            Phase::Disarming { attempt } if attempt.from == running => {
                self.forbid(attempt.target)?;
                Boot::Settled
            }
            Phase::Arming { attempt } | Phase::Ready { attempt } | Phase::Disarming { attempt }
                if attempt.target == running =>
            {
                return self.try_out(&mut state, attempt, 1, StoreStep::Untouched);
            }
            Phase::Trying { attempt, starts, store } if attempt.target == running => {
                return self.try_out(&mut state, attempt, starts.saturating_add(1), store);
            }
            Phase::Committing { attempt } if attempt.target == running => {
                self.make_permanent(&mut state, &attempt)?;
                return Ok(Boot::Committed(attempt));
            }
            Phase::Ready { attempt } => {
                self.fall_back(&mut state, attempt.clone(), StoreStep::Untouched)?;
                return Ok(Boot::FellBack(attempt));
            }
            Phase::Trying { attempt, store, .. } => {
                self.fall_back(&mut state, attempt.clone(), store)?;
                return Ok(Boot::FellBack(attempt));
            }
            Phase::Arming { attempt } | Phase::Disarming { attempt } | Phase::Committing { attempt } => {
                self.fall_back(&mut state, attempt.clone(), StoreStep::Given)?;
                return Ok(Boot::FellBack(attempt));
            }
        };
        let before = state.clone();
        state.phase = Phase::Idle;
        state.owner = Some(running);
        if state.content(running).is_none_or(|content| content.version != *version) {
            state.slots[running.index()] = Some(content(version));
        }
        if state != before {
            state.save(self.place)?;
        }
        Ok(boot)
    }

    /// Checks a package as a whole, writes it to the slot that does not run, reads it back, and has it booted once at
    /// the next boot. `open` begins to read the package anew. Refused, nothing has changed.
    pub fn install(
        &self,
        open: &dyn Fn() -> io::Result<Box<dyn BufRead>>,
        keys: &Keys,
        policy: &Policy,
        links: Vec<Link>,
        progress: &dyn Fn(Stage, u64, u64),
    ) -> Result<Outcome, MachineError> {
        let mut state =
            self.quiet("the new firmware is still being tried; wait until it is found healthy")?;
        let running = self.slots.running()?;
        let target = running.other();
        let policy = Policy { capacity: policy.capacity.min(self.slots.capacity(target)?), ..policy.clone() };
        let told = |done, size| progress(Stage::Verifying, done, size);
        let manifest = package::read(open().map_err(damaged)?, keys, &policy, &mut Check::new(&told))?;
        let same = |slot: SlotName| {
            let sha256 = state.content(slot).and_then(|content| content.sha256.as_ref());
            sha256.is_some_and(|sha256| sha256.eq_ignore_ascii_case(&manifest.slot.sha256))
        };
        let next = match &state.phase {
            Phase::Ready { attempt } => attempt.target,
            _ => running,
        };
        if same(next) {
            return Ok(Outcome::Same(manifest));
        }
        self.disarm(&mut state)?;
        if !self.slots.attributes(running)?.boot_me {
            self.slots.set(running, BootMe, true)?;
        }
        let written = self.write(&mut state, target, open, keys, &policy, progress);
        let manifest = match written {
            Ok(manifest) => manifest,
            Err(error) => {
                state.phase = Phase::Idle;
                state.save(self.place)?;
                return Err(error);
            }
        };
        state.slots[target.index()] = Some(Content {
            version: manifest.version.clone(),
            sha256: Some(manifest.slot.sha256.to_ascii_lowercase()),
            freebsd: Some(manifest.freebsd.clone()),
            notes: manifest.notes.clone(),
            written_at: Some(Timestamp::now()),
        });
        let attempt = Attempt {
            kind: Kind::Install,
            from: running,
            target,
            old: policy.running.clone(),
            new: manifest.version.clone(),
            links,
        };
        self.arm(&mut state, attempt)?;
        Ok(Outcome::Written(manifest))
    }

    /// Goes back: to the other slot at the next boot; or, where a change of slots still waits for the next boot, stays
    /// here. Gives the version that the next boot runs.
    pub fn roll_back(&self, running: &Version, links: Vec<Link>) -> Result<Version, MachineError> {
        let mut state =
            self.quiet("the new firmware is still being tried; it goes back by itself if it fails")?;
        if matches!(state.phase, Phase::Ready { .. }) {
            self.disarm(&mut state)?;
            return Ok(running.clone());
        }
        let from = self.slots.running()?;
        let target = from.other();
        let new = state.content(target).ok_or(MachineError::NoBackup)?.version.clone();
        if !self.slots.attributes(from)?.boot_me {
            self.slots.set(from, BootMe, true)?;
        }
        let attempt =
            Attempt { kind: Kind::Rollback, from, target, old: running.clone(), new: new.clone(), links };
        self.arm(&mut state, attempt)?;
        Ok(new)
    }

    /// The firmware that is being tried is healthy: its slot is the one to boot from now on.
    pub fn commit(&self) -> Result<Option<Attempt>, MachineError> {
        let mut state = State::load(self.place)?;
        let (Phase::Trying { attempt, .. } | Phase::Committing { attempt }) = state.phase.clone() else {
            return Ok(None);
        };
        if self.slots.running()? != attempt.target {
            return Ok(None);
        }
        state.phase = Phase::Committing { attempt: attempt.clone() };
        state.save(self.place)?;
        self.make_permanent(&mut state, &attempt)?;
        Ok(Some(attempt))
    }

    /// Remembers the interfaces as they are shortly before the other slot is booted.
    pub fn note_links(&self, links: Vec<Link>) -> Result<(), MachineError> {
        let mut state = State::load(self.place)?;
        if let Phase::Ready { attempt } = &mut state.phase {
            attempt.links = links;
            state.save(self.place)?;
        }
        Ok(())
    }

    /// Looks into a slot of which nothing is known: an image may have been written with a firmware in both.
    pub fn learn(&self, slot: SlotName) {
        let Some(version) = self.slots.version(slot).and_then(|text| Version::parse(&text).ok()) else {
            return;
        };
        let known = State::load(self.place).and_then(|mut state| {
            let unknown = &mut state.slots[slot.index()];
            if unknown.is_some() || state.phase != Phase::Idle {
                return Ok(());
            }
            *unknown = Some(content(&version));
            state.save(self.place)
        });
        if let Err(error) = known {
            log::warn!("{slot}: {error}");
        }
    }

    /// The state, when nothing is being written or tried.
    fn quiet(&self, why: &'static str) -> Result<State, MachineError> {
        let state = State::load(self.place)?;
        match state.phase {
            Phase::Idle | Phase::Ready { .. } | Phase::Writing { .. } => Ok(state),
            _ => Err(MachineError::Busy(why)),
        }
    }

    /// No boot of a slot any more. `bootme` goes first: a slot with `bootonce` alone is not chosen.
    fn forbid(&self, slot: SlotName) -> Result<(), SlotError> {
        [BootMe, BootOnce, BootFailed]
            .into_iter()
            .try_for_each(|attribute| self.slots.set(slot, attribute, false))
    }

    fn arm(&self, state: &mut State, attempt: Attempt) -> Result<(), MachineError> {
        state.phase = Phase::Arming { attempt: attempt.clone() };
        state.save(self.place)?;
        self.slots.set(attempt.target, BootFailed, false)?;
        self.slots.set(attempt.target, BootOnce, true)?;
        state.phase = Phase::Ready { attempt };
        Ok(state.save(self.place)?)
    }

    /// Takes back what waits for the next boot. What the slot holds stays.
    fn disarm(&self, state: &mut State) -> Result<(), MachineError> {
        let Phase::Ready { attempt } = state.phase.clone() else { return Ok(()) };
        let target = attempt.target;
        state.phase = Phase::Disarming { attempt };
        state.save(self.place)?;
        self.forbid(target)?;
        state.phase = Phase::Idle;
        Ok(state.save(self.place)?)
    }

    fn write(
        &self,
        state: &mut State,
        target: SlotName,
        open: &dyn Fn() -> io::Result<Box<dyn BufRead>>,
        keys: &Keys,
        policy: &Policy,
        progress: &dyn Fn(Stage, u64, u64),
    ) -> Result<Manifest, MachineError> {
        state.slots[target.index()] = None;
        state.phase = Phase::Writing { target };
        state.save(self.place)?;
        self.forbid(target)?;
        let mut medium = self.slots.open(target)?;
        let mut writer = Writer { medium: &mut *medium, offset: 0, size: 0, progress };
        let manifest = package::read(open().map_err(damaged)?, keys, policy, &mut writer)?;
        medium.sync().map_err(SlotError::Io)?;
        drop(medium);
        // Anew, so that it is read from the medium.
        let mut medium = self.slots.open(target)?;
        let (mut hash, mut piece, mut offset) = (Context::new(&SHA256), vec![0; PIECE], 0);
        while offset < manifest.slot.size {
            let length = usize::try_from(manifest.slot.size - offset).unwrap_or(PIECE).min(PIECE);
            medium.read(offset, &mut piece[..length]).map_err(SlotError::Io)?;
            hash.update(&piece[..length]);
            offset += length as u64;
            progress(Stage::ReadingBack, offset, manifest.slot.size);
        }
        let found = data_encoding::HEXLOWER.encode(hash.finish().as_ref());
        match found == manifest.slot.sha256.to_ascii_lowercase() {
            true => Ok(manifest),
            false => Err(MachineError::ReadBack(target)),
        }
    }

    /// Whether the next boot is that of an attempt's target.
    fn waits(&self, attempt: &Attempt) -> Result<bool, SlotError> {
        let held = self.slots.attributes(attempt.target)?;
        Ok(held.boot_me && held.boot_once)
    }

    fn try_out(
        &self,
        state: &mut State,
        attempt: Attempt,
        starts: u32,
        store: StoreStep,
    ) -> Result<Boot, MachineError> {
        state.phase = Phase::Trying { attempt: attempt.clone(), starts, store };
        state.save(self.place)?;
        self.take_store(state)?;
        Ok(Boot::Trying { attempt, starts })
    }

    /// Gives the store to the firmware of the slot that runs. It is not open yet.
    fn take_store(&self, state: &mut State) -> Result<(), MachineError> {
        let Phase::Trying { attempt, starts, mut store } = state.phase.clone() else { return Ok(()) };
        if store == StoreStep::Untouched {
            self.place.copy(DATABASE_FILE, &store_copy(attempt.from))?;
            store = StoreStep::Saved;
            state.phase = Phase::Trying { attempt: attempt.clone(), starts, store };
            state.save(self.place)?;
        }
        if store == StoreStep::Saved {
            if attempt.kind == Kind::Rollback {
                // Of a firmware that was there before any update there may be none.
                self.place.copy(&store_copy(attempt.target), DATABASE_FILE)?;
            }
            state.owner = Some(attempt.target);
            state.phase = Phase::Trying { attempt, starts, store: StoreStep::Given };
            state.save(self.place)?;
        }
        Ok(())
    }

    fn make_permanent(&self, state: &mut State, attempt: &Attempt) -> Result<(), MachineError> {
        self.slots.set(attempt.target, BootOnce, true)?;
        self.forbid(attempt.from)?;
        self.slots.set(attempt.target, BootOnce, false)?;
        state.phase = Phase::Idle;
        let old = &mut state.slots[attempt.from.index()];
        if old.is_none() {
            *old = Some(content(&attempt.old));
        }
        Ok(state.save(self.place)?)
    }

    fn fall_back(&self, state: &mut State, attempt: Attempt, store: StoreStep) -> Result<(), MachineError> {
        if !self.slots.attributes(attempt.from)?.boot_me {
            self.slots.set(attempt.from, BootMe, true)?;
        }
        self.forbid(attempt.target)?;
        if store >= StoreStep::Saved {
            self.place.copy(&store_copy(attempt.from), DATABASE_FILE)?;
        }
        if attempt.kind == Kind::Install {
            // Not to be gone back to.
            state.slots[attempt.target.index()] = None;
        }
        state.owner = Some(attempt.from);
        state.phase = Phase::Idle;
        Ok(state.save(self.place)?)
    }
}

/// The content of a slot of which only the version is known.
fn content(version: &Version) -> Content {
    Content { version: version.clone(), sha256: None, freebsd: None, notes: String::new(), written_at: None }
}

fn damaged(error: io::Error) -> MachineError {
    PackageError::Damaged(error).into()
}

/// Writes a package's image to a slot.
struct Writer<'a> {
    medium: &'a mut dyn Medium,
    offset: u64,
    size: u64,
    progress: &'a dyn Fn(Stage, u64, u64),
}

impl Sink for Writer<'_> {
    fn begin(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.size = manifest.slot.size;
        Ok(())
    }
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.medium.write(self.offset, piece)?;
        self.offset += piece.len() as u64;
        (self.progress)(Stage::Writing, self.offset, self.size);
        Ok(())
    }
}
