//! The machine that the simulator believes to stand in: its interfaces, their addresses and groups, and the
//! routes that follow from them. Answers what pf.conf(5) asks of it: `(em0:network)`, `self`, `egress`,
//! `no-route`, and where a forwarded packet leaves. Given by the platform; never looks at the real machine.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::pf::ast::InterfaceHost;
use crate::pf::expand::Interfaces as Lookup;
use crate::pf::packet::Family;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SimInterface {
    pub name: String,
    /// Addresses with their prefix, the first of a family being the one that `:0` names.
    pub addresses: Vec<IpNet>,
    /// Interface groups (ifconfig(8)), besides `egress`, which follows from the gateways.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Gateways of default routes through this interface, at most one per family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Hardware address.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
}

impl SimInterface {
    pub fn new(name: &str, addresses: impl IntoIterator<Item = IpNet>) -> Self {
        Self { name: name.into(), addresses: addresses.into_iter().collect(), ..Self::default() }
    }
    pub fn with_gateway(mut self, gateway: IpAddr) -> Self {
        self.gateways.push(gateway);
        self
    }
    pub fn is_loopback(&self) -> bool {
        self.groups.iter().any(|g| g == "lo")
            || self.name.strip_prefix("lo").is_some_and(|rest| rest.parse::<u16>().is_ok())
    }
    /// Whether a name in a rule means this interface: its own, or one of its groups.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name
            || name == "all"
            || (name == "any" && !self.is_loopback())
            || (name == "egress" && !self.gateways.is_empty())
            || self.groups.iter().any(|g| g == name)
    }
}

/// Where a packet leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub interface: Arc<str>,
    /// `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
}

/// All interfaces.
#[derive(Debug, Clone, Default)]
pub struct Interfaces {
    list: Vec<SimInterface>,
    names: Vec<Arc<str>>,
}

impl Interfaces {
    pub fn new(list: Vec<SimInterface>) -> Self {
        let names = list.iter().map(|i| Arc::from(i.name.as_str())).collect();
        Self { list, names }
    }
    pub fn iter(&self) -> impl Iterator<Item = &SimInterface> {
        self.list.iter()
    }
    pub fn get(&self, name: &str) -> Option<&SimInterface> {
        self.list.iter().find(|i| i.name == name)
    }

    /// Whether a rule's interface name means this interface.
    pub fn means(&self, named: &str, interface: &str) -> bool {
        if named == interface || named == "all" {
            return true;
        }
        match self.get(interface) {
            Some(known) => known.answers_to(named),
            None => named == "any" && !SimInterface::new(interface, []).is_loopback(),
        }
    }

    /// Whether an address is one of the machine's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.list.iter().flat_map(|i| &i.addresses).any(|net| net.addr() == address)
    }

    /// Whether a packet to this address ends here: own, broadcast, multicast, link-local or unspecified.
    pub fn ends_here(&self, address: IpAddr) -> bool {
        let special = match address {
            IpAddr::V4(a) => a.is_multicast() || a.is_broadcast() || a.is_unspecified() || a.is_link_local(),
            IpAddr::V6(a) => a.is_multicast() || a.is_unspecified() || a.is_unicast_link_local(),
        };
        special
            || self.is_own(address)
            || self.list.iter().flat_map(|i| &i.addresses).any(|net| match net {
                IpNet::V4(v4) => v4.prefix_len() < 31 && IpAddr::V4(v4.broadcast()) == address,
                IpNet::V6(_) => false,
            })
    }

    /// The interface whose network holds an address, by longest prefix.
    pub fn on_link(&self, address: IpAddr) -> Option<&SimInterface> {
        self.list
            .iter()
            .flat_map(|i| i.addresses.iter().map(move |net| (i, net)))
            .filter(|(_, net)| net.contains(&address))
            .max_by_key(|(_, net)| net.prefix_len())
            .map(|(i, _)| i)
    }

    /// Route to an address: a connected network, or the default route of its family.
    pub fn route(&self, address: IpAddr) -> Option<Hop> {
        let name = |i: &SimInterface| Arc::from(i.name.as_str());
        if let Some(interface) = self.on_link(address) {
            return Some(Hop { interface: name(interface), gateway: None });
        }
        self.list.iter().find_map(|i| {
            let gateway = i.gateways.iter().find(|g| g.is_ipv4() == address.is_ipv4())?;
            Some(Hop { interface: name(i), gateway: Some(*gateway) })
        })
    }

    /// Addresses that an interface in a rule stands for, both families, in the interface's order. `self` is every
    /// interface. A full-length prefix is a single address.
    pub fn resolve(&self, host: &InterfaceHost) -> Vec<IpNet> {
        let name = host.interface.as_str();
        let mut nets = Vec::new();
        for interface in self.list.iter().filter(|i| name == "self" || i.answers_to(name)) {
            let (mut seen4, mut seen6) = (false, false);
            for net in &interface.addresses {
                let link_local = matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
                // `:0` leaves aliases and link-local addresses out.
                if host.no_alias {
                    let seen = if net.addr().is_ipv4() { &mut seen4 } else { &mut seen6 };
                    if link_local || std::mem::replace(seen, true) {
                        continue;
                    }
                }
                if host.network {
                    // Every interface is in fe80::/64: it belongs to none (pf leaves it out).
                    if !link_local {
                        nets.push(net.trunc());
                    }
                } else if host.broadcast {
                    if let IpNet::V4(v4) = net {
                        nets.push(IpAddr::V4(v4.broadcast()).into());
                    }
                } else if !host.peer {
                    nets.push(net.addr().into());
                }
            }
        }
        if let Some(prefix) = host.prefix {
            for net in &mut nets {
                if let Ok(wider) = IpNet::new(net.addr(), prefix) {
                    *net = wider.trunc();
                }
            }
        }
        nets
    }

    /// Addresses of one family, for a pool.
    pub fn resolve_family(&self, host: &InterfaceHost, family: Family) -> Vec<IpNet> {
        let mut nets = self.resolve(host);
        nets.retain(|net| Family::of(net.addr()) == family);
        nets
    }

    /// A shared copy of an interface's name.
    pub fn name(&self, name: &str) -> Arc<str> {
        match self.names.iter().find(|n| &***n == name) {
            Some(known) => known.clone(),
            None => Arc::from(name),
        }
    }
}

impl Lookup for Interfaces {
    fn networks(&self, name: &str) -> Option<Vec<IpNet>> {
        let mut known = self.list.iter().filter(|i| name == "self" || i.answers_to(name)).peekable();
        known.peek()?;
        Some(known.flat_map(|i| i.addresses.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::InterfaceName;

    fn two() -> Interfaces {
        let nets = |list: &[&str]| list.iter().map(|n| n.parse::<IpNet>().unwrap()).collect::<Vec<_>>();
        Interfaces::new(vec![
            SimInterface::new(
                "em0",
                nets(&["203.0.113.2/24", "203.0.113.3/24", "fe80::1/64", "2001:db8::2/64"]),
            )
            .with_gateway("203.0.113.1".parse().unwrap()),
            SimInterface::new("em1", nets(&["192.168.1.1/24"])),
            SimInterface::new("lo0", nets(&["127.0.0.1/8"])),
        ])
    }

    #[test]
    fn names_and_groups() {
        let t = two();
        assert!(t.means("em0", "em0") && t.means("egress", "em0") && t.means("any", "em1"));
        assert!(!t.means("egress", "em1") && !t.means("any", "lo0") && t.means("all", "lo0"));
        assert!(t.means("any", "wg7") && !t.means("em0", "wg7"));
    }

    #[test]
    fn addresses_of_an_interface() {
        let t = two();
        let host = |edit: fn(&mut InterfaceHost)| {
            let mut h = InterfaceHost::named(&InterfaceName::new("em0").unwrap());
            edit(&mut h);
            t.resolve(&h).iter().map(|n| n.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            host(|h| h.no_alias = true),
            ["203.0.113.2/32", "2001:db8::2/128"],
            "first address, no link-local"
        );
        assert_eq!(
            host(|h| h.network = true),
            ["203.0.113.0/24", "203.0.113.0/24", "2001:db8::/64"],
            "no link-local network"
        );
        assert_eq!(host(|h| h.broadcast = true), ["203.0.113.255/32", "203.0.113.255/32"]);
    }

    #[test]
    fn routes() {
        let t = two();
        let to = |a: &str| {
            t.route(a.parse().unwrap()).map(|h| (h.interface.to_string(), h.gateway.map(|g| g.to_string())))
        };
        assert_eq!(to("192.168.1.77"), Some(("em1".into(), None)));
        assert_eq!(to("198.51.100.9"), Some(("em0".into(), Some("203.0.113.1".into()))));
        assert_eq!(to("2001:db8:9::1"), None);
        assert!(t.ends_here("192.168.1.255".parse().unwrap()) && t.ends_here("224.0.0.251".parse().unwrap()));
        assert!(!t.ends_here("192.168.1.2".parse().unwrap()));
    }
}
