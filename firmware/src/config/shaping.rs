//! Traffic shaping: queues and connection rate limits, as the configuration document has them
//! (contract/config.md §2 `queues`, `rate_limits`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::{Protocol, Status};
use super::value::{id_or_new, plain_object};
use super::{Id, InterfaceName, TableName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    Codel,
    Hfsc,
    Priq,
}

/// Decimal multiples of bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BandwidthUnit {
    Bps,
    Kbps,
    Mbps,
    Gbps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficClass {
    Voip,
    Interactive,
    Default,
    Bulk,
}

/// A queue on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub interface: InterfaceName,
    pub queue_type: QueueType,
    pub bandwidth_value: u64,
    pub bandwidth_unit: BandwidthUnit,
    pub traffic_class: TrafficClass,
    pub bandwidth_pct: Option<u8>,
    pub default: bool,
    pub status: Status,
}
plain_object!(Queue);

/// New connections allowed per source and time; who exceeds it lands in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateLimit {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub interface: Option<InterfaceName>,
    pub protocol: Protocol,
    pub dst_port_start: Option<u16>,
    pub dst_port_end: Option<u16>,
    pub max_connections: u32,
    pub window_secs: u32,
    pub overload_table: TableName,
    pub flush_states: bool,
    pub status: Status,
}
plain_object!(RateLimit);
