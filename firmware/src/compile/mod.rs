//! Pure functions from a configuration to what the machine is given. Here: pf rulesets, as typed rules that
//! print themselves (contract/firewall.md §8). Called by `apply/` (to load), by the API (lines for the audit log,
//! pending flags) and by tests. No effects: what the world looks like comes in as an [`Environment`].

mod address;
mod filter;
mod geoip;
mod main_ruleset;
mod nat;
pub mod os;
mod pending;
pub mod services;
mod shadow;
pub mod template;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

pub use main_ruleset::{FILTER_ANCHORS, closed, tuning};
pub use pending::{Differs, differs};
pub use services::anchors::service_anchors;

use crate::config::{Config, GeoIpRule, Id, InterfaceName, NatRule, Rule, Status};
use crate::pf::ast::{Item, Ruleset};

/// Where the loaded text finds the networks of countries: `<directory>/<code>.txt` (lower case), `allow.txt`.
pub const COUNTRY_DIRECTORY: &str = "/var/db/aifw/geoip/tables";

/// What an interface is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Wan,
    Lan,
}

/// An interface as the compiler must know it.
#[derive(Debug, Clone)]
pub struct InterfaceFacts {
    pub name: InterfaceName,
    /// `None`: as the `system` section of the configuration says.
    pub role: Option<Role>,
    /// Its addresses with their prefix lengths.
    pub networks: Vec<IpNet>,
}

impl InterfaceFacts {
    /// `None` when the name is none that pf takes.
    pub fn of(name: &str, addresses: &[IpNet]) -> Option<Self> {
        Some(Self { name: InterfaceName::new(name).ok()?, role: None, networks: addresses.to_vec() })
    }
}

/// Networks of a country by its ISO 3166-1 code, upper case; empty when none are known.
pub type Countries = Arc<dyn Fn(&str) -> Arc<Vec<IpNet>> + Send + Sync>;

/// What the configuration alone does not say.
#[derive(Clone)]
pub struct Environment {
    pub interfaces: Vec<InterfaceFacts>,
    /// Schedules whose window is open now.
    pub open_schedules: BTreeSet<Id>,
    pub countries: Countries,
}

impl Environment {
    /// No interfaces, no open schedules, no country database.
    pub fn empty() -> Self {
        let none = Arc::new(Vec::new());
        Self {
            interfaces: Vec::new(),
            open_schedules: BTreeSet::new(),
            countries: Arc::new(move |_| none.clone()),
        }
    }
}

/// Something in force that is not what its author may expect, or left out although it is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Filter, NAT or geo-IP rule.
    pub rule: Option<Id>,
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Some(rule) => write!(f, "rule {rule}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The rulesets of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Firewall {
    pub main: Ruleset,
    /// Name and rules, in the order in which they are loaded: those of the services, `aifw-geoip`, `aifw-nat`,
    /// `aifw`.
    pub anchors: Vec<(String, Ruleset)>,
    /// Files that tables in those rulesets name: path and lines. They must be there before the rules are loaded.
    pub files: Vec<(String, Vec<String>)>,
    pub warnings: Vec<Warning>,
}

/// Which part of the firewall an error is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Filter,
    Nat,
    GeoIp,
}

/// A rule that cannot be said in pf's language. Nothing may be loaded then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {id}{}: {reason}", label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default())]
pub struct CompileError {
    pub part: Part,
    pub id: Id,
    pub label: Option<String>,
    pub reason: Reason,
}

impl CompileError {
    /// `filter`, `nat` or `geoip`: the step of an apply that fails.
    pub fn step(&self) -> &'static str {
        match self.part {
            Part::Filter => "filter",
            Part::Nat => "nat",
            Part::GeoIp => "geoip",
        }
    }
}

/// Why a rule cannot be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("there is no alias {0}")]
    NoAlias(String),
    #[error("{0} is a port alias and no table")]
    NoTable(String),
    #[error("{0} is no port alias")]
    NoPortAlias(String),
    #[error("its parts belong to different address families")]
    Families,
    #[error("only tcp, udp and tcp/udp have ports")]
    Ports,
    #[error("not any ({0}) matches nothing")]
    NotAny(&'static str),
    #[error("there is no gateway {0:?}")]
    NoGateway(String),
    #[error("a gateway needs a direction, and a rule that passes")]
    GatewayDirection,
    #[error("{0} needs an address to translate to")]
    NoRedirect(&'static str),
    #[error("dnat needs a destination or a redirect port")]
    NoDnatPort,
    #[error("binat needs a source and a redirect address with prefixes of one length, and no ports")]
    Binat,
    #[error("{0} cannot translate to this address")]
    AfTo(&'static str),
    #[error("nat64 needs a destination of any or an IPv6 prefix of /96 or longer")]
    Nat64Destination,
    #[error("{0} needs a WAN interface")]
    NoWan(&'static str),
    #[error("interface {0} cannot stand for its addresses: the name must begin with a letter")]
    InterfaceAddress(InterfaceName),
}

/// A rule that is right but has no line now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Left {
    /// The reason is worth a warning.
    Out(String),
    Wrong(Reason),
}

impl From<Reason> for Left {
    fn from(reason: Reason) -> Self {
        Self::Wrong(reason)
    }
}

/// Everything that compiling a rule looks at.
struct Context<'a> {
    config: &'a Config,
    environment: &'a Environment,
    roles: Roles,
}

/// Interfaces by role, each once.
#[derive(Debug, Default)]
struct Roles {
    wan: Vec<InterfaceName>,
    lan: Vec<InterfaceName>,
}

impl<'a> Context<'a> {
    fn new(config: &'a Config, environment: &'a Environment) -> Self {
        let mut roles = Roles::default();
        let mut add = |role: Role, name: &InterfaceName| {
            let list = if role == Role::Wan { &mut roles.wan } else { &mut roles.lan };
            if !list.contains(name) {
                list.push(name.clone());
            }
        };
        config.system.wan_interface.iter().for_each(|name| add(Role::Wan, name));
        config.system.lan_interface.iter().for_each(|name| add(Role::Lan, name));
        for facts in &environment.interfaces {
            if let Some(role) = facts.role {
                add(role, &facts.name);
            }
        }
        Self { config, environment, roles }
    }

    /// Addresses of an interface: those it has, and those it is configured to have.
    fn networks(&self, name: &InterfaceName) -> impl Iterator<Item = IpNet> {
        let system = &self.config.system;
        let configured = [
            system.wan_ip.filter(|_| system.wan_interface.as_ref() == Some(name)),
            system.lan_ip.filter(|_| system.lan_interface.as_ref() == Some(name)),
        ];
        let facts = self.environment.interfaces.iter().find(|facts| facts.name == *name);
        configured
            .into_iter()
            .flatten()
            .chain(facts.into_iter().flat_map(|facts| facts.networks.iter().copied()))
    }

    fn has_inet6(&self, name: &InterfaceName) -> bool {
        self.networks(name).any(|net| net.addr().is_ipv6())
    }

    /// Interfaces known by name, in a fixed order.
    fn interfaces(&self) -> impl Iterator<Item = &InterfaceName> {
        let facts = self.environment.interfaces.iter().map(|facts| &facts.name);
        let roles = self.roles.wan.iter().chain(&self.roles.lan);
        let extra = roles.filter(|name| self.environment.interfaces.iter().all(|facts| facts.name != **name));
        facts.chain(extra)
    }

    /// The interface in whose network an address lies; the longest prefix wins.
    fn interface_towards(&self, net: &IpNet) -> Option<&InterfaceName> {
        let holds = |own: &IpNet| own.trunc().contains(net) && own.prefix_len() < own.max_prefix_len();
        self.interfaces()
            .flat_map(|name| self.networks(name).filter(holds).map(move |own| (own.prefix_len(), name)))
            .max_by_key(|(prefix, _)| *prefix)
            .map(|(_, name)| name)
    }
}

/// The text of a configuration for pf. Errors name the first rule that cannot be compiled; nothing may be loaded
/// then. Costs as much as there are rules.
pub fn firewall(config: &Config, environment: &Environment) -> Result<Firewall, CompileError> {
    let context = Context::new(config, environment);
    let mut output = Output::default();
    let nat = nat::compile(&context, &mut output)?;
    let geoip = geoip::ruleset(&context, &mut output);
    let filter = filter::ruleset(&context, nat.passes, &mut output)?;
    let main = main_ruleset::ruleset(&context, &mut output);
    Ok(Firewall {
        main,
        anchors: service_anchors(config, environment)
            .into_iter()
            .chain([("aifw-geoip".into(), geoip), ("aifw-nat".into(), nat.ruleset), ("aifw".into(), filter)])
            .collect(),
        files: output.files.into_iter().collect(),
        warnings: output.warnings,
    })
}

/// What compiling yields besides rules.
#[derive(Default)]
struct Output {
    files: BTreeMap<String, Vec<String>>,
    warnings: Vec<Warning>,
}

impl Output {
    fn warn(&mut self, rule: Id, text: impl Into<String>) {
        self.warnings.push(Warning { rule: Some(rule), text: text.into() });
    }
}

/// The line that a filter rule would be, active or not; a comment when it has none now. For audit entries.
pub fn rule_line(config: &Config, environment: &Environment, rule: &Rule) -> Result<String, CompileError> {
    match filter::line(&Context::new(config, environment), rule) {
        Ok((line, _)) => Ok(Item::Filter(line).to_string()),
        Err(Left::Out(why)) => Ok(format!("# {why}")),
        Err(Left::Wrong(reason)) => Err(filter::error(rule, reason)),
    }
}

/// The lines that a NAT rule would be in `aifw-nat` and, for port forwards, the pass rule in `aifw`; comments
/// when it has none now. For audit entries and `/nat/pf-output`.
pub fn nat_lines(
    config: &Config,
    environment: &Environment,
    rule: &NatRule,
) -> Result<Vec<String>, CompileError> {
    match nat::lines(&Context::new(config, environment), rule) {
        Ok(lines) => Ok(lines.items().map(|item| item.to_string()).collect()),
        Err(Left::Out(why)) => Ok(vec![format!("# {why}")]),
        Err(Left::Wrong(reason)) => Err(nat::error(rule, reason)),
    }
}

/// The lines that a geo-IP rule would be, active or not, without the tables they name.
pub fn geoip_lines(config: &Config, environment: &Environment, rule: &GeoIpRule) -> Vec<String> {
    let lines = geoip::lines_of(&Context::new(config, environment), rule);
    lines.into_iter().map(|line| Item::Filter(line).to_string()).collect()
}

/// What about an active filter rule may surprise its author: what compiling it says, and an earlier quick rule
/// that leaves nothing for it. One pass over the rules.
pub fn rule_warnings(config: &Config, environment: &Environment, rule: &Rule) -> Vec<String> {
    if rule.status == Status::Disabled {
        return Vec::new();
    }
    let context = Context::new(config, environment);
    let mut warnings = match filter::line(&context, rule) {
        Ok((_, warnings)) => warnings,
        Err(Left::Out(why)) => return vec![why],
        Err(Left::Wrong(reason)) => return vec![reason.to_string()],
    };
    if let Some(earlier) = shadow::shadowed_by(&context, rule) {
        let label = earlier.label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
        warnings.push(format!(
            "rule {}{label} stands earlier, is quick and matches every connection that this rule matches: this \
             rule is never reached",
            earlier.id
        ));
    }
    warnings
}
