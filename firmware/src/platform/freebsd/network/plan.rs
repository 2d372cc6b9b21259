//! What must be run to bring interfaces, VLANs and routes from what they are to what they should be: nothing where they
//! are so already. Pure; argument vectors of ifconfig(8) and route(8).

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::interfaces::{Address, Seen};
use crate::compile::os::network::{InterfaceSetting, NetworkSettings, RouteSetting, VlanSetting};
use crate::config::route::destination_text;
use crate::platform::{KernelRoute, VlanTag};

pub const IFCONFIG: &str = "/sbin/ifconfig";
pub const ROUTE: &str = "/sbin/route";
/// The interface group of devices that were made here, and may be destroyed (ifconfig(8), `group`).
pub const OWN: &str = "aifw";
/// How netstat(1) shows RTF_PROTO1, with which routes are marked that were made here.
const OWN_ROUTE: char = '1';

/// A tool's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// As an administrator would say it.
    pub what: String,
    pub interface: Option<String>,
    pub tool: &'static str,
    pub arguments: Vec<String>,
}

fn ifconfig(interface: &str, what: &str, arguments: &[&str]) -> Command {
    Command {
        what: format!("{interface}: {what}"),
        interface: Some(interface.to_owned()),
        tool: IFCONFIG,
        arguments: [&[interface], arguments].concat().into_iter().map(str::to_owned).collect(),
    }
}

fn find<'a>(seen: &'a [Seen], name: &str) -> Option<&'a Seen> {
    seen.iter().find(|seen| seen.interface.name == name)
}

fn is_same_vlan(seen: &Seen, wanted: &VlanSetting) -> bool {
    let tag = VlanTag { tag: wanted.tag, parent: wanted.parent.to_string() };
    seen.interface.name == wanted.device.as_str() && seen.interface.vlan.as_ref() == Some(&tag)
}

/// Devices of our own that are no longer wanted, or not with that tag and parent, go; those that are missing come.
pub fn vlans(seen: &[Seen], wanted: &[VlanSetting]) -> Vec<Command> {
    let goes = |seen: &&Seen| {
        seen.groups.iter().any(|group| group == OWN) && !wanted.iter().any(|vlan| is_same_vlan(seen, vlan))
    };
    let gone: Vec<&str> = seen.iter().filter(goes).map(|seen| seen.interface.name.as_str()).collect();
    let mut commands: Vec<Command> =
        gone.iter().map(|name| ifconfig(name, "destroyed", &["destroy"])).collect();
    for vlan in wanted {
        let name = vlan.device.as_str();
        if find(seen, name).is_some() && !gone.contains(&name) {
            continue;
        }
        let (tag, parent) = (vlan.tag.to_string(), vlan.parent.as_str());
        let what = format!("created, VLAN {tag} on {parent}");
        // A name such as em0.20 tells the kernel both (vlan(4)).
        commands.push(match name.contains('.') {
            true => ifconfig(name, &what, &["create"]),
            false => ifconfig(name, &what, &["create", "vlan", &tag, "vlandev", parent]),
        });
        commands.push(ifconfig(name, "marked as ours", &["group", OWN]));
    }
    commands
}

/// Every interface that has settings, parents before their VLANs. One that is not there is for the caller to tell.
pub fn interfaces(seen: &[Seen], wanted: &NetworkSettings) -> Vec<Command> {
    let is_vlan = |setting: &&InterfaceSetting| wanted.vlans.iter().any(|vlan| vlan.device == setting.name);
    let (vlans, plain): (Vec<_>, Vec<_>) = wanted.interfaces.iter().partition(is_vlan);
    let mut commands = Vec::new();
    for setting in plain.iter().chain(&vlans) {
        if let Some(seen) = find(seen, setting.name.as_str()) {
            interface(seen, setting, &mut commands);
        }
    }
    // A VLAN carries nothing while its parent is down; one that is told nothing else is put up for it.
    for vlan in &wanted.vlans {
        let (name, device) = (vlan.parent.as_str(), vlan.device.as_str());
        let needed = wanted.interface(device).is_some_and(|setting| setting.up);
        let down = find(seen, name).is_some_and(|parent| !parent.interface.up);
        let up = ifconfig(name, "up", &["up"]);
        if needed && down && wanted.interface(name).is_none() && !commands.contains(&up) {
            commands.push(up);
        }
    }
    commands
}

fn interface(seen: &Seen, wanted: &InterfaceSetting, commands: &mut Vec<Command>) {
    let (name, now) = (wanted.name.as_str(), &seen.interface);
    let mut run = |what: &str, arguments: &[&str]| commands.push(ifconfig(name, what, arguments));
    if !wanted.up && now.up {
        run("down", &["down"]);
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| u32::from(*mtu) != now.mtu) {
        run(&format!("mtu {mtu}"), &["mtu", &mtu.to_string()]);
    }
    match (&wanted.description, &now.description) {
        (Some(text), held) if held.as_ref() != Some(text) => {
            run(&format!("description {text}"), &["description", text]);
        }
        (None, Some(_)) => run("description removed", &["-description"]),
        _ => {}
    }
    let inet: Vec<IpNet> = wanted.inet.map(IpNet::V4).into_iter().collect();
    let own = |address: &&Address| !address.shared && address.net.addr().is_ipv4();
    addresses("inet", seen.addresses.iter().filter(own), &inet, &mut run);
    inet6(seen, wanted, &mut run);
    if wanted.up && !now.up {
        run("up", &["up"]);
    }
}

/// What is not wanted goes before what is wanted comes: the same address may come with another prefix.
fn addresses<'a>(
    family: &str,
    held: impl Iterator<Item = &'a Address> + Clone,
    wanted: &[IpNet],
    run: &mut impl FnMut(&str, &[&str]),
) {
    for gone in held.clone().filter(|held| !wanted.contains(&held.net)) {
        let (net, address) = (gone.net.to_string(), gone.net.addr().to_string());
        run(&format!("address {net} removed"), &[family, &address, "-alias"]);
    }
    for new in wanted.iter().filter(|new| held.clone().all(|held| held.net != **new)) {
        let net = new.to_string();
        run(&format!("address {net}"), &[family, &net, "alias"]);
    }
}

fn inet6(seen: &Seen, wanted: &InterfaceSetting, run: &mut impl FnMut(&str, &[&str])) {
    let used = wanted.inet6.is_some() || wanted.slaac;
    if used && (seen.has_nd6("IFDISABLED") || !seen.has_nd6("AUTO_LINKLOCAL")) {
        run("IPv6 on", &["inet6", "auto_linklocal", "-ifdisabled"]);
    }
    match (wanted.slaac, seen.has_nd6("ACCEPT_RTADV")) {
        (true, false) => run("router advertisements accepted", &["inet6", "accept_rtadv"]),
        (false, true) => run("router advertisements ignored", &["inet6", "-accept_rtadv"]),
        _ => {}
    }
    let link_local = |net: &IpNet| matches!(net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    let own = |address: &&Address| {
        let kept = address.shared || link_local(&address.net) || (wanted.slaac && address.autoconf);
        address.net.addr().is_ipv6() && !kept
    };
    let inet6: Vec<IpNet> = wanted.inet6.map(IpNet::V6).into_iter().collect();
    addresses("inet6", seen.addresses.iter().filter(own), &inet6, run);
    let shared = seen.addresses.iter().any(|held| held.shared && held.net.addr().is_ipv6());
    if !used && !shared && !seen.has_nd6("IFDISABLED") {
        run("IPv6 off", &["inet6", "ifdisabled"]);
    }
}

/// What becomes of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteStep {
    Delete(Command),
    Add(RouteSetting),
    /// It cannot be: the destination is a link's own network.
    Connected(RouteSetting, String),
}

/// `default`, a network, or a host.
fn destination_of(route: &KernelRoute) -> Option<IpNet> {
    let text = route.destination.as_str();
    match (text, route.inet6) {
        ("default", false) => "0.0.0.0/0".parse().ok(),
        ("default", true) => "::/0".parse().ok(),
        _ if text.contains('%') => None,
        _ => text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)),
    }
}

/// `192.0.2.1`, `fe80::1%em0`; none of a link.
fn gateway_of(route: &KernelRoute) -> Option<IpAddr> {
    route.gateway.split('%').next()?.parse().ok()
}

fn is_same(held: &KernelRoute, wanted: &RouteSetting) -> bool {
    let scoped = matches!(wanted.gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let through = |name: &crate::config::InterfaceName| !scoped || held.interface == name.as_str();
    destination_of(held) == Some(wanted.destination)
        && gateway_of(held) == Some(wanted.gateway)
        && wanted.interface.as_ref().is_none_or(through)
}

/// The link's own network.
fn is_connected(held: &KernelRoute) -> bool {
    held.gateway.starts_with("link#") && !held.flags.contains('S')
}

/// From one FIB's table to its wanted routes. What others have made stays, unless it is in the way.
pub fn routes(table: &[KernelRoute], fib: u32, wanted: &[&RouteSetting]) -> Vec<RouteStep> {
    let mut steps = Vec::new();
    let same = |held: &KernelRoute| wanted.iter().any(|wanted| is_same(held, wanted));
    // A host route to a gateway, on the link: made so that the gateway can be reached.
    let serves = |held: &KernelRoute| {
        let host = destination_of(held).filter(|net| net.prefix_len() == net.max_prefix_len());
        held.gateway.starts_with("link#")
            && host.is_some_and(|host| wanted.iter().any(|wanted| wanted.gateway == host.addr()))
    };
    for held in table {
        let Some(destination) = destination_of(held) else { continue };
        let own = held.flags.contains(OWN_ROUTE);
        let in_the_way = wanted.iter().any(|wanted| wanted.destination == destination) && !is_connected(held);
        if (own || in_the_way) && !same(held) && !(own && serves(held)) {
            steps.push(RouteStep::Delete(delete(fib, destination)));
        }
    }
    for route in wanted {
        if table.iter().any(|held| is_same(held, route)) {
            continue;
        }
        let link =
            table.iter().find(|held| is_connected(held) && destination_of(held) == Some(route.destination));
        steps.push(match link {
            Some(link) => RouteStep::Connected((*route).clone(), link.interface.clone()),
            None => RouteStep::Add((*route).clone()),
        });
    }
    steps
}

/// `-net 10.0.0.0/8`, `-host 10.0.0.1`, `default`, with the family before it.
fn destination(net: &IpNet) -> Vec<String> {
    let family = if net.addr().is_ipv4() { "-inet" } else { "-inet6" };
    let text = destination_text(net);
    let kind = match net.prefix_len() {
        0 => None,
        length if length == net.max_prefix_len() => Some("-host"),
        _ => Some("-net"),
    };
    [Some(family), kind, Some(&text)].into_iter().flatten().map(str::to_owned).collect()
}

fn route(what: String, interface: Option<String>, verb: &str, middle: Vec<String>, fib: u32) -> Command {
    let mut arguments = vec!["-n".to_owned(), verb.to_owned()];
    arguments.extend(middle);
    arguments.extend(["-fib".to_owned(), fib.to_string()]);
    Command { what, interface, tool: ROUTE, arguments }
}

fn named(destination: &IpNet, fib: u32) -> String {
    let text = destination_text(destination);
    if fib == 0 { format!("route to {text}") } else { format!("route to {text} in FIB {fib}") }
}

fn delete(fib: u32, net: IpNet) -> Command {
    route(format!("{} removed", named(&net, fib)), None, "delete", destination(&net), fib)
}

/// `route -n add -inet -net 10.0.0.0/8 192.0.2.1 -proto1 -fib 0`: modifiers stand behind the command (route(8)).
pub fn add(wanted: &RouteSetting) -> Command {
    let scope = match (wanted.gateway, &wanted.interface) {
        (IpAddr::V6(ip), Some(name)) if ip.is_unicast_link_local() => format!("%{name}"),
        _ => String::new(),
    };
    let mut middle = destination(&wanted.destination);
    middle.extend([format!("{}{scope}", wanted.gateway), "-proto1".into()]);
    let what = format!("{} through {}", named(&wanted.destination, wanted.fib), wanted.gateway);
    route(what, wanted.interface.as_ref().map(ToString::to_string), "add", middle, wanted.fib)
}

/// The gateway itself, on the link of an interface: needed where the FIB has no route to it, or the lease no network.
pub fn add_gateway(wanted: &RouteSetting, interface: &str) -> Command {
    let mut middle = destination(&IpNet::from(wanted.gateway));
    middle.extend(["-interface".into(), interface.to_owned(), "-proto1".into()]);
    let what = format!("{} on {interface}", named(&IpNet::from(wanted.gateway), wanted.fib));
    route(what, Some(interface.to_owned()), "add", middle, wanted.fib)
}

#[cfg(test)]
mod tests;
