//! Takes packets through the simulated pf: fragments, states, rules, counters, the log, and on through the
//! machine to the interface where a forwarded packet leaves. [`Engine::explain`] goes the same way and leaves no
//! trace.

mod explain;

use std::net::IpAddr;
use std::sync::Arc;

use super::engine::Engine;
use super::evaluate::{self, Ask, Decision, Random, Reason, convert_family, is_error};
use super::explain::Leg;
use super::rules::{Answer, KeepState, RuleInfo, SourceLimits};
use super::state::{Begin, Ends, Found, Key, Micros, Side, State, Timeouts, Via, place};
use super::tcp::{TcpState, Verdict};
use crate::config::Timestamp;
use crate::pf::ast::Flush;
use crate::pf::packet::{Direction, Family, Fragment, Packet, Transport, protocol, protocol_name};
use crate::pf::{InterfaceCounters, LoggedPacket};

/// What became of a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Through every interface on its way.
    pub passed: bool,
    pub reason: Reason,
    /// What the sender of a blocked packet gets.
    pub answer: Answer,
    /// As it is behind all translations.
    pub packet: Packet,
    /// Where it left, when it was forwarded.
    pub left: Option<Via>,
}

/// What pf sees of a packet on an interface, before anything follows from it.
enum Seen {
    /// pf is off, or leaves the interface alone.
    Skipped,
    Dropped(Reason),
    State(Found),
    New(Box<Decision>),
}

/// One passage of an interface.
struct Passage<'a> {
    packet: &'a Packet,
    direction: Direction,
    interface: Arc<str>,
    received_on: Option<Arc<str>>,
    /// A later part of a fragmented packet: belongs to a state, but does not move it.
    continuation: bool,
}

struct Passed {
    passed: bool,
    reason: Reason,
    answer: Answer,
    packet: Packet,
    via: Option<Via>,
}

impl Engine {
    /// Takes a packet through pf: on its interface, and out of another when it is forwarded.
    pub fn inject(&mut self, interface: &str, direction: Direction, packet: &Packet, at: Micros) -> Outcome {
        let now = self.advance(at);
        let (whole, continuation) = match self.reassemble(packet, now) {
            Ok(known) => known,
            Err(reason) => {
                return Outcome {
                    passed: false,
                    reason,
                    answer: Answer::Drop,
                    packet: packet.clone(),
                    left: None,
                };
            }
        };
        let interface = self.interfaces.name(interface);
        let mut passage = Passage {
            packet: &whole,
            direction,
            interface: interface.clone(),
            received_on: None,
            continuation,
        };
        let first = self.pass(&passage, now);
        let mut outcome = Outcome {
            passed: first.passed,
            reason: first.reason,
            answer: first.answer,
            packet: first.packet,
            left: None,
        };
        if !outcome.passed {
            return outcome;
        }
        if direction == Direction::Out {
            outcome.left = first.via;
            return outcome;
        }
        let Some(hop) = self.forward(&outcome.packet, first.via) else { return outcome };
        let mut leaving = outcome.packet.clone();
        leaving.ttl = leaving.ttl.saturating_sub(1);
        passage = Passage {
            packet: &leaving,
            direction: Direction::Out,
            interface: hop.interface.clone(),
            received_on: Some(interface),
            continuation,
        };
        let second = self.pass(&passage, now);
        outcome.passed = second.passed;
        outcome.reason = second.reason;
        outcome.answer = second.answer;
        outcome.packet = second.packet;
        if second.passed {
            outcome.left = Some(second.via.unwrap_or(hop));
        }
        outcome
    }

    /// Where a packet that came in goes on to; `None`: it ends here, or there is no way.
    fn forward(&self, packet: &Packet, via: Option<Via>) -> Option<Via> {
        if via.is_some() {
            return via;
        }
        if self.interfaces.ends_here(packet.dst) || packet.ttl <= 1 {
            return None;
        }
        let hop = self.interfaces.route(packet.dst)?;
        Some(Via { interface: hop.interface, gateway: hop.gateway })
    }

    /// With reassembly on, a fragment shows the ports of its first part.
    fn reassemble(&mut self, packet: &Packet, now: Micros) -> Result<(Packet, bool), Reason> {
        let Some(Fragment { id, offset, more: _ }) = packet.fragment else {
            return Ok((packet.clone(), false));
        };
        if !self.options.reassemble || !self.enabled {
            return Ok((packet.clone(), false));
        }
        let key = (packet.src, packet.dst, packet.protocol, id);
        if offset == 0 {
            let mut first = packet.clone();
            first.fragment = None;
            if self.fragments.len() < 5000 {
                self.fragments.insert(key, (first.clone(), now));
            }
            return Ok((first, false));
        }
        match self.fragments.get(&key) {
            Some((first, _)) => {
                let mut part = first.clone();
                part.length = packet.length;
                Ok((part, true))
            }
            None => {
                *self.reasons.entry(Reason::Fragment).or_default() += 1;
                Err(Reason::Fragment)
            }
        }
    }

    fn see(&self, p: &Passage<'_>, now: Micros, random: &mut Random, trace: Option<&mut Leg>) -> Seen {
        if !self.enabled || self.skips(&p.interface) {
            return Seen::Skipped;
        }
        if p.packet.transport == Transport::Short && p.packet.fragment.is_none() {
            return Seen::Dropped(Reason::Short);
        }
        if p.packet.fragment.is_none()
            && let Some(found) = self.find(p.packet, p.direction, &p.interface)
            && let Some(state) = self.states.get(found.slot)
            && self.states.expires(state, &self.options.timeouts) > now
        {
            return Seen::State(found);
        }
        let counting = trace.is_none();
        let ask = Ask {
            direction: p.direction,
            interface: p.interface.clone(),
            received_on: p.received_on.clone(),
            counting,
            random,
            steps: trace.map(|leg| &mut leg.path),
        };
        Seen::New(Box::new(evaluate::decide(self.world(), p.packet, ask)))
    }

    fn skips(&self, interface: &str) -> bool {
        self.options.skip.iter().any(|name| self.interfaces.means(name, interface))
    }

    /// The state that a packet belongs to; for an ICMP error that of the packet it quotes.
    fn find(&self, packet: &Packet, direction: Direction, interface: &str) -> Option<Found> {
        if let Transport::Icmp(icmp) = &packet.transport
            && let Some(quoted) = &icmp.quoted
        {
            // The quoted packet went the other way.
            let (src_port, dst_port) = super::state::state_ports(quoted);
            let away = 1 - place(direction);
            let key = Key::between(quoted.protocol, (quoted.src, src_port), (quoted.dst, dst_port), away);
            return self.states.find(&key, direction, interface);
        }
        if is_error(packet) {
            return None;
        }
        self.states.find(&Key::of(packet, direction), direction, interface)
    }

    fn pass(&mut self, p: &Passage<'_>, now: Micros) -> Passed {
        let mut random = self.random.clone();
        self.states.searches += 1;
        let seen = self.see(p, now, &mut random, None);
        self.random = random;
        let passed = match seen {
            Seen::Skipped => Passed {
                passed: true,
                reason: Reason::Match,
                answer: Answer::Drop,
                packet: p.packet.clone(),
                via: None,
            },
            Seen::Dropped(reason) => {
                self.log_packet(p, p.packet, false, reason, None, now);
                dropped(p, reason)
            }
            Seen::State(found) => match self.pass_state(p, found, now) {
                Some(passed) => passed,
                // The state was over: rules decide.
                None => return self.pass(p, now),
            },
            Seen::New(decision) => self.pass_new(p, *decision, now),
        };
        if passed.reason != Reason::Match {
            *self.reasons.entry(passed.reason).or_default() += 1;
        }
        self.count_traffic(p, passed.passed);
        passed
    }

    fn pass_state(&mut self, p: &Passage<'_>, found: Found, now: Micros) -> Option<Passed> {
        let state = self.states.get_mut(found.slot)?;
        // A flow that changed its family is met a second time where it leaves.
        let again = state.changes_family() && p.direction == Direction::Out;
        let verdict = if is_error(p.packet) || p.continuation || again {
            Verdict::Fits
        } else {
            let was = established(state);
            let verdict = state.follow(p.packet, found.from_originator, now);
            if verdict == Verdict::Fits && !was && established(state) {
                return self.connected(p, found, now);
            }
            verdict
        };
        match verdict {
            Verdict::Fits => self.count_on_state(p, found, now),
            Verdict::Mismatch => {
                let rule = state.rule.clone();
                if state.log_all {
                    self.log_packet(p, p.packet, false, Reason::StateMismatch, Some(&rule), now);
                }
                Some(dropped(p, Reason::StateMismatch))
            }
            Verdict::Reused => {
                self.states.remove(found.slot);
                None
            }
        }
    }

    fn count_on_state(&mut self, p: &Passage<'_>, found: Found, now: Micros) -> Option<Passed> {
        let state = self.states.get_mut(found.slot)?;
        if p.packet.options && !state.allow_options {
            return Some(dropped(p, Reason::IpOption));
        }
        let again = state.changes_family() && p.direction == Direction::Out;
        if !again {
            state.count(p.packet.length, found.from_originator);
        }
        let packet = translated(state, found, p.packet, p.direction);
        let via = if found.from_originator { state.route_to.clone() } else { state.reply_to.clone() };
        if state.log_all {
            let rule = state.rule.clone();
            self.log_packet(p, &packet, true, Reason::Match, Some(&rule), now);
        }
        Some(Passed { passed: true, reason: Reason::Match, answer: Answer::Drop, packet, via })
    }

    /// A connection has been answered and acknowledged: what one source may have is looked at.
    fn connected(&mut self, p: &Passage<'_>, found: Found, now: Micros) -> Option<Passed> {
        let state = self.states.get(found.slot)?;
        let (source, _) = state.key(Side::Wire).end(state.originator(Side::Wire));
        let rule = state.rule.clone();
        let Some(limits) = state.source.clone() else { return self.count_on_state(p, found, now) };
        let mut over = false;
        if let Some(max) = limits.max_connections {
            let count = self
                .states
                .iter()
                .filter(|s| Arc::ptr_eq(&s.rule, &rule) && established(s))
                .filter(|s| s.key(Side::Wire).addr[s.originator(Side::Wire)] == source)
                .count();
            over |= count > max as usize;
        }
        if let Some((count, seconds)) = limits.rate {
            let window = i64::from(seconds) * 1_000_000;
            let (seen, since) = self.rates.entry((Arc::as_ptr(&rule) as usize, source)).or_insert((0, now));
            if now - *since >= window {
                (*seen, *since) = (0, now);
            }
            *seen += 1;
            over |= *seen > count;
        }
        if !over {
            return self.count_on_state(p, found, now);
        }
        self.overload(&limits, &rule, source);
        self.states.remove(found.slot);
        Some(dropped(p, Reason::SrcLimit))
    }

    fn overload(&mut self, limits: &SourceLimits, rule: &Arc<RuleInfo>, source: IpAddr) {
        if let Some(table) = limits.overload {
            let number =
                if self.tables.get(table.own).is_some_and(Option::is_some) { table.own } else { table.root };
            if let Some(slot) = self.tables.get_mut(number) {
                let entry = super::table::Entry { net: source.into(), negated: false };
                slot.get_or_insert_default().add(entry);
            }
        }
        if let Some(flush) = limits.flush {
            self.states.kill(|s| {
                let theirs = s.key(Side::Wire).addr[s.originator(Side::Wire)] == source;
                theirs && (flush == Flush::Global || Arc::ptr_eq(&s.rule, rule))
            });
        }
    }

    fn pass_new(&mut self, p: &Passage<'_>, decision: Decision, now: Micros) -> Passed {
        if decision.filter.is_some() && decision.reason == Reason::Match {
            *self.reasons.entry(Reason::Match).or_default() += 1;
        }
        let rule = decision.filter.as_ref().map(|f| f.info().clone());
        let keep = decision.filter.as_ref().and_then(|f| f.filter()).map(|f| &f.state);
        let mut passed = decision.passed;
        let mut reason = decision.reason;
        if passed && decision.keep_state && !p.continuation {
            if let Err(why) = self.begin(p, &decision, keep, now) {
                (passed, reason) = (false, why);
            }
        } else if let Some(rule) = &rule {
            decision.above.iter().chain([rule]).for_each(|r| r.count(p.packet.length));
        }
        let shown = if passed { &decision.packet } else { p.packet };
        for rule in &decision.logging {
            self.log_packet(p, shown, passed, reason, Some(rule), now);
        }
        if decision.logging.is_empty() && matches!(reason, Reason::IpOption | Reason::Short) {
            self.log_packet(p, shown, passed, reason, rule.as_ref(), now);
        }
        Passed {
            passed,
            reason,
            answer: decision.answer,
            packet: if passed { decision.packet } else { p.packet.clone() },
            via: decision.route_to,
        }
    }

    fn begin(
        &mut self,
        p: &Passage<'_>,
        decision: &Decision,
        keep: Option<&KeepState>,
        now: Micros,
    ) -> Result<(), Reason> {
        let filter = decision.filter.as_ref().and_then(|f| f.filter());
        let rule = match (&decision.filter, &decision.nat) {
            (Some(rule), _) | (None, Some(rule)) => rule.info().clone(),
            (None, None) => Arc::default(),
        };
        if keep.and_then(|k| k.max).is_some_and(|max| rule.states() >= u64::from(max)) {
            return Err(Reason::StateLimit);
        }
        let source = keep.and_then(|k| k.source.clone());
        if let Some(max) = source.as_ref().and_then(|s| s.max_states) {
            let theirs = |s: &&State| {
                Arc::ptr_eq(&s.rule, &rule)
                    && s.key(Side::Wire).addr[s.originator(Side::Wire)] == p.packet.src
            };
            if self.states.iter().filter(theirs).count() >= max as usize {
                return Err(Reason::SrcLimit);
            }
        }
        let (before, after) =
            (Key::of(p.packet, p.direction), stack_key(p.packet, &decision.packet, p.direction));
        let (wire, stack) = match p.direction {
            Direction::In => (before, after),
            Direction::Out => (after, before),
        };
        let begin = Begin {
            wire,
            stack,
            direction: p.direction,
            interface: p.interface.clone(),
            bound: keep.is_some_and(|k| k.bound),
            sloppy: keep.is_some_and(|k| k.sloppy),
            timeouts: keep.map_or_else(|| Arc::new(Timeouts::NONE), |k| k.timeouts.clone()),
            rule,
            above: decision.above.clone(),
            nat: match (&decision.filter, &decision.nat) {
                (Some(_), Some(nat)) => Some(nat.info().clone()),
                _ => None,
            },
            rtable: decision.rtable,
            route_to: decision.route_to.clone(),
            reply_to: decision.reply_to.clone(),
            allow_options: filter.is_some_and(|f| f.allow_options),
            log_all: filter.and_then(|f| f.log).is_some_and(|log| log.all),
            source,
        };
        self.states.insert(begin, p.packet, now).map(|_| ()).map_err(|_| Reason::Memory)
    }

    fn count_traffic(&mut self, p: &Passage<'_>, passed: bool) {
        let length = u64::from(p.packet.length);
        let counters = self.traffic.entry(p.interface.clone()).or_insert_with(|| InterfaceCounters {
            name: p.interface.to_string(),
            ..InterfaceCounters::default()
        });
        match (passed, p.direction) {
            (false, _) => {
                counters.packets_blocked += 1;
                counters.bytes_blocked += length;
            }
            (true, Direction::In) => {
                counters.packets_in += 1;
                counters.bytes_in += length;
            }
            (true, Direction::Out) => {
                counters.packets_out += 1;
                counters.bytes_out += length;
            }
        }
    }

    fn log_packet(
        &mut self,
        p: &Passage<'_>,
        shown: &Packet,
        passed: bool,
        reason: Reason,
        rule: Option<&Arc<RuleInfo>>,
        now: Micros,
    ) {
        let (src_port, dst_port) = shown.ports();
        self.log(LoggedPacket {
            at: Timestamp::from_microsecond(now).unwrap_or_default(),
            passed,
            inbound: p.direction == Direction::In,
            interface: p.interface.to_string(),
            protocol: protocol_name(shown.protocol),
            src: shown.src,
            src_port,
            dst: shown.dst,
            dst_port,
            reason: reason.as_str().into(),
            anchor: rule.map(|r| r.anchor.to_string()).unwrap_or_default(),
            rule_number: rule.map(|r| r.number),
            labels: rule.map(|r| r.labels.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        });
    }

    /// The packet as it stood on the wire before a translation that a state has undone: captures taken behind the
    /// translation show answers with the inner address.
    pub fn before_translation(&self, packet: &Packet) -> Option<Packet> {
        let key = Key::of(packet, Direction::In);
        let state = self.states.by_stack(&key)?;
        if state.direction != Direction::Out || state.wire == state.stack || state.changes_family() {
            return None;
        }
        let mut outer = packet.clone();
        put_ends(&mut outer, state.wire.end(0), state.wire.end(1), state.wire.end(1).1);
        Some(outer)
    }
}

fn dropped(p: &Passage<'_>, reason: Reason) -> Passed {
    Passed { passed: false, reason, answer: Answer::Drop, packet: p.packet.clone(), via: None }
}

fn established(state: &State) -> bool {
    match &state.ends {
        Ends::Tcp(from, to) => from.state >= TcpState::Established && to.state >= TcpState::Established,
        Ends::Talk(..) | Ends::Icmp => false,
    }
}

/// Key of a packet behind its translation: one that changed its family leaves as if it had begun here.
fn stack_key(before: &Packet, after: &Packet, direction: Direction) -> Key {
    if before.family() == after.family() {
        Key::of(after, direction)
    } else {
        Key::of(after, direction.other())
    }
}

/// A packet of a known flow as it is on the other side of its translation.
fn translated(state: &State, found: Found, packet: &Packet, direction: Direction) -> Packet {
    if state.wire == state.stack || (state.changes_family() && direction == Direction::Out) {
        return packet.clone();
    }
    let other = match found.side {
        Side::Wire => Side::Stack,
        Side::Stack => Side::Wire,
    };
    let from = state.originator(other);
    let (originator, responder) = (state.key(other).end(from), state.key(other).end(1 - from));
    let mut out = packet.clone();
    let (src, dst) = if found.from_originator { (originator, responder) } else { (responder, originator) };
    if Family::of(src.0) != packet.family() {
        convert_family(&mut out, Family::of(src.0));
    }
    if is_error(packet) {
        // The error goes to whoever sent what it quotes.
        let own = state.key(found.side);
        let their = |address: IpAddr| (0..2).find(|i| own.addr[*i] == address);
        if let Transport::Icmp(icmp) = &mut out.transport
            && let Some(quoted) = &mut icmp.quoted
        {
            put_ends(quoted, dst, src, originator.1);
        }
        if their(packet.src).is_some() {
            out.src = src.0;
        }
        out.dst = dst.0;
        return out;
    }
    put_ends(&mut out, src, dst, originator.1);
    out
}

/// Puts addresses and ports (or the identifier of an echo) into a packet.
fn put_ends(packet: &mut Packet, src: (IpAddr, u16), dst: (IpAddr, u16), id: u16) {
    (packet.src, packet.dst) = (src.0, dst.0);
    packet.set_ports(src.1, dst.1);
    let query = match packet.protocol {
        protocol::ICMP => |kind: u8| matches!(kind, 0 | 8 | 13..=18),
        _ => |kind: u8| matches!(kind, 128 | 129),
    };
    if let Transport::Icmp(icmp) = &mut packet.transport
        && query(icmp.kind)
    {
        icmp.id = id;
    }
}
