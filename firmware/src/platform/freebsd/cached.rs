//! An answer that is good for a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The last answer, with its time. Whoever finds it too old asks anew while others wait for that answer.
#[derive(Debug)]
pub struct Cached<T> {
    good_for: Duration,
    held: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Cached<T> {
    pub fn new(good_for: Duration) -> Self {
        Self { good_for, held: Mutex::new(None) }
    }

    /// The held answer, or that of `ask`; an error is not held.
    pub fn get<E>(&self, ask: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answer)) = held.as_ref().filter(|(at, _)| at.elapsed() < self.good_for) {
            return Ok(answer.clone());
        }
        let answer = ask()?;
        *held = Some((Instant::now(), answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_held_and_an_error_is_not() {
        let held = Cached::new(Duration::from_secs(3600));
        assert_eq!(held.get(|| Err::<u8, _>("no")), Err("no"));
        assert_eq!(held.get(|| Ok::<_, &str>(1)), Ok(1));
        assert_eq!(held.get(|| Ok::<_, &str>(2)), Ok(1));
        let stale = Cached::new(Duration::ZERO);
        assert_eq!(stale.get(|| Ok::<_, &str>(1)), Ok(1));
        assert_eq!(stale.get(|| Ok::<_, &str>(2)), Ok(2));
    }
}
