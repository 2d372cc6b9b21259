//! Evaluates a packet against the loaded rulesets the way pf does: translation first (first match wins, binat
//! before rdr and nat), then filter rules (last match wins, `quick` ends it), through anchors in order. Changes
//! no state: what follows from a decision is done by [`super::engine`], or not at all when somebody only asks.

mod translate;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use translate::convert_family;

use super::explain::Step;
use super::interfaces::Interfaces;
use super::rules::*;
use super::state::{StateTable, Via};
use super::table::Table;
use crate::pf::ast::{NatKind, StateKind};
use crate::pf::packet::{Direction, Packet, Transport, flag, protocol};

/// Small deterministic random numbers (xorshift64*): probabilities, ports and random pools come out the same in
/// every run with the same packets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.max(1))
    }
    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
    }
}

/// Why pf decided as it did (`pfctl -si`, "Counters").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Match,
    Fragment,
    Short,
    Memory,
    IpOption,
    StateMismatch,
    StateLimit,
    SrcLimit,
    MapFailed,
    Translate,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Fragment => "fragment",
            Self::Short => "short",
            Self::Memory => "memory",
            Self::IpOption => "ip-option",
            Self::StateMismatch => "state-mismatch",
            Self::StateLimit => "state-limit",
            Self::SrcLimit => "src-limit",
            Self::MapFailed => "map-failed",
            Self::Translate => "translate",
        }
    }
}

/// Which list of a ruleset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    Filter,
    Nat,
    Rdr,
    Binat,
}

/// A rule in a ruleset, kept alive.
#[derive(Debug, Clone)]
pub struct RuleRef {
    set: Arc<Ruleset>,
    list: ListKind,
    index: usize,
}

impl RuleRef {
    pub fn rule(&self) -> &Rule {
        &list_of(&self.set, self.list).rules[self.index]
    }
    pub fn info(&self) -> &Arc<RuleInfo> {
        &self.rule().info
    }
    pub fn filter(&self) -> Option<&Filter> {
        match &self.rule().what {
            What::Filter(filter) => Some(filter),
            _ => None,
        }
    }
    pub fn translate(&self) -> Option<&Translate> {
        match &self.rule().what {
            What::Translate(translate) => Some(translate),
            _ => None,
        }
    }
}

fn list_of(set: &Ruleset, list: ListKind) -> &RuleList {
    match list {
        ListKind::Filter => &set.filter,
        ListKind::Nat => &set.nat,
        ListKind::Rdr => &set.rdr,
        ListKind::Binat => &set.binat,
    }
}

/// What is in force, for looking only.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    pub interfaces: &'a Interfaces,
    pub rulesets: &'a BTreeMap<Arc<str>, Arc<Ruleset>>,
    /// `None`: no such table.
    pub tables: &'a [Option<Table>],
    pub states: &'a StateTable,
}

/// How a question is asked.
pub struct Ask<'a> {
    pub direction: Direction,
    pub interface: Arc<str>,
    pub received_on: Option<Arc<str>>,
    /// Rules count their evaluations, pools take turns.
    pub counting: bool,
    pub random: &'a mut Random,
    /// Filled with what was entered and what matched, in order.
    pub steps: Option<&'a mut Vec<Step>>,
}

/// What pf would do with a packet that belongs to no state.
#[derive(Debug)]
pub struct Decision {
    pub passed: bool,
    pub reason: Reason,
    /// The answer of a blocked packet.
    pub answer: Answer,
    pub filter: Option<RuleRef>,
    /// Anchor rules above the deciding rule, outermost first.
    pub above: Vec<Arc<RuleInfo>>,
    pub nat: Option<RuleRef>,
    /// The packet behind the translation.
    pub packet: Packet,
    /// Rules that log this packet, the deciding one last.
    pub logging: Vec<Arc<RuleInfo>>,
    pub keep_state: bool,
    pub rtable: Option<u32>,
    pub route_to: Option<Via>,
    pub reply_to: Option<Via>,
    pub tag: Option<Arc<str>>,
}

/// Evaluation of one packet under way.
struct Run<'w, 'a> {
    world: World<'w>,
    ask: Ask<'a>,
    packet: Packet,
    tag: Option<Arc<str>>,
    rtable: Option<u32>,
    best: Option<(RuleRef, Vec<Arc<RuleInfo>>)>,
    entered: Vec<Arc<RuleInfo>>,
    logging: Vec<Arc<RuleInfo>>,
    /// `match` rules with translations, in order.
    rewrites: Vec<RuleRef>,
    /// Grows with each rule that matches, for `anchor quick`.
    matches: usize,
}

/// Anchors within anchors are followed this deep; pf has room for 64 (PF_ANCHOR_STACK_MAX).
const MAX_DEPTH: usize = 64;

/// Decides on a packet that belongs to no state.
pub fn decide(world: World<'_>, packet: &Packet, ask: Ask<'_>) -> Decision {
    let mut run = Run {
        world,
        ask,
        packet: packet.clone(),
        tag: None,
        rtable: None,
        best: None,
        entered: Vec::new(),
        logging: Vec::new(),
        rewrites: Vec::new(),
        matches: 0,
    };
    run.decide()
}

impl Run<'_, '_> {
    fn decide(&mut self) -> Decision {
        let fragment = self.packet.fragment.is_some();
        let mut nat = None;
        let mut failed = None;
        if !fragment && !is_error(&self.packet) {
            nat = self.translation();
            if let Some(rule) = &nat {
                let rule = rule.clone();
                match self.apply_translation(&rule) {
                    Ok(()) => self.step("translation", rule.info()),
                    Err(reason) => failed = Some(reason),
                }
                if let Some(translate) = rule.translate() {
                    if let Some(tag) = &translate.tag {
                        self.tag = Some(tag.clone());
                    }
                    self.rtable = translate.rtable.or(self.rtable);
                    if translate.log.is_some() {
                        self.logging.push(rule.info().clone());
                    }
                }
            }
        }
        if let Some(reason) = failed {
            return self.decision(false, reason, nat);
        }
        let pass_at_once = nat.as_ref().and_then(RuleRef::translate).is_some_and(|t| t.pass);
        if pass_at_once {
            let mut decision = self.decision(true, Reason::Match, nat.clone());
            decision.filter = nat;
            decision.keep_state = true;
            return decision;
        }
        self.ruleset("", ListKind::Filter, 0);
        let Some((rule, above)) = self.best.take() else {
            // pf's default rule passes, without state; a translated packet needs one.
            let keep = nat.is_some();
            let mut decision = self.decision(true, Reason::Match, nat);
            decision.keep_state = keep;
            return decision;
        };
        let filter_rule = rule.clone();
        let Some(filter) = filter_rule.filter() else {
            return self.decision(true, Reason::Match, nat);
        };
        if filter.log.is_some() {
            self.logging.push(rule.info().clone());
        }
        self.rtable = filter.rtable.or(self.rtable);
        let passed = filter.action == Action::Pass;
        if passed && self.packet.options && !filter.allow_options {
            let mut decision = self.decision(false, Reason::IpOption, nat);
            (decision.filter, decision.above) = (Some(rule), above);
            return decision;
        }
        let (mut route_to, mut reply_to) = (None, None);
        if passed {
            let client = self.packet.src;
            let mut rewrites = std::mem::take(&mut self.rewrites);
            rewrites.push(rule.clone());
            for rewrite in &rewrites {
                if let Err(reason) = self.apply_rewrite(rewrite) {
                    let mut decision = self.decision(false, reason, nat);
                    (decision.filter, decision.above) = (Some(rule), above);
                    return decision;
                }
            }
            if let Some(route) = &filter.route {
                let via = self.hop(route, client);
                match route.kind {
                    RouteKind::RouteTo => route_to = via,
                    RouteKind::ReplyTo => reply_to = via,
                    // A copy goes out there; the packet itself goes its way.
                    RouteKind::DupTo => {}
                }
            }
        }
        let keep = passed
            && !fragment
            && !is_error(&self.packet)
            && (filter.state.kind != StateKind::None || nat.is_some() || filter.change.is_some());
        let answer = match filter.action {
            Action::Block(answer) => answer,
            _ => Answer::Drop,
        };
        let mut decision = self.decision(passed, Reason::Match, nat);
        decision.answer = answer;
        (decision.filter, decision.above) = (Some(rule), above);
        decision.keep_state = keep;
        (decision.route_to, decision.reply_to) = (route_to, reply_to);
        decision
    }

    fn decision(&mut self, passed: bool, reason: Reason, nat: Option<RuleRef>) -> Decision {
        Decision {
            passed,
            reason,
            answer: Answer::Drop,
            filter: None,
            above: Vec::new(),
            nat,
            packet: self.packet.clone(),
            logging: std::mem::take(&mut self.logging),
            keep_state: false,
            rtable: self.rtable,
            route_to: None,
            reply_to: None,
            tag: self.tag.clone(),
        }
    }

    fn step(&mut self, kind: &'static str, info: &RuleInfo) {
        if let Some(steps) = &mut self.ask.steps {
            steps.push(Step::of(kind, info));
        }
    }

    // --- rulesets

    /// Evaluates one list of a ruleset; true when evaluation is over.
    fn ruleset(&mut self, path: &str, list: ListKind, depth: usize) -> bool {
        let Some(set) = self.world.rulesets.get(path).cloned() else { return false };
        if list_of(&set, list).rules.is_empty() || depth > MAX_DEPTH {
            return false;
        }
        let interfaces = self.world.interfaces;
        let (interface, direction) = (self.ask.interface.clone(), self.ask.direction);
        let bucket = list_of(&set, list)
            .bucket(&interface, direction, &self.packet, |name| interfaces.means(name, &interface));
        let (src, dst, port) = (self.packet.src, self.packet.dst, self.packet.ports().1);
        for index in bucket.candidates(src, dst, port) {
            let index = index as usize;
            let rule = &list_of(&set, list).rules[index];
            if self.ask.counting {
                rule.info.look();
            }
            match &rule.what {
                What::Anchor(call) => {
                    if self.matches(&rule.matcher)
                        && self.call_applies(call)
                        && self.enter(rule, call, list, depth)
                    {
                        return true;
                    }
                }
                What::Filter(filter) => {
                    if !(self.matches(&rule.matcher) && self.filter_applies(filter)) {
                        continue;
                    }
                    self.step("rule", &rule.info);
                    self.matches += 1;
                    if let Some(tag) = &filter.tag {
                        self.tag = Some(tag.clone());
                    }
                    let found = RuleRef { set: set.clone(), list, index };
                    if filter.action == Action::Match {
                        self.rtable = filter.rtable.or(self.rtable);
                        if filter.log.is_some() {
                            self.logging.push(rule.info.clone());
                        }
                        if self.ask.counting {
                            rule.info.count(self.packet.length);
                        }
                        if filter.source.is_some() || filter.destination.is_some() {
                            self.rewrites.push(found);
                        }
                        continue;
                    }
                    self.best = Some((found, self.entered.clone()));
                    if filter.quick {
                        return true;
                    }
                }
                What::Translate(translate) => {
                    let matched = match (translate.kind, self.ask.direction, translate.outer) {
                        (NatKind::Binat, Direction::In, Some(outer)) => {
                            self.side_matches(
                                &Side { port: None, ..rule.matcher.to.clone() },
                                self.packet.src,
                                0,
                            ) && outer.contains(&self.packet.dst)
                        }
                        _ => self.matches(&rule.matcher),
                    };
                    if matched && self.tag_fits(translate.tagged.as_ref()) {
                        self.best = Some((RuleRef { set: set.clone(), list, index }, Vec::new()));
                        return true;
                    }
                }
            }
        }
        false
    }

    fn enter(&mut self, rule: &Rule, call: &Call, list: ListKind, depth: usize) -> bool {
        self.step("anchor", &rule.info);
        self.entered.push(rule.info.clone());
        let before = self.matches;
        let mut over = false;
        if call.children {
            let prefix = if call.path.is_empty() { String::new() } else { format!("{}/", call.path) };
            let rulesets = self.world.rulesets;
            for path in rulesets
                .range::<str, _>((std::ops::Bound::Excluded(prefix.as_str()), std::ops::Bound::Unbounded))
            {
                let Some(rest) = path.0.strip_prefix(prefix.as_str()) else { break };
                if rest.is_empty() || rest.contains('/') {
                    continue;
                }
                over = self.ruleset(path.0, list, depth + 1);
                if over {
                    break;
                }
            }
        } else {
            over = self.ruleset(&call.path, list, depth + 1);
        }
        self.entered.pop();
        over || (call.quick && self.matches > before)
    }

    fn call_applies(&mut self, call: &Call) -> bool {
        self.tag_fits(call.tagged.as_ref()) && self.flags_fit(call.flags) && self.lucky(call.probability)
    }

    // --- criteria

    fn matches(&self, m: &Matcher) -> bool {
        // Interface, direction, family and protocol have been looked at by the index.
        let (src_port, dst_port) = self.packet.ports();
        self.side_matches(&m.from, self.packet.src, src_port)
            && self.side_matches(&m.to, self.packet.dst, dst_port)
    }

    fn side_matches(&self, side: &Side, address: IpAddr, port: u16) -> bool {
        if let Some(wanted) = side.port {
            let has_ports = matches!(self.packet.transport, Transport::Tcp(_) | Transport::Udp { .. });
            if !has_ports || !wanted.matches(port) {
                return false;
            }
        }
        let hit = match &side.hosts {
            Hosts::Any => true,
            Hosts::Net(net) => net.contains(&address),
            Hosts::Range(a, b) => a.is_ipv4() == address.is_ipv4() && *a <= address && address <= *b,
            Hosts::Table(table) => self.in_table(*table, address),
            Hosts::Dynamic(host) => {
                self.world.interfaces.resolve(host).iter().any(|net| net.contains(&address))
            }
            Hosts::NoRoute => self.world.interfaces.route(address).is_none(),
            Hosts::UrpfFailed => {
                let back = self.world.interfaces.route(address);
                back.is_none_or(|hop| hop.interface != self.ask.interface)
            }
        };
        hit != side.negate
    }

    fn table(&self, table: TableRef) -> Option<&Table> {
        let at = |number: usize| self.world.tables.get(number).and_then(Option::as_ref);
        at(table.own).or_else(|| at(table.root))
    }

    fn in_table(&self, table: TableRef, address: IpAddr) -> bool {
        match self.table(table) {
            Some(table) if self.ask.counting => table.lookup(address),
            Some(table) => table.test(address),
            None => false,
        }
    }

    fn tag_fits(&self, tagged: Option<&Tagged>) -> bool {
        tagged.is_none_or(|t| (self.tag.as_ref() == Some(&t.name)) != t.negate)
    }

    fn flags_fit(&self, flags: Option<(u8, u8)>) -> bool {
        match (flags, &self.packet.transport) {
            (Some((set, of)), Transport::Tcp(tcp)) => tcp.flags & of == set,
            (Some(_), _) => self.packet.protocol != protocol::TCP,
            (None, _) => true,
        }
    }

    fn lucky(&mut self, probability: Option<u32>) -> bool {
        probability.is_none_or(|millionths| self.ask.random.below(1_000_000) < u64::from(millionths))
    }

    fn filter_applies(&mut self, filter: &Filter) -> bool {
        let fragment = self.packet.fragment.is_some();
        if filter.fragment != fragment && filter.fragment {
            return false;
        }
        if fragment
            && (filter.flags.is_some_and(|_| self.packet.protocol == protocol::TCP) || filter.icmp.is_some())
        {
            // A fragment shows no flags or types: rules that ask for them do not see it.
            return false;
        }
        if let Some((kind, code)) = filter.icmp {
            let Transport::Icmp(icmp) = &self.packet.transport else { return false };
            if icmp.kind != kind || code.is_some_and(|c| c != icmp.code) {
                return false;
            }
        }
        let received_on = filter.received_on.as_ref().is_none_or(|on| {
            let arrived = self.ask.received_on.as_ref();
            arrived.is_some_and(|name| self.world.interfaces.means(&on.name, name)) != on.negate
        });
        received_on
            && self.flags_fit(filter.flags)
            && filter.tos.is_none_or(|tos| tos == self.packet.tos)
            && filter.max_size.is_none_or(|max| self.packet.length <= u32::from(max))
            && self.tag_fits(filter.tagged.as_ref())
            && self.lucky(filter.probability)
    }
}

/// Whether a packet is an ICMP error, which makes no state and is not translated by rules.
pub fn is_error(packet: &Packet) -> bool {
    let Transport::Icmp(icmp) = &packet.transport else { return false };
    match packet.protocol {
        protocol::ICMP => matches!(icmp.kind, 3 | 4 | 5 | 11 | 12),
        _ => matches!(icmp.kind, 1..=4),
    }
}

/// Whether a packet is a TCP segment that opens a connection.
pub fn is_syn(packet: &Packet) -> bool {
    matches!(&packet.transport, Transport::Tcp(tcp) if tcp.flags & (flag::SYN | flag::ACK) == flag::SYN)
}
