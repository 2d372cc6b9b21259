//! Rules that are never reached: an earlier quick rule matches everything that they match. The answer is on the
//! safe side: what cannot be told (tables against networks, say) counts as not shadowed. Pure; called by
//! [`super::rule_warnings`].

use std::sync::Arc;

use ipnet::IpNet;

use super::{Context, filter};
use crate::config::rule::{Direction, Endpoint, Protocol, Status};
use crate::config::value::Family;
use crate::config::{Address, Config, PortRange, Rule, alias};

/// The first rule, in order of evaluation, that leaves nothing for `rule`.
pub(super) fn shadowed_by<'a>(context: &Context<'a>, rule: &Rule) -> Option<&'a Arc<Rule>> {
    let mut first: Option<&'a Arc<Rule>> = None;
    let until = rule.order();
    for other in context.config.rules.iter() {
        let decides = other.quick && other.status == Status::Active;
        let earlier = decides && other.order() < first.map_or(until, |first| first.order());
        // A rule without a line decides nothing.
        if earlier && covers(context.config, other, rule) && filter::line(context, other).is_ok() {
            first = Some(other);
        }
    }
    first
}

/// Whether `other` matches every connection that `rule` matches, whenever `rule` is in force.
fn covers(config: &Config, other: &Rule, rule: &Rule) -> bool {
    (other.direction == Direction::Any || other.direction == rule.direction)
        && (other.interface.is_none() || other.interface == rule.interface)
        && covers_protocol(other.protocol, rule.protocol)
        && (family(other).is_none() || family(other) == family(rule))
        && (other.schedule_id.is_none() || other.schedule_id == rule.schedule_id)
        && covers_address(&other.src, &rule.src)
        && covers_address(&other.dst, &rule.dst)
        && covers_ports(config, &other.src, &rule.src)
        && covers_ports(config, &other.dst, &rule.dst)
}

fn covers_protocol(other: Protocol, protocol: Protocol) -> bool {
    match other {
        Protocol::Any => true,
        Protocol::TcpUdp => matches!(protocol, Protocol::Tcp | Protocol::Udp | Protocol::TcpUdp),
        _ => other == protocol,
    }
}

/// The one family that a rule's line is for, if it is one.
fn family(rule: &Rule) -> Option<Family> {
    let hop = || rule.gateway.as_deref()?.parse().ok().map(Family::of);
    let written = rule.ip_version.family().or(rule.protocol.family());
    written.or(rule.src.addr.family()).or(rule.dst.addr.family()).or_else(hop)
}

/// A literal address or network, without host bits.
fn literal(address: &Address) -> Option<IpNet> {
    match address {
        Address::Host(host) => Some(IpNet::from(*host)),
        Address::Network(network) => Some(network.trunc()),
        _ => None,
    }
}

/// Whether the family alone decides: any, and 0.0.0.0/0.
fn is_everything(end: &Endpoint) -> bool {
    !end.invert && (end.addr == Address::Any || end.addr.prefix_len() == Some(0))
}

/// Families are compared elsewhere: here both are of one family, or `other` is of both.
fn covers_address(other: &Endpoint, end: &Endpoint) -> bool {
    if is_everything(other) {
        return true;
    }
    let (outer, inner) = (literal(&other.addr), literal(&end.addr));
    match (other.invert, end.invert) {
        (false, false) => {
            other.addr == end.addr
                || matches!((outer, inner), (Some(outer), Some(inner)) if outer.contains(&inner))
        }
        // Everything but A lies in everything but B where B lies in A.
        (true, true) => {
            other.addr == end.addr
                || matches!((outer, inner), (Some(outer), Some(inner)) if inner.contains(&outer))
        }
        // Outside of A: B lies there where it has nothing of A.
        (true, false) => matches!(
            (outer, inner),
            (Some(outer), Some(inner)) if !outer.contains(&inner) && !inner.contains(&outer)
        ),
        (false, true) => false,
    }
}

/// The ports of a side; `None` is all of them.
fn ports(config: &Config, end: &Endpoint) -> Option<Vec<PortRange>> {
    let Some(name) = &end.port_alias else { return end.port.map(|range| vec![range]) };
    let known = config.aliases.find(name.as_str()).next();
    let entries = known.iter().flat_map(|alias| &alias.entries);
    Some(entries.filter_map(|entry| alias::parse_port_entry(entry)).collect())
}

fn covers_ports(config: &Config, other: &Endpoint, end: &Endpoint) -> bool {
    if other.port_alias.is_some() && other.port_alias == end.port_alias {
        return true;
    }
    let Some(outer) = ports(config, other) else { return true };
    let Some(inner) = ports(config, end) else { return false };
    let holds =
        |outer: &PortRange, inner: &PortRange| outer.contains(inner.start()) && outer.contains(inner.end());
    !inner.is_empty() && inner.iter().all(|inner| outer.iter().any(|outer| holds(outer, inner)))
}

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
