//! Subnets: reading and checking what the DHCP server would otherwise not start with.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DhcpOption, DhcpSubnet, SubnetType, is_relay, names};
use crate::config::request::List;
use crate::config::{BadValue, Config, Id, Invalid, Refusal, Timestamp};

/// The daemon keeps one bit per address.
const LARGEST_POOL: u128 = 1 << 20;

/// Body of POST and PUT. PUT replaces all of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SubnetRequest {
    network: String,
    pool_start: String,
    pool_end: String,
    gateway: String,
    #[serde(default)]
    dns_servers: Option<List>,
    #[serde(default)]
    ntp_servers: Option<List>,
    #[serde(default)]
    domain_name: Option<String>,
    #[serde(default)]
    lease_time: Option<u32>,
    #[serde(default)]
    max_lease_time: Option<u32>,
    #[serde(default)]
    renewal_time: Option<u32>,
    #[serde(default)]
    rebinding_time: Option<u32>,
    #[serde(default)]
    preferred_time: Option<u32>,
    #[serde(default)]
    subnet_type: Option<SubnetType>,
    #[serde(default)]
    delegated_length: Option<u8>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    trusted_relays: Option<Vec<String>>,
    #[serde(default)]
    options: Option<Vec<DhcpOption>>,
}

fn text(given: Option<String>) -> Option<String> {
    given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn joined(list: Option<List>) -> Option<String> {
    list.map(|list| list.0.join(",")).filter(|text| !text.is_empty())
}

impl SubnetRequest {
    /// The subnet that this makes; `stored` is the one that it replaces.
    pub fn subnet(
        self,
        stored: Option<&DhcpSubnet>,
        now: Timestamp,
        config: &Config,
    ) -> Result<DhcpSubnet, Refusal> {
        let network: IpNet = self.network.trim().parse().map_err(|_| {
            Invalid::new("network", "expected a network such as 192.168.1.0/24 or 2001:db8::/64")
        })?;
        let subnet = DhcpSubnet {
            id: stored.map_or_else(Id::new_v4, |subnet| subnet.id),
            network: network.trunc().to_string(),
            pool_start: self.pool_start.trim().to_owned(),
            pool_end: self.pool_end.trim().to_owned(),
            gateway: self.gateway.trim().to_owned(),
            dns_servers: joined(self.dns_servers),
            domain_name: text(self.domain_name),
            lease_time: self.lease_time,
            max_lease_time: self.max_lease_time,
            renewal_time: self.renewal_time,
            rebinding_time: self.rebinding_time,
            preferred_time: self.preferred_time,
            subnet_type: self.subnet_type.unwrap_or_default(),
            delegated_length: self.delegated_length,
            enabled: self.enabled.unwrap_or(true),
            description: text(self.description),
            trusted_relays: self
                .trusted_relays
                .unwrap_or_default()
                .iter()
                .map(|relay| relay.trim().to_owned())
                .collect(),
            ntp_servers: joined(self.ntp_servers),
            options: self.options.unwrap_or_default(),
            created_at: stored.map_or(now, |subnet| subnet.created_at),
        };
        subnet.check(config)?;
        subnet.check_against(config)?;
        Ok(subnet)
    }
}

fn expected(field: &str, what: impl std::fmt::Display) -> Invalid {
    Invalid::new(field, format!("expected {what}"))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl DhcpSubnet {
    /// The network; its text was checked when it was stored.
    pub fn net(&self) -> Option<IpNet> {
        self.network.parse().ok()
    }

    /// Everything that can be said without other subnets.
    pub fn check(&self, config: &Config) -> Result<(), Invalid> {
        let network = self.net().ok_or_else(|| expected("network", "a network"))?;
        let delegates = self.subnet_type == SubnetType::PrefixDelegation;
        self.check_pool(network, delegates)?;
        if !self.gateway.is_empty() {
            let gateway: IpAddr =
                self.gateway.parse().map_err(|_| expected("gateway", "an IP address, or nothing"))?;
            if !network.contains(&gateway) {
                return Err(expected("gateway", format!("an address in {network}")));
            }
        }
        for (field, list) in [("dns_servers", &self.dns_servers), ("ntp_servers", &self.ntp_servers)] {
            let mut servers = list.iter().flat_map(|list| list.split(','));
            if servers.any(|server| server.trim().parse::<IpAddr>().is_err()) {
                return Err(expected(field, "IP addresses"));
            }
        }
        if self.domain_name.as_deref().is_some_and(|name| !names::is_domain(name)) {
            return Err(expected("domain_name", "a domain name such as example.org"));
        }
        if let Some(description) = &self.description {
            crate::config::request::check_text("description", description, 255)?;
        }
        self.check_times(config)?;
        match (delegates, self.delegated_length) {
            (true, Some(length)) => {
                let fits = matches!(network, IpNet::V6(net) if net.prefix_len() < length && length <= 128);
                if !fits {
                    let most = network.prefix_len().saturating_add(1);
                    return Err(expected("delegated_length", format!("{most} to 128, in an IPv6 network")));
                }
            }
            (true, None) => {
                return Err(expected("delegated_length", "a prefix length, for prefix-delegation"));
            }
            (false, _) => {}
        }
        if self.trusted_relays.iter().any(|relay| !is_relay(relay)) {
            return Err(expected("trusted_relays", "IPv4 addresses that are not loopback"));
        }
        let mut seen = [false; 256];
        for (at, option) in self.options.iter().enumerate() {
            let field = format!("options[{at}]");
            option.check().map_err(|BadValue(reason)| Invalid::new(field.clone(), reason))?;
            if std::mem::replace(&mut seen[usize::from(option.code)], true) {
                return Err(Invalid::new(field, format!("option {} stands twice", option.code)));
            }
        }
        Ok(())
    }

    fn check_pool(&self, network: IpNet, delegates: bool) -> Result<(), Invalid> {
        if delegates && self.pool_start.is_empty() && self.pool_end.is_empty() {
            return Ok(());
        }
        let inside = |field: &str, text: &str| -> Result<IpAddr, Invalid> {
            let ip: IpAddr = text.parse().map_err(|_| expected(field, format!("an address in {network}")))?;
            network
                .contains(&ip)
                .then_some(ip)
                .ok_or_else(|| expected(field, format!("an address in {network}")))
        };
        let (start, end) = (inside("pool_start", &self.pool_start)?, inside("pool_end", &self.pool_end)?);
        if start > end {
            return Err(expected("pool_end", "no less than pool_start"));
        }
        if number(end) - number(start) >= LARGEST_POOL {
            return Err(expected("pool_end", format!("a pool of at most {LARGEST_POOL} addresses")));
        }
        let within = |ip: IpAddr| start <= ip && ip <= end;
        if let IpNet::V4(net) = network
            && net.prefix_len() < 31
        {
            for own in [net.network(), net.broadcast()] {
                if within(own.into()) {
                    return Err(expected("pool_start", format!("a pool without {own}, which is no host's")));
                }
            }
        }
        if self.gateway.parse().is_ok_and(within) {
            return Err(expected("pool_start", format!("a pool without the gateway {}", self.gateway)));
        }
        Ok(())
    }

    fn check_times(&self, config: &Config) -> Result<(), Invalid> {
        let lease = self.lease_time.unwrap_or(config.dhcp.default_lease_time);
        let most = self.max_lease_time.unwrap_or(config.dhcp.max_lease_time);
        for (field, time) in [
            ("lease_time", self.lease_time),
            ("max_lease_time", self.max_lease_time),
            ("renewal_time", self.renewal_time),
            ("rebinding_time", self.rebinding_time),
            ("preferred_time", self.preferred_time),
        ] {
            if time.is_some_and(|time| !(60..=31_536_000).contains(&time)) {
                return Err(expected(field, "60 to 31536000 seconds"));
            }
        }
        if lease > most {
            return Err(expected("lease_time", format!("at most max_lease_time, {most}")));
        }
        if self.rebinding_time.is_some_and(|time| time >= lease) {
            return Err(expected("rebinding_time", format!("less than lease_time, {lease}")));
        }
        let before = self.rebinding_time.unwrap_or(lease);
        if self.renewal_time.is_some_and(|time| time >= before) {
            return Err(expected("renewal_time", format!("less than {before}")));
        }
        Ok(())
    }

    /// No network twice, and no two enabled ones that overlap.
    fn check_against(&self, config: &Config) -> Result<(), Refusal> {
        let Some(network) = self.net() else { return Ok(()) };
        for other in config.dhcp_subnets.iter().filter(|other| other.id != self.id) {
            let Some(net) = other.net() else { continue };
            let overlap = net.contains(&network) || network.contains(&net);
            if net == network || (overlap && self.enabled && other.enabled) {
                return Err(Refusal::Conflict(format!("network: {network} overlaps with subnet {net}")));
            }
        }
        Ok(())
    }
}
