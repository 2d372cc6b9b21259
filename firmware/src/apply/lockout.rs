//! The lock-out check: would the administrator who asks for this be cut off by it? The candidate rules are put
//! to the simulator, and the administrator's own connection is tried as a new one.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::machine::{Compiled, Machine};
use super::{AdminConnection, ApplyError};
use crate::compile::os::network::{InterfaceSetting, NetworkSettings, settings};
use crate::config::Config;
use crate::pf::packet::{Direction, Packet, flag};
use crate::platform::Interface;

/// Refuses rules under which the administrator's own connection could not be made. A connection from this
/// machine itself cannot be cut, and none is assumed for a client that is on no interface's side.
pub fn check(
    machine: &Machine,
    compiled: &Compiled,
    config: &Config,
    admin: AdminConnection,
) -> Result<(), ApplyError> {
    if admin.client.is_loopback() {
        return Ok(());
    }
    let interfaces = machine.platform.interfaces().unwrap_or_default();
    let Some(way_in) = arrives_on(&interfaces, config, admin.client) else { return Ok(()) };
    let Some(server) = server_of(way_in, admin, config.system.api_port) else { return Ok(()) };
    let simulator = machine.simulate(compiled)?;
    let packet = Packet::tcp(admin.client, 49152, server.ip(), server.port(), flag::SYN);
    let explained = simulator.explain(&way_in.name, Direction::In, &packet);
    if explained.passed() {
        return Ok(());
    }
    let reason = match explained.rule {
        Some(rule) => format!("{} to {server} on {} meets {}", admin.client, way_in.name, rule.text),
        None => format!("{} to {server} on {} is not passed", admin.client, way_in.name),
    };
    Err(ApplyError::LockOut { client: admin.client, reason })
}

/// Refuses network settings under which the administrator's own connection could not go on: its interface goes down or
/// away, it loses the address that the connection is to, or the way back to the client.
pub fn check_network(
    machine: &Machine,
    before: &Config,
    after: &Config,
    admin: AdminConnection,
) -> Result<(), ApplyError> {
    let (old, new) = (settings(before), settings(after));
    if admin.client.is_loopback() || old == new {
        return Ok(());
    }
    let interfaces = machine.platform.interfaces().unwrap_or_default();
    let server = admin.server.map(|server| server.ip()).filter(|ip| !ip.is_loopback());
    let holding =
        |ip: IpAddr| interfaces.iter().find(|held| held.addresses.iter().any(|own| own.addr() == ip));
    let way_in = server.and_then(holding).or_else(|| arrives_on(&interfaces, before, admin.client));
    let Some(way_in) = way_in else { return Ok(()) };
    match cut(way_in, &old, &new, admin.client, server) {
        Some(reason) => Err(ApplyError::LockOut { client: admin.client, reason }),
        None => Ok(()),
    }
}

/// Why the connection would end.
fn cut(
    way_in: &Interface,
    old: &NetworkSettings,
    new: &NetworkSettings,
    client: IpAddr,
    server: Option<IpAddr>,
) -> Option<String> {
    let name = way_in.name.as_str();
    let device =
        |settings: &NetworkSettings| settings.vlans.iter().find(|vlan| vlan.device.as_str() == name).cloned();
    if let Some(vlan) = device(old)
        && device(new).as_ref() != Some(&vlan)
    {
        return Some(format!("VLAN {} on {} goes", vlan.tag, vlan.parent));
    }
    let down = |name: &str| new.interface(name).is_some_and(|setting| !setting.up);
    if down(name) || device(new).is_some_and(|vlan| down(vlan.parent.as_str())) {
        return Some(format!("{name} goes down"));
    }
    let near = |net: &IpNet| net.contains(&client);
    let (was, is) = (old.interface(name), new.interface(name)?);
    if was != Some(is) {
        // Addresses that a server gives are those that it gave, as long as it is asked.
        let asked = |setting: &InterfaceSetting| match client {
            IpAddr::V4(_) => setting.dhcp,
            IpAddr::V6(_) => setting.slaac,
        };
        let goes_on = was.is_some_and(asked) && asked(is);
        let own: Vec<IpNet> = is.inet.map(IpNet::V4).into_iter().chain(is.inet6.map(IpNet::V6)).collect();
        // One that was never in the settings is not taken away by them (a CARP address, say).
        let managed = was.is_none_or(|was| {
            let held = was.inet.map(IpNet::V4).into_iter().chain(was.inet6.map(IpNet::V6));
            asked(was) || held.into_iter().any(|held| server.is_none_or(|ip| held.addr() == ip))
        });
        let server = server.or_else(|| {
            let same = |ip: &IpAddr| ip.is_ipv4() == client.is_ipv4();
            way_in.addresses.iter().map(IpNet::addr).find(same)
        });
        if !goes_on
            && managed
            && let Some(server) = server.filter(|server| own.iter().all(|own| own.addr() != *server))
        {
            return Some(format!("{name} loses {server}"));
        }
        let was_near = way_in.addresses.iter().any(near);
        if !goes_on && managed && was_near && !own.iter().any(near) {
            return Some(format!("{client} is no longer in a network of {name}"));
        }
    }
    if way_in.addresses.iter().any(near) {
        return None;
    }
    // The client is behind a gateway.
    let way = |settings: &NetworkSettings| {
        let matching =
            settings.routes.iter().filter(|route| route.fib == 0 && route.destination.contains(&client));
        let told = settings.interfaces.iter().any(|setting| setting.up && (setting.dhcp || setting.slaac));
        matching.count() > 0 || told
    };
    (way(old) && !way(new)).then(|| format!("the route to {client} goes"))
}

/// The interface in whose network the client is; else the WAN, where everybody else comes from.
fn arrives_on<'a>(interfaces: &'a [Interface], config: &Config, client: IpAddr) -> Option<&'a Interface> {
    let near = interfaces
        .iter()
        .filter(|interface| interface.name != "lo0")
        .find(|interface| interface.addresses.iter().any(|own| own.contains(&client)));
    near.or_else(|| {
        let wan = config.system.wan_interface.as_ref()?;
        interfaces.iter().find(|interface| interface.name == wan.as_str())
    })
}

/// The appliance's end of the connection: as it is, or the interface's own address of the client's family.
fn server_of(way_in: &Interface, admin: AdminConnection, port: u16) -> Option<SocketAddr> {
    if let Some(server) = admin.server.filter(|server| !server.ip().is_loopback()) {
        return Some(server);
    }
    let own = way_in
        .addresses
        .iter()
        .map(ipnet::IpNet::addr)
        .find(|own| own.is_ipv4() == admin.client.is_ipv4())?;
    Some(SocketAddr::new(own, port))
}
