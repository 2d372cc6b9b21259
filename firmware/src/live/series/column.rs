//! A ring of numbers, in single precision where that is exact enough and double where it is not, allocated
//! as it fills.

use std::collections::VecDeque;

/// Grows a ring by half, but never beyond what it will hold in the end.
pub(super) fn push_within<T>(ring: &mut VecDeque<T>, value: T, capacity: usize) {
    if ring.len() >= capacity {
        ring.pop_front();
    } else if ring.len() == ring.capacity() {
        let more = (ring.len() / 2).max(64).min(capacity - ring.len());
        ring.reserve_exact(more);
    }
    ring.push_back(value);
}

/// The values of one series in one tier, aligned at the newest end with the tier's times; NaN = no sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    Narrow(VecDeque<f32>),
    Wide(VecDeque<f64>),
}

impl Column {
    pub(super) fn new(wide: bool) -> Self {
        if wide { Self::Wide(VecDeque::new()) } else { Self::Narrow(VecDeque::new()) }
    }
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow(ring) => ring.len(),
            Self::Wide(ring) => ring.len(),
        }
    }
    /// A column that never had a value stays without memory.
    pub(super) fn push(&mut self, value: f64, capacity: usize) {
        if value.is_nan() && self.len() == 0 {
            return;
        }
        match self {
            Self::Narrow(ring) => push_within(ring, value as f32, capacity),
            Self::Wide(ring) => push_within(ring, value, capacity),
        }
    }
    pub(super) fn pop_newest(&mut self) {
        match self {
            Self::Narrow(ring) => drop(ring.pop_back()),
            Self::Wide(ring) => drop(ring.pop_back()),
        }
    }
    /// Counted from the newest, which is 0.
    pub(super) fn counted_back(&self, back: usize) -> f64 {
        let Some(index) = self.len().checked_sub(back + 1) else { return f64::NAN };
        match self {
            Self::Narrow(ring) => f64::from(ring[index]),
            Self::Wide(ring) => ring[index],
        }
    }
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Narrow(ring) => ring.capacity() * size_of::<f32>(),
            Self::Wide(ring) => ring.capacity() * size_of::<f64>(),
        }
    }
}
