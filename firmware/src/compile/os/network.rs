//! What the machine's network is to be like: interfaces, VLANs, routes, name servers. A pure value; the platforms bring
//! their machine to it ([`crate::platform::Platform::configure_network`]), two of them compare.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use crate::config::dns::names::NameServer;
use crate::config::network::{self, Addressing, Inet, Inet6, LAN, WAN};
use crate::config::{Config, InterfaceName};

/// One interface. What is `None` or empty here is taken away from the machine's, except the MTU, which stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceSetting {
    pub name: InterfaceName,
    pub up: bool,
    pub mtu: Option<u16>,
    pub inet: Option<Ipv4Net>,
    /// Its IPv4 address and default route come from a DHCP server.
    pub dhcp: bool,
    pub inet6: Option<Ipv6Net>,
    /// Its IPv6 addresses and default route come from router advertisements.
    pub slaac: bool,
    pub description: Option<String>,
}

/// A VLAN's device. What it has stands among the interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VlanSetting {
    pub device: InterfaceName,
    pub tag: u16,
    pub parent: InterfaceName,
}

/// A route to be installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RouteSetting {
    pub fib: u32,
    pub destination: IpNet,
    pub gateway: IpAddr,
    /// The interface through which the gateway is reached.
    pub interface: Option<InterfaceName>,
}

/// The whole network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NetworkSettings {
    /// Interfaces that are configured; others are left alone.
    pub interfaces: Vec<InterfaceSetting>,
    pub vlans: Vec<VlanSetting>,
    /// In the order of installing; each destination of a FIB once. Default routes of interfaces are among them.
    pub routes: Vec<RouteSetting>,
    /// Empty = those that DHCP servers tell.
    pub name_servers: Vec<NameServer>,
    /// Search domain of the resolver; may be empty.
    pub domain: String,
}

impl NetworkSettings {
    pub fn interface(&self, name: &str) -> Option<&InterfaceSetting> {
        self.interfaces.iter().find(|interface| interface.name.as_str() == name)
    }

    /// Names of interfaces that ask a DHCP server.
    pub fn dhcp(&self) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces
            .iter()
            .filter(|interface| interface.dhcp && interface.up)
            .map(|interface| &interface.name)
    }

    /// Names of interfaces that listen to router advertisements.
    pub fn slaac(&self) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces
            .iter()
            .filter(|interface| interface.slaac && interface.up)
            .map(|interface| &interface.name)
    }
}

fn interface(name: &InterfaceName, addressing: &Addressing) -> InterfaceSetting {
    InterfaceSetting {
        name: name.clone(),
        up: addressing.enabled,
        mtu: addressing.mtu,
        inet: if let Inet::Static(own) = addressing.inet { Some(own) } else { None },
        dhcp: addressing.inet == Inet::Dhcp,
        inet6: if let Inet6::Static(own) = addressing.inet6 { Some(own) } else { None },
        slaac: addressing.inet6 == Inet6::Slaac,
        description: addressing.description.clone(),
    }
}

/// What a configuration means for the machine's network. The interface that the default route had best go through
/// stands first: the WAN's, others, the LAN's last.
pub fn settings(config: &Config) -> NetworkSettings {
    let plain = network::interfaces(config);
    let mut vlans: Vec<_> = config.vlans.iter().collect();
    vlans.sort_by_key(|vlan| (vlan.created_at, vlan.id));
    let mut all: Vec<(&InterfaceName, &Addressing)> = plain
        .iter()
        .filter(|row| vlans.iter().all(|vlan| vlan.device != row.name))
        .map(|row| (&row.name, &row.addressing))
        .chain(vlans.iter().map(|vlan| (&vlan.device, &vlan.addressing)))
        .collect();
    let roles = network::roles(config);
    all.sort_by_key(|(name, _)| {
        let is = |wanted: &str| roles.iter().any(|(of, role)| of == *name && role.as_str() == wanted);
        (config.system.wan_interface.as_ref() != Some(*name), u8::from(!is(WAN)) + u8::from(is(LAN)))
    });
    NetworkSettings {
        interfaces: all.iter().map(|(name, addressing)| interface(name, addressing)).collect(),
        // One that is disabled is there, and down: rules may name it.
        vlans: vlans
            .iter()
            .map(|vlan| VlanSetting {
                device: vlan.device.clone(),
                tag: vlan.vlan_id,
                parent: vlan.parent.clone(),
            })
            .collect(),
        routes: routes(config, &all),
        name_servers: config.system.dns_servers.clone(),
        domain: config.system.domain.clone(),
    }
}

/// Default routes of the interfaces, then the static ones: of several with the same destination and FIB the one with
/// the lowest metric counts, and a static default route is stronger than an interface's.
fn routes(config: &Config, interfaces: &[(&InterfaceName, &Addressing)]) -> Vec<RouteSetting> {
    let mut chosen: BTreeMap<(u32, IpNet), RouteSetting> = BTreeMap::new();
    let mut order = Vec::new();
    let mut add = |route: RouteSetting| {
        let key = (route.fib, route.destination);
        if let Entry::Vacant(free) = chosen.entry(key) {
            free.insert(route);
            order.push(key);
        }
    };
    let mut stored: Vec<_> = config.static_routes.iter().filter(|route| route.enabled).collect();
    stored.sort_by_key(|route| route.order());
    let fixed = stored.iter().filter_map(|route| {
        let (destination, gateway) = route.path().ok()?;
        Some(RouteSetting { fib: route.fib, destination, gateway, interface: route.interface.clone() })
    });
    let (defaults, others): (Vec<_>, Vec<_>) = fixed.partition(|route| route.destination.prefix_len() == 0);
    defaults.into_iter().for_each(&mut add);
    // Behind an interface whose server or router tells the way, the others' gateways do not count.
    let (mut told, mut told6) = (false, false);
    for (name, addressing) in interfaces.iter().filter(|(_, addressing)| addressing.enabled) {
        told |= addressing.inet == Inet::Dhcp;
        told6 |= addressing.inet6 == Inet6::Slaac;
        let gateways = [
            addressing.gateway.map(IpAddr::V4).filter(|_| !told),
            addressing.gateway6.map(IpAddr::V6).filter(|_| !told6),
        ];
        for gateway in gateways.into_iter().flatten() {
            add(RouteSetting {
                fib: 0,
                destination: everywhere(gateway),
                gateway,
                interface: Some((*name).clone()),
            });
        }
    }
    others.into_iter().for_each(&mut add);
    order.iter().filter_map(|key| chosen.remove(key)).collect()
}

/// The destination of a default route.
pub fn everywhere(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::config::setup::Setup;
    use crate::config::{Id, Timestamp};

    fn config() -> Config {
        let file = json!({
            "wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
            "lan_interface": "em1", "lan_ip": "192.168.1.1/24", "domain": "example.org",
        });
        Setup::parse_without_admin(file.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap().config
    }

    fn route(destination: &str, gateway: &str, metric: i32, fib: u32) -> crate::config::route::StaticRoute {
        serde_json::from_value(json!({"id": Id::new_v4(), "destination": destination, "gateway": gateway,
            "metric": metric, "fib": fib}))
        .unwrap()
    }

    fn shown(settings: &NetworkSettings) -> Vec<String> {
        let text = |route: &RouteSetting| format!("{} {} {}", route.fib, route.destination, route.gateway);
        settings.routes.iter().map(text).collect()
    }

    #[test]
    fn a_setup_file_is_a_wan_a_lan_and_a_default_route() {
        let settings = settings(&config());
        let shown_as = |name: &str| {
            let found = settings.interface(name).unwrap();
            (found.up, found.dhcp, found.inet.map(|own| own.to_string()))
        };
        assert_eq!(shown_as("em0"), (true, false, Some("203.0.113.2/24".into())));
        assert_eq!(shown_as("em1"), (true, false, Some("192.168.1.1/24".into())));
        assert_eq!(shown(&settings), ["0 0.0.0.0/0 203.0.113.1"]);
        assert_eq!((settings.domain.as_str(), settings.name_servers.len()), ("example.org", 2));
    }

    #[test]
    fn of_routes_to_one_destination_the_lowest_metric_counts() {
        let mut config = config();
        let (near, far) =
            (route("10.0.0.0/8", "192.168.1.2", 10, 0), route("10.0.0.0/8", "192.168.1.3", 5, 0));
        for made in
            [near, far.clone(), route("10.0.0.0/8", "192.168.1.2", 0, 1), route("nonsense", "x", 0, 0)]
        {
            config.static_routes.insert(made);
        }
        assert_eq!(
            shown(&settings(&config)),
            ["0 0.0.0.0/0 203.0.113.1", "0 10.0.0.0/8 192.168.1.3", "1 10.0.0.0/8 192.168.1.2"]
        );
        config.static_routes.insert(crate::config::route::StaticRoute { enabled: false, ..far });
        assert_eq!(shown(&settings(&config))[1], "0 10.0.0.0/8 192.168.1.2");
        config.static_routes.insert(route("default", "192.168.1.9", 0, 0));
        assert_eq!(shown(&settings(&config))[0], "0 0.0.0.0/0 192.168.1.9");
    }

    #[test]
    fn behind_a_wan_that_asks_a_server_no_other_gateway_counts() {
        let mut config = config();
        network::materialise(&mut config);
        let row = |config: &Config, name: &str| {
            (**config.interfaces.iter().find(|row| row.name.as_str() == name).unwrap()).clone()
        };
        let mut lan = row(&config, "em1");
        lan.addressing.gateway = Some("192.168.1.254".parse().unwrap());
        config.interfaces.insert(lan);
        // The WAN's own comes first.
        assert_eq!(settings(&config).interfaces[0].name.as_str(), "em0");
        assert_eq!(shown(&settings(&config)), ["0 0.0.0.0/0 203.0.113.1"]);
        let mut wan = row(&config, "em0");
        (wan.addressing.inet, wan.addressing.gateway) = (Inet::Dhcp, None);
        config.interfaces.insert(wan.clone());
        assert!(shown(&settings(&config)).is_empty());
        // A WAN that is off has no say.
        wan.addressing.enabled = false;
        config.interfaces.insert(wan);
        assert_eq!(shown(&settings(&config)), ["0 0.0.0.0/0 192.168.1.254"]);
    }

    #[test]
    fn a_vlan_is_a_device_and_an_interface() {
        let mut config = config();
        let request: network::VlanRequest = serde_json::from_value(json!({"vlan_id": 100, "parent": "em1",
            "ipv4_mode": "dhcp", "ipv6_mode": "slaac", "enabled": true}))
        .unwrap();
        config.vlans.insert(request.create(Timestamp::UNIX_EPOCH, &config).unwrap());
        let settings = settings(&config);
        assert_eq!((settings.vlans[0].device.as_str(), settings.vlans[0].tag), ("vlan100", 100));
        assert_eq!(settings.dhcp().map(InterfaceName::as_str).collect::<Vec<_>>(), ["vlan100"]);
        assert_eq!(settings.slaac().map(InterfaceName::as_str).collect::<Vec<_>>(), ["vlan100"]);
    }
}
