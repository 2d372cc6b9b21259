//! What changes at the console after setup (contract/console.md §7, entries 1 and 2): WAN and LAN given to other
//! cards, and other addresses. What follows from the old ones — rules, NAT, the resolver's clients, DHCP — follows
//! the new ones. Pure; called by the API's console operations.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::{answers, seeds};
use crate::config::network::{self, Addressing, InterfaceSettings};
use crate::config::rule::Rule;
use crate::config::system::WanMode;
use crate::config::{Address, Config, InterfaceName, Invalid, NatRule, System, Timestamp};

/// WAN and LAN are these cards from now on; `None` = no LAN, and then no DHCP server and no NAT for it.
pub fn give_roles(config: &mut Config, wan: &InterfaceName, lan: Option<&InterfaceName>) {
    let old = config.system.clone();
    let moved = |name: &InterfaceName| {
        if Some(name) == old.wan_interface.as_ref() {
            Some(wan.clone())
        } else if Some(name) == old.lan_interface.as_ref() {
            lan.cloned()
        } else {
            None
        }
    };
    network::materialise(config);
    let system = Arc::make_mut(&mut config.system);
    system.wan_interface = Some(wan.clone());
    system.lan_interface = lan.cloned();
    system.lan_ip = match lan {
        Some(_) => system.lan_ip.or_else(|| answers::DEFAULT_LAN.parse().ok()),
        None => None,
    };
    network_follows(config, &old);
    replace_in_rules(config, &moved, &|address| match address {
        Address::Interface(name) => moved(name).map(Address::Interface),
        Address::InterfaceNetwork(name) => moved(name).map(Address::InterfaceNetwork),
        _ => None,
    });
    let dhcp = Arc::make_mut(&mut config.dhcp);
    for name in &mut dhcp.interfaces {
        if let Some(new) = InterfaceName::new(name).ok().as_ref().and_then(moved) {
            *name = new.to_string();
        }
    }
    if lan.is_none() {
        dhcp.enabled = false;
    }
}

/// After WAN and LAN were given to other cards: the interfaces' settings say what the `system` section does, and a card
/// that was one of them and is neither now keeps no address. Needs [`network::materialise`] before the change.
pub(super) fn network_follows(config: &mut Config, old: &System) {
    network::follow_system(config);
    let held = [&config.system.wan_interface, &config.system.lan_interface].map(Clone::clone);
    for name in [&old.wan_interface, &old.lan_interface].into_iter().flatten() {
        if held.contains(&Some(name.clone())) {
            continue;
        }
        if let Some(row) = config.interfaces.get(name).map(|row| (**row).clone()) {
            let Addressing { enabled, mtu, description, .. } = row.addressing;
            let addressing = Addressing { enabled, mtu, description, ..Addressing::default() };
            config.interfaces.insert(InterfaceSettings { name: row.name, addressing });
        }
    }
}

/// The WAN's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WanAddress {
    Dhcp,
    Static { own: IpNet, gateway: IpAddr },
}

/// The WAN asks for its address, or has this one; it may not be in the LAN's network.
pub fn set_wan(config: &mut Config, wan: WanAddress) -> Result<(), Invalid> {
    let system = &config.system;
    if let (WanAddress::Static { own, .. }, Some(lan)) = (wan, system.lan_ip) {
        answers::lan_address(&lan.to_string(), Some(own)).map_err(|_| {
            Invalid::new("address", format!("expected another network than the LAN's {}", lan.trunc()))
        })?;
    }
    let (wan_mode, wan_ip, wan_gateway) = match wan {
        WanAddress::Dhcp => (WanMode::Dhcp, None, None),
        WanAddress::Static { own, gateway } => (WanMode::Static, Some(own), Some(gateway)),
    };
    config.system = Arc::new(System { wan_mode, wan_ip, wan_gateway, ..(**system).clone() });
    network::follow_system(config);
    Ok(())
}

/// What the DHCP server does in the LAN's new network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanDhcp {
    Off,
    /// First and last address that it leases; `None` = as at setup.
    On(Option<(Ipv4Addr, Ipv4Addr)>),
}

/// The LAN's address. Rules, NAT and the resolver's list of clients that name the old network name the new one.
pub fn set_lan(config: &mut Config, own: Ipv4Net, dhcp: LanDhcp, now: Timestamp) -> Result<(), Invalid> {
    let old = config.system.clone();
    let Some(interface) = old.lan_interface.clone() else {
        return Err(Invalid::new("interface", "there is no LAN; assign one first"));
    };
    let network: IpNet = own.trunc().into();
    let former = old.lan_ip.map(|lan| lan.trunc());
    let moved_network = |held: &IpNet| (former == Some(held.trunc())).then_some(network);
    let moved_host =
        |held: &IpAddr| (old.lan_ip.map(|lan| lan.addr()) == Some(*held)).then(|| own.addr().into());
    Arc::make_mut(&mut config.system).lan_ip = Some(own.into());
    network::follow_system(config);
    replace_in_rules(config, &|_| None, &|address| match address {
        Address::Network(held) => moved_network(held).map(Address::Network),
        Address::Host(held) => moved_host(held).map(Address::Host),
        _ => None,
    });
    let acls: Vec<_> = config.dns_acls.iter().cloned().collect();
    for acl in acls {
        if let Some(network) = moved_network(&acl.network) {
            let mut acl = (*acl).clone();
            acl.network = network;
            config.dns_acls.insert(acl);
        }
    }
    let server = Arc::make_mut(&mut config.dhcp);
    let LanDhcp::On(pool) = dhcp else {
        server.enabled = false;
        return Ok(());
    };
    let lan = seeds::Lan { interface: interface.clone(), address: own.into(), network: own };
    let mut subnet = seeds::subnet(&lan, now)?;
    if let Some((first, last)) = pool {
        for (field, ip) in [("dhcp_from", first), ("dhcp_to", last)] {
            if !own.contains(&ip) || [own.network(), own.broadcast()].contains(&ip) {
                return Err(Invalid::new(field, format!("expected an address in {}", own.trunc())));
            }
        }
        if last < first {
            return Err(Invalid::new("dhcp_to", format!("expected no less than {first}")));
        }
        if (first..=last).contains(&own.addr()) {
            return Err(Invalid::new("dhcp_from", format!("expected a range without {} itself", own.addr())));
        }
        (subnet.pool_start, subnet.pool_end) = (first.to_string(), last.to_string());
    }
    let own = own.addr().to_string();
    let was = old.lan_ip.map(|lan| lan.addr().to_string());
    server.enabled = true;
    if !server.interfaces.contains(&interface.to_string()) {
        server.interfaces.push(interface.to_string());
    }
    server.dns_servers.retain(|ip| Some(ip) != was.as_ref() && *ip != own);
    server.dns_servers.insert(0, own);
    let before = config.dhcp_subnets.iter().find(|held| {
        let held = held.network.parse::<IpNet>().ok().map(|held| held.trunc());
        held.is_some() && (held == former || held == Some(network))
    });
    if let Some(before) = before {
        // Everything that somebody has set stays, but for what follows from the network.
        subnet = crate::config::dhcp::DhcpSubnet {
            network: subnet.network,
            pool_start: subnet.pool_start,
            pool_end: subnet.pool_end,
            gateway: subnet.gateway,
            dns_servers: subnet.dns_servers,
            enabled: true,
            ..(**before).clone()
        };
    }
    config.dhcp_subnets.insert(subnet);
    Ok(())
}

/// Puts another interface or address in the place of one, in every rule and NAT rule that names it.
fn replace_in_rules(
    config: &mut Config,
    interface: &dyn Fn(&InterfaceName) -> Option<InterfaceName>,
    address: &dyn Fn(&Address) -> Option<Address>,
) {
    let put = |held: &mut Address| match address(held) {
        Some(new) => {
            *held = new;
            true
        }
        None => false,
    };
    let rules: Vec<Arc<Rule>> = config.rules.iter().cloned().collect();
    for rule in rules {
        let mut rule = Rule::clone(&rule);
        let on = rule.interface.as_ref().and_then(interface);
        let ends = [put(&mut rule.src.addr), put(&mut rule.dst.addr)];
        if on.is_some() || ends.contains(&true) {
            rule.interface = on.or(rule.interface);
            config.rules.insert(rule);
        }
    }
    let nat: Vec<Arc<NatRule>> = config.nat.iter().cloned().collect();
    for rule in nat {
        let mut rule = NatRule::clone(&rule);
        let on = interface(&rule.interface);
        let ends = [put(&mut rule.src_addr), put(&mut rule.dst_addr), put(&mut rule.redirect.address)];
        if on.is_some() || ends.contains(&true) {
            rule.interface = on.unwrap_or(rule.interface);
            config.nat.insert(rule);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Setup;
    use super::*;

    fn config() -> Config {
        let file =
            br#"{"wan_interface":"em0","lan_interface":"em1","lan_ip":"192.168.1.1/24","nat_enabled":true,
            "dhcp_enabled":true,"admin_password":"Abcdef12"}"#;
        Setup::parse(file, Timestamp::now(), &crate::config::setup::Facts::default()).unwrap().config
    }

    fn name(text: &str) -> InterfaceName {
        InterfaceName::new(text).unwrap()
    }

    #[test]
    fn cards_that_change_places_take_their_rules_along() {
        let mut config = config();
        let before = config.rules.iter().filter(|rule| rule.interface == Some(name("em1"))).count();
        assert!(before > 2);
        give_roles(&mut config, &name("em1"), Some(&name("em0")));
        let on =
            |wanted: &str| config.rules.iter().filter(|rule| rule.interface == Some(name(wanted))).count();
        assert_eq!(on("em0"), before);
        assert_eq!(config.nat.iter().next().unwrap().interface, name("em1"));
        assert_eq!(config.dhcp.interfaces, ["em0"]);
        give_roles(&mut config, &name("em1"), None);
        assert_eq!((config.system.lan_ip, config.dhcp.enabled), (None, false));
    }

    #[test]
    fn a_card_that_is_neither_any_more_keeps_no_address() {
        let mut config = config();
        give_roles(&mut config, &name("em2"), Some(&name("em1")));
        let own = |of: &str| network::settings(&config, of).map(|row| (row.inet, row.gateway));
        assert_eq!(own("em0"), Some((network::Inet::None, None)));
        assert_eq!(own("em2"), Some((network::Inet::Dhcp, None)));
        assert_eq!(own("em1").unwrap().0, network::Inet::Static("192.168.1.1/24".parse().unwrap()));
        let roles: Vec<String> =
            network::roles(&config).into_iter().map(|(name, role)| format!("{name} {role}")).collect();
        assert_eq!(roles.len(), 2, "{roles:?}");
        assert!(roles.contains(&"em2 WAN".to_owned()) && roles.contains(&"em1 LAN".to_owned()), "{roles:?}");
        let wan = WanAddress::Static {
            own: "198.51.100.2/24".parse().unwrap(),
            gateway: "198.51.100.1".parse().unwrap(),
        };
        set_wan(&mut config, wan).unwrap();
        let row = network::settings(&config, "em2").unwrap();
        assert_eq!(row.inet, network::Inet::Static("198.51.100.2/24".parse().unwrap()));
        assert_eq!(row.gateway, Some("198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn another_lan_takes_rules_nat_resolver_and_leases_along() {
        let mut config = config();
        let own: Ipv4Net = "10.20.0.1/16".parse().unwrap();
        set_lan(&mut config, own, LanDhcp::On(None), Timestamp::now()).unwrap();
        let network: IpNet = "10.20.0.0/16".parse().unwrap();
        assert_eq!(config.system.lan_ip, Some(own.into()));
        assert_eq!(config.nat.iter().next().unwrap().src_addr, Address::Network(network));
        let old: IpNet = "192.168.1.0/24".parse().unwrap();
        assert!(config.rules.iter().all(|rule| rule.src.addr != Address::Network(old)));
        assert!(config.dns_acls.iter().any(|acl| acl.network == network));
        let subnets: Vec<_> = config.dhcp_subnets.iter().collect();
        assert_eq!(subnets.len(), 1);
        assert_eq!(
            (subnets[0].network.as_str(), subnets[0].pool_start.as_str(), subnets[0].pool_end.as_str()),
            ("10.20.0.0/16", "10.20.0.20", "10.20.255.254")
        );
        assert_eq!(
            (subnets[0].gateway.as_str(), &config.dhcp.dns_servers),
            ("10.20.0.1", &vec!["10.20.0.1".to_owned()])
        );
        let refused = |from: &str, to: &str| {
            let pool = Some((from.parse().unwrap(), to.parse().unwrap()));
            set_lan(&mut self::config(), own, LanDhcp::On(pool), Timestamp::now()).unwrap_err().to_string()
        };
        assert!(refused("10.21.0.1", "10.20.0.9").starts_with("dhcp_from"));
        assert!(refused("10.20.0.9", "10.20.0.5").starts_with("dhcp_to"));
        assert!(refused("10.20.0.1", "10.20.0.9").contains("without 10.20.0.1 itself"));
        set_lan(&mut config, own, LanDhcp::Off, Timestamp::now()).unwrap();
        assert!(!config.dhcp.enabled);
    }

    #[test]
    fn a_wan_inside_the_lan_is_refused() {
        let mut config = config();
        let own = "192.168.1.77/24".parse().unwrap();
        let gateway = "192.168.1.254".parse().unwrap();
        let error = set_wan(&mut config, WanAddress::Static { own, gateway }).unwrap_err();
        assert!(error.to_string().contains("192.168.1.0/24"), "{error}");
        let own = "198.51.100.2/24".parse().unwrap();
        let gateway = "198.51.100.1".parse().unwrap();
        set_wan(&mut config, WanAddress::Static { own, gateway }).unwrap();
        assert_eq!((config.system.wan_mode, config.system.wan_ip), (WanMode::Static, Some(own)));
        set_wan(&mut config, WanAddress::Dhcp).unwrap();
        assert_eq!((config.system.wan_mode, config.system.wan_gateway), (WanMode::Dhcp, None));
    }
}
