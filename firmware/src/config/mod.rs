//! The configuration: a typed value, one file per subsystem, with validation and defaults. Pure: nothing here
//! touches a file, a process or a socket. Called by every other room; uses none of them.

pub mod alias;
pub mod document;
pub mod geoip;
pub mod nat;
pub mod permission;
pub mod request;
pub mod rule;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod system;
pub mod value;

pub use alias::{Alias, AliasKind};
pub use document::{Collection, Document, Object};
pub use geoip::{GeoIpAction, GeoIpRule};
pub use nat::{NatKind, NatRule};
pub use permission::{Permission, PermissionSet};
pub use request::Refusal;
pub use rule::{Rule, Status};
pub use schedule::Schedule;
pub use secret::Secret;
pub use settings::{AuthSettings, FirewallSettings, HistorySettings};
pub use system::System;
pub use value::{Address, BadValue, Id, InterfaceName, Invalid, Label, PortRange, TableName, Timestamp};

document::document! {
    /// Everything that is configured. Copies are cheap; a changed copy shares what did not change.
    pub struct Config {
        collections {
            rules: Rule => "rule",
            nat: NatRule => "nat",
            aliases: Alias => "alias",
            schedules: Schedule => "schedule",
            geoip: GeoIpRule => "geoip",
        }
        sections {
            system: System => "system",
            auth: AuthSettings => "auth",
            firewall: FirewallSettings => "firewall",
            history: HistorySettings => "history",
        }
    }
}
