//! The machine's own identity and its first interfaces (contract/config.md §2 `system`, console.md §3).

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dns::names::NameServer;
use super::{InterfaceName, Secret};

pub mod request;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WanMode {
    #[default]
    Dhcp,
    Static,
}

/// Where the kernel's console is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleKind {
    #[default]
    Video,
    Serial,
    Dual,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Console {
    pub kind: ConsoleKind,
    pub baud: u32,
}

impl Default for Console {
    fn default() -> Self {
        Self { kind: ConsoleKind::Video, baud: 115_200 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    pub hostname: String,
    pub domain: String,
    /// Time zone name of the tz database; schedules are read in it.
    pub timezone: String,
    /// Asked by the appliance itself; empty = what it is told by others.
    pub dns_servers: Vec<NameServer>,
    pub wan_interface: Option<InterfaceName>,
    pub wan_mode: WanMode,
    pub wan_ip: Option<IpNet>,
    pub wan_gateway: Option<IpAddr>,
    pub lan_interface: Option<InterfaceName>,
    pub lan_ip: Option<IpNet>,
    pub api_listen: IpAddr,
    pub api_port: u16,
    pub ui_enabled: bool,
    pub login_banner: String,
    pub motd: String,
    pub console: Console,
    pub ssh_enabled: bool,
    pub ssh_port: u16,
    pub ssh_password_auth: bool,
    pub ssh_permit_root_login: bool,
    /// Public keys that may log in as root, one line each (sshd(8), AUTHORIZED_KEYS).
    pub ssh_authorized_keys: Vec<String>,
    /// crypt(3) hash of root's password on the console; none = nobody signs in there with a password.
    pub root_password_hash: Secret,
}

impl System {
    /// `host.domain`, or the host alone; empty when there is none.
    pub fn fqdn(&self) -> String {
        match (self.hostname.is_empty(), self.domain.is_empty()) {
            (false, false) => format!("{}.{}", self.hostname, self.domain),
            _ => self.hostname.clone(),
        }
    }
}

impl Default for System {
    fn default() -> Self {
        Self {
            hostname: "aifw".into(),
            domain: String::new(),
            timezone: "UTC".into(),
            dns_servers: Vec::new(),
            wan_interface: None,
            wan_mode: WanMode::Dhcp,
            wan_ip: None,
            wan_gateway: None,
            lan_interface: None,
            lan_ip: None,
            api_listen: IpAddr::from([0, 0, 0, 0]),
            api_port: 8080,
            ui_enabled: true,
            login_banner: String::new(),
            motd: String::new(),
            console: Console::default(),
            ssh_enabled: true,
            ssh_port: 22,
            ssh_password_auth: false,
            ssh_permit_root_login: false,
            ssh_authorized_keys: Vec::new(),
            root_password_hash: Secret::default(),
        }
    }
}
