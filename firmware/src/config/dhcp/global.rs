//! Changing the settings of the DHCP server as a whole.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DhcpGlobal, names};
use crate::config::request::Maybe;
use crate::config::{InterfaceName, Invalid};

/// Settings to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DhcpGlobalRequest {
    enabled: Option<bool>,
    interfaces: Option<Vec<String>>,
    authoritative: Option<bool>,
    default_lease_time: Option<u32>,
    max_lease_time: Option<u32>,
    dns_servers: Option<Vec<String>>,
    domain_name: Option<String>,
    domain_search: Option<Vec<String>>,
    ntp_servers: Option<Vec<String>>,
    wins_servers: Option<Vec<String>>,
    next_server: Maybe<String>,
    boot_filename: Maybe<String>,
    log_level: Option<String>,
    log_format: Option<String>,
    api_port: Option<u16>,
    workers: Option<u32>,
    accept_relayed: Option<bool>,
    relay_rate_limit_burst: Option<u32>,
    relay_rate_limit_pps: Option<f64>,
}

fn trimmed(list: Vec<String>) -> Vec<String> {
    list.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

impl DhcpGlobalRequest {
    /// The settings with the changes, or which of them is wrong.
    pub fn change(self, stored: &DhcpGlobal) -> Result<DhcpGlobal, Invalid> {
        let old = stored.clone();
        let list = |given: Option<Vec<String>>, old: Vec<String>| given.map_or(old, trimmed);
        let text =
            |given: Maybe<String>, old: Option<String>| given.or_keep(old).filter(|text| !text.is_empty());
        let settings = DhcpGlobal {
            enabled: self.enabled.unwrap_or(old.enabled),
            interfaces: list(self.interfaces, old.interfaces),
            authoritative: self.authoritative.unwrap_or(old.authoritative),
            default_lease_time: self.default_lease_time.unwrap_or(old.default_lease_time),
            max_lease_time: self.max_lease_time.unwrap_or(old.max_lease_time),
            dns_servers: list(self.dns_servers, old.dns_servers),
            domain_name: self.domain_name.map_or(old.domain_name, |name| name.trim().to_owned()),
            domain_search: list(self.domain_search, old.domain_search),
            ntp_servers: list(self.ntp_servers, old.ntp_servers),
            wins_servers: list(self.wins_servers, old.wins_servers),
            next_server: text(self.next_server, old.next_server),
            boot_filename: text(self.boot_filename, old.boot_filename),
            log_level: self.log_level.unwrap_or(old.log_level),
            log_format: self.log_format.unwrap_or(old.log_format),
            api_port: self.api_port.unwrap_or(old.api_port),
            workers: self.workers.unwrap_or(old.workers),
            accept_relayed: self.accept_relayed.unwrap_or(old.accept_relayed),
            relay_rate_limit_burst: self.relay_rate_limit_burst.unwrap_or(old.relay_rate_limit_burst),
            relay_rate_limit_pps: self.relay_rate_limit_pps.unwrap_or(old.relay_rate_limit_pps),
        };
        settings.check().map(|()| settings)
    }
}

impl DhcpGlobal {
    fn check(&self) -> Result<(), Invalid> {
        for name in &self.interfaces {
            InterfaceName::new(name).map_err(|bad| bad.field("interfaces"))?;
            if name.contains('-') {
                return Err(Invalid::new("interfaces", "expected letters, digits, '_' and '.'"));
            }
        }
        let lease = 60..=31_536_000;
        let expected = |field, what| Invalid::new(field, format!("expected {what}"));
        if !lease.contains(&self.default_lease_time) {
            return Err(expected("default_lease_time", "60 to 31536000 seconds"));
        }
        if !lease.contains(&self.max_lease_time) || self.max_lease_time < self.default_lease_time {
            return Err(expected(
                "max_lease_time",
                "60 to 31536000 seconds, and no less than default_lease_time",
            ));
        }
        if self.dns_servers.iter().any(|text| text.parse::<IpAddr>().is_err()) {
            return Err(expected("dns_servers", "IP addresses"));
        }
        if self.wins_servers.iter().any(|text| text.parse::<Ipv4Addr>().is_err()) {
            return Err(expected("wins_servers", "IPv4 addresses"));
        }
        if self.ntp_servers.iter().any(|text| text.parse::<IpAddr>().is_err() && !names::is_domain(text)) {
            return Err(expected("ntp_servers", "IP addresses or host names"));
        }
        if !self.domain_name.is_empty() && !names::is_domain(&self.domain_name) {
            return Err(expected("domain_name", "a domain name such as example.org"));
        }
        if self.domain_search.iter().any(|name| !names::is_domain(name)) {
            return Err(expected("domain_search", "domain names such as example.org"));
        }
        for (field, text) in [("next_server", &self.next_server), ("boot_filename", &self.boot_filename)] {
            let fits =
                |text: &String| text.len() <= 255 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if text.as_ref().is_some_and(|text| !fits(text)) {
                return Err(expected(field, "at most 255 printable ASCII characters"));
            }
        }
        if !["error", "warn", "info", "debug", "trace"].contains(&self.log_level.as_str()) {
            return Err(expected("log_level", "error, warn, info, debug or trace"));
        }
        if !["text", "json"].contains(&self.log_format.as_str()) {
            return Err(expected("log_format", "text or json"));
        }
        if self.api_port < 1024 {
            return Err(expected("api_port", "1024 to 65535"));
        }
        if !(1..=32).contains(&self.workers) {
            return Err(expected("workers", "1 to 32"));
        }
        if !(1..=100_000).contains(&self.relay_rate_limit_burst) {
            return Err(expected("relay_rate_limit_burst", "1 to 100000"));
        }
        let rate = self.relay_rate_limit_pps;
        if !(rate.is_finite() && rate > 0.0 && rate <= 100_000.0) {
            return Err(expected("relay_rate_limit_pps", "a number above 0, at most 100000"));
        }
        Ok(())
    }
}
