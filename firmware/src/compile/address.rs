//! Addresses, ports and families as pf writes them.

use super::{Context, Left, Reason};
use crate::config::alias::{COUNTRY_TABLE_PREFIX, SYSTEM_TABLES, parse_port_entry};
use crate::config::value::Family as ValueFamily;
use crate::config::{Address, AliasKind, InterfaceName, PortRange, TableName, rule};
use crate::pf::ast::*;

pub(super) fn family(family: ValueFamily) -> Family {
    match family {
        ValueFamily::Inet => Family::Inet,
        ValueFamily::Inet6 => Family::Inet6,
    }
}

/// The one family of all that have one.
pub(super) fn agree(families: impl IntoIterator<Item = Option<Family>>) -> Result<Option<Family>, Reason> {
    let mut agreed = None;
    for family in families.into_iter().flatten() {
        if agreed.is_some_and(|agreed| agreed != family) {
            return Err(Reason::Families);
        }
        agreed = Some(family);
    }
    Ok(agreed)
}

/// Protocols of a rule; empty = any.
pub(super) fn protocols(protocol: rule::Protocol) -> Vec<Protocol> {
    match protocol {
        rule::Protocol::Any => Vec::new(),
        rule::Protocol::Tcp => vec![Protocol::TCP],
        rule::Protocol::Udp => vec![Protocol::UDP],
        rule::Protocol::TcpUdp => vec![Protocol::TCP, Protocol::UDP],
        rule::Protocol::Icmp => vec![Protocol::ICMP],
        rule::Protocol::Icmp6 => vec![Protocol::ICMP6],
        rule::Protocol::Esp => vec![Protocol::ESP],
        rule::Protocol::Ah => vec![Protocol::AH],
        rule::Protocol::Gre => vec![Protocol::GRE],
    }
}

pub(super) fn port(range: PortRange) -> Port {
    if range.start() == range.end() {
        Port::Equal(range.start())
    } else {
        Port::Range(range.start(), range.end())
    }
}

/// `(em0)`: the addresses an interface has at each moment.
pub(super) fn addresses_of(name: &InterfaceName) -> Result<InterfaceHost, Reason> {
    if name.as_str().starts_with(|c: char| c.is_ascii_alphabetic()) {
        Ok(InterfaceHost { dynamic: true, ..InterfaceHost::named(name) })
    } else {
        Err(Reason::InterfaceAddress(name.clone()))
    }
}

/// `(em0:0)`: the first address, and no round robin over aliases.
pub(super) fn first_address_of(name: &InterfaceName) -> Result<Host, Reason> {
    Ok(Host::Interface(InterfaceHost { no_alias: true, ..addresses_of(name)? }))
}

/// `(em0:network)`
pub(super) fn networks_of(name: &InterfaceName) -> Result<Host, Reason> {
    Ok(Host::Interface(InterfaceHost { network: true, ..addresses_of(name)? }))
}

impl Context<'_> {
    /// `None` = any. Own addresses stand in parentheses: they follow changes, and load without the interface.
    pub(super) fn host(&self, address: &Address) -> Result<Option<Host>, Left> {
        Ok(Some(match address {
            Address::Any => return Ok(None),
            Address::Host(ip) => Host::address(*ip),
            Address::Network(net) => Host::Net(*net),
            Address::Table(name) => {
                self.table_is_filled(name)?;
                Host::Table(name.into())
            }
            Address::This => {
                let own = InterfaceName::new("self").map_err(|_| Reason::NotAny("self"))?;
                Host::Interface(addresses_of(&own)?)
            }
            Address::Interface(name) => Host::Interface(addresses_of(name)?),
            Address::InterfaceNetwork(name) => networks_of(name)?,
        }))
    }

    /// A disabled alias leaves its rules out: its table is empty, and "not" of it would be everything.
    fn table_is_filled(&self, name: &TableName) -> Result<(), Left> {
        let text = name.as_str();
        if SYSTEM_TABLES.contains(&text) {
            return Ok(());
        }
        if let Some(code) = country_of(name) {
            return if (self.environment.countries)(&code).is_empty() {
                Err(Left::Out(format!("left out: no networks are known for country {code}")))
            } else {
                Ok(())
            };
        }
        match self.config.aliases.find(text).next() {
            None => Err(Reason::NoAlias(text.into()).into()),
            Some(alias) if alias.alias_type == AliasKind::Port => Err(Reason::NoTable(text.into()).into()),
            Some(alias) if !alias.enabled => Err(Left::Out(format!("left out: alias {text} is disabled"))),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn endpoint(&self, side: &'static str, end: &rule::Endpoint) -> Result<Endpoint, Left> {
        let host = self.host(&end.addr)?;
        if end.invert && host.is_none() {
            return Err(Reason::NotAny(side).into());
        }
        let hosts = host.map(|host| HostItem { negate: end.invert, host }).into_iter().collect();
        let ports = match (&end.port_alias, end.port) {
            (Some(alias), _) => self.port_alias(alias)?,
            (None, range) => range.map(port).into_iter().collect(),
        };
        Ok(Endpoint { hosts, ports })
    }

    fn port_alias(&self, name: &TableName) -> Result<Vec<Port>, Left> {
        let text = name.as_str();
        let Some(alias) = self.config.aliases.find(text).next() else {
            return Err(Reason::NoAlias(text.into()).into());
        };
        if alias.alias_type != AliasKind::Port {
            return Err(Reason::NoPortAlias(text.into()).into());
        }
        if !alias.enabled {
            return Err(Left::Out(format!("left out: alias {text} is disabled")));
        }
        let ports: Vec<Port> =
            alias.entries.iter().filter_map(|entry| parse_port_entry(entry)).map(port).collect();
        if ports.is_empty() {
            return Err(Left::Out(format!("left out: alias {text} holds no ports")));
        }
        Ok(ports)
    }
}

/// `CN` of `geoip_cn`.
pub(super) fn country_of(table: &TableName) -> Option<String> {
    let code = table.as_str().strip_prefix(COUNTRY_TABLE_PREFIX)?;
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_lowercase())).then(|| code.to_ascii_uppercase())
}

/// Ports only where packets have them.
pub(super) fn ports_fit(protocol: rule::Protocol, from: &Endpoint, to: &Endpoint) -> Result<(), Reason> {
    let some = !from.ports.is_empty() || !to.ports.is_empty();
    if some && !protocol.has_ports() { Err(Reason::Ports) } else { Ok(()) }
}
