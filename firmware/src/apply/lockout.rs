//! The lock-out check: would the administrator who asks for this be cut off by it? The candidate rules are put
//! to the simulator, and the administrator's own connection is tried as a new one.

use std::net::{IpAddr, SocketAddr};

use super::machine::{Compiled, Machine};
use super::{AdminConnection, ApplyError};
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
