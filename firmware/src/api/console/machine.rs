//! The machine as the console shows it, which interface is WAN and which LAN, and restarting the services.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setup::{configured, hardware, noted};
use crate::api::{ApiError, App, Call, Reply};
use crate::apply::Pending;
use crate::apply::services::Wish;
use crate::config::rule::Rule;
use crate::config::setup::{TuningItem, answers};
use crate::config::{Address, Config, InterfaceName, Invalid, NatRule, ServiceKind, System};
use crate::platform::hardware::{Hardware, Nic};
use crate::store::{Draft, NewAudit};

/// What the header of the menu and the dialogue's questions are made of.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shown {
    configured: bool,
    /// Why the appliance runs without what is stored; `null` when it runs with it.
    emergency: Option<String>,
    /// Stored changes wait to be applied.
    pending: bool,
    /// `freebsd` or `sandbox`.
    platform: &'static str,
    version: &'static str,
    hostname: String,
    domain: String,
    /// Where the web UI is; `null` while nothing listens.
    url: Option<String>,
    certificate_sha256: Option<String>,
    ssh_fingerprints: Vec<String>,
    /// `primary`, `secondary`, or `null` without a pair.
    ha: Option<String>,
    interfaces: Vec<ShownInterface>,
    wan_interface: Option<InterfaceName>,
    lan_interface: Option<InterfaceName>,
    hardware: Hardware,
    tuning: Vec<TuningItem>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ShownInterface {
    name: String,
    /// `WAN`, `LAN` or none.
    role: Option<&'static str>,
    up: bool,
    /// With their prefix, IPv4 first.
    addresses: Vec<String>,
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
        if is(&system.wan_interface) { Some("WAN") } else { is(&system.lan_interface).then_some("LAN") }
    };
    let counts = |name: &str| !["lo", "pflog", "enc", "pfsync"].iter().any(|kind| name.starts_with(kind));
    let pair = snapshot.config.ha.pfsync.as_ref().and_then(|pfsync| pfsync.local_role);
    Ok(Reply::json(&Shown {
        configured: configured(&snapshot),
        emergency: app.emergency.clone(),
        pending: app.applier.pending() != Pending::default(),
        platform: app.platform.kind(),
        version: env!("CARGO_PKG_VERSION"),
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
    let digest = app.local.reached()?.certificate?;
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
    let audit = NewAudit {
        action: "config_changed",
        source: "console",
        details: text.clone(),
        ..NewAudit::default()
    };
    let author = call.author();
    let report = call.app.applier.replace(&author, None, move |draft: &mut Draft| {
        move_roles(&mut draft.config, &wanted);
        draft.audit.push(audit);
        Ok::<(), ApiError>(())
    });
    report.await?;
    Ok(Reply::message(text))
}

fn move_roles(config: &mut Config, wanted: &Assignment) {
    let old = config.system.clone();
    let moved = |name: &InterfaceName| {
        if Some(name) == old.wan_interface.as_ref() {
            Some(wanted.wan.clone())
        } else if Some(name) == old.lan_interface.as_ref() {
            wanted.lan.clone()
        } else {
            None
        }
    };
    let system = Arc::make_mut(&mut config.system);
    system.wan_interface = Some(wanted.wan.clone());
    system.lan_interface = wanted.lan.clone();
    if wanted.lan.is_none() {
        system.lan_ip = None;
    }
    let rules: Vec<Arc<Rule>> = config.rules.iter().cloned().collect();
    for rule in rules {
        let mut rule = Rule::clone(&rule);
        let on = rule.interface.as_ref().and_then(moved);
        let ends = [&mut rule.src.addr, &mut rule.dst.addr];
        let mut changed = on.is_some();
        for end in ends {
            if let Address::Interface(name) | Address::InterfaceNetwork(name) = end
                && let Some(new) = moved(name)
            {
                *name = new;
                changed = true;
            }
        }
        if changed {
            rule.interface = on.or(rule.interface);
            config.rules.insert(rule);
        }
    }
    let nat: Vec<Arc<NatRule>> = config.nat.iter().cloned().collect();
    for rule in nat {
        if let Some(new) = moved(&rule.interface) {
            config.nat.insert(NatRule { interface: new, ..NatRule::clone(&rule) });
        }
    }
    let dhcp = Arc::make_mut(&mut config.dhcp);
    for name in &mut dhcp.interfaces {
        if let Some(new) = InterfaceName::new(name).ok().as_ref().and_then(moved) {
            *name = new.to_string();
        }
    }
    if wanted.lan.is_none() {
        dhcp.enabled = false;
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Restarted {
    services: Vec<RestartedService>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RestartedService {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// The rules first, checked before they are loaded; then every service that is on, one after the other.
pub async fn restart(call: Call) -> Result<Reply, ApiError> {
    let (app, author) = (&call.app, call.author());
    app.applier.start().await?;
    let rules = RestartedService { name: "packet filter", ok: true, detail: "rules loaded again".into() };
    let mut services = vec![rules];
    for kind in ServiceKind::ALL {
        if !kind.is_enabled(&app.store.snapshot().applied) {
            continue;
        }
        let (ok, detail) = match app.applier.service(&author, kind, Wish::Restart, None).await {
            Ok(_) => (true, "running".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        services.push(RestartedService { name: kind.label(), ok, detail });
    }
    noted(&call, "services restarted").await?;
    Ok(Reply::json(&Restarted { services }))
}
