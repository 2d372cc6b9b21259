//! What rules ask of packets: interface, family, protocol, addresses, ports, log.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{ParseError, Parser};
use crate::config::InterfaceName;
use crate::pf::ast::*;
use crate::pf::lex::{Position, Token};
use crate::pf::names;

const HOST: &str = "an address, a network, an interface, (interface) or <table>";
const PORT: &str = "a port: 0 to 65535 or the name of a service";

impl Parser<'_> {
    pub(super) fn direction(&mut self) -> Result<Option<Direction>, ParseError> {
        Ok(if self.accept("in")? {
            Some(Direction::In)
        } else if self.accept("out")? {
            Some(Direction::Out)
        } else {
            None
        })
    }

    pub(super) fn family(&mut self) -> Result<Option<Family>, ParseError> {
        Ok(if self.accept("inet")? {
            Some(Family::Inet)
        } else if self.accept("inet6")? {
            Some(Family::Inet6)
        } else {
            None
        })
    }

    /// `log` and `quick`, in either order.
    pub(super) fn log_and_quick(&mut self) -> Result<(Option<Log>, bool), ParseError> {
        let early = self.accept("quick")?;
        let log = self.log()?;
        Ok((log, early || self.accept("quick")?))
    }

    pub(super) fn log(&mut self) -> Result<Option<Log>, ParseError> {
        if !self.accept("log")? {
            return Ok(None);
        }
        let mut log = Log::default();
        if self.is_sign("(")? {
            self.parenthesised(|parser| {
                if parser.accept("all")? {
                    log.all = true;
                } else if parser.accept("matches")? {
                    log.matches = true;
                } else if parser.accept("user")? {
                    log.user = true;
                } else if parser.accept("to")? {
                    let at = parser.position()?;
                    let name = parser.interface_name()?;
                    let number = name.as_str().strip_prefix("pflog").and_then(|rest| rest.parse::<u8>().ok());
                    if number.is_none() {
                        return parser.refused(at, "a pflog interface", format!("{name:?}"));
                    }
                    log.to = Some(name);
                } else {
                    return parser.unexpected("all, matches, user or to");
                }
                Ok(())
            })?;
        }
        Ok(Some(log))
    }

    /// An interface, a group, or `any`.
    pub(super) fn interface_or_any(&mut self) -> Result<InterfaceName, ParseError> {
        let at = self.position()?;
        if self.accept("any")? {
            return InterfaceName::new("any").or_else(|error| self.refused(at, error.0, "any"));
        }
        self.interface_name()
    }

    pub(super) fn interface_match(&mut self) -> Result<InterfaceMatch, ParseError> {
        Ok(InterfaceMatch { negate: self.accept_sign("!")?, name: self.interface_or_any()? })
    }

    pub(super) fn on(&mut self) -> Result<Vec<InterfaceMatch>, ParseError> {
        if self.accept("on")? { self.list(Self::interface_match) } else { Ok(Vec::new()) }
    }

    /// Family, protocols, and `from … to …`.
    pub(super) fn criteria(
        &mut self,
        direction: Option<Direction>,
        on: Vec<InterfaceMatch>,
    ) -> Result<Criteria, ParseError> {
        let family = self.family()?;
        let protocols = if self.accept("proto")? { self.list(Self::protocol)? } else { Vec::new() };
        let between = self.between()?;
        Ok(Criteria { direction, on, family, protocols, between })
    }

    fn protocol(&mut self) -> Result<Protocol, ParseError> {
        const EXPECTED: &str = "a protocol: its name or 1 to 255";
        let at = self.position()?;
        if matches!(self.peek()?, Token::Number(_)) {
            let number = self.number(1, 255, EXPECTED)?;
            return Ok(Protocol(u8::try_from(number).unwrap_or(u8::MAX)));
        }
        let word = self.word(EXPECTED)?;
        match names::protocol_by_name(&word) {
            Some(protocol) => Ok(protocol),
            None => self.refused(at, EXPECTED, format!("{word:?}")),
        }
    }

    fn between(&mut self) -> Result<FromTo, ParseError> {
        if self.accept("all")? {
            return Ok(FromTo::All);
        }
        let mut written = false;
        let mut from = Endpoint::default();
        let mut to = Endpoint::default();
        if self.accept("from")? {
            written = true;
            from = self.endpoint(false)?;
        }
        if self.is_keyword("os")? {
            return self.unexpected("a rule without operating-system fingerprints (os)");
        }
        if self.accept("to")? {
            written = true;
            to = self.endpoint(true)?;
        }
        Ok(if written { FromTo::Between { from, to } } else { FromTo::All })
    }

    fn endpoint(&mut self, destination: bool) -> Result<Endpoint, ParseError> {
        let at = self.position()?;
        let hosts = if self.is_keyword("port")? { Vec::new() } else { self.host_list()? };
        if destination && hosts.iter().any(|item| item.host == Host::UrpfFailed) {
            return self.refused(at, "a destination", "\"urpf-failed\"");
        }
        let ports = if self.accept("port")? { self.list(Self::port)? } else { Vec::new() };
        Ok(Endpoint { hosts, ports })
    }

    /// `any`, one host, or a list of them; empty = any, which swallows the rest of a list.
    pub(super) fn host_list(&mut self) -> Result<Vec<HostItem>, ParseError> {
        let items = self.list(|parser| {
            if parser.accept("any")? {
                return Ok(None);
            }
            let negate = parser.accept_sign("!")?;
            let host = if parser.accept("no-route")? {
                Host::NoRoute
            } else if parser.accept("urpf-failed")? {
                Host::UrpfFailed
            } else {
                parser.host()?
            };
            Ok(Some(HostItem { negate, host }))
        })?;
        Ok(items.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default())
    }

    pub(super) fn host(&mut self) -> Result<Host, ParseError> {
        let at = self.position()?;
        if self.is_sign("<")? {
            return Ok(Host::Table(self.table()?));
        }
        if self.accept_sign("(")? {
            let word = self.word("an interface name")?;
            self.expect_sign(")")?;
            let Some(mut host) =
                interface_host(&word).filter(|_| word.starts_with(|c: char| c.is_ascii_alphabetic()))
            else {
                return self.refused(at, "(interface), perhaps with :network, :broadcast, :peer or :0", word);
            };
            host.dynamic = true;
            if self.accept_sign("/")? {
                host.prefix = Some(self.number_u8(128, "a prefix length: 0 to 128")?);
            }
            return Ok(Host::Interface(host));
        }
        if let Token::Number(first) = *self.peek()? {
            self.next()?;
            if !self.is_sign("/")? {
                return self.refused(at, HOST, first.to_string());
            }
            return self.network(at, &first.to_string());
        }
        let word = self.word(HOST)?;
        if self.is_sign("/")? {
            return self.network(at, &word);
        }
        if self.accept_sign("-")? {
            let end = self.word("the last address of the range")?;
            return match (word.parse::<IpAddr>(), end.parse::<IpAddr>()) {
                (Ok(from), Ok(to)) if from.is_ipv4() == to.is_ipv4() => Ok(Host::Range(from, to)),
                _ => self.refused(at, "two addresses of one family", format!("{word} - {end}")),
            };
        }
        if let Ok(address) = word.parse::<IpAddr>() {
            return Ok(Host::address(address));
        }
        if let Some(scoped) = scoped(&word, None) {
            return Ok(scoped);
        }
        match interface_host(&word) {
            Some(host) => Ok(Host::Interface(host)),
            None => self.refused(at, HOST, format!("{word:?}")),
        }
    }

    /// The prefix length behind `word`.
    fn network(&mut self, at: Position, word: &str) -> Result<Host, ParseError> {
        self.expect_sign("/")?;
        let prefix = self.number_u8(128, "a prefix length")?;
        let address = word.parse::<IpAddr>().ok().or_else(|| short_ipv4(word).map(IpAddr::from));
        if let Some(address) = address {
            return match IpNet::new(address, prefix) {
                Ok(net) => Ok(Host::Net(net)),
                Err(_) => self.refused(at, "a prefix length that the family has", format!("{word}/{prefix}")),
            };
        }
        if let Some(host) = scoped(word, Some(prefix)) {
            return Ok(host);
        }
        match interface_host(word).filter(|host| !host.network && !host.broadcast) {
            Some(host) => Ok(Host::Interface(InterfaceHost { prefix: Some(prefix), ..host })),
            None => self.refused(at, HOST, format!("{word}/{prefix}")),
        }
    }

    /// `<name>`
    pub(super) fn table(&mut self) -> Result<Table, ParseError> {
        self.expect_sign("<")?;
        let at = self.position()?;
        let name = self.word("a table name")?;
        self.expect_sign(">")?;
        Table::new(&name).or_else(|BadText { expected, got }| self.refused(at, expected, format!("{got:?}")))
    }

    fn port(&mut self) -> Result<Port, ParseError> {
        let at = self.position()?;
        let unary = [
            ("=", Port::Equal as fn(u16) -> Port),
            ("!=", Port::NotEqual),
            ("<", Port::Less),
            ("<=", Port::LessOrEqual),
            (">", Port::Greater),
            (">=", Port::GreaterOrEqual),
        ];
        for (sign, make) in unary {
            if self.accept_sign(sign)? {
                return match self.port_range()? {
                    (port, None) => Ok(make(port)),
                    _ => self.refused(at, "one port behind the operator", "a range"),
                };
            }
        }
        let (start, end) = self.port_range()?;
        let binary = if self.accept_sign("><")? {
            Port::Between as fn(u16, u16) -> Port
        } else if self.accept_sign("<>")? {
            Port::Outside
        } else {
            return match end {
                None => Ok(Port::Equal(start)),
                Some(end) if start > end => self.refused(
                    at,
                    "a port range whose start is not above its end",
                    format!("{start}:{end}"),
                ),
                Some(end) => Ok(Port::Range(start, end)),
            };
        };
        let (last, last_end) = self.port_range()?;
        if end.is_some() || last_end.is_some() {
            return self.refused(at, "one port on each side of the operator", "a range");
        }
        let port = binary(start, last);
        if matches!(port, Port::Between(a, b) if a >= b) || matches!(port, Port::Outside(a, b) if a > b) {
            return self.refused(at, "ports in ascending order", format!("{port}"));
        }
        Ok(port)
    }

    /// `a`, `a:b`; equal ends are one port.
    fn port_range(&mut self) -> Result<(u16, Option<u16>), ParseError> {
        let at = self.position()?;
        if matches!(self.peek()?, Token::Number(_)) {
            return Ok((self.number_u16(PORT)?, None));
        }
        let word = self.word(PORT)?;
        let range = match word.split_once(':') {
            None => port_number(&word).map(|port| (port, None)),
            Some((start, end)) => port_number(start)
                .zip(port_number(end))
                .map(|(start, end)| (start, (start != end).then_some(end))),
        };
        match range {
            Some(range) => Ok(range),
            None => self.refused(at, PORT, format!("{word:?}")),
        }
    }

    /// `port 80`, `port 80:90`, `port 80:*` of a translation.
    pub(super) fn target_port(&mut self) -> Result<Option<TargetPort>, ParseError> {
        if !self.accept("port")? {
            return Ok(None);
        }
        let at = self.position()?;
        if let Token::Word(word) = self.peek()?
            && let Some(start) = word.strip_suffix(":*")
        {
            let start = port_number(start);
            let word = word.clone();
            self.next()?;
            return match start {
                Some(start) => Ok(Some(TargetPort::From(start))),
                None => self.refused(at, PORT, format!("{word:?}")),
            };
        }
        match self.port_range()? {
            (port, None) => Ok(Some(TargetPort::One(port))),
            (start, Some(end)) if start > end => {
                self.refused(at, "a port range whose start is not above its end", format!("{start}:{end}"))
            }
            (start, Some(end)) => Ok(Some(TargetPort::Range(start, end))),
        }
    }
}

fn port_number(word: &str) -> Option<u16> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word.parse().ok();
    }
    names::service_by_name(word)
}

/// `10`, `10.1`, `10.1.2` in front of a prefix length.
fn short_ipv4(word: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for (index, part) in word.split('.').enumerate() {
        *octets.get_mut(index)? = part.parse().ok()?;
    }
    Some(Ipv4Addr::from(octets))
}

/// `fe80::1%em0`
fn scoped(word: &str, prefix: Option<u8>) -> Option<Host> {
    let (address, interface) = word.split_once('%')?;
    let address = address.parse::<std::net::Ipv6Addr>().ok()?;
    let net = IpNet::new(address.into(), prefix.unwrap_or(128)).ok()?;
    Some(Host::Scoped(net, InterfaceName::new(interface).ok()?))
}

/// `em0:network:0`
fn interface_host(word: &str) -> Option<InterfaceHost> {
    let mut parts = word.split(':');
    let mut host = InterfaceHost::named(&InterfaceName::new(parts.next()?).ok()?);
    for modifier in parts {
        match modifier {
            "network" => host.network = true,
            "broadcast" => host.broadcast = true,
            "peer" => host.peer = true,
            "0" => host.no_alias = true,
            _ => return None,
        }
    }
    let kinds = [host.network, host.broadcast, host.peer];
    (kinds.iter().filter(|set| **set).count() <= 1).then_some(host)
}
