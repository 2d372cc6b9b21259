//! How many requests the API has answered: the HTTP layer counts, the sampler reads once a second.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests answered since the start.
#[derive(Debug, Default)]
pub struct ApiCounters {
    requests: AtomicU64,
    errors: AtomicU64,
}

impl ApiCounters {
    /// Counts one answer.
    pub fn count(&self, status: u16) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status >= 400 {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
    /// Answers with a status of 400 or more.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}
