//! The setup file's form (contract/console.md §3): its keys, their defaults, and what is checked of each.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::Deserialize;

use super::super::ha::NodeRole;
use super::super::request::Port;
use super::super::settings::DefaultPolicy;
use super::super::system::{Console, ConsoleKind, System, WanMode};
use super::super::{InterfaceName, Invalid, Secret};
use super::seeds::Lan;
use super::{Admin, AdminPassword, answers, some};

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub hostname: String,
    pub domain: Option<String>,
    pub timezone: String,
    pub wan_interface: Option<InterfaceName>,
    pub wan_mode: String,
    pub wan_ip: Option<String>,
    pub wan_gateway: Option<String>,
    pub lan_interface: Option<InterfaceName>,
    pub lan_ip: Option<String>,
    pub admin_username: String,
    pub admin_password: Secret,
    pub admin_password_hash: Secret,
    pub root_password: Secret,
    pub root_password_hash: Secret,
    pub totp_secret: Secret,
    pub totp_enabled: bool,
    pub recovery_codes: Vec<Secret>,
    pub api_listen: IpAddr,
    pub api_port: Port,
    pub ui_enabled: bool,
    pub dns_servers: Vec<IpAddr>,
    pub dhcp_enabled: bool,
    pub nat_enabled: bool,
    pub default_policy: DefaultPolicy,
    pub ssh_auth_method: SshMethod,
    pub ssh_github_user: Option<String>,
    pub ssh_authorized_keys: Vec<String>,
    pub ram_mb: Option<u64>,
    pub tuning: TuningChoice,
    pub cluster: Option<Cluster>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SshMethod {
    #[default]
    KeyOnly,
    Password,
}

/// Which items of the tuning list are turned on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum TuningChoice {
    Word(TuningWord),
    /// Exactly these, by their keys.
    These(Vec<String>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TuningWord {
    #[default]
    Default,
    None,
}

impl Default for TuningChoice {
    fn default() -> Self {
        Self::Word(TuningWord::Default)
    }
}

/// A pair of appliances: this one's part in it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cluster {
    #[serde(default = "primary")]
    pub role: NodeRole,
    pub sync_interface: InterfaceName,
    pub peer: String,
    pub password: Secret,
    #[serde(default)]
    pub vips: Vec<Vip>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Vip {
    pub interface: InterfaceName,
    pub virtual_ip: String,
    #[serde(default = "usual_prefix")]
    pub prefix: u8,
    pub vhid: u8,
}

fn primary() -> NodeRole {
    NodeRole::Primary
}
fn usual_prefix() -> u8 {
    24
}

/// Keys of the file that say where the reference keeps its files.
pub(super) const WITHOUT_EFFECT: [&str; 2] = ["db_path", "config_dir"];
pub(super) const KEYS: [&str; 30] = [
    "hostname",
    "domain",
    "timezone",
    "wan_interface",
    "wan_mode",
    "wan_ip",
    "wan_gateway",
    "lan_interface",
    "lan_ip",
    "admin_username",
    "admin_password",
    "admin_password_hash",
    "root_password",
    "root_password_hash",
    "totp_secret",
    "totp_enabled",
    "recovery_codes",
    "api_listen",
    "api_port",
    "ui_enabled",
    "dns_servers",
    "dhcp_enabled",
    "nat_enabled",
    "default_policy",
    "ssh_auth_method",
    "ssh_github_user",
    "ssh_authorized_keys",
    "ram_mb",
    "tuning",
    "cluster",
];

impl Default for File {
    fn default() -> Self {
        let system = System::default();
        Self {
            hostname: system.hostname,
            domain: None,
            timezone: system.timezone,
            wan_interface: None,
            wan_mode: "dhcp".into(),
            wan_ip: None,
            wan_gateway: None,
            lan_interface: None,
            lan_ip: None,
            admin_username: "admin".into(),
            admin_password: Secret::default(),
            admin_password_hash: Secret::default(),
            root_password: Secret::default(),
            root_password_hash: Secret::default(),
            totp_secret: Secret::default(),
            totp_enabled: false,
            recovery_codes: Vec::new(),
            api_listen: system.api_listen,
            api_port: Port(system.api_port),
            ui_enabled: true,
            dns_servers: vec![Ipv4Addr::new(1, 1, 1, 1).into(), Ipv4Addr::new(8, 8, 8, 8).into()],
            dhcp_enabled: false,
            nat_enabled: false,
            default_policy: DefaultPolicy::Standard,
            ssh_auth_method: SshMethod::KeyOnly,
            ssh_github_user: None,
            ssh_authorized_keys: Vec::new(),
            ram_mb: None,
            tuning: TuningChoice::default(),
            cluster: None,
        }
    }
}

impl File {
    pub fn admin(&self) -> Result<Admin, Invalid> {
        let username = answers::admin_username(&self.admin_username)?;
        let (plain, hash) = (&self.admin_password, &self.admin_password_hash);
        let password = match (plain.is_empty(), hash.is_empty()) {
            (false, false) => {
                return Err(Invalid::new("admin_password", "expected either it or admin_password_hash"));
            }
            (true, true) => return Err(Invalid::new("admin_password", "expected it or admin_password_hash")),
            (false, true) => {
                answers::password("admin_password", plain.expose())?;
                AdminPassword::Plain(plain.clone())
            }
            (true, false) => {
                let argon2id = argon2::PasswordHash::new(hash.expose())
                    .is_ok_and(|phc| phc.algorithm.as_str() == "argon2id" && phc.hash.is_some());
                if !argon2id {
                    return Err(Invalid::new("admin_password_hash", "expected a PHC string of Argon2id"));
                }
                AdminPassword::Hash(hash.clone())
            }
        };
        let secret = self.totp_secret.expose().trim_end_matches('=').to_ascii_uppercase();
        if data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).is_err() {
            return Err(Invalid::new("totp_secret", "expected base32"));
        }
        if self.totp_enabled && secret.is_empty() {
            return Err(Invalid::new("totp_secret", "expected, since totp_enabled is true"));
        }
        Ok(Admin {
            username,
            password,
            totp_secret: some(&Secret::new(secret)),
            totp_enabled: self.totp_enabled,
            recovery_codes: self.recovery_codes.clone(),
        })
    }

    /// What is asked for root: a password to be hashed, or a hash.
    pub fn root(&self) -> Result<Option<super::RootPassword>, Invalid> {
        match (some(&self.root_password), some(&self.root_password_hash)) {
            (Some(_), Some(_)) => {
                Err(Invalid::new("root_password", "expected either it or root_password_hash"))
            }
            (Some(plain), None) => {
                answers::root_password(plain.expose())?;
                Ok(Some(super::RootPassword::Plain(plain)))
            }
            (None, Some(hash)) => {
                answers::crypt_hash(hash.expose())?;
                Ok(Some(super::RootPassword::Hash(hash)))
            }
            (None, None) => Ok(None),
        }
    }

    pub fn system(
        &self,
        wan: &InterfaceName,
        warnings: &mut Vec<String>,
    ) -> Result<(System, Option<Lan>), Invalid> {
        let (host, rest) = answers::hostname(&self.hostname)?;
        let domain = self.domain.as_deref().filter(|domain| !domain.is_empty());
        let domain = domain.map(answers::domain).transpose()?;
        let timezone = answers::timezone(&self.timezone)?;
        if self.dns_servers.is_empty() {
            return Err(Invalid::new("dns_servers", "expected at least one address"));
        }
        let (wan_mode, wan_ip, wan_gateway) = self.wan()?;
        let lan = self.lan(wan, wan_ip)?;
        let mut keys = Vec::new();
        for (index, key) in self.ssh_authorized_keys.iter().enumerate() {
            let key = answers::public_key(key)
                .map_err(|bad| Invalid { field: format!("ssh_authorized_keys[{index}]"), ..bad })?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let user = self.ssh_github_user.as_deref().filter(|user| !user.is_empty());
        user.map(answers::github_user).transpose()?;
        let by_password = self.ssh_auth_method == SshMethod::Password;
        if !by_password && keys.is_empty() && user.is_none() {
            warnings.push("ssh_authorized_keys: no key is given, so nobody can log in over SSH".into());
        }
        let system = System {
            hostname: host,
            domain: domain.or(rest).unwrap_or_default(),
            timezone,
            dns_servers: self.dns_servers.iter().copied().map(Into::into).collect(),
            wan_interface: Some(wan.clone()),
            wan_mode,
            wan_ip,
            wan_gateway,
            lan_interface: lan.as_ref().map(|lan| lan.interface.clone()),
            lan_ip: lan.as_ref().map(|lan| lan.address),
            api_listen: self.api_listen,
            api_port: self.api_port.0,
            ui_enabled: self.ui_enabled,
            ssh_password_auth: by_password,
            ssh_permit_root_login: true,
            ssh_authorized_keys: keys,
            // As the image boots before: setup silences neither screen nor serial line.
            console: Console { kind: ConsoleKind::Dual, ..Console::default() },
            ..System::default()
        };
        Ok((system, lan))
    }

    fn wan(&self) -> Result<(WanMode, Option<IpNet>, Option<IpAddr>), Invalid> {
        match self.wan_mode.as_str() {
            "dhcp" => return Ok((WanMode::Dhcp, None, None)),
            "static" => {}
            "pppoe" => {
                return Err(Invalid::new("wan_mode", "PPPoE is not supported; expected dhcp or static"));
            }
            _ => return Err(Invalid::new("wan_mode", "expected dhcp or static")),
        }
        let address = answers::wan_address(self.wan_ip.as_deref().unwrap_or_default())?;
        let gateway = answers::wan_gateway(self.wan_gateway.as_deref().unwrap_or_default(), &address)?;
        Ok((WanMode::Static, Some(address), Some(gateway)))
    }

    fn lan(&self, wan: &InterfaceName, wan_ip: Option<IpNet>) -> Result<Option<Lan>, Invalid> {
        let Some(interface) = self.lan_interface.clone() else {
            for (field, given) in [
                ("lan_ip", self.lan_ip.is_some()),
                ("dhcp_enabled", self.dhcp_enabled),
                ("nat_enabled", self.nat_enabled),
            ] {
                if given {
                    return Err(Invalid::new(field, "expected only with a lan_interface"));
                }
            }
            return Ok(None);
        };
        if interface == *wan {
            return Err(Invalid::new("lan_interface", "expected another one than wan_interface"));
        }
        let text = self.lan_ip.as_deref().unwrap_or(answers::DEFAULT_LAN);
        let address = answers::lan_address(text, wan_ip)?;
        Ok(Some(Lan { interface, address: address.into(), network: address }))
    }
}
