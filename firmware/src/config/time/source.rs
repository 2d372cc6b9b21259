//! The servers that the time service asks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{id_or_new, plain_object};
use crate::config::{BadValue, Config, Id, Invalid, Refusal};

/// As many as the daemon can weigh with sense.
pub const MOST_SOURCES: usize = 32;
/// NTP (RFC 5905).
const PORT: u16 = 123;

/// A server that is asked for the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeSource {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    /// `name`, `name:port`, an IPv4 address with or without a port, or `[v6]:port`.
    pub address: String,
    pub nts: bool,
    /// Shortest and longest time between questions: log2 of seconds.
    pub min_poll: u8,
    pub max_poll: u8,
    pub enabled: bool,
}
plain_object!(TimeSource);

/// A server's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAddress {
    Ip(SocketAddr),
    Name { name: Arc<str>, port: u16 },
}

impl std::str::FromStr for SourceAddress {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let expected = || {
            BadValue::new(
                "expected a host name or an IP address, with or without a port, such as pool.ntp.org",
            )
        };
        let text = text.trim();
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(SocketAddr::new(ip, PORT)));
        }
        if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inside
                .parse()
                .map(|ip| Self::Ip(SocketAddr::new(IpAddr::V6(ip), PORT)))
                .map_err(|_| expected());
        }
        if let Ok(place) = text.parse::<SocketAddr>() {
            return if place.port() == 0 { Err(expected()) } else { Ok(Self::Ip(place)) };
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                (name, port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(expected)?)
            }
            None => (text, PORT),
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let bare = name.strip_suffix('.').unwrap_or(name);
        // All digits and dots would be a mistyped address.
        let numeric = bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let fits = text.len() <= 253 && !numeric && bare.split('.').all(label);
        // Names are the same in any case (RFC 4343).
        if fits { Ok(Self::Name { name: name.to_ascii_lowercase().into(), port }) } else { Err(expected()) }
    }
}

impl SourceAddress {
    /// What is stored for a text that was given: IPv6 always with brackets and port, which the daemon needs.
    fn stored(&self, given: &str) -> String {
        match self {
            Self::Ip(place) if place.is_ipv6() => place.to_string(),
            _ => given.trim().to_owned(),
        }
    }
}

/// Body of POST and PUT.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TimeSourceRequest {
    address: String,
    #[serde(default)]
    nts: bool,
    #[serde(default = "four")]
    min_poll: i64,
    #[serde(default = "ten")]
    max_poll: i64,
    #[serde(default = "yes")]
    enabled: bool,
}

fn four() -> i64 {
    4
}
fn ten() -> i64 {
    10
}
fn yes() -> bool {
    true
}

impl TimeSourceRequest {
    /// The source that this makes; `stored` is the one that it replaces.
    pub fn source(self, stored: Option<&TimeSource>, config: &Config) -> Result<TimeSource, Refusal> {
        let parsed: SourceAddress = self.address.parse().map_err(|bad: BadValue| bad.field("address"))?;
        let poll = |field: &str, given: i64| {
            u8::try_from(given)
                .ok()
                .filter(|poll| (1..=17).contains(poll))
                .ok_or_else(|| Invalid::new(field, "expected 1 to 17 (log2 of seconds)"))
        };
        let source = TimeSource {
            id: stored.map_or_else(Id::new_v4, |source| source.id),
            address: parsed.stored(&self.address),
            nts: self.nts,
            min_poll: poll("min_poll", self.min_poll)?,
            max_poll: poll("max_poll", self.max_poll)?,
            enabled: self.enabled,
        };
        if source.min_poll > source.max_poll {
            return Err(Invalid::new("min_poll", "expected at most max_poll").into());
        }
        let mut others = config.time_sources.iter().filter(|other| other.id != source.id);
        if others.any(|other| other.address.parse::<SourceAddress>().ok().as_ref() == Some(&parsed)) {
            return Err(Refusal::Conflict(format!("address: {} is a source already", source.address)));
        }
        if stored.is_none() && config.time_sources.len() >= MOST_SOURCES {
            return Err(Invalid::new("address", format!("expected at most {MOST_SOURCES} sources")).into());
        }
        Ok(source)
    }
}

/// What a fresh system asks.
pub fn seeds() -> Vec<TimeSource> {
    [
        ("time.cloudflare.com", true),
        ("time.google.com", false),
        ("pool.ntp.org", false),
        ("time.apple.com", false),
    ]
    .map(|(address, nts)| TimeSource {
        id: Id::new_v4(),
        address: address.into(),
        nts,
        min_poll: 4,
        max_poll: 10,
        enabled: true,
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source(json: &str) -> Result<TimeSource, String> {
        let request: TimeSourceRequest = serde_json::from_str(json).unwrap();
        request.source(None, &Config::default()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn addresses_are_stored_as_the_daemon_needs_them() {
        let stored =
            |address: &str| source(&format!(r#"{{"address":"{address}"}}"#)).map(|source| source.address);
        assert_eq!(stored(" 2001:db8::1 ").unwrap(), "[2001:db8::1]:123");
        assert_eq!(stored("[2001:db8::1]").unwrap(), "[2001:db8::1]:123");
        for same in
            ["ntp.example.org", "ntp.example.org:1123", "192.0.2.1", "192.0.2.1:124", "[2001:db8::1]:5"]
        {
            assert_eq!(stored(same).unwrap(), same);
        }
        for bad in
            ["", " ", "a b", "ntp.example.org:0", "ntp:x", "1.2.3", "-x", "a..b", "192.0.2.1:70000", "ntp:+5"]
        {
            assert!(stored(bad).unwrap_err().starts_with("address: expected"), "{bad}");
        }
    }

    #[test]
    fn polls_are_in_order_and_in_range() {
        assert!(
            source(r#"{"address":"a","min_poll":11,"max_poll":10}"#).unwrap_err().starts_with("min_poll")
        );
        assert!(source(r#"{"address":"a","min_poll":0}"#).unwrap_err().starts_with("min_poll"));
        assert!(source(r#"{"address":"a","max_poll":18}"#).unwrap_err().starts_with("max_poll"));
        let plain = source(r#"{"address":"a"}"#).unwrap();
        assert_eq!((plain.nts, plain.min_poll, plain.max_poll, plain.enabled), (false, 4, 10, true));
    }
}
