//! The DHCP daemon's file (rDHCP 0.16.2, contract/dhcp.md §8), and its lines of pf. Pure: names of time servers are
//! resolved, and the key of its API is made, by the caller.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::anchors::pass_udp;
use super::{Facts, File};
use crate::compile::Environment;
use crate::compile::template::{self, TemplateError};
use crate::config::dhcp::{DhcpOption, DhcpReservation, DhcpSubnet, SubnetType, is_relay, names as spelling};
use crate::config::{Config, InterfaceName};
use crate::pf::ast::*;

const TEMPLATE: &str = include_str!("../../../../templates/rdhcpd/config.toml");

/// Modes of high availability that this version of the daemon has. It ends at once when it is told another.
const HA_MODES: [&str; 1] = ["standalone"];

#[derive(Serialize)]
struct Values<'a> {
    lease_db: String,
    workers: u32,
    accept_relayed: bool,
    relay_rate_limit_burst: u32,
    relay_rate_limit_pps: f64,
    api_listen: SocketAddr,
    api_key: &'a str,
    subnets: Vec<Subnet>,
}

#[derive(Serialize)]
struct Subnet {
    network: String,
    kind: SubnetType,
    pool: Option<[String; 2]>,
    delegated_length: Option<u8>,
    lease_time: u32,
    max_lease_time: u32,
    renewal_time: Option<u32>,
    rebinding_time: Option<u32>,
    preferred_time: Option<u32>,
    router: Option<Ipv4Addr>,
    dns: Vec<IpAddr>,
    ntp: Vec<IpAddr>,
    domain: Option<String>,
    trusted_relays: Vec<String>,
    reservations: Vec<Reservation>,
    options: Vec<Opt>,
}

#[derive(Serialize)]
struct Reservation {
    ip: String,
    mac: Option<String>,
    client_id: Option<String>,
    hostname: Option<String>,
}

#[derive(Serialize)]
struct Opt {
    code: u8,
    /// One of the daemon's own words: `ip`, `ips`, `string`, `u8`, `u16`, `u32`, `hex`.
    key: &'static str,
    value: Value,
}

/// Where the daemon's API listens.
pub fn api(config: &Config) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], config.dhcp.api_port))
}

/// Enabled subnets in the order in which the daemon must have them: it answers clients on its own links from the
/// subnet of the first router it finds, and sends through the first interface with an address in any of them.
pub fn subnets<'a>(config: &'a Config, facts: &Facts) -> Vec<&'a Arc<DhcpSubnet>> {
    let mut subnets: Vec<&Arc<DhcpSubnet>> =
        config.dhcp_subnets.iter().filter(|subnet| subnet.enabled && !cannot_serve(subnet, facts)).collect();
    subnets.sort_by_key(|subnet| {
        let place = local_place(config, facts, subnet).unwrap_or(usize::MAX);
        (place, subnet.created_at, subnet.id)
    });
    subnets
}

/// DHCPv6 has no port of its own choice in the daemon: where ports are raised (a sandbox), it would not start.
fn cannot_serve(subnet: &DhcpSubnet, facts: &Facts) -> bool {
    matches!(subnet.net(), Some(IpNet::V6(_))) && facts.listen.port(SERVER6) != SERVER6
}

/// Place of the interface that has an address in a subnet, among the selected interfaces or, when none is selected,
/// all of them.
fn local_place(config: &Config, facts: &Facts, subnet: &DhcpSubnet) -> Option<usize> {
    let network = subnet.net()?;
    let selected = &config.dhcp.interfaces;
    let holds = |name: &str| facts.addresses_of(name).iter().any(|own| network.contains(own));
    match selected.is_empty() {
        false => selected.iter().position(|name| holds(name)),
        true => facts.interfaces.iter().position(|interface| holds(interface.name.as_str())),
    }
}

/// Names among the time servers, which the daemon does not take.
pub fn names(config: &Config) -> Vec<Arc<str>> {
    let servers = config.dhcp.ntp_servers.iter();
    servers.filter(|server| server.parse::<IpAddr>().is_err()).map(|name| name.as_str().into()).collect()
}

/// The file. `resolved` has the addresses of [`names`].
pub fn file(
    config: &Config,
    resolved: &BTreeMap<Arc<str>, Vec<IpAddr>>,
    api_key: &str,
    facts: &Facts,
) -> Result<File, TemplateError> {
    let global = &config.dhcp;
    let values = Values {
        lease_db: facts.places.data.join("leases").display().to_string(),
        workers: global.workers,
        accept_relayed: global.accept_relayed,
        relay_rate_limit_burst: global.relay_rate_limit_burst,
        relay_rate_limit_pps: global.relay_rate_limit_pps,
        api_listen: api(config),
        api_key,
        subnets: subnets(config, facts)
            .into_iter()
            .map(|subnet| compiled(config, subnet, resolved))
            .collect(),
    };
    Ok(File::new("config.toml", template::render("rdhcpd/config.toml", TEMPLATE, values)?))
}

fn addresses(list: &Option<String>) -> Option<Vec<IpAddr>> {
    let list = list.as_ref()?;
    Some(list.split(',').filter_map(|text| text.trim().parse().ok()).collect())
}

fn compiled(config: &Config, subnet: &DhcpSubnet, resolved: &BTreeMap<Arc<str>, Vec<IpAddr>>) -> Subnet {
    let global = &config.dhcp;
    let is_v4 = matches!(subnet.net(), Some(IpNet::V4(_)));
    let delegates = subnet.subnet_type == SubnetType::PrefixDelegation;
    let lease_time = subnet.lease_time.unwrap_or(global.default_lease_time);
    let ntp = || {
        let servers = global.ntp_servers.iter().flat_map(|server| match server.parse() {
            Ok(ip) => vec![ip],
            Err(_) => resolved.get(server.as_str()).cloned().unwrap_or_default(),
        });
        servers.filter(IpAddr::is_ipv4).collect()
    };
    let reservations: Vec<_> = config
        .dhcp_reservations
        .iter()
        .filter(|reservation| reservation.subnet(config).is_some_and(|own| own.id == subnet.id))
        .collect();
    let mut reservations: Vec<Reservation> =
        reservations.into_iter().filter_map(|one| usable(one, subnet)).collect();
    reservations.sort_by_key(|reservation| reservation.ip.parse::<IpAddr>().ok());
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Subnet {
        network: subnet.network.clone(),
        kind: subnet.subnet_type,
        pool: (!delegates && !subnet.pool_start.is_empty())
            .then(|| [subnet.pool_start.clone(), subnet.pool_end.clone()]),
        delegated_length: subnet.delegated_length.filter(|_| delegates),
        lease_time,
        max_lease_time: subnet.max_lease_time.unwrap_or(global.max_lease_time).max(lease_time),
        renewal_time: subnet.renewal_time,
        rebinding_time: subnet.rebinding_time,
        preferred_time: subnet.preferred_time,
        router: subnet.gateway.parse().ok(),
        dns: addresses(&subnet.dns_servers)
            .unwrap_or_else(|| global.dns_servers.iter().filter_map(|text| text.parse().ok()).collect()),
        ntp: addresses(&subnet.ntp_servers).unwrap_or_else(ntp),
        domain: subnet.domain_name.clone().or_else(|| some(&global.domain_name)),
        trusted_relays: trusted(subnet),
        reservations,
        options: if is_v4 { options(config, subnet) } else { Vec::new() },
    }
}

/// What no relay sends from. It stands for the relays of a list without any that could be meant: the daemon takes an
/// empty list for all of them.
const NOBODY: &str = "255.255.255.255";

fn relays(subnet: &DhcpSubnet) -> impl Iterator<Item = &str> {
    subnet.trusted_relays.iter().map(|relay| relay.trim()).filter(|relay| is_relay(relay))
}

fn trusted(subnet: &DhcpSubnet) -> Vec<String> {
    let valid: Vec<String> = relays(subnet).map(str::to_owned).collect();
    match valid.is_empty() && !subnet.trusted_relays.is_empty() {
        true => vec![NOBODY.to_owned()],
        false => valid,
    }
}

/// A reservation as the daemon takes it; `None` for one (imported, say) for which it would refuse its whole file.
fn usable(reservation: &DhcpReservation, subnet: &DhcpSubnet) -> Option<Reservation> {
    let ip: IpAddr = reservation.ip_address.trim().parse().ok()?;
    let mac = spelling::mac(reservation.mac_address.trim());
    let client_id = reservation.client_id.as_deref().and_then(spelling::client_id);
    let inside = subnet.net().is_some_and(|network| network.contains(&ip));
    (inside && (mac.is_some() || client_id.is_some())).then(|| Reservation {
        ip: ip.to_string(),
        mac,
        client_id,
        hostname: reservation.hostname.clone(),
    })
}

/// The subnet's own options, and those that the settings of the whole server mean (RFC 2132, RFC 3397).
fn options(config: &Config, subnet: &DhcpSubnet) -> Vec<Opt> {
    let mut all: Vec<Opt> = subnet.options.iter().filter_map(option).collect();
    let global = &config.dhcp;
    let mut derive = |code, key, value| {
        if all.iter().all(|own| own.code != code) {
            all.push(Opt { code, key, value });
        }
    };
    if !global.wins_servers.is_empty() {
        derive(44, "ips", global.wins_servers.clone().into());
    }
    if let Some(server) = &global.next_server {
        derive(66, "string", server.as_str().into());
    }
    if let Some(file) = &global.boot_filename {
        derive(67, "string", file.as_str().into());
    }
    if !global.domain_search.is_empty() {
        let octets: Vec<u8> = global.domain_search.iter().flat_map(|name| in_octets(name)).collect();
        if octets.len() <= 255 {
            derive(119, "hex", data_encoding::HEXLOWER.encode(&octets).into());
        }
    }
    all.sort_by_key(|option| option.code);
    all
}

/// A name as labels with their lengths (RFC 1035 §3.1).
fn in_octets(name: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        octets.push(label.len() as u8);
        octets.extend(label.bytes());
    }
    octets.push(0);
    octets
}

/// `None` for a value that is not what its type says; such an option is refused when it is stored.
fn option(option: &DhcpOption) -> Option<Opt> {
    let text = option.value.as_str();
    let (key, value): (_, Value) = match option.value_type.as_str() {
        "ip" => ("ip", text.trim().into()),
        "ips" => ("ips", text.split(',').map(|ip| ip.trim().to_owned()).collect::<Vec<_>>().into()),
        "string" => ("string", text.into()),
        "u8" => ("u8", text.parse::<u8>().ok()?.into()),
        "u16" => ("u16", text.parse::<u16>().ok()?.into()),
        "u32" => ("u32", text.parse::<u32>().ok()?.into()),
        "hex" => ("hex", text.into()),
        _ => return None,
    };
    Some(Opt { code: option.code, key, value })
}

/// What is configured and will not be as its author expects.
pub fn warnings(config: &Config, facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    let enabled = subnets(config, facts);
    let direct: Vec<&str> = enabled
        .iter()
        .filter(|subnet| local_place(config, facts, subnet).is_some())
        .filter(|subnet| matches!(subnet.net(), Some(IpNet::V4(_))))
        .map(|subnet| subnet.network.as_str())
        .collect();
    if let [first, others @ ..] = direct.as_slice()
        && !others.is_empty()
    {
        warnings.push(format!(
            "clients on links of this machine get addresses of {first} only: this version of the daemon serves one \
             link; those of {} need a relay",
            others.join(", ")
        ));
    }
    if !HA_MODES.contains(&config.dhcp_ha.mode.as_str()) {
        warnings.push(format!(
            "ha: this version of the daemon has no mode {}; it runs by itself",
            config.dhcp_ha.mode
        ));
    }
    for reservation in config.dhcp_reservations.iter() {
        let of = &reservation.ip_address;
        match reservation.subnet(config).filter(|subnet| subnet.enabled) {
            None => warnings.push(format!("reservation {of}: no enabled subnet has this address")),
            Some(subnet) if usable(reservation, subnet).is_none() => warnings.push(format!(
                "reservation {of}: left out, since it has no valid client or an address of another network"
            )),
            Some(subnet) if matches!(subnet.net(), Some(IpNet::V6(_))) => {
                warnings.push(format!("reservation {of}: the daemon's DHCPv6 knows no reservations"));
            }
            Some(_) => {}
        }
    }
    for subnet in config.dhcp_subnets.iter().filter(|subnet| subnet.enabled) {
        let network = &subnet.network;
        if cannot_serve(subnet, facts) {
            warnings.push(format!("{network}: left out, since DHCPv6 has no port but {SERVER6}"));
        }
        if matches!(subnet.net(), Some(IpNet::V6(_))) && !subnet.options.is_empty() {
            warnings.push(format!("{network}: options are DHCPv4's, and left out"));
        }
        if relays(subnet).count() != subnet.trusted_relays.len() {
            warnings.push(format!(
                "{network}: trusted_relays has entries that are no IPv4 addresses; none of them is trusted"
            ));
        }
    }
    let v6 =
        |subnet: &&&Arc<DhcpSubnet>| matches!(subnet.net(), Some(IpNet::V6(_))) && !subnet.gateway.is_empty();
    for subnet in enabled.iter().filter(v6) {
        warnings.push(format!("{}: DHCPv6 tells no router; router advertisements do", subnet.network));
    }
    if config.dhcp.domain_search.iter().map(|name| in_octets(name).len()).sum::<usize>() > 255 {
        warnings.push("domain_search: longer than an option holds (255 octets), and left out".into());
    }
    warnings
}

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
const CLIENT6: u16 = 546;
const SERVER6: u16 = 547;

/// Its lines of pf, per selected interface: discovery and answers, renewals, relays, DHCPv6.
pub fn rules(config: &Config, _: &Environment) -> Ruleset {
    let mut rules = Vec::new();
    if config.dhcp.enabled {
        let nets = |v6: bool| {
            let enabled = config.dhcp_subnets.iter().filter(|subnet| subnet.enabled);
            enabled
                .filter_map(|subnet| subnet.net())
                .filter(|net| matches!(net, IpNet::V6(_)) == v6)
                .collect::<Vec<_>>()
        };
        let mut relays: Vec<IpNet> = config
            .dhcp_subnets
            .iter()
            .filter(|subnet| subnet.enabled && config.dhcp.accept_relayed)
            .flat_map(|subnet| relays(subnet))
            .filter_map(|relay| relay.parse::<IpAddr>().ok().map(IpNet::from))
            .collect();
        relays.sort();
        relays.dedup();
        for name in &config.dhcp.interfaces {
            let Ok(on) = InterfaceName::new(name) else { continue };
            let own = || vec![Host::dynamic(&on).into()];
            let one = |text: &str| text.parse().ok().map(|net| Host::Net(net).into()).into_iter().collect();
            let hosts = |nets: &[IpNet]| nets.iter().map(|net| Host::Net(*net).into()).collect::<Vec<_>>();
            let v4 = nets(false);
            if !v4.is_empty() {
                rules.push(udp(
                    &on,
                    Direction::In,
                    (one("0.0.0.0/32"), CLIENT),
                    (one("255.255.255.255/32"), SERVER),
                    "dhcp-discover",
                ));
                rules.push(udp(
                    &on,
                    Direction::Out,
                    (Vec::new(), SERVER),
                    (Vec::new(), CLIENT),
                    "dhcp-reply",
                ));
                rules.push(udp(&on, Direction::In, (hosts(&v4), CLIENT), (own(), SERVER), "dhcp-renew"));
                if !relays.is_empty() {
                    rules.push(udp(
                        &on,
                        Direction::In,
                        (hosts(&relays), SERVER),
                        (own(), SERVER),
                        "dhcp-relay",
                    ));
                }
            }
            if !nets(true).is_empty() {
                rules.push(udp(
                    &on,
                    Direction::In,
                    (one("fe80::/10"), CLIENT6),
                    (Vec::new(), SERVER6),
                    "dhcp6",
                ));
            }
        }
    }
    Ruleset { statements: rules.into_iter().map(|rule| Item::Filter(rule).into()).collect() }
}

type End = (Vec<HostItem>, u16);

fn udp(on: &InterfaceName, direction: Direction, from: End, to: End, label: &str) -> FilterRule {
    let end = |(hosts, port): End| Endpoint { hosts, ports: vec![Port::Equal(port)] };
    pass_udp(on, direction, end(from), end(to), label)
}
