//! One ring of points for all series: the times once, the values per series.

use std::collections::VecDeque;

use super::column::{Column, push_within};
use super::fold::{Folded, Row};
use super::{Name, Point, TierSpec};

/// `min` and `max` are left out in the finest tier, where they equal the value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    pub(super) v: Column,
    pub(super) range: Option<(Column, Column)>,
}

#[derive(Debug)]
pub(super) struct Tier {
    spec: TierSpec,
    pub(super) times: VecDeque<u32>,
    /// In the order of [`Name::ALL`].
    pub(super) tracks: Vec<Track>,
}

impl Tier {
    pub(super) fn new(spec: TierSpec) -> Self {
        let with_range = spec.interval_secs > 1;
        let track = |name: &Name| Track {
            v: Column::new(name.is_wide()),
            range: with_range.then(|| (Column::new(name.is_wide()), Column::new(name.is_wide()))),
        };
        Self { spec, times: VecDeque::new(), tracks: Name::ALL.iter().map(track).collect() }
    }
    pub(super) fn spec(&self) -> TierSpec {
        self.spec
    }
    pub(super) fn newest(&self) -> Option<u32> {
        self.times.back().copied()
    }
    pub(super) fn push(&mut self, t: u32, row: &Row) {
        let capacity = self.spec.capacity;
        push_within(&mut self.times, t, capacity);
        for (track, folded) in self.tracks.iter_mut().zip(row) {
            track.push(folded, capacity);
        }
    }
    pub(super) fn forget_from(&mut self, t: u32) {
        while self.newest().is_some_and(|newest| newest >= t) {
            self.times.pop_back();
            self.tracks.iter_mut().for_each(Track::pop_newest);
        }
    }
    /// The newest `most` points, oldest first; moments without a sample of this series give none.
    pub(super) fn newest_points(&self, name: Name, most: usize) -> Vec<Point> {
        let track = &self.tracks[name as usize];
        let mut points: Vec<Point> = (0..self.times.len().min(most))
            .filter_map(|back| {
                let t = self.times[self.times.len() - 1 - back];
                track.counted_back(back).map(|(v, min, max)| Point { t, v, min, max })
            })
            .collect();
        points.reverse();
        points
    }
    pub(super) fn heap_bytes(&self) -> usize {
        self.times.capacity() * size_of::<u32>() + self.tracks.iter().map(Track::heap_bytes).sum::<usize>()
    }
}

impl Track {
    pub(super) fn push(&mut self, folded: &Folded, capacity: usize) {
        self.v.push(folded.v, capacity);
        if let Some((min, max)) = &mut self.range {
            min.push(folded.min, capacity);
            max.push(folded.max, capacity);
        }
    }
    fn pop_newest(&mut self) {
        self.v.pop_newest();
        if let Some((min, max)) = &mut self.range {
            min.pop_newest();
            max.pop_newest();
        }
    }
    fn counted_back(&self, back: usize) -> Option<(f64, f64, f64)> {
        let v = self.v.counted_back(back);
        let (min, max) = match &self.range {
            Some((min, max)) => (min.counted_back(back), max.counted_back(back)),
            None => (v, v),
        };
        (!v.is_nan()).then_some((v, min, max))
    }
    fn heap_bytes(&self) -> usize {
        let range = self.range.as_ref().map_or(0, |(min, max)| min.heap_bytes() + max.heap_bytes());
        self.v.heap_bytes() + range
    }
}
