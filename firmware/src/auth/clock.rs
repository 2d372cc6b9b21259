//! The time as authentication sees it: the wall clock for what is stored or signed, a steady one for what lives in
//! memory (a step of the wall clock must not open a lock or revive a ticket). Tests hold the hands themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use crate::config::Timestamp;

/// A pair of clocks. Copies share it.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    /// Milliseconds that a test has added to both clocks.
    ahead: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), ahead: Arc::default() }
    }
}

impl Clock {
    /// Wall-clock time.
    pub fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.ahead.load(Ordering::Relaxed) as i64);
        let now = Timestamp::now();
        now.checked_add(ahead).unwrap_or(now)
    }
    /// Unix time in whole seconds.
    pub fn seconds(&self) -> i64 {
        self.now().as_second()
    }
    /// Time since this clock was made; never goes back.
    pub fn steady(&self) -> Duration {
        self.start.elapsed() + Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }
    /// Puts both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

/// `at` plus a number of seconds, or `at` where that cannot be represented.
pub(super) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}
