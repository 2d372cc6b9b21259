//! Value types shared by every subsystem: a string becomes one of these at the edge, once, and is valid
//! from then on. Every constructor says what it expected when it refuses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Identifier of a stored object: UUID version 4.
pub type Id = uuid::Uuid;

/// A moment in UTC, RFC 3339 on the wire.
pub type Timestamp = jiff::Timestamp;

/// Why a value was refused: which field, and what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    pub field: String,
    pub reason: String,
}

impl Invalid {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// A value that was refused before it is known which field it stood in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

impl BadValue {
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
    /// Names the field that the value was given for.
    pub fn field(self, field: impl Into<String>) -> Invalid {
        Invalid::new(field, self.0)
    }
}

/// Declares a validated string: constructor, parsing, printing, serde and JSON schema.
macro_rules! string_value {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(#[schemars(with = "String")] std::sync::Arc<str>);

        impl $name {
            pub fn new(text: &str) -> Result<Self, BadValue> {
                $check(text)?;
                Ok(Self(text.into()))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadValue;
            fn from_str(text: &str) -> Result<Self, BadValue> {
                Self::new(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use string_value;

/// Gives an enum the words it is read from, any case, blanks around them ignored.
macro_rules! words {
    ($type:ty, $expected:literal, $($($word:literal)|+ => $value:expr),+ $(,)?) => {
        impl std::str::FromStr for $type {
            type Err = $crate::config::BadValue;
            fn from_str(text: &str) -> Result<Self, $crate::config::BadValue> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($($word)|+ => Ok($value),)+
                    _ => Err($crate::config::BadValue::new(concat!("expected ", $expected))),
                }
            }
        }
    };
}
pub(crate) use words;

fn check_interface(text: &str) -> Result<(), BadValue> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if (1..=15).contains(&text.len()) && text.bytes().all(fine) {
        Ok(())
    } else {
        Err(BadValue::new("expected an interface name: 1 to 15 of A-Z a-z 0-9 _ . -"))
    }
}

fn check_table(text: &str) -> Result<(), BadValue> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if (1..=31).contains(&text.len()) && text.bytes().all(fine) {
        Ok(())
    } else {
        Err(BadValue::new("expected a table name: 1 to 31 of A-Z a-z 0-9 _ -"))
    }
}

fn check_label(text: &str) -> Result<(), BadValue> {
    if text.len() > 63 {
        return Err(BadValue::new("expected at most 63 bytes"));
    }
    if text.chars().any(|c| matches!(c, '"' | '\'' | ';' | '\\' | '\n' | '\r' | '\0')) {
        return Err(BadValue::new("expected text without quotes, ; \\ or line breaks"));
    }
    Ok(())
}

string_value!(
    /// Name of a network interface (ifconfig(8)): 1 to 15 of `A-Z a-z 0-9 _ . -`. It need not exist here.
    InterfaceName, check_interface
);
string_value!(
    /// Name of a pf table, and so of an alias: 1 to 31 of `A-Z a-z 0-9 _ -` (PF_TABLE_NAME_SIZE less the NUL).
    TableName, check_table
);
string_value!(
    /// Text of a pf label: at most 63 bytes (PF_RULE_LABEL_SIZE less the NUL), none of `" ' ; \` CR LF NUL.
    Label, check_label
);

/// A TCP or UDP port range, both ends included; `start` ≤ `end`, neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawPortRange")]
pub struct PortRange {
    start: u16,
    end: u16,
}

#[derive(Deserialize, JsonSchema)]
struct RawPortRange {
    start: u16,
    end: u16,
}

impl TryFrom<RawPortRange> for PortRange {
    type Error = BadValue;
    fn try_from(raw: RawPortRange) -> Result<Self, BadValue> {
        Self::new(raw.start, raw.end)
    }
}

impl PortRange {
    pub fn new(start: u16, end: u16) -> Result<Self, BadValue> {
        if start == 0 || end == 0 {
            return Err(BadValue::new("expected a port from 1 to 65535"));
        }
        if start > end {
            return Err(BadValue::new("expected a start that is not above the end"));
        }
        Ok(Self { start, end })
    }
    pub fn start(self) -> u16 {
        self.start
    }
    pub fn end(self) -> u16 {
        self.end
    }
    pub fn contains(self, port: u16) -> bool {
        (self.start..=self.end).contains(&port)
    }
}

/// A source or destination as a rule names it (pf.conf(5), "host").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Any,
    Host(IpAddr),
    /// Host bits are kept as they were given.
    Network(IpNet),
    Table(TableName),
    /// `self`: every address of this machine.
    This,
    /// `(em0)`: the addresses an interface has now.
    Interface(InterfaceName),
    /// `em0:network`: the networks an interface is in.
    InterfaceNetwork(InterfaceName),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Host(host) => host.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Table(name) => write!(f, "<{name}>"),
            Self::This => f.write_str("self"),
            Self::Interface(name) => write!(f, "({name})"),
            Self::InterfaceNetwork(name) => write!(f, "{name}:network"),
        }
    }
}

impl FromStr for Address {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if matches!(lower.as_str(), "any" | "interface" | "interface address") {
            return Ok(Self::Any);
        }
        if lower == "self" {
            return Ok(Self::This);
        }
        if let Some(rest) = text.strip_prefix('<') {
            let name = match rest.split_once('>') {
                Some((name, "")) => name,
                Some((name, mask)) if mask.strip_prefix('/').is_some_and(is_number) => name,
                _ => return Err(BadValue::new("expected <table>")),
            };
            return TableName::new(name).map(Self::Table);
        }
        if let Some(name) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            return InterfaceName::new(name).map(Self::Interface);
        }
        if let Some(name) = text.strip_suffix(":network") {
            return InterfaceName::new(name).map(Self::InterfaceNetwork);
        }
        if let Ok(host) = text.parse::<IpAddr>() {
            return Ok(Self::Host(host));
        }
        text.parse::<IpNet>().map(Self::Network).map_err(|_| {
            BadValue::new("expected any, an IP address, a network such as 10.0.0.0/8, <table>, self, (interface) or interface:network")
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
/// Also reads what older exports hold: `{"Single": ip}`, `{"Network": [ip, length]}`, `{"Table": name}`.
impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Address;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an address as text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Address, A::Error> {
                use serde::de::Error;
                let kind = map.next_key::<String>()?;
                let address = match kind.as_deref() {
                    Some("Single") => Address::Host(map.next_value()?),
                    Some("Network") => {
                        let (ip, length) = map.next_value::<(IpAddr, u8)>()?;
                        Address::Network(IpNet::new(ip, length).map_err(A::Error::custom)?)
                    }
                    Some("Table") => Address::Table(map.next_value()?),
                    _ => return Err(A::Error::custom("expected one of Single, Network, Table")),
                };
                match map.next_key::<String>()? {
                    None => Ok(address),
                    Some(_) => Err(A::Error::custom("expected one of Single, Network, Table alone")),
                }
            }
        }
        d.deserialize_any(Visitor)
    }
}
impl JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "any, an IP address, a network (CIDR), <table>, self, (interface) or interface:network"
        })
    }
}

impl Address {
    /// Whether it is IPv4 or IPv6, where the text alone tells.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Host(IpAddr::V4(_)) | Self::Network(IpNet::V4(_)) => Some(Family::Inet),
            Self::Host(IpAddr::V6(_)) | Self::Network(IpNet::V6(_)) => Some(Family::Inet6),
            _ => None,
        }
    }
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Self::Table(name) => Some(name),
            _ => None,
        }
    }
    /// Length of the prefix of a host or network.
    pub fn prefix_len(&self) -> Option<u8> {
        match self {
            Self::Host(IpAddr::V4(_)) => Some(32),
            Self::Host(IpAddr::V6(_)) => Some(128),
            Self::Network(network) => Some(network.prefix_len()),
            _ => None,
        }
    }
}

/// Declares an object of a collection that is known by its id alone.
macro_rules! plain_object {
    ($type:ty) => {
        impl $crate::config::Object for $type {
            type Key = $crate::config::Id;
            fn key(&self) -> Self::Key {
                self.id
            }
        }
    };
}
pub(crate) use plain_object;

/// For `deserialize_with`: an id that is no UUID is replaced by a new one (contract/config.md §2).
pub fn id_or_new<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Id, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
    Ok(text.parse().unwrap_or_else(|_| Id::new_v4()))
}

/// For `default`.
pub fn yes() -> bool {
    true
}

/// For `default`: a time that was not told.
pub fn epoch() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// Address family, in pf's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Inet,
    Inet6,
}

impl Family {
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Inet } else { Self::Inet6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Inet { "IPv4" } else { "IPv6" })
    }
}

impl TableName {
    /// As text that clones share.
    pub fn shared(&self) -> std::sync::Arc<str> {
        self.0.clone()
    }
}

/// The field `Some(value)` came from, or nothing, against the family it wants: all must agree.
pub fn one_family<'a>(
    wanted: impl IntoIterator<Item = (&'a str, Option<Family>)>,
) -> Result<Option<Family>, Invalid> {
    let mut first: Option<(&str, Family)> = None;
    for (field, family) in wanted {
        match (first, family) {
            (None, Some(family)) => first = Some((field, family)),
            (Some((other, agreed)), Some(family)) if agreed != family => {
                return Err(Invalid::new(field, format!("expected {agreed} as {other} is, not {family}")));
            }
            _ => {}
        }
    }
    Ok(first.map(|(_, family)| family))
}
