//! The machine as the console shows it, which interface is WAN and which LAN, and restarting the services.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setup::{configured, console_audit, hardware, noted};
use crate::api::services_common::acted as said;
use crate::api::{ApiError, App, Call, Reply};
use crate::apply::Pending;
use crate::apply::services::Wish;
use crate::config::setup::{TuningItem, answers, moves};
use crate::config::{Config, InterfaceName, Invalid, ServiceKind, System};
use crate::platform::hardware::{Hardware, Nic};
use crate::platform::{Power, Scheduled};
use crate::store::Draft;

/// What the header of the menu and the dialogue's questions are made of.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    pub configured: bool,
    /// Why the appliance runs without what is stored; `null` when it runs with it.
    pub emergency: Option<String>,
    /// Stored changes wait to be applied.
    pub pending: bool,
    /// `freebsd` or `sandbox`.
    pub platform: String,
    pub version: String,
    pub hostname: String,
    pub domain: String,
    /// Where the web UI is; `null` while nothing listens.
    pub url: Option<String>,
    pub certificate_sha256: Option<String>,
    pub ssh_fingerprints: Vec<String>,
    /// `primary`, `secondary`, or `null` without a pair.
    pub ha: Option<String>,
    pub interfaces: Vec<ShownInterface>,
    pub wan_interface: Option<InterfaceName>,
    pub lan_interface: Option<InterfaceName>,
    pub hardware: Hardware,
    pub tuning: Vec<TuningItem>,
    /// Answers that are in force, to be offered by a second setup.
    pub present: Option<Present>,
}

/// What an earlier setup, or somebody since, has answered.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Present {
    pub timezone: String,
    /// With its prefix; `None` = the WAN asks for it (DHCP).
    pub wan_ip: Option<String>,
    pub wan_gateway: Option<String>,
    pub lan_ip: Option<String>,
    pub dhcp_enabled: bool,
    /// `standard`, `strict`, `permissive`
    pub default_policy: String,
    pub dns_servers: Vec<String>,
    pub api_listen: String,
    pub api_port: u16,
    pub ui_enabled: bool,
    pub ssh_password_auth: bool,
    /// Keys that may sign in as root.
    pub ssh_keys: usize,
    pub root_password: bool,
}

fn present(config: &Config) -> Present {
    let system = &config.system;
    let text = |ip: Option<ipnet::IpNet>| ip.map(|ip| ip.to_string());
    Present {
        timezone: system.timezone.clone(),
        wan_ip: text(system.wan_ip),
        wan_gateway: system.wan_gateway.map(|ip| ip.to_string()),
        lan_ip: text(system.lan_ip),
        dhcp_enabled: config.dhcp.enabled,
        default_policy: format!("{:?}", config.firewall.default_policy).to_ascii_lowercase(),
        dns_servers: system.dns_servers.iter().map(ToString::to_string).collect(),
        api_listen: system.api_listen.to_string(),
        api_port: system.api_port,
        ui_enabled: system.ui_enabled,
        ssh_password_auth: system.ssh_password_auth,
        ssh_keys: system.ssh_authorized_keys.len(),
        root_password: !system.root_password_hash.is_empty(),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ShownInterface {
    pub name: String,
    /// `WAN`, `LAN` or none.
    pub role: Option<String>,
    pub up: bool,
    /// With their prefix, IPv4 first.
    pub addresses: Vec<String>,
}

pub async fn shown(call: Call) -> Result<Reply, ApiError> {
    let app = &call.app;
    let hardware = hardware(app).await?;
    let platform = app.platform.clone();
    let found = blocking::unblock(move || platform.interfaces()).await.map_err(ApiError::internal)?;
    let snapshot = app.store.snapshot();
    let system = &snapshot.config.system;
    let role = |name: &str| {
        let is =
            |assigned: &Option<InterfaceName>| assigned.as_ref().is_some_and(|held| held.as_str() == name);
        if is(&system.wan_interface) {
            Some("WAN".to_owned())
        } else {
            is(&system.lan_interface).then(|| "LAN".to_owned())
        }
    };
    let counts = |name: &str| !["lo", "pflog", "enc", "pfsync"].iter().any(|kind| name.starts_with(kind));
    let pair = snapshot.config.ha.pfsync.as_ref().and_then(|pfsync| pfsync.local_role);
    Ok(Reply::json(&Shown {
        configured: configured(&snapshot),
        emergency: app.emergency.clone(),
        pending: app.applier.pending() != Pending::default(),
        platform: app.platform.kind().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        hostname: system.hostname.clone(),
        domain: system.domain.clone(),
        url: app.local.reached().map(|_| url(app, system)),
        certificate_sha256: certificate(app),
        ssh_fingerprints: fingerprints(app),
        ha: pair.map(|role| format!("{role:?}").to_ascii_lowercase()),
        interfaces: found
            .into_iter()
            .filter(|interface| counts(&interface.name))
            .map(|interface| ShownInterface {
                role: role(&interface.name),
                up: interface.up,
                addresses: interface.addresses.iter().map(ToString::to_string).collect(),
                name: interface.name,
            })
            .collect(),
        wan_interface: system.wan_interface.clone(),
        lan_interface: system.lan_interface.clone(),
        tuning: hardware.facts().tuning(),
        hardware,
        present: configured(&snapshot).then(|| present(&snapshot.config)),
    }))
}

/// Where a browser finds the appliance: the LAN's address first, then the WAN's, then the name.
pub(super) fn url(app: &App, system: &System) -> String {
    let reached = app.local.reached();
    let tls = reached.as_ref().is_none_or(|reached| reached.tls);
    let listens = reached.as_ref().map_or(system.api_listen, |reached| reached.address.ip());
    let port = reached.as_ref().map_or(system.api_port, |reached| reached.address.port());
    let own = |network: Option<ipnet::IpNet>| network.map(|network| network.addr());
    let host = match Some(listens).filter(|ip| !ip.is_unspecified()) {
        Some(ip) => written(ip),
        None => own(system.lan_ip).or(own(system.wan_ip)).map_or(system.hostname.clone(), written),
    };
    format!("{}://{host}:{port}/", if tls { "https" } else { "http" })
}

fn written(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// As browsers show it: hexadecimal pairs with colons.
pub(super) fn certificate(app: &App) -> Option<String> {
    let digest = app.local.certificate()?;
    Some(digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}

/// `ED25519 SHA256:…` of each host key that is there.
pub(super) fn fingerprints(app: &App) -> Vec<String> {
    let mut all: Vec<String> =
        app.local.host_keys.iter().flat_map(|folder| fingerprints_in(folder)).collect();
    all.sort();
    all
}

fn fingerprints_in(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let keys = files.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kind = name.strip_prefix("ssh_host_")?.strip_suffix("_key.pub")?.to_ascii_uppercase();
        let line = std::fs::read_to_string(entry.path()).ok()?;
        Some(format!("{kind} {}", answers::fingerprint(line.trim())?))
    });
    keys.collect()
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Assignment {
    wan: InterfaceName,
    /// `null` = no LAN.
    lan: Option<InterfaceName>,
}

/// WAN and LAN change places or cards; what names the old ones (rules, NAT, DHCP) names the new ones. Loaded at
/// once, or not at all.
pub async fn assign(call: Call) -> Result<Reply, ApiError> {
    let wanted: Assignment = call.json()?;
    let facts = hardware(&call.app).await?.facts();
    for (field, name) in [("wan", Some(&wanted.wan)), ("lan", wanted.lan.as_ref())] {
        let Some(name) = name else { continue };
        let known = facts.interfaces.iter().any(|known| known == name.as_str());
        if Nic::is_virtual(name.as_str()) || !known {
            return Err(Invalid::new(field, format!("there is no network card {name}")).into());
        }
    }
    if wanted.lan.as_ref() == Some(&wanted.wan) {
        return Err(Invalid::new("lan", "expected another interface than the WAN's").into());
    }
    if !configured(&call.app.store.snapshot()) {
        return Err(ApiError::conflict("the appliance is not set up yet"));
    }
    let text = format!(
        "WAN is {}, LAN is {}",
        wanted.wan,
        wanted.lan.as_ref().map_or("not assigned", InterfaceName::as_str)
    );
    let audit = console_audit(&text);
    let author = call.author();
    let report = call.app.applier.replace(&author, None, move |draft: &mut Draft| {
        moves::give_roles(&mut draft.config, &wanted.wan, wanted.lan.as_ref());
        draft.audit.push(audit);
        Ok::<(), ApiError>(())
    });
    Ok(said(text, &report.await?.warnings))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct NewAddress {
    /// The WAN's or the LAN's.
    interface: InterfaceName,
    /// With its prefix; `null`: a WAN asks for it (DHCP).
    address: Option<String>,
    /// Of a WAN with an address of its own.
    gateway: Option<String>,
    /// Whether the DHCP server leases addresses in the LAN.
    #[serde(default)]
    dhcp: bool,
    /// The first address that it leases; as at setup unless given.
    #[schemars(with = "Option<String>")]
    dhcp_from: Option<Ipv4Addr>,
    #[schemars(with = "Option<String>")]
    dhcp_to: Option<Ipv4Addr>,
}

/// What a [`NewAddress`] means for the interface it names.
enum Readdressing {
    Wan(moves::WanAddress),
    Lan(ipnet::Ipv4Net, moves::LanDhcp),
}

impl NewAddress {
    fn judged(&self, system: &System) -> Result<Readdressing, Invalid> {
        let at = |field: &'static str| move |bad: Invalid| Invalid { field: field.into(), ..bad };
        if Some(&self.interface) == system.wan_interface.as_ref() {
            let Some(own) = &self.address else { return Ok(Readdressing::Wan(moves::WanAddress::Dhcp)) };
            let own = answers::wan_address(own).map_err(at("address"))?;
            let gateway = self.gateway.as_deref().unwrap_or_default();
            let gateway = answers::wan_gateway(gateway, &own).map_err(at("gateway"))?;
            return Ok(Readdressing::Wan(moves::WanAddress::Static { own, gateway }));
        }
        if Some(&self.interface) != system.lan_interface.as_ref() {
            return Err(Invalid::new("interface", format!("{} is neither WAN nor LAN", self.interface)));
        }
        let own = self.address.as_deref().unwrap_or_default();
        let own = answers::lan_address(own, system.wan_ip).map_err(at("address"))?;
        let dhcp = match (self.dhcp, self.dhcp_from, self.dhcp_to) {
            (false, None, None) => moves::LanDhcp::Off,
            (true, None, None) => moves::LanDhcp::On(None),
            (true, Some(first), Some(last)) => moves::LanDhcp::On(Some((first, last))),
            (true, _, None) => return Err(Invalid::new("dhcp_to", "expected together with dhcp_from")),
            (true, None, _) => return Err(Invalid::new("dhcp_from", "expected together with dhcp_to")),
            (false, ..) => return Err(Invalid::new("dhcp", "expected true, since a range is given")),
        };
        Ok(Readdressing::Lan(own, dhcp))
    }
}

/// Another address for WAN or LAN; what names the old network names the new one. In force at once, or not at all.
pub async fn readdress(call: Call) -> Result<Reply, ApiError> {
    let wanted: NewAddress = call.json()?;
    let snapshot = call.app.store.snapshot();
    if !configured(&snapshot) {
        return Err(ApiError::conflict("the appliance is not set up yet"));
    }
    let judged = wanted.judged(&snapshot.config.system)?;
    let address = wanted.address.as_deref().unwrap_or("asked for (DHCP)");
    let text = format!("the address of {} is {address}", wanted.interface);
    let audit = console_audit(&text);
    let author = call.author();
    let report = call.app.applier.replace(&author, None, move |draft: &mut Draft| {
        match judged {
            Readdressing::Wan(wan) => moves::set_wan(&mut draft.config, wan)?,
            Readdressing::Lan(own, dhcp) => moves::set_lan(&mut draft.config, own, dhcp, draft.now)?,
        }
        draft.audit.push(audit);
        Ok::<(), ApiError>(())
    });
    Ok(said(text, &report.await?.warnings))
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Restarted {
    pub services: Vec<RestartedService>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RestartedService {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

/// The rules first, checked before they are loaded; then every service that is on, one after the other.
pub async fn restart(call: Call) -> Result<Reply, ApiError> {
    let (app, author) = (&call.app, call.author());
    app.applier.start().await?;
    let rules =
        RestartedService { name: "packet filter".into(), ok: true, detail: "rules loaded again".into() };
    let mut services = vec![rules];
    for kind in ServiceKind::ALL {
        if !kind.is_enabled(&app.store.snapshot().applied) {
            continue;
        }
        let (ok, detail) = match app.applier.service(&author, kind, Wish::Restart, None).await {
            Ok(_) => (true, "running".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        services.push(RestartedService { name: kind.label().into(), ok, detail });
    }
    noted(&call, "services restarted").await?;
    Ok(Reply::json(&Restarted { services }))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Switch {
    action: SwitchAction,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SwitchAction {
    Reboot,
    PowerOff,
}

/// At once: whoever asks has been asked whether they are sure.
pub async fn power(call: Call) -> Result<Reply, ApiError> {
    let request: Switch = call.json()?;
    let power = match request.action {
        SwitchAction::Reboot => Power::Reboot,
        SwitchAction::PowerOff => Power::PowerOff,
    };
    noted(&call, power.word()).await?;
    let platform = call.app.platform.clone();
    let done = blocking::unblock(move || {
        let now = || platform.power(power, std::time::Duration::ZERO);
        match now()? {
            Scheduled::Now => Ok(Scheduled::Now),
            // Whoever is at the console means now, whatever was to come later.
            Scheduled::Already => platform.cancel_power().and_then(|_| now()),
        }
    })
    .await;
    done.map_err(|error| ApiError::new(500, error.to_string()))?;
    Ok(Reply::message(format!("{}: on its way", power.word())))
}
