//! Schedule requests, and when windows are open.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::config::request;

fn create_in(config: &Config, body: Value) -> Result<Schedule, Refusal> {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    request::from_value::<ScheduleRequest>(body).map_err(Refusal::from)?.create(now, config)
}

fn schedule(ranges: &str, days: &str) -> Schedule {
    create_in(&Config::default(), json!({"name": "s", "time_ranges": ranges, "days_of_week": days})).unwrap()
}

/// 2026-03-02 is a Monday.
fn at(text: &str) -> Zoned {
    format!("{text}[Europe/Vienna]").parse().unwrap()
}

#[test]
fn requests() {
    let both = create_in(
        &Config::default(),
        json!({"name": " office ", "time_ranges": ["8:00-12:00", "13:00-17:00"], "days_of_week": ["Tue", "Mon", "mon"]}),
    )
    .unwrap();
    assert_eq!(both.name, "office");
    assert_eq!(both.time_ranges, ["8:00-12:00", "13:00-17:00"]);
    assert_eq!(both.days_of_week, ["Mon", "Tue"]);
    assert_eq!(schedule("00:00-23:59", "").days_of_week.join(","), "Mon,Tue,Wed,Thu,Fri,Sat,Sun");
    for (body, field) in [
        (json!({"name": "x", "time_ranges": "not-a-time"}), "time_ranges"),
        (json!({"name": "x", "time_ranges": ""}), "time_ranges"),
        (json!({"name": "x", "time_ranges": []}), "time_ranges"),
        (json!({"name": "x", "time_ranges": "08:00"}), "time_ranges"),
        (json!({"name": "x", "time_ranges": "08:00-12:00-13:00"}), "time_ranges"),
        (json!({"name": "x", "time_ranges": "24:00-25:00"}), "time_ranges"),
        (json!({"name": "x", "time_ranges": "08:00-9:5"}), "time_ranges"),
        (json!({"name": "x", "time_ranges": 5}), "time_ranges"),
        (
            json!({"name": "x", "time_ranges": "08:00-09:00", "days_of_week": "monday,notaday"}),
            "days_of_week",
        ),
        (json!({"name": " ", "time_ranges": "08:00-09:00"}), "name"),
        (json!({"name": "x".repeat(65), "time_ranges": "08:00-09:00"}), "name"),
        (json!({"time_ranges": "08:00-09:00"}), "body"),
    ] {
        let text = create_in(&Config::default(), body.clone()).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{field}: ")), "{body} gave {text}");
    }
    let mut config = Config::default();
    config.schedules.insert(both);
    let again = create_in(&config, json!({"name": "office", "time_ranges": "08:00-09:00"}));
    assert!(matches!(again, Err(Refusal::Conflict(_))));
}

#[test]
fn a_window_includes_its_start_and_not_its_end() {
    let office = schedule("08:00-17:00", "mon,tue");
    assert!(!office.is_open(&at("2026-03-02T07:59:59")));
    assert!(office.is_open(&at("2026-03-02T08:00:00")));
    assert!(office.is_open(&at("2026-03-02T16:59:59")));
    assert!(!office.is_open(&at("2026-03-02T17:00:00")));
    assert!(!office.is_open(&at("2026-03-04T12:00:00")));
    assert!(!Schedule { enabled: false, ..office }.is_open(&at("2026-03-02T12:00:00")));
}

#[test]
fn past_midnight_belongs_to_the_day_it_began() {
    let night = schedule("22:00-06:00", "fri");
    assert!(night.is_open(&at("2026-03-06T23:00:00")));
    assert!(night.is_open(&at("2026-03-07T05:59:00")));
    assert!(!night.is_open(&at("2026-03-06T05:00:00")));
    assert!(!night.is_open(&at("2026-03-07T22:30:00")));
    let late = schedule("22:00-00:00", "sun");
    assert!(late.is_open(&at("2026-03-08T23:59:59")));
    assert!(!late.is_open(&at("2026-03-09T00:00:00")));
}

#[test]
fn last_minute_is_midnight_and_equal_ends_the_whole_day() {
    let evening = schedule("18:00-23:59", "mon");
    assert!(evening.is_open(&at("2026-03-02T23:59:59")));
    assert!(!evening.is_open(&at("2026-03-03T00:00:00")));
    let day = schedule("08:00-08:00", "mon");
    assert!(day.is_open(&at("2026-03-02T00:00:00")));
    assert!(day.is_open(&at("2026-03-02T23:59:00")));
    assert!(!day.is_open(&at("2026-03-03T07:00:00")));
}

#[test]
fn next_change_is_when_it_opens_or_closes() {
    let office = schedule("08:00-12:00,13:00-17:00", "mon,tue,wed,thu,fri");
    let next = |schedule: &Schedule, from: &str| {
        schedule.next_change(&at(from)).map(|moment| moment.datetime().to_string())
    };
    assert_eq!(next(&office, "2026-03-02T07:00:00").unwrap(), "2026-03-02T08:00:00");
    assert_eq!(next(&office, "2026-03-02T08:00:00").unwrap(), "2026-03-02T12:00:00");
    assert_eq!(next(&office, "2026-03-06T17:00:00").unwrap(), "2026-03-09T08:00:00");
    let joined = schedule("08:00-12:00,12:00-17:00", "mon");
    assert_eq!(next(&joined, "2026-03-02T09:00:00").unwrap(), "2026-03-02T17:00:00");
    assert_eq!(next(&joined, "2026-03-02T17:00:00").unwrap(), "2026-03-09T08:00:00");
    assert_eq!(next(&schedule("00:00-23:59", ""), "2026-03-02T09:00:00"), None);
    assert_eq!(next(&Schedule { enabled: false, ..office }, "2026-03-02T07:00:00"), None);
}

#[test]
fn a_skipped_hour_is_not_waited_for_twice() {
    // 2026-03-29, a Sunday: Vienna goes from 02:00 to 03:00.
    let gap = schedule("02:30-04:00", "sun");
    let open = gap.next_change(&at("2026-03-29T01:00:00")).unwrap();
    assert_eq!(open.to_string(), "2026-03-29T03:30:00+02:00[Europe/Vienna]");
    assert!(gap.is_open(&open));
}

#[test]
fn removing_frees_the_rules() {
    let mut config = Config::default();
    let office = schedule("08:00-17:00", "mon");
    config.schedules.insert(office.clone());
    let body = json!({"action": "pass", "direction": "in", "protocol": "any", "schedule_id": office.id});
    let rule = request::from_value::<crate::config::rule::RuleRequest>(body)
        .unwrap()
        .create(office.created_at, &config)
        .unwrap();
    config.rules.insert(rule.clone());
    assert!(is_used(&config, &office.id));
    config.schedules.remove(&office.id);
    unbind(&mut config, &office.id);
    assert_eq!(config.rules.get(&rule.id).unwrap().schedule_id, None);
    assert!(!is_used(&config, &office.id));
}
