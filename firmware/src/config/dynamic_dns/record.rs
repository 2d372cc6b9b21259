//! Records that follow an address.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::dhcp::names;
use crate::config::{Config, InterfaceName, Invalid, Object, Refusal};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordType {
    #[default]
    A,
    Aaaa,
    Both,
}

impl RecordType {
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Both => "both",
        }
    }
    pub fn has_v4(self) -> bool {
        self != Self::Aaaa
    }
    pub fn has_v6(self) -> bool {
        self != Self::A
    }
}

/// Where the address comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AddressSource {
    /// As a server on the internet sees us.
    #[default]
    AutoPublic,
    /// Of an interface.
    Interface,
    /// Always the same.
    Explicit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DdnsRecord {
    pub id: u64,
    pub provider_id: u64,
    /// Fully qualified, without a dot at its end.
    pub hostname: String,
    pub record_type: RecordType,
    pub source: AddressSource,
    pub interface: Option<InterfaceName>,
    pub explicit_ip: Option<IpAddr>,
    /// Seconds: 60 to 86400.
    pub ttl: u32,
    pub enabled: bool,
}

impl Object for DdnsRecord {
    type Key = u64;
    fn key(&self) -> u64 {
        self.id
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DdnsRecordRequest {
    provider_id: u64,
    hostname: String,
    #[serde(default)]
    record_type: RecordType,
    #[serde(default)]
    source: AddressSource,
    #[serde(default)]
    interface: Option<String>,
    #[serde(default)]
    explicit_ip: Option<String>,
    #[serde(default = "minute")]
    ttl: u32,
    #[serde(default = "crate::config::value::yes")]
    enabled: bool,
}

fn minute() -> u32 {
    60
}

const MOST: usize = 1000;

fn expected(field: &str, what: &str) -> Invalid {
    Invalid::new(field, format!("expected {what}"))
}

/// A host's full name; its first label may be `*`.
fn hostname(text: &str) -> Result<String, Invalid> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let bare = name.strip_prefix("*.").unwrap_or(&name);
    let fits = name.len() <= 253 && bare.contains('.') && bare.split('.').all(names::is_host);
    if fits { Ok(name) } else { Err(expected("hostname", "a full host name, such as fw.example.org")) }
}

impl DdnsRecordRequest {
    /// The record as it is to be stored; `replaces` tells that one with this number is there.
    pub fn record(self, id: u64, replaces: bool, config: &Config) -> Result<DdnsRecord, Refusal> {
        let hostname = hostname(&self.hostname)?;
        let provider = config.dns_providers.get(&self.provider_id);
        let provider = provider.ok_or_else(|| expected("provider_id", "the number of a DNS provider"))?;
        if !provider.has(&hostname) {
            return Err(
                expected("hostname", &format!("a name in the provider's zone {}", provider.zone)).into()
            );
        }
        if !(60..=86_400).contains(&self.ttl) {
            return Err(expected("ttl", "60 to 86400 seconds").into());
        }
        let given =
            |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let interface = given(self.interface)
            .map(|name| InterfaceName::new(&name).map_err(|bad| bad.field("interface")))
            .transpose()?;
        let explicit_ip = given(self.explicit_ip)
            .map(|text| text.parse::<IpAddr>().map_err(|_| expected("explicit_ip", "an IP address")))
            .transpose()?;
        match self.source {
            AddressSource::AutoPublic => {}
            AddressSource::Interface if interface.is_none() => {
                return Err(expected("interface", "the interface that has the address").into());
            }
            AddressSource::Interface => {}
            AddressSource::Explicit => {
                let fits = matches!(
                    (explicit_ip, self.record_type),
                    (Some(IpAddr::V4(_)), RecordType::A) | (Some(IpAddr::V6(_)), RecordType::Aaaa)
                );
                if !fits {
                    let what = match self.record_type {
                        RecordType::A => "an IPv4 address",
                        RecordType::Aaaa => "an IPv6 address",
                        RecordType::Both => "record_type a or aaaa: one address is of one family",
                    };
                    return Err(expected("explicit_ip", what).into());
                }
            }
        }
        let same = |other: &DdnsRecord| {
            other.id != id
                && (other.provider_id, other.hostname.as_str(), other.record_type)
                    == (self.provider_id, hostname.as_str(), self.record_type)
        };
        if config.ddns_records.iter().any(|other| same(other)) {
            let kind = self.record_type.name();
            return Err(Refusal::Conflict(format!("a record of type {kind} for {hostname} exists")));
        }
        if !replaces && config.ddns_records.len() >= MOST {
            return Err(Refusal::Conflict(format!("there are {MOST} records, as many as there can be")));
        }
        Ok(DdnsRecord {
            id,
            provider_id: self.provider_id,
            hostname,
            record_type: self.record_type,
            source: self.source,
            interface,
            explicit_ip,
            ttl: self.ttl,
            enabled: self.enabled,
        })
    }
}
