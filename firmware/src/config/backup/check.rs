//! What is wrong or doubtful in a configuration (contract/config.md §3, `GET /config/check`). Pure: what only
//! the machine can tell is passed in.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::dhcp::{DhcpSubnet, SubnetType, is_relay};
use crate::config::rule::{Action, Protocol};
use crate::config::{Address, Config, NatKind, Rule, Status};

/// `valid` = no errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Findings {
    pub valid: bool,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    pub info: Vec<String>,
}

impl Findings {
    fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }
    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
    fn count(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.info.push(format!("{count} {what}"));
        }
    }
}

/// Checks a configuration. `pf_responds` = the packet filter answers.
pub fn check(config: &Config, pf_responds: bool) -> Findings {
    let mut found = Findings::default();
    found.info.push(format!("{} firewall rules configured", config.rules.len()));
    found.info.push(format!("{} NAT rules configured", config.nat.len()));
    found.count(config.geoip.len(), "geo-IP rules configured");
    found.count(config.wireguard.len(), "WireGuard tunnels configured");
    found.count(config.ipsec.len(), "IPsec associations configured");
    found.count(config.system.dns_servers.len(), "name servers configured");
    found.count(config.static_routes.iter().filter(|route| route.enabled).count(), "static routes enabled");
    found.count(config.dhcp_subnets.len(), "DHCP subnets configured");
    found.count(config.dhcp_reservations.len(), "DHCP reservations configured");
    if pf_responds {
        found.info.push("pf is responding".into());
    } else {
        found.warn("pf is not responding");
    }
    if config.system.dns_servers.is_empty() {
        found.error("no name server is configured");
    }
    rules(config, &mut found);
    if config.dhcp.enabled || !config.dhcp_subnets.is_empty() {
        dhcp(config, &mut found);
    }
    found.valid = found.errors.is_empty();
    found
}

fn name_of(rule: &Rule) -> String {
    match &rule.label {
        Some(label) => format!("{:?}", label.as_str()),
        None => rule.id.to_string().chars().take(8).collect(),
    }
}

fn passes_everything(rule: &Rule) -> bool {
    rule.status == Status::Active
        && rule.action == Action::Pass
        && rule.src.addr == Address::Any
        && rule.dst.addr == Address::Any
        && rule.dst.port.is_none()
        && rule.dst.port_alias.is_none()
        && matches!(rule.protocol, Protocol::Any | Protocol::Tcp | Protocol::Udp | Protocol::TcpUdp)
}

fn rules(config: &Config, found: &mut Findings) {
    if config.rules.is_empty() {
        found.warn("there are no firewall rules");
    }
    for rule in config.rules.iter() {
        if passes_everything(rule) {
            found.warn(format!("rule {} passes from any to any without a destination port", name_of(rule)));
        }
        if let Err(invalid) = rule.check().and_then(|()| rule.check_references(config)) {
            found.error(format!("rule {}: {invalid}", name_of(rule)));
        }
    }
    let mut forwards = HashSet::new();
    for rule in config.nat.iter() {
        let place = rule.label.as_ref().map_or_else(|| rule.id.to_string(), |label| label.to_string());
        if rule.nat_type == NatKind::Dnat
            && rule.status == Status::Active
            && !forwards.insert((&rule.interface, rule.protocol, &rule.redirect.address, rule.redirect.port))
        {
            found.warn(format!(
                "NAT rule {place} may be a duplicate: same interface, protocol and target {}",
                rule.redirect.address
            ));
        }
        if let Err(invalid) = rule.check().and_then(|()| rule.check_references(config)) {
            found.error(format!("NAT rule {place}: {invalid}"));
        }
    }
}

fn dhcp(config: &Config, found: &mut Findings) {
    let mut networks: HashMap<IpNet, ()> = HashMap::new();
    for subnet in config.dhcp_subnets.iter() {
        let name = &subnet.network;
        match name.parse::<IpNet>() {
            Err(_) => found.warn(format!("DHCP subnet {name:?} is no CIDR")),
            Ok(network) => {
                if networks.insert(network.trunc(), ()).is_some() {
                    found.warn(format!("DHCP subnet {name} stands twice"));
                }
                if subnet.enabled && subnet.subnet_type == SubnetType::Address {
                    range(subnet, &network, found);
                }
            }
        }
        if !subnet.trusted_relays.is_empty() && !config.dhcp.accept_relayed {
            found.warn(format!("DHCP subnet {name} trusts relays, but relayed requests are not accepted"));
        }
        for relay in subnet.trusted_relays.iter().filter(|relay| !is_relay(relay)) {
            found.error(format!("DHCP subnet {name}: relay {relay:?} is no IPv4 address of another machine"));
        }
        let mut codes = HashSet::new();
        for option in &subnet.options {
            if !codes.insert(option.code) {
                found.error(format!("DHCP subnet {name}: option {} stands twice", option.code));
            }
            if let Err(bad) = option.check() {
                found.error(format!("DHCP subnet {name}: {bad}"));
            }
        }
    }
    reservations(config, found);
}

fn range(subnet: &DhcpSubnet, network: &IpNet, found: &mut Findings) {
    let name = &subnet.network;
    let inside = |text: &str| text.parse::<IpAddr>().ok().map(|ip| (ip, network.contains(&ip)));
    match inside(&subnet.gateway) {
        None => found.error(format!("DHCP subnet {name}: gateway {:?} is no address", subnet.gateway)),
        Some((ip, false)) => found.error(format!("DHCP subnet {name}: gateway {ip} is outside")),
        Some(_) => {}
    }
    match (inside(&subnet.pool_start), inside(&subnet.pool_end)) {
        (Some((start, start_in)), Some((end, end_in))) => {
            if !start_in || !end_in {
                found.error(format!("DHCP subnet {name}: pool {start} to {end} is outside"));
            }
            if start > end {
                found.error(format!("DHCP subnet {name}: pool starts at {start}, after its end {end}"));
            }
        }
        _ => found.error(format!("DHCP subnet {name}: the pool's ends are no addresses")),
    }
}

fn reservations(config: &Config, found: &mut Findings) {
    let subnets: HashMap<String, &DhcpSubnet> =
        config.dhcp_subnets.iter().map(|subnet| (subnet.id.to_string(), &**subnet)).collect();
    let mut addresses = HashSet::new();
    for reservation in config.dhcp_reservations.iter() {
        let ip = &reservation.ip_address;
        if !addresses.insert(ip) {
            found.error(format!("DHCP reservation of {ip} stands twice"));
        }
        let Some(subnet_id) = reservation.subnet_id.as_ref().filter(|id| !id.is_empty()) else { continue };
        let Some(subnet) = subnets.get(subnet_id) else {
            found.warn(format!("DHCP reservation of {ip} belongs to a subnet that is not there"));
            continue;
        };
        if !subnet.enabled || subnet.subnet_type != SubnetType::Address {
            continue;
        }
        if let (Ok(network), Ok(address)) = (subnet.network.parse::<IpNet>(), ip.parse::<IpAddr>())
            && !network.contains(&address)
        {
            found.error(format!("DHCP reservation of {ip} is outside its subnet {network}"));
        }
    }
}
