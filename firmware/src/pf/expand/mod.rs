//! From what is written to what pf keeps: lists become single rules in pf's order, interface names become
//! addresses, families are inferred, defaults are filled in (`flags S/SA keep state`, `block drop`), and rules
//! that contradict themselves are refused as pfctl(8) refuses them. Printed with [`super::print::Loaded`], the
//! result is what `pfctl -o none -vn` prints. Used by the simulator.

mod filter;
mod hosts;
mod labels;
mod translation;

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use super::ast::*;
use crate::config::InterfaceName;

/// What pf asks the machine while it loads rules: who has which address.
pub trait Interfaces {
    /// Addresses with their prefix lengths, in the order ifconfig(8) lists them, of an interface or a group;
    /// `self` = of all. `None`: no such interface.
    fn networks(&self, name: &str) -> Option<Vec<IpNet>>;
}

/// No interface is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInterfaces;

impl Interfaces for NoInterfaces {
    fn networks(&self, _: &str) -> Option<Vec<IpNet>> {
        None
    }
}

fn from_lists<'a>(
    name: &str,
    get: impl Fn(&str) -> Option<&'a Vec<IpNet>>,
    all: impl Iterator<Item = &'a Vec<IpNet>>,
) -> Option<Vec<IpNet>> {
    if name == "self" { Some(all.flatten().copied().collect()) } else { get(name).cloned() }
}

impl Interfaces for BTreeMap<String, Vec<IpNet>> {
    fn networks(&self, name: &str) -> Option<Vec<IpNet>> {
        from_lists(name, |name| self.get(name), self.values())
    }
}
impl Interfaces for HashMap<String, Vec<IpNet>> {
    fn networks(&self, name: &str) -> Option<Vec<IpNet>> {
        from_lists(name, |name| self.get(name), self.values())
    }
}

/// A rule that pfctl refuses, though it can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ExpandError {
    pub line: u32,
    pub reason: Contradiction,
}

/// Why a rule cannot be what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("no address is known for {0}")]
    UnknownHost(String),
    #[error("the rule expands to no valid combination")]
    Empty,
    #[error("the ruleset expands to more than {MAX_RULES} rules")]
    TooMany,
    #[error("ports are only for the protocols tcp, udp and sctp")]
    PortWithoutProtocol,
    #[error("rdr can only match one destination port or a range")]
    RdrPort,
    #[error("icmp-type is only for the protocol of its family (icmp, icmp6)")]
    IcmpProtocol,
    #[error("icmp-type needs the address family (inet, inet6)")]
    IcmpFamily,
    #[error("protocol {0} does not match the address family")]
    ProtocolFamily(&'static str),
    #[error("flags are only for tcp")]
    Flags,
    #[error("return-rst is only for tcp")]
    ReturnRst,
    #[error("state is only kept for pass rules")]
    StateWithoutPass,
    #[error("allow-opts is only for pass and match rules")]
    AllowOpts,
    #[error("fragments have no ports, flags or ICMP types")]
    Fragment,
    #[error("overload needs max-src-conn or max-src-conn-rate")]
    Overload,
    #[error("{0} does not go with source-track global")]
    SourceTrackGlobal(&'static str),
    #[error("the state option {0} is given twice")]
    StateOptionTwice(&'static str),
    #[error("sloppy does not go with modulate state or synproxy state")]
    Sloppy,
    #[error("routing needs a direction (in, out)")]
    RouteDirection,
    #[error("routing is only for pass rules")]
    RouteAction,
    #[error("no routing address with a matching address family")]
    RouteFamily,
    #[error("dup-to does not go with af-to")]
    DupToAfTo,
    #[error("af-to needs another address family than the rule's")]
    AfToFamily,
    #[error("af-to is not for match rules")]
    AfToMatch,
    #[error("nat-to, rdr-to and af-to need state")]
    TranslationState,
    #[error("nat-to, rdr-to and af-to need a direction (in, out)")]
    TranslationDirection,
    #[error("no translation address with a matching address family")]
    TranslationFamily,
    #[error("the address family is not given and the translation address has both")]
    TranslationFamilyOpen,
    #[error("only round-robin goes with several addresses")]
    SeveralAddresses,
    #[error("{0} cannot be used with this kind of pool")]
    PoolAddress(String),
    #[error("static-port does not go with a port")]
    StaticPort,
    #[error("{0} is only for nat")]
    NatOnly(&'static str),
    #[error("map-e-portset does not go with static-port or a port")]
    MapE,
    #[error("prefer-ipv6-nexthop is only for routes")]
    Ipv6NextHop,
    #[error("the address family of binat is not known")]
    BinatFamily,
    #[error("binat needs one source and one target with the same prefix length, and no direction")]
    Binat,
    #[error("label {0:?} is longer than 63 bytes")]
    LabelTooLong(String),
}

/// Lists multiply; more single rules than this are refused.
const MAX_RULES: usize = 1_000_000;

/// Takes lists apart and fills in what pf would. On success every rule has at most one interface, protocol,
/// address and port on each side, and one ICMP type.
pub fn expand(ruleset: &Ruleset, interfaces: &dyn Interfaces) -> Result<Ruleset, ExpandError> {
    let mut expander = Expander {
        interfaces,
        block_policy: BlockPolicy::Drop,
        state_policy: StatePolicy::Floating,
        state_defaults: Vec::new(),
        made: 0,
    };
    expander.ruleset(ruleset)
}

struct Expander<'a> {
    interfaces: &'a dyn Interfaces,
    block_policy: BlockPolicy,
    state_policy: StatePolicy,
    state_defaults: Vec<StateOption>,
    made: usize,
}

impl Expander<'_> {
    fn ruleset(&mut self, ruleset: &Ruleset) -> Result<Ruleset, ExpandError> {
        let mut expanded = Ruleset { statements: Vec::with_capacity(ruleset.statements.len()) };
        // `$nr` in labels counts filter rules and anchors.
        let mut number = 0;
        for statement in &ruleset.statements {
            let line = statement.line;
            let fail = |reason| ExpandError { line, reason };
            let items = match &statement.item {
                Item::Filter(rule) => self.filter(rule, &mut number).map_err(fail)?,
                Item::Antispoof(antispoof) => self.antispoof(antispoof, &mut number).map_err(fail)?,
                Item::Nat(rule) => self.nat(rule).map_err(fail)?,
                Item::Anchor(anchor) => self.anchor(anchor, &mut number, line)?,
                Item::Scrub(scrub) => self.scrub(scrub).map_err(fail)?,
                Item::Table(table) => vec![Item::Table(self.table(table).map_err(fail)?)],
                Item::Set(option) => {
                    match option {
                        SetOption::BlockPolicy(policy) => self.block_policy = *policy,
                        SetOption::StatePolicy(policy) => self.state_policy = *policy,
                        SetOption::StateDefaults(options) => self.state_defaults = options.clone(),
                        _ => {}
                    }
                    vec![statement.item.clone()]
                }
                other => vec![other.clone()],
            };
            self.made += items.len();
            if self.made > MAX_RULES {
                return Err(fail(Contradiction::TooMany));
            }
            expanded.statements.extend(items.into_iter().map(|item| Statement { line, item }));
        }
        Ok(expanded)
    }

    fn table(&self, table: &TableDefinition) -> Result<TableDefinition, Contradiction> {
        let mut table = table.clone();
        for contents in &mut table.contents {
            if let TableContents::Entries(entries) = contents {
                let resolved = self.hosts(entries)?;
                *entries = resolved
                    .into_iter()
                    .map(|item| HostItem { negate: item.negate, host: item.host })
                    .collect();
            }
        }
        Ok(table)
    }

    fn anchor(&mut self, anchor: &AnchorRule, number: &mut u32, line: u32) -> Result<Vec<Item>, ExpandError> {
        let fail = |reason| ExpandError { line, reason };
        let body = anchor.body.as_ref().map(|body| self.ruleset(body)).transpose()?;
        if matches!(anchor.options.flags, Some(TcpFlags::Set { .. }))
            && !anchor.criteria.protocols.is_empty()
            && !anchor.criteria.protocols.contains(&Protocol::TCP)
        {
            return Err(fail(Contradiction::Flags));
        }
        if anchor.kind == AnchorKind::Binat {
            return Ok(vec![Item::Anchor(anchor.clone())]);
        }
        let family = self.family_of(&anchor.criteria).map_err(fail)?;
        let singles = self.combinations(&anchor.criteria, family, &anchor.options.icmp).map_err(fail)?;
        let mut items = Vec::with_capacity(singles.len());
        for single in singles {
            let mut rule = anchor.clone();
            rule.body.clone_from(&body);
            rule.options.icmp = single.icmp;
            rule.criteria = single.criteria;
            if rule.options.flags == Some(TcpFlags::Any) {
                rule.options.flags = None;
            }
            filter::ports_need_protocol(&rule.criteria).map_err(fail)?;
            filter::icmp_is_consistent(&rule.criteria, &rule.options).map_err(fail)?;
            labels::fill_in(&mut rule.options.labels, &rule.criteria, *number).map_err(fail)?;
            *number += 1;
            items.push(Item::Anchor(rule));
        }
        Ok(items)
    }

    fn scrub(&self, scrub: &ScrubRule) -> Result<Vec<Item>, Contradiction> {
        let singles = self.combinations(&scrub.criteria, scrub.criteria.family, &None)?;
        let single = |single: Single| {
            Item::Scrub(ScrubRule {
                criteria: single.criteria,
                fragment_reassemble: Some(scrub.fragment_reassemble.unwrap_or(true)),
                ..scrub.clone()
            })
        };
        Ok(singles.into_iter().map(single).collect())
    }

    /// Per interface: nothing from its networks on any other interface, nothing from its own addresses.
    fn antispoof(&mut self, antispoof: &Antispoof, number: &mut u32) -> Result<Vec<Item>, Contradiction> {
        let mut items = Vec::new();
        for interface in &antispoof.interfaces {
            let not_here = InterfaceMatch { negate: true, name: interface.name.clone() };
            let own = InterfaceHost { dynamic: interface.dynamic, ..InterfaceHost::named(&interface.name) };
            let networks = InterfaceHost { network: true, ..own.clone() };
            let loopback = interface.name.as_str().starts_with("lo");
            for (host, on) in [(networks, vec![not_here]), (own, Vec::new())] {
                if (on.is_empty() && loopback) || (!host.dynamic && self.lookup(&host)?.is_empty()) {
                    continue;
                }
                let mut rule = FilterRule::new(Action::Block(Block::Drop));
                rule.log.clone_from(&antispoof.log);
                rule.quick = antispoof.quick;
                let from = Endpoint { hosts: vec![Host::Interface(host).into()], ports: Vec::new() };
                rule.criteria = Criteria {
                    direction: Some(Direction::In),
                    on,
                    family: antispoof.family,
                    protocols: Vec::new(),
                    between: FromTo::Between { from, to: Endpoint::default() },
                };
                rule.options.labels.clone_from(&antispoof.labels);
                rule.options.ridentifier = antispoof.ridentifier;
                rule.options.rtable = antispoof.rtable;
                items.extend(self.filter(&rule, number)?);
            }
        }
        Ok(items)
    }
}

/// One choice from each list of a rule.
struct Single {
    criteria: Criteria,
    icmp: Option<IcmpMatch>,
}

/// An address after names have been looked up.
#[derive(Debug, Clone, PartialEq)]
struct Resolved {
    negate: bool,
    host: Host,
    /// `None`: fits both (tables, `(em0)`, no-route).
    family: Option<Family>,
    /// Of a link-local address.
    scope: Option<InterfaceName>,
}

/// Each choice of a list, or "anything" when it is empty.
fn choices<T>(list: &[T]) -> Vec<Option<&T>> {
    if list.is_empty() { vec![None] } else { list.iter().map(Some).collect() }
}

impl Expander<'_> {
    /// The family that addresses leave no choice about.
    fn family_of(&self, criteria: &Criteria) -> Result<Option<Family>, Contradiction> {
        let mut family = criteria.family;
        for side in [criteria.between.from(), criteria.between.to()] {
            family = family.or(common_family(&self.hosts(&side.hosts)?));
        }
        Ok(family)
    }

    /// All combinations that make sense, in pf's order.
    fn combinations(
        &self,
        criteria: &Criteria,
        family: Option<Family>,
        icmp: &Option<IcmpMatch>,
    ) -> Result<Vec<Single>, Contradiction> {
        let from = self.hosts(&criteria.between.from().hosts)?;
        let to = self.hosts(&criteria.between.to().hosts)?;
        let from_ports = choices(&criteria.between.from().ports);
        let to_ports = choices(&criteria.between.to().ports);
        let icmp_types = icmp.as_ref().map_or(&[][..], |icmp| &icmp.types);
        let mut singles = Vec::new();
        for on in choices(&criteria.on) {
            for protocol in choices(&criteria.protocols) {
                for icmp_type in choices(icmp_types) {
                    for source in choices(&from) {
                        for destination in choices(&to) {
                            let Some((family, on)) = fitting(family, on, source, destination) else {
                                continue;
                            };
                            for from_port in &from_ports {
                                for to_port in &to_ports {
                                    if singles.len() >= MAX_RULES {
                                        return Err(Contradiction::TooMany);
                                    }
                                    singles.push(Single {
                                        criteria: Criteria {
                                            direction: criteria.direction,
                                            on: on.clone().into_iter().collect(),
                                            family,
                                            protocols: protocol.copied().into_iter().collect(),
                                            between: between(
                                                source,
                                                *from_port,
                                                destination,
                                                *to_port,
                                                family,
                                            ),
                                        },
                                        icmp: icmp.as_ref().map(|icmp| IcmpMatch {
                                            family: icmp.family,
                                            types: icmp_type.copied().into_iter().collect(),
                                        }),
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
        if singles.is_empty() { Err(Contradiction::Empty) } else { Ok(singles) }
    }
}

fn common_family(hosts: &[Resolved]) -> Option<Family> {
    let first = hosts.first()?.family;
    if hosts.iter().all(|host| host.family == first) { first } else { None }
}

/// Family and interface of a combination, or `None` when it can never match.
fn fitting(
    family: Option<Family>,
    on: Option<&InterfaceMatch>,
    source: Option<&Resolved>,
    destination: Option<&Resolved>,
) -> Option<(Option<Family>, Option<InterfaceMatch>)> {
    let side = |host: Option<&Resolved>| {
        (host.and_then(|host| host.family), host.and_then(|host| host.scope.clone()))
    };
    let (source_family, source_scope) = side(source);
    let (destination_family, destination_scope) = side(destination);
    let clash = |a: Option<Family>, b: Option<Family>| a.is_some() && b.is_some() && a != b;
    if clash(family, source_family)
        || clash(family, destination_family)
        || clash(source_family, destination_family)
    {
        return None;
    }
    let scopes = [source_scope, destination_scope];
    if let [Some(a), Some(b)] = &scopes
        && a != b
    {
        return None;
    }
    let scope = scopes.into_iter().flatten().next();
    let on = match (on, scope) {
        (Some(on), Some(scope)) if on.name != scope => return None,
        (Some(on), _) => Some(on.clone()),
        (None, scope) => scope.map(|name| InterfaceMatch { negate: false, name }),
    };
    Some((family.or(source_family).or(destination_family), on))
}

fn between(
    source: Option<&Resolved>,
    from_port: Option<&Port>,
    destination: Option<&Resolved>,
    to_port: Option<&Port>,
    family: Option<Family>,
) -> FromTo {
    // 0.0.0.0/0 is any; it only fixes the family.
    let all = |host: &&Resolved| matches!(host.host, Host::Net(net) if net.prefix_len() == 0) && !host.negate;
    let endpoint = |host: Option<&Resolved>, port: Option<&Port>| Endpoint {
        hosts: host
            .filter(|host| !all(host))
            .map(|host| HostItem { negate: host.negate, host: hosts::for_family(&host.host, family) })
            .into_iter()
            .collect(),
        ports: port.copied().into_iter().collect(),
    };
    let from = endpoint(source, from_port);
    let to = endpoint(destination, to_port);
    if from.is_any() && to.is_any() { FromTo::All } else { FromTo::Between { from, to } }
}
