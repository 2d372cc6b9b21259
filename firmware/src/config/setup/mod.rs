//! The unattended setup file (contract/console.md §3), and the configuration it stands for: roles, policy,
//! first rules and NAT (§5). Pure; used by `aifw setup` and the sandbox. The first-boot dialogue builds the
//! same file from its answers.

mod seeds;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use seeds::{Lan, Seeds};
use serde::Deserialize;
use serde_json::Value;

use super::request::{self, Port};
use super::settings::DefaultPolicy;
use super::system::{System, WanMode};
use super::{AuthSettings, Config, FirewallSettings, InterfaceName, Invalid, Secret, Timestamp};

/// What a setup file asks for, checked.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The configuration to start with: seeded rules, NAT, DHCP, roles and policy.
    pub config: Config,
    pub admin: Option<Admin>,
    /// crypt(3) hash for root, where one was given.
    pub root_password_hash: Option<Secret>,
    /// Keys of this GitHub user are to be fetched and added.
    pub ssh_github_user: Option<String>,
    /// Whether the default tuning list applies.
    pub tuning: bool,
    /// What the administrator should know though it stops nothing.
    pub warnings: Vec<String>,
}

/// The first administrator.
#[derive(Debug, Clone)]
pub struct Admin {
    pub username: String,
    pub password: AdminPassword,
    /// Base32; a second factor is in force from the first login on if `totp_enabled`.
    pub totp_secret: Option<Secret>,
    pub totp_enabled: bool,
    pub recovery_codes: Vec<Secret>,
}

#[derive(Debug, Clone)]
pub enum AdminPassword {
    Plain(Secret),
    /// PHC string, Argon2id.
    Hash(Secret),
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct File {
    hostname: String,
    domain: Option<String>,
    timezone: String,
    wan_interface: Option<InterfaceName>,
    wan_mode: String,
    wan_ip: Option<String>,
    wan_gateway: Option<IpAddr>,
    lan_interface: Option<InterfaceName>,
    lan_ip: Option<String>,
    admin_username: String,
    admin_password: Secret,
    admin_password_hash: Secret,
    root_password_hash: Secret,
    totp_secret: Secret,
    totp_enabled: bool,
    recovery_codes: Vec<Secret>,
    api_listen: IpAddr,
    api_port: Port,
    ui_enabled: bool,
    dns_servers: Vec<IpAddr>,
    dhcp_enabled: bool,
    nat_enabled: bool,
    default_policy: DefaultPolicy,
    ssh_auth_method: SshMethod,
    ssh_github_user: Option<String>,
    ssh_authorized_keys: Vec<String>,
    tuning: TuningChoice,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SshMethod {
    #[default]
    KeyOnly,
    Password,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TuningChoice {
    #[default]
    Default,
    None,
}

/// Keys of the file that say where the reference keeps its files, or what is found out here by itself.
const WITHOUT_EFFECT: [&str; 3] = ["ram_mb", "db_path", "config_dir"];
const KEYS: [&str; 27] = [
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
    "tuning",
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
            tuning: TuningChoice::Default,
        }
    }
}

impl Setup {
    /// Reads and checks a setup file. Every key is optional but the administrator's password or its hash.
    pub fn parse(json: &[u8], now: Timestamp) -> Result<Self, Invalid> {
        let file: File = request::parse(json)?;
        let admin = file.admin()?;
        Ok(Self { admin: Some(admin), ..Self::read(file, json, now)? })
    }

    /// As [`Setup::parse`], without an administrator: the first who registers becomes it.
    pub fn parse_without_admin(json: &[u8], now: Timestamp) -> Result<Self, Invalid> {
        Self::read(request::parse(json)?, json, now)
    }

    fn read(file: File, json: &[u8], now: Timestamp) -> Result<Self, Invalid> {
        let mut warnings = Vec::new();
        if let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(json) {
            for key in map.keys() {
                if !KEYS.contains(&key.as_str()) && !WITHOUT_EFFECT.contains(&key.as_str()) {
                    warnings.push(format!("{key}: not a key of the setup file, ignored"));
                }
            }
        }
        let wan = match &file.wan_interface {
            Some(name) => name.clone(),
            None => InterfaceName::new("em0").map_err(|bad| bad.field("wan_interface"))?,
        };
        let (system, lan) = file.system(&wan, &mut warnings)?;
        let mut config = Config {
            auth: Arc::new(AuthSettings { require_totp: file.totp_enabled, ..AuthSettings::default() }),
            firewall: Arc::new(FirewallSettings {
                default_policy: file.default_policy,
                automatic_nat: file.nat_enabled,
                ..FirewallSettings::default()
            }),
            time_sources: crate::config::time::seeds().into_iter().collect(),
            ids_rulesets: crate::config::ids::seeds().into_iter().collect(),
            ..Config::default()
        };
        config.system = Arc::new(system);
        let seeds = Seeds { now, wan: &wan, lan: lan.as_ref(), api_port: file.api_port.0 };
        seeds.rules(file.default_policy, file.dhcp_enabled, &mut config, &mut warnings)?;
        if file.nat_enabled {
            seeds.nat(&mut config)?;
        }
        if file.dhcp_enabled {
            seeds.dhcp(&mut config)?;
        }
        Ok(Self {
            config,
            admin: None,
            root_password_hash: some(&file.root_password_hash),
            ssh_github_user: file.ssh_github_user.filter(|user| !user.is_empty()),
            tuning: file.tuning == TuningChoice::Default,
            warnings,
        })
    }
}

fn some(secret: &Secret) -> Option<Secret> {
    (!secret.is_empty()).then(|| secret.clone())
}

/// Whether text could be one host name label (RFC 1123 §2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Checks a password as the dialogue does: 8 characters or more, with upper and lower case and a digit.
pub fn check_password(field: &str, password: &str) -> Result<(), Invalid> {
    let strong = password.chars().count() >= 8
        && password.chars().any(char::is_uppercase)
        && password.chars().any(char::is_lowercase)
        && password.chars().any(|c| c.is_ascii_digit());
    if strong {
        Ok(())
    } else {
        Err(Invalid::new(field, "expected 8 characters or more, with upper case, lower case and a digit"))
    }
}

/// Whether a line could stand in authorized_keys: a key type, and a base64 blob that names the same type.
fn is_public_key(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else { return false };
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix));
    let Ok(blob) = data_encoding::BASE64.decode(blob.as_bytes()) else { return false };
    let Some((length, rest)) = blob.split_first_chunk::<4>() else { return false };
    known
        && rest.get(..u32::from_be_bytes(*length) as usize) == Some(kind.as_bytes())
        && !line.contains(['\n', '\r'])
}

impl File {
    fn admin(&self) -> Result<Admin, Invalid> {
        let username = &self.admin_username;
        if !(1..=32).contains(&username.chars().count())
            || username.chars().any(|c| c.is_whitespace() || c.is_control())
        {
            return Err(Invalid::new("admin_username", "expected 1 to 32 characters without blanks"));
        }
        let (plain, hash) = (&self.admin_password, &self.admin_password_hash);
        let password = match (plain.is_empty(), hash.is_empty()) {
            (false, false) => {
                return Err(Invalid::new("admin_password", "expected either it or admin_password_hash"));
            }
            (true, true) => return Err(Invalid::new("admin_password", "expected it or admin_password_hash")),
            (false, true) => {
                check_password("admin_password", plain.expose())?;
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
            username: username.clone(),
            password,
            totp_secret: some(&Secret::new(secret)),
            totp_enabled: self.totp_enabled,
            recovery_codes: self.recovery_codes.clone(),
        })
    }

    fn system(
        &self,
        wan: &InterfaceName,
        warnings: &mut Vec<String>,
    ) -> Result<(System, Option<Lan>), Invalid> {
        let (host, rest) = match self.hostname.split_once('.') {
            Some((host, rest)) => (host, Some(rest.to_owned())),
            None => (self.hostname.as_str(), None),
        };
        let domain = self.domain.clone().filter(|domain| !domain.is_empty());
        let domain_fits = |domain: &Option<String>| domain.as_deref().is_none_or(is_domain);
        if !is_label(host) || !domain_fits(&rest) {
            return Err(Invalid::new("hostname", "expected labels of 1 to 63 letters, digits and -"));
        }
        if !domain_fits(&domain) {
            return Err(Invalid::new("domain", "expected labels of 1 to 63 letters, digits and -"));
        }
        if self.timezone != "UTC" && jiff::tz::TimeZone::get(&self.timezone).is_err() {
            return Err(Invalid::new("timezone", format!("there is no time zone {:?}", self.timezone)));
        }
        if self.dns_servers.is_empty() {
            return Err(Invalid::new("dns_servers", "expected at least one address"));
        }
        let (wan_mode, wan_ip, wan_gateway) = self.wan()?;
        let lan = self.lan(wan, wan_ip)?;
        let keys: Vec<String> = self.ssh_authorized_keys.iter().map(|key| key.trim().to_owned()).collect();
        if let Some(index) = keys.iter().position(|key| !is_public_key(key)) {
            return Err(Invalid::new(
                format!("ssh_authorized_keys[{index}]"),
                "expected a public key: type and base64 data",
            ));
        }
        if let Some(user) = self.ssh_github_user.as_deref().filter(|user| !user.is_empty())
            && (user.len() > 39 || !user.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        {
            return Err(Invalid::new("ssh_github_user", "expected 1 to 39 letters, digits and -"));
        }
        let by_password = self.ssh_auth_method == SshMethod::Password;
        if !by_password && keys.is_empty() && self.ssh_github_user.as_deref().is_none_or(str::is_empty) {
            warnings.push("ssh_authorized_keys: no key is given, so nobody can log in over SSH".into());
        }
        let system = System {
            hostname: host.to_owned(),
            domain: domain.or(rest).unwrap_or_default(),
            timezone: self.timezone.clone(),
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
        let address = self.wan_ip.as_deref().and_then(|text| text.parse::<IpNet>().ok());
        let address = address.ok_or_else(|| {
            Invalid::new("wan_ip", "expected an address with its prefix, such as 203.0.113.2/24")
        })?;
        let gateway = self.wan_gateway.ok_or_else(|| Invalid::new("wan_gateway", "expected an address"))?;
        let edge = |ip: IpAddr| {
            address.prefix_len() < address.max_prefix_len() - 1
                && ip.is_ipv4()
                && (ip == address.network() || ip == address.broadcast())
        };
        if !address.contains(&gateway) || gateway == address.addr() || edge(gateway) {
            return Err(Invalid::new("wan_gateway", format!("expected another host of {}", address.trunc())));
        }
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
        let text = self.lan_ip.as_deref().unwrap_or("192.168.1.1/24");
        let bad =
            || Invalid::new("lan_ip", "expected an IPv4 address with its prefix, such as 192.168.1.1/24");
        let address: Ipv4Net = text.parse().map_err(|_| bad())?;
        if !(8..=30).contains(&address.prefix_len()) {
            return Err(Invalid::new("lan_ip", "expected a prefix from /8 to /30"));
        }
        if address.addr() == address.network() || address.addr() == address.broadcast() {
            return Err(Invalid::new("lan_ip", "expected the address of a host, not of the network"));
        }
        if let Some(IpNet::V4(wan)) = wan_ip
            && (wan.contains(&address.network()) || address.contains(&wan.network()))
        {
            return Err(Invalid::new(
                "lan_ip",
                format!("expected another network than the WAN's {}", wan.trunc()),
            ));
        }
        Ok(Some(Lan { interface, address: address.into(), network: address }))
    }
}

#[cfg(test)]
mod tests;
