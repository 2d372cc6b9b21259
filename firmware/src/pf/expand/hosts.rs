//! Names of interfaces become addresses, as at the moment at which pf loads rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Contradiction, Expander, Resolved};
use crate::pf::ast::*;

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Inet } else { Family::Inet6 }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// `(em0)/40` has no prefix length where the family's addresses are shorter.
pub(super) fn for_family(host: &Host, family: Option<Family>) -> Host {
    match (host, family) {
        (Host::Interface(interface), Some(family)) => {
            let full = if family == Family::Inet { 32 } else { 128 };
            let prefix = interface.prefix.filter(|prefix| *prefix < full);
            Host::Interface(InterfaceHost { prefix, ..interface.clone() })
        }
        _ => host.clone(),
    }
}

impl Expander<'_> {
    /// The items of a list, looked up; an `any` among them makes the list empty (= any).
    pub(super) fn hosts(&self, items: &[HostItem]) -> Result<Vec<Resolved>, Contradiction> {
        let mut resolved = Vec::with_capacity(items.len());
        for item in items {
            if item.host == Host::Any {
                return Ok(Vec::new());
            }
            resolved.extend(self.host(item.negate, &item.host)?);
        }
        Ok(resolved)
    }

    /// One host of a list or a pool.
    pub(super) fn host(&self, negate: bool, host: &Host) -> Result<Vec<Resolved>, Contradiction> {
        let one = |host, family| vec![Resolved { negate, host, family, scope: None }];
        Ok(match host {
            Host::Net(net) => one(Host::Net(net.trunc()), Some(family(net.addr()))),
            Host::Scoped(net, scope) => vec![Resolved {
                negate,
                host: Host::Net(net.trunc()),
                family: Some(Family::Inet6),
                scope: Some(scope.clone()),
            }],
            Host::Range(from, _) => one(host.clone(), Some(family(*from))),
            Host::Interface(interface) if !interface.dynamic => {
                let addresses = self.lookup(interface)?;
                if addresses.is_empty() {
                    return Err(Contradiction::UnknownHost(host.to_string()));
                }
                let scope = |net: &IpNet| is_link_local(net.addr()).then(|| interface.interface.clone());
                addresses
                    .iter()
                    .map(|net| Resolved {
                        negate,
                        host: Host::Net(net.trunc()),
                        family: Some(family(net.addr())),
                        scope: scope(net),
                    })
                    .collect()
            }
            _ => one(host.clone(), None),
        })
    }

    /// Addresses (or networks, broadcast addresses) of an interface by name, without parentheses.
    pub(super) fn lookup(&self, host: &InterfaceHost) -> Result<Vec<IpNet>, Contradiction> {
        let name = host.interface.as_str();
        let known = self.interfaces.networks(name);
        let networks = match known {
            Some(networks) => networks,
            None if name == "localhost" => {
                vec![IpAddr::from(Ipv4Addr::LOCALHOST).into(), IpAddr::from(Ipv6Addr::LOCALHOST).into()]
            }
            None => return Err(Contradiction::UnknownHost(host.to_string())),
        };
        let (mut seen_inet, mut seen_inet6) = (false, false);
        let mut found = Vec::new();
        for net in networks {
            let link_local = is_link_local(net.addr());
            if (host.network && link_local) || host.peer || (host.broadcast && !net.addr().is_ipv4()) {
                continue;
            }
            let seen = if net.addr().is_ipv4() { &mut seen_inet } else { &mut seen_inet6 };
            if host.no_alias && (*seen || link_local) {
                continue;
            }
            *seen = true;
            found.push(if host.network {
                net
            } else {
                let address = if host.broadcast { net.broadcast() } else { net.addr() };
                match host.prefix {
                    Some(prefix) => IpNet::new(address, prefix.min(net.max_prefix_len())).unwrap_or(net),
                    None => IpNet::from(address),
                }
            });
        }
        Ok(found)
    }
}
