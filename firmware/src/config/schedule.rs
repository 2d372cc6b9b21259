//! Schedules: when a rule is in force (contract/firewall.md §4).

use std::sync::Arc;

use jiff::ToSpan;
use jiff::Zoned;
use jiff::civil::{Date, Time, Weekday};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{List, Refusal, check_text, text_or_none};
use super::{Config, Id, Invalid, Object, Rule, Timestamp};

/// A schedule, in stored form: `time_ranges` as `HH:MM-HH:MM` and `days_of_week`, spelled as sent, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub id: Id,
    pub name: String,
    pub description: Option<String>,
    pub time_ranges: Vec<String>,
    pub days_of_week: Vec<String>,
    pub enabled: bool,
    pub created_at: Timestamp,
}

impl Object for Schedule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.name.as_str().into()]
    }
}

/// All days as answers show them when none were given.
pub const ALL_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTES_PER_DAY: u16 = 24 * 60;

/// One range of minutes since midnight. `end` ≤ `start` runs past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    start: u16,
    end: u16,
}

fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=2).contains(&hour.len()) || minute.len() != 2 || !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn parse_window(text: &str) -> Option<Window> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (parse_time(start)?, parse_time(end)?);
    Some(match (start, end) {
        // Equal ends are the whole day; the last minute as an end is midnight.
        (start, end) if start == end => Window { start: 0, end: MINUTES_PER_DAY },
        (start, end) if end == MINUTES_PER_DAY - 1 => Window { start, end: MINUTES_PER_DAY },
        (start, end) => Window { start, end },
    })
}

/// Monday is 0.
fn parse_day(text: &str) -> Option<usize> {
    ALL_DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()))
}

fn day_number(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

impl Schedule {
    /// Checks what must hold within one schedule.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.name.trim().is_empty() {
            return Err(Invalid::new("name", "expected a name"));
        }
        check_text("name", &self.name, 64)?;
        if let Some(description) = &self.description {
            check_text("description", description, 255)?;
        }
        if self.time_ranges.is_empty() {
            return Err(Invalid::new("time_ranges", "expected at least one range such as 08:00-17:00"));
        }
        if let Some(bad) = self.time_ranges.iter().find(|text| parse_window(text).is_none()) {
            return Err(Invalid::new(
                "time_ranges",
                format!("expected a range such as 08:00-17:00, not {bad:?}"),
            ));
        }
        if let Some(bad) = self.days_of_week.iter().find(|text| parse_day(text).is_none()) {
            return Err(Invalid::new(
                "days_of_week",
                format!("expected mon, tue, wed, thu, fri, sat or sun, not {bad:?}"),
            ));
        }
        Ok(())
    }

    /// Whether rules with this schedule are in force at a moment, which brings its time zone along. A window
    /// includes its start and not its end; past midnight it belongs to the day it began.
    pub fn is_open(&self, at: &Zoned) -> bool {
        let minute = u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        let today = day_number(at.weekday());
        let yesterday = (today + 6) % 7;
        self.enabled
            && self.windows().any(|window| {
                if window.start < window.end {
                    self.has_day(today) && (window.start..window.end).contains(&minute)
                } else {
                    (self.has_day(today) && minute >= window.start)
                        || (self.has_day(yesterday) && minute < window.end)
                }
            })
    }

    /// The next moment after `after` at which [`Schedule::is_open`] changes; `None` if it never does.
    pub fn next_change(&self, after: &Zoned) -> Option<Zoned> {
        let now = self.is_open(after);
        let mut edges: Vec<u16> = vec![0];
        edges.extend(self.windows().flat_map(|window| [window.start, window.end % MINUTES_PER_DAY]));
        edges.sort_unstable();
        edges.dedup();
        let first: Date = after.date();
        (0..=8)
            .filter_map(|days| first.checked_add(days.days()).ok())
            .flat_map(|day| edges.iter().map(move |edge| (day, *edge)))
            .filter_map(|(day, edge)| {
                // Below 1440, so both fit.
                let time = Time::new((edge / 60) as i8, (edge % 60) as i8, 0, 0).ok()?;
                day.to_datetime(time).to_zoned(after.time_zone().clone()).ok()
            })
            .find(|moment| moment > after && self.is_open(moment) != now)
    }

    fn windows(&self) -> impl Iterator<Item = Window> {
        self.time_ranges.iter().filter_map(|text| parse_window(text))
    }

    fn has_day(&self, day: usize) -> bool {
        self.days_of_week.is_empty() || self.days_of_week.iter().any(|text| parse_day(text) == Some(day))
    }
}

/// Body of POST and PUT (contract/firewall.md §4); PUT replaces as a whole. Lists may be arrays or one string
/// with commas.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ScheduleRequest {
    pub name: String,
    #[serde(default, deserialize_with = "text_or_none")]
    pub description: Option<String>,
    pub time_ranges: List,
    pub days_of_week: Option<List>,
    pub enabled: Option<bool>,
}

impl ScheduleRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<Schedule, Refusal> {
        self.build(Id::new_v4(), now, config)
    }

    pub fn replace(self, stored: &Schedule, config: &Config) -> Result<Schedule, Refusal> {
        self.build(stored.id, stored.created_at, config)
    }

    fn build(self, id: Id, created_at: Timestamp, config: &Config) -> Result<Schedule, Refusal> {
        let mut days = self.days_of_week.unwrap_or_default().0;
        if days.is_empty() {
            days = ALL_DAYS.map(str::to_owned).to_vec();
        }
        let schedule = Schedule {
            id,
            name: self.name.trim().to_owned(),
            description: self.description,
            time_ranges: self.time_ranges.0,
            days_of_week: days,
            enabled: self.enabled.unwrap_or(true),
            created_at,
        };
        schedule.check()?;
        let mut schedule = schedule;
        schedule.days_of_week.sort_by_key(|day| parse_day(day));
        schedule.days_of_week.dedup_by_key(|day| parse_day(day));
        if config.schedules.find(&schedule.name).any(|other| other.id != id) {
            return Err(Refusal::Conflict(format!("name: there is already a schedule {:?}", schedule.name)));
        }
        Ok(schedule)
    }
}

/// Whether a rule of `config` is bound to the schedule.
pub fn is_used(config: &Config, schedule: &Id) -> bool {
    config.rules.find(&schedule.to_string()).next().is_some()
}

/// Frees the rules that are bound to a schedule.
pub fn unbind(config: &mut Config, schedule: &Id) {
    let bound: Vec<Rule> = config.rules.find(&schedule.to_string()).map(|rule| (**rule).clone()).collect();
    for rule in bound {
        config.rules.insert(Rule { schedule_id: None, ..rule });
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
