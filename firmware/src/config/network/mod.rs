//! The machine's network as it is configured: what each interface has (contract/network.md §1), VLANs (§2), and what
//! interfaces are for (roles). Static routes are in [`super::route`]. Pure; read by `compile/`, written by the API and
//! by whoever sets the machine up.
//!
//! One truth: the rows here. The WAN and LAN fields of the `system` section are how a setup file and the configuration
//! document of others say the same thing. As long as there are no rows of a kind, they are read *through* those fields
//! ([`settings`], [`roles`]); the first write turns them into rows ([`materialise`]); from then on the rows are asked,
//! and each write brings the fields of `system` in step with them ([`keep_in_step`]), so that both say one thing.

mod request;
mod vlan;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use request::{InterfaceRequest, MTU, ModeWord, RoleRequest};
pub use vlan::{VLAN_IDS, Vlan, VlanRequest};

use super::system::WanMode;
use super::value::{epoch, string_value, yes};
use super::{BadValue, Config, InterfaceName, Object, System, Timestamp};

/// How an interface gets its IPv4 address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "mode", content = "address")]
pub enum Inet {
    #[default]
    None,
    /// dhclient(8) asks for it.
    Dhcp,
    Static(#[schemars(with = "String")] Ipv4Net),
}

/// How an interface gets its IPv6 address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "mode", content = "address")]
pub enum Inet6 {
    #[default]
    None,
    /// From router advertisements (RFC 4862).
    Slaac,
    Static(#[schemars(with = "String")] Ipv6Net),
}

/// What an interface is to have, whichever kind it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Addressing {
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Bytes; `None` = the driver's own.
    pub mtu: Option<u16>,
    pub inet: Inet,
    pub inet6: Inet6,
    /// Where everything goes that is on no link, IPv4.
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Ipv4Addr>,
    /// The same for IPv6; may be link-local.
    #[schemars(with = "Option<String>")]
    pub gateway6: Option<Ipv6Addr>,
    pub description: Option<String>,
}

impl Default for Addressing {
    fn default() -> Self {
        Self {
            enabled: true,
            mtu: None,
            inet: Inet::None,
            inet6: Inet6::None,
            gateway: None,
            gateway6: None,
            description: None,
        }
    }
}

impl Addressing {
    /// Addresses that it is given, IPv4 first; those that others give are not known here.
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        let inet = if let Inet::Static(own) = self.inet { Some(IpNet::V4(own)) } else { None };
        let inet6 = if let Inet6::Static(own) = self.inet6 { Some(IpNet::V6(own)) } else { None };
        inet.into_iter().chain(inet6)
    }
}

/// What one interface is to have. An interface without a row is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceSettings {
    pub name: InterfaceName,
    #[serde(flatten)]
    pub addressing: Addressing,
}

impl Object for InterfaceSettings {
    type Key = InterfaceName;
    fn key(&self) -> InterfaceName {
        self.name.clone()
    }
}

fn check_role(text: &str) -> Result<(), BadValue> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if (1..=32).contains(&text.len()) && text.bytes().all(fine) {
        Ok(())
    } else {
        Err(BadValue::new("expected a role: 1 to 32 of A-Z a-z 0-9 _ -"))
    }
}

string_value!(
    /// What an interface is for: 1 to 32 of `A-Z a-z 0-9 _ -`. `WAN` and `LAN` mean something to the rules, others are
    /// labels.
    RoleName, check_role
);

pub const WAN: &str = "WAN";
pub const LAN: &str = "LAN";

impl RoleName {
    /// WAN and LAN in whatever case are those in upper case.
    pub fn normal(text: &str) -> Result<Self, BadValue> {
        let upper = text.trim().to_ascii_uppercase();
        if upper == WAN || upper == LAN { Self::new(&upper) } else { Self::new(text.trim()) }
    }
}

/// What an interface is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceRole {
    pub name: InterfaceName,
    pub role: RoleName,
    #[serde(default = "epoch")]
    pub updated_at: Timestamp,
}

impl Object for InterfaceRole {
    type Key = InterfaceName;
    fn key(&self) -> InterfaceName {
        self.name.clone()
    }
}

/// Which of the two the `system` section speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Wan,
    Lan,
}

fn side(system: &System, side: Side) -> Option<&InterfaceName> {
    if side == Side::Wan { system.wan_interface.as_ref() } else { system.lan_interface.as_ref() }
}

/// What the `system` section says that the interface of one side is to have; `None` where it says nothing of addresses.
fn told_by(system: &System, of: Side) -> Option<InterfaceSettings> {
    let name = side(system, of)?.clone();
    let mut addressing = Addressing::default();
    if of == Side::Wan && system.wan_mode == WanMode::Dhcp {
        addressing.inet = Inet::Dhcp;
        return Some(InterfaceSettings { name, addressing });
    }
    match if of == Side::Wan { system.wan_ip } else { system.lan_ip }? {
        IpNet::V4(own) => addressing.inet = Inet::Static(own),
        IpNet::V6(own) => addressing.inet6 = Inet6::Static(own),
    }
    match system.wan_gateway.filter(|_| of == Side::Wan) {
        Some(IpAddr::V4(gateway)) => addressing.gateway = Some(gateway),
        Some(IpAddr::V6(gateway)) => addressing.gateway6 = Some(gateway),
        None => {}
    }
    Some(InterfaceSettings { name, addressing })
}

/// What each interface that is no VLAN is to have.
pub fn interfaces(config: &Config) -> Vec<Arc<InterfaceSettings>> {
    if !config.interfaces.is_empty() {
        return config.interfaces.iter().cloned().collect();
    }
    let told = [Side::Wan, Side::Lan].into_iter().filter_map(|of| told_by(&config.system, of));
    told.map(Arc::new).collect()
}

/// What an interface is to have: a VLAN's device as its VLAN says, any other as its row says. `None`: nothing is
/// configured, it is left alone.
pub fn settings(config: &Config, name: &str) -> Option<Addressing> {
    if let Some(vlan) = config.vlans.iter().find(|vlan| vlan.device.as_str() == name) {
        return Some(vlan.addressing.clone());
    }
    interfaces(config).iter().find(|row| row.name.as_str() == name).map(|row| row.addressing.clone())
}

/// Roles by interface, in the order in which they were given: the first WAN is the one that counts where only one can.
pub fn roles(config: &Config) -> Vec<(InterfaceName, RoleName)> {
    if config.interface_roles.is_empty() {
        let of = |name: &Option<InterfaceName>, role: &str| Some((name.clone()?, RoleName::new(role).ok()?));
        let system = &config.system;
        return [of(&system.wan_interface, WAN), of(&system.lan_interface, LAN)]
            .into_iter()
            .flatten()
            .collect();
    }
    let mut rows: Vec<_> = config.interface_roles.iter().collect();
    rows.sort_by_key(|row| (row.updated_at, row.name.clone()));
    rows.into_iter().map(|row| (row.name.clone(), row.role.clone())).collect()
}

pub fn role_of(config: &Config, name: &str) -> Option<RoleName> {
    roles(config).into_iter().find(|(of, _)| of.as_str() == name).map(|(_, role)| role)
}

/// Turns what the `system` section says into rows, where there are none yet. To be called before rows are written.
pub fn materialise(config: &mut Config) {
    if config.interfaces.is_empty() {
        for row in interfaces(config) {
            config.interfaces.insert((*row).clone());
        }
    }
    if config.interface_roles.is_empty() {
        for (name, role) in roles(config) {
            config.interface_roles.insert(InterfaceRole { name, role, updated_at: epoch() });
        }
    }
}

/// Gives the WAN and LAN fields of the `system` section what the rows say. To be called after rows were written.
pub fn keep_in_step(config: &mut Config) {
    let roles = roles(config);
    let of = |role: &str, present: &Option<InterfaceName>| {
        let mut having = roles.iter().filter(|(_, of)| of.as_str() == role).map(|(name, _)| name);
        let kept = present.as_ref().filter(|name| having.clone().any(|having| having == *name));
        kept.or_else(|| having.next()).cloned()
    };
    let mut system = (*config.system).clone();
    system.wan_interface = of(WAN, &system.wan_interface);
    system.lan_interface = of(LAN, &system.lan_interface);
    let has = |name: &Option<InterfaceName>| settings(config, name.as_ref()?.as_str());
    let wan = has(&system.wan_interface);
    system.wan_mode = match &wan {
        Some(wan) if wan.inet == Inet::Dhcp => WanMode::Dhcp,
        Some(_) => WanMode::Static,
        None => system.wan_mode,
    };
    system.wan_ip = wan.as_ref().and_then(|wan| wan.addresses().next());
    system.wan_gateway =
        wan.and_then(|wan| wan.gateway.map(IpAddr::V4).or_else(|| wan.gateway6.map(IpAddr::V6)));
    system.lan_ip = has(&system.lan_interface).and_then(|lan| lan.addresses().next());
    if *config.system != system {
        config.system = Arc::new(system);
    }
}

/// Takes the WAN and LAN fields of the `system` section for newer than the rows: they come from a document that has no
/// rows.
pub fn follow_system(config: &mut Config) {
    if config.interfaces.is_empty() && config.interface_roles.is_empty() {
        return;
    }
    let system = config.system.clone();
    materialise(config);
    let former = roles(config).into_iter().filter(|(_, role)| [WAN, LAN].contains(&role.as_str()));
    for (name, _) in former.collect::<Vec<_>>() {
        config.interface_roles.remove(&name);
    }
    for (of, role) in [(Side::Wan, WAN), (Side::Lan, LAN)] {
        if let (Some(name), Ok(role)) = (side(&system, of), RoleName::new(role)) {
            config.interface_roles.insert(InterfaceRole { name: name.clone(), role, updated_at: epoch() });
        }
        let Some(told) = told_by(&system, of) else { continue };
        let stored = config.interfaces.get(&told.name).map(|row| row.addressing.clone()).unwrap_or_default();
        let Addressing { inet, inet6, gateway, gateway6, .. } = told.addressing;
        let inet6 = if inet6 == Inet6::None { stored.inet6 } else { inet6 };
        let gateway6 = gateway6.or(stored.gateway6);
        config.interfaces.insert(InterfaceSettings {
            name: told.name,
            addressing: Addressing { inet, inet6, gateway, gateway6, ..stored },
        });
    }
}

#[cfg(test)]
mod tests;
