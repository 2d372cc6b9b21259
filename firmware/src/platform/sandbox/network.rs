//! The simulated kernel's network: what configuring does to interfaces, VLANs and routing tables, with the kernel's own
//! refusals. Pure; the sandbox holds one, and records in its state directory what it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::compile::os::network::{InterfaceSetting, NetworkSettings, RouteSetting, everywhere};
use crate::config::route::destination_text;
use crate::platform::{Interface, KernelRoute, NetworkReport, NetworkStep, VlanTag};

/// As many routing tables as the appliance boots with (contract/console.md §4).
pub const FIBS: u32 = 16;

/// Networks of servers that nobody has set up: a simulated DHCP server and router gives the second address, and is the
/// first (documentation and benchmark networks, RFC 5737 and RFC 2544).
const GIVEN: [&str; 5] = ["203.0.113", "198.51.100", "192.0.2", "198.18.0", "198.19.0"];

/// Interfaces and routes.
#[derive(Debug, Default)]
pub struct Network {
    pub interfaces: Vec<Interface>,
    /// Devices that were made here, which may be destroyed.
    made: BTreeSet<String>,
    routes: Vec<RouteSetting>,
    /// Default routes that a DHCP server or a router told, with the interface.
    told: Vec<(IpAddr, String)>,
    /// Interfaces in the order in which they asked a server first: each always gets the same address.
    clients: Vec<String>,
    configured: bool,
}

impl Network {
    /// A machine with these interfaces and no routes.
    pub fn of(interfaces: Vec<Interface>) -> Self {
        Self { interfaces, ..Self::default() }
    }

    /// Whether it was ever told what to be.
    pub fn is_configured(&self) -> bool {
        self.configured
    }

    /// What a server gives an interface.
    fn given(&mut self, name: &str) -> (IpNet, IpAddr) {
        let at = self.clients.iter().position(|client| client == name).unwrap_or_else(|| {
            self.clients.push(name.to_owned());
            self.clients.len() - 1
        });
        let net = GIVEN.get(at % GIVEN.len()).copied().unwrap_or("203.0.113");
        let own =
            format!("{net}.2/24").parse().unwrap_or_else(|_| IpNet::from(IpAddr::from([203, 0, 113, 2])));
        (own, format!("{net}.1").parse().unwrap_or_else(|_| IpAddr::from([203, 0, 113, 1])))
    }

    fn interface(&mut self, name: &str) -> Option<&mut Interface> {
        self.interfaces.iter_mut().find(|interface| interface.name == name)
    }

    /// The interface in whose network an address lies.
    fn towards(&self, ip: IpAddr) -> Option<&Interface> {
        let up = self.interfaces.iter().filter(|interface| interface.up);
        up.filter(|interface| interface.addresses.iter().any(|own| own.contains(&ip))).max_by_key(
            |interface| {
                let holding = interface.addresses.iter().filter(|own| own.contains(&ip));
                holding.map(IpNet::prefix_len).max()
            },
        )
    }

    /// Brings the machine to the settings, as a kernel would: what cannot be is refused in its words.
    pub fn configure(&mut self, settings: &NetworkSettings) -> NetworkReport {
        let mut report = NetworkReport::default();
        let mut done = |what: String, interface: Option<&str>, outcome: Result<bool, String>| {
            let problem = match outcome {
                Ok(false) => return,
                Ok(true) => None,
                Err(problem) => Some(problem),
            };
            report.steps.push(NetworkStep { what, interface: interface.map(str::to_owned), problem });
        };
        self.destroy_vlans(settings, &mut done);
        self.make_vlans(settings, &mut done);
        self.told.clear();
        self.configured = true;
        for wanted in &settings.interfaces {
            let name = wanted.name.as_str();
            let changed = self.configure_interface(wanted);
            done(format!("{name}: {}", shown(wanted)), Some(name), changed);
        }
        let before = std::mem::take(&mut self.routes);
        for route in &settings.routes {
            let what = format!("route to {} through {}", destination_text(&route.destination), route.gateway);
            let interface = route.interface.as_ref().map(|name| name.as_str());
            let outcome = self.add_route(route).map(|()| !before.contains(route));
            done(what, interface, outcome);
        }
        for gone in before.iter().filter(|route| !settings.routes.contains(route)) {
            done(format!("route to {} removed", destination_text(&gone.destination)), None, Ok(true));
        }
        report
    }

    fn destroy_vlans(
        &mut self,
        settings: &NetworkSettings,
        done: &mut impl FnMut(String, Option<&str>, Result<bool, String>),
    ) {
        let kept = |interface: &Interface, made: &BTreeSet<String>| {
            !made.contains(&interface.name)
                || settings.vlans.iter().any(|vlan| {
                    let tag = VlanTag { tag: vlan.tag, parent: vlan.parent.to_string() };
                    vlan.device.as_str() == interface.name && interface.vlan.as_ref() == Some(&tag)
                })
        };
        let made = self.made.clone();
        let gone: Vec<String> = self
            .interfaces
            .iter()
            .filter(|interface| !kept(interface, &made))
            .map(|interface| interface.name.clone())
            .collect();
        self.interfaces.retain(|interface| kept(interface, &made));
        for name in gone {
            self.made.remove(&name);
            done(format!("{name} destroyed"), Some(&name), Ok(true));
        }
    }

    fn make_vlans(
        &mut self,
        settings: &NetworkSettings,
        done: &mut impl FnMut(String, Option<&str>, Result<bool, String>),
    ) {
        for vlan in &settings.vlans {
            let name = vlan.device.as_str();
            if self.interface(name).is_some() {
                continue;
            }
            let parent = self.interface(vlan.parent.as_str()).map(|parent| (parent.mac.clone(), parent.mtu));
            let outcome = match parent {
                None => Err(format!("interface {} does not exist", vlan.parent)),
                Some((mac, mtu)) => {
                    self.made.insert(name.to_owned());
                    self.interfaces.push(Interface {
                        name: name.to_owned(),
                        mac,
                        mtu,
                        vlan: Some(VlanTag { tag: vlan.tag, parent: vlan.parent.to_string() }),
                        ..Interface::default()
                    });
                    Ok(true)
                }
            };
            done(format!("{name} created on {}", vlan.parent), Some(name), outcome);
        }
    }

    /// Whether something has changed.
    fn configure_interface(&mut self, wanted: &InterfaceSetting) -> Result<bool, String> {
        let name = wanted.name.as_str();
        let missing = || format!("interface {name} does not exist");
        let present = self.interface(name).cloned().ok_or_else(missing)?;
        let parent_mtu = present.vlan.as_ref().and_then(|vlan| Some(self.interface(&vlan.parent)?.mtu));
        let mtu = wanted.mtu.map_or(present.mtu, u32::from);
        if parent_mtu.is_some_and(|parent| mtu > parent) {
            return Err("ioctl SIOCSIFMTU (set mtu): Invalid argument".into());
        }
        let mut addresses: Vec<IpNet> = wanted.inet.map(IpNet::V4).into_iter().collect();
        if wanted.dhcp && wanted.up {
            let (own, gateway) = self.given(name);
            addresses.push(own);
            self.told.push((gateway, name.to_owned()));
        }
        addresses.extend(wanted.inet6.map(IpNet::V6));
        if wanted.slaac && wanted.up {
            let number = self.interfaces.iter().position(|interface| interface.name == name).unwrap_or(0);
            addresses.extend(format!("2001:db8:{number:x}::2/64").parse::<IpNet>());
            self.told.extend("fe80::1".parse().ok().map(|gateway| (gateway, name.to_owned())));
        }
        let interface = self.interface(name).ok_or_else(missing)?;
        let changed = Interface {
            up: wanted.up,
            link: present.link.map(|_| true),
            mtu,
            addresses,
            description: wanted.description.clone(),
            ..present.clone()
        };
        let differs = changed != present;
        *interface = changed;
        Ok(differs)
    }

    fn add_route(&mut self, route: &RouteSetting) -> Result<(), String> {
        let named = route.interface.as_ref().map(|name| name.as_str());
        if let Some(name) = named.filter(|name| self.interfaces.iter().all(|known| known.name != *name)) {
            return Err(format!("interface {name} does not exist"));
        }
        let link_local = matches!(route.gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let reachable = match named {
            Some(name) if link_local => self.interfaces.iter().any(|known| known.name == name && known.up),
            Some(name) => self.interfaces.iter().any(|known| {
                known.name == name
                    && known.up
                    && known.addresses.iter().any(|own| own.contains(&route.gateway))
            }),
            None => self.towards(route.gateway).is_some(),
        };
        if !reachable {
            return Err("Network is unreachable".into());
        }
        self.routes.push(route.clone());
        Ok(())
    }

    /// Where everything goes that is on no link: as configured, else as it was told.
    pub fn default_gateway(&self) -> Option<IpAddr> {
        let fixed = self
            .routes
            .iter()
            .find(|route| route.fib == 0 && route.destination.prefix_len() == 0 && route.gateway.is_ipv4());
        let told = self.told.iter().map(|(gateway, _)| *gateway).find(IpAddr::is_ipv4);
        fixed.map(|route| route.gateway).or(told)
    }

    /// One routing table, in netstat(1)'s words: routes, then what is on a link.
    pub fn table(&self, fib: u32) -> Vec<KernelRoute> {
        let mut table = Vec::new();
        let mut have = BTreeMap::new();
        for route in self.routes.iter().filter(|route| route.fib == fib) {
            let through = route.interface.as_ref().map(ToString::to_string);
            let through = through.or_else(|| self.towards(route.gateway).map(|known| known.name.clone()));
            have.insert(route.destination, ());
            table.push(line(
                &route.destination,
                route.gateway.to_string(),
                "UGS1",
                through.unwrap_or_default(),
            ));
        }
        if fib == 0 {
            for (gateway, name) in &self.told {
                if have.insert(everywhere(*gateway), ()).is_none() {
                    table.push(line(&everywhere(*gateway), gateway.to_string(), "UGS", name.clone()));
                }
            }
            for (number, interface) in self.interfaces.iter().enumerate().filter(|(_, known)| known.up) {
                let link = format!("link#{}", number + 1);
                for own in &interface.addresses {
                    table.push(line(&own.trunc(), link.clone(), "U", interface.name.clone()));
                }
            }
        }
        table.sort_by_key(|route| route.inet6);
        table
    }
}

fn line(destination: &IpNet, gateway: String, flags: &str, interface: String) -> KernelRoute {
    KernelRoute {
        destination: destination_text(destination),
        gateway,
        flags: flags.into(),
        interface,
        inet6: destination.addr().is_ipv6(),
    }
}

/// What an interface is brought to, in words.
fn shown(wanted: &InterfaceSetting) -> String {
    let mut words = vec![if wanted.up { "up".to_owned() } else { "down".to_owned() }];
    words.extend(wanted.mtu.map(|mtu| format!("mtu {mtu}")));
    words.extend(wanted.inet.map(|own| own.to_string()));
    words.extend(wanted.dhcp.then(|| "DHCP".to_owned()));
    words.extend(wanted.inet6.map(|own| own.to_string()));
    words.extend(wanted.slaac.then(|| "SLAAC".to_owned()));
    words.join(", ")
}
