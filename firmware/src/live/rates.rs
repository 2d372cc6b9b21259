//! Rates from counters that only grow.

use std::time::Instant;

use super::series::{Name, Values};
use super::sources::IdsSample;

/// Readings closer together than this say nothing about a rate (a tick that was late is followed at once by
/// the next).
const SHORTEST_SECS: f64 = 0.2;

/// Per-second rates of `N` counters that are read together. The first reading, and one after a counter was
/// reset, give 0.
#[derive(Debug)]
pub struct Meter<const N: usize> {
    last: Option<(Instant, [u64; N])>,
    rates: [f64; N],
}

impl<const N: usize> Default for Meter<N> {
    fn default() -> Self {
        Self { last: None, rates: [0.0; N] }
    }
}

impl<const N: usize> Meter<N> {
    pub fn read(&mut self, at: Instant, counters: [u64; N]) {
        let Some((before, old)) = self.last else {
            self.last = Some((at, counters));
            return;
        };
        let secs = at.saturating_duration_since(before).as_secs_f64();
        if secs < SHORTEST_SECS {
            return;
        }
        let was_reset = counters.iter().zip(&old).any(|(new, old)| new < old);
        self.rates =
            std::array::from_fn(
                |index| {
                    if was_reset { 0.0 } else { (counters[index] - old[index]) as f64 / secs }
                },
            );
        self.last = Some((at, counters));
    }
    pub fn per_second(&self) -> [f64; N] {
        self.rates
    }
}

/// The busy share of cumulative ticks.
#[derive(Debug, Default)]
pub struct Gauge {
    last: Option<(u64, u64)>,
    percent: f64,
}

impl Gauge {
    pub fn read(&mut self, busy: u64, total: u64) {
        if let Some((old_busy, old_total)) = self.last
            && total > old_total
        {
            let share = busy.saturating_sub(old_busy) as f64 / (total - old_total) as f64;
            self.percent = (share * 100.0).clamp(0.0, 100.0);
        }
        self.last = Some((busy, total));
    }
    pub fn percent(&self) -> f64 {
        self.percent
    }
}

/// The `threats.*` series, from the counters of the intrusion detection system.
#[derive(Debug, Default)]
pub struct Threats {
    totals: (u64, u64),
    meter: Meter<3>,
}

impl Threats {
    pub fn read(&mut self, at: Instant, ids: &IdsSample) {
        self.totals = (ids.view.alerts_total, ids.view.drops_total);
        self.meter.read(at, [ids.port_scans, ids.floods, ids.brute_force]);
    }
    pub fn values(&self, is_up: bool, values: &mut Values) {
        if !is_up {
            return;
        }
        let [port_scans, floods, brute_force] = self.meter.per_second();
        for (name, value) in [
            (Name::ThreatsTotal, self.totals.0 as f64),
            (Name::ThreatsBlocked, self.totals.1 as f64),
            (Name::ThreatsPortScan, port_scans),
            (Name::ThreatsDdos, floods),
            (Name::ThreatsBruteForce, brute_force),
        ] {
            values.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_rate_and_the_one_after_a_reset_are_zero() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::default();
        meter.read(at(0), [1_000_000, 5]);
        assert_eq!(meter.per_second(), [0.0, 0.0]);
        meter.read(at(2000), [1_000_500, 5]);
        assert_eq!(meter.per_second(), [250.0, 0.0]);
        meter.read(at(2001), [1_000_900, 5]);
        assert_eq!(meter.per_second(), [250.0, 0.0]);
        meter.read(at(3000), [10, 6]);
        assert_eq!(meter.per_second(), [0.0, 0.0]);
        meter.read(at(4000), [20, 6]);
        assert_eq!(meter.per_second(), [10.0, 0.0]);
    }

    #[test]
    fn cpu_use_is_the_busy_share_since_the_reading_before() {
        let mut gauge = Gauge::default();
        gauge.read(500, 1000);
        assert_eq!(gauge.percent(), 0.0);
        gauge.read(550, 1200);
        assert_eq!(gauge.percent(), 25.0);
        gauge.read(550, 1200);
        assert_eq!(gauge.percent(), 25.0);
    }
}
