//! The effects: what a configuration compiles to is checked as a whole, then loaded step by step; when a step
//! fails, what was loaded before is loaded again. Blocking; called through `blocking::unblock`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::url_tables::UrlTables;
use super::{ApplyError, Report, Step};
use crate::compile::{self, Environment, InterfaceFacts};
use crate::config::{AliasKind, Config, Id, TableName, Timestamp};
use crate::pf::Pf;
use crate::platform::Platform;
use crate::platform::geoip::GeoIp;

/// The machine and what was last loaded into it.
pub struct Machine {
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
    pub geoip: Arc<GeoIp>,
    pub url_tables: Arc<UrlTables>,
    loaded: Mutex<Loaded>,
}

/// What pf was last given, for the way back.
#[derive(Debug, Clone, Default)]
struct Loaded {
    main: Option<String>,
    anchors: BTreeMap<String, String>,
    /// Table → hash of its entries, so that an unchanged table costs nothing.
    tables: BTreeMap<TableName, u64>,
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

fn step_error(step: &str, reason: impl std::fmt::Display) -> ApplyError {
    ApplyError::Step { step: step.into(), reason: reason.to_string() }
}

/// The name a step has in reports and errors.
pub fn step_name(anchor: &str) -> &str {
    match anchor {
        "aifw" => "filter",
        "aifw-nat" => "nat",
        "aifw-geoip" => "geoip",
        other => other,
    }
}

fn hash_of(entries: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    entries.hash(&mut hasher);
    hasher.finish()
}

impl Machine {
    pub fn new(
        pf: Arc<dyn Pf>,
        platform: Arc<dyn Platform>,
        geoip: Arc<GeoIp>,
        url_tables: Arc<UrlTables>,
    ) -> Self {
        Self { pf, platform, geoip, url_tables, loaded: Mutex::default() }
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
        self.compile_at(config, Timestamp::now())
    }

    /// As [`Machine::compile`], with the schedules that are open at `at`.
    pub fn compile_at(&self, config: &Config, at: Timestamp) -> Result<Compiled, ApplyError> {
        let environment = self.environment(config, at);
        let firewall =
            compile::firewall(config, &environment).map_err(|error| step_error(error.step(), error))?;
        Ok(Compiled {
            main: firewall.main.to_string(),
            anchors: firewall.anchors.iter().map(|(name, rules)| (name.clone(), rules.to_string())).collect(),
            tables: self.alias_tables(config),
            files: firewall.files,
            warnings: firewall.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    /// The main ruleset's tables: one per host, network and URL alias; a disabled one is empty.
    fn alias_tables(&self, config: &Config) -> Vec<(TableName, Vec<String>)> {
        config
            .aliases
            .iter()
            .filter(|alias| alias.alias_type != AliasKind::Port)
            .map(|alias| {
                let entries = match alias.alias_type {
                    _ if !alias.enabled => Vec::new(),
                    AliasKind::UrlTable => self.url_tables.entries(alias.id).to_vec(),
                    _ => alias.entries.clone(),
                };
                (alias.name.clone(), entries)
            })
            .collect()
    }

    /// Whether pf would take all of it; changes nothing.
    pub fn check(&self, compiled: &Compiled) -> Result<(), ApplyError> {
        self.pf.check(None, &compiled.main).map_err(|error| step_error("main", error))?;
        for (name, text) in &compiled.anchors {
            self.pf.check(Some(name), text).map_err(|error| step_error(step_name(name), error))?;
        }
        Ok(())
    }

    /// Checks all, then loads tables, the main ruleset (where it differs from the loaded one) and the anchors.
    pub fn load(&self, compiled: &Compiled) -> Result<Report, ApplyError> {
        self.check(compiled)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let before = loaded.clone();
        let mut report = Report { steps: Vec::new(), warnings: compiled.warnings.clone() };
        match self.load_steps(compiled, &mut loaded, &mut report) {
            Ok(()) => Ok(report),
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
        let changed = self.fill_tables(&compiled.tables, loaded)?;
        done("aliases", format!("{} tables, {changed} changed", compiled.tables.len()));
        if loaded.main.as_deref() != Some(&compiled.main) {
            self.pf.load(None, &compiled.main).map_err(|error| step_error("main", error))?;
            loaded.main = Some(compiled.main.clone());
            done("main", "main ruleset loaded".into());
        }
        for (name, text) in &compiled.anchors {
            let step = step_name(name);
            self.pf.load(Some(name), text).map_err(|error| step_error(step, error))?;
            loaded.anchors.insert(name.clone(), text.clone());
            let (translation, filter) = self.pf.rules(Some(name)).map_err(|error| step_error(step, error))?;
            let rules = translation.len() + filter.len();
            if rules == 0 && text.lines().any(|line| !line.trim().is_empty() && !line.starts_with("table")) {
                return Err(step_error(step, format!("anchor {name} is empty after loading")));
            }
            done(step, format!("{rules} rules in anchor {name}"));
        }
        Ok(())
    }

    /// Makes pf's tables hold these entries, and empties those that have gone. Returns how many changed.
    fn fill_tables(
        &self,
        tables: &[(TableName, Vec<String>)],
        loaded: &mut Loaded,
    ) -> Result<usize, ApplyError> {
        let wanted: BTreeSet<&TableName> = tables.iter().map(|(name, _)| name).collect();
        let gone: Vec<TableName> =
            loaded.tables.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        let mut changed = 0;
        for name in gone {
            self.pf.replace_table(&name, &[]).map_err(|error| step_error("aliases", error))?;
            loaded.tables.remove(&name);
            changed += 1;
        }
        for (name, entries) in tables {
            let hash = hash_of(entries);
            if loaded.tables.get(name) != Some(&hash) {
                self.pf
                    .replace_table(name, entries)
                    .map_err(|error| step_error("aliases", format!("<{name}>: {error}")))?;
                loaded.tables.insert(name.clone(), hash);
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// The tables alone, at once.
    pub fn fill_alias_tables(&self, config: &Config) -> Result<usize, ApplyError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill_tables(&self.alias_tables(config), &mut loaded)
    }

    /// One table alone, at once (a URL table whose list has changed).
    pub fn fill_table(&self, name: &TableName, entries: &[String]) -> Result<(), ApplyError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        self.pf.replace_table(name, entries).map_err(|error| step_error("aliases", error))?;
        loaded.tables.insert(name.clone(), hash_of(entries));
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
    }

    /// Whether pf still holds what was loaded (an administrator may have flushed it by hand).
    pub fn intact(&self) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(info) = self.pf.info() else { return false };
        let holds = |name: &str, text: &str| {
            text.trim().is_empty()
                || self
                    .pf
                    .rules(Some(name))
                    .is_ok_and(|(translation, filter)| !translation.is_empty() || !filter.is_empty())
        };
        info.enabled && loaded.anchors.iter().all(|(name, text)| holds(name, text))
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
