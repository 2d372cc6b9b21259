//! What the daemon's word is worth. It looks at its sources only when one of them answers: when all have fallen silent
//! it goes on calling itself synchronised, for ever. A new answer never has the very figures of the one before, so
//! figures that stay tell of silence. Fed by the task that follows the sources and by each look at the status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::TimeState;

/// So many questions without an answer, and a source counts as unreachable (RFC 5905 §9.2: eight bits of reach).
const REACH: u32 = 8;
/// The daemon asks no faster than that at first.
const FIRST_POLL: Duration = Duration::from_secs(8);
/// Not synchronised for so long is told.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// With fewer, one that lies cannot be outvoted (RFC 5905 §11.2.1).
const ENOUGH: usize = 3;
/// A daemon that has just started may not have heard all of them.
const WARM_UP: Duration = Duration::from_secs(120);

/// When each source was last heard, as far as can be seen from here.
#[derive(Debug, Default)]
pub struct Watch {
    inner: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    uptime_seconds: f64,
    /// Offset, delay and jitter, and since when they are so.
    sources: BTreeMap<String, ([u64; 3], Instant)>,
    unsynchronized_since: Option<Instant>,
    alarms: Vec<String>,
}

impl Watch {
    /// Corrects what the daemon tells by what was seen of it before. `poll` is the time between two questions to a
    /// source, by its address.
    pub fn look(&self, state: &mut TimeState, poll: impl Fn(&str) -> Duration, now: Instant) {
        let mut seen = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if state.uptime_seconds < seen.uptime_seconds {
            *seen = Seen::default();
        }
        seen.uptime_seconds = state.uptime_seconds;
        let told: Vec<&str> = state.sources.iter().map(|source| source.id.as_str()).collect();
        seen.sources.retain(|id, _| told.contains(&id.as_str()));
        for source in &mut state.sources {
            let figures = [source.offset_ms, source.delay_ms, source.jitter_ms].map(f64::to_bits);
            let entry = seen.sources.entry(source.id.clone()).or_insert((figures, now));
            if entry.0 != figures {
                *entry = (figures, now);
            }
            if now.duration_since(entry.1) > poll(&source.address).max(FIRST_POLL) * REACH {
                (source.reachable, source.selected) = (false, false);
            }
        }
        if !state.sources.iter().any(|source| source.reachable) {
            (state.clock.synchronized, state.clock.stratum) = (false, 16);
        }
        let synchronized = state.clock.synchronized && state.clock.stratum < 16;
        match (synchronized, seen.unsynchronized_since) {
            (true, _) => seen.unsynchronized_since = None,
            (false, None) => seen.unsynchronized_since = Some(now),
            (false, Some(_)) => {}
        }
        let mut alarms = Vec::new();
        let since = seen.unsynchronized_since.map(|since| now.duration_since(since));
        if let Some(since) = since.filter(|since| *since > PATIENCE) {
            alarms.push(format!("not synchronised for {} minutes", since.as_secs() / 60));
        }
        let usable = state.sources.iter().filter(|source| source.reachable).count();
        if usable < ENOUGH && state.uptime_seconds > WARM_UP.as_secs_f64() {
            alarms.push(format!("{usable} of at least {ENOUGH} sources can be used"));
        }
        seen.alarms = alarms;
    }

    /// What should not stay as it is, as of the last look.
    pub fn alarms(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).alarms.clone()
    }

    /// The daemon does not run, or does not tell.
    pub fn forget(&self) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::SourceState;
    use super::super::status::Clock;
    use super::*;

    fn state(uptime: u64, sources: &[(&str, f64)]) -> TimeState {
        let source = |(address, offset_ms): &(&str, f64)| SourceState {
            id: format!("NTP:{address}"),
            address: (*address).to_owned(),
            offset_ms: *offset_ms,
            delay_ms: 1.0,
            jitter_ms: 0.0,
            stratum: 2,
            reachable: true,
            selected: true,
        };
        TimeState {
            version: "0.15.1".into(),
            uptime_seconds: uptime as f64,
            clock: Clock {
                offset_ms: 0.0,
                jitter_ms: 0.0,
                frequency_ppm: 0.0,
                stratum: 3,
                synchronized: true,
            },
            sources: sources.iter().map(source).collect(),
        }
    }

    #[test]
    fn a_source_whose_figures_stay_is_silent() {
        let watch = Watch::default();
        let begun = Instant::now();
        let look = |seconds: u64, sources: &[(&str, f64)]| {
            let mut state = state(seconds, sources);
            watch.look(&mut state, |_| Duration::from_secs(16), begun + Duration::from_secs(seconds));
            state
        };
        look(0, &[("192.0.2.1:123", 1.0), ("192.0.2.2:123", 2.0)]);
        // Eight polls of 16 s: 128 s.
        let after = look(128, &[("192.0.2.1:123", 1.0), ("192.0.2.2:123", 2.5)]);
        assert!(after.sources.iter().all(|source| source.reachable));
        let after = look(129, &[("192.0.2.1:123", 1.0), ("192.0.2.2:123", 2.5)]);
        assert_eq!(after.sources.iter().map(|source| source.reachable).collect::<Vec<_>>(), [false, true]);
        assert!(after.clock.synchronized);
        assert_eq!(watch.alarms(), ["1 of at least 3 sources can be used"]);
        let after = look(300, &[("192.0.2.1:123", 1.0), ("192.0.2.2:123", 2.5)]);
        assert_eq!((after.clock.synchronized, after.clock.stratum), (false, 16));
        look(300 + 901, &[("192.0.2.1:123", 1.0), ("192.0.2.2:123", 2.5)]);
        assert_eq!(
            watch.alarms(),
            ["not synchronised for 15 minutes", "0 of at least 3 sources can be used"]
        );
        // Started anew, it has the benefit of the doubt.
        let after = look(1, &[("192.0.2.1:123", 1.0)]);
        assert!(after.clock.synchronized && watch.alarms().is_empty());
    }
}
