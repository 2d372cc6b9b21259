//! NAT rules → anchor `aifw-nat`, translations first, then filter rules; and the pass rules that port forwards
//! put into `aifw` (contract/firewall.md §8.2).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::address::{
    addresses_of, agree, family, first_address_of, networks_of, port, ports_fit, protocols,
};
use super::filter::Pass;
use super::{CompileError, Context, Left, Output, Part, Reason, geoip};
use crate::config::{Address, InterfaceName, NatKind as Kind, NatRule as Stored, PortRange, Status};
use crate::pf::ast::*;

/// The well-known prefix of RFC 6052.
const NAT64_PREFIX: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

pub(super) fn error(rule: &Stored, reason: Reason) -> CompileError {
    let label = rule.label.as_ref().map(ToString::to_string);
    CompileError { part: Part::Nat, id: rule.id, label, reason }
}

/// What one NAT rule becomes.
#[derive(Default)]
pub(super) struct Lines {
    translations: Vec<NatRule>,
    filters: Vec<FilterRule>,
    pass: Option<Pass>,
}

impl Lines {
    /// Translations, filter rules, and last the rule for `aifw`.
    pub(super) fn items(self) -> impl Iterator<Item = Item> {
        let filters = self.filters.into_iter().chain(self.pass.map(|pass| pass.rule)).map(Item::Filter);
        self.translations.into_iter().map(Item::Nat).chain(filters)
    }
}

/// The anchor, and what belongs into `aifw`.
pub(super) struct Compiled {
    pub ruleset: Ruleset,
    pub passes: Vec<Pass>,
}

pub(super) fn compile(context: &Context<'_>, output: &mut Output) -> Result<Compiled, CompileError> {
    let active = context.config.nat.iter().filter(|rule| rule.status == Status::Active);
    let mut rules: Vec<&Arc<Stored>> = active.collect();
    rules.sort_by_key(|rule| (rule.position, rule.id));
    let (mut translations, mut filters, mut passes) = (Vec::new(), Vec::new(), Vec::new());
    let mut named = Vec::new();
    for rule in rules {
        match lines(context, rule) {
            Ok(lines) => {
                translations.extend(lines.translations.into_iter().map(|rule| Item::Nat(rule).into()));
                filters.extend(lines.filters.into_iter().map(|rule| Item::Filter(rule).into()));
                passes.extend(lines.pass);
                let addresses = [&rule.src_addr, &rule.dst_addr, &rule.redirect.address];
                named.extend(addresses.into_iter().filter_map(Address::table));
            }
            Err(Left::Out(why)) => output.warn(rule.id, why),
            Err(Left::Wrong(reason)) => return Err(error(rule, reason)),
        }
    }
    let mut statements: Vec<Statement> = geoip::tables(context, named, output);
    statements.append(&mut translations);
    statements.append(&mut filters);
    Ok(Compiled { ruleset: Ruleset { statements }, passes })
}

/// Source, destination, family and interface of a rule, ready to be written.
struct Parts {
    from: Endpoint,
    to: Endpoint,
    family: Family,
    redirect: Option<Host>,
}

impl Parts {
    fn criteria(&self, rule: &Stored, on: &InterfaceName, from: Endpoint, to: Endpoint) -> Criteria {
        Criteria {
            direction: None,
            on: vec![on.into()],
            family: Some(self.family),
            protocols: protocols(rule.protocol),
            between: FromTo::Between { from, to },
        }
    }
}

fn endpoint(host: Option<Host>, range: Option<PortRange>) -> Endpoint {
    Endpoint {
        hosts: host.map(Into::into).into_iter().collect(),
        ports: range.map(port).into_iter().collect(),
    }
}

/// The lines of one rule, whatever its status.
pub(super) fn lines(context: &Context<'_>, rule: &Stored) -> Result<Lines, Left> {
    let from = endpoint(context.host(&rule.src_addr)?, rule.src_port);
    let to = endpoint(context.host(&rule.dst_addr)?, rule.dst_port);
    ports_fit(rule.protocol, &from, &to)?;
    if rule.redirect.port.is_some() && !rule.protocol.has_ports() {
        return Err(Reason::Ports.into());
    }
    let redirect = context.host(&rule.redirect.address)?;
    let own = [
        rule.protocol.family().map(family),
        rule.src_addr.family().map(family),
        rule.dst_addr.family().map(family),
    ];
    let redirect_family = rule.redirect.address.family().map(family);
    Ok(match rule.nat_type {
        Kind::Nat64 | Kind::Nat46 => {
            let outer = if rule.nat_type == Kind::Nat64 { Family::Inet6 } else { Family::Inet };
            let family = agree(own.into_iter().chain([Some(outer)]))?.unwrap_or(outer);
            family_translation(context, rule, Parts { from, to, family, redirect })?
        }
        kind => {
            // Without a family "-> (em0)" would translate IPv6, too.
            let family = agree(own.into_iter().chain([redirect_family]))?.unwrap_or(Family::Inet);
            let parts = Parts { from, to, family, redirect };
            match kind {
                Kind::Binat => binat(rule, parts)?,
                Kind::Dnat => dnat(context, rule, parts)?,
                _ => snat(rule, parts)?,
            }
        }
    })
}

/// A translation rule as all kinds have it.
fn translation(kind: NatKind, criteria: Criteria, target: Translation) -> NatRule {
    NatRule {
        kind,
        no: false,
        pass: false,
        log: None,
        criteria,
        tag: None,
        tagged: None,
        rtable: None,
        target: Some(target),
    }
}

/// Several addresses are used in turn, and a client keeps the one it got.
fn pool_of(host: &Host) -> PoolOptions {
    let several = match host {
        Host::Table(_) => true,
        Host::Net(net) => net.prefix_len() < net.max_prefix_len(),
        _ => false,
    };
    PoolOptions {
        kind: several.then_some(PoolKind::RoundRobin),
        sticky_address: several,
        ..PoolOptions::default()
    }
}

fn target_port(range: PortRange) -> TargetPort {
    if range.start() == range.end() {
        TargetPort::One(range.start())
    } else {
        TargetPort::Range(range.start(), range.end())
    }
}

fn snat(rule: &Stored, parts: Parts) -> Result<Lines, Left> {
    let host = match &parts.redirect {
        Some(host) if rule.nat_type == Kind::Snat => host.clone(),
        _ => first_address_of(&rule.interface)?,
    };
    let pool = PoolOptions { static_port: rule.static_port, ..pool_of(&host) };
    let target = Translation { hosts: vec![host], port: rule.redirect.port.map(target_port), pool };
    let criteria = parts.criteria(rule, &rule.interface, parts.from.clone(), parts.to.clone());
    Ok(Lines { translations: vec![translation(NatKind::Nat, criteria, target)], ..Lines::default() })
}

/// One protocol a line: pf takes no list in `binat`.
fn binat(rule: &Stored, parts: Parts) -> Result<Lines, Left> {
    let prefix = |address: &Address| address.prefix_len();
    let target = parts.redirect.clone().ok_or(Reason::NoRedirect("binat"))?;
    let same = prefix(&rule.src_addr).is_some() && prefix(&rule.src_addr) == prefix(&rule.redirect.address);
    let ports = rule.src_port.is_some() || rule.dst_port.is_some() || rule.redirect.port.is_some();
    if !same || ports || rule.dst_addr.table().is_some() {
        return Err(Reason::Binat.into());
    }
    let criteria = parts.criteria(rule, &rule.interface, parts.from.clone(), parts.to.clone());
    let target = Translation { hosts: vec![target], port: None, pool: PoolOptions::default() };
    let one =
        |protocols| translation(NatKind::Binat, Criteria { protocols, ..criteria.clone() }, target.clone());
    let translations = match criteria.protocols.as_slice() {
        [] => vec![one(Vec::new())],
        several => several.iter().map(|protocol| one(vec![*protocol])).collect(),
    };
    Ok(Lines { translations, ..Lines::default() })
}

fn dnat(context: &Context<'_>, rule: &Stored, parts: Parts) -> Result<Lines, Left> {
    let host = parts.redirect.clone().ok_or(Reason::NoRedirect("dnat"))?;
    if rule.dst_port.is_none() && rule.redirect.port.is_none() {
        return Err(Reason::NoDnatPort.into());
    }
    let length = |range: PortRange| range.end() - range.start();
    let target_port = rule.redirect.port.map(|wanted| match rule.dst_port {
        // As many as were matched.
        Some(matched) if length(matched) > 0 && length(matched) == length(wanted) => {
            TargetPort::From(wanted.start())
        }
        _ => target_port(wanted),
    });
    let target = Translation { hosts: vec![host.clone()], port: target_port, pool: pool_of(&host) };
    let forward = |on: &InterfaceName, from: Endpoint, to: Endpoint| {
        translation(NatKind::Rdr, parts.criteria(rule, on, from, to), target.clone())
    };
    let translated = endpoint(Some(host.clone()), rule.redirect.port.or(rule.dst_port));
    // Answers come back through this machine, since the client is seen with its address.
    let masked = |on: &InterfaceName, from: Endpoint| -> Result<NatRule, Reason> {
        let target =
            Translation { hosts: vec![first_address_of(on)?], port: None, pool: PoolOptions::default() };
        Ok(translation(NatKind::Nat, parts.criteria(rule, on, from, translated.clone()), target))
    };

    let mut translations = vec![forward(&rule.interface, parts.from.clone(), parts.to.clone())];
    let inside = match &host {
        Host::Net(net) => context.interface_towards(net),
        _ => None,
    };
    match inside {
        Some(inside) if *inside == rule.interface => {
            translations.push(masked(inside, parts.from.clone())?);
        }
        Some(inside) => {
            let clients =
                Endpoint { hosts: vec![networks_of(inside)?.into()], ports: parts.from.ports.clone() };
            let mut to = parts.to.clone();
            if to.hosts.is_empty() {
                to.hosts.push(Host::Interface(addresses_of(&rule.interface)?).into());
            }
            translations.push(forward(inside, clients.clone(), to));
            translations.push(masked(inside, clients)?);
        }
        None => {}
    }
    let pass = rule.associated_filter.then(|| {
        let mut pass = FilterRule::new(Action::Pass);
        pass.quick = true;
        pass.criteria = Criteria {
            direction: Some(Direction::In),
            ..parts.criteria(rule, &rule.interface, parts.from.clone(), translated.clone())
        };
        Pass { family: parts.family, rule: labelled(pass, rule) }
    });
    Ok(Lines { translations, filters: Vec::new(), pass })
}

fn labelled(mut line: FilterRule, rule: &Stored) -> FilterRule {
    line.options.state = Some(State { kind: StateKind::Keep, options: Vec::new() });
    line.options.labels = vec![Text::nearest(&format!("nat:{}", rule.id), 63)];
    line
}

/// nat64 and nat46: a quick filter rule, since only the last match's translation counts.
fn family_translation(context: &Context<'_>, rule: &Stored, parts: Parts) -> Result<Lines, Left> {
    let kind = if rule.nat_type == Kind::Nat64 { "nat64" } else { "nat46" };
    if rule.redirect.port.is_some() {
        return Err(Reason::Ports.into());
    }
    let plain = |host: Host| Translation { hosts: vec![host], port: None, pool: PoolOptions::default() };
    let wan = || -> Result<Host, Left> {
        let wan = context.roles.wan.first().ok_or(Reason::NoWan(kind))?;
        Ok(first_address_of(wan)?)
    };
    let mut to = parts.to.clone();
    let af_to = if rule.nat_type == Kind::Nat64 {
        if to.hosts.is_empty() {
            let prefix = Ipv6Net::new(NAT64_PREFIX, 96).map_err(|_| Reason::Nat64Destination)?;
            to.hosts.push(Host::Net(prefix.into()).into());
        } else if rule.dst_addr.prefix_len().is_none_or(|prefix| prefix < 96) {
            return Err(Reason::Nat64Destination.into());
        }
        let from = match &rule.redirect.address {
            Address::Any => plain(wan()?),
            Address::Host(IpAddr::V4(ip)) => plain(Host::address((*ip).into())),
            Address::Network(IpNet::V4(net)) => {
                let host = Host::Net((*net).into());
                Translation { pool: pool_of(&host), ..plain(host) }
            }
            _ => return Err(Reason::AfTo(kind).into()),
        };
        AfTo { family: Family::Inet, from, to: None }
    } else {
        match &rule.redirect.address {
            Address::Host(IpAddr::V6(ip)) => {
                AfTo { family: Family::Inet6, from: plain(Host::address((*ip).into())), to: None }
            }
            Address::Network(IpNet::V6(net)) if net.prefix_len() == 96 => {
                AfTo { family: Family::Inet6, from: plain(wan()?), to: Some(plain(Host::Net((*net).into()))) }
            }
            _ => return Err(Reason::AfTo(kind).into()),
        }
    };
    let mut pass = FilterRule::new(Action::Pass);
    pass.quick = true;
    pass.criteria = Criteria {
        direction: Some(Direction::In),
        ..parts.criteria(rule, &rule.interface, parts.from.clone(), to)
    };
    pass.options.af_to = Some(Box::new(af_to));
    Ok(Lines { filters: vec![labelled(pass, rule)], ..Lines::default() })
}
