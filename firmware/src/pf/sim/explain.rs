//! What `aifw explain` and `POST /api/v1/rules/explain` are asked and answer: a packet in; the verdict, the rule
//! behind it and the way there out. Plain data; [`super::engine`] fills it.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluate::RuleRef;
use super::rules::{Answer, RuleInfo};
use super::state::State;
use crate::pf::packet::{Direction, Icmp, Packet, Tcp, Transport, flag, protocol, protocol_name};

/// A packet to ask about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// Interface it passes.
    pub interface: String,
    /// `in` or `out`.
    #[serde(default = "inbound")]
    #[schemars(with = "String")]
    pub direction: Direction,
    /// `tcp`, `udp`, `icmp`, `icmp6` (or `ipv6-icmp`), `esp`, `ah`, `gre`, `igmp`, or a number.
    pub protocol: String,
    pub src: IpAddr,
    #[serde(default)]
    pub src_port: Option<u16>,
    pub dst: IpAddr,
    #[serde(default)]
    pub dst_port: Option<u16>,
    /// TCP flags, letters of `FSRPAUEW`; a SYN when left out.
    #[serde(default)]
    pub flags: Option<String>,
    /// An echo request when left out.
    #[serde(default)]
    pub icmp_type: Option<u8>,
    #[serde(default)]
    pub icmp_code: Option<u8>,
}

fn inbound() -> Direction {
    Direction::In
}

/// A question that describes no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadQuestion {
    pub field: &'static str,
    pub reason: String,
}

impl Question {
    /// The packet that is asked about.
    pub fn packet(&self) -> Result<Packet, BadQuestion> {
        let bad = |field, reason: &str| Err(BadQuestion { field, reason: reason.into() });
        if self.src.is_ipv4() != self.dst.is_ipv4() {
            return bad("dst", "expected an address of the source's family");
        }
        let number = match self.protocol.to_ascii_lowercase().as_str() {
            "tcp" => protocol::TCP,
            "udp" => protocol::UDP,
            "icmp" => protocol::ICMP,
            "icmp6" | "ipv6-icmp" | "icmpv6" => protocol::ICMP6,
            "igmp" => protocol::IGMP,
            "gre" => protocol::GRE,
            "esp" => protocol::ESP,
            "ah" => protocol::AH,
            other => match other.parse() {
                Ok(number) => number,
                Err(_) => {
                    return bad("protocol", "expected tcp, udp, icmp, icmp6, igmp, gre, esp, ah or a number");
                }
            },
        };
        let (src_port, dst_port) = (self.src_port.unwrap_or(49152), self.dst_port.unwrap_or(0));
        let ported = matches!(number, protocol::TCP | protocol::UDP);
        if ported && self.dst_port.is_none() {
            return bad("dst_port", "expected a port for tcp and udp");
        }
        let icmp = number == protocol::ICMP || number == protocol::ICMP6;
        if icmp && (number == protocol::ICMP) != self.src.is_ipv4() {
            return bad("protocol", "expected icmp with IPv4 addresses and icmp6 with IPv6 addresses");
        }
        Ok(match number {
            protocol::TCP => {
                let mut flags = 0;
                for letter in self.flags.as_deref().unwrap_or("S").chars() {
                    flags |= match letter.to_ascii_uppercase() {
                        'F' => flag::FIN,
                        'S' => flag::SYN,
                        'R' => flag::RST,
                        'P' => flag::PSH,
                        'A' => flag::ACK,
                        'U' => flag::URG,
                        'E' => flag::ECE,
                        'W' => flag::CWR,
                        _ => return bad("flags", "expected letters of FSRPAUEW"),
                    };
                }
                Packet::tcp(self.src, src_port, self.dst, dst_port, flags)
            }
            protocol::UDP => Packet::udp(self.src, src_port, self.dst, dst_port),
            protocol::ICMP | protocol::ICMP6 => {
                let echo = if number == protocol::ICMP { 8 } else { 128 };
                let kind = self.icmp_type.unwrap_or(echo);
                Packet::icmp(self.src, self.dst, kind, self.icmp_code.unwrap_or(0), 1)
            }
            other => Packet::other(self.src, self.dst, other),
        })
    }
}

/// A rule as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownRule {
    /// Path of its anchor, `""` in the main ruleset.
    pub anchor: String,
    /// Place among the rules of its kind in that ruleset, from 0.
    pub number: u32,
    /// As pfctl prints it.
    pub text: String,
    pub labels: Vec<String>,
}

impl From<&RuleInfo> for ShownRule {
    fn from(info: &RuleInfo) -> Self {
        Self {
            anchor: info.anchor.to_string(),
            number: info.number,
            text: info.text.to_string(),
            labels: info.labels.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Something that was entered or matched on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// `anchor` (entered), `translation` (matched) or `rule` (matched).
    pub kind: &'static str,
    #[serde(flatten)]
    pub rule: ShownRule,
}

impl Step {
    pub fn of(kind: &'static str, info: &RuleInfo) -> Self {
        Self { kind, rule: info.into() }
    }
}

/// The headers of a packet as they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownPacket {
    pub protocol: String,
    pub src: IpAddr,
    pub src_port: u16,
    pub dst: IpAddr,
    pub dst_port: u16,
    /// Of ICMP, else `null`.
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
}

impl From<&Packet> for ShownPacket {
    fn from(packet: &Packet) -> Self {
        let (src_port, dst_port) = packet.ports();
        let icmp = match &packet.transport {
            Transport::Icmp(Icmp { kind, code, .. }) => Some((*kind, *code)),
            Transport::Tcp(Tcp { .. }) | Transport::Udp { .. } | Transport::Other | Transport::Short => None,
        };
        Self {
            protocol: protocol_name(packet.protocol),
            src: packet.src,
            src_port,
            dst: packet.dst,
            dst_port,
            icmp_type: icmp.map(|i| i.0),
            icmp_code: icmp.map(|i| i.1),
        }
    }
}

/// A translation that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownTranslation {
    /// `None` where a filter rule (`af-to`, `nat-to`, `rdr-to`) or a state did it.
    pub rule: Option<ShownRule>,
    pub before: ShownPacket,
    pub after: ShownPacket,
}

/// Where a packet leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownRoute {
    pub interface: String,
    /// `null`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// `route-to`, `reply-to` or `routing table`.
    pub by: &'static str,
}

/// A state that a packet belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownState {
    pub id: u64,
    /// As pfctl prints it.
    pub state: String,
    /// The rule that made it.
    pub rule: ShownRule,
}

impl From<&State> for ShownState {
    fn from(state: &State) -> Self {
        Self { id: state.id, state: state.text(), rule: ShownRule::from(&*state.rule) }
    }
}

/// One passage of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Leg {
    pub interface: String,
    #[schemars(with = "String")]
    pub direction: Direction,
    /// `pass` or `block`.
    pub verdict: &'static str,
    /// `match`, or why pf dropped it by itself: `short`, `ip-option`, `state-mismatch` …; `skip` on an interface
    /// that pf leaves alone, `state` for a packet of a known flow.
    pub reason: &'static str,
    /// What the sender of a blocked packet gets: `drop` (nothing), `return-rst`, `return-icmp`; `""` when passed.
    pub answer: &'static str,
    /// The deciding rule; `null` = pf's default rule, which passes.
    pub rule: Option<ShownRule>,
    pub state: Option<ShownState>,
    /// Whether the packet begins a state.
    pub keeps_state: bool,
    pub logged: bool,
    pub translation: Option<ShownTranslation>,
    /// `route-to` or `reply-to` of the rule.
    pub route: Option<ShownRoute>,
    pub rtable: Option<u32>,
    pub tag: Option<String>,
    /// Every anchor entered and every rule that matched, in order.
    pub path: Vec<Step>,
}

/// What pf would do with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation {
    /// `pass` or `block`, over all legs.
    pub verdict: &'static str,
    /// The rule behind the verdict: of the leg that blocks, else of the first.
    pub rule: Option<ShownRule>,
    /// Where a forwarded packet leaves; `null` when it ends here or leaves by the interface asked about.
    pub route: Option<ShownRoute>,
    /// In through an interface, and, when it is forwarded, out through another.
    pub legs: Vec<Leg>,
}

impl Explanation {
    pub fn passed(&self) -> bool {
        self.verdict == "pass"
    }
}

/// The answer of a block rule in words.
pub fn answer_word(answer: Answer, number: u8) -> &'static str {
    match answer {
        Answer::Drop => "drop",
        Answer::Return | Answer::Reset if number == protocol::TCP => "return-rst",
        Answer::Reset => "drop",
        Answer::Return if number == protocol::ICMP || number == protocol::ICMP6 => "drop",
        Answer::Return | Answer::Unreachable => "return-icmp",
    }
}

/// A rule that is kept, as it is shown.
pub fn shown(rule: Option<&RuleRef>) -> Option<ShownRule> {
    rule.map(|r| ShownRule::from(&**r.info()))
}
