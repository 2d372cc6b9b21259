//! pf's state table: who talks to whom, found from a packet of either direction, on either side of a
//! translation. Bounded by `set limit states`; entries end by pf's timeouts on the clock that the engine gives.
//! Knows rules only as the counters and labels that a state keeps of the rule that made it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::rules::{RuleInfo, SourceLimits};
use super::tcp::{self, Peer, Verdict};
use crate::pf::ast::Timeout;
use crate::pf::packet::{Direction, Icmp, Packet, Transport, protocol};

/// Microseconds since 1970.
pub type Micros = i64;

/// Seconds and limits of `set timeout`, indexed by [`Timeout`]; `None` = not set here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts([Option<u32>; Timeout::ALL.len()]);

impl Timeouts {
    pub const NONE: Self = Self([None; Timeout::ALL.len()]);

    /// pf's defaults (pf.conf(5), `set timeout`), with the adaptive limits at 60 % and 120 % of the state limit.
    pub fn defaults(limit: u32) -> Self {
        let mut timeouts = Self::NONE;
        for which in Timeout::ALL {
            let seconds = match which {
                Timeout::TcpFirst | Timeout::SctpFirst => 120,
                Timeout::TcpOpening | Timeout::SctpOpening | Timeout::TcpTsdiff => 30,
                Timeout::TcpEstablished | Timeout::SctpEstablished => 86400,
                Timeout::TcpClosing | Timeout::SctpClosing => 900,
                Timeout::TcpFinwait => 45,
                Timeout::TcpClosed | Timeout::SctpClosed => 90,
                Timeout::UdpFirst | Timeout::UdpMultiple => 60,
                Timeout::UdpSingle => 30,
                Timeout::IcmpFirst => 20,
                Timeout::IcmpError => 10,
                Timeout::OtherFirst | Timeout::OtherMultiple => 60,
                Timeout::OtherSingle => 30,
                Timeout::Frag => 60,
                Timeout::Interval => 10,
                Timeout::AdaptiveStart => limit / 10 * 6,
                Timeout::AdaptiveEnd => limit / 10 * 12,
                Timeout::SrcTrack => 0,
            };
            timeouts.set(*which, seconds);
        }
        timeouts
    }
    pub fn set(&mut self, which: Timeout, value: u32) {
        self.0[which as usize] = Some(value);
    }
    pub fn get(&self, which: Timeout) -> Option<u32> {
        self.0[which as usize]
    }
}

/// Addresses and ports of a flow on one side of a translation. Place 0 is the end that a packet coming in has
/// as its source, place 1 its destination; a packet going out stands the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub protocol: u8,
    pub addr: [IpAddr; 2],
    pub port: [u16; 2],
}

/// Place of a packet's source in a [`Key`].
pub fn place(direction: Direction) -> usize {
    match direction {
        Direction::In => 0,
        Direction::Out => 1,
    }
}

/// Ports as the state table sees them: ICMP queries and their answers share identifier and query type.
pub fn state_ports(packet: &Packet) -> (u16, u16) {
    match &packet.transport {
        Transport::Icmp(Icmp { kind, id, .. }) => match (packet.protocol, *kind) {
            (protocol::ICMP, 8 | 13 | 15 | 17) | (protocol::ICMP6, 128) => (*id, u16::from(*kind)),
            (protocol::ICMP, 0) => (8, *id),
            (protocol::ICMP, 14 | 16 | 18) => (u16::from(*kind) - 1, *id),
            (protocol::ICMP6, 129) => (128, *id),
            _ => (0, u16::from(*kind)),
        },
        _ => packet.ports(),
    }
}

impl Key {
    /// The key of a packet that passes in this direction.
    pub fn of(packet: &Packet, direction: Direction) -> Self {
        let (src_port, dst_port) = state_ports(packet);
        Self::between(packet.protocol, (packet.src, src_port), (packet.dst, dst_port), place(direction))
    }

    /// A key with the source at `place`.
    pub fn between(protocol: u8, src: (IpAddr, u16), dst: (IpAddr, u16), place: usize) -> Self {
        if place == 0 {
            Self { protocol, addr: [src.0, dst.0], port: [src.1, dst.1] }
        } else {
            Self { protocol, addr: [dst.0, src.0], port: [dst.1, src.1] }
        }
    }

    pub fn end(&self, place: usize) -> (IpAddr, u16) {
        (self.addr[place], self.port[place])
    }
}

/// Progress of a flow that is not TCP, one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Talk {
    #[default]
    NoTraffic,
    Single,
    Multiple,
}

impl Talk {
    fn name(self) -> &'static str {
        match self {
            Self::NoTraffic => "NO_TRAFFIC",
            Self::Single => "SINGLE",
            Self::Multiple => "MULTIPLE",
        }
    }
}

/// Both ends: originator, responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Tcp(Peer, Peer),
    Talk(Talk, Talk),
    /// ICMP and ICMPv6 have no ends.
    Icmp,
}

/// Where a state sends packets, against the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pub interface: Arc<str>,
    pub gateway: Option<IpAddr>,
}

/// One flow.
#[derive(Debug, Clone)]
pub struct State {
    pub id: u64,
    /// As the packets are on the wire of the interface it began on.
    pub wire: Key,
    /// As the rest of the machine sees them.
    pub stack: Key,
    /// Direction of the first packet.
    pub direction: Direction,
    /// Interface of the first packet.
    pub interface: Arc<str>,
    /// Packets match on that interface only.
    pub bound: bool,
    pub ends: Ends,
    pub sloppy: bool,
    /// From the originator, and back.
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub created: Micros,
    pub last: Micros,
    pub timeout: Timeout,
    pub timeouts: Arc<Timeouts>,
    pub rule: Arc<RuleInfo>,
    /// The anchor rules above it, and the translation rule.
    pub above: Vec<Arc<RuleInfo>>,
    pub nat: Option<Arc<RuleInfo>>,
    pub rtable: Option<u32>,
    /// `route-to`: for packets of the originator.
    pub route_to: Option<Via>,
    /// `reply-to`: for packets back.
    pub reply_to: Option<Via>,
    pub allow_options: bool,
    /// `log (all)`.
    pub log_all: bool,
    /// Limits on its source, looked at when the connection is established.
    pub source: Option<SourceLimits>,
    next: [u32; 2],
}

const WIRE: usize = 0;
const STACK: usize = 1;
const END: u32 = u32::MAX;

/// What a new state is made of.
#[derive(Debug)]
pub struct Begin {
    pub wire: Key,
    pub stack: Key,
    pub direction: Direction,
    pub interface: Arc<str>,
    pub bound: bool,
    pub sloppy: bool,
    pub timeouts: Arc<Timeouts>,
    pub rule: Arc<RuleInfo>,
    pub above: Vec<Arc<RuleInfo>>,
    pub nat: Option<Arc<RuleInfo>>,
    pub rtable: Option<u32>,
    pub route_to: Option<Via>,
    pub reply_to: Option<Via>,
    pub allow_options: bool,
    pub log_all: bool,
    pub source: Option<SourceLimits>,
}

impl State {
    pub fn changes_family(&self) -> bool {
        self.wire.addr[0].is_ipv4() != self.stack.addr[0].is_ipv4()
    }

    /// Place of the originator in the wire key or the stack key. A flow that changes its family leaves the
    /// machine as if it had begun here, so its stack key stands the other way round.
    pub fn originator(&self, side: Side) -> usize {
        match side {
            Side::Stack if self.changes_family() => 1 - place(self.direction),
            _ => place(self.direction),
        }
    }

    pub fn key(&self, side: Side) -> &Key {
        match side {
            Side::Wire => &self.wire,
            Side::Stack => &self.stack,
        }
    }

    /// Originator and responder as `pfctl -ss` shows them at the ends of the arrow: the translated side.
    pub fn shown(&self) -> ((IpAddr, u16), (IpAddr, u16)) {
        let side = match self.direction {
            Direction::Out => Side::Wire,
            Direction::In if self.changes_family() => Side::Wire,
            Direction::In => Side::Stack,
        };
        let from = self.originator(side);
        (self.key(side).end(from), self.key(side).end(1 - from))
    }

    /// As `pfctl -ss` prints it: the local end first, so for an incoming flow the responder's.
    pub fn text(&self) -> String {
        let (from, to) = match (&self.ends, self.wire.protocol) {
            (Ends::Tcp(from, to), _) => (from.state.name(), to.state.name()),
            (Ends::Talk(from, to), _) => (from.name(), to.name()),
            (Ends::Icmp, protocol::ICMP) => ("0", "0"),
            (Ends::Icmp, _) => ("NO_TRAFFIC", "NO_TRAFFIC"),
        };
        match self.direction {
            Direction::Out => format!("{from}:{to}"),
            Direction::In => format!("{to}:{from}"),
        }
    }

    /// Follows a packet; the counters are the caller's ([`State::count`]).
    pub fn follow(&mut self, packet: &Packet, from_originator: bool, now: Micros) -> Verdict {
        let verdict = match (&mut self.ends, &packet.transport) {
            (Ends::Tcp(from, to), Transport::Tcp(tcp)) => {
                let (src, dst) = if from_originator { (from, to) } else { (to, from) };
                let verdict =
                    if self.sloppy { tcp::follow_sloppy(tcp, src, dst) } else { tcp::follow(tcp, src, dst) };
                if verdict == Verdict::Fits {
                    self.timeout = tcp::timeout(src, dst);
                }
                verdict
            }
            (Ends::Talk(from, to), _) => {
                let (src, dst) = if from_originator { (from, to) } else { (to, from) };
                *src = (*src).max(Talk::Single);
                if *dst == Talk::Single {
                    *dst = Talk::Multiple;
                }
                let both = *src == Talk::Multiple && *dst == Talk::Multiple;
                self.timeout = match (self.wire.protocol, both) {
                    (protocol::UDP, true) => Timeout::UdpMultiple,
                    (protocol::UDP, false) => Timeout::UdpSingle,
                    (_, true) => Timeout::OtherMultiple,
                    (_, false) => Timeout::OtherSingle,
                };
                Verdict::Fits
            }
            (Ends::Icmp, _) => {
                self.timeout = Timeout::IcmpError;
                Verdict::Fits
            }
            (Ends::Tcp(..), _) => Verdict::Mismatch,
        };
        if verdict == Verdict::Fits {
            self.last = self.last.max(now);
        }
        verdict
    }

    /// Counts a packet on the state and on the rules behind it.
    pub fn count(&mut self, length: u32, from_originator: bool) {
        let way = usize::from(!from_originator);
        self.packets[way] += 1;
        self.bytes[way] += u64::from(length);
        for rule in self.above.iter().chain(std::iter::once(&self.rule)).chain(&self.nat) {
            rule.count(length);
        }
    }
}

/// Sides of a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Wire,
    Stack,
}

/// A state that a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub slot: u32,
    /// The side whose key the packet carries.
    pub side: Side,
    pub from_originator: bool,
}

/// The table is full: `set limit states`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state table is full")]
pub struct Full;

/// All flows.
#[derive(Debug, Default)]
pub struct StateTable {
    slots: Vec<Option<State>>,
    free: Vec<u32>,
    heads: [HashMap<Key, u32>; 2],
    len: usize,
    limit: usize,
    last_id: u64,
    pub searches: u64,
    pub inserts: u64,
    pub removals: u64,
}

impl StateTable {
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }
    pub fn limit(&self) -> usize {
        self.limit
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn get(&self, slot: u32) -> Option<&State> {
        self.slots.get(slot as usize)?.as_ref()
    }
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut State> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }
    pub fn iter(&self) -> impl Iterator<Item = &State> {
        self.slots.iter().flatten()
    }

    /// The state of a packet that passes an interface.
    pub fn find(&self, key: &Key, direction: Direction, interface: &str) -> Option<Found> {
        let (first, second) = match direction {
            Direction::In => (WIRE, STACK),
            Direction::Out => (STACK, WIRE),
        };
        // If-bound states come before floating ones; the other side counts for flows that change family.
        let mut floating = None;
        for (list, other) in [(first, false), (second, true)] {
            let mut slot = self.heads[list].get(key).copied().unwrap_or(END);
            while let Some(state) = self.get(slot) {
                if !other || state.changes_family() {
                    let side = if list == WIRE { Side::Wire } else { Side::Stack };
                    let from_originator = state.originator(side) == place(direction);
                    let found = Found { slot, side, from_originator };
                    if !state.bound {
                        floating = floating.or(Some(found));
                    } else if *state.interface == *interface || state.changes_family() {
                        return Some(found);
                    }
                }
                slot = state.next[list];
            }
        }
        floating
    }

    /// A state by the key of its stack side.
    pub fn by_stack(&self, key: &Key) -> Option<&State> {
        self.get(*self.heads[STACK].get(key)?)
    }

    /// Whether some state has this key on its wire side, so that a translation must take another port.
    pub fn wire_taken(&self, key: &Key) -> bool {
        self.heads[WIRE].contains_key(key)
    }

    /// Begins a state with its first packet, which is counted.
    pub fn insert(&mut self, begin: Begin, packet: &Packet, now: Micros) -> Result<u32, Full> {
        if self.len >= self.limit {
            return Err(Full);
        }
        let (ends, timeout) = match &packet.transport {
            Transport::Tcp(tcp) => {
                let (src, dst) = tcp::open(tcp);
                (Ends::Tcp(src, dst), Timeout::TcpFirst)
            }
            Transport::Icmp(_) => (Ends::Icmp, Timeout::IcmpFirst),
            Transport::Udp { .. } => (Ends::Talk(Talk::Single, Talk::NoTraffic), Timeout::UdpFirst),
            _ => (Ends::Talk(Talk::Single, Talk::NoTraffic), Timeout::OtherFirst),
        };
        self.last_id += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(END)
        });
        let next = [
            self.heads[WIRE].insert(begin.wire, slot).unwrap_or(END),
            self.heads[STACK].insert(begin.stack, slot).unwrap_or(END),
        ];
        let mut state = State {
            id: self.last_id,
            wire: begin.wire,
            stack: begin.stack,
            direction: begin.direction,
            interface: begin.interface,
            bound: begin.bound,
            ends,
            sloppy: begin.sloppy,
            packets: [0; 2],
            bytes: [0; 2],
            created: now,
            last: now,
            timeout,
            timeouts: begin.timeouts,
            rule: begin.rule,
            above: begin.above,
            nat: begin.nat,
            rtable: begin.rtable,
            route_to: begin.route_to,
            reply_to: begin.reply_to,
            allow_options: begin.allow_options,
            log_all: begin.log_all,
            source: begin.source,
            next,
        };
        state.count(packet.length, true);
        for rule in state.above.iter().chain(std::iter::once(&state.rule)).chain(&state.nat) {
            rule.state_begins();
        }
        self.slots[slot as usize] = Some(state);
        self.len += 1;
        self.inserts += 1;
        Ok(slot)
    }

    /// Removes a state; the one that was there is handed back.
    pub fn remove(&mut self, slot: u32) -> Option<State> {
        let state = self.slots.get_mut(slot as usize)?.take()?;
        for (list, key) in [(WIRE, state.wire), (STACK, state.stack)] {
            let head = self.heads[list].get(&key).copied().unwrap_or(END);
            if head == slot {
                if state.next[list] == END {
                    self.heads[list].remove(&key);
                } else {
                    self.heads[list].insert(key, state.next[list]);
                }
                continue;
            }
            let mut at = head;
            while let Some(other) = self.get_mut(at) {
                if other.next[list] == slot {
                    other.next[list] = state.next[list];
                    break;
                }
                at = other.next[list];
            }
        }
        for rule in state.above.iter().chain(std::iter::once(&state.rule)).chain(&state.nat) {
            rule.state_ends();
        }
        self.free.push(slot);
        self.len -= 1;
        self.removals += 1;
        Some(state)
    }

    /// Removes every state that `which` picks; how many.
    pub fn kill(&mut self, mut which: impl FnMut(&State) -> bool) -> u64 {
        let slots: Vec<u32> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, state)| state.as_ref().is_some_and(&mut which))
            .map(|(slot, _)| slot)
            .collect();
        for slot in &slots {
            self.remove(*slot);
        }
        if self.len == 0 {
            // Give the memory of a burst back.
            self.slots = Vec::new();
            self.free = Vec::new();
            self.heads = Default::default();
        }
        slots.len() as u64
    }

    /// When a state ends if no more packets come, with the adaptive limits of pf.conf(5).
    pub fn expires(&self, state: &State, defaults: &Timeouts) -> Micros {
        let own = &state.timeouts;
        let seconds = |which| own.get(which).or(defaults.get(which)).unwrap_or(0);
        let (start, end, states) = match own.get(Timeout::AdaptiveStart) {
            Some(start) if start > 0 => {
                (start, own.get(Timeout::AdaptiveEnd).unwrap_or(0), state.rule.states())
            }
            _ => (
                defaults.get(Timeout::AdaptiveStart).unwrap_or(0),
                defaults.get(Timeout::AdaptiveEnd).unwrap_or(0),
                self.len as u64,
            ),
        };
        let mut timeout = i64::from(seconds(state.timeout)) * 1_000_000;
        let (start, end) = (u64::from(start), u64::from(end));
        if end > 0 && start < end && states > start {
            if states >= end {
                return state.last;
            }
            let (left, all) = (i64::try_from(end - states), i64::try_from(end - start));
            timeout = timeout / all.unwrap_or(1) * left.unwrap_or(0);
        }
        state.last + timeout
    }

    /// Removes what has ended.
    pub fn purge(&mut self, defaults: &Timeouts, now: Micros) -> u64 {
        let ended: Vec<u32> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, state)| state.as_ref().is_some_and(|s| self.expires(s, defaults) <= now))
            .map(|(slot, _)| slot)
            .collect();
        for slot in &ended {
            self.remove(*slot);
        }
        ended.len() as u64
    }
}
