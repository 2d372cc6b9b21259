//! What the first-boot dialogue has been told: the setup file that it makes of it (contract/console.md §3), and the
//! summary that it shows. No secret is in the summary.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// Everything that was answered.
pub struct Answers {
    pub root_password: Option<Zeroizing<String>>,
    pub ssh: Ssh,
    /// Perhaps with its domain.
    pub hostname: String,
    pub timezone: String,
    pub tuning: Tuning,
    pub wan: String,
    /// `None`: DHCP.
    pub wan_static: Option<(IpNet, IpAddr)>,
    pub lan: Option<Lan>,
    pub admin: String,
    pub admin_password: Zeroizing<String>,
    pub listen: IpAddr,
    pub port: u16,
    pub ui: bool,
    pub dns: Vec<IpAddr>,
    pub policy: &'static str,
    pub pair: Option<Pair>,
}

/// How root signs in over SSH.
pub enum Ssh {
    /// Lines of authorized_keys.
    Keys(Vec<String>),
    Password {
        /// It was to be keys, but there is none.
        for_want_of_keys: bool,
    },
}

pub enum Tuning {
    Default,
    None,
    /// The list's items by their keys.
    These(Vec<String>),
}

pub struct Lan {
    pub interface: String,
    pub address: Ipv4Net,
    pub dhcp: bool,
}

/// This one's part in a pair (CARP, pfsync).
pub struct Pair {
    pub primary: bool,
    pub sync: String,
    pub peer: IpAddr,
    pub password: Zeroizing<String>,
    pub shared: Vec<Shared>,
}

/// An address that the pair shares.
pub struct Shared {
    pub interface: String,
    pub address: IpAddr,
    pub prefix: u8,
    pub vhid: u8,
}

impl Answers {
    /// The setup file. It holds passwords: it goes to the local socket, and nowhere else.
    pub fn file(&self, reconfigure: bool) -> Value {
        let mut file = Map::new();
        let mut put = |key: &str, value: Value| {
            file.insert(key.to_owned(), value);
        };
        put("reconfigure", reconfigure.into());
        if let Some(password) = &self.root_password {
            put("root_password", password.as_str().into());
        }
        match &self.ssh {
            Ssh::Keys(keys) => {
                put("ssh_auth_method", "key_only".into());
                put("ssh_authorized_keys", json!(keys));
            }
            Ssh::Password { .. } => put("ssh_auth_method", "password".into()),
        }
        put("hostname", self.hostname.as_str().into());
        put("timezone", self.timezone.as_str().into());
        put(
            "tuning",
            match &self.tuning {
                Tuning::Default => "default".into(),
                Tuning::None => "none".into(),
                Tuning::These(keys) => json!(keys),
            },
        );
        put("wan_interface", self.wan.as_str().into());
        put("wan_mode", if self.wan_static.is_some() { "static" } else { "dhcp" }.into());
        if let Some((own, gateway)) = &self.wan_static {
            put("wan_ip", own.to_string().into());
            put("wan_gateway", gateway.to_string().into());
        }
        if let Some(lan) = &self.lan {
            put("lan_interface", lan.interface.as_str().into());
            put("lan_ip", lan.address.to_string().into());
            put("dhcp_enabled", lan.dhcp.into());
        }
        put("nat_enabled", self.lan.is_some().into());
        put("admin_username", self.admin.as_str().into());
        put("admin_password", self.admin_password.as_str().into());
        put("api_listen", self.listen.to_string().into());
        put("api_port", self.port.into());
        put("ui_enabled", self.ui.into());
        put("dns_servers", json!(self.dns));
        put("default_policy", self.policy.into());
        if let Some(pair) = &self.pair {
            put("cluster", pair.file());
        }
        file.into()
    }

    /// `name, what was answered`, in the order of the questions.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let yes = |on: bool| if on { "yes" } else { "no" }.to_owned();
        let set = |on: bool| if on { "set" } else { "not set" }.to_owned();
        let mut lines = vec![
            ("Root password", set(self.root_password.is_some())),
            (
                "SSH",
                match &self.ssh {
                    Ssh::Keys(keys) => format!("keys only ({} of them)", keys.len()),
                    Ssh::Password { for_want_of_keys: false } => "password".into(),
                    Ssh::Password { for_want_of_keys: true } => "password, for want of a key [!]".into(),
                },
            ),
            ("Host name", self.hostname.clone()),
            ("Time zone", self.timezone.clone()),
            (
                "Tuning",
                match &self.tuning {
                    Tuning::Default => "as recommended".into(),
                    Tuning::None => "none".into(),
                    Tuning::These(keys) => format!("{} items", keys.len()),
                },
            ),
            (
                "WAN",
                match &self.wan_static {
                    None => format!("{}, DHCP", self.wan),
                    Some((own, gateway)) => format!("{}, {own}, gateway {gateway}", self.wan),
                },
            ),
        ];
        match &self.lan {
            Some(lan) => {
                lines.push(("LAN", format!("{}, {}", lan.interface, lan.address)));
                lines.push(("DHCP server", yes(lan.dhcp)));
            }
            None => lines.push(("LAN", "none: filter only".into())),
        }
        lines.push(("NAT", yes(self.lan.is_some())));
        lines.push(("Administrator", self.admin.clone()));
        lines.push(("API", format!("{} port {}", self.listen, self.port)));
        lines.push(("Web UI", yes(self.ui)));
        let dns: Vec<String> = self.dns.iter().map(ToString::to_string).collect();
        lines.push(("DNS servers", dns.join(", ")));
        lines.push(("Policy", self.policy.into()));
        if let Some(pair) = &self.pair {
            let role = if pair.primary { "primary" } else { "secondary" };
            lines.push(("HA pair", format!("{role}, peer {} over {}", pair.peer, pair.sync)));
            for shared in &pair.shared {
                let Shared { interface, address, prefix, vhid } = shared;
                lines.push(("CARP address", format!("{address}/{prefix} on {interface}, VHID {vhid}")));
            }
        }
        lines
    }
}

impl Pair {
    fn file(&self) -> Value {
        let shared = self.shared.iter().map(|shared| {
            json!({
                "interface": shared.interface,
                "virtual_ip": shared.address,
                "prefix": shared.prefix,
                "vhid": shared.vhid,
            })
        });
        json!({
            "role": if self.primary { "primary" } else { "secondary" },
            "sync_interface": self.sync,
            "peer": self.peer,
            "password": self.password.as_str(),
            "vips": shared.collect::<Vec<_>>(),
        })
    }
}
