//! The decision after an end: start again, after how long, or give up for a while. A pure state machine over the
//! clock that it is handed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::spec::Backoff;

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    StartAfter(Duration),
    GiveUp,
}

/// A run that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub ended: Instant,
    pub lasted: Duration,
    /// It did its work for a while.
    pub was_ready: bool,
}

/// The ends of one child so far.
#[derive(Debug, Default)]
pub struct Ends {
    recent: VecDeque<Instant>,
    /// In a row, without having been ready.
    attempts: u32,
    /// Restarts that followed soon after one another.
    soon: u32,
}

impl Ends {
    /// The child has ended.
    pub fn ended(&mut self, run: Run, backoff: &Backoff) -> Next {
        if run.was_ready {
            self.attempts = 0;
            if run.lasted >= backoff.steady_after {
                self.soon = 0;
            }
        } else {
            self.attempts += 1;
        }
        self.recent.push_back(run.ended);
        while self.recent.front().is_some_and(|first| run.ended.duration_since(*first) > backoff.window) {
            self.recent.pop_front();
        }
        if self.attempts >= backoff.attempts || self.recent.len() >= backoff.crashes {
            self.recent.clear();
            // Tried again one day, it has one attempt.
            self.attempts = backoff.attempts.saturating_sub(1);
            self.soon = 0;
            return Next::GiveUp;
        }
        let longest = if run.was_ready { backoff.longest_of_ready } else { backoff.longest };
        let delay = backoff.first.saturating_mul(1 << self.soon.min(16)).min(longest);
        self.soon += 1;
        Next::StartAfter(delay)
    }

    /// An administrator has started it: a clean slate.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(8),
        longest_of_ready: Duration::from_secs(2),
        steady_after: Duration::from_secs(60),
        attempts: 6,
        crashes: 100,
        window: Duration::from_secs(600),
        retry_after: None,
    };

    fn run(was_ready: bool, lasted: u64) -> Run {
        Run { ended: Instant::now(), lasted: Duration::from_secs(lasted), was_ready }
    }

    fn waits(ends: &mut Ends, runs: impl IntoIterator<Item = Run>) -> Vec<Option<u64>> {
        let wait = |next| match next {
            Next::StartAfter(delay) => Some(delay.as_secs()),
            Next::GiveUp => None,
        };
        runs.into_iter().map(|run| wait(ends.ended(run, &BACKOFF))).collect()
    }

    #[test]
    fn one_that_never_comes_up_is_tried_ever_later_and_then_left_alone() {
        let mut ends = Ends::default();
        assert_eq!(waits(&mut ends, [run(false, 0); 6]), [Some(1), Some(2), Some(4), Some(8), Some(8), None]);
        // Tried once more after a while, it has one attempt; started by a person, all of them.
        assert_eq!(waits(&mut ends, [run(false, 0)]), [None]);
        ends.forget();
        assert_eq!(waits(&mut ends, [run(false, 0)]), [Some(1)]);
    }

    #[test]
    fn one_that_was_ready_is_back_soon_however_often_it_is_killed() {
        let mut ends = Ends::default();
        let twenty = waits(&mut ends, [run(true, 1); 20]);
        assert_eq!(twenty[..3], [Some(1), Some(2), Some(2)]);
        assert!(twenty.iter().all(Option::is_some));
        assert_eq!(waits(&mut ends, [run(true, 60)]), [Some(1)]);
    }

    #[test]
    fn too_many_ends_within_the_window_and_it_is_left_alone() {
        let mut ends = Ends::default();
        assert_eq!(waits(&mut ends, [run(true, 1); 100]).last(), Some(&None));
        let begun = Instant::now();
        let mut apart = Ends::default();
        for minute in 0..1000 {
            let run = Run { ended: begun + Duration::from_secs(7 * minute), ..run(true, 6) };
            assert_ne!(apart.ended(run, &BACKOFF), Next::GiveUp);
        }
    }
}
