//! Translation rules (contract/firewall.md §6).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Maybe, Port, Word, text_or_null};
use super::rule::{MAX_RULES, Protocol, Status, check_address, port_range};
use super::value::{Family, one_family, words};
use super::{
    Address, Config, Id, InterfaceName, Invalid, Label, Object, PortRange, TableName, Timestamp, alias,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    Snat,
    Dnat,
    Masquerade,
    Binat,
    Nat64,
    Nat46,
}

/// What addresses and ports become. `Address::Any` = the interface's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redirect {
    pub address: Address,
    pub port: Option<PortRange>,
}

/// A translation rule, in stored form. `position` gives the order of evaluation, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatRule {
    pub id: Id,
    pub position: u64,
    pub nat_type: NatKind,
    pub interface: InterfaceName,
    pub protocol: Protocol,
    pub src_addr: Address,
    pub src_port: Option<PortRange>,
    pub dst_addr: Address,
    pub dst_port: Option<PortRange>,
    pub redirect: Redirect,
    pub label: Option<Label>,
    pub status: Status,
    /// snat and masquerade only: source ports are kept.
    pub static_port: bool,
    /// dnat only: a pass rule for the translated packets is compiled too.
    pub associated_filter: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for NatRule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    /// The aliases it refers to, and its position as [`position_word`].
    fn words(&self) -> Vec<Arc<str>> {
        let addresses = [&self.src_addr, &self.dst_addr, &self.redirect.address];
        let mut words: Vec<Arc<str>> =
            addresses.into_iter().filter_map(Address::table).map(TableName::shared).collect();
        words.push(position_word(self.position));
        words.sort_unstable();
        words.dedup();
        words
    }
}

/// Sorts as the position does, and before every alias name.
fn position_word(position: u64) -> Arc<str> {
    format!("#{position:020}").into()
}

/// First word that is no position.
const AFTER_POSITIONS: &str = "$";

words!(NatKind, "snat, dnat, masquerade, binat, nat64 or nat46",
    "snat" => Self::Snat, "dnat" | "rdr" => Self::Dnat, "masquerade" | "masq" => Self::Masquerade,
    "binat" => Self::Binat, "nat64" => Self::Nat64, "nat46" => Self::Nat46);

impl NatRule {
    /// Checks what must hold within one rule; what it refers to is [`NatRule::check_references`]' business.
    pub fn check(&self) -> Result<(), Invalid> {
        let kind = self.nat_type;
        let to = &self.redirect;
        check_address("src_addr", &self.src_addr)?;
        check_address("dst_addr", &self.dst_addr)?;
        check_address("redirect_addr", &to.address)?;
        if !self.protocol.has_ports() {
            let given = [
                ("src_port_start", self.src_port),
                ("dst_port_start", self.dst_port),
                ("redirect_port_start", to.port),
            ];
            if let Some((field, _)) = given.into_iter().find(|(_, port)| port.is_some()) {
                return Err(Invalid::new(
                    field,
                    "expected no port, since only tcp, udp and tcp/udp have ports",
                ));
            }
        }
        if self.static_port && !matches!(kind, NatKind::Snat | NatKind::Masquerade) {
            return Err(Invalid::new("static_port", "expected only with snat or masquerade"));
        }
        if self.static_port && to.port.is_some() {
            return Err(Invalid::new("static_port", "expected without a redirect port"));
        }
        let translates_family = matches!(kind, NatKind::Nat64 | NatKind::Nat46);
        one_family([
            ("protocol", self.protocol.family()),
            ("src_addr", self.src_addr.family()),
            ("dst_addr", self.dst_addr.family()),
            ("redirect_addr", to.address.family().filter(|_| !translates_family)),
        ])?;
        match kind {
            NatKind::Snat => {}
            NatKind::Masquerade => {
                if to.address != Address::Any {
                    return Err(Invalid::new(
                        "redirect_addr",
                        "expected none: the interface's address is used",
                    ));
                }
            }
            NatKind::Dnat => self.check_dnat()?,
            NatKind::Binat => self.check_binat()?,
            NatKind::Nat64 | NatKind::Nat46 => self.check_family_translation()?,
        }
        Ok(())
    }

    fn check_dnat(&self) -> Result<(), Invalid> {
        let to = &self.redirect;
        if self.dst_port.is_none() && to.port.is_none() {
            return Err(Invalid::new("dst_port_start", "expected a destination or a redirect port"));
        }
        if matches!(to.address, Address::Any) {
            return Err(Invalid::new("redirect_addr", "expected the address to forward to, not any"));
        }
        let length = |range: PortRange| range.end() - range.start();
        if let Some(port) = to.port
            && length(port) > 0
            && self.dst_port.map(length) != Some(length(port))
        {
            return Err(Invalid::new(
                "redirect_port_end",
                "expected one port, or a range as long as the destination's",
            ));
        }
        Ok(())
    }

    /// pf translates addresses one to one: both sides must be literal and of one size.
    fn check_binat(&self) -> Result<(), Invalid> {
        let given = [
            ("src_port_start", self.src_port),
            ("dst_port_start", self.dst_port),
            ("redirect_port_start", self.redirect.port),
        ];
        if let Some((field, _)) = given.into_iter().find(|(_, port)| port.is_some()) {
            return Err(Invalid::new(field, "expected no port with binat"));
        }
        if self.dst_addr.table().is_some() {
            return Err(Invalid::new("dst_addr", "expected no table with binat"));
        }
        let literal = |field: &str, address: &Address| {
            address
                .prefix_len()
                .ok_or_else(|| Invalid::new(field, "expected an address or a network with binat"))
        };
        let source = literal("src_addr", &self.src_addr)?;
        let redirect = literal("redirect_addr", &self.redirect.address)?;
        if source != redirect {
            return Err(Invalid::new(
                "redirect_addr",
                format!("expected a prefix of /{source} as the source has, not /{redirect}"),
            ));
        }
        Ok(())
    }

    fn check_family_translation(&self) -> Result<(), Invalid> {
        let nat64 = self.nat_type == NatKind::Nat64;
        let (outer, inner) =
            if nat64 { (Family::Inet6, Family::Inet) } else { (Family::Inet, Family::Inet6) };
        for (field, family) in [
            ("protocol", self.protocol.family()),
            ("src_addr", self.src_addr.family()),
            ("dst_addr", self.dst_addr.family()),
        ] {
            if family.is_some_and(|family| family != outer) {
                return Err(Invalid::new(field, format!("expected {outer}, the family that arrives")));
            }
        }
        let to = &self.redirect.address;
        let fits = match to {
            Address::Any => nat64,
            Address::Host(_) => to.family() == Some(inner),
            Address::Network(network) if nat64 => network.addr().is_ipv4(),
            Address::Network(network) => network.addr().is_ipv6() && network.prefix_len() == 96,
            _ => false,
        };
        if !fits {
            let expected = if nat64 {
                "expected an IPv4 address or network, or any"
            } else {
                "expected an IPv6 address, or a /96 to map into"
            };
            return Err(Invalid::new("redirect_addr", expected));
        }
        if self.redirect.port.is_some() {
            return Err(Invalid::new("redirect_port_start", "expected no port with nat64 or nat46"));
        }
        let dst_fits = match &self.dst_addr {
            Address::Any => true,
            Address::Network(IpNet::V6(network)) => network.prefix_len() >= 96,
            Address::Network(IpNet::V4(_)) => !nat64,
            Address::Host(ip) => matches!((ip, nat64), (IpAddr::V6(_), true) | (IpAddr::V4(_), false)),
            _ => !nat64,
        };
        if !dst_fits {
            return Err(Invalid::new("dst_addr", "expected any, or an IPv6 prefix of /96 or longer"));
        }
        Ok(())
    }

    /// Checks that the tables it names are there.
    pub fn check_references(&self, config: &Config) -> Result<(), Invalid> {
        for (field, address) in [
            ("src_addr", &self.src_addr),
            ("dst_addr", &self.dst_addr),
            ("redirect_addr", &self.redirect.address),
        ] {
            if let Some(table) = address.table() {
                alias::check_table(config, field, table)?;
            }
        }
        Ok(())
    }
}

/// Body of POST and PUT (contract/firewall.md §6). `src_port`, `dst_port` and `redirect` are read where the
/// flat fields are absent, so that a rule can be sent back as it was answered.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct NatRequest {
    pub nat_type: Word<NatKind>,
    pub interface: InterfaceName,
    pub protocol: Word<Protocol>,
    #[serde(default)]
    pub src_addr: Maybe<Address>,
    #[serde(default)]
    pub src_port_start: Maybe<Port>,
    #[serde(default)]
    pub src_port_end: Maybe<Port>,
    #[serde(default)]
    pub src_port: Maybe<PortRange>,
    #[serde(default)]
    pub dst_addr: Maybe<Address>,
    #[serde(default)]
    pub dst_port_start: Maybe<Port>,
    #[serde(default)]
    pub dst_port_end: Maybe<Port>,
    #[serde(default)]
    pub dst_port: Maybe<PortRange>,
    #[serde(default)]
    pub redirect_addr: Maybe<Address>,
    #[serde(default)]
    pub redirect_port_start: Maybe<Port>,
    #[serde(default)]
    pub redirect_port_end: Maybe<Port>,
    pub redirect: Option<Redirect>,
    #[serde(default, deserialize_with = "text_or_null")]
    pub label: Maybe<Label>,
    pub status: Option<Word<Status>>,
    pub static_port: Option<bool>,
    pub associated_filter: Option<bool>,
}

impl NatRequest {
    /// The new rule that is asked for, evaluated last.
    pub fn create(self, now: Timestamp, config: &Config) -> Result<NatRule, Invalid> {
        if config.nat.len() >= MAX_RULES {
            return Err(Invalid::new("nat", format!("expected at most {MAX_RULES} rules")));
        }
        self.build(None, now, config)
    }

    /// `stored` as it will be. Absent addresses become any, absent ports none — unless all that is given is
    /// as stored but for the status: then only the status changes (the UI's switch).
    pub fn replace(self, stored: &NatRule, now: Timestamp, config: &Config) -> Result<NatRule, Invalid> {
        if let Some(Word(status)) = self.status
            && status != stored.status
            && self.matches(stored)
        {
            return Ok(NatRule { status, updated_at: now, ..stored.clone() });
        }
        self.build(Some(stored), now, config)
    }

    /// Whether everything that is given, the status aside, is as stored.
    fn matches(&self, stored: &NatRule) -> bool {
        fn same<T: PartialEq>(given: &Maybe<T>, stored: Option<T>) -> bool {
            match given {
                Maybe::Absent => true,
                Maybe::Null => stored.is_none(),
                Maybe::Value(value) => stored.as_ref() == Some(value),
            }
        }
        let address = |given: &Maybe<Address>, stored: &Address| match given {
            Maybe::Absent => true,
            Maybe::Null => *stored == Address::Any,
            Maybe::Value(value) => value == stored,
        };
        let start = |range: Option<PortRange>| range.map(|range| Port(range.start()));
        let end = |range: Option<PortRange>| range.map(|range| Port(range.end()));
        let to = &stored.redirect;
        // An end of null with the stored start is how a UI spells one port.
        let end_same = |given: &Maybe<Port>, range: Option<PortRange>| match given {
            Maybe::Null => range.is_none_or(|range| range.start() == range.end()),
            _ => same(given, end(range)),
        };
        self.nat_type.0 == stored.nat_type
            && self.interface == stored.interface
            && self.protocol.0 == stored.protocol
            && address(&self.src_addr, &stored.src_addr)
            && address(&self.dst_addr, &stored.dst_addr)
            && (stored.nat_type == NatKind::Masquerade || address(&self.redirect_addr, &to.address))
            && same(&self.src_port_start, start(stored.src_port))
            && same(&self.dst_port_start, start(stored.dst_port))
            && same(&self.redirect_port_start, start(to.port))
            && end_same(&self.src_port_end, stored.src_port)
            && end_same(&self.dst_port_end, stored.dst_port)
            && end_same(&self.redirect_port_end, to.port)
            && same(&self.src_port, stored.src_port)
            && same(&self.dst_port, stored.dst_port)
            && self.redirect.as_ref().is_none_or(|redirect| redirect == to)
            && same(&self.label, stored.label.clone())
            && self.static_port.is_none_or(|given| given == stored.static_port)
            && self.associated_filter.is_none_or(|given| given == stored.associated_filter)
    }

    fn build(self, stored: Option<&NatRule>, now: Timestamp, config: &Config) -> Result<NatRule, Invalid> {
        let nat_type = self.nat_type.0;
        let masquerade = nat_type == NatKind::Masquerade;
        let (redirect_addr, redirect_port) = match self.redirect {
            Some(redirect) => (Some(redirect.address), redirect.port),
            None => (None, None),
        };
        let address = match self.redirect_addr.value().or(redirect_addr) {
            _ if masquerade => Address::Any,
            Some(address) => address,
            None => return Err(Invalid::new("redirect_addr", "expected an address to translate to")),
        };
        let ports = |field: &str, start, end, range, stored| port_range(field, start, end, range, stored);
        let rule = NatRule {
            id: stored.map_or_else(Id::new_v4, |rule| rule.id),
            position: stored.map_or_else(|| next_position(config), |rule| rule.position),
            nat_type,
            interface: self.interface,
            protocol: self.protocol.0,
            src_addr: self.src_addr.value().unwrap_or(Address::Any),
            src_port: ports(
                "src_port",
                self.src_port_start,
                self.src_port_end,
                self.src_port.value(),
                stored.and_then(|rule| rule.src_port),
            )?,
            dst_addr: self.dst_addr.value().unwrap_or(Address::Any),
            dst_port: ports(
                "dst_port",
                self.dst_port_start,
                self.dst_port_end,
                self.dst_port.value(),
                stored.and_then(|rule| rule.dst_port),
            )?,
            redirect: Redirect {
                address,
                port: ports(
                    "redirect_port",
                    self.redirect_port_start,
                    self.redirect_port_end,
                    redirect_port,
                    stored.and_then(|rule| rule.redirect.port),
                )?,
            },
            label: self.label.value(),
            status: self.status.map(|word| word.0).or(stored.map(|rule| rule.status)).unwrap_or_default(),
            static_port: self
                .static_port
                .or(stored
                    .filter(|_| matches!(nat_type, NatKind::Snat | NatKind::Masquerade))
                    .map(|rule| rule.static_port))
                .unwrap_or(false),
            // Meaningful with dnat only; elsewhere it stays at its default.
            associated_filter: nat_type != NatKind::Dnat
                || self.associated_filter.or(stored.map(|rule| rule.associated_filter)).unwrap_or(true),
            created_at: stored.map_or(now, |rule| rule.created_at),
            updated_at: stored.map_or(now, |rule| rule.updated_at),
        };
        if nat_type != NatKind::Dnat && self.associated_filter == Some(false) {
            return Err(Invalid::new("associated_filter", "expected only with dnat"));
        }
        rule.check()?;
        rule.check_references(config)?;
        Ok(match stored {
            Some(before) if *before != rule => NatRule { updated_at: now, ..rule },
            _ => rule,
        })
    }
}

/// The position behind every NAT rule.
pub fn next_position(config: &Config) -> u64 {
    let last =
        config.nat.last_word(AFTER_POSITIONS).and_then(|word| word.strip_prefix('#')?.parse::<u64>().ok());
    last.map_or(1, |last| last + 1)
}

#[cfg(test)]
#[path = "nat_tests.rs"]
mod tests;
