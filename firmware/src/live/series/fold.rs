//! Folding points of one tier into one point of the next coarser one.

use super::{COUNT, Name, Rollup};

/// A value and what it was made of. `samples` 0 = no value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Folded {
    pub v: f64,
    pub min: f64,
    pub max: f64,
    pub samples: u32,
}

impl Folded {
    pub const NONE: Self = Self { v: f64::NAN, min: f64::NAN, max: f64::NAN, samples: 0 };

    /// One sample.
    pub fn sample(value: f64) -> Self {
        Self { v: value, min: value, max: value, samples: 1 }
    }

    /// Takes in a later part; an average is weighted by the number of samples.
    fn take_in(&mut self, part: &Self, rollup: Rollup) {
        if part.samples == 0 {
            return;
        }
        if self.samples == 0 {
            *self = *part;
            return;
        }
        let samples = self.samples + part.samples;
        self.v = match rollup {
            Rollup::Last => part.v,
            Rollup::Average => self.v + (part.v - self.v) * f64::from(part.samples) / f64::from(samples),
        };
        self.min = self.min.min(part.min);
        self.max = self.max.max(part.max);
        self.samples = samples;
    }
}

/// One moment of every series.
pub(super) type Row = [Folded; COUNT];

/// An interval that is not over yet.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    /// Parts that make a whole.
    parts: u32,
    /// Seconds that a whole spans.
    span: u32,
    /// Times of the first and the last part.
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) taken: u32,
    pub(super) row: Row,
}

impl Fold {
    pub(super) fn new(parts: u32, span: u32) -> Self {
        Self { parts, span, first: 0, last: 0, taken: 0, row: [Folded::NONE; COUNT] }
    }
    fn finish(&mut self) -> Option<(u32, Row)> {
        let whole = (self.taken > 0).then_some((self.last, self.row));
        *self = Self::new(self.parts, self.span);
        whole
    }
    /// Ends the interval early if a part of time `t` would lie outside its span.
    pub(super) fn close_before(&mut self, t: u32) -> Option<(u32, Row)> {
        (self.taken > 0 && t.saturating_sub(self.first) >= self.span).then(|| self.finish()).flatten()
    }
    /// Adds a part; gives the whole if this was the last one.
    pub(super) fn add(&mut self, t: u32, row: &Row) -> Option<(u32, Row)> {
        if self.taken == 0 {
            self.first = t;
        }
        self.last = t;
        self.taken += 1;
        for (index, part) in row.iter().enumerate() {
            self.row[index].take_in(part, Name::ALL[index].rollup());
        }
        (self.taken >= self.parts).then(|| self.finish()).flatten()
    }
    pub(super) fn forget_from(&mut self, t: u32) {
        if self.taken > 0 && self.last >= t {
            *self = Self::new(self.parts, self.span);
        }
    }
}
