//! What dhclient(8) and rtsold(8) learn from the network. They run `network-script`, which runs `aifw network-event`:
//! it writes what it was told into a file per interface, and says so on a socket; [`super::configure`] reads the files.
//! So the firmware alone touches addresses, routes and resolv.conf(5), and what was learned outlives its restart.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::config::InterfaceName;

/// Below the system's root; memory-backed.
pub const DIRECTORY: &str = "/var/run/aifw/network";
/// The socket in it.
pub const SOCKET: &str = "event.sock";
/// The script in it.
pub const SCRIPT: &str = "network-script";
/// How long the script waits until what it told is in force.
const WAIT: Duration = Duration::from_secs(20);

/// What a DHCP server has given to an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Net,
    /// Routes that it told, the default route among them (RFC 2132 §3.5, RFC 3442). A gateway of 0.0.0.0 means that
    /// the destination is on the link.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    pub name_servers: Vec<Ipv4Addr>,
    /// Seconds since 1970.
    pub expires: u64,
}

/// What became known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Lease(Lease),
    /// The address is not ours any more.
    LeaseLost,
    /// Name servers that a router advertises (RFC 8106); may be none.
    NameServers(Vec<IpAddr>),
    /// Nothing that matters here.
    Other,
}

/// Why what the script was run with is no event.
#[derive(Debug, thiserror::Error)]
pub enum BadEvent {
    #[error("expected to be run by dhclient(8) or rtsold(8)")]
    NoCaller,
    #[error("interface: {0}")]
    Interface(#[from] crate::config::BadValue),
    #[error("{0}: expected an address")]
    Address(&'static str),
}

const EVERYWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);

fn addresses<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `24 192 0 2 10 0 0 1 0 10 0 0 2`: prefix length, its significant octets, the gateway (RFC 3442).
fn classless(text: &str) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let octets: Vec<u8> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let mut routes = Vec::new();
    let mut left = octets.as_slice();
    while let Some((&length, rest)) = left.split_first() {
        let significant = usize::from(length).div_ceil(8);
        if length > 32 || rest.len() < significant + 4 {
            break;
        }
        let (net, rest) = rest.split_at(significant);
        let (gateway, rest) = rest.split_at(4);
        left = rest;
        let mut address = [0; 4];
        address[..significant].copy_from_slice(net);
        let gateway = <[u8; 4]>::try_from(gateway).map(Ipv4Addr::from);
        if let (Ok(net), Ok(gateway)) = (Ipv4Net::new(address.into(), length), gateway) {
            routes.push((net.trunc(), gateway));
        }
    }
    routes
}

impl Lease {
    /// From the variables that dhclient(8) gives its script (dhclient-script(8)).
    fn read(told: &impl Fn(&str) -> Option<String>) -> Result<Self, BadEvent> {
        let text = |name: &str| told(&format!("new_{name}")).unwrap_or_default();
        let address: Ipv4Addr =
            text("ip_address").parse().map_err(|_| BadEvent::Address("new_ip_address"))?;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(BadEvent::Address("new_ip_address"));
        }
        let mask: Option<Ipv4Addr> = text("subnet_mask").parse().ok();
        let address = mask.and_then(|mask| Ipv4Net::with_netmask(address, mask).ok());
        let address = address.ok_or(BadEvent::Address("new_subnet_mask"))?;
        // Who tells classless routes means those alone.
        let mut routes = classless(&text("classless_routes"));
        if routes.is_empty() {
            routes.extend(addresses(&text("routers")).first().map(|gateway| (EVERYWHERE, *gateway)));
        }
        let name_servers = addresses(&text("domain_name_servers"));
        let expires = text("expiry").parse().unwrap_or(u64::MAX);
        Ok(Self { address, routes, name_servers, expires })
    }
}

/// What the script's arguments, its environment and its input say.
pub fn read(
    arguments: &[String],
    told: impl Fn(&str) -> Option<String>,
    input: &mut dyn Read,
) -> Result<(InterfaceName, Event), BadEvent> {
    // rtsold: -a em0:slaac < resolv.conf(5) lines, or -d em0:slaac.
    if let [flag, slot] = arguments {
        let name = InterfaceName::new(slot.split(':').next().unwrap_or_default())?;
        let mut text = String::new();
        if flag == "-a" {
            // What could not be read is not known.
            input.take(65536).read_to_string(&mut text).ok();
        }
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver "));
        let servers = lines.filter_map(|server| server.trim().parse().ok()).collect();
        return Ok((name, Event::NameServers(servers)));
    }
    let (Some(reason), Some(interface)) = (told("reason"), told("interface")) else {
        return Err(BadEvent::NoCaller);
    };
    let event = match reason.as_str() {
        "BOUND" | "RENEW" | "REBIND" | "REBOOT" | "TIMEOUT" => Event::Lease(Lease::read(&told)?),
        "EXPIRE" | "FAIL" => Event::LeaseLost,
        _ => Event::Other,
    };
    Ok((InterfaceName::new(&interface)?, event))
}

/// Files of one interface.
fn lease_file(directory: &Path, interface: &str) -> PathBuf {
    directory.join(format!("{interface}.lease"))
}
fn servers_file(directory: &Path, interface: &str) -> PathBuf {
    directory.join(format!("{interface}.servers"))
}

fn forget(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes an event down, and returns when the firmware has acted on it. One that is not there reads it when it starts.
pub fn report(directory: &Path, interface: &InterfaceName, event: &Event) -> io::Result<()> {
    let name = interface.as_str();
    match event {
        Event::Other => return Ok(()),
        Event::Lease(lease) => {
            let text = serde_json::to_vec(lease).map_err(io::Error::other)?;
            atomic::write_if_different(&lease_file(directory, name), &text, 0o644)?;
        }
        Event::LeaseLost => forget(&lease_file(directory, name))?,
        Event::NameServers(servers) if servers.is_empty() => forget(&servers_file(directory, name))?,
        Event::NameServers(servers) => {
            let text: String = servers.iter().map(|server| format!("{server}\n")).collect();
            atomic::write_if_different(&servers_file(directory, name), text.as_bytes(), 0o644)?;
        }
    }
    let Ok(mut socket) = UnixStream::connect(directory.join(SOCKET)) else { return Ok(()) };
    socket.set_read_timeout(Some(WAIT))?;
    // Its end says that it is done; how it ends does not matter.
    socket.read_to_end(&mut Vec::new()).ok();
    Ok(())
}

/// Drops what was learned for interfaces that no longer ask: it would count again when they do.
pub fn keep_only(directory: &Path, dhcp: &[String], slaac: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let stale = match path.extension().and_then(|kind| kind.to_str()) {
            Some("lease") => !dhcp.contains(&name),
            Some("servers") => !slaac.contains(&name),
            _ => false,
        };
        if stale {
            forget(&path)?;
        }
    }
    Ok(())
}

/// What is known of interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub leases: BTreeMap<String, Lease>,
    pub name_servers: BTreeMap<String, Vec<IpAddr>>,
}

impl Known {
    /// Of these interfaces; leases that have run out are none.
    pub fn read<'a>(
        directory: &Path,
        dhcp: impl Iterator<Item = &'a InterfaceName>,
        slaac: impl Iterator<Item = &'a InterfaceName>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let lease = |name: &InterfaceName| -> Option<(String, Lease)> {
            let bytes = std::fs::read(lease_file(directory, name.as_str())).ok()?;
            let lease: Lease = serde_json::from_slice(&bytes).ok()?;
            (lease.expires > now).then(|| (name.to_string(), lease))
        };
        let servers = |name: &InterfaceName| -> Option<(String, Vec<IpAddr>)> {
            let text = std::fs::read_to_string(servers_file(directory, name.as_str())).ok()?;
            Some((name.to_string(), addresses(&text)))
        };
        Self { leases: dhcp.filter_map(lease).collect(), name_servers: slaac.filter_map(servers).collect() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from_dhclient(variables: &[(&str, &str)]) -> Result<(InterfaceName, Event), BadEvent> {
        let told = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        read(&[], told, &mut io::empty())
    }

    #[test]
    fn a_lease_is_read_from_the_variables_of_dhclient() {
        // As the server of QEMU's user network answers (shared/freebsd-15.1/dhclient-leases.txt).
        let bound = [
            ("interface", "vtnet0"),
            ("reason", "BOUND"),
            ("new_ip_address", "10.0.2.15"),
            ("new_subnet_mask", "255.255.255.0"),
            ("new_routers", "10.0.2.2"),
            ("new_domain_name_servers", "10.0.2.3 10.0.2.4"),
            ("new_expiry", "1795557733"),
        ];
        let (name, event) = from_dhclient(&bound).unwrap();
        let Event::Lease(lease) = event else { panic!("{event:?}") };
        assert_eq!((name.as_str(), lease.address.to_string().as_str()), ("vtnet0", "10.0.2.15/24"));
        assert_eq!(lease.routes, [(EVERYWHERE, Ipv4Addr::new(10, 0, 2, 2))]);
        assert_eq!((lease.name_servers.len(), lease.expires), (2, 1_795_557_733));
        assert_eq!(from_dhclient(&[("interface", "em0"), ("reason", "EXPIRE")]).unwrap().1, Event::LeaseLost);
        assert_eq!(from_dhclient(&[("interface", "em0"), ("reason", "PREINIT")]).unwrap().1, Event::Other);
    }

    #[test]
    fn what_a_server_cannot_mean_is_refused() {
        for (variables, expected) in [
            (vec![], "expected to be run by dhclient(8) or rtsold(8)"),
            (vec![("interface", "em0;x"), ("reason", "FAIL")], "interface: expected"),
            (
                vec![("interface", "em0"), ("reason", "BOUND"), ("new_ip_address", "127.0.0.1")],
                "new_ip_address",
            ),
            (
                vec![("interface", "em0"), ("reason", "BOUND"), ("new_ip_address", "10.0.0.1")],
                "new_subnet_mask: expected an address",
            ),
        ] {
            let said = from_dhclient(&variables).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let routes = classless("24 192 0 2 10 0 0 1 0 10 0 0 2 8 10 0 0 0 0 33 1");
        let shown: Vec<_> = routes.iter().map(|(net, through)| format!("{net} {through}")).collect();
        assert_eq!(shown, ["192.0.2.0/24 10.0.0.1", "0.0.0.0/0 10.0.0.2", "10.0.0.0/8 0.0.0.0"]);
        let told = [
            ("interface", "em0"),
            ("reason", "REBIND"),
            ("new_ip_address", "10.0.0.9"),
            ("new_subnet_mask", "255.0.0.0"),
            ("new_routers", "10.0.0.254"),
            ("new_classless_routes", "0 10 0 0 2"),
        ];
        let Event::Lease(lease) = from_dhclient(&told).unwrap().1 else { panic!() };
        assert_eq!(lease.routes, [(EVERYWHERE, Ipv4Addr::new(10, 0, 0, 2))]);
    }

    #[test]
    fn name_servers_of_a_router_are_read_from_the_input_of_rtsold() {
        let text = b"search example.org\nnameserver 2001:db8::53\nnameserver nonsense\n";
        let arguments = ["-a".to_owned(), "em0:slaac".to_owned()];
        let (name, event) = read(&arguments, |_| None, &mut text.as_slice()).unwrap();
        assert_eq!(
            (name.as_str(), event),
            ("em0", Event::NameServers(vec!["2001:db8::53".parse().unwrap()]))
        );
        let arguments = ["-d".to_owned(), "em0:slaac".to_owned()];
        assert_eq!(read(&arguments, |_| None, &mut io::empty()).unwrap().1, Event::NameServers(Vec::new()));
    }

    #[test]
    fn what_was_told_is_known_until_it_runs_out() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["em0", "em1", "em2"].map(|name| InterfaceName::new(name).unwrap());
        let lease = |expires| Lease {
            address: "10.0.2.15/24".parse().unwrap(),
            routes: Vec::new(),
            name_servers: Vec::new(),
            expires,
        };
        report(dir.path(), &names[0], &Event::Lease(lease(u64::MAX))).unwrap();
        report(dir.path(), &names[1], &Event::Lease(lease(1_000))).unwrap();
        let servers = vec!["2001:db8::53".parse().unwrap()];
        report(dir.path(), &names[2], &Event::NameServers(servers.clone())).unwrap();
        let known = Known::read(dir.path(), names.iter(), names.iter());
        assert_eq!(known.leases.keys().collect::<Vec<_>>(), ["em0"]);
        assert_eq!(known.name_servers.get("em2"), Some(&servers));
        keep_only(dir.path(), &["em0".into()], &[]).unwrap();
        let known = Known::read(dir.path(), names.iter(), names.iter());
        assert_eq!((known.leases.len(), known.name_servers.len()), (1, 0));
        report(dir.path(), &names[0], &Event::LeaseLost).unwrap();
        report(dir.path(), &names[0], &Event::LeaseLost).unwrap();
        assert_eq!(Known::read(dir.path(), names.iter(), [].iter()), Known::default());
    }

    #[test]
    fn a_report_waits_until_it_was_acted_on() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let directory = dir.path().to_owned();
        let acting = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            // What was told is there when it is told of.
            let there = directory.join("em0.servers").exists();
            drop(socket);
            there
        });
        let event = Event::NameServers(vec!["192.0.2.53".parse().unwrap()]);
        report(dir.path(), &InterfaceName::new("em0").unwrap(), &event).unwrap();
        assert!(acting.join().unwrap());
    }
}
