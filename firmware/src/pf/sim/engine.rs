//! The simulated pf: rulesets, tables, options, states, counters, and the clock that packets drive. Texts come in
//! already parsed; what they come to is put in force as a whole or not at all. [`super::flow`] takes packets
//! through it. One thread at a time; [`super::Simulator`] holds the lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::evaluate::{Random, Reason, World};
use super::interfaces::{Interfaces, SimInterface};
use super::load::{Options, Plan, Refused, TableNames};
use super::rules::{RuleList, Ruleset, TableRef, What};
use super::state::{Micros, StateTable};
use super::table::{Entry, Table};
use crate::pf::ast;
use crate::pf::packet::Packet;
use crate::pf::{InterfaceCounters, LoadedRule, LoggedPacket};

/// Logged packets that nobody has fetched yet are kept up to this number.
const MAX_LOGGED: usize = 10_000;

/// Which fragments belong together.
pub(super) type FragmentKey = (IpAddr, IpAddr, u8, u32);

/// The packet filter.
#[derive(Debug)]
pub struct Engine {
    pub(super) interfaces: Interfaces,
    pub(super) rulesets: BTreeMap<Arc<str>, Arc<Ruleset>>,
    /// Tables that the rules of each ruleset name.
    named: BTreeMap<Arc<str>, Vec<TableRef>>,
    /// Paths of the inline anchors that a ruleset brought with it.
    inline: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    names: TableNames,
    pub(super) tables: Vec<Option<Table>>,
    pub(super) options: Options,
    pub(super) states: StateTable,
    pub(super) enabled: bool,
    pub(super) reasons: BTreeMap<Reason, u64>,
    pub(super) traffic: BTreeMap<Arc<str>, InterfaceCounters>,
    pub(super) random: Random,
    /// Moment of the latest packet, and when that was on this machine's clock.
    clock: (Micros, Instant),
    pub(super) purged: Micros,
    pub(super) fragments: HashMap<FragmentKey, (Packet, Micros)>,
    /// Connections of a source under a rule (by address of its counters): how many, since when.
    pub(super) rates: HashMap<(usize, IpAddr), (u32, Micros)>,
    pub(super) logged: Vec<LoggedPacket>,
}

impl Default for Engine {
    fn default() -> Self {
        let options = Options::default();
        Self {
            interfaces: Interfaces::default(),
            rulesets: BTreeMap::new(),
            named: BTreeMap::new(),
            inline: BTreeMap::new(),
            names: TableNames::default(),
            tables: Vec::new(),
            states: StateTable::with_limit(options.states as usize),
            options,
            enabled: true,
            reasons: BTreeMap::new(),
            traffic: BTreeMap::new(),
            random: Random::seeded(0x5eed_f00d_cafe_0001),
            clock: (0, Instant::now()),
            purged: 0,
            fragments: HashMap::new(),
            rates: HashMap::new(),
            logged: Vec::new(),
        }
    }
}

impl Engine {
    pub(super) fn world(&self) -> World<'_> {
        World {
            interfaces: &self.interfaces,
            rulesets: &self.rulesets,
            tables: &self.tables,
            states: &self.states,
        }
    }

    // --- the clock

    /// Now, as the packets have it: the latest packet's time and what has passed since.
    pub fn now(&self) -> Micros {
        let passed = i64::try_from(self.clock.1.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.clock.0.saturating_add(passed)
    }

    /// Takes a packet's time; time does not run backwards.
    pub(super) fn advance(&mut self, at: Micros) -> Micros {
        if at >= self.clock.0 {
            self.clock = (at, Instant::now());
        }
        let now = self.clock.0;
        if now - self.purged >= 1_000_000 {
            self.purge(now);
        }
        now
    }

    /// Removes states and fragments that have ended.
    pub fn purge(&mut self, now: Micros) {
        self.purged = now;
        self.states.purge(&self.options.timeouts, now);
        let keep = i64::from(self.options.timeouts.get(ast::Timeout::Frag).unwrap_or(60)) * 1_000_000;
        self.fragments.retain(|_, (_, since)| now - *since < keep);
        if self.rates.len() > 10_000 {
            self.rates.clear();
        }
    }

    // --- the machine

    pub fn set_interfaces(&mut self, list: Vec<SimInterface>) {
        self.interfaces = Interfaces::new(list);
        for ruleset in self.rulesets.values() {
            ruleset.lists().iter().for_each(|list| list.forget());
        }
    }

    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    // --- rulesets

    /// What planning a ruleset needs ([`super::load::plan`]), so that it can be done while packets pass.
    pub fn planning(&self) -> (Interfaces, TableNames) {
        (self.interfaces.clone(), self.names.clone())
    }

    /// Replaces a ruleset as a whole by one planned with [`Engine::planning`]; what is no longer in force is
    /// handed back, to be freed when the lock is gone.
    pub fn install(
        &mut self,
        anchor: &str,
        plan: Plan,
        names: TableNames,
    ) -> Result<Vec<Arc<Ruleset>>, Refused> {
        self.fits(anchor, &plan)?;
        self.names = names;
        self.tables.resize_with(self.names.len().max(self.tables.len()), || None);
        let mut gone = Vec::new();
        let path: Arc<str> = anchor.into();
        if anchor.is_empty() {
            self.options = plan.options;
            self.states.set_limit(self.options.states as usize);
        }
        for setting in plan.tables {
            let table = self.tables[setting.number].get_or_insert_default();
            if let Some(entries) = setting.entries {
                table.replace(entries);
            }
            (table.persist, table.constant) = (setting.persist, setting.constant);
        }
        for old in self.inline.remove(&path).unwrap_or_default() {
            gone.extend(self.rulesets.remove(&old));
        }
        let mut inline = Vec::new();
        for (at, ruleset) in plan.rulesets {
            let at: Arc<str> = at.into();
            if at != path {
                inline.push(at.clone());
            }
            gone.extend(self.rulesets.insert(at, Arc::new(ruleset)));
        }
        if !inline.is_empty() {
            self.inline.insert(path.clone(), inline);
        }
        self.named.insert(path, plan.named);
        self.drop_unused_tables();
        Ok(gone)
    }

    /// Options of the main ruleset as they are in force.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Sets options beside those that are set.
    pub fn set_options<'a>(&mut self, options: impl Iterator<Item = &'a ast::SetOption>) {
        options.for_each(|option| self.options.set(option));
        self.states.set_limit(self.options.states as usize);
    }

    /// Whether there is room for a plan's tables.
    pub fn fits(&self, anchor: &str, plan: &Plan) -> Result<(), Refused> {
        let limit = if anchor.is_empty() { plan.options.table_entries } else { self.options.table_entries };
        let replaced = |number: usize| plan.tables.iter().any(|t| t.number == number && t.entries.is_some());
        let kept: usize = self
            .tables
            .iter()
            .enumerate()
            .filter(|(number, _)| !replaced(*number))
            .filter_map(|(_, table)| table.as_ref().map(Table::len))
            .sum();
        let new: usize = plan.tables.iter().filter_map(|t| t.entries.as_ref().map(Vec::len)).sum();
        if kept + new > limit as usize {
            let message = format!("table entries exceed the limit of {limit} (set limit table-entries)");
            return Err(Refused { line: 0, message });
        }
        Ok(())
    }

    /// Tables that are not persistent go with the last rule that names them.
    fn drop_unused_tables(&mut self) {
        let used: BTreeSet<usize> = self.named.values().flatten().flat_map(|t| [t.own, t.root]).collect();
        for (number, slot) in self.tables.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(|t| !t.persist) && !used.contains(&number) {
                *slot = None;
            }
        }
    }

    /// Translation rules (nat, rdr, binat), then filter rules of a ruleset; `None`: no such ruleset.
    pub fn rules(&self, anchor: &str) -> Option<(Vec<LoadedRule>, Vec<LoadedRule>)> {
        let set = self.rulesets.get(anchor)?;
        let shown = |list: &RuleList| {
            list.rules
                .iter()
                .map(|rule| LoadedRule {
                    text: rule.info.text.to_string(),
                    labels: rule.info.labels.iter().map(ToString::to_string).collect(),
                    evaluations: rule.info.evaluations(),
                    packets: rule.info.packets(),
                    bytes: rule.info.bytes(),
                    states: rule.info.states(),
                })
                .collect::<Vec<_>>()
        };
        let translation = [&set.nat, &set.rdr, &set.binat].into_iter().flat_map(shown).collect();
        Some((translation, shown(&set.filter)))
    }

    /// Anchors that exist: loaded with something, or named by a rule; with the paths above them.
    pub fn anchors(&self) -> Vec<String> {
        let mut found = BTreeSet::new();
        for (path, set) in &self.rulesets {
            if !path.is_empty() && !set.is_empty() {
                found.insert(path.to_string());
            }
            for rule in set.lists().iter().flat_map(|list| &list.rules) {
                if let What::Anchor(call) = &rule.what
                    && !call.path.is_empty()
                {
                    found.insert(call.path.to_string());
                }
            }
        }
        for path in found.clone() {
            let mut rest = path.as_str();
            while let Some((above, _)) = rest.rsplit_once('/') {
                found.insert(above.to_owned());
                rest = above;
            }
        }
        found.into_iter().collect()
    }

    // --- tables

    /// Makes a table of the main ruleset hold exactly these entries; it is made, and stays, if it was not there.
    pub fn replace_table(&mut self, name: &str, entries: Vec<Entry>) -> Result<(), String> {
        let number = self.names.number("", name);
        self.tables.resize_with(self.names.len().max(self.tables.len()), || None);
        if self.tables[number].as_ref().is_some_and(|t| t.constant) {
            return Err(format!("table <{name}> is constant"));
        }
        let others: usize = self
            .tables
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != number)
            .filter_map(|(_, table)| table.as_ref().map(Table::len))
            .sum();
        if others + entries.len() > self.options.table_entries as usize {
            return Err(format!(
                "more than {} table entries (set limit table-entries)",
                self.options.table_entries
            ));
        }
        let table = self.tables[number].get_or_insert_with(Table::persistent);
        table.replace(entries);
        Ok(())
    }

    /// A table of a ruleset (`""` = main).
    pub fn table(&self, anchor: &str, name: &str) -> Option<&Table> {
        self.tables.get(self.names.find(anchor, name)?)?.as_ref()
    }

    /// Names of the main ruleset's tables, sorted.
    pub fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tables
            .iter()
            .enumerate()
            .filter(|(_, table)| table.is_some())
            .filter_map(|(number, _)| self.names.of(number))
            .filter(|(anchor, _)| anchor.is_empty())
            .map(|(_, name)| name.to_owned())
            .collect();
        names.sort();
        names
    }

    // --- the rest

    pub fn states(&self) -> &StateTable {
        &self.states
    }
    pub fn states_mut(&mut self) -> &mut StateTable {
        &mut self.states
    }
    pub fn enabled(&self) -> bool {
        self.enabled
    }
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }
    pub fn reason_count(&self, reason: Reason) -> u64 {
        self.reasons.get(&reason).copied().unwrap_or(0)
    }

    /// Counters of the interfaces that are known or have seen packets, by name.
    pub fn traffic(&self) -> Vec<InterfaceCounters> {
        let mut all = self.traffic.clone();
        for interface in self.interfaces.iter() {
            all.entry(interface.name.as_str().into())
                .or_insert_with(|| InterfaceCounters { name: interface.name.clone(), ..Default::default() });
        }
        all.into_values().collect()
    }

    pub(super) fn log(&mut self, packet: LoggedPacket) {
        if self.logged.len() < MAX_LOGGED {
            self.logged.push(packet);
        }
    }

    /// Packets logged since the last call.
    pub fn take_logged(&mut self) -> Vec<LoggedPacket> {
        std::mem::take(&mut self.logged)
    }
}
