//! The DHCP server, as the configuration document has it (contract/config.md §2 `dhcp`). Addresses are kept as
//! they were written; [`super::backup::check`] says what is wrong with them.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{id_or_new, plain_object};
use super::{BadValue, Id, Secret, Timestamp};

mod global;
pub mod names;
pub mod remote;
mod reservations;
mod subnets;

pub use global::DhcpGlobalRequest;
pub use remote::{DdnsRequest, HaRequest};
pub use reservations::ReservationRequest;
pub use subnets::SubnetRequest;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DhcpGlobal {
    pub enabled: bool,
    pub interfaces: Vec<String>,
    pub authoritative: bool,
    /// Seconds.
    pub default_lease_time: u32,
    pub max_lease_time: u32,
    pub dns_servers: Vec<String>,
    pub domain_name: String,
    pub domain_search: Vec<String>,
    pub ntp_servers: Vec<String>,
    pub wins_servers: Vec<String>,
    pub next_server: Option<String>,
    pub boot_filename: Option<String>,
    pub log_level: String,
    pub log_format: String,
    pub api_port: u16,
    pub workers: u32,
    pub accept_relayed: bool,
    pub relay_rate_limit_burst: u32,
    /// Packets per second.
    pub relay_rate_limit_pps: f64,
}

impl Default for DhcpGlobal {
    fn default() -> Self {
        Self {
            enabled: false,
            interfaces: Vec::new(),
            authoritative: true,
            default_lease_time: 3600,
            max_lease_time: 86_400,
            dns_servers: vec!["1.1.1.1".into(), "8.8.8.8".into()],
            domain_name: "local".into(),
            domain_search: Vec::new(),
            ntp_servers: Vec::new(),
            wins_servers: Vec::new(),
            next_server: None,
            boot_filename: None,
            log_level: "info".into(),
            log_format: "text".into(),
            api_port: 9967,
            workers: 1,
            accept_relayed: true,
            relay_rate_limit_burst: 200,
            relay_rate_limit_pps: 100.0,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubnetType {
    #[default]
    Address,
    PrefixDelegation,
}

/// An option sent to clients (RFC 2132).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DhcpOption {
    pub code: u8,
    pub value_type: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DhcpSubnet {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    /// CIDR.
    pub network: String,
    pub pool_start: String,
    pub pool_end: String,
    pub gateway: String,
    /// Separated by commas.
    pub dns_servers: Option<String>,
    pub domain_name: Option<String>,
    pub lease_time: Option<u32>,
    pub max_lease_time: Option<u32>,
    pub renewal_time: Option<u32>,
    pub rebinding_time: Option<u32>,
    pub preferred_time: Option<u32>,
    pub subnet_type: SubnetType,
    pub delegated_length: Option<u8>,
    pub enabled: bool,
    pub description: Option<String>,
    /// IPv4.
    #[serde(default)]
    pub trusted_relays: Vec<String>,
    /// Separated by commas.
    pub ntp_servers: Option<String>,
    #[serde(default)]
    pub options: Vec<DhcpOption>,
    pub created_at: Timestamp,
}
plain_object!(DhcpSubnet);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DhcpReservation {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub subnet_id: Option<String>,
    pub mac_address: String,
    pub ip_address: String,
    pub hostname: Option<String>,
    pub client_id: Option<String>,
    pub description: Option<String>,
    pub created_at: Timestamp,
}
plain_object!(DhcpReservation);

/// Names of clients are entered into the DNS (RFC 2136, TSIG RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DhcpDdns {
    pub enabled: bool,
    pub forward_zone: String,
    pub reverse_zone_v4: String,
    pub reverse_zone_v6: String,
    pub dns_server: String,
    pub tsig_key: String,
    pub tsig_algorithm: String,
    pub tsig_secret: Secret,
    pub ttl: u32,
}

/// Two or more servers share their leases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DhcpHa {
    pub mode: String,
    pub peer: Option<String>,
    pub listen: Option<String>,
    pub scope_split: Option<f64>,
    pub mclt: Option<u32>,
    pub partner_down_delay: Option<u32>,
    #[serde(deserialize_with = "number_or_text")]
    pub node_id: Option<u32>,
    pub peers: Option<Vec<String>>,
    pub tls_cert: Option<String>,
    pub tls_key: Option<String>,
    pub tls_ca: Option<String>,
}

impl Default for DhcpDdns {
    fn default() -> Self {
        Self {
            enabled: false,
            forward_zone: String::new(),
            reverse_zone_v4: String::new(),
            reverse_zone_v6: String::new(),
            dns_server: String::new(),
            tsig_key: String::new(),
            tsig_algorithm: "hmac-sha256".into(),
            tsig_secret: Secret::default(),
            ttl: 300,
        }
    }
}

impl Default for DhcpHa {
    fn default() -> Self {
        Self {
            mode: "standalone".into(),
            peer: None,
            listen: None,
            scope_split: None,
            mclt: None,
            partner_down_delay: None,
            node_id: None,
            peers: None,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
        }
    }
}

/// A number, which documents of the reference hold as text.
fn number_or_text<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    match serde_json::Value::deserialize(d)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) if text.trim().is_empty() => Ok(None),
        serde_json::Value::String(text) => text.trim().parse().map(Some).map_err(serde::de::Error::custom),
        number => serde_json::from_value(number).map(Some).map_err(serde::de::Error::custom),
    }
}

/// Codes that the server sets itself.
const RESERVED_OPTIONS: [u8; 13] = [0, 1, 28, 50, 51, 53, 54, 55, 57, 58, 59, 82, 255];
/// Codes that have a field of their own: gateway, dns_servers, domain_name, ntp_servers.
const TYPED_OPTIONS: [u8; 4] = [3, 6, 15, 42];

impl DhcpOption {
    pub fn check(&self) -> Result<(), BadValue> {
        if RESERVED_OPTIONS.contains(&self.code) {
            return Err(BadValue::new(format!("option {} is set by the server itself", self.code)));
        }
        if TYPED_OPTIONS.contains(&self.code) {
            return Err(BadValue::new(format!("option {} has a field of its own", self.code)));
        }
        let value = self.value.as_str();
        let ip = |text: &str| text.trim().parse::<Ipv4Addr>().is_ok();
        let fits = match self.value_type.as_str() {
            "ip" => ip(value),
            "ips" => value.split(',').all(ip),
            "string" => (1..=255).contains(&value.len()) && value.bytes().all(|b| (b' '..=b'~').contains(&b)),
            "u8" => value.parse::<u8>().is_ok(),
            "u16" => value.parse::<u16>().is_ok(),
            "u32" => value.parse::<u32>().is_ok(),
            "hex" => {
                value.len().is_multiple_of(2)
                    && (2..=510).contains(&value.len())
                    && value.bytes().all(|b| b.is_ascii_hexdigit())
            }
            other => {
                return Err(BadValue::new(format!("option {} has the unknown type {other:?}", self.code)));
            }
        };
        let bad =
            || BadValue::new(format!("option {} has a value that is no {}", self.code, self.value_type));
        fits.then_some(()).ok_or_else(bad)
    }
}

/// Whether a relay may be trusted: IPv4, not loopback.
pub fn is_relay(text: &str) -> bool {
    text.trim().parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

impl DhcpSubnet {
    /// Without the relays and options that no server would take.
    pub fn without_invalid_entries(mut self) -> Self {
        let relays = self.trusted_relays.iter().map(|relay| relay.trim());
        let valid: Vec<String> = relays.filter(|relay| is_relay(relay)).map(str::to_owned).collect();
        // A list without entries would trust every relay.
        if !valid.is_empty() {
            self.trusted_relays = valid;
        }
        let mut seen = [false; 256];
        self.options.retain(|option| {
            option.check().is_ok() && !std::mem::replace(&mut seen[usize::from(option.code)], true)
        });
        self
    }
}

/// Takes over the part of the configuration that is the DHCP server's.
pub(super) fn adopt(from: &super::Config, into: &mut super::Config) {
    into.dhcp = from.dhcp.clone();
    into.dhcp_ddns = from.dhcp_ddns.clone();
    into.dhcp_ha = from.dhcp_ha.clone();
    into.dhcp_subnets = from.dhcp_subnets.clone();
    into.dhcp_reservations = from.dhcp_reservations.clone();
}
