//! Filter rules (contract/firewall.md §3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, Id, InterfaceName, Label, Object, PortRange, TableName, Timestamp};

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
}
