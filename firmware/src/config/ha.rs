//! High availability: CARP addresses, state synchronisation, nodes, as the configuration document has them
//! (contract/config.md §2 `ha`).

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{id_or_new, plain_object};
use super::{Id, InterfaceName, Secret};

/// A shared address (carp(4)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CarpVip {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub vhid: u8,
    pub virtual_ip: IpAddr,
    pub prefix: u8,
    pub interface: InterfaceName,
    #[serde(default)]
    pub password: Secret,
}
plain_object!(CarpVip);

/// State-table synchronisation (pfsync(4)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pfsync {
    pub sync_interface: InterfaceName,
    pub sync_peer: Option<IpAddr>,
    pub defer: bool,
    /// The nodes of the cluster are each other's DHCP peers.
    #[serde(default)]
    pub dhcp_link: bool,
    /// What this node is in the cluster.
    #[serde(default)]
    pub local_role: Option<NodeRole>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HaSettings {
    pub pfsync: Option<Pfsync>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    Primary,
    Secondary,
    Standalone,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HaNode {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub address: String,
    pub role: NodeRole,
}
plain_object!(HaNode);
