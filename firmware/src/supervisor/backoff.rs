//! The decision after an end: start again, after how long, or give up. A pure state machine over the clock
//! that it is handed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::spec::Backoff;

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    StartAfter(Duration),
    GiveUp,
}

/// The ends of one child so far.
#[derive(Debug)]
pub struct Ends {
    backoff: Backoff,
    recent: VecDeque<Instant>,
    delay: Duration,
}

impl Ends {
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, recent: VecDeque::new(), delay: backoff.first }
    }

    /// The child has ended at `now`, having run for `ran`.
    pub fn ended(&mut self, now: Instant, ran: Duration) -> Next {
        if ran >= self.backoff.steady_after {
            self.forget();
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.duration_since(*first) > self.backoff.window) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.backoff.crashes {
            return Next::GiveUp;
        }
        let delay = self.delay;
        self.delay = (self.delay * 2).min(self.backoff.longest);
        Next::StartAfter(delay)
    }

    /// An administrator has started it: a clean slate.
    pub fn forget(&mut self) {
        self.recent.clear();
        self.delay = self.backoff.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    fn ends(crashes: usize) -> Ends {
        Ends::new(Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(4),
            crashes,
            ..Backoff::default()
        })
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let (mut ends, now) = (ends(100), Instant::now());
        let waits: Vec<Next> = (0..4).map(|_| ends.ended(now, SHORT)).collect();
        let seconds = |secs| Next::StartAfter(Duration::from_secs(secs));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(4), seconds(4)]);
    }

    #[test]
    fn a_long_run_starts_from_the_first_wait_again() {
        let (mut ends, now) = (ends(100), Instant::now());
        ends.ended(now, SHORT);
        ends.ended(now, SHORT);
        assert_eq!(ends.ended(now, Duration::from_secs(60)), Next::StartAfter(Duration::from_secs(1)));
    }

    #[test]
    fn too_many_ends_within_the_window_and_it_is_left_alone() {
        let (mut close, now) = (ends(3), Instant::now());
        close.ended(now, SHORT);
        close.ended(now, SHORT);
        assert_eq!(close.ended(now, SHORT), Next::GiveUp);
        close.forget();
        assert_ne!(close.ended(now, SHORT), Next::GiveUp);
        let mut apart = ends(3);
        for minute in 0..10 {
            let at = now + Duration::from_secs(61 * minute);
            assert_ne!(apart.ended(at, SHORT), Next::GiveUp);
        }
    }
}
