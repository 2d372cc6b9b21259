//! Which areas of two configurations compile to different things, without compiling both: only what differs
//! between them is looked at, so that the answer after a write costs what was written.

use std::collections::BTreeSet;

use super::{Context, Environment, Output, filter, main_ruleset, nat};
use crate::config::{Alias, Config, GeoIpRule, Id, NatRule, Rule, Schedule, Status};
use crate::pf::ast::Item;

/// Areas that an apply would change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differs {
    /// Filter rules, tables, countries, the main ruleset, and schedules that rules use.
    pub firewall: bool,
    pub nat: bool,
}

/// Compares what would be loaded. Moments do not count: a rule whose window is closed now differs if its line
/// in an open window would.
pub fn differs(applied: &Config, stored: &Config, environment: &Environment) -> Differs {
    if applied.rules.same(&stored.rules)
        && applied.nat.same(&stored.nat)
        && applied.aliases.same(&stored.aliases)
        && applied.schedules.same(&stored.schedules)
        && applied.geoip.same(&stored.geoip)
        && applied.system == stored.system
        && applied.firewall == stored.firewall
    {
        return Differs::default();
    }
    let before = Context::new(applied, environment);
    let after = Context::new(stored, environment);
    Differs {
        firewall: main_differs(&before, &after)
            || aliases_differ(applied, stored)
            || geoip_differs(applied, stored)
            || schedules_differ(applied, stored)
            || rules_differ(&before, &after),
        nat: nat_differs(&before, &after),
    }
}

fn main_differs(before: &Context<'_>, after: &Context<'_>) -> bool {
    if before.config.system == after.config.system && before.config.firewall == after.config.firewall {
        return false;
    }
    let main = |context| main_ruleset::ruleset(context, &mut Output::default());
    main(before) != main(after)
}

fn aliases_differ(applied: &Config, stored: &Config) -> bool {
    fn effect(alias: &Alias) -> (&str, crate::config::AliasKind, &[String], bool) {
        (alias.name.as_str(), alias.alias_type, &alias.entries, alias.enabled)
    }
    stored
        .aliases
        .changes_since(&applied.aliases)
        .any(|change| change.before.as_deref().map(effect) != change.after.as_deref().map(effect))
}

fn geoip_differs(applied: &Config, stored: &Config) -> bool {
    let effect = |rule: &GeoIpRule| {
        (rule.status == Status::Active).then(|| (rule.country.clone(), rule.action, rule.label.clone()))
    };
    stored
        .geoip
        .changes_since(&applied.geoip)
        .any(|change| change.before.as_deref().and_then(effect) != change.after.as_deref().and_then(effect))
}

fn schedules_differ(applied: &Config, stored: &Config) -> bool {
    let windows =
        |schedule: &Schedule| (schedule.time_ranges.clone(), schedule.days_of_week.clone(), schedule.enabled);
    let changed: BTreeSet<Id> = stored
        .schedules
        .changes_since(&applied.schedules)
        .filter(|change| change.before.as_deref().map(windows) != change.after.as_deref().map(windows))
        .map(|change| change.key)
        .collect();
    let uses = |config: &Config| {
        config.rules.iter().any(|rule| rule.schedule_id.is_some_and(|schedule| changed.contains(&schedule)))
    };
    !changed.is_empty() && (uses(applied) || uses(stored))
}

fn rules_differ(before: &Context<'_>, after: &Context<'_>) -> bool {
    let mut moved = false;
    for change in after.config.rules.changes_since(&before.config.rules) {
        let effect = |context: &Context<'_>, rule: &Rule| {
            (rule.status == Status::Active).then(|| {
                let line = filter::line(context, rule).map(|(line, _)| line);
                (line, rule.schedule_id)
            })
        };
        let was = change.before.as_deref().and_then(|rule| effect(before, rule));
        let is = change.after.as_deref().and_then(|rule| effect(after, rule));
        if was != is {
            return true;
        }
        if let (Some(was), Some(is)) = (&change.before, &change.after) {
            moved |= was.order() != is.order();
        }
    }
    moved && order(before.config) != order(after.config)
}

/// Active rules in order of evaluation.
fn order(config: &Config) -> Vec<Id> {
    let active = config.rules.iter().filter(|rule| rule.status == Status::Active);
    let mut order: Vec<_> = active.map(|rule| rule.order()).collect();
    order.sort_unstable();
    order.into_iter().map(|(.., id)| id).collect()
}

fn nat_differs(before: &Context<'_>, after: &Context<'_>) -> bool {
    let mut moved = false;
    for change in after.config.nat.changes_since(&before.config.nat) {
        let effect = |context: &Context<'_>, rule: &NatRule| {
            (rule.status == Status::Active)
                .then(|| nat::lines(context, rule).map(|lines| lines.items().collect::<Vec<Item>>()))
        };
        let was = change.before.as_deref().and_then(|rule| effect(before, rule));
        let is = change.after.as_deref().and_then(|rule| effect(after, rule));
        if was != is {
            return true;
        }
        if let (Some(was), Some(is)) = (&change.before, &change.after) {
            moved |= was.position != is.position;
        }
    }
    moved && nat_order(before.config) != nat_order(after.config)
}

fn nat_order(config: &Config) -> Vec<Id> {
    let active = config.nat.iter().filter(|rule| rule.status == Status::Active);
    let mut order: Vec<_> = active.map(|rule| (rule.position, rule.id)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, id)| id).collect()
}
