//! Translation rules and pools: which addresses stay, which ports are meant, how one is chosen.

use super::{Contradiction, Expander, Resolved, filter, hosts};
use crate::pf::ast::*;

type Result<T> = std::result::Result<T, Contradiction>;

/// The ports that pf takes for nat when none are written (PF_NAT_PROXY_PORT_LOW and _HIGH).
const NAT_PORTS: TargetPort = TargetPort::Range(50001, 65535);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nat,
    Rdr,
}

impl Expander<'_> {
    fn pool_hosts(&self, hosts: &[Host]) -> Result<Vec<Resolved>> {
        let mut resolved = Vec::with_capacity(hosts.len());
        for host in hosts {
            resolved.extend(self.host(false, host)?);
        }
        Ok(resolved)
    }

    /// Looks addresses up, keeps those of the rule's family (which the first one may decide), and settles the
    /// kind of pool.
    fn translation(
        &self,
        translation: &Translation,
        family: &mut Option<Family>,
        kind: Kind,
    ) -> Result<Translation> {
        if translation.pool.prefer_ipv6_nexthop {
            return Err(Contradiction::Ipv6NextHop);
        }
        let mut resolved = self.pool_hosts(&translation.hosts)?;
        if let Some(first) = resolved.first()
            && first.scope.is_none()
        {
            *family = family.or(first.family);
        }
        keep_family(&mut resolved, family);
        if resolved.is_empty() {
            return Err(Contradiction::TranslationFamily);
        }
        if family.is_none() && resolved.iter().any(|host| host.family.is_some()) {
            return Err(Contradiction::TranslationFamilyOpen);
        }
        let hosts: Vec<Host> = resolved.iter().map(|item| hosts::for_family(&item.host, *family)).collect();
        let pool = settle_pool(&hosts.iter().map(Some).collect::<Vec<_>>(), translation.pool)?;
        let port = match kind {
            Kind::Nat => nat_port(translation)?,
            Kind::Rdr => translation.port,
        };
        if kind == Kind::Rdr {
            if pool.static_port {
                return Err(Contradiction::NatOnly("static-port"));
            }
            if pool.map_e.is_some() {
                return Err(Contradiction::NatOnly("map-e-portset"));
            }
        }
        Ok(Translation { hosts, port, pool })
    }

    pub(super) fn filter_translations(
        &self,
        options: &mut FilterOptions,
        family: &mut Option<Family>,
    ) -> Result<()> {
        if let Some(af_to) = &mut options.af_to {
            af_to.from = self.translation(&af_to.from, &mut Some(af_to.family), Kind::Nat)?;
            if let Some(to) = &mut af_to.to {
                *to = self.translation(to, &mut Some(af_to.family), Kind::Rdr)?;
            }
            return Ok(());
        }
        if let Some(translation) = &mut options.nat_to {
            **translation = self.translation(translation, family, Kind::Nat)?;
        }
        if let Some(translation) = &mut options.binat_to {
            **translation = self.translation(translation, family, Kind::Nat)?;
        }
        if let Some(translation) = &mut options.rdr_to {
            **translation = self.translation(translation, family, Kind::Rdr)?;
        }
        Ok(())
    }

    /// Ports of `rdr-to` that depend on the port the single rule matches.
    pub(super) fn settle_filter_translations(&self, rule: &mut FilterRule) -> Result<()> {
        let destination = rule.criteria.between.to().ports.first().copied();
        if let Some(translation) = &mut rule.options.rdr_to {
            translation.port = rdr_port(translation.port, destination);
        }
        Ok(())
    }

    pub(super) fn route(&self, route: &mut Route, family: &mut Option<Family>, af_to: bool) -> Result<()> {
        let mut hops: Vec<(Option<Resolved>, Hop)> = Vec::new();
        for hop in &route.hops {
            match &hop.address {
                None => hops.push((None, hop.clone())),
                Some(address) => hops.extend(self.host(false, address)?.into_iter().map(|host| {
                    let address = Some(host.host.clone());
                    (Some(host), Hop { interface: hop.interface.clone(), address })
                })),
            }
        }
        if !route.pool.prefer_ipv6_nexthop {
            let families: Vec<Option<Family>> =
                hops.iter().map(|(host, _)| host.as_ref().and_then(|host| host.family)).collect();
            let first = families.first().copied().flatten();
            if family.is_none() && families.iter().all(|other| *other == first) {
                *family = first;
            }
            if !af_to {
                let fits = |host: &Option<Resolved>| {
                    let other = host.as_ref().and_then(|host| host.family);
                    other.is_none() || family.is_none() || other == *family
                };
                hops.retain(|(host, _)| fits(host));
                if family.is_none() {
                    *family = hops.iter().find_map(|(host, _)| host.as_ref().and_then(|host| host.family));
                }
            }
        }
        if hops.is_empty() {
            return Err(Contradiction::RouteFamily);
        }
        route.hops = hops.into_iter().map(|(_, hop)| hop).collect();
        let addresses: Vec<Option<&Host>> = route.hops.iter().map(|hop| hop.address.as_ref()).collect();
        route.pool = settle_pool(&addresses, route.pool)?;
        Ok(())
    }

    pub(super) fn nat(&self, rule: &NatRule) -> Result<Vec<Item>> {
        let criteria = &rule.criteria;
        let mut family = criteria.family;
        for side in [criteria.between.from(), criteria.between.to()] {
            let first = self.hosts(&side.hosts)?.into_iter().next();
            family = family.or(first.filter(|host| host.scope.is_none()).and_then(|host| host.family));
        }
        let kind = if rule.kind == NatKind::Rdr { Kind::Rdr } else { Kind::Nat };
        let target =
            rule.target.as_ref().map(|target| self.translation(target, &mut family, kind)).transpose()?;
        if rule.kind == NatKind::Binat {
            self.binat_fits(rule, target.as_ref(), family)?;
        }
        let mut items = Vec::new();
        for single in self.combinations(criteria, family, &None)? {
            let mut made = NatRule { criteria: single.criteria, target: target.clone(), ..rule.clone() };
            let destination = made.criteria.between.to().ports.first().copied();
            if rule.kind == NatKind::Rdr {
                if let Some(target) = &mut made.target {
                    target.port = rdr_port(target.port, destination);
                    let with_ports = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
                    let fine = made.criteria.protocols.first().is_some_and(|one| with_ports.contains(one));
                    if target.port.is_some() && !fine {
                        return Err(Contradiction::PortWithoutProtocol);
                    }
                }
                if !matches!(destination, None | Some(Port::Equal(_) | Port::Range(..))) {
                    return Err(Contradiction::RdrPort);
                }
                filter::ports_need_protocol(&made.criteria)?;
            }
            items.push(Item::Nat(made));
        }
        Ok(items)
    }

    fn binat_fits(&self, rule: &NatRule, target: Option<&Translation>, family: Option<Family>) -> Result<()> {
        if family.is_none() {
            return Err(Contradiction::BinatFamily);
        }
        let source = rule.criteria.between.from().hosts.first().map(|item| &item.host);
        let prefix = |host: &Host| match host {
            Host::Net(net) => Some(net.prefix_len()),
            _ => None,
        };
        let (Some(source), Some(target)) = (source, target) else { return Ok(()) };
        let target_length = target.hosts.first().and_then(prefix);
        let clash = matches!(source, Host::Table(_))
            || target.hosts.len() != 1
            || (prefix(source).is_some() && target_length.is_some() && prefix(source) != target_length);
        if clash { Err(Contradiction::Binat) } else { Ok(()) }
    }
}

/// Drops addresses of the other family; the first one that has a family decides an open one.
fn keep_family(resolved: &mut Vec<Resolved>, family: &mut Option<Family>) {
    resolved.retain(|host| {
        let fits = family.is_none() || host.family.is_none() || host.family == *family;
        if fits {
            *family = family.or(host.family);
        }
        fits
    });
}

/// Whether an interface in parentheses may stand for several addresses.
fn is_multiple(host: &Host) -> bool {
    match host {
        Host::Interface(interface) => {
            interface.dynamic
                && !(interface.no_alias
                    && interface.interface.as_str().ends_with(|c: char| c.is_ascii_digit()))
        }
        _ => false,
    }
}

/// `None` among the hosts: a hop without an address.
fn settle_pool(hosts: &[Option<&Host>], pool: PoolOptions) -> Result<PoolOptions> {
    let many = |host: &Host| matches!(host, Host::Table(_)) || is_multiple(host);
    let first_is_many = hosts.first().copied().flatten().is_some_and(many);
    let kind = match pool.kind {
        None if hosts.len() > 1 || first_is_many => Some(PoolKind::RoundRobin),
        kind => kind,
    };
    if matches!(kind, None | Some(PoolKind::Bitmask))
        && let Some(bad) = hosts.iter().flatten().find(|host| many(host))
    {
        return Err(Contradiction::PoolAddress(bad.to_string()));
    }
    if hosts.len() > 1 && kind != Some(PoolKind::RoundRobin) {
        return Err(Contradiction::SeveralAddresses);
    }
    Ok(PoolOptions { kind, ..pool })
}

fn nat_port(translation: &Translation) -> Result<Option<TargetPort>> {
    let port = match translation.port {
        Some(TargetPort::From(port)) => Some(TargetPort::One(port)),
        port => port,
    };
    let port = port.filter(|port| *port != NAT_PORTS);
    if port.is_some() && translation.pool.static_port {
        return Err(Contradiction::StaticPort);
    }
    if translation.pool.map_e.is_some() && (port.is_some() || translation.pool.static_port) {
        return Err(Contradiction::MapE);
    }
    Ok(port)
}

/// `4000:*` ends where the matched range ends.
fn rdr_port(port: Option<TargetPort>, destination: Option<Port>) -> Option<TargetPort> {
    match (port, destination) {
        (Some(TargetPort::From(start)), Some(Port::Range(from, to))) => {
            Some(TargetPort::Range(start, start.saturating_add(to - from)))
        }
        (Some(TargetPort::From(start)), _) => Some(TargetPort::One(start)),
        (port, _) => port,
    }
}
