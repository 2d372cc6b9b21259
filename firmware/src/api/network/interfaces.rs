//! What interfaces are and what they are to have.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::Serialize;

use super::{admin, begins_with, machine, named};
use crate::api::config::Safety;
use crate::api::resource::{Data, Message, config_changed};
use crate::api::{Access, ApiError, Call, Reply, Route};
use crate::apply::network::{Subject, must_be_taken};
use crate::compile::os::network as compiled;
use crate::config::network::{self, Addressing, Inet, Inet6, InterfaceRequest, InterfaceSettings, RoleName};
use crate::config::{Config, InterfaceName, Permission, Refusal};
use crate::platform::Interface;
use crate::store::Draft;

const READ: Access = Access::Needs(Permission::InterfacesRead);
const WRITE: Access = Access::Needs(Permission::InterfacesWrite);

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/interfaces", READ, "Interfaces that packets pass", list)
            .answers::<Data<Vec<InterfaceInfo>>>(200),
        Route::new(
            "GET",
            "/interfaces/detailed",
            READ,
            "Interfaces with all that is known of them",
            detailed,
        )
        .answers::<Data<Vec<InterfaceDetail>>>(200),
        Route::new("GET", "/interfaces/{name}/stats", READ, "What an interface has carried", stats)
            .answers::<Data<InterfaceStats>>(200),
        Route::new("GET", "/interfaces/config/{name}", READ, "What an interface is to have", config)
            .answers::<Data<InterfaceConfig>>(200),
        Route::new(
            "PUT",
            "/interfaces/config/{name}",
            WRITE,
            "Change what an interface is to have, at once; what is left out stays",
            configure,
        )
        .takes::<InterfaceRequest>()
        .answers::<Message>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct InterfaceInfo {
    name: String,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
    /// `up` or `down`.
    status: &'static str,
    mac: Option<String>,
    #[schemars(with = "Option<String>")]
    role: Option<RoleName>,
}

fn status(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// The first address of IPv4, and the first of IPv6 that means something beyond the link.
fn addresses(held: &Interface) -> (Option<IpNet>, Option<IpNet>) {
    let link_local = |net: &IpNet| matches!(net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    let inet = held.addresses.iter().find(|net| net.addr().is_ipv4());
    let inet6 = held.addresses.iter().find(|net| net.addr().is_ipv6() && !link_local(net));
    (inet.copied(), inet6.copied())
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let held = machine(&call).await?;
    let stored = &call.app.store.snapshot().config;
    let shown = held.iter().filter(|held| !begins_with(&held.name, &["lo", "pflog", "enc", "pfsync"]));
    let mut rows: Vec<InterfaceInfo> = shown
        .map(|held| {
            let (inet, inet6) = addresses(held);
            InterfaceInfo {
                name: held.name.clone(),
                ipv4: inet.map(|net| net.addr()),
                ipv6: inet6.map(|net| net.addr()),
                status: status(held.up),
                mac: held.mac.clone(),
                role: network::role_of(stored, &held.name),
            }
        })
        .collect();
    // Those that the next reload will make.
    let mut coming: Vec<_> = stored
        .vlans
        .iter()
        .filter(|vlan| vlan.addressing.enabled && held.iter().all(|held| held.name != vlan.device.as_str()))
        .collect();
    coming.sort_by_key(|vlan| (vlan.vlan_id, vlan.id));
    rows.extend(coming.into_iter().map(|vlan| InterfaceInfo {
        name: vlan.device.to_string(),
        ipv4: None,
        ipv6: None,
        status: "down",
        mac: None,
        role: network::role_of(stored, vlan.device.as_str()),
    }));
    Ok(Reply::data(&rows))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct InterfaceDetail {
    name: String,
    /// `up` or `down`, as it is set; whether there is a signal is `link`.
    status: &'static str,
    mtu: u32,
    mac: Option<String>,
    media: Option<String>,
    description: Option<String>,
    ipv4: Option<IpAddr>,
    /// As ifconfig(8) prints it: `0xffffff00`.
    ipv4_netmask: Option<String>,
    ipv4_prefix: Option<u8>,
    ipv6: Option<IpAddr>,
    ipv6_prefix: Option<u8>,
    /// All of them, with their prefix lengths.
    #[schemars(with = "Vec<String>")]
    addresses: Vec<IpNet>,
    /// `active` or `no carrier`; null where the driver does not tell.
    link: Option<&'static str>,
    is_vlan: bool,
    vlan_id: Option<u16>,
    vlan_parent: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    packets_in: u64,
    packets_out: u64,
    errors_in: u64,
    errors_out: u64,
    /// Of the IPv4 default route, on the interface that it goes through.
    gateway: Option<IpAddr>,
    /// The same for IPv6.
    ipv6_gateway: Option<IpAddr>,
    /// `dhcp` or `static`.
    ipv4_mode: Option<&'static str>,
    /// `slaac` or `static`.
    ipv6_mode: Option<&'static str>,
    #[schemars(with = "Option<String>")]
    role: Option<RoleName>,
}

fn inet_mode(addressing: &Addressing) -> Option<&'static str> {
    match addressing.inet {
        Inet::None => None,
        Inet::Dhcp => Some("dhcp"),
        Inet::Static(_) => Some("static"),
    }
}

fn inet6_mode(addressing: &Addressing) -> Option<&'static str> {
    match addressing.inet6 {
        Inet6::None => None,
        Inet6::Slaac => Some("slaac"),
        Inet6::Static(_) => Some("static"),
    }
}

async fn detailed(call: Call) -> Result<Reply, ApiError> {
    let platform = call.app.platform.clone();
    let (held, table) = blocking::unblock(move || (platform.interfaces(), platform.routes(0))).await;
    let held = held.map_err(ApiError::internal)?;
    // Without a table there are no gateways to be shown.
    let table = table.unwrap_or_default();
    let gateway = |name: &str, inet6: bool| -> Option<IpAddr> {
        let defaults = table.iter().filter(|route| route.destination == "default" && route.inet6 == inet6);
        let default = defaults.into_iter().find(|route| route.interface == name)?;
        default.gateway.split('%').next()?.parse().ok()
    };
    let stored = &call.app.store.snapshot().config;
    let shown = held.iter().filter(|held| !begins_with(&held.name, &["pflog", "pfsync", "enc"]));
    let rows: Vec<InterfaceDetail> = shown
        .map(|held| {
            let (inet, inet6) = addresses(held);
            let addressing = network::settings(stored, &held.name);
            InterfaceDetail {
                name: held.name.clone(),
                status: status(held.up),
                mtu: if held.mtu == 0 { 1500 } else { held.mtu },
                mac: held.mac.clone(),
                media: held.media.clone(),
                description: held.description.clone(),
                ipv4: inet.map(|net| net.addr()),
                ipv4_netmask: inet.and_then(|net| match net.netmask() {
                    IpAddr::V4(mask) => Some(format!("{:#010x}", u32::from(mask))),
                    IpAddr::V6(_) => None,
                }),
                ipv4_prefix: inet.map(|net| net.prefix_len()),
                ipv6: inet6.map(|net| net.addr()),
                ipv6_prefix: inet6.map(|net| net.prefix_len()),
                addresses: held.addresses.clone(),
                link: held.link.map(|link| if link { "active" } else { "no carrier" }),
                is_vlan: held.vlan.is_some(),
                vlan_id: held.vlan.as_ref().map(|vlan| vlan.tag),
                vlan_parent: held.vlan.as_ref().map(|vlan| vlan.parent.clone()),
                bytes_in: held.bytes_in,
                bytes_out: held.bytes_out,
                packets_in: held.packets_in,
                packets_out: held.packets_out,
                errors_in: held.errors_in,
                errors_out: held.errors_out,
                gateway: gateway(&held.name, false),
                ipv6_gateway: gateway(&held.name, true),
                ipv4_mode: addressing.as_ref().and_then(inet_mode),
                ipv6_mode: addressing.as_ref().and_then(inet6_mode),
                role: network::role_of(stored, &held.name),
            }
        })
        .collect();
    Ok(Reply::data(&rows))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct InterfaceStats {
    name: String,
    bytes_in: u64,
    bytes_out: u64,
    packets_in: u64,
    packets_out: u64,
    errors_in: u64,
    errors_out: u64,
}

async fn stats(call: Call) -> Result<Reply, ApiError> {
    let (_, held) = named(&call).await?;
    Ok(Reply::data(&InterfaceStats {
        name: held.name,
        bytes_in: held.bytes_in,
        bytes_out: held.bytes_out,
        packets_in: held.packets_in,
        packets_out: held.packets_out,
        errors_in: held.errors_in,
        errors_out: held.errors_out,
    }))
}

/// The same keys as a request has.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InterfaceConfig {
    #[schemars(with = "String")]
    name: InterfaceName,
    /// `dhcp`, `static` or `none`.
    ipv4_mode: &'static str,
    ipv4_address: Option<String>,
    gateway: Option<String>,
    /// `slaac`, `static` or `none`.
    ipv6_mode: &'static str,
    ipv6_address: Option<String>,
    ipv6_gateway: Option<String>,
    mtu: u32,
    enabled: bool,
    description: Option<String>,
}

/// What an interface that nobody has configured has: what is put in its place must keep the rest.
fn as_it_is(held: &Interface) -> Addressing {
    let (inet, inet6) = addresses(held);
    Addressing {
        enabled: held.up,
        mtu: None,
        inet: match inet {
            Some(IpNet::V4(own)) => Inet::Static(own),
            _ => Inet::None,
        },
        inet6: match inet6 {
            Some(IpNet::V6(own)) => Inet6::Static(own),
            _ => Inet6::None,
        },
        description: held.description.clone(),
        ..Addressing::default()
    }
}

async fn config(call: Call) -> Result<Reply, ApiError> {
    let (name, held) = named(&call).await?;
    let stored = network::settings(&call.app.store.snapshot().config, name.as_str());
    let addressing = stored.unwrap_or_else(|| as_it_is(&held));
    let (inet, inet6) = addresses(&held);
    let shown = |own: Option<IpNet>| own.map(|own| own.to_string());
    Ok(Reply::data(&InterfaceConfig {
        ipv4_mode: inet_mode(&addressing).unwrap_or("none"),
        // What a server has given is what there is to see.
        ipv4_address: match addressing.inet {
            Inet::None => None,
            Inet::Dhcp => shown(inet),
            Inet::Static(own) => Some(own.to_string()),
        },
        gateway: addressing.gateway.map(|gateway| gateway.to_string()),
        ipv6_mode: inet6_mode(&addressing).unwrap_or("none"),
        ipv6_address: match addressing.inet6 {
            Inet6::None => None,
            Inet6::Slaac => shown(inet6),
            Inet6::Static(own) => Some(own.to_string()),
        },
        ipv6_gateway: addressing.gateway6.map(|gateway| gateway.to_string()),
        mtu: addressing.mtu.map_or(held.mtu, u32::from),
        enabled: addressing.enabled,
        description: addressing.description,
        name,
    }))
}

/// Gives an interface, or the VLAN whose device it is, its settings.
fn put(config: &mut Config, name: &InterfaceName, addressing: &Addressing) {
    let vlan = config.vlans.iter().find(|vlan| vlan.device == *name).cloned();
    match vlan {
        Some(vlan) => {
            let mut vlan = (*vlan).clone();
            vlan.addressing = addressing.clone();
            config.vlans.insert(vlan);
        }
        None => {
            let row = InterfaceSettings { name: name.clone(), addressing: addressing.clone() };
            config.interfaces.insert(row);
        }
    }
}

/// What was changed, in words.
fn changes(before: &Addressing, after: &Addressing) -> Vec<String> {
    let mut words = Vec::new();
    if before.enabled != after.enabled {
        words.push(if after.enabled { "enabled" } else { "disabled" }.to_owned());
    }
    if before.mtu != after.mtu {
        words.extend(after.mtu.map(|mtu| format!("mtu {mtu}")));
    }
    if before.inet != after.inet {
        words.push(match after.inet {
            Inet::None => "no IPv4 address".into(),
            Inet::Dhcp => "IPv4 by DHCP".into(),
            Inet::Static(own) => format!("IPv4 {own}"),
        });
    }
    if before.gateway != after.gateway {
        words.push(after.gateway.map_or("no gateway".into(), |gateway| format!("gateway {gateway}")));
    }
    if before.inet6 != after.inet6 {
        words.push(match after.inet6 {
            Inet6::None => "no IPv6 address".into(),
            Inet6::Slaac => "IPv6 from routers".into(),
            Inet6::Static(own) => format!("IPv6 {own}"),
        });
    }
    if before.gateway6 != after.gateway6 {
        words.push(after.gateway6.map_or("no IPv6 gateway".into(), |own| format!("IPv6 gateway {own}")));
    }
    if before.description != after.description {
        words.push(after.description.as_ref().map_or("no description".into(), |_| "description".into()));
    }
    words
}

/// What a change leaves behind that its author should know.
fn remarks(config: &Config, name: &InterfaceName, before: &Addressing, after: &Addressing) -> Vec<String> {
    let mut remarks = Vec::new();
    for (gateway, what) in [
        (after.gateway.map(IpAddr::V4), "default route"),
        (after.gateway6.map(IpAddr::V6), "IPv6 default route"),
    ] {
        let Some(gateway) = gateway.filter(|_| after.enabled) else { continue };
        let everywhere = compiled::everywhere(gateway);
        let settings = compiled::settings(config);
        let default = settings.routes.iter().find(|route| route.fib == 0 && route.destination == everywhere);
        let own = default.is_some_and(|route| route.gateway == gateway);
        if !own {
            let holder =
                default.and_then(|route| route.interface.clone()).or_else(|| settings.dhcp().next().cloned());
            let holder = holder.map_or("as it is".into(), |holder| format!("with {holder}"));
            remarks.push(format!("the {what} stays {holder}"));
        }
    }
    if let Inet::Static(old) = before.inet
        && before.inet != after.inet
    {
        let still = |net: &Ipv4Net| matches!(after.inet, Inet::Static(new) if new.contains(net));
        let scopes = config.dhcp_subnets.iter().filter_map(|subnet| subnet.network.parse::<Ipv4Net>().ok());
        let left = scopes.filter(|net| old.contains(net) && !still(net));
        remarks.extend(left.map(|net| format!("DHCP still serves {net}, which {name} is not in any more")));
    }
    remarks
}

async fn configure(call: Call) -> Result<Reply, ApiError> {
    let request: InterfaceRequest = call.json()?;
    let safety = Safety::new(request.confirm, request.commit_confirm, request.confirm_timeout);
    safety.check()?;
    let (name, held) = named(&call).await?;
    if begins_with(name.as_str(), &["lo", "pflog", "enc", "pfsync"]) {
        return Err(ApiError::bad_request(format!(
            "name: expected an interface that packets pass, not {name}"
        )));
    }
    let snapshot = call.app.store.snapshot();
    let stored = network::settings(&snapshot.config, name.as_str());
    let before = stored.clone().unwrap_or_else(|| as_it_is(&held));
    let after = request.addressing(&before, &held.addresses)?;
    after.check_against(&snapshot.config, name.as_str())?;
    fits_parent(&call, &held, &after).await?;
    let author = call.author();
    let mut words = changes(&before, &after);
    let (by, told, done) = (author.clone(), name.clone(), words.join(", "));
    let window = format!("interface {name}");
    let (own, wanted) = (name.clone(), after.clone());
    let report = call.app.applier.set_network(
        &author,
        admin(&call, request.confirm || request.commit_confirm),
        Subject { interface: name.to_string(), verdict: must_be_taken },
        move |draft: &mut Draft| {
            safety.open_window(draft, &by, &window)?;
            let done = if done.is_empty() { "as it was" } else { &done };
            Ok::<_, ApiError>(config_changed(&by, format!("interface {told} configured: {done}")))
        },
        move |config| {
            wanted.check_against(config, own.as_str()).map_err(|refusal: Refusal| ApiError::from(refusal))?;
            put(config, &own, &wanted);
            Ok(())
        },
    );
    report.await?;
    words.extend(remarks(&call.app.store.snapshot().applied, &name, &before, &after));
    let done = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
    Ok(Reply::message(format!("Interface {name} configured{done}")))
}

/// A VLAN carries no larger packets than its parent.
async fn fits_parent(call: &Call, held: &Interface, wanted: &Addressing) -> Result<(), ApiError> {
    let (Some(vlan), Some(mtu)) = (&held.vlan, wanted.mtu) else { return Ok(()) };
    let parent = machine(call).await?.into_iter().find(|parent| parent.name == vlan.parent);
    match parent.filter(|parent| parent.mtu > 0 && u32::from(mtu) > parent.mtu) {
        Some(parent) => Err(ApiError::bad_request(format!(
            "mtu: expected at most {}, which {} has",
            parent.mtu, parent.name
        ))),
        None => Ok(()),
    }
}
