//! Pure functions from a configuration to what the machine is given: pf text, service files, settings.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{Config, Id, InterfaceName, TableName};
use crate::pf::ast::Ruleset;

/// An interface as the compiler must know it.
#[derive(Debug, Clone)]
pub struct InterfaceFacts {
    pub name: InterfaceName,
    pub networks: Vec<IpNet>,
}

impl InterfaceFacts {
    pub fn of(name: &str, addresses: &[IpNet]) -> Option<Self> {
        Some(Self { name: InterfaceName::new(name).ok()?, networks: addresses.to_vec() })
    }
}

type Countries = Arc<dyn Fn(&str) -> Arc<Vec<IpNet>> + Send + Sync>;

pub struct Environment {
    pub interfaces: Vec<InterfaceFacts>,
    pub open_schedules: BTreeSet<Id>,
    pub countries: Countries,
}

#[derive(Debug)]
pub struct Warning(pub String);
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Default)]
pub struct Firewall {
    pub main: Ruleset,
    pub anchors: Vec<(String, Ruleset)>,
    pub tables: Vec<(TableName, Vec<String>)>,
    pub files: Vec<(String, Vec<String>)>,
    pub warnings: Vec<Warning>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);
impl CompileError {
    pub fn step(&self) -> &'static str {
        "filter"
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Differs {
    pub firewall: bool,
    pub nat: bool,
}

pub fn firewall(_: &Config, _: &Environment) -> Result<Firewall, CompileError> {
    Err(CompileError("the compiler is not built in yet".into()))
}

pub fn differs(applied: &Config, stored: &Config, _: &Environment) -> Differs {
    Differs { firewall: !applied.rules.same(&stored.rules), nat: !applied.nat.same(&stored.nat) }
}
