#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn second(pairs: &[(Name, f64)]) -> Values {
    let mut values = Values::default();
    pairs.iter().for_each(|(name, value)| values.set(*name, *value));
    values
}

/// Seconds 1000, 1001 … with `pf.states` = 0, 1 … and `traffic.bps_in` the same.
fn ramp(seconds: u32) -> SeriesStore {
    let mut store = SeriesStore::default();
    for n in 0..seconds {
        let v = f64::from(n);
        store.record(1000 + n, &second(&[(Name::PfStates, v), (Name::TrafficBpsIn, v)]));
    }
    store
}

#[test]
fn names_are_27_and_sorted() {
    let names: Vec<&str> = Name::ALL.iter().map(|name| name.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    assert_eq!(COUNT, 27);
    for name in Name::ALL {
        assert_eq!(name.as_str().parse::<Name>().unwrap(), *name);
    }
    assert_eq!("nope".parse::<Name>(), Err(UnknownSeries("nope".into())));
}

#[test]
fn ten_live_points_fold_into_one_short_point() {
    let store = ramp(25);
    let (tier, points) = store.points(Name::TrafficBpsIn, 21_600, None);
    assert_eq!((tier.name, tier.interval_secs), ("short", 10));
    assert_eq!(
        points,
        [Point { t: 1009, v: 4.5, min: 0.0, max: 9.0 }, Point { t: 1019, v: 14.5, min: 10.0, max: 19.0 }]
    );
    // A count is not averaged: the newest sample stands for the interval.
    let (_, points) = store.points(Name::PfStates, 21_600, None);
    assert_eq!(points.iter().map(|point| point.v).collect::<Vec<_>>(), [9.0, 19.0]);
}

#[test]
fn six_short_points_fold_into_one_mid_point_and_five_of_those_into_one_long_point() {
    let store = ramp(600);
    let (tier, points) = store.points(Name::TrafficBpsIn, 86_400, None);
    assert_eq!((tier.name, tier.interval_secs, points.len()), ("mid", 60, 10));
    assert_eq!(points[0], Point { t: 1059, v: 29.5, min: 0.0, max: 59.0 });
    let (tier, points) = store.points(Name::TrafficBpsIn, 2_592_000, None);
    assert_eq!((tier.name, tier.interval_secs), ("long", 300));
    assert_eq!(
        points,
        [
            Point { t: 1299, v: 149.5, min: 0.0, max: 299.0 },
            Point { t: 1599, v: 449.5, min: 300.0, max: 599.0 }
        ]
    );
}

#[test]
fn averages_are_weighted_by_the_number_of_samples() {
    let mut store = SeriesStore::default();
    // Ten seconds of which only two have a value (0), then fifty with 60 each: 52 samples in the minute.
    for n in 0..60u32 {
        let values = match n {
            0 | 1 => second(&[(Name::TrafficPpsIn, 0.0)]),
            2..10 => second(&[]),
            _ => second(&[(Name::TrafficPpsIn, 52.0)]),
        };
        store.record(5000 + n, &values);
    }
    let (_, points) = store.points(Name::TrafficPpsIn, 86_400, None);
    assert_eq!(points.len(), 1);
    assert!((points[0].v - 50.0).abs() < 1e-4, "{points:?}");
    assert_eq!((points[0].min, points[0].max), (0.0, 52.0));
}

#[test]
fn a_gap_ends_the_interval_and_is_not_filled() {
    let mut store = SeriesStore::default();
    for t in [100, 101, 102] {
        store.record(t, &second(&[(Name::TrafficBpsIn, 6.0)]));
    }
    for t in 500..510 {
        store.record(t, &second(&[(Name::TrafficBpsIn, 1.0)]));
    }
    let (_, points) = store.points(Name::TrafficBpsIn, 21_600, None);
    assert_eq!(
        points,
        [Point { t: 102, v: 6.0, min: 6.0, max: 6.0 }, Point { t: 509, v: 1.0, min: 1.0, max: 1.0 }]
    );
}

#[test]
fn a_clock_set_back_drops_what_is_now_the_future() {
    let mut store = ramp(30);
    store.record(1005, &second(&[(Name::PfStates, 77.0)]));
    let (_, points) = store.points(Name::PfStates, 1800, None);
    let times: Vec<u32> = points.iter().map(|point| point.t).collect();
    assert_eq!(times, [1000, 1001, 1002, 1003, 1004, 1005]);
    assert_eq!(points.last().unwrap().v, 77.0);
}

#[test]
fn rings_keep_their_newest_points_only() {
    let store = ramp(2000);
    let (_, points) = store.points(Name::PfStates, 1800, None);
    assert_eq!((points.len(), points[0].t, points[1799].t), (1800, 1200, 2999));
    assert_eq!(store.points(Name::PfStates, 1800, Some(5)).1.len(), 5);
    assert_eq!(store.points(Name::PfStates, 7, None).1.len(), 7);
    assert!(store.points(Name::PfStates, 0, None).1.is_empty());
    // Asked for 11 s of a 10 s tier would be two points: rounded up.
    assert!(store.points(Name::ThreatsDdos, 1800, None).1.is_empty());
}

#[test]
fn cumulative_counters_keep_every_byte() {
    let mut store = SeriesStore::default();
    let counter = 987_654_321_012_345.0;
    store.record(10, &second(&[(Name::PfBytesIn, counter)]));
    assert_eq!(store.points(Name::PfBytesIn, 1800, None).1[0].v, counter);
}

#[test]
fn numbers_that_are_not_finite_are_no_samples() {
    let mut store = SeriesStore::default();
    store.record(10, &second(&[(Name::PfStates, f64::NAN), (Name::ConnTcp, f64::INFINITY)]));
    assert!(store.points(Name::PfStates, 1800, None).1.is_empty());
    assert!(store.points(Name::ConnTcp, 1800, None).1.is_empty());
}

#[test]
fn full_rings_of_every_series_stay_below_9_mb() {
    let mut store = SeriesStore::default();
    let mut all = Values::default();
    Name::ALL.iter().for_each(|name| all.set(*name, 1.0));
    let row: Row = [Folded::sample(1.0); COUNT];
    for tier in &mut store.tiers {
        (0..tier.spec().capacity as u32 + 10).for_each(|t| tier.push(t, &row));
    }
    assert!(store.heap_bytes() < 9_000_000, "{}", store.heap_bytes());
    assert_eq!(SeriesStore::default().heap_bytes(), 0);
}

#[test]
fn series_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("series");
    let store = ramp(3607);
    file::write(&path, &file::encode(&store)).unwrap();
    let mut back = file::read(&path, 10_000).unwrap();
    for name in Name::ALL {
        for range in [1800, 21_600, 604_800, 2_592_000] {
            assert_eq!(back.points(*name, range, None), store.points(*name, range, None), "{name:?} {range}");
        }
    }
    // The interval that was open goes on: three more seconds make its tenth sample.
    for n in 3607..3610 {
        back.record(1000 + n, &second(&[(Name::TrafficBpsIn, f64::from(n))]));
    }
    let newest = *back.points(Name::TrafficBpsIn, 21_600, None).1.last().unwrap();
    assert_eq!((newest.t, newest.min, newest.max), (4609, 3600.0, 3609.0));
    assert!(!dir.path().join("series.new").exists());
}

#[test]
fn damaged_files_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("series");
    file::write(&path, &file::encode(&ramp(100))).unwrap();
    let good = std::fs::read(&path).unwrap();
    for (index, expected) in [(0, "not a file"), (10, "version"), (20, "checksum"), (60, "checksum")] {
        let mut bad = good.clone();
        bad[index] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        let error = file::read(&path, 10_000).unwrap_err().to_string();
        assert!(error.contains(expected), "{index}: {error}");
    }
    for cut in [0, 5, 12, 40, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).unwrap();
        assert!(file::read(&path, 10_000).is_err(), "cut at {cut}");
    }
    std::fs::write(&path, &good).unwrap();
    let early = file::read(&path, 1049).unwrap();
    assert_eq!(early.points(Name::PfStates, 1800, None).1.last().unwrap().t, 1050);
}
