//! The first boot of a new firmware. The composition that starts the appliance goes through this once:
//!
//! 1. [`Updater::begin`] before the store is opened.
//! 2. When requests are answered: if [`Updater::on_trial`] gives something, look for [`super::health::faults`] until
//!    there are none, for [`super::health::PATIENCE`] at most.
//! 3. [`Updater::confirm_boot`] when there are none; [`Updater::reject_boot`] when the time is over: the machine
//!    reboots, and gptboot(8) boots the slot before, since this one was to be booted once.
//!
//! A firmware that hangs so that nobody comes to step 3 is ended by [`Updater::watch_over_trial`].

use std::sync::Arc;
use std::time::Duration;

use super::health;
use super::history::{Action, Outcome};
use super::machine::{Boot, MOST_STARTS, MachineError};
use super::state::{Attempt, Kind, Phase, State};
use super::updater::{UpdateError, Updater};
use crate::platform::Power;

/// Beyond [`health::PATIENCE`], before a firmware counts as hung.
const GRACE: Duration = Duration::from_secs(60);

impl Updater {
    /// Writes down what this start found out.
    pub(super) fn tell_of_boot(&self) {
        match self.boot() {
            Boot::Settled | Boot::Trying { .. } => {}
            Boot::Interrupted(slot) => {
                let details = format!("cut off while {slot} was written; nothing has changed");
                self.note(Action::Boot, Outcome::Failed, details);
            }
            Boot::Rearmed(attempt) => {
                let details =
                    format!("v{} waits for the next boot, as before the power was cut", attempt.new);
                self.note(Action::Boot, Outcome::Completed, details);
            }
            Boot::Committed(attempt) => self.tell_committed(attempt),
            Boot::FellBack(attempt) => {
                let details = format!(
                    "v{} did not come up healthy; v{} runs again, with the configuration as it left it",
                    attempt.new, attempt.old
                );
                self.note(Action::Boot, Outcome::Failed, details);
            }
        }
    }

    fn tell_committed(&self, attempt: &Attempt) {
        let word = match attempt.kind {
            Kind::Install => "updated from",
            Kind::Rollback => "went back from",
        };
        let details = format!("v{} is healthy and stays ({word} v{})", attempt.new, attempt.old);
        self.note(Action::Boot, Outcome::Completed, details);
    }

    /// What is being tried, if this firmware is.
    pub fn on_trial(&self) -> Option<Attempt> {
        match State::load(&self.place).ok()?.phase {
            Phase::Trying { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// This firmware has failed already: it was started too often in its one boot.
    pub fn worn_out(&self) -> bool {
        matches!(self.boot(), Boot::Trying { starts, .. } if *starts > MOST_STARTS)
    }

    /// This firmware is healthy: its slot is the one to boot from now on. Does nothing when it is not on trial.
    pub fn confirm_boot(&self) -> Result<Option<Attempt>, MachineError> {
        let committed = self.machine().commit()?;
        if let Some(attempt) = &committed {
            self.tell_committed(attempt);
        }
        Ok(committed)
    }

    /// This firmware has failed: the machine reboots into the one before, which takes the store back as it left it.
    /// Does nothing when it is not on trial.
    pub fn reject_boot(&self, why: &str) -> Result<(), UpdateError> {
        let Some(attempt) = self.on_trial() else { return Ok(()) };
        log::error!("v{} has failed: {why}", attempt.new);
        let details = format!("v{} is not healthy: {why}; going back to v{}", attempt.new, attempt.old);
        self.note(Action::Boot, Outcome::Failed, details);
        self.options.platform.power(Power::Reboot, Duration::ZERO)?;
        Ok(())
    }

    /// A firmware that cannot even read what is remembered does not know that it is on trial. gptboot's marks tell: the
    /// other slot is the one to boot, so this one was booted once. The machine reboots into the other.
    pub fn leave_if_booted_once(&self, why: &str) -> Result<bool, UpdateError> {
        let slots = &self.options.slots;
        let Ok(running) = slots.running() else { return Ok(false) };
        let bootable = |slot| slots.attributes(slot).map(|held| held.boot_me).map_err(MachineError::from);
        if bootable(running)? || !bootable(running.other())? {
            return Ok(false);
        }
        log::error!("this firmware was booted once and is of no use: {why}; going back");
        self.options.platform.power(Power::Reboot, Duration::ZERO)?;
        Ok(true)
    }

    /// Stands by with a thread of its own, so that a firmware on trial of which nothing moves any more is gone back
    /// from all the same.
    pub fn watch_over_trial(self: &Arc<Self>) {
        if self.on_trial().is_none() {
            return;
        }
        let updater = self.clone();
        let watch = move || {
            std::thread::sleep(health::PATIENCE + GRACE);
            if let Err(error) = updater.reject_boot("it was not found healthy in time") {
                log::error!("{error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("trial".into()).spawn(watch) {
            log::error!("nobody watches over the new firmware: {error}");
        }
    }
}
