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
impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
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
