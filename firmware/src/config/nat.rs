//! Translation rules (contract/firewall.md §6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::{Protocol, Status};
use super::{Address, Id, InterfaceName, Label, Object, PortRange, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    Snat,
    Dnat,
    Masquerade,
    Binat,
    Nat64,
    Nat46,
}

/// What addresses and ports become. `Address::Any` = the interface's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    pub address: Address,
    pub port: Option<PortRange>,
}

/// A translation rule, in stored form. `position` gives the order of evaluation, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatRule {
    pub id: Id,
    pub position: u64,
    pub nat_type: NatKind,
    pub interface: InterfaceName,
    pub protocol: Protocol,
    pub src_addr: Address,
    pub src_port: Option<PortRange>,
    pub dst_addr: Address,
    pub dst_port: Option<PortRange>,
    pub redirect: Redirect,
    pub label: Option<Label>,
    pub status: Status,
    /// snat and masquerade only: source ports are kept.
    pub static_port: bool,
    /// dnat only: a pass rule for the translated packets is compiled too.
    pub associated_filter: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for NatRule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
}
