//! Rules as the simulator evaluates them: one criterion each, lists already expanded, with the counters that
//! `pfctl -vsr` shows. Made by [`super::load`], read by [`super::engine`].
//!
//! A list of rules is indexed by what a packet surely tells (interface, direction, family, protocol, exact
//! addresses and ports), so that only rules that can match are looked at, in order; pf's skip steps serve the
//! same end. A rule's `evaluations` counts the looks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::state::Timeouts;
use crate::pf::ast::{InterfaceHost, NatKind, PoolKind, Port, StateKind};
use crate::pf::packet::{Direction, Family, Packet};

/// What is told of a rule, and its counters; states hold on to it when the rule is gone.
#[derive(Debug, Default)]
pub struct RuleInfo {
    /// As pfctl prints it.
    pub text: Box<str>,
    /// Place among the rules of its kind in its ruleset, from 0.
    pub number: u32,
    /// Path of its anchor; empty in the main ruleset.
    pub anchor: Arc<str>,
    pub labels: Box<[Arc<str>]>,
    evaluations: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
    states: AtomicU64,
    /// States it has made since it was loaded.
    created: AtomicU64,
}

impl RuleInfo {
    pub fn new(text: String, number: u32, anchor: Arc<str>, labels: Vec<Arc<str>>) -> Self {
        Self { text: text.into(), number, anchor, labels: labels.into(), ..Self::default() }
    }
    pub fn look(&self) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
    }
    pub fn count(&self, length: u32) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::from(length), Ordering::Relaxed);
    }
    pub fn state_begins(&self) {
        self.states.fetch_add(1, Ordering::Relaxed);
        self.created.fetch_add(1, Ordering::Relaxed);
    }
    pub fn state_ends(&self) {
        self.states.fetch_sub(1, Ordering::Relaxed);
    }
    pub fn evaluations(&self) -> u64 {
        self.evaluations.load(Ordering::Relaxed)
    }
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    pub fn states(&self) -> u64 {
        self.states.load(Ordering::Relaxed)
    }
}

/// Index of a table in the engine's list: that of the rule's anchor, and the main ruleset's of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRef {
    pub own: usize,
    pub root: usize,
}

/// Addresses a rule matches.
#[derive(Debug, Clone, PartialEq)]
pub enum Hosts {
    Any,
    Net(IpNet),
    Range(IpAddr, IpAddr),
    Table(TableRef),
    /// Asked of the interface table each time.
    Dynamic(InterfaceHost),
    NoRoute,
    UrpfFailed,
}

/// One side of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    pub negate: bool,
    pub hosts: Hosts,
    pub port: Option<Port>,
}

impl Side {
    pub const ANY: Self = Self { negate: false, hosts: Hosts::Any, port: None };

    /// The one address that it takes, where it is one.
    fn exact(&self) -> Option<IpAddr> {
        match &self.hosts {
            Hosts::Net(net) if !self.negate && net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
            _ => None,
        }
    }
}

/// An interface as a rule names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    pub negate: bool,
    pub name: Arc<str>,
}

/// Criteria that every kind of rule has.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher {
    pub direction: Option<Direction>,
    pub on: Option<On>,
    pub family: Option<Family>,
    pub protocol: Option<u8>,
    pub from: Side,
    pub to: Side,
}

/// `tagged`, `! tagged`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    pub negate: bool,
    pub name: Arc<str>,
}

/// What a block rule answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Drop,
    /// RST to TCP, ICMP unreachable to others.
    Return,
    /// RST to TCP, nothing to others.
    Reset,
    /// ICMP unreachable to all.
    Unreachable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Pass,
    Match,
    Block(Answer),
}

/// `log`, `log (all)`, `log (matches)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    pub all: bool,
    pub matches: bool,
}

/// Addresses to take one of.
#[derive(Debug)]
pub struct Pool {
    pub hosts: Vec<PoolHost>,
    pub kind: PoolKind,
    /// `(em0)`, networks or several hosts: more than one address may be in it.
    pub sticky: bool,
    /// Next address of round-robin.
    pub turn: AtomicUsize,
    /// Chosen address by client; bounded by [`Pool::MAX_STICKY`].
    pub stuck: Mutex<HashMap<IpAddr, IpAddr>>,
}

impl Pool {
    pub const MAX_STICKY: usize = 10_000;
}

#[derive(Debug, Clone, PartialEq)]
pub enum PoolHost {
    Net(IpNet),
    Range(IpAddr, IpAddr),
    Table(TableRef),
    Dynamic(InterfaceHost),
}

/// Ports of a translation target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// As the kind of rule has it by itself: kept for rdr, 50001–65535 for nat.
    Default,
    /// `static-port`
    Keep,
    One(u16),
    Range(u16, u16),
}

#[derive(Debug)]
pub struct Target {
    pub pool: Pool,
    pub ports: Ports,
}

/// A `nat`, `rdr` or `binat` rule.
#[derive(Debug)]
pub struct Translate {
    pub kind: NatKind,
    /// `None`: a `no` rule.
    pub target: Option<Target>,
    pub pass: bool,
    pub log: Option<Log>,
    pub tag: Option<Arc<str>>,
    pub tagged: Option<Tagged>,
    pub rtable: Option<u32>,
    /// binat: the other half of the pair of networks.
    pub outer: Option<IpNet>,
}

#[derive(Debug)]
pub struct FamilyChange {
    pub family: Family,
    pub from: Pool,
    /// `None`: IPv4 in the last 32 bits.
    pub to: Option<Pool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    RouteTo,
    ReplyTo,
    DupTo,
}

/// Next hops: interface, address.
#[derive(Debug)]
pub struct Route {
    pub kind: RouteKind,
    pub hops: Vec<(Arc<str>, Option<PoolHost>)>,
    pub pool: Pool,
}

/// Limits on what one source may do (`source-track`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceLimits {
    pub max_states: Option<u32>,
    pub max_connections: Option<u32>,
    /// Connections in so many seconds.
    pub rate: Option<(u32, u32)>,
    pub overload: Option<TableRef>,
    /// Kill the source's states: of this rule, or all.
    pub flush: Option<crate::pf::ast::Flush>,
}

#[derive(Debug)]
pub struct KeepState {
    pub kind: StateKind,
    /// `if-bound`.
    pub bound: bool,
    pub sloppy: bool,
    pub max: Option<u32>,
    pub timeouts: Arc<Timeouts>,
    pub source: Option<SourceLimits>,
}

/// A filter rule.
#[derive(Debug)]
pub struct Filter {
    pub action: Action,
    pub quick: bool,
    pub log: Option<Log>,
    /// TCP flags that must be set, out of these.
    pub flags: Option<(u8, u8)>,
    pub icmp: Option<(u8, Option<u8>)>,
    pub tos: Option<u8>,
    pub allow_options: bool,
    pub fragment: bool,
    pub max_size: Option<u16>,
    pub tag: Option<Arc<str>>,
    pub tagged: Option<Tagged>,
    pub received_on: Option<On>,
    /// In millionths.
    pub probability: Option<u32>,
    pub rtable: Option<u32>,
    pub route: Option<Route>,
    pub source: Option<Target>,
    pub destination: Option<Target>,
    pub change: Option<FamilyChange>,
    pub state: KeepState,
}

/// `anchor "name"`: what to evaluate.
#[derive(Debug)]
pub struct Call {
    /// Full path of the anchor, without `/*`.
    pub path: Arc<str>,
    /// `/*`: every anchor directly below the path, by name.
    pub children: bool,
    pub quick: bool,
    pub tagged: Option<Tagged>,
    pub flags: Option<(u8, u8)>,
    pub probability: Option<u32>,
}

#[derive(Debug)]
pub enum What {
    Filter(Box<Filter>),
    Translate(Box<Translate>),
    Anchor(Box<Call>),
}

#[derive(Debug)]
pub struct Rule {
    pub matcher: Matcher,
    pub info: Arc<RuleInfo>,
    pub what: What,
}

/// What a packet surely tells before any address is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct BucketKey {
    interface: Arc<str>,
    direction: Direction,
    family: Family,
    protocol: u8,
}

/// Rules that can match packets of one [`BucketKey`], apart by the first exact value they ask for.
#[derive(Debug, Default)]
pub struct Bucket {
    by_destination: HashMap<IpAddr, Vec<u32>>,
    by_source: HashMap<IpAddr, Vec<u32>>,
    by_port: HashMap<u16, Vec<u32>>,
    others: Vec<u32>,
}

/// Rules of one kind in one ruleset, in order.
#[derive(Debug, Default)]
pub struct RuleList {
    pub rules: Vec<Rule>,
    /// binat rules match a packet coming in by another address than they name: those are not told apart by it.
    by_value: bool,
    index: Mutex<HashMap<BucketKey, Arc<Bucket>>>,
}

/// At most so many kinds of packet are indexed; a flood of odd ones starts the index anew.
const MAX_BUCKETS: usize = 1024;

impl RuleList {
    pub fn new(rules: Vec<Rule>, by_value: bool) -> Self {
        Self { rules, by_value, index: Mutex::default() }
    }

    /// Rules that can match packets of this kind. `means` tells whether an interface answers to a name.
    pub fn bucket(
        &self,
        interface: &Arc<str>,
        direction: Direction,
        packet: &Packet,
        means: impl Fn(&str) -> bool,
    ) -> Arc<Bucket> {
        let (family, protocol) = (packet.family(), packet.protocol);
        let key = BucketKey { interface: interface.clone(), direction, family, protocol };
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = index.get(&key) {
            return known.clone();
        }
        let mut bucket = Bucket::default();
        for (number, rule) in (0u32..).zip(&self.rules) {
            let m = &rule.matcher;
            let fits = m.direction.is_none_or(|d| d == direction)
                && m.family.is_none_or(|f| f == family)
                && m.protocol.is_none_or(|p| p == protocol)
                && m.on.as_ref().is_none_or(|on| means(&on.name) != on.negate);
            if !fits {
                continue;
            }
            match (m.to.exact(), m.from.exact(), m.to.port) {
                (Some(to), _, _) if self.by_value => {
                    bucket.by_destination.entry(to).or_default().push(number)
                }
                (_, Some(from), _) if self.by_value => bucket.by_source.entry(from).or_default().push(number),
                (_, _, Some(Port::Equal(port))) if self.by_value => {
                    bucket.by_port.entry(port).or_default().push(number);
                }
                _ => bucket.others.push(number),
            }
        }
        let bucket = Arc::new(bucket);
        if index.len() >= MAX_BUCKETS {
            index.clear();
        }
        index.insert(key, bucket.clone());
        bucket
    }

    /// Forgets the index: interfaces have changed their groups.
    pub fn forget(&self) {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Bucket {
    /// Numbers of the rules to look at for a packet, ascending. Addresses and port are those of the packet when
    /// evaluation began, which rules do not change.
    pub fn candidates(&self, src: IpAddr, dst: IpAddr, dst_port: u16) -> impl Iterator<Item = u32> + '_ {
        let mut lists: [&[u32]; 4] = [
            self.by_destination.get(&dst).map_or(&[], Vec::as_slice),
            self.by_source.get(&src).map_or(&[], Vec::as_slice),
            self.by_port.get(&dst_port).map_or(&[], Vec::as_slice),
            &self.others,
        ];
        std::iter::from_fn(move || {
            let first = lists.iter_mut().filter(|l| !l.is_empty()).min_by_key(|l| l[0])?;
            let (number, rest) = first.split_first()?;
            *first = rest;
            Some(*number)
        })
    }
}

/// One ruleset: the main one or an anchor.
#[derive(Debug, Default)]
pub struct Ruleset {
    pub filter: RuleList,
    pub nat: RuleList,
    pub rdr: RuleList,
    pub binat: RuleList,
}

impl Ruleset {
    pub fn lists(&self) -> [&RuleList; 4] {
        [&self.nat, &self.rdr, &self.binat, &self.filter]
    }
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|list| list.rules.is_empty())
    }
}
