//! What stands behind `from … to …` in filter rules: flags, ICMP types, state, labels, tags, translations.

use super::{ParseError, Parser};
use crate::pf::ast::*;
use crate::pf::lex::Token;
use crate::pf::names;

/// PF_RULE_MAX_LABEL_COUNT and PF_RULE_LABEL_SIZE less the NUL.
const MAX_LABELS: usize = 5;
const MAX_LABEL: usize = 63;
/// PF_TAG_NAME_SIZE less the NUL.
const MAX_TAG: usize = 63;

impl Parser<'_> {
    pub(super) fn filter_options(&mut self) -> Result<FilterOptions, ParseError> {
        let mut options = FilterOptions::default();
        while self.filter_option(&mut options)? {}
        Ok(options)
    }

    /// Reads one option; `false` = none comes next.
    fn filter_option(&mut self, options: &mut FilterOptions) -> Result<bool, ParseError> {
        let at = self.position()?;
        let negate =
            self.is_sign("!")? && matches!(self.peek_second()?, Token::Keyword("tagged" | "received-on"));
        if negate {
            self.next()?;
        }
        let Token::Keyword(word) = *self.peek()? else {
            return Ok(false);
        };
        let again = |set: bool| {
            if set { self.refused(at, "each option once", format!("{word:?} again")) } else { Ok(()) }
        };
        match word {
            "flags" => again(options.flags.is_some())?,
            "icmp-type" | "icmp6-type" => again(options.icmp.is_some())?,
            "tos" => again(options.tos.is_some())?,
            "prio" => again(options.prio.is_some())?,
            "no" | "keep" | "modulate" | "synproxy" => again(options.state.is_some())?,
            "received-on" => again(options.received_on.is_some())?,
            "max-pkt-rate" => again(options.max_pkt_rate.is_some())?,
            "rdr-to" => again(options.rdr_to.is_some())?,
            "nat-to" | "binat-to" | "af-to" => {
                again(options.nat_to.is_some() || options.binat_to.is_some() || options.af_to.is_some())?;
            }
            "user" | "group" => return self.unexpected("a rule without user or group"),
            "queue" | "dnpipe" | "dnqueue" => return self.unexpected("a rule without queues or pipes"),
            "divert-to" | "divert-reply" => return self.unexpected("a rule without divert"),
            _ => {}
        }
        match word {
            "flags" => options.flags = Some(self.flags()?),
            "icmp-type" => options.icmp = Some(self.icmp(Family::Inet)?),
            "icmp6-type" => options.icmp = Some(self.icmp(Family::Inet6)?),
            "tos" => {
                self.next()?;
                options.tos = Some(self.tos()?);
            }
            "prio" => {
                self.next()?;
                options.prio = Some(self.number_u8(7, "a priority: 0 to 7")?);
            }
            "no" | "keep" | "modulate" | "synproxy" => options.state = Some(self.state()?),
            "ridentifier" => {
                self.next()?;
                options.ridentifier = Some(self.number_u32("a number below 2^32")?);
            }
            "fragment" => {
                self.next()?;
                options.fragment = true;
            }
            "allow-opts" => {
                self.next()?;
                options.allow_opts = true;
            }
            "label" => {
                if options.labels.len() == MAX_LABELS {
                    return self.unexpected("at most 5 labels");
                }
                let label = self.label()?;
                options.labels.push(label);
            }
            "tag" => options.tag = Some(self.tag()?),
            "tagged" => options.tagged = Some(Tagged { negate, name: self.tag()? }),
            "received-on" => {
                self.next()?;
                options.received_on = Some(InterfaceMatch { negate, name: self.interface_or_any()? });
            }
            "probability" => {
                self.next()?;
                options.probability = Some(self.probability()?);
            }
            "rtable" => options.rtable = self.rtable()?,
            "max-pkt-rate" => {
                self.next()?;
                let packets = self.number_u32("a number of packets")?;
                self.expect_sign("/")?;
                options.max_pkt_rate = Some((packets, self.number_u32("a number of seconds")?));
            }
            "max-pkt-size" => {
                self.next()?;
                options.max_pkt_size = Some(self.number_u16("a size: 0 to 65535 bytes")?);
            }
            "set" => {
                self.next()?;
                if self.is_sign("(")? {
                    self.parenthesised(|parser| parser.set_on_packet(options))?;
                } else {
                    self.set_on_packet(options)?;
                }
            }
            "scrub" => {
                self.next()?;
                self.expect_sign("(")?;
                let mut scrub = ScrubOptions::default();
                while !self.accept_sign(")")? {
                    if !self.scrub_option(&mut scrub)? {
                        return self
                            .unexpected("no-df, random-id, min-ttl, max-mss, set-tos or reassemble tcp");
                    }
                    self.accept_sign(",")?;
                }
                options.scrub = Some(scrub);
            }
            "nat-to" => {
                self.next()?;
                options.nat_to = Some(Box::new(self.translation()?));
            }
            "rdr-to" => {
                self.next()?;
                options.rdr_to = Some(Box::new(self.translation()?));
            }
            "binat-to" => {
                self.next()?;
                options.binat_to = Some(Box::new(self.translation()?));
            }
            "af-to" => {
                self.next()?;
                let Some(family) = self.family()? else {
                    return self.unexpected("inet or inet6");
                };
                self.expect("from")?;
                let from = self.translation()?;
                let to = if self.accept("to")? { Some(self.translation()?) } else { None };
                options.af_to = Some(Box::new(AfTo { family, from, to }));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_on_packet(&mut self, options: &mut FilterOptions) -> Result<(), ParseError> {
        const PRIO: &str = "a priority: 0 to 7";
        if self.accept("tos")? {
            options.set_tos = Some(self.tos()?);
            return Ok(());
        }
        self.expect("prio")?;
        options.set_prio = Some(if self.accept_sign("(")? {
            let normal = self.number_u8(7, PRIO)?;
            self.accept_sign(",")?;
            let low_delay = self.number_u8(7, PRIO)?;
            self.expect_sign(")")?;
            (normal, Some(low_delay))
        } else {
            (self.number_u8(7, PRIO)?, None)
        });
        Ok(())
    }

    /// `label "text"`
    pub(super) fn label(&mut self) -> Result<Text, ParseError> {
        self.expect("label")?;
        self.short_text("a label", MAX_LABEL, Self::word)
    }

    /// `tag` or `tagged` and the name behind it.
    pub(super) fn tag(&mut self) -> Result<Text, ParseError> {
        self.next()?;
        self.short_text("a tag", MAX_TAG, Self::words)
    }

    fn short_text(
        &mut self,
        expected: &str,
        most: usize,
        read: fn(&mut Self, &str) -> Result<String, ParseError>,
    ) -> Result<Text, ParseError> {
        let at = self.position()?;
        let text = self.text(expected, read)?;
        if text.as_str().len() > most {
            return self.refused(at, format!("at most {most} bytes"), format!("{text}"));
        }
        Ok(text)
    }

    pub(super) fn rtable(&mut self) -> Result<Option<u32>, ParseError> {
        // RT_MAXFIBS of FreeBSD.
        Ok(if self.accept("rtable")? {
            let number = self.number(0, 65535, "a routing table: 0 to 65535")?;
            u32::try_from(number).ok()
        } else {
            None
        })
    }

    fn flags(&mut self) -> Result<TcpFlags, ParseError> {
        self.expect("flags")?;
        if self.accept("any")? {
            return Ok(TcpFlags::Any);
        }
        let at = self.position()?;
        let set = if self.is_sign("/")? { 0 } else { self.flag_letters()? };
        self.expect_sign("/")?;
        let of = self.flag_letters()?;
        if set & !of != 0 {
            return self.refused(
                at,
                "flags that can be set: those in front of / also stand behind it",
                "others",
            );
        }
        Ok(TcpFlags::Set { set, of })
    }

    fn flag_letters(&mut self) -> Result<u16, ParseError> {
        const EXPECTED: &str = "TCP flags: letters of FSRPAUEWe";
        let at = self.position()?;
        let word = self.word(EXPECTED)?;
        let bits = word.chars().try_fold(0, |bits, letter| {
            names::TCP_FLAGS.chars().position(|known| known == letter).map(|bit| bits | 1 << bit)
        });
        match bits {
            Some(bits) => Ok(bits),
            None => self.refused(at, EXPECTED, format!("{word:?}")),
        }
    }

    fn icmp(&mut self, family: Family) -> Result<IcmpMatch, ParseError> {
        self.next()?;
        let types = self.list(|parser| {
            let at = parser.position()?;
            let kind = if let Token::Word(word) = parser.peek()?.clone() {
                parser.next()?;
                match names::icmp_type_by_name(family, &word) {
                    Some(kind) => kind,
                    None => return parser.refused(at, "an ICMP type of the family", format!("{word:?}")),
                }
            } else {
                parser.number_u8(255, "an ICMP type: its name or 0 to 255")?
            };
            if !parser.accept("code")? {
                return Ok(IcmpType { kind, code: None });
            }
            let at = parser.position()?;
            let code = if let Token::Word(word) = parser.peek()?.clone() {
                parser.next()?;
                match names::icmp_code_by_name(family, kind, &word) {
                    Some(code) => code,
                    None => return parser.refused(at, "a code of that ICMP type", format!("{word:?}")),
                }
            } else {
                parser.number_u8(255, "an ICMP code: its name or 0 to 255")?
            };
            Ok(IcmpType { kind, code: Some(code) })
        })?;
        Ok(IcmpMatch { family, types })
    }

    pub(super) fn tos(&mut self) -> Result<u8, ParseError> {
        const EXPECTED: &str = "a type of service: a name, 0 to 255, or 0x00 to 0xff";
        let at = self.position()?;
        if matches!(self.peek()?, Token::Number(_)) {
            return self.number_u8(255, EXPECTED);
        }
        let word = self.word(EXPECTED)?;
        let value = names::tos_by_name(&word)
            .or_else(|| word.strip_prefix("0x").and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        match value {
            Some(value) => Ok(value),
            None => self.refused(at, EXPECTED, format!("{word:?}")),
        }
    }

    /// `50%`, `0.5`; in millionths, at least one.
    fn probability(&mut self) -> Result<u32, ParseError> {
        const EXPECTED: &str = "a probability: 0 to 1, or 0% to 100%";
        let at = self.position()?;
        let word = match self.peek()? {
            Token::Number(number) => {
                let word = number.to_string();
                self.next()?;
                word
            }
            _ => self.word(EXPECTED)?,
        };
        let (digits, scale) = match word.strip_suffix('%') {
            Some(digits) => (digits, 10_000.0),
            None => (word.as_str(), 1_000_000.0),
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match digits.parse::<f64>().ok().filter(|_| plain).map(|value| value * scale) {
            // In range, so the cast is exact to the rounding.
            Some(value) if (0.0..=1_000_000.0).contains(&value) => Ok((value.round() as u32).max(1)),
            _ => self.refused(at, EXPECTED, format!("{word:?}")),
        }
    }

    fn state(&mut self) -> Result<State, ParseError> {
        let kind = if self.accept("no")? {
            StateKind::None
        } else if self.accept("keep")? {
            StateKind::Keep
        } else if self.accept("modulate")? {
            StateKind::Modulate
        } else {
            self.expect("synproxy")?;
            StateKind::Synproxy
        };
        self.expect("state")?;
        let mut options = Vec::new();
        if kind != StateKind::None && self.is_sign("(")? {
            self.parenthesised(|parser| {
                options.push(parser.state_option()?);
                Ok(())
            })?;
        }
        Ok(State { kind, options })
    }

    pub(super) fn state_option(&mut self) -> Result<StateOption, ParseError> {
        const EXPECTED: &str =
            "a state option, such as max, no-sync, if-bound, source-track, overload or tcp.first";
        if let Token::Word(word) = self.peek()?.clone() {
            let timeout = Timeout::from_word(&word).filter(|timeout| timeout.as_str().contains('.'));
            let Some(timeout) = timeout else {
                return self.unexpected(EXPECTED);
            };
            self.next()?;
            return Ok(StateOption::Timeout(timeout, self.number_u32("a number of seconds or states")?));
        }
        let Token::Keyword(word) = *self.peek()? else {
            return self.unexpected(EXPECTED);
        };
        self.next()?;
        const POSITIVE: &str = "a number from 1 to 4294967295";
        let mut positive = || {
            let number = self.number(1, i64::from(u32::MAX), POSITIVE)?;
            Ok::<u32, ParseError>(u32::try_from(number).unwrap_or(u32::MAX))
        };
        Ok(match word {
            "max" => StateOption::Max(self.number_u32("a number of states")?),
            "no-sync" => StateOption::NoSync,
            "if-bound" => StateOption::IfBound,
            "floating" => StateOption::Floating,
            "sloppy" => StateOption::Sloppy,
            "pflow" => StateOption::Pflow,
            "allow-related" => StateOption::AllowRelated,
            "source-track" => StateOption::SourceTrack(if self.accept("global")? {
                Some(SourceTrack::Global)
            } else if self.accept("rule")? {
                Some(SourceTrack::Rule)
            } else {
                None
            }),
            "max-src-states" => StateOption::MaxSrcStates(positive()?),
            "max-src-conn" => StateOption::MaxSrcConn(positive()?),
            "max-src-nodes" => StateOption::MaxSrcNodes(positive()?),
            "max-src-conn-rate" => {
                let number = positive()?;
                self.expect_sign("/")?;
                let seconds = self.number(1, i64::from(u32::MAX), "a number of seconds")?;
                StateOption::MaxSrcConnRate(number, u32::try_from(seconds).unwrap_or(u32::MAX))
            }
            "overload" => {
                let table = self.table()?;
                let flush = match (self.accept("flush")?, self.accept("global")?) {
                    (false, false) => None,
                    (true, false) => Some(Flush::Rule),
                    (true, true) => Some(Flush::Global),
                    (false, true) => return self.unexpected("\"flush\" in front of \"global\""),
                };
                StateOption::Overload { table, flush }
            }
            _ => return self.unexpected(EXPECTED),
        })
    }

    /// Reads one option of normalisation; `false` = none comes next.
    pub(super) fn scrub_option(&mut self, options: &mut ScrubOptions) -> Result<bool, ParseError> {
        if self.accept("no-df")? {
            options.no_df = true;
        } else if self.accept("random-id")? {
            options.random_id = true;
        } else if self.accept("min-ttl")? {
            options.min_ttl = Some(self.number_u8(255, "a time to live: 0 to 255")?);
        } else if self.accept("max-mss")? {
            options.max_mss = Some(self.number_u16("a segment size: 0 to 65535")?);
        } else if self.accept("set-tos")? {
            options.set_tos = Some(self.tos()?);
        } else if self.accept("reassemble")? {
            match self.word("\"tcp\"")?.as_str() {
                "tcp" => options.reassemble_tcp = true,
                _ => return self.unexpected("\"tcp\" behind \"reassemble\""),
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
