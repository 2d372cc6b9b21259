//! What is stored but not yet in force.

use serde::Serialize;

/// Stored changes that are not applied, per area (contract/live.md §8). Derived, never set: an area is pending
/// when what the stored configuration compiles to differs from what the applied one compiles to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Pending {
    pub firewall: bool,
    pub nat: bool,
    pub dns: bool,
}
