//! What is going on: one change at a time, and at most one check beside it. Shown while it lasts.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

use super::machine::Stage;
use crate::config::Timestamp;

/// A change of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Install,
    InstallLocal,
    Rollback,
}

/// A change that is going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Job {
    pub kind: JobKind,
    pub stage: Stage,
    /// Bytes of this stage that are done.
    pub done: u64,
    /// Bytes of this stage, where they are known.
    pub total: Option<u64>,
    pub started_at: Timestamp,
}

#[derive(Default)]
struct Running {
    change: Option<Job>,
    check: bool,
    cancelled: bool,
}

/// Who may begin what.
#[derive(Default)]
pub struct Desk {
    running: Mutex<Running>,
    ended: Condvar,
}

/// Something else is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// A change that was let in. Dropped, it is over.
pub struct Turn<'a>(&'a Desk);

/// A check that was let in. Dropped, it is over.
pub struct CheckTurn<'a>(&'a Desk);

impl Desk {
    fn locked(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a change, unless a change or a check is going on.
    pub fn begin(&self, kind: JobKind) -> Result<Turn<'_>, Busy> {
        let mut running = self.locked();
        if running.change.is_some() || running.check {
            return Err(Busy);
        }
        let stage = if kind == JobKind::Install { Stage::Asking } else { Stage::Verifying };
        running.change = Some(Job { kind, stage, done: 0, total: None, started_at: Timestamp::now() });
        running.cancelled = false;
        Ok(Turn(self))
    }

    /// Begins a check; `None` = one was going on and has ended now.
    pub fn begin_check(&self) -> Option<CheckTurn<'_>> {
        let mut running = self.locked();
        if !running.check {
            running.check = true;
            return Some(CheckTurn(self));
        }
        while running.check {
            running = self.ended.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// The change that is going on, and whether a check is.
    pub fn now(&self) -> (Option<Job>, bool) {
        let running = self.locked();
        (running.change.clone(), running.check)
    }

    /// Ends a download that is going on. Whether there was one.
    pub fn cancel(&self) -> bool {
        let mut running = self.locked();
        let stages = [Stage::Asking, Stage::Downloading];
        let found = running.change.as_ref().is_some_and(|job| stages.contains(&job.stage));
        running.cancelled |= found;
        found
    }
}

impl Turn<'_> {
    /// Tells how far it is. Whether it is to go on.
    pub fn tell(&self, stage: Stage, done: u64, total: Option<u64>) -> bool {
        let mut running = self.0.locked();
        if let Some(job) = &mut running.change {
            (job.stage, job.done, job.total) = (stage, done, total);
        }
        !running.cancelled
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.locked().change = None;
    }
}

impl Drop for CheckTurn<'_> {
    fn drop(&mut self) {
        self.0.locked().check = false;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_change_at_a_time_and_checks_join() {
        let desk = Desk::default();
        let turn = desk.begin(JobKind::Install).unwrap();
        assert!(matches!(desk.begin(JobKind::Rollback), Err(Busy)));
        assert!(turn.tell(Stage::Downloading, 5, Some(9)));
        let (job, checking) = desk.now();
        let job = job.unwrap();
        assert_eq!((job.stage, job.done, job.total, checking), (Stage::Downloading, 5, Some(9), false));
        assert!(desk.cancel());
        assert!(!turn.tell(Stage::Downloading, 6, Some(9)));
        turn.tell(Stage::Writing, 0, None);
        assert!(!desk.cancel(), "what is written is not broken off");
        let check = desk.begin_check().unwrap();
        drop(turn);
        assert!(matches!(desk.begin(JobKind::Rollback), Err(Busy)), "a check is going on");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| desk.begin_check().is_none());
            drop(check);
            // It joined, or came when the first was over.
            let _ = second.join().unwrap();
        });
        assert!(desk.begin(JobKind::Rollback).is_ok());
    }
}
