//! The configuration document (contract/config.md §2): one JSON object that holds a whole configuration, in
//! history, export and import. Pure; used by the configuration API and by commit-confirm.
//!
//! A document shows secrets only inside [`secret::revealing`](super::secret::revealing). One without them can
//! be applied all the same: what it does not tell stays as it is stored, object by object.

mod appliance;
pub mod check;
mod convert;
mod interfaces;
mod sections;
mod services;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::geoip::MAX_GEOIP_RULES;
use super::rule::MAX_RULES;
use super::settings::{DashboardSettings, FirewallSettings, HistorySettings, TuningEntry};
use super::shaping::{Queue, RateLimit};
use super::tls::TlsPolicy;
use super::{Config, Invalid, request, secret};

pub use check::{Findings, check};
pub use interfaces::{DropSummary, InterfaceMap, suggestions};
pub use sections::*;

/// The one version of the form there is.
pub const SCHEMA_VERSION: u32 = 1;
/// Most WireGuard, and most IPsec, tunnels.
const MAX_TUNNELS: usize = 1_000;

/// A whole configuration as one JSON object. Fields are written in this order, always, so that equal
/// configurations have equal text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigDocument {
    pub schema_version: u32,
    pub system: SystemSection,
    pub auth: AuthSection,
    #[serde(default)]
    pub rules: Vec<RuleEntry>,
    #[serde(default)]
    pub nat: Vec<NatEntry>,
    #[serde(default)]
    pub queues: Vec<Queue>,
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    #[serde(default)]
    pub vpn: VpnSection,
    #[serde(default)]
    pub geoip: Vec<GeoIpEntry>,
    #[serde(default)]
    pub tls: TlsPolicy,
    #[serde(default)]
    pub ha: HaSection,
    #[serde(default)]
    pub tuning: Vec<TuningEntry>,
    #[serde(default)]
    pub dhcp: DhcpSection,
    #[serde(default)]
    pub aliases: Vec<AliasEntry>,
    #[serde(default)]
    pub static_routes: Vec<super::route::StaticRoute>,
    /// Beyond the reference, as is all that follows; `null` or absent leaves the settings as they are.
    #[serde(default)]
    pub schedules: Vec<ScheduleEntry>,
    pub firewall: Option<FirewallSettings>,
    pub history: Option<HistorySettings>,
    pub dashboard: Option<DashboardSettings>,
    /// DNS, time, reverse proxy and intrusion detection.
    pub services: Option<services::ServiceRows>,
    pub network: Option<NetworkSection>,
    /// Mail, metrics export, language models, dynamic DNS.
    pub appliance: Option<appliance::ApplianceSection>,
}

/// Interfaces, what they are for, and VLANs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NetworkSection {
    pub interfaces: Vec<super::network::InterfaceSettings>,
    pub roles: Vec<super::network::InterfaceRole>,
    pub vlans: Vec<super::network::Vlan>,
}

impl ConfigDocument {
    /// Reads and checks a document; a refusal names the field.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        let document: Self = request::parse(json)?;
        document.validate()?;
        Ok(document)
    }

    /// As [`ConfigDocument::parse`], for a value that stood inside another body.
    pub fn from_value(value: serde_json::Value) -> Result<Self, Invalid> {
        let document: Self = request::from_value(value)?;
        document.validate()?;
        Ok(document)
    }

    /// The limits that hold for every document. What the objects themselves must fulfil is checked by
    /// [`ConfigDocument::to_config`].
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(Invalid::new("schema_version", format!("expected {SCHEMA_VERSION}")));
        }
        for (field, count, most) in [
            ("rules", self.rules.len(), MAX_RULES),
            ("nat", self.nat.len(), MAX_RULES),
            ("geoip", self.geoip.len(), MAX_GEOIP_RULES),
            ("vpn.wireguard", self.vpn.wireguard.len(), MAX_TUNNELS),
            ("vpn.ipsec", self.vpn.ipsec.len(), MAX_TUNNELS),
        ] {
            if count > most {
                return Err(Invalid::new(field, format!("expected at most {most} entries, not {count}")));
            }
        }
        self.system.validate()
    }

    /// Number of objects, as the history shows it: rules, NAT, queues, rate limits, tunnels, geo-IP and SNI
    /// rules.
    pub fn resource_count(&self) -> u64 {
        let counts = [
            self.rules.len(),
            self.nat.len(),
            self.queues.len(),
            self.rate_limits.len(),
            self.vpn.wireguard.len(),
            self.vpn.ipsec.len(),
            self.geoip.len(),
            self.tls.sni_rules.len(),
        ];
        counts.iter().sum::<usize>() as u64
    }

    /// Compact serialisation, secrets as the surrounding mode says.
    pub fn to_json(&self) -> Vec<u8> {
        super::document::encode(self)
    }

    /// Lower-case SHA-256 (hex) of the compact serialisation with secrets in clear.
    pub fn hash(&self) -> String {
        let text = zeroize::Zeroizing::new(secret::revealing(|| self.to_json()));
        let digest = ring::digest::digest(&ring::digest::SHA256, &text);
        data_encoding::HEXLOWER.encode(digest.as_ref())
    }
}

/// Hash and resource count of a configuration, as the history keeps them.
pub fn fingerprint(config: &Config) -> (String, u64) {
    let document = ConfigDocument::from_config(config);
    (document.hash(), document.resource_count())
}

#[cfg(test)]
mod tests;
