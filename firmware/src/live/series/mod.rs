//! Time series of the appliance's counters: 27 names, each kept in four rings of decreasing resolution
//! (contract/live.md §4 and §5). The sampler records one row a second; the API reads points.
//!
//! One second's values go into the `live` ring; every 10 of them fold into one point of `short`, 6 of those
//! into one of `mid`, 5 of those into one of `long`. Nothing is invented for seconds without a sample.

mod column;
pub mod file;
mod fold;
mod tier;

use schemars::JsonSchema;
use serde::Serialize;

pub use fold::Folded;
use fold::{Fold, Row};
use tier::Tier;

/// How the samples of an interval become one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollup {
    /// The newest sample: states, counts.
    Last,
    /// The mean over all samples: rates, cumulative counters.
    Average,
}

macro_rules! series {
    ($($variant:ident = $name:literal $rollup:ident,)*) => {
        /// A recorded quantity. Sorted by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Name { $($variant,)* }

        impl Name {
            /// All names, sorted ascending.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            pub fn rollup(self) -> Rollup {
                match self { $(Self::$variant => Rollup::$rollup,)* }
            }
        }
    };
}

impl Name {
    /// Whether single precision would lose what the quantity is about: counters that only grow.
    fn is_wide(self) -> bool {
        matches!(
            self,
            Self::PfBytesIn
                | Self::PfBytesOut
                | Self::PfPacketsIn
                | Self::PfPacketsOut
                | Self::ThreatsBlocked
                | Self::ThreatsTotal
        )
    }
}

series! {
    ApiErrors = "api.errors" Average,
    ApiRequests = "api.requests" Average,
    ConnIcmp = "conn.icmp" Last,
    ConnNewRate = "conn.new_rate" Average,
    ConnTcp = "conn.tcp" Last,
    ConnTotal = "conn.total" Last,
    ConnUdp = "conn.udp" Last,
    PfBytesIn = "pf.bytes_in" Average,
    PfBytesOut = "pf.bytes_out" Average,
    PfPacketsIn = "pf.packets_in" Average,
    PfPacketsOut = "pf.packets_out" Average,
    PfRulesCount = "pf.rules_count" Last,
    PfRunning = "pf.running" Last,
    PfStates = "pf.states" Last,
    SystemNatRules = "system.nat_rules" Last,
    SystemQueues = "system.queues" Last,
    SystemRateLimits = "system.rate_limits" Last,
    SystemRulesActive = "system.rules_active" Last,
    ThreatsBlocked = "threats.blocked" Last,
    ThreatsBruteForce = "threats.brute_force" Average,
    ThreatsDdos = "threats.ddos" Average,
    ThreatsPortScan = "threats.port_scan" Average,
    ThreatsTotal = "threats.total" Last,
    TrafficBpsIn = "traffic.bps_in" Average,
    TrafficBpsOut = "traffic.bps_out" Average,
    TrafficPpsIn = "traffic.pps_in" Average,
    TrafficPpsOut = "traffic.pps_out" Average,
}

/// How many names there are.
pub const COUNT: usize = Name::ALL.len();

impl std::str::FromStr for Name {
    type Err = UnknownSeries;
    fn from_str(text: &str) -> Result<Self, UnknownSeries> {
        Self::ALL
            .binary_search_by(|name| name.as_str().cmp(text))
            .map(|index| Self::ALL[index])
            .map_err(|_| UnknownSeries(text.into()))
    }
}

/// No series has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("series {0:?} does not exist")]
pub struct UnknownSeries(pub String);

/// One second's values. A quantity without a source has none.
#[derive(Debug, Clone, Copy)]
pub struct Values([Option<f64>; COUNT]);

impl Default for Values {
    fn default() -> Self {
        Self([None; COUNT])
    }
}

impl Values {
    /// Numbers that are not finite count as absent.
    pub fn set(&mut self, name: Name, value: f64) {
        self.0[name as usize] = value.is_finite().then_some(value);
    }
    pub fn get(&self, name: Name) -> Option<f64> {
        self.0[name as usize]
    }
}

/// A point as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Point {
    /// Unix seconds of the point's last sample.
    pub t: u32,
    pub v: f64,
    pub min: f64,
    pub max: f64,
}

/// One of the four rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierSpec {
    pub name: &'static str,
    /// Seconds between points.
    pub interval_secs: u32,
    /// Points kept.
    pub capacity: usize,
}

pub const TIERS: [TierSpec; 4] = [
    TierSpec { name: "live", interval_secs: 1, capacity: 1800 },
    TierSpec { name: "short", interval_secs: 10, capacity: 2160 },
    TierSpec { name: "mid", interval_secs: 60, capacity: 10_080 },
    TierSpec { name: "long", interval_secs: 300, capacity: 8640 },
];

/// Index of the finest tier that covers a range.
fn tier_for(range_secs: u64) -> usize {
    match range_secs {
        0..=1800 => 0,
        1801..=21_600 => 1,
        21_601..=604_800 => 2,
        _ => 3,
    }
}

/// All series in all tiers.
#[derive(Debug)]
pub struct SeriesStore {
    tiers: [Tier; 4],
    /// What is being folded into `short`, `mid` and `long`.
    folds: [Fold; 3],
}

impl Default for SeriesStore {
    fn default() -> Self {
        Self {
            tiers: TIERS.map(Tier::new),
            folds: [
                Fold::new(10, TIERS[1].interval_secs),
                Fold::new(6, TIERS[2].interval_secs),
                Fold::new(5, TIERS[3].interval_secs),
            ],
        }
    }
}

impl SeriesStore {
    /// Records one second. `t` is Unix time in seconds. If the clock was set back, points from what is now
    /// the future go, so that times always ascend.
    pub fn record(&mut self, t: u32, values: &Values) {
        if self.tiers.iter().any(|tier| tier.newest().is_some_and(|newest| newest >= t)) {
            self.tiers.iter_mut().for_each(|tier| tier.forget_from(t));
            self.folds.iter_mut().for_each(|fold| fold.forget_from(t));
        }
        let mut row: Row = std::array::from_fn(|index| values.0[index].map_or(Folded::NONE, Folded::sample));
        let mut t = t;
        self.tiers[0].push(t, &row);
        for (index, fold) in self.folds.iter_mut().enumerate() {
            if let Some((closed_at, early)) = fold.close_before(t) {
                // Seconds are missing: the interval ends with what it has.
                self.tiers[index + 1].push(closed_at, &early);
            }
            match fold.add(t, &row) {
                Some((closed_at, folded)) => {
                    self.tiers[index + 1].push(closed_at, &folded);
                    (t, row) = (closed_at, folded);
                }
                None => break,
            }
        }
    }

    /// The newest points of one series within a range: at most `range_secs / interval` rounded up, and at
    /// most `limit`; oldest first.
    pub fn points(&self, name: Name, range_secs: u64, limit: Option<usize>) -> (TierSpec, Vec<Point>) {
        let tier = &self.tiers[tier_for(range_secs)];
        let most = usize::try_from(range_secs.div_ceil(u64::from(tier.spec().interval_secs)))
            .unwrap_or(usize::MAX)
            .min(limit.unwrap_or(usize::MAX));
        (tier.spec(), tier.newest_points(name, most))
    }

    /// Bytes that the rings hold on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.tiers.iter().map(Tier::heap_bytes).sum()
    }
}

#[cfg(test)]
mod tests;
