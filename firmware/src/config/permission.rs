//! Permissions: 37 bits whose order is fixed by the wire (contract/auth.md §5).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BadValue;

/// One permission; its number is its bit in [`PermissionSet`]. Write does not imply read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[repr(u8)]
pub enum Permission {
    #[serde(rename = "dashboard:view")]
    DashboardView = 0,
    #[serde(rename = "rules:read")]
    RulesRead = 1,
    #[serde(rename = "rules:write")]
    RulesWrite = 2,
    #[serde(rename = "nat:read")]
    NatRead = 3,
    #[serde(rename = "nat:write")]
    NatWrite = 4,
    #[serde(rename = "vpn:read")]
    VpnRead = 5,
    #[serde(rename = "vpn:write")]
    VpnWrite = 6,
    #[serde(rename = "geoip:read")]
    GeoipRead = 7,
    #[serde(rename = "geoip:write")]
    GeoipWrite = 8,
    #[serde(rename = "ids:read")]
    IdsRead = 9,
    #[serde(rename = "ids:write")]
    IdsWrite = 10,
    #[serde(rename = "dns:read")]
    DnsRead = 11,
    #[serde(rename = "dns:write")]
    DnsWrite = 12,
    #[serde(rename = "dhcp:read")]
    DhcpRead = 13,
    #[serde(rename = "dhcp:write")]
    DhcpWrite = 14,
    #[serde(rename = "aliases:read")]
    AliasesRead = 15,
    #[serde(rename = "aliases:write")]
    AliasesWrite = 16,
    #[serde(rename = "interfaces:read")]
    InterfacesRead = 17,
    #[serde(rename = "interfaces:write")]
    InterfacesWrite = 18,
    #[serde(rename = "connections:view")]
    ConnectionsView = 19,
    #[serde(rename = "logs:view")]
    LogsView = 20,
    #[serde(rename = "users:read")]
    UsersRead = 21,
    #[serde(rename = "users:write")]
    UsersWrite = 22,
    #[serde(rename = "settings:read")]
    SettingsRead = 23,
    #[serde(rename = "settings:write")]
    SettingsWrite = 24,
    #[serde(rename = "plugins:read")]
    PluginsRead = 25,
    #[serde(rename = "plugins:write")]
    PluginsWrite = 26,
    #[serde(rename = "updates:read")]
    UpdatesRead = 27,
    #[serde(rename = "updates:install")]
    UpdatesInstall = 28,
    #[serde(rename = "backup:read")]
    BackupRead = 29,
    #[serde(rename = "backup:write")]
    BackupWrite = 30,
    #[serde(rename = "system:reboot")]
    SystemReboot = 31,
    #[serde(rename = "proxy:read")]
    ProxyRead = 32,
    #[serde(rename = "proxy:write")]
    ProxyWrite = 33,
    #[serde(rename = "multiwan:read")]
    MultiwanRead = 34,
    #[serde(rename = "multiwan:write")]
    MultiwanWrite = 35,
    #[serde(rename = "ha:manage")]
    HaManage = 36,
}

impl Permission {
    /// All permissions, in bit order.
    pub const ALL: [Self; 37] = [
        Self::DashboardView,
        Self::RulesRead,
        Self::RulesWrite,
        Self::NatRead,
        Self::NatWrite,
        Self::VpnRead,
        Self::VpnWrite,
        Self::GeoipRead,
        Self::GeoipWrite,
        Self::IdsRead,
        Self::IdsWrite,
        Self::DnsRead,
        Self::DnsWrite,
        Self::DhcpRead,
        Self::DhcpWrite,
        Self::AliasesRead,
        Self::AliasesWrite,
        Self::InterfacesRead,
        Self::InterfacesWrite,
        Self::ConnectionsView,
        Self::LogsView,
        Self::UsersRead,
        Self::UsersWrite,
        Self::SettingsRead,
        Self::SettingsWrite,
        Self::PluginsRead,
        Self::PluginsWrite,
        Self::UpdatesRead,
        Self::UpdatesInstall,
        Self::BackupRead,
        Self::BackupWrite,
        Self::SystemReboot,
        Self::ProxyRead,
        Self::ProxyWrite,
        Self::MultiwanRead,
        Self::MultiwanWrite,
        Self::HaManage,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::DashboardView => "dashboard:view",
            Self::RulesRead => "rules:read",
            Self::RulesWrite => "rules:write",
            Self::NatRead => "nat:read",
            Self::NatWrite => "nat:write",
            Self::VpnRead => "vpn:read",
            Self::VpnWrite => "vpn:write",
            Self::GeoipRead => "geoip:read",
            Self::GeoipWrite => "geoip:write",
            Self::IdsRead => "ids:read",
            Self::IdsWrite => "ids:write",
            Self::DnsRead => "dns:read",
            Self::DnsWrite => "dns:write",
            Self::DhcpRead => "dhcp:read",
            Self::DhcpWrite => "dhcp:write",
            Self::AliasesRead => "aliases:read",
            Self::AliasesWrite => "aliases:write",
            Self::InterfacesRead => "interfaces:read",
            Self::InterfacesWrite => "interfaces:write",
            Self::ConnectionsView => "connections:view",
            Self::LogsView => "logs:view",
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::SettingsRead => "settings:read",
            Self::SettingsWrite => "settings:write",
            Self::PluginsRead => "plugins:read",
            Self::PluginsWrite => "plugins:write",
            Self::UpdatesRead => "updates:read",
            Self::UpdatesInstall => "updates:install",
            Self::BackupRead => "backup:read",
            Self::BackupWrite => "backup:write",
            Self::SystemReboot => "system:reboot",
            Self::ProxyRead => "proxy:read",
            Self::ProxyWrite => "proxy:write",
            Self::MultiwanRead => "multiwan:read",
            Self::MultiwanWrite => "multiwan:write",
            Self::HaManage => "ha:manage",
        }
    }
    /// The part of the name before the colon.
    pub fn category(self) -> &'static str {
        self.name().split_once(':').map_or("", |(category, _)| category)
    }
    /// The part of the name after the colon.
    pub fn action(self) -> &'static str {
        self.name().split_once(':').map_or("", |(_, action)| action)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Permission {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.name() == text)
            .ok_or_else(|| BadValue::new(format!("unknown permission {text:?}")))
    }
}

/// A set of permissions; `bits()` is the number that stands in tokens and roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PermissionSet(u64);

impl PermissionSet {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self((1 << 37) - 1);

    pub fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }
    pub const fn bits(self) -> u64 {
        self.0
    }
    pub fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u8)
    }
    pub fn without(self, permission: Permission) -> Self {
        Self(self.0 & !(1 << permission as u8))
    }
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }
    pub fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// Whether every permission of `other` is in `self`.
    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// In bit order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(iter: I) -> Self {
        iter.into_iter().fold(Self::NONE, Self::with)
    }
}
