//! A source of data that may be slow: asked in the background, at most once at a time. A tick waits for it a
//! bounded time and otherwise goes on with the last value.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future;

/// Longest that a tick waits for its sources.
pub const PATIENCE: Duration = Duration::from_millis(800);

type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The last value of a source, and the question that is under way.
pub struct Source<T> {
    last: Option<T>,
    job: Option<Job<T>>,
    /// Tick at which the last question was put.
    asked: Option<u64>,
}

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self { last: None, job: None, asked: None }
    }
}

impl<T: Send + 'static> Source<T> {
    /// The newest value known, which may be old; `None` before the first answer.
    pub fn last(&self) -> Option<&T> {
        self.last.as_ref()
    }
    /// Whether it is time to ask again: every `every` ticks.
    pub fn is_due(&self, tick: u64, every: u64) -> bool {
        self.asked.is_none_or(|asked| tick >= asked + every)
    }
    /// Asks (unless the last question is still open) and waits for the answer at most `patience`. Blocking
    /// questions run on the pool for blocking work; `direct` ones answer at once and run here. True = the
    /// value is new.
    pub async fn ask<F>(&mut self, tick: u64, direct: bool, patience: Duration, question: F) -> bool
    where
        F: FnOnce() -> T + Send + 'static,
    {
        if self.job.is_none() {
            self.asked = Some(tick);
            if direct {
                self.last = Some(question());
                return true;
            }
            self.job = Some(Box::pin(blocking::unblock(question)));
        }
        let Some(job) = &mut self.job else { return false };
        let answer = future::or(async { Some(job.await) }, async {
            Timer::after(patience).await;
            None
        })
        .await;
        let Some(answer) = answer else { return false };
        self.job = None;
        self.last = Some(answer);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_source_is_not_waited_for_and_not_asked_twice() {
        smol::block_on(async {
            let mut source = Source::default();
            assert!(source.ask(0, true, PATIENCE, || 1).await);
            assert!(!source.is_due(4, 5));
            assert!(source.is_due(5, 5));
            let (release, gate) = std::sync::mpsc::channel::<()>();
            let slow = move || gate.recv().map_or(0, |()| 2);
            assert!(!source.ask(5, false, Duration::from_millis(1), slow).await);
            assert_eq!(source.last(), Some(&1));
            // The open question is waited for again; this one is not put.
            assert!(!source.ask(6, false, Duration::from_millis(1), || 3).await);
            assert!(release.send(()).is_ok());
            assert!(source.ask(7, false, PATIENCE, || 4).await);
            assert_eq!(source.last(), Some(&2));
        });
    }
}
