//! Interfaces in a document: which it names, how they are renamed or dropped when it moves to another machine.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::ConfigDocument;
use crate::config::{Address, InterfaceName};

/// Name in the document → name here, or `None`: drop what is on it. Names that are not in it stay.
pub type InterfaceMap = BTreeMap<String, Option<InterfaceName>>;

/// What goes if nothing is done about the interfaces that are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DropSummary {
    pub rules: usize,
    pub nat: usize,
    pub wireguard: usize,
    pub carp: usize,
    pub queues: usize,
    pub rate_limits: usize,
    pub pfsync: bool,
}

/// Names of interfaces that exist only where something creates them: no physical one can stand in.
const CLONED: [&str; 10] = ["wg", "vlan", "lagg", "bridge", "tun", "tap", "gif", "gre", "carp", "lo"];

fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn of_address(address: &Address) -> Option<&InterfaceName> {
    match address {
        Address::Interface(name) | Address::InterfaceNetwork(name) => Some(name),
        _ => None,
    }
}

/// Renames one place; false = what it belongs to is dropped.
fn map_name(name: &mut InterfaceName, map: &InterfaceMap) -> bool {
    match map.get(name.as_str()) {
        None => true,
        Some(Some(new)) => {
            *name = new.clone();
            true
        }
        Some(None) => false,
    }
}

fn map_optional(name: &mut Option<InterfaceName>, map: &InterfaceMap) -> bool {
    name.as_mut().is_none_or(|name| map_name(name, map))
}

fn map_address(address: &mut Address, map: &InterfaceMap) -> bool {
    match address {
        Address::Interface(name) | Address::InterfaceNetwork(name) => map_name(name, map),
        _ => true,
    }
}

/// A name that may be empty, and is emptied rather than dropped.
fn map_text(name: &mut String, map: &InterfaceMap) {
    if let Some(new) = map.get(name.as_str()) {
        *name = new.as_ref().map(InterfaceName::to_string).unwrap_or_default();
    }
}

impl ConfigDocument {
    /// Names used by rules, NAT, WireGuard, CARP, pfsync, queues, rate limits, static routes and the network section,
    /// sorted.
    pub fn interfaces_found(&self) -> Vec<String> {
        let mut found: BTreeSet<&InterfaceName> = BTreeSet::new();
        for rule in &self.rules {
            found.extend(&rule.interface);
            found.extend([&rule.src_addr, &rule.dst_addr].into_iter().flatten().filter_map(of_address));
        }
        for rule in &self.nat {
            found.insert(&rule.interface);
            let addresses = [rule.src_addr.as_ref(), rule.dst_addr.as_ref(), Some(&rule.redirect_addr)];
            found.extend(addresses.into_iter().flatten().filter_map(of_address));
        }
        found.extend(self.vpn.wireguard.iter().map(|tunnel| &tunnel.interface));
        found.extend(self.ha.carp_vips.iter().map(|vip| &vip.interface));
        found.extend(self.ha.pfsync.iter().map(|pfsync| &pfsync.sync_interface));
        found.extend(self.queues.iter().map(|queue| &queue.interface));
        found.extend(self.rate_limits.iter().filter_map(|limit| limit.interface.as_ref()));
        found.extend(self.static_routes.iter().filter_map(|route| route.interface.as_ref()));
        if let Some(network) = &self.network {
            // A VLAN's own device is made; its parent must be there.
            let made = |name: &InterfaceName| network.vlans.iter().any(|vlan| vlan.device == *name);
            found.extend(network.vlans.iter().map(|vlan| &vlan.parent));
            found.extend(network.interfaces.iter().map(|row| &row.name));
            found.extend(network.roles.iter().map(|row| &row.name));
            found.retain(|name| !made(name));
        }
        found.into_iter().map(InterfaceName::to_string).collect()
    }

    /// Renames interfaces, and drops the entries of those that are mapped to nothing.
    pub fn map_interfaces(&mut self, map: &InterfaceMap) {
        if map.is_empty() {
            return;
        }
        self.rules.retain_mut(|rule| {
            let addresses = [&mut rule.src_addr, &mut rule.dst_addr];
            map_optional(&mut rule.interface, map)
                && addresses.into_iter().flatten().all(|address| map_address(address, map))
        });
        self.nat.retain_mut(|rule| {
            let addresses = [rule.src_addr.as_mut(), rule.dst_addr.as_mut(), Some(&mut rule.redirect_addr)];
            map_name(&mut rule.interface, map)
                && addresses.into_iter().flatten().all(|address| map_address(address, map))
        });
        self.vpn.wireguard.retain_mut(|tunnel| map_name(&mut tunnel.interface, map));
        self.ha.carp_vips.retain_mut(|vip| map_name(&mut vip.interface, map));
        if self.ha.pfsync.as_mut().is_some_and(|pfsync| !map_name(&mut pfsync.sync_interface, map)) {
            self.ha.pfsync = None;
        }
        self.queues.retain_mut(|queue| map_name(&mut queue.interface, map));
        self.rate_limits.retain_mut(|limit| map_optional(&mut limit.interface, map));
        self.static_routes.retain_mut(|route| map_optional(&mut route.interface, map));
        self.dhcp.global.interfaces.iter_mut().for_each(|name| map_text(name, map));
        self.dhcp.global.interfaces.retain(|name| !name.is_empty());
        if let Some(network) = &mut self.network {
            network.interfaces.retain_mut(|row| map_name(&mut row.name, map));
            network.roles.retain_mut(|row| map_name(&mut row.name, map));
            network.vlans.retain_mut(|vlan| map_name(&mut vlan.parent, map));
        }
        map_text(&mut self.system.wan_interface, map);
        if let Some(name) = &mut self.system.lan_interface {
            map_text(name, map);
        }
    }

    /// What [`ConfigDocument::map_interfaces`] removes if these interfaces are mapped to nothing.
    pub fn drop_summary(&self, missing: &[String]) -> DropSummary {
        let map: InterfaceMap = missing.iter().map(|name| (name.clone(), None)).collect();
        let mut rest = self.clone();
        rest.map_interfaces(&map);
        DropSummary {
            rules: self.rules.len() - rest.rules.len(),
            nat: self.nat.len() - rest.nat.len(),
            wireguard: self.vpn.wireguard.len() - rest.vpn.wireguard.len(),
            carp: self.ha.carp_vips.len() - rest.ha.carp_vips.len(),
            queues: self.queues.len() - rest.queues.len(),
            rate_limits: self.rate_limits.len() - rest.rate_limits.len(),
            pfsync: self.ha.pfsync.is_some() && rest.ha.pfsync.is_none(),
        }
    }
}

/// For each missing name the present one that is most likely meant: same driver first, else the first that is
/// not a loopback. Cloned interfaces get none.
pub fn suggestions(missing: &[String], present: &[String]) -> BTreeMap<String, String> {
    let cloned = |name: &str| name.contains('.') || CLONED.contains(&stem(name));
    let of = |name: &String| {
        let alike = present.iter().find(|other| stem(other) == stem(name));
        alike.or_else(|| present.iter().find(|other| stem(other) != "lo")).cloned()
    };
    let physical = missing.iter().filter(|name| !cloned(name));
    physical.filter_map(|name| Some((name.clone(), of(name)?))).collect()
}
