//! Names and addresses as the resolver's configuration has them: domain and host names, servers with a port,
//! servers spoken to over TLS, and where to listen. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::string_value;
use crate::config::{BadValue, InterfaceName};

fn check_domain(text: &str) -> Result<(), BadValue> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text.len() <= 253
        && text.bytes().all(fine)
        && labels.split('.').all(|label| (1..=63).contains(&label.len()) && !label.starts_with('-'))
    {
        Ok(())
    } else {
        Err(BadValue::new(
            "expected a name: labels of 1 to 63 of A-Z a-z 0-9 _ -, not starting with -, separated by single dots, at most 253 in all",
        ))
    }
}

fn check_host(text: &str) -> Result<(), BadValue> {
    if text == "@" { Ok(()) } else { check_domain(text) }
}

string_value!(
    /// A domain name (RFC 1035 §2.3.1, underscores allowed), spelled as it was given.
    DomainName, check_domain
);
string_value!(
    /// The part of a host's name that stands before its domain; `@` is the domain itself.
    HostName, check_host
);

impl DomainName {
    /// Where names of DHCP clients are found unless it is said otherwise.
    pub(super) fn local() -> Self {
        Self("local".into())
    }
    /// In lower case, without a final dot: equal names have equal text.
    pub fn plain(&self) -> String {
        self.as_str().trim_end_matches('.').to_ascii_lowercase()
    }
}

impl HostName {
    pub fn is_apex(&self) -> bool {
        self.as_str() == "@"
    }
    /// As [`DomainName::plain`], with the domain it stands in.
    pub fn within(&self, domain: &DomainName) -> String {
        if self.is_apex() {
            return domain.plain();
        }
        let host = self.as_str().trim_end_matches('.').to_ascii_lowercase();
        format!("{host}.{}", domain.plain())
    }
}

/// Text on the wire, a type within.
macro_rules! as_text {
    ($type:ty, $name:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}

pub(super) use as_text;

/// A name server that is asked over UDP and TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream(pub SocketAddr);
as_text!(Upstream, "Upstream", "ip, ip:port, [ipv6]:port or ip@port");

pub const DNS_PORT: u16 = 53;
pub const DOT_PORT: u16 = 853;

impl Upstream {
    pub(super) fn at(ip: [u8; 4]) -> Self {
        Self(SocketAddr::from((ip, DNS_PORT)))
    }
}

impl FromStr for Upstream {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new("expected ip, ip:port, [ipv6]:port or ip@port");
        let text = text.trim();
        let address = if let Ok(ip) = text.parse::<IpAddr>() {
            SocketAddr::new(ip, DNS_PORT)
        } else if let Some((ip, port)) = text.split_once('@') {
            let ip = ip.trim_start_matches('[').trim_end_matches(']');
            SocketAddr::new(ip.parse().map_err(|_| bad())?, port.parse().map_err(|_| bad())?)
        } else {
            text.parse().map_err(|_| bad())?
        };
        if address.port() == 0 || address.ip().is_unspecified() { Err(bad()) } else { Ok(Self(address)) }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port() {
            DNS_PORT => self.0.ip().fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

/// One or more name servers, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams(pub Vec<Upstream>);
as_text!(Upstreams, "Upstreams", "comma list of ip, ip:port, [ipv6]:port or ip@port");

impl FromStr for Upstreams {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let servers = text.split(',').map(str::parse).collect::<Result<Vec<Upstream>, _>>();
        servers
            .map(Self)
            .map_err(|_| BadValue::new("expected a comma list of ip, ip:port, [ipv6]:port or ip@port"))
    }
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.0.iter().enumerate() {
            write!(f, "{}{server}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A name server that is asked over TLS (RFC 7858): `ip[@port][#name]`, the name being that of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsUpstream {
    pub address: SocketAddr,
    pub name: Option<DomainName>,
}
as_text!(TlsUpstream, "TlsUpstream", "ip[@port][#name of the certificate]");

impl TlsUpstream {
    pub(super) fn cloudflare(ip: [u8; 4]) -> Self {
        Self {
            address: SocketAddr::from((ip, DOT_PORT)),
            name: Some(DomainName("cloudflare-dns.com".into())),
        }
    }
}

impl FromStr for TlsUpstream {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new("expected ip[@port][#name]");
        let (server, name) = match text.trim().split_once('#') {
            Some((server, name)) => (server, Some(DomainName::new(name).map_err(|_| bad())?)),
            None => (text.trim(), None),
        };
        let (ip, port) = match server.split_once('@') {
            Some((ip, port)) => (ip, port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?),
            None => (server, DOT_PORT),
        };
        Ok(Self { address: SocketAddr::new(ip.parse().map_err(|_| bad())?, port), name })
    }
}

impl fmt::Display for TlsUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.address.ip(), self.address.port())?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "#{name}"))
    }
}

/// Where to listen, or to send from: an address, or an interface whose addresses are looked up at each apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Address(IpAddr),
    Interface(InterfaceName),
}
as_text!(Place, "DnsPlace", "an IP address or the name of an interface");

impl FromStr for Place {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(ip) = text.trim().parse() {
            return Ok(Self::Address(ip));
        }
        InterfaceName::new(text.trim())
            .ok()
            .filter(|name| name.as_str().starts_with(|c: char| c.is_ascii_alphabetic()))
            .map(Self::Interface)
            .ok_or_else(|| BadValue::new("expected an IP address or the name of an interface"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Interface(name) => name.fmt(f),
        }
    }
}

/// An address on a `nameserver` line of resolv.conf(5); a link-local one may name its zone (RFC 4007 §11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    pub ip: IpAddr,
    pub zone: Option<Arc<str>>,
}
as_text!(NameServer, "NameServer", "an IPv4 or IPv6 address; %zone on a link-local one");

impl From<IpAddr> for NameServer {
    fn from(ip: IpAddr) -> Self {
        Self { ip, zone: None }
    }
}

impl FromStr for NameServer {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new("expected an IPv4 or IPv6 address");
        match text.split_once('%') {
            None => Ok(Self { ip: text.parse().map_err(|_| bad())?, zone: None }),
            Some((ip, zone)) => {
                let ip: Ipv6Addr = ip.parse().map_err(|_| bad())?;
                let zone = InterfaceName::new(zone).map_err(|_| bad())?;
                match ip.is_unicast_link_local() {
                    true => Ok(Self { ip: ip.into(), zone: Some(zone.as_str().into()) }),
                    false => Err(BadValue::new("expected a %zone on link-local addresses alone")),
                }
            }
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, "%{zone}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn round<T: FromStr<Err = BadValue> + fmt::Display>(text: &str) -> Option<String> {
        text.parse::<T>().ok().map(|value| value.to_string())
    }

    #[test]
    fn names_are_checked_and_compared_in_one_spelling() {
        for good in ["a", "a.b-c", "_srv._tcp.x", "1.2", "Corp.Test."] {
            assert!(DomainName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", ".", "a..b", "-x", "a.-b", "a b", "a/b", "ü", &long, "@", ".a"] {
            assert!(DomainName::new(bad).is_err(), "{bad}");
        }
        let domain = DomainName::new("Corp.Test.").unwrap();
        assert_eq!(HostName::new("WWW").unwrap().within(&domain), "www.corp.test");
        assert_eq!(HostName::new("@").unwrap().within(&domain), "corp.test");
    }

    #[test]
    fn servers_have_one_form_each() {
        assert_eq!(round::<Upstream>("9.9.9.9").unwrap(), "9.9.9.9");
        assert_eq!(round::<Upstream>("9.9.9.9:53").unwrap(), "9.9.9.9");
        assert_eq!(round::<Upstream>("10.0.0.53@5353").unwrap(), "10.0.0.53:5353");
        assert_eq!(round::<Upstream>("[2001:db8::1]:54").unwrap(), "[2001:db8::1]:54");
        assert_eq!(round::<Upstream>("2001:db8::1").unwrap(), "2001:db8::1");
        for bad in ["", "x", "1.2.3.4:0", "1.2.3", "0.0.0.0", "1.2.3.4:70000", "1.1.1.1 \nx"] {
            assert!(round::<Upstream>(bad).is_none(), "{bad}");
        }
        assert_eq!(round::<Upstreams>("10.0.0.1, 10.0.0.2@54").unwrap(), "10.0.0.1,10.0.0.2:54");
        assert_eq!(round::<TlsUpstream>("1.1.1.1#one.test").unwrap(), "1.1.1.1@853#one.test");
        assert!(round::<TlsUpstream>("1.1.1.1#a b").is_none());
    }

    #[test]
    fn places_and_name_servers() {
        assert_eq!(round::<Place>("em0").unwrap(), "em0");
        assert_eq!(round::<Place>("::1").unwrap(), "::1");
        assert!(round::<Place>("300.1.1.1").is_none());
        assert_eq!(round::<NameServer>("fe80::1%em0").unwrap(), "fe80::1%em0");
        assert!(round::<NameServer>("2001:db8::1%em0").is_none());
        assert!(round::<NameServer>("9.9.9.9\nsearch x").is_none());
    }
}
