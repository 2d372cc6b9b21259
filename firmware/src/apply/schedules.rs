//! Schedules in force: which windows are open, and what to do when that changes.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::config::{Config, Id, Timestamp};

/// The system's time zone; UTC where the stored name is unknown.
pub fn time_zone(config: &Config) -> TimeZone {
    TimeZone::get(&config.system.timezone).unwrap_or(TimeZone::UTC)
}

/// Schedules whose window is open at a moment.
pub fn open(config: &Config, at: Timestamp) -> BTreeSet<Id> {
    let local = at.to_zoned(time_zone(config));
    config.schedules.iter().filter(|schedule| schedule.is_open(&local)).map(|schedule| schedule.id).collect()
}

/// Active rules whose window was open in `before` and is not in `after`.
pub fn closed_rules(config: &Config, before: &BTreeSet<Id>, after: &BTreeSet<Id>) -> Vec<Id> {
    config
        .rules
        .iter()
        .filter(|rule| rule.schedule_id.is_some_and(|id| before.contains(&id) && !after.contains(&id)))
        .map(|rule| rule.id)
        .collect()
}
