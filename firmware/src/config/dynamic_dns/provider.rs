//! Accounts at DNS providers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::dhcp::names;
use crate::config::request::{Maybe, check_text};
use crate::config::{Collection, Config, Invalid, Object, Refusal, Secret};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Cloudflare,
    Route53,
    DigitalOcean,
    /// DNS UPDATE (RFC 2136), signed with TSIG (RFC 8945).
    Rfc2136,
    /// A person changes the zone.
    Manual,
}

impl ProviderKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
            Self::Route53 => "route53",
            Self::DigitalOcean => "digitalocean",
            Self::Rfc2136 => "rfc2136",
            Self::Manual => "manual",
        }
    }
}

/// Those that updates can be signed with here.
pub const TSIG_ALGORITHMS: [&str; 3] = crate::config::dhcp::remote::SIGNABLE;

/// An account, and the zone that is changed through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsProvider {
    pub id: u64,
    pub name: String,
    pub kind: ProviderKind,
    /// Without a dot at its end.
    pub zone: String,
    /// API token, access key id, or TSIG secret.
    #[serde(default)]
    pub api_token: Secret,
    #[serde(default)]
    pub aws_secret_key: Secret,
    /// What else the kind needs: `zone_id`, `region`, `server`, `port`, `key_name`, `algorithm`.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

impl Object for DnsProvider {
    type Key = u64;
    fn key(&self) -> u64 {
        self.id
    }
}

impl DnsProvider {
    /// One of the extra values as text; `""` = none.
    pub fn extra(&self, name: &str) -> String {
        match self.extra.get(name) {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Whether a name is the zone's, or in it.
    pub fn has(&self, hostname: &str) -> bool {
        let (name, zone) = (hostname.to_ascii_lowercase(), self.zone.to_ascii_lowercase());
        name == zone || name.strip_suffix(&zone).is_some_and(|rest| rest.ends_with('.'))
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DnsProviderRequest {
    name: String,
    kind: ProviderKind,
    zone: String,
    /// Absent or null keeps the stored one, `""` clears it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    api_token: Maybe<Secret>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    aws_secret_key: Maybe<Secret>,
    #[serde(default)]
    extra: Option<BTreeMap<String, Value>>,
}

const MOST: usize = 200;

impl DnsProviderRequest {
    /// The account as it is to be stored; `stored` is the one that it replaces.
    pub fn provider(
        self,
        id: u64,
        stored: Option<&DnsProvider>,
        config: &Config,
    ) -> Result<DnsProvider, Refusal> {
        let name = self.name.trim().to_owned();
        if name.is_empty() {
            return Err(Invalid::new("name", "expected a name").into());
        }
        check_text("name", &name, 100)?;
        let zone = self.zone.trim().trim_end_matches('.').to_ascii_lowercase();
        if !names::is_domain(&zone) {
            return Err(Invalid::new("zone", "expected a domain name without a wildcard").into());
        }
        let extra = self.extra.unwrap_or_default();
        check_extra(self.kind, &extra)?;
        let taken = config.dns_providers.iter().any(|other| other.id != id && other.name == name);
        if taken {
            return Err(Refusal::Conflict(format!("a DNS provider {name:?} exists")));
        }
        if stored.is_none() && config.dns_providers.len() >= MOST {
            return Err(Refusal::Conflict(format!(
                "there are {MOST} DNS providers, as many as there can be"
            )));
        }
        // A key that was given for one company's service is not sent to another's.
        let stored_secrets = stored.filter(|stored| stored.kind == self.kind);
        let secret = |field: &str, given: Maybe<Secret>, kept: Option<&Secret>| match given {
            Maybe::Value(secret) => {
                let secret = Secret::new(secret.expose().trim());
                let fine = !secret.expose().chars().any(|c| c.is_control() || c.is_whitespace());
                fine.then_some(secret)
                    .ok_or_else(|| Invalid::new(field, "expected text without blanks in it"))
            }
            _ => Ok(kept.cloned().unwrap_or_default()),
        };
        let provider = DnsProvider {
            id,
            name,
            kind: self.kind,
            zone,
            api_token: secret("api_token", self.api_token, stored_secrets.map(|stored| &stored.api_token))?,
            aws_secret_key: secret(
                "aws_secret_key",
                self.aws_secret_key,
                stored_secrets.map(|stored| &stored.aws_secret_key),
            )?,
            extra,
        };
        if provider.kind == ProviderKind::Rfc2136
            && !provider.api_token.is_empty()
            && data_encoding::BASE64.decode(provider.api_token.expose().as_bytes()).is_err()
        {
            return Err(Invalid::new("api_token", "expected the TSIG secret in base64").into());
        }
        Ok(provider)
    }
}

fn check_extra(kind: ProviderKind, extra: &BTreeMap<String, Value>) -> Result<(), Invalid> {
    let wrong = |name: &str, what: &str| Invalid::new(format!("extra.{name}"), format!("expected {what}"));
    if extra.len() > 20 {
        return Err(Invalid::new("extra", "expected at most 20 values"));
    }
    let text = |name: &str| match extra.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= 300 => Ok(Some(text.trim().to_owned())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(wrong(name, "text")),
    };
    // They become part of an address.
    for name in ["zone_id", "region"] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if text(name)?.is_some_and(|text| !text.bytes().all(plain)) {
            return Err(wrong(name, "letters, digits and hyphens"));
        }
    }
    if kind == ProviderKind::Rfc2136 {
        let server = text("server")?.ok_or_else(|| wrong("server", "the name server's name or address"))?;
        let host = match server.parse::<std::net::SocketAddr>() {
            Ok(_) => None,
            Err(_) => Some(match server.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') => {
                    port.parse::<u16>().map_err(|_| wrong("server", "host or host:port"))?;
                    host.to_owned()
                }
                _ => server.clone(),
            }),
        };
        if let Some(host) = host {
            crate::config::mail::check_host("extra.server", &host)?;
        }
        if text("port")?.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(wrong("port", "1 to 65535"));
        }
        if text("key_name")?.is_some_and(|name| !names::is_domain(&name)) {
            return Err(wrong("key_name", "the key's name"));
        }
        let known = |algorithm: &String| TSIG_ALGORITHMS.contains(&algorithm.as_str());
        if text("algorithm")?.is_some_and(|algorithm| !known(&algorithm)) {
            return Err(wrong("algorithm", &TSIG_ALGORITHMS.join(", ")));
        }
    }
    Ok(())
}

/// Refuses to delete an account that records still use.
pub fn may_delete(records: &Collection<super::DdnsRecord>, id: u64) -> Result<(), Refusal> {
    let users: Vec<String> = records
        .iter()
        .filter(|record| record.provider_id == id)
        .map(|record| record.hostname.clone())
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Refusal::Conflict(format!("dynamic DNS records use this provider: {}", users.join(", "))))
}
