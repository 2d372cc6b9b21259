//! pf.conf(5) as types: what the product writes, what `pfctl -sr`, `-sn` and `-vn` print, and most of what an
//! administrator may have in a file. Values print themselves ([`super::print`]), are read by [`super::parse`]
//! and become the single rules that pf keeps in [`super::expand`]. Pure data; the words are the manual's.
//!
//! Left out on purpose, and refused by the parser by name: ALTQ queues, Ethernet rules, dummynet pipes,
//! operating-system fingerprints, `user`/`group`, `divert-to`, `include`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ast_words::words;
use crate::config::{InterfaceName, TableName};

/// Text that stands between double quotes: no `"`, no `\`, no control characters, at most 1023 bytes; so it
/// cannot leave its quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(std::sync::Arc<str>);

/// A string that pf has no way to hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got:?}")]
pub struct BadText {
    pub expected: &'static str,
    pub got: String,
}

impl Text {
    pub fn new(text: &str) -> Result<Self, BadText> {
        if text.len() > 1023 || text.chars().any(|c| c == '"' || c == '\\' || c.is_control()) {
            let expected = "at most 1023 bytes without double quotes, backslashes or control characters";
            return Err(BadText { expected, got: text.into() });
        }
        Ok(Self(text.into()))
    }
    /// The nearest text that pf can hold: what cannot stand between the quotes becomes `_`, and so does `$`
    /// (pfctl would put addresses in its place); cut at `max` bytes.
    pub fn nearest(text: &str, max: usize) -> Self {
        let fine = |c: char| c != '"' && c != '\\' && c != '$' && (' '..='~').contains(&c);
        Self(
            text.chars()
                .map(|c| if fine(c) { c } else { '_' })
                .take(max.min(1023))
                .collect::<String>()
                .into(),
        )
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Name of a pf table: 1 to 31 of `A-Z a-z 0-9 _ - .`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(std::sync::Arc<str>);

impl Table {
    pub fn new(name: &str) -> Result<Self, BadText> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if (1..=31).contains(&name.len()) && name.bytes().all(fine) {
            Ok(Self(name.into()))
        } else {
            Err(BadText { expected: "a table name: 1 to 31 of A-Z a-z 0-9 _ - .", got: name.into() })
        }
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&TableName> for Table {
    fn from(name: &TableName) -> Self {
        Self(name.as_str().into())
    }
}
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

/// A ruleset: the main one, an anchor's, or the body of an inline anchor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ruleset {
    pub statements: Vec<Statement>,
}

/// One statement and the line it began on (1 = first; 0 = not read from text). Equality looks at the statement
/// only.
#[derive(Debug, Clone)]
pub struct Statement {
    pub line: u32,
    pub item: Item,
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.item == other.item
    }
}
impl From<Item> for Statement {
    fn from(item: Item) -> Self {
        Self { line: 0, item }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `name = "value"`. Its uses have been replaced by the parser; kept because `pfctl -vn` prints it.
    Macro {
        name: String,
        value: String,
    },
    Set(SetOption),
    Table(TableDefinition),
    Scrub(ScrubRule),
    Nat(NatRule),
    Anchor(AnchorRule),
    /// `load anchor NAME from FILE`.
    LoadAnchor {
        name: Text,
        file: Text,
    },
    Antispoof(Antispoof),
    Filter(FilterRule),
}

// --- options and tables

/// `set …`.
#[derive(Debug, Clone, PartialEq)]
pub enum SetOption {
    Skip(Vec<InterfaceName>),
    BlockPolicy(BlockPolicy),
    StatePolicy(StatePolicy),
    Limit(LimitName, u32),
    Reassemble {
        on: bool,
        no_df: bool,
    },
    Optimization(Optimization),
    RulesetOptimization(RulesetOptimization),
    Timeout(Timeout, u32),
    Debug(DebugLevel),
    /// `None` prints `none`.
    LogInterface(Option<InterfaceName>),
    HostId(u32),
    Fingerprints(Text),
    FailPolicy(BlockPolicy),
    KeepCounters,
    StateDefaults(Vec<StateOption>),
}

words! { pub enum BlockPolicy { Drop = "drop", Return = "return" } }
words! { pub enum StatePolicy { IfBound = "if-bound", Floating = "floating" } }
words! { pub enum LimitName {
    States = "states", SrcNodes = "src-nodes", Frags = "frags", TableEntries = "table-entries",
    Anchors = "anchors", EthAnchors = "eth-anchors",
} }
words! { pub enum Optimization {
    Normal = "normal", Satellite = "satellite", HighLatency = "high-latency", Conservative = "conservative",
    Aggressive = "aggressive", Default = "default",
} }
words! { pub enum RulesetOptimization { None = "none", Basic = "basic", Profile = "profile" } }
words! { pub enum DebugLevel { None = "none", Urgent = "urgent", Misc = "misc", Loud = "loud" } }
words! {
    /// Seconds, except `adaptive.*`: numbers of states.
    pub enum Timeout {
        TcpFirst = "tcp.first", TcpOpening = "tcp.opening", TcpEstablished = "tcp.established",
        TcpClosing = "tcp.closing", TcpFinwait = "tcp.finwait", TcpClosed = "tcp.closed",
        TcpTsdiff = "tcp.tsdiff", SctpFirst = "sctp.first", SctpOpening = "sctp.opening",
        SctpEstablished = "sctp.established", SctpClosing = "sctp.closing", SctpClosed = "sctp.closed",
        UdpFirst = "udp.first", UdpSingle = "udp.single", UdpMultiple = "udp.multiple",
        IcmpFirst = "icmp.first", IcmpError = "icmp.error", OtherFirst = "other.first",
        OtherSingle = "other.single", OtherMultiple = "other.multiple", Frag = "frag",
        Interval = "interval", AdaptiveStart = "adaptive.start", AdaptiveEnd = "adaptive.end",
        SrcTrack = "src.track",
    }
}

/// `table <name> persist const counters { … } file "…"`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDefinition {
    pub name: Table,
    pub persist: bool,
    pub constant: bool,
    pub counters: bool,
    pub contents: Vec<TableContents>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TableContents {
    /// `{ 10.0.0.0/8 !10.1.0.0/16 }`; only networks, addresses and interface names are allowed in it.
    Entries(Vec<HostItem>),
    File(Text),
}

// --- hosts, ports, protocols

words! { pub enum Family { Inet = "inet", Inet6 = "inet6" } }
words! { pub enum Direction { In = "in", Out = "out" } }

/// Where a packet comes from or goes to, one item of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostItem {
    /// `! host`
    pub negate: bool,
    pub host: Host,
}

impl From<Host> for HostItem {
    fn from(host: Host) -> Self {
        Self { negate: false, host }
    }
}

/// An address as pf.conf names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// `any` inside a list.
    Any,
    /// An address or network; a full-length prefix prints as the bare address. Host bits are kept as written;
    /// pf drops them ([`super::expand`]).
    Net(IpNet),
    /// `fe80::1%em0`
    Scoped(IpNet, InterfaceName),
    /// `10.0.0.1 - 10.0.0.9`; both of one family.
    Range(IpAddr, IpAddr),
    Table(Table),
    NoRoute,
    UrpfFailed,
    /// `em0`, `(em0)`, `em0:network`, `(em0:0)/24`, `self`, `(self)` (an interface called `self`).
    Interface(InterfaceHost),
}

impl Host {
    pub fn address(address: IpAddr) -> Self {
        Self::Net(IpNet::from(address))
    }
    /// `(interface)`
    pub fn dynamic(interface: &InterfaceName) -> Self {
        Self::Interface(InterfaceHost { dynamic: true, ..InterfaceHost::named(interface) })
    }
}

/// Addresses of an interface or interface group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceHost {
    pub interface: InterfaceName,
    /// In parentheses: followed at run time, not read when the rules are loaded.
    pub dynamic: bool,
    /// `:network`
    pub network: bool,
    /// `:broadcast`
    pub broadcast: bool,
    /// `:peer`
    pub peer: bool,
    /// `:0`: without aliases.
    pub no_alias: bool,
    /// `/24` behind it.
    pub prefix: Option<u8>,
}

impl InterfaceHost {
    pub fn named(interface: &InterfaceName) -> Self {
        Self {
            interface: interface.clone(),
            dynamic: false,
            network: false,
            broadcast: false,
            peer: false,
            no_alias: false,
            prefix: None,
        }
    }
}

/// One item of a port list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    Equal(u16),
    NotEqual(u16),
    Less(u16),
    LessOrEqual(u16),
    Greater(u16),
    GreaterOrEqual(u16),
    /// `a:b`, both included.
    Range(u16, u16),
    /// `a >< b`, between, both left out.
    Between(u16, u16),
    /// `a <> b`, below `a` or above `b`.
    Outside(u16, u16),
}

impl Port {
    pub fn matches(self, port: u16) -> bool {
        match self {
            Self::Equal(a) => port == a,
            Self::NotEqual(a) => port != a,
            Self::Less(a) => port < a,
            Self::LessOrEqual(a) => port <= a,
            Self::Greater(a) => port > a,
            Self::GreaterOrEqual(a) => port >= a,
            Self::Range(a, b) => a <= port && port <= b,
            Self::Between(a, b) => a < port && port < b,
            Self::Outside(a, b) => port < a || port > b,
        }
    }
}

/// An IP protocol number; `tcp` is 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const GRE: Self = Self(47);
    pub const ESP: Self = Self(50);
    pub const AH: Self = Self(51);
    pub const ICMP6: Self = Self(58);
    pub const SCTP: Self = Self(132);
}

/// `on ! em0`, `on egress`, `on any`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceMatch {
    pub negate: bool,
    /// An interface or a group; `any` = every interface that is not a loopback.
    pub name: InterfaceName,
}

impl From<&InterfaceName> for InterfaceMatch {
    fn from(name: &InterfaceName) -> Self {
        Self { negate: false, name: name.clone() }
    }
}

/// One side of `from … to …`. Lists: empty = any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    pub hosts: Vec<HostItem>,
    pub ports: Vec<Port>,
}

static ANY: Endpoint = Endpoint { hosts: Vec::new(), ports: Vec::new() };

impl Endpoint {
    pub fn is_any(&self) -> bool {
        self.ports.is_empty() && self.hosts.iter().all(|item| !item.negate && item.host == Host::Any)
    }
}

/// `all`, or `from … to …`. Both mean the same when the sides are any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FromTo {
    #[default]
    All,
    Between {
        from: Endpoint,
        to: Endpoint,
    },
}

impl FromTo {
    pub fn from(&self) -> &Endpoint {
        match self {
            Self::All => &ANY,
            Self::Between { from, .. } => from,
        }
    }
    pub fn to(&self) -> &Endpoint {
        match self {
            Self::All => &ANY,
            Self::Between { to, .. } => to,
        }
    }
}

/// What every kind of rule can ask of a packet. Lists: empty = any; more than one = a list in braces, which pf
/// turns into one rule each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Criteria {
    /// Not for translation rules.
    pub direction: Option<Direction>,
    pub on: Vec<InterfaceMatch>,
    pub family: Option<Family>,
    pub protocols: Vec<Protocol>,
    pub between: FromTo,
}

// --- filter rules

#[derive(Debug, Clone, PartialEq)]
pub struct FilterRule {
    pub action: Action,
    pub log: Option<Log>,
    pub quick: bool,
    pub criteria: Criteria,
    pub route: Option<Route>,
    pub options: FilterOptions,
}

impl FilterRule {
    pub fn new(action: Action) -> Self {
        Self {
            action,
            log: None,
            quick: false,
            criteria: Criteria::default(),
            route: None,
            options: FilterOptions::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Pass,
    Match,
    Block(Block),
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// As `set block-policy` says.
    Default,
    Drop,
    /// RST for TCP, ICMP unreachable for other protocols.
    Return,
    ReturnRst {
        ttl: Option<u8>,
    },
    /// Codes of "unreachable"; `None` = port unreachable.
    ReturnIcmp {
        inet: Option<u8>,
        inet6: Option<u8>,
    },
    /// `return-icmp6`
    ReturnIcmp6 {
        code: Option<u8>,
    },
}

/// `log (all, matches, user, to pflog1)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    pub all: bool,
    pub matches: bool,
    pub user: bool,
    pub to: Option<InterfaceName>,
}

/// What stands behind `from … to …`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterOptions {
    /// `received-on`
    pub received_on: Option<InterfaceMatch>,
    pub flags: Option<TcpFlags>,
    pub icmp: Option<IcmpMatch>,
    /// Type of service, 0 to 255.
    pub tos: Option<u8>,
    pub allow_opts: bool,
    /// Non-first fragments only.
    pub fragment: bool,
    pub labels: Vec<Text>,
    pub ridentifier: Option<u32>,
    pub tag: Option<Text>,
    pub tagged: Option<Tagged>,
    /// `max-pkt-rate packets/seconds`
    pub max_pkt_rate: Option<(u32, u32)>,
    /// Largest IP packet that matches, in bytes.
    pub max_pkt_size: Option<u16>,
    /// In millionths: `50%` is 500,000.
    pub probability: Option<u32>,
    pub rtable: Option<u32>,
    /// `prio`, a match on the packet's 802.1p priority.
    pub prio: Option<u8>,
    /// `set prio` (second = for TCP ACKs and low delay).
    pub set_prio: Option<(u8, Option<u8>)>,
    pub set_tos: Option<u8>,
    /// `scrub ( … )` on a `match` or `pass` rule.
    pub scrub: Option<ScrubOptions>,
    pub nat_to: Option<Box<Translation>>,
    pub rdr_to: Option<Box<Translation>>,
    pub binat_to: Option<Box<Translation>>,
    pub af_to: Option<Box<AfTo>>,
    /// `None` = not written; pf then keeps state for `pass`.
    pub state: Option<State>,
}

/// `! tagged NAME`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    pub negate: bool,
    pub name: Text,
}

/// `flags S/SA`, `flags any`: bits of the TCP header (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64,
/// CWR 128, AE 256).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpFlags {
    Any,
    Set { set: u16, of: u16 },
}

/// `icmp-type` (inet) or `icmp6-type` (inet6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpMatch {
    pub family: Family,
    pub types: Vec<IcmpType>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IcmpType {
    pub kind: u8,
    pub code: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub kind: StateKind,
    pub options: Vec<StateOption>,
}

words! { pub enum StateKind {
    None = "no state", Keep = "keep state", Modulate = "modulate state", Synproxy = "synproxy state",
} }

/// What stands in the parentheses behind `keep state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateOption {
    Max(u32),
    NoSync,
    IfBound,
    Floating,
    Sloppy,
    Pflow,
    AllowRelated,
    SourceTrack(Option<SourceTrack>),
    MaxSrcStates(u32),
    MaxSrcConn(u32),
    /// Connections in so many seconds.
    MaxSrcConnRate(u32, u32),
    MaxSrcNodes(u32),
    Overload {
        table: Table,
        flush: Option<Flush>,
    },
    Timeout(Timeout, u32),
}

words! { pub enum SourceTrack { Global = "global", Rule = "rule" } }

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// States this rule made.
    Rule,
    /// `flush global`
    Global,
}

/// `route-to`, `reply-to`, `dup-to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub kind: RouteKind,
    pub hops: Vec<Hop>,
    pub pool: PoolOptions,
}

words! { pub enum RouteKind { RouteTo = "route-to", ReplyTo = "reply-to", DupTo = "dup-to" } }

/// `(em0 203.0.113.1)`; without an address: straight to the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub interface: InterfaceName,
    pub address: Option<Host>,
}

/// `af-to inet from A to B`.
#[derive(Debug, Clone, PartialEq)]
pub struct AfTo {
    pub family: Family,
    pub from: Translation,
    /// `None`: the IPv4 address is the last 32 bits of the IPv6 one (RFC 6052, /96).
    pub to: Option<Translation>,
}

// --- translation

/// `nat`, `rdr`, `binat`.
#[derive(Debug, Clone, PartialEq)]
pub struct NatRule {
    pub kind: NatKind,
    /// `no nat …`
    pub no: bool,
    /// `rdr pass …`: passed without a look at the filter rules.
    pub pass: bool,
    pub log: Option<Log>,
    pub criteria: Criteria,
    pub tag: Option<Text>,
    pub tagged: Option<Tagged>,
    pub rtable: Option<u32>,
    /// `None` only with `no`.
    pub target: Option<Translation>,
}

words! { pub enum NatKind { Nat = "nat", Rdr = "rdr", Binat = "binat" } }

/// What addresses and ports become: the part behind `->`, `nat-to`, `rdr-to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// More than one = a list in braces.
    pub hosts: Vec<Host>,
    pub port: Option<TargetPort>,
    pub pool: PoolOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPort {
    One(u16),
    Range(u16, u16),
    /// `4000:*`: as many as the matched range has.
    From(u16),
}

/// How an address is taken from a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolOptions {
    pub kind: Option<PoolKind>,
    pub sticky_address: bool,
    pub static_port: bool,
    /// `map-e-portset offset/length/id`
    pub map_e: Option<(u8, u8, u16)>,
    pub endpoint_independent: bool,
    /// `prefer-ipv6-nexthop`, on routes only.
    pub prefer_ipv6_nexthop: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    Bitmask,
    Random,
    RoundRobin,
    /// With the key, if one is written.
    SourceHash(Option<u128>),
}

// --- anchors and the rest

words! { pub enum AnchorKind {
    Filter = "anchor", Nat = "nat-anchor", Rdr = "rdr-anchor", Binat = "binat-anchor",
} }

/// `anchor "name" in on em0 … { … }`, `nat-anchor "name"` …
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorRule {
    pub kind: AnchorKind,
    /// `None` only with a body. May end in `/*`.
    pub name: Option<Text>,
    pub quick: bool,
    pub criteria: Criteria,
    /// Filter anchors only, and no state.
    pub options: FilterOptions,
    /// Inline rules.
    pub body: Option<Ruleset>,
}

impl AnchorRule {
    pub fn new(kind: AnchorKind, name: Text) -> Self {
        Self {
            kind,
            name: Some(name),
            quick: false,
            criteria: Criteria::default(),
            options: FilterOptions::default(),
            body: None,
        }
    }
}

/// `antispoof log quick for { em0 (em1) } inet label "…"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Antispoof {
    pub log: Option<Log>,
    pub quick: bool,
    pub interfaces: Vec<AntispoofInterface>,
    pub family: Option<Family>,
    pub labels: Vec<Text>,
    pub ridentifier: Option<u32>,
    pub rtable: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AntispoofInterface {
    pub name: InterfaceName,
    /// In parentheses.
    pub dynamic: bool,
}

/// `scrub in on em0 all fragment reassemble`, the old normalisation rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrubRule {
    /// `no scrub`
    pub no: bool,
    pub log: Option<Log>,
    pub criteria: Criteria,
    pub options: ScrubOptions,
    /// `None` = not written (= reassemble); `Some(false)` = `fragment no reassemble`.
    pub fragment_reassemble: Option<bool>,
    pub tagged: Option<Tagged>,
    pub rtable: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubOptions {
    pub no_df: bool,
    pub random_id: bool,
    pub min_ttl: Option<u8>,
    pub max_mss: Option<u16>,
    pub set_tos: Option<u8>,
    pub reassemble_tcp: bool,
}
