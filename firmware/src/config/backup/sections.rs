//! The sections of a configuration document, field by field in the order in which they are written.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::dhcp::{DhcpDdns, DhcpGlobal, DhcpHa, DhcpReservation, DhcpSubnet};
use crate::config::dns::names::NameServer;
use crate::config::ha::{CarpVip, HaNode, Pfsync};
use crate::config::request::Word;
use crate::config::rule::{Action, Direction, IpVersion, Protocol, StateOptions, StateTracking};
use crate::config::system::{Console, WanMode};
use crate::config::value::{id_or_new, yes};
use crate::config::vpn::{Ipsec, WireGuard};
use crate::config::{
    Address, AliasKind, GeoIpAction, Id, InterfaceName, Invalid, Label, NatKind, Status, TableName, Timestamp,
};

fn default_listen() -> IpAddr {
    IpAddr::from([0, 0, 0, 0])
}
fn default_api_port() -> u16 {
    8080
}
fn default_timezone() -> String {
    "UTC".into()
}
fn default_access_minutes() -> u32 {
    15
}
fn default_refresh_days() -> u32 {
    7
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemSection {
    pub hostname: String,
    pub dns_servers: Vec<NameServer>,
    /// `""` where none is chosen.
    pub wan_interface: String,
    pub lan_interface: Option<String>,
    pub lan_ip: Option<String>,
    #[serde(default = "default_listen")]
    pub api_listen: IpAddr,
    #[serde(default = "default_api_port")]
    pub api_port: u16,
    pub ui_enabled: bool,
    #[serde(default)]
    pub domain: String,
    #[serde(default = "default_timezone")]
    pub timezone: String,
    #[serde(default)]
    pub login_banner: String,
    #[serde(default)]
    pub motd: String,
    #[serde(default)]
    pub console: Console,
    #[serde(default)]
    pub ssh: SshSection,
    /// Beyond the reference; absent = as stored.
    pub wan_mode: Option<WanMode>,
    pub wan_ip: Option<String>,
    pub wan_gateway: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SshSection {
    pub enabled: bool,
    pub port: u16,
    pub password_auth: bool,
    pub permit_root_login: bool,
    /// Beyond the reference; `null` = as stored.
    pub authorized_keys: Option<Vec<String>>,
}

impl Default for SshSection {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 22,
            password_auth: false,
            permit_root_login: false,
            authorized_keys: None,
        }
    }
}

/// An address with its prefix; one without gets the usual length of a LAN.
pub(super) fn lan_network(field: &str, text: &str) -> Result<IpNet, Invalid> {
    let alone = || {
        let ip = text.parse::<IpAddr>().ok()?;
        IpNet::new(ip, if ip.is_ipv4() { 24 } else { 64 }).ok()
    };
    text.parse::<IpNet>()
        .ok()
        .or_else(alone)
        .ok_or_else(|| Invalid::new(field, "expected an address with its prefix, such as 192.168.1.1/24"))
}

impl SystemSection {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.hostname.len() > 253 || self.hostname.contains(['\0', '\n', '\r']) {
            return Err(Invalid::new(
                "system.hostname",
                "expected at most 253 characters without line breaks",
            ));
        }
        if self.api_port == 0 {
            return Err(Invalid::new("system.api_port", "expected a port from 1 to 65535"));
        }
        if self.ssh.port == 0 {
            return Err(Invalid::new("system.ssh.port", "expected a port from 1 to 65535"));
        }
        let zone = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b'+' | b'-');
        if self.timezone.is_empty() || self.timezone.len() > 64 || !self.timezone.bytes().all(zone) {
            return Err(Invalid::new("system.timezone", "expected a time zone such as Europe/Vienna"));
        }
        for (field, name) in [
            ("system.wan_interface", Some(&self.wan_interface)),
            ("system.lan_interface", self.lan_interface.as_ref()),
        ] {
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                InterfaceName::new(name).map_err(|bad| bad.field(field))?;
            }
        }
        for (field, text) in [("system.lan_ip", &self.lan_ip), ("system.wan_ip", &self.wan_ip)] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                lan_network(field, text)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthSection {
    #[serde(default = "default_access_minutes")]
    pub access_token_expiry_mins: u32,
    #[serde(default = "default_refresh_days")]
    pub refresh_token_expiry_days: u32,
    pub require_totp: bool,
    pub require_totp_for_oauth: bool,
    pub auto_create_oauth_users: bool,
    /// Beyond the reference, as is all that follows; absent = as stored.
    pub max_login_attempts: Option<u32>,
    pub lockout_duration_secs: Option<u32>,
    pub allow_registration: Option<bool>,
    pub password_min_length: Option<u32>,
}

/// Documents write the compound actions without the underscore that answers have.
fn action_word<S: Serializer>(action: &Word<Action>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(match action.0 {
        Action::Pass => "pass",
        Action::Block => "block",
        Action::BlockDrop => "blockdrop",
        Action::BlockReturn => "blockreturn",
    })
}

fn both() -> Word<IpVersion> {
    Word(IpVersion::Both)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleEntry {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub priority: u16,
    #[serde(serialize_with = "action_word")]
    pub action: Word<Action>,
    pub direction: Word<Direction>,
    pub protocol: Word<Protocol>,
    pub interface: Option<InterfaceName>,
    pub src_addr: Option<Address>,
    pub src_port_start: Option<u16>,
    pub src_port_end: Option<u16>,
    pub dst_addr: Option<Address>,
    pub dst_port_start: Option<u16>,
    pub dst_port_end: Option<u16>,
    pub log: bool,
    pub quick: bool,
    pub label: Option<Label>,
    pub state_tracking: Word<StateTracking>,
    pub status: Word<Status>,
    #[serde(default = "both")]
    pub ip_version: Word<IpVersion>,
    #[serde(default)]
    pub src_invert: bool,
    #[serde(default)]
    pub dst_invert: bool,
    /// Beyond the reference, as is all that follows. `tracking` in it gives way to `state_tracking`.
    pub state_options: Option<StateOptions>,
    pub src_port_alias: Option<TableName>,
    pub dst_port_alias: Option<TableName>,
    pub description: Option<String>,
    pub gateway: Option<String>,
    pub schedule_id: Option<Id>,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NatEntry {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub nat_type: Word<NatKind>,
    pub interface: InterfaceName,
    pub protocol: Word<Protocol>,
    pub src_addr: Option<Address>,
    pub src_port_start: Option<u16>,
    pub src_port_end: Option<u16>,
    pub dst_addr: Option<Address>,
    pub dst_port_start: Option<u16>,
    pub dst_port_end: Option<u16>,
    pub redirect_addr: Address,
    pub redirect_port_start: Option<u16>,
    pub redirect_port_end: Option<u16>,
    pub label: Option<Label>,
    pub status: Word<Status>,
    /// Beyond the reference, as is all that follows. The entries stand in their order of evaluation.
    #[serde(default)]
    pub static_port: bool,
    #[serde(default = "yes")]
    pub associated_filter: bool,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VpnSection {
    #[serde(default)]
    pub wireguard: Vec<WireGuard>,
    #[serde(default)]
    pub ipsec: Vec<Ipsec>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeoIpEntry {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub country: String,
    pub action: Word<GeoIpAction>,
    pub label: Option<Label>,
    pub status: Word<Status>,
    /// Beyond the reference, as is all that follows.
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HaSection {
    #[serde(default)]
    pub carp_vips: Vec<CarpVip>,
    pub pfsync: Option<Pfsync>,
    #[serde(default)]
    pub nodes: Vec<HaNode>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DhcpSection {
    pub global: DhcpGlobal,
    pub subnets: Vec<DhcpSubnet>,
    pub reservations: Vec<DhcpReservation>,
    pub ddns: DhcpDdns,
    pub dhcp_ha: DhcpHa,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AliasEntry {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: TableName,
    pub alias_type: Word<AliasKind>,
    pub entries: Vec<String>,
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Beyond the reference, as is all that follows.
    pub refresh_secs: Option<u32>,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleEntry {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub description: Option<String>,
    pub time_ranges: Vec<String>,
    pub days_of_week: Vec<String>,
    pub enabled: bool,
    pub created_at: Option<Timestamp>,
}
