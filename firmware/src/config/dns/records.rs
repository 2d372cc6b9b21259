//! Host overrides, domain overrides and access rules of the resolver (contract/dns.md §5), and the bodies that
//! make them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{DomainName, HostName, Upstreams};
use crate::config::request::{Refusal, check_text, text_or_none};
use crate::config::value::yes;
use crate::config::{BadValue, Config, Id, Invalid, Object, Timestamp};

/// Type of a resource record.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    #[default]
    A,
    Aaaa,
    Cname,
    Mx,
    Txt,
    Ns,
    Ptr,
}

impl RecordType {
    pub fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
        }
    }

    fn check(self, value: &str) -> Result<(), BadValue> {
        let expected =
            |what: &str| BadValue::new(format!("expected {what} for a record of type {}", self.word()));
        match self {
            Self::A => value.parse::<Ipv4Addr>().map(drop).map_err(|_| expected("an IPv4 address")),
            Self::Aaaa => value.parse::<Ipv6Addr>().map(drop).map_err(|_| expected("an IPv6 address")),
            Self::Txt => {
                let fits = value.len() <= 4096 && !value.chars().any(char::is_control);
                fits.then_some(()).ok_or_else(|| expected("up to 4096 bytes without control characters"))
            }
            _ => DomainName::new(value).map(drop),
        }
    }
}

/// Exchange preference when none is given.
pub const MX_PRIORITY: u16 = 10;
/// A zone's file is named after it, with `.zone.new` while it is written; file systems take 255 bytes.
const LONGEST_NAME: usize = 245;

/// A name that the resolver answers itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostOverride {
    pub id: Id,
    /// `@` is the domain itself.
    pub hostname: HostName,
    pub domain: DomainName,
    pub record_type: RecordType,
    pub value: String,
    pub mx_priority: Option<u16>,
    pub description: Option<String>,
    pub enabled: bool,
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

impl HostOverride {
    /// The whole name, in lower case.
    pub fn name(&self) -> String {
        self.hostname.within(&self.domain)
    }
}

impl Object for HostOverride {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.name().into()]
    }
}

/// Body of POST and PUT; PUT replaces as a whole.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct HostRequest {
    pub hostname: HostName,
    pub domain: DomainName,
    #[serde(default)]
    pub record_type: RecordType,
    pub value: String,
    /// 0 to 65535; 10 for an MX record without one.
    #[serde(default)]
    pub mx_priority: Option<u16>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl HostRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<HostOverride, Refusal> {
        self.build(Id::new_v4(), now, config)
    }
    pub fn replace(self, stored: &HostOverride, config: &Config) -> Result<HostOverride, Refusal> {
        self.build(stored.id, stored.created_at, config)
    }

    fn build(self, id: Id, created_at: Timestamp, config: &Config) -> Result<HostOverride, Refusal> {
        let value = match self.record_type {
            RecordType::Txt => self.value,
            _ => self.value.trim().to_owned(),
        };
        self.record_type.check(&value).map_err(|bad| bad.field("value"))?;
        if let Some(description) = &self.description {
            check_text("description", description, 255)?;
        }
        let mx_priority = match self.record_type {
            RecordType::Mx => Some(self.mx_priority.unwrap_or(MX_PRIORITY)),
            _ => self.mx_priority,
        };
        let host = HostOverride {
            id,
            hostname: self.hostname,
            domain: self.domain,
            record_type: self.record_type,
            value,
            mx_priority,
            description: self.description,
            enabled: self.enabled,
            created_at,
        };
        let name = host.name();
        if name.len() > LONGEST_NAME {
            let reason = format!("expected at most {LONGEST_NAME} characters together with the domain");
            return Err(Invalid::new("hostname", reason).into());
        }
        for other in config.dns_hosts.find(&name).filter(|other| other.id != id) {
            if other.record_type == host.record_type && other.value.eq_ignore_ascii_case(&host.value) {
                let what = host.record_type.word();
                return Err(Refusal::Conflict(format!("value: {name} already has this {what} record")));
            }
            if (other.record_type == RecordType::Cname) || (host.record_type == RecordType::Cname) {
                let reason = format!(
                    "record_type: {name} cannot have a CNAME beside another record (RFC 1034 §3.6.2)"
                );
                return Err(Refusal::Conflict(reason));
            }
        }
        Ok(host)
    }
}

/// A domain whose questions go to servers of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DomainOverride {
    pub id: Id,
    pub domain: DomainName,
    pub server: Upstreams,
    pub description: Option<String>,
    pub enabled: bool,
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

impl Object for DomainOverride {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.domain.plain().into()]
    }
}

/// Body of POST and PUT; PUT replaces as a whole.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DomainRequest {
    pub domain: DomainName,
    pub server: Upstreams,
    #[serde(default, deserialize_with = "text_or_none")]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl DomainRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<DomainOverride, Refusal> {
        self.build(Id::new_v4(), now, config)
    }
    pub fn replace(self, stored: &DomainOverride, config: &Config) -> Result<DomainOverride, Refusal> {
        self.build(stored.id, stored.created_at, config)
    }

    fn build(self, id: Id, created_at: Timestamp, config: &Config) -> Result<DomainOverride, Refusal> {
        if let Some(description) = &self.description {
            check_text("description", description, 255)?;
        }
        let name = self.domain.plain();
        if config.dns_domains.find(&name).any(|other| other.id != id) {
            return Err(Refusal::Conflict(format!("domain: there is already an override of {name}")));
        }
        Ok(DomainOverride {
            id,
            domain: self.domain,
            server: self.server,
            description: self.description,
            enabled: self.enabled,
            created_at,
        })
    }
}

/// What clients of a network may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AclAction {
    Allow,
    Deny,
    Refuse,
    AllowSnoop,
}

impl AclAction {
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Refuse => "refuse",
            Self::AllowSnoop => "allow_snoop",
        }
    }
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::AllowSnoop)
    }
}

/// Who may ask. The most specific network decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acl {
    pub id: Id,
    /// Without host bits.
    #[schemars(with = "String")]
    pub network: IpNet,
    pub action: AclAction,
    pub description: Option<String>,
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

impl Object for Acl {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.network.to_string().into()]
    }
}

/// Body of POST and PUT; PUT replaces as a whole.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AclRequest {
    /// An IP address or CIDR.
    pub network: String,
    pub action: AclAction,
    #[serde(default, deserialize_with = "text_or_none")]
    pub description: Option<String>,
}

impl AclRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<Acl, Refusal> {
        self.build(Id::new_v4(), now, config)
    }
    pub fn replace(self, stored: &Acl, config: &Config) -> Result<Acl, Refusal> {
        self.build(stored.id, stored.created_at, config)
    }

    fn build(self, id: Id, created_at: Timestamp, config: &Config) -> Result<Acl, Refusal> {
        let network = network("network", &self.network)?;
        if let Some(description) = &self.description {
            check_text("description", description, 255)?;
        }
        if config.dns_acls.find(&network.to_string()).any(|other| other.id != id) {
            return Err(Refusal::Conflict(format!("network: there is already a rule for {network}")));
        }
        Ok(Acl { id, network, action: self.action, description: self.description, created_at })
    }
}

/// An address or a CIDR as a network, host bits cleared.
pub fn network(field: &str, text: &str) -> Result<IpNet, Invalid> {
    let text = text.trim();
    let parsed = match text.parse::<std::net::IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    parsed
        .map(|network| network.trunc())
        .ok_or_else(|| Invalid::new(field, "expected an IP address or a network such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host(hostname: &str, record_type: &str, value: &str) -> Result<HostRequest, serde_json::Error> {
        serde_json::from_value(serde_json::json!({
            "hostname": hostname, "domain": "lan.test", "record_type": record_type, "value": value
        }))
    }

    fn refused(request: HostRequest, config: &Config) -> String {
        request.create(Timestamp::UNIX_EPOCH, config).unwrap_err().to_string()
    }

    #[test]
    fn values_fit_their_types() {
        let none = Config::default();
        for (kind, value) in [("A", "300.1.1.1"), ("AAAA", "10.0.0.1"), ("CNAME", "-x"), ("TXT", "a\nb")] {
            assert!(refused(host("x", kind, value).unwrap(), &none).starts_with("value: "), "{kind}");
        }
        assert!(host("x", "SRV", "x").is_err());
        assert!(host("-x", "A", "10.0.0.1").is_err());
        let mx = host("x", "MX", "mail.test").unwrap().create(Timestamp::UNIX_EPOCH, &none).unwrap();
        assert_eq!(mx.mx_priority, Some(10));
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(53));
        assert!(refused(host(&long, "A", "10.0.0.1").unwrap(), &none).contains("245"));
    }

    #[test]
    fn a_name_has_each_record_once_and_a_cname_alone() {
        let mut config = Config::default();
        let first = host("x", "A", "10.0.0.1").unwrap().create(Timestamp::UNIX_EPOCH, &config).unwrap();
        config.dns_hosts.insert(first.clone());
        assert!(refused(host("X", "A", "10.0.0.1").unwrap(), &config).contains("already has this A"));
        assert!(refused(host("x", "CNAME", "y.test").unwrap(), &config).contains("CNAME"));
        assert!(host("x", "AAAA", "::2").unwrap().create(Timestamp::UNIX_EPOCH, &config).is_ok());
        // The object itself is no obstacle to replacing it.
        assert!(host("x", "CNAME", "y.test").unwrap().replace(&first, &config).is_ok());
    }

    #[test]
    fn networks_lose_their_host_bits() {
        assert_eq!(network("n", "10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("n", "2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert!(network("n", "10.0.0.0/33").is_err());
    }
}
