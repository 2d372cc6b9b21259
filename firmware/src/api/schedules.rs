//! `/schedules`: when rules are in force (contract/firewall.md §4).

use schemars::JsonSchema;
use serde::Serialize;

use super::resource::{Data, InEffect, Lists, Resource, Written, collection, config_changed};
use super::{App, Route};
use crate::compile::Environment;
use crate::config::schedule::{self, ScheduleRequest};
use crate::config::{Collection, Config, Id, Permission, Refusal, Schedule, Timestamp};
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    collection::<Schedules>(&Lists::new())
}

/// A schedule as answers show it: its lists as text with commas.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ScheduleView<'a> {
    id: Id,
    name: &'a str,
    description: Option<&'a str>,
    time_ranges: String,
    days_of_week: String,
    enabled: bool,
    created_at: Timestamp,
}

/// Schedules.
pub struct Schedules;

impl Resource for Schedules {
    type Object = Schedule;
    type Request = ScheduleRequest;
    type View<'a> = ScheduleView<'a>;
    type Schema = InEffect<ScheduleView<'static>>;
    type Answer = Data<Self::Schema>;
    type Context = ();
    type Order = (String, Id);

    const PATHS: (&'static str, &'static str) = ("/schedules", "/schedules/{id}");
    const NOUN: &'static str = "schedule";
    const SUMMARIES: [&'static str; 5] = [
        "Schedules, by name",
        "Add a schedule",
        "A schedule",
        "Replace a schedule",
        "Delete a schedule; its rules are then bound to none",
    ];
    const READ: Permission = Permission::RulesRead;
    const WRITE: Permission = Permission::RulesWrite;
    const HAS_GET: bool = false;
    const BAD_ID: u16 = 404;

    fn collection(config: &Config) -> &Collection<Schedule> {
        &config.schedules
    }
    fn collection_mut(config: &mut Config) -> &mut Collection<Schedule> {
        &mut config.schedules
    }
    fn create(request: ScheduleRequest, now: Timestamp, config: &Config) -> Result<Schedule, Refusal> {
        request.create(now, config)
    }
    fn replace(
        request: ScheduleRequest,
        stored: &Schedule,
        _: Timestamp,
        config: &Config,
    ) -> Result<Schedule, Refusal> {
        request.replace(stored, config)
    }
    fn follow(config: &mut Config, written: &Written<Schedule>) {
        if let Written::Removed(gone) = written {
            schedule::unbind(config, &gone.id);
        }
    }
    fn order(schedule: &Schedule) -> Self::Order {
        (schedule.name.clone(), schedule.id)
    }
    async fn context(_: &App) {}
    fn view<'a>(schedule: &'a Schedule, _: &'a ()) -> ScheduleView<'a> {
        ScheduleView {
            id: schedule.id,
            name: &schedule.name,
            description: schedule.description.as_deref(),
            time_ranges: schedule.time_ranges.join(","),
            days_of_week: schedule.days_of_week.join(","),
            enabled: schedule.enabled,
            created_at: schedule.created_at,
        }
    }
    fn audit(author: &Author, written: &Written<Schedule>, _: &Draft, _: &Environment) -> NewAudit {
        config_changed(author, format!("schedule {:?} {}", written.object().name, written.word()))
    }
    fn deleted(id: &Id) -> String {
        format!("Schedule {id} deleted")
    }
}
