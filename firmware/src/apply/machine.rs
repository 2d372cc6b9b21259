//! The effects: what a configuration compiles to is checked as a whole, then loaded step by step; when a step
//! fails, what was loaded before is loaded again. Blocking; called through `blocking::unblock`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::url_tables::UrlTables;
use super::{ApplyError, Report, Step};
use crate::compile::{self, Environment, InterfaceFacts};
use crate::config::{Alias, AliasKind, Config, Id, TableName, Timestamp};
use crate::pf::sim::explain::BadQuestion;
use crate::pf::sim::{Explanation, Question, SimInterface, Simulator};
use crate::pf::{LoadedRule, Pf, PfError};
use crate::platform::Platform;
use crate::platform::geoip::GeoIp;

/// Why a packet was not explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Question(#[from] BadQuestion),
    #[error("interface: expected one of this machine's, there is no {0:?}")]
    NoInterface(String),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The machine and what was last loaded into it.
pub struct Machine {
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
    pub geoip: Arc<GeoIp>,
    pub url_tables: Arc<UrlTables>,
    /// Files that rules name are written below this folder: `/` on the appliance.
    root: PathBuf,
    loaded: Mutex<Loaded>,
    /// What `explain` asks, built for what is loaded when it is first asked.
    oracle: Mutex<Option<(u64, Arc<Simulator>)>>,
}

/// What pf was last given, for the way back.
#[derive(Debug, Clone, Default)]
struct Loaded {
    main: Option<String>,
    anchors: BTreeMap<String, String>,
    /// What pf showed of each after its load, hashed; the main ruleset's name is empty.
    held: BTreeMap<String, u64>,
    /// Table → hash of its entries, so that an unchanged table costs nothing.
    tables: BTreeMap<TableName, u64>,
    /// Counts loads.
    generation: u64,
    /// What was loaded last, whole.
    compiled: Compiled,
}

/// Everything a configuration means for pf, as text.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    pub main: String,
    /// In load order.
    pub anchors: Vec<(String, String)>,
    pub tables: Vec<(TableName, Vec<String>)>,
    /// Files that the text names: path and lines.
    pub files: Vec<(String, Vec<String>)>,
    pub warnings: Vec<String>,
}

impl Loaded {
    /// A table that changed without a load.
    fn remember_table(&mut self, name: &TableName, entries: Vec<String>) {
        match self.compiled.tables.iter_mut().find(|(known, _)| known == name) {
            Some((_, held)) => *held = entries,
            None => self.compiled.tables.push((name.clone(), entries)),
        }
        self.generation += 1;
    }
}

fn step_error(step: &str, reason: impl std::fmt::Display) -> ApplyError {
    ApplyError::Step { step: step.into(), reason: reason.to_string() }
}

/// The name a step has in reports and errors.
pub fn step_name(anchor: &str) -> &str {
    match anchor {
        "aifw" => "filter",
        "aifw-nat" => "nat",
        other => other.strip_prefix("aifw-").unwrap_or(other),
    }
}

/// The alias whose table has this name.
fn table_named<'a>(config: &'a Config, name: &TableName) -> Option<&'a Arc<Alias>> {
    config.aliases.find(name.as_str()).find(|alias| alias.alias_type.is_table())
}

fn hash_of(entries: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    entries.hash(&mut hasher);
    hasher.finish()
}

/// Of the rules' texts; their counters do not count.
fn held_hash((translation, filter): &(Vec<LoadedRule>, Vec<LoadedRule>)) -> u64 {
    let mut hasher = DefaultHasher::new();
    translation.iter().chain(filter).for_each(|rule| rule.text.hash(&mut hasher));
    (translation.len(), filter.len()).hash(&mut hasher);
    hasher.finish()
}

impl Machine {
    pub fn new(
        pf: Arc<dyn Pf>,
        platform: Arc<dyn Platform>,
        geoip: Arc<GeoIp>,
        url_tables: Arc<UrlTables>,
        root: PathBuf,
    ) -> Self {
        Self { pf, platform, geoip, url_tables, root, loaded: Mutex::default(), oracle: Mutex::default() }
    }

    /// What the pure compiler must know of the world at a moment.
    pub fn environment(&self, config: &Config, at: Timestamp) -> Environment {
        let interfaces = self.platform.interfaces().unwrap_or_else(|error| {
            log::warn!("interfaces: {error}");
            Vec::new()
        });
        let facts = interfaces
            .into_iter()
            .filter_map(|interface| InterfaceFacts::of(&interface.name, &interface.addresses));
        let geoip = self.geoip.clone();
        Environment {
            interfaces: facts.collect(),
            open_schedules: super::schedules::open(config, at),
            countries: Arc::new(move |country: &str| geoip.networks(country)),
        }
    }

    /// Compiles and prints. Errors name the object that cannot be compiled.
    pub fn compile(&self, config: &Config) -> Result<Compiled, ApplyError> {
        self.compile_at(config, config, Timestamp::now())
    }

    /// As [`Machine::compile`], with the schedules that are open at `at`, and the tables of `stored`: aliases
    /// act when they are written, not when they are applied.
    pub fn compile_at(
        &self,
        config: &Config,
        stored: &Config,
        at: Timestamp,
    ) -> Result<Compiled, ApplyError> {
        let environment = self.environment(config, at);
        let firewall =
            compile::firewall(config, &environment).map_err(|error| step_error(error.step(), error))?;
        Ok(Compiled {
            main: firewall.main.to_string(),
            anchors: firewall.anchors.iter().map(|(name, rules)| (name.clone(), rules.to_string())).collect(),
            tables: self.alias_tables(stored, config),
            files: firewall.files,
            warnings: firewall.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    /// The main ruleset's tables: one per host, network and URL alias; a disabled one is empty. Names that only
    /// the applied rules still use keep their table.
    fn alias_tables(&self, stored: &Config, applied: &Config) -> Vec<(TableName, Vec<String>)> {
        let tables = stored.aliases.iter().filter(|alias| alias.alias_type.is_table());
        let mut all: Vec<_> =
            tables.map(|alias| (alias.name.clone(), self.entries_of(alias).unwrap_or_default())).collect();
        if !stored.aliases.same(&applied.aliases) {
            let former = applied.aliases.iter().filter(|alias| table_named(stored, &alias.name).is_none());
            let kept = former.filter_map(|alias| {
                Some((alias.name.clone(), self.former_entries(stored, applied, &alias.name)?))
            });
            all.extend(kept);
        }
        all
    }

    /// What an alias's table holds; `None` for a port alias.
    fn entries_of(&self, alias: &Alias) -> Option<Vec<String>> {
        match alias.alias_type {
            AliasKind::Port => None,
            _ if !alias.enabled => Some(Vec::new()),
            AliasKind::UrlTable => Some(self.url_tables.entries(alias.id).to_vec()),
            AliasKind::Host | AliasKind::Network => Some(alias.entries.clone()),
        }
    }

    /// What a table holds whose name no stored alias has any more: as long as applied rules name it, what its
    /// alias holds, which may have another name now. Else it is `None`, and the table empty.
    fn former_entries(&self, stored: &Config, applied: &Config, name: &TableName) -> Option<Vec<String>> {
        let former = table_named(applied, name).filter(|alias| alias.is_used(applied))?;
        self.entries_of(stored.aliases.get(&former.id).unwrap_or(former))
    }

    /// Whether pf would take all of it; changes nothing.
    pub fn check(&self, compiled: &Compiled) -> Result<(), ApplyError> {
        self.write_files(&compiled.files)?;
        self.pf.check(None, &compiled.main).map_err(|error| step_error("main", error))?;
        for (name, text) in &compiled.anchors {
            self.pf.check(Some(name), text).map_err(|error| step_error(step_name(name), error))?;
        }
        Ok(())
    }

    /// Files that tables name must be there before pf reads the rules; each is replaced as a whole.
    fn write_files(&self, files: &[(String, Vec<String>)]) -> Result<(), ApplyError> {
        for (name, lines) in files {
            let path = self.root.join(name.trim_start_matches('/'));
            let mut text = lines.join("\n");
            text.push('\n');
            let fault = |error: std::io::Error| step_error("files", format!("{}: {error}", path.display()));
            if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
                continue;
            }
            let temporary = path.with_extension("new");
            path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(fault)?;
            std::fs::write(&temporary, text)
                .and_then(|()| std::fs::rename(&temporary, &path))
                .map_err(fault)?;
        }
        Ok(())
    }

    /// Checks all, then loads it.
    pub fn load(&self, compiled: &Compiled) -> Result<Report, ApplyError> {
        self.check(compiled)?;
        self.load_checked(compiled)
    }

    /// Loads what [`Machine::check`] has passed: tables, the main ruleset (where it differs from the loaded one)
    /// and the anchors. What was applied before needs no check: a start loads it as it is.
    pub fn load_checked(&self, compiled: &Compiled) -> Result<Report, ApplyError> {
        self.write_files(&compiled.files)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let before = loaded.clone();
        let mut report = Report { steps: Vec::new(), warnings: compiled.warnings.clone() };
        match self.load_steps(compiled, &mut loaded, &mut report) {
            Ok(()) => {
                loaded.generation += 1;
                loaded.compiled = compiled.clone();
                Ok(report)
            }
            Err(error) => {
                self.load_again(&before, &mut loaded);
                Err(error)
            }
        }
    }

    fn load_steps(
        &self,
        compiled: &Compiled,
        loaded: &mut Loaded,
        report: &mut Report,
    ) -> Result<(), ApplyError> {
        let mut done = |step: &str, detail: String| {
            report.steps.push(Step { step: step.into(), ok: true, detail });
        };
        let mut changed = 0;
        for (name, entries) in &compiled.tables {
            changed += usize::from(self.fill_table(name, entries, loaded)?);
        }
        done("aliases", format!("{} tables, {changed} changed", compiled.tables.len()));
        if loaded.main.as_deref() != Some(&compiled.main) {
            self.pf.load(None, &compiled.main).map_err(|error| step_error("main", error))?;
            loaded.main = Some(compiled.main.clone());
            let rules = self.pf.rules(None).map_err(|error| step_error("main", error))?;
            loaded.held.insert(String::new(), held_hash(&rules));
            done("main", "main ruleset loaded".into());
        }
        for (name, text) in &compiled.anchors {
            let step = step_name(name);
            self.pf.load(Some(name), text).map_err(|error| step_error(step, error))?;
            loaded.anchors.insert(name.clone(), text.clone());
            let held = self.pf.rules(Some(name)).map_err(|error| step_error(step, error))?;
            loaded.held.insert(name.clone(), held_hash(&held));
            let rules = held.0.len() + held.1.len();
            if rules == 0 && text.lines().any(|line| !line.trim().is_empty() && !line.starts_with("table")) {
                return Err(step_error(step, format!("anchor {name} is empty after loading")));
            }
            // Of a service that needs nothing of pf there is nothing to tell.
            if rules > 0 || ["geoip", "nat", "filter"].contains(&step) {
                done(step, format!("{rules} rules in anchor {name}"));
            }
        }
        // Last, when no loaded rule names them any more.
        let wanted: BTreeSet<&TableName> = compiled.tables.iter().map(|(name, _)| name).collect();
        let known: Vec<TableName> = loaded.tables.keys().cloned().collect();
        for name in known.iter().filter(|name| !wanted.contains(name)) {
            self.empty_table(name, loaded)?;
        }
        Ok(())
    }

    /// Makes one of pf's tables hold these entries. Returns whether it held others.
    fn fill_table(
        &self,
        name: &TableName,
        entries: &[String],
        loaded: &mut Loaded,
    ) -> Result<bool, ApplyError> {
        let hash = hash_of(entries);
        if loaded.tables.get(name) == Some(&hash) {
            return Ok(false);
        }
        self.pf
            .replace_table(name, entries)
            .map_err(|error| step_error("aliases", format!("<{name}>: {error}")))?;
        loaded.tables.insert(name.clone(), hash);
        Ok(true)
    }

    fn empty_table(&self, name: &TableName, loaded: &mut Loaded) -> Result<(), ApplyError> {
        if loaded.tables.contains_key(name) {
            self.pf.replace_table(name, &[]).map_err(|error| step_error("aliases", error))?;
            loaded.tables.remove(name);
        }
        Ok(())
    }

    /// One alias's table alone, at once: filled as the stored configuration says. `former` is the name that the
    /// alias had before a write; that table is emptied, unless the applied rules still name it: until they
    /// are replaced, they must go on meeting the same addresses.
    pub fn fill_alias(
        &self,
        stored: &Config,
        applied: &Config,
        alias: Id,
        former: Option<&TableName>,
    ) -> Result<(), ApplyError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stored.aliases.get(&alias);
        if let Some(alias) = now
            && let Some(entries) = self.entries_of(alias)
            && self.fill_table(&alias.name, &entries, &mut loaded)?
        {
            loaded.remember_table(&alias.name, entries);
        }
        // The name that the applied rules know it by, if it has another now.
        let applied_name = applied.aliases.get(&alias).map(|alias| &alias.name);
        for name in former.into_iter().chain(applied_name) {
            if table_named(stored, name).is_some() {
                continue;
            }
            match self.former_entries(stored, applied, name) {
                Some(entries) => {
                    if self.fill_table(name, &entries, &mut loaded)? {
                        loaded.remember_table(name, entries);
                    }
                }
                None => {
                    self.empty_table(name, &mut loaded)?;
                    loaded.compiled.tables.retain(|(known, _)| known != name);
                    loaded.generation += 1;
                }
            }
        }
        Ok(())
    }

    /// The way back: rulesets as they were. Tables stay as they are: they follow the stored aliases.
    fn load_again(&self, before: &Loaded, loaded: &mut Loaded) {
        let again = |anchor: Option<&str>, text: &str| {
            if let Err(error) = self.pf.load(anchor, text) {
                log::error!(
                    "loading the earlier rules of {} again: {error}",
                    anchor.unwrap_or("the main ruleset")
                );
            }
        };
        if loaded.main != before.main
            && let Some(main) = &before.main
        {
            again(None, main);
        }
        for name in loaded.anchors.keys() {
            let text = before.anchors.get(name).map_or("", String::as_str);
            if loaded.anchors.get(name).map(String::as_str) != Some(text) {
                again(Some(name), text);
            }
        }
        loaded.main.clone_from(&before.main);
        loaded.anchors.clone_from(&before.anchors);
        loaded.held.clone_from(&before.held);
    }

    /// Whether pf is on and still holds what was loaded (an administrator may have changed it by hand). `Err` =
    /// what is wrong.
    pub fn intact(&self) -> Result<(), String> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match self.pf.info() {
            Ok(info) if info.enabled => {}
            Ok(_) => return Err("the packet filter is off".into()),
            Err(error) => return Err(error.to_string()),
        }
        for (name, known) in &loaded.held {
            let anchor = (!name.is_empty()).then_some(name.as_str());
            let place = anchor.map_or("the main ruleset".to_owned(), |anchor| format!("anchor {anchor}"));
            match self.pf.rules(anchor) {
                Ok(rules) if held_hash(&rules) == *known => {}
                Ok(_) => return Err(format!("the rules of {place} are not those that were applied")),
                Err(error) => return Err(format!("{place}: {error}")),
            }
        }
        Ok(())
    }

    /// A simulator that holds what `compiled` says, between the interfaces that the machine has: what would pf
    /// do? It has no states.
    pub fn simulate(&self, compiled: &Compiled) -> Result<Simulator, ApplyError> {
        let fault = |error: PfError| step_error("simulation", error);
        let interfaces = self.platform.interfaces().map_err(|error| step_error("interfaces", error))?;
        let gateway = self.platform.vitals().ok().and_then(|vitals| vitals.default_gateway);
        let interfaces = interfaces.into_iter().map(|interface| {
            let holds = |gateway: &IpAddr| interface.addresses.iter().any(|own| own.contains(gateway));
            let known = SimInterface::new(&interface.name, interface.addresses.clone());
            match gateway.filter(holds) {
                Some(gateway) => known.with_gateway(gateway),
                None => known,
            }
        });
        let simulator = Simulator::new(interfaces.collect());
        let files = compiled.files.iter().map(|(name, lines)| (name.clone(), lines.join("\n")));
        simulator.set_file_contents(files.collect());
        for (name, entries) in &compiled.tables {
            simulator.replace_table(name, entries).map_err(fault)?;
        }
        simulator.load(None, &compiled.main).map_err(fault)?;
        for (name, text) in &compiled.anchors {
            simulator.load(Some(name), text).map_err(fault)?;
        }
        Ok(simulator)
    }

    /// What pf does with a packet under the loaded rules; states are not looked at, so it is what happens to a
    /// new flow.
    pub fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        let packet = question.packet()?;
        if self
            .platform
            .interfaces()
            .is_ok_and(|all| all.iter().all(|known| known.name != question.interface))
        {
            return Err(ExplainError::NoInterface(question.interface.clone()));
        }
        let (generation, compiled) = {
            let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            (loaded.generation, loaded.compiled.clone())
        };
        let mut oracle = self.oracle.lock().unwrap_or_else(PoisonError::into_inner);
        let simulator = match &*oracle {
            Some((built_for, simulator)) if *built_for == generation => simulator.clone(),
            _ => {
                let simulator = Arc::new(self.simulate(&compiled)?);
                *oracle = Some((generation, simulator.clone()));
                simulator
            }
        };
        Ok(simulator.explain(&question.interface, question.direction, &packet))
    }

    /// Forgets what was loaded, so that the next load gives pf everything.
    pub fn forget(&self) {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Loaded::default();
    }

    /// Kills the states of rules that have left the loaded ruleset. Returns how many went.
    pub fn kill_states_of(&self, rules: impl IntoIterator<Item = Id>) -> u64 {
        rules
            .into_iter()
            .map(|id| {
                self.pf.kill_states_with_label(&format!("rule:{id}")).unwrap_or_else(|error| {
                    log::warn!("states of rule {id}: {error}");
                    0
                })
            })
            .sum()
    }
}
