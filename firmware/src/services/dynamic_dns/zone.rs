//! A zone at a DNS provider, as it can be changed: [`open`] makes one of a stored account. One file a provider; each
//! speaks the provider's own protocol. All of it blocks.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;

use super::{cloudflare, digitalocean, rfc2136, route53};
use crate::config::Secret;
use crate::config::dynamic_dns::{DnsProvider, ProviderKind};
use crate::config::reach::Reach;
use crate::config::secret;
use crate::platform::fetch;

/// Why a provider did not change a zone. Never holds a secret: see [`open`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum ZoneError {
    /// The account lacks what it needs.
    #[error("{0}")]
    Settings(String),
    #[error("the provider cannot be reached: {0}")]
    Unreachable(String),
    #[error("the provider refuses: {0}")]
    Refused(String),
    #[error("the zone {0} is not there for this account")]
    NoZone(String),
    /// A person has to change the zone.
    #[error("MANUAL_DNS_ACTION_REQUIRED: {0}")]
    Manual(String),
}

impl ZoneError {
    fn without(self, secrets: [&Secret; 2]) -> Self {
        let clean = |text: String| secret::without(&text, secrets);
        match self {
            Self::Settings(text) => Self::Settings(clean(text)),
            Self::Unreachable(text) => Self::Unreachable(clean(text)),
            Self::Refused(text) => Self::Refused(clean(text)),
            other => other,
        }
    }
}

/// Changes records. Names are fully qualified, without a dot at their end.
pub trait Zone: Send {
    /// Makes the name have this address, and no other of its family.
    fn set_address(&self, name: &str, address: IpAddr, ttl: u32) -> Result<(), ZoneError>;
    /// Adds a TXT record.
    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError>;
    /// Removes a TXT record; one that is not there is fine.
    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError>;
}

/// Where the providers are. Other places are for tests, whose stand-ins speak the same protocols on loopback.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub cloudflare: String,
    pub route53: String,
    pub digitalocean: String,
    /// In place of the echo services that are configured.
    pub echo_v4: Option<String>,
    pub echo_v6: Option<String>,
    pub reach: Reach,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            cloudflare: "https://api.cloudflare.com/client/v4".into(),
            route53: "https://route53.amazonaws.com".into(),
            digitalocean: "https://api.digitalocean.com/v2".into(),
            echo_v4: None,
            echo_v6: None,
            reach: Reach::Public,
        }
    }
}

/// `A` or `AAAA`.
pub fn record_type(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}

/// The zone of an account. What its errors say has been cleared of the account's secrets, whoever repeats them.
pub fn open(provider: &DnsProvider, endpoints: &Endpoints) -> Result<Box<dyn Zone>, ZoneError> {
    let token = || match provider.api_token.is_empty() {
        true => Err(ZoneError::Settings(format!("{}: api_token is not set", provider.name))),
        false => Ok(provider.api_token.clone()),
    };
    let zone: Box<dyn Zone> = match provider.kind {
        ProviderKind::Cloudflare => Box::new(cloudflare::Cloudflare {
            base: endpoints.cloudflare.clone(),
            agent: agent(endpoints.reach),
            token: token()?,
            zone: provider.zone.clone(),
            zone_id: provider.extra("zone_id"),
        }),
        ProviderKind::Route53 => Box::new(route53::Route53 {
            base: endpoints.route53.clone(),
            agent: agent(endpoints.reach),
            access_key_id: token()?,
            secret: match provider.aws_secret_key.is_empty() {
                true => {
                    let text = format!("{}: aws_secret_key is not set", provider.name);
                    return Err(ZoneError::Settings(text));
                }
                false => provider.aws_secret_key.clone(),
            },
            region: Some(provider.extra("region")).filter(|region| !region.is_empty()),
            zone: provider.zone.clone(),
            zone_id: provider.extra("zone_id"),
        }),
        ProviderKind::DigitalOcean => Box::new(digitalocean::DigitalOcean {
            base: endpoints.digitalocean.clone(),
            agent: agent(endpoints.reach),
            token: token()?,
            zone: provider.zone.clone(),
        }),
        ProviderKind::Rfc2136 => Box::new(rfc2136::Rfc2136::new(provider)?),
        ProviderKind::Manual => Box::new(Manual),
    };
    Ok(Box::new(Discreet { zone, secrets: [provider.api_token.clone(), provider.aws_secret_key.clone()] }))
}

/// A zone whose errors repeat no secret.
struct Discreet {
    zone: Box<dyn Zone>,
    secrets: [Secret; 2],
}

impl Discreet {
    fn clean(&self, outcome: Result<(), ZoneError>) -> Result<(), ZoneError> {
        outcome.map_err(|error| error.without(self.secrets.each_ref()))
    }
}

impl Zone for Discreet {
    fn set_address(&self, name: &str, address: IpAddr, ttl: u32) -> Result<(), ZoneError> {
        self.clean(self.zone.set_address(name, address, ttl))
    }
    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        self.clean(self.zone.add_txt(name, value))
    }
    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        self.clean(self.zone.remove_txt(name, value))
    }
}

/// Nobody changes the zone but a person.
struct Manual;

impl Zone for Manual {
    fn set_address(&self, name: &str, address: IpAddr, _: u32) -> Result<(), ZoneError> {
        let record = record_type(address);
        Err(ZoneError::Manual(format!(
            "set {record} {name} to {address} by hand, or pick an automatic DNS provider"
        )))
    }
    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        Err(ZoneError::Manual(format!("add TXT {name} with the value {value}")))
    }
    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        Err(ZoneError::Manual(format!("remove TXT {name} with the value {value}")))
    }
}

/// Asks providers: 15 s for all of it, no redirects, so that a token goes nowhere else.
fn agent(reach: Reach) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(15)))
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("aifw/", env!("CARGO_PKG_VERSION")))
        .build();
    fetch::agent(config, reach)
}

const LARGEST: u64 = 1 << 20;

/// Status and body of an answer.
pub(super) fn answer(outcome: Result<Response<ureq::Body>, ureq::Error>) -> Result<(u16, String), ZoneError> {
    let unreachable = |error: ureq::Error| ZoneError::Unreachable(error.to_string());
    let mut response = outcome.map_err(unreachable)?;
    let body = response.body_mut().with_config().limit(LARGEST).read_to_string().map_err(unreachable)?;
    Ok((response.status().as_u16(), body))
}

/// The JSON of an answer, whatever its status.
pub(super) fn json(outcome: Result<Response<ureq::Body>, ureq::Error>) -> Result<(u16, Value), ZoneError> {
    let (status, body) = answer(outcome)?;
    if body.trim().is_empty() {
        return Ok((status, Value::Null));
    }
    serde_json::from_str(&body)
        .map(|value| (status, value))
        .map_err(|_| ZoneError::Refused(format!("status {status}, and no JSON")))
}
