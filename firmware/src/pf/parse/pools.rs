//! Where packets are sent: routes, targets of translation, and how an address is taken from several.

use super::{ParseError, Parser};
use crate::pf::ast::*;
use crate::pf::lex::Token;

impl Parser<'_> {
    pub(super) fn route(&mut self) -> Result<Option<Route>, ParseError> {
        let Token::Keyword(word) = *self.peek()? else {
            return Ok(None);
        };
        let Some(kind) = RouteKind::from_word(word) else {
            return Ok(None);
        };
        self.next()?;
        let hops = self.list(|parser| {
            if !parser.accept_sign("(")? {
                return Ok(Hop { interface: parser.interface_name()?, address: None });
            }
            let interface = parser.interface_name()?;
            let address = parser.host()?;
            parser.expect_sign(")")?;
            Ok(Hop { interface, address: Some(address) })
        })?;
        Ok(Some(Route { kind, hops, pool: self.pool_options()? }))
    }

    /// What stands behind `->`, `nat-to`, `rdr-to`, `binat-to` and in `af-to`.
    pub(super) fn translation(&mut self) -> Result<Translation, ParseError> {
        let hosts = self.list(Self::host)?;
        let port = self.target_port()?;
        Ok(Translation { hosts, port, pool: self.pool_options()? })
    }

    fn pool_options(&mut self) -> Result<PoolOptions, ParseError> {
        let mut pool = PoolOptions::default();
        loop {
            let at = self.position()?;
            let before = pool;
            if self.accept("bitmask")? {
                pool.kind = Some(PoolKind::Bitmask);
            } else if self.accept("random")? {
                pool.kind = Some(PoolKind::Random);
            } else if self.accept("round-robin")? {
                pool.kind = Some(PoolKind::RoundRobin);
            } else if self.accept("source-hash")? {
                pool.kind = Some(PoolKind::SourceHash(self.hash_key()?));
            } else if self.accept("sticky-address")? {
                pool.sticky_address = true;
            } else if self.accept("static-port")? {
                pool.static_port = true;
            } else if self.accept("endpoint-independent")? {
                pool.endpoint_independent = true;
            } else if self.accept("prefer-ipv6-nexthop")? {
                pool.prefer_ipv6_nexthop = true;
            } else if self.accept("map-e-portset")? {
                pool.map_e = Some(self.map_e()?);
            } else {
                return Ok(pool);
            }
            let twice = before == pool || (before.kind.is_some() && before.kind != pool.kind);
            if twice || (pool.map_e.is_some() && pool.kind.is_some()) {
                return self.refused(at, "each pool option once, and one kind of pool", "another");
            }
        }
    }

    /// 128 bits in hexadecimal.
    fn hash_key(&mut self) -> Result<Option<u128>, ParseError> {
        let Token::Word(word) = self.peek()?.clone() else {
            return Ok(None);
        };
        let key = word.strip_prefix("0x").filter(|hex| hex.len() == 32);
        match key.and_then(|hex| u128::from_str_radix(hex, 16).ok()) {
            Some(key) => {
                self.next()?;
                Ok(Some(key))
            }
            None => self.unexpected("a key of 0x and 32 hexadecimal digits"),
        }
    }

    /// Offset 1 to 15, length 1 to 15, id; offset + length ≤ 16 (RFC 7597).
    fn map_e(&mut self) -> Result<(u8, u8, u16), ParseError> {
        const OFFSET: &str = "a MAP-E offset: 1 to 15";
        const LENGTH: &str = "a MAP-E length: 1 to 15, with the offset at most 16";
        let offset = u8::try_from(self.plain_or_hex(1, 15, OFFSET)?).unwrap_or(15);
        self.expect_sign("/")?;
        let length = u8::try_from(self.plain_or_hex(1, 16 - u16::from(offset), LENGTH)?).unwrap_or(15);
        self.expect_sign("/")?;
        Ok((offset, length, self.plain_or_hex(0, u16::MAX, "a MAP-E port set: 0 to 65535")?))
    }

    fn plain_or_hex(&mut self, least: u16, most: u16, expected: &str) -> Result<u16, ParseError> {
        let number = match self.peek()? {
            Token::Number(number) => u16::try_from(*number).ok(),
            Token::Word(word) => word.strip_prefix("0x").and_then(|hex| u16::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => {
                self.next()?;
                Ok(number)
            }
            None => self.unexpected(expected),
        }
    }
}
