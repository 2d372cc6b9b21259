//! Filter rules (contract/firewall.md §3).

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Maybe, Port, Word, check_text, text_or_none, text_or_null};
use super::value::{Family, one_family, words};
use super::{
    Address, Config, Id, InterfaceName, Invalid, Label, Object, PortRange, TableName, Timestamp, alias,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Pass,
    /// Blocks as the main ruleset's block-policy says.
    Block,
    BlockDrop,
    BlockReturn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    In,
    Out,
    Any,
}

/// `both` and `inet46` mean the same; the word that was sent is echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpVersion {
    Inet,
    Inet6,
    #[default]
    Both,
    Inet46,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    #[serde(rename = "any")]
    Any,
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "udp")]
    Udp,
    #[serde(rename = "tcp/udp")]
    TcpUdp,
    #[serde(rename = "icmp")]
    Icmp,
    #[serde(rename = "icmp6")]
    Icmp6,
    #[serde(rename = "esp")]
    Esp,
    #[serde(rename = "ah")]
    Ah,
    #[serde(rename = "gre")]
    Gre,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Active,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateTracking {
    None,
    #[default]
    KeepState,
    ModulateState,
    SynproxyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatePolicy {
    IfBound,
    Floating,
}

/// State-table fill (entries) at which time-outs start to shrink, and at which they are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdaptiveTimeouts {
    pub start: u32,
    pub end: u32,
}

/// How states are kept (pf.conf(5), "stateful filtering"); time-outs in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StateOptions {
    pub tracking: StateTracking,
    pub policy: Option<StatePolicy>,
    pub adaptive_timeouts: Option<AdaptiveTimeouts>,
    pub timeout_tcp: Option<u32>,
    pub timeout_udp: Option<u32>,
    pub timeout_icmp: Option<u32>,
}

/// One side of a rule: where packets come from, or go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub addr: Address,
    pub invert: bool,
    pub port: Option<PortRange>,
    /// Name of a port alias; excludes `port`.
    pub port_alias: Option<TableName>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { addr: Address::Any, invert: false, port: None, port_alias: None }
    }
}

/// A filter rule, in stored form. `priority` 0 to 10000, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: Id,
    pub priority: u16,
    pub action: Action,
    pub direction: Direction,
    pub ip_version: IpVersion,
    pub interface: Option<InterfaceName>,
    pub protocol: Protocol,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub log: bool,
    pub quick: bool,
    pub label: Option<Label>,
    pub description: Option<String>,
    /// Gateway or gateway-group id or name, or a next-hop address.
    pub gateway: Option<String>,
    pub state: StateOptions,
    pub status: Status,
    pub schedule_id: Option<Id>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for Rule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    /// The aliases and the schedule it refers to.
    fn words(&self) -> Vec<Arc<str>> {
        let sides = [&self.src, &self.dst];
        let aliases = sides.into_iter().flat_map(|end| [end.addr.table(), end.port_alias.as_ref()]).flatten();
        let mut words: Vec<Arc<str>> = aliases.map(TableName::shared).collect();
        words.extend(self.schedule_id.map(|id| id.to_string().into()));
        words.sort_unstable();
        words.dedup();
        words
    }
}

words!(Action, "pass, block, block_drop or block_return",
    "pass" => Self::Pass, "block" => Self::Block,
    "block_drop" | "block-drop" | "blockdrop" => Self::BlockDrop,
    "block_return" | "block-return" | "blockreturn" => Self::BlockReturn);
words!(Direction, "in, out or any", "in" => Self::In, "out" => Self::Out, "any" => Self::Any);
words!(IpVersion, "inet, inet6, both or inet46",
    "inet" | "ipv4" | "4" => Self::Inet,
    "inet6" | "ipv6" | "6" => Self::Inet6,
    "both" | "any" | "*" | "" => Self::Both,
    "inet46" => Self::Inet46);
words!(Protocol, "tcp, udp, tcp/udp, icmp, icmp6, esp, ah, gre or any",
    "any" | "*" => Self::Any, "tcp" => Self::Tcp, "udp" => Self::Udp,
    "tcp/udp" | "tcpudp" | "tcp+udp" | "{ tcp udp }" | "{ tcp, udp }" | "{tcp udp}" | "{tcp,udp}" => Self::TcpUdp,
    "icmp" => Self::Icmp, "icmp6" => Self::Icmp6, "esp" => Self::Esp, "ah" => Self::Ah, "gre" => Self::Gre);
words!(Status, "active or disabled", "active" => Self::Active, "disabled" => Self::Disabled);
words!(StateTracking, "none, keep_state, modulate_state or synproxy_state",
    "none" => Self::None, "keep_state" => Self::KeepState,
    "modulate_state" => Self::ModulateState, "synproxy_state" => Self::SynproxyState);

impl Action {
    pub fn blocks(self) -> bool {
        self != Self::Pass
    }
}

impl IpVersion {
    /// The one family it stands for, if it is one.
    pub fn family(self) -> Option<Family> {
        match self {
            Self::Inet => Some(Family::Inet),
            Self::Inet6 => Some(Family::Inet6),
            Self::Both | Self::Inet46 => None,
        }
    }
}

impl Protocol {
    /// Whether packets of it have ports that a rule can name.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::TcpUdp)
    }
    /// The one family it exists in, if it is one.
    pub fn family(self) -> Option<Family> {
        match self {
            Self::Icmp => Some(Family::Inet),
            Self::Icmp6 => Some(Family::Inet6),
            _ => None,
        }
    }
}

/// Largest priority; rules with it are evaluated last.
pub const MAX_PRIORITY: u16 = 10_000;
/// Most filter rules, and most NAT rules, of a configuration.
pub const MAX_RULES: usize = 10_000;

/// Refuses an interface that pf could not tell from an address: what stands for addresses must begin with a
/// letter.
pub(super) fn check_address(field: &str, address: &Address) -> Result<(), Invalid> {
    match address {
        Address::Interface(name) | Address::InterfaceNetwork(name)
            if !name.as_str().starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            Err(Invalid::new(field, "expected an interface whose name begins with a letter"))
        }
        _ => Ok(()),
    }
}

/// Refuses a side of a rule that pf could not express. `side` is `src` or `dst`.
pub(super) fn check_endpoint(side: &str, end: &Endpoint, protocol: Protocol) -> Result<(), Invalid> {
    let field = |name: &str| format!("{side}_{name}");
    if end.invert && end.addr == Address::Any {
        return Err(Invalid::new(field("invert"), "expected false, since the address is any"));
    }
    check_address(&field("addr"), &end.addr)?;
    if end.port.is_some() && end.port_alias.is_some() {
        return Err(Invalid::new(field("port_alias"), "expected either a port alias or port numbers"));
    }
    if !protocol.has_ports() {
        let what = "expected no port, since only tcp, udp and tcp/udp have ports";
        if end.port.is_some() {
            return Err(Invalid::new(field("port_start"), what));
        }
        if end.port_alias.is_some() {
            return Err(Invalid::new(field("port_alias"), what));
        }
    }
    Ok(())
}

impl Rule {
    /// Checks what must hold within one rule; what it refers to is [`Rule::check_references`]' business.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.priority > MAX_PRIORITY {
            return Err(Invalid::new("priority", "expected 0 to 10000"));
        }
        check_endpoint("src", &self.src, self.protocol)?;
        check_endpoint("dst", &self.dst, self.protocol)?;
        if let Some(description) = &self.description {
            check_text("description", description, 255)?;
        }
        let next_hop = self.gateway.as_deref().and_then(|gateway| gateway.parse::<IpAddr>().ok());
        one_family([
            ("ip_version", self.ip_version.family()),
            ("protocol", self.protocol.family()),
            ("src_addr", self.src.addr.family()),
            ("dst_addr", self.dst.addr.family()),
            ("gateway", next_hop.map(Family::of)),
        ])?;
        if self.gateway.is_some() {
            if self.action.blocks() {
                return Err(Invalid::new("gateway", "expected none (null), since the rule blocks"));
            }
            if self.direction == Direction::Any {
                return Err(Invalid::new("gateway", "expected none (null) with direction any, or in or out"));
            }
        }
        let state = &self.state;
        if let Some(adaptive) = state.adaptive_timeouts
            && adaptive.start > adaptive.end
        {
            return Err(Invalid::new(
                "state_options.adaptive_timeouts",
                "expected a start that is not above the end",
            ));
        }
        for (field, seconds) in [
            ("state_options.timeout_tcp", state.timeout_tcp),
            ("state_options.timeout_udp", state.timeout_udp),
            ("state_options.timeout_icmp", state.timeout_icmp),
        ] {
            // pf keeps time-outs in a signed int.
            if seconds.is_some_and(|seconds| seconds > i32::MAX as u32) {
                return Err(Invalid::new(field, "expected at most 2147483647 seconds"));
            }
        }
        Ok(())
    }

    /// Checks that the tables, port aliases, schedule and gateway it names are there.
    pub fn check_references(&self, config: &Config) -> Result<(), Invalid> {
        for (side, end) in [("src", &self.src), ("dst", &self.dst)] {
            if let Some(table) = end.addr.table() {
                alias::check_table(config, &format!("{side}_addr"), table)?;
            }
            if let Some(name) = &end.port_alias {
                alias::check_port_alias(config, &format!("{side}_port_alias"), name)?;
            }
        }
        if let Some(schedule) = &self.schedule_id
            && !config.schedules.contains(schedule)
        {
            return Err(Invalid::new("schedule_id", format!("there is no schedule {schedule}")));
        }
        // Gateways and gateway groups are not configured by this build: only a next hop can be known.
        if let Some(gateway) = &self.gateway
            && gateway.parse::<IpAddr>().is_err()
        {
            return Err(Invalid::new(
                "gateway",
                format!("there is no gateway {gateway:?}; expected a next-hop address"),
            ));
        }
        Ok(())
    }

    /// Sorts rules as they are evaluated.
    pub fn order(&self) -> (u16, Timestamp, Id) {
        (self.priority, self.created_at, self.id)
    }
}

/// A side of a rule as answers show it and, sent back, requests may give it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuleMatch {
    pub src_addr: Option<Address>,
    pub src_port: Option<PortRange>,
    pub dst_addr: Option<Address>,
    pub dst_port: Option<PortRange>,
    pub src_invert: Option<bool>,
    pub dst_invert: Option<bool>,
}

/// Body of POST and PUT (contract/firewall.md §3). `rule_match` is read where the flat fields are absent, so
/// that a rule can be sent back as it was answered.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RuleRequest {
    pub action: Word<Action>,
    pub direction: Word<Direction>,
    pub protocol: Word<Protocol>,
    pub ip_version: Option<Word<IpVersion>>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub interface: Option<InterfaceName>,
    pub src_addr: Option<Address>,
    pub dst_addr: Option<Address>,
    #[serde(default)]
    pub src_port_start: Maybe<Port>,
    #[serde(default)]
    pub src_port_end: Maybe<Port>,
    #[serde(default)]
    pub dst_port_start: Maybe<Port>,
    #[serde(default)]
    pub dst_port_end: Maybe<Port>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub src_port_alias: Option<TableName>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub dst_port_alias: Option<TableName>,
    pub src_invert: Option<bool>,
    pub dst_invert: Option<bool>,
    pub rule_match: Option<RuleMatch>,
    pub log: Option<bool>,
    pub quick: Option<bool>,
    /// 0 to 10000, lowest first; 100 unless given.
    pub priority: Option<u16>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub label: Option<Label>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "text_or_null")]
    pub gateway: Maybe<String>,
    pub state_tracking: Option<Word<StateTracking>>,
    #[serde(default)]
    pub state_options: Maybe<StateOptions>,
    pub status: Option<Word<Status>>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub schedule_id: Option<Id>,
}

impl RuleRequest {
    /// The new rule that is asked for, checked against `config`.
    pub fn create(self, now: Timestamp, config: &Config) -> Result<Rule, Invalid> {
        if config.rules.len() >= MAX_RULES {
            return Err(Invalid::new("rules", format!("expected at most {MAX_RULES} rules")));
        }
        self.build(None, now, config)
    }

    /// `stored` as it will be: what is absent is kept or cleared as the contract's table says.
    pub fn replace(self, stored: &Rule, now: Timestamp, config: &Config) -> Result<Rule, Invalid> {
        self.build(Some(stored), now, config)
    }

    fn build(self, stored: Option<&Rule>, now: Timestamp, config: &Config) -> Result<Rule, Invalid> {
        let nested = self.rule_match.unwrap_or_default();
        let src = SideRequest {
            addr: self.src_addr.or(nested.src_addr),
            invert: self.src_invert.or(nested.src_invert),
            start: self.src_port_start,
            end: self.src_port_end,
            range: nested.src_port,
            port_alias: self.src_port_alias,
        }
        .endpoint("src", stored.map(|rule| &rule.src))?;
        let dst = SideRequest {
            addr: self.dst_addr.or(nested.dst_addr),
            invert: self.dst_invert.or(nested.dst_invert),
            start: self.dst_port_start,
            end: self.dst_port_end,
            range: nested.dst_port,
            port_alias: self.dst_port_alias,
        }
        .endpoint("dst", stored.map(|rule| &rule.dst))?;
        let mut state = match self.state_options {
            Maybe::Absent => stored.map(|rule| rule.state.clone()).unwrap_or_default(),
            Maybe::Null => StateOptions::default(),
            Maybe::Value(options) => options,
        };
        if let Some(Word(tracking)) = self.state_tracking {
            state.tracking = tracking;
        }
        let rule = Rule {
            id: stored.map_or_else(Id::new_v4, |rule| rule.id),
            priority: self.priority.or(stored.map(|rule| rule.priority)).unwrap_or(100),
            action: self.action.0,
            direction: self.direction.0,
            ip_version: self
                .ip_version
                .map(|word| word.0)
                .or(stored.map(|rule| rule.ip_version))
                .unwrap_or_default(),
            interface: self.interface.filter(|name| !name.as_str().eq_ignore_ascii_case("any")),
            protocol: self.protocol.0,
            src,
            dst,
            log: self.log.or(stored.map(|rule| rule.log)).unwrap_or(false),
            quick: self.quick.or(stored.map(|rule| rule.quick)).unwrap_or(true),
            label: self.label,
            description: self.description,
            gateway: self.gateway.or_keep(stored.and_then(|rule| rule.gateway.clone())),
            state,
            status: self.status.map(|word| word.0).or(stored.map(|rule| rule.status)).unwrap_or_default(),
            schedule_id: self.schedule_id,
            created_at: stored.map_or(now, |rule| rule.created_at),
            updated_at: stored.map_or(now, |rule| rule.updated_at),
        };
        rule.check()?;
        rule.check_references(config)?;
        Ok(match stored {
            Some(before) if *before != rule => Rule { updated_at: now, ..rule },
            _ => rule,
        })
    }
}

/// What a request says about one side.
struct SideRequest {
    addr: Option<Address>,
    invert: Option<bool>,
    start: Maybe<Port>,
    end: Maybe<Port>,
    range: Option<PortRange>,
    port_alias: Option<TableName>,
}

impl SideRequest {
    fn endpoint(self, side: &str, stored: Option<&Endpoint>) -> Result<Endpoint, Invalid> {
        let addr = self.addr.unwrap_or(Address::Any);
        // A stored inversion has nothing to invert once the address is any.
        let kept = stored.is_some_and(|end| end.invert) && addr != Address::Any;
        // A port alias in the request takes the place of a range that only came back with the answer.
        let range = self.range.filter(|_| self.port_alias.is_none());
        let port = port_range(
            &format!("{side}_port"),
            self.start,
            self.end,
            range,
            stored.and_then(|end| end.port),
        )?;
        Ok(Endpoint { addr, invert: self.invert.unwrap_or(kept), port, port_alias: self.port_alias })
    }
}

/// A range from its two numbers. A start alone is one port, except that it keeps the end stored with the same
/// start (the UI sends starts only). `range` stands in where neither number is given.
pub(super) fn port_range(
    field: &str,
    start: Maybe<Port>,
    end: Maybe<Port>,
    range: Option<PortRange>,
    stored: Option<PortRange>,
) -> Result<Option<PortRange>, Invalid> {
    let neither = start.is_absent() && end.is_absent();
    match (start.value(), end) {
        (None, Maybe::Value(_)) => {
            Err(Invalid::new(format!("{field}_start"), "expected, since there is an end"))
        }
        (None, _) => Ok(range.filter(|_| neither)),
        (Some(Port(start)), end) => {
            let end = match end {
                Maybe::Value(Port(end)) => end,
                Maybe::Null => start,
                Maybe::Absent => stored.filter(|range| range.start() == start).map_or(start, PortRange::end),
            };
            PortRange::new(start, end).map(Some).map_err(|bad| bad.field(format!("{field}_start")))
        }
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
