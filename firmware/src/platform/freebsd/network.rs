//! The network on FreeBSD: from what ifconfig(8) and netstat(1) show to what is wanted, by what [`plan`] says must be
//! run; resolv.conf(5); and the programs that listen to the network on our behalf, dhclient(8) and rtsold(8), whose
//! findings come back through [`lease`].

pub mod lease;
mod plan;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use lease::Known;
use plan::{Command, RouteStep};

use super::FreeBsd;
use crate::atomic;
use crate::compile::os::network::{NetworkSettings, RouteSetting};
use crate::config::InterfaceName;
use crate::platform::{NetworkChild, NetworkReport, NetworkStep, PlatformError, resolv};

const SYSCTL: &str = "/sbin/sysctl";
/// Leases that dhclient(8) remembers: on the data partition, so that an address is asked for again after a boot.
const LEASES: &str = "/data/aifw/dhclient";

/// FIBs that may hold routes of ours. `None`: not looked yet, any of them may.
#[derive(Debug, Default)]
pub struct Routed(Mutex<Option<BTreeSet<u32>>>);

/// Where what is learned from the network lies.
pub fn directory(machine: &FreeBsd) -> PathBuf {
    machine.file(lease::DIRECTORY)
}

struct Job<'a> {
    machine: &'a FreeBsd,
    report: NetworkReport,
}

impl Job<'_> {
    fn note(&mut self, what: &str, interface: Option<String>, outcome: Result<bool, String>) {
        let problem = match outcome {
            Ok(false) => return,
            Ok(true) => None,
            Err(problem) => Some(problem),
        };
        self.report.steps.push(NetworkStep { what: what.to_owned(), interface, problem });
    }

    fn try_run(&self, command: &Command) -> Result<bool, String> {
        let arguments: Vec<&str> = command.arguments.iter().map(String::as_str).collect();
        match self.machine.ask(command.tool, &arguments) {
            Ok(_) => Ok(true),
            Err(PlatformError::Tool { reason, .. }) => Err(reason.replace('\n', "; ")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn run(&mut self, command: &Command) {
        let outcome = self.try_run(command);
        self.note(&command.what, command.interface.clone(), outcome);
    }

    fn interfaces(&mut self, wanted: &NetworkSettings) -> Result<(), PlatformError> {
        let mut seen = self.machine.seen()?;
        let vlans = plan::vlans(&seen, &wanted.vlans);
        vlans.iter().for_each(|command| self.run(command));
        if !vlans.is_empty() {
            seen = self.machine.seen()?;
        }
        for name in wanted.interfaces.iter().map(|setting| &setting.name) {
            if seen.iter().all(|seen| seen.interface.name != name.as_str()) {
                let what = name.to_string();
                self.note(&what, Some(what.clone()), Err("there is no such interface".into()));
            }
        }
        plan::interfaces(&seen, wanted).iter().for_each(|command| self.run(command));
        Ok(())
    }

    /// A router obeys other routers only if told so (RFC 6204, W-3).
    fn obey_routers(&mut self) {
        let name = "net.inet6.ip6.rfc6204w3";
        let machine = self.machine;
        let outcome = machine.ask(SYSCTL, &["-n", name]).and_then(|held| match held.trim() {
            "1" => Ok(false),
            _ => machine.ask(SYSCTL, &[&format!("{name}=1")]).map(|_| true),
        });
        self.note(&format!("{name}=1"), None, outcome.map_err(|error| error.to_string()));
    }

    fn routes(&mut self, wanted: &NetworkSettings) {
        let fibs = self.enough_fibs(wanted);
        let mut routed = self.machine.routed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<u32> = wanted.routes.iter().map(|route| route.fib).collect();
        let mut look = now.clone();
        look.insert(0);
        match &*routed {
            Some(before) => look.extend(before),
            None => look.extend(0..fibs),
        }
        for fib in look {
            match self.machine.table(fib) {
                Ok(table) => {
                    let of_fib: Vec<&RouteSetting> =
                        wanted.routes.iter().filter(|route| route.fib == fib).collect();
                    for step in plan::routes(&table, fib, &of_fib) {
                        self.route(step, wanted);
                    }
                }
                Err(error) => self.note(&format!("routes of FIB {fib}"), None, Err(error.to_string())),
            }
        }
        *routed = Some(now);
    }

    /// As many routing tables as routes name; they can be added while the system runs.
    fn enough_fibs(&mut self, wanted: &NetworkSettings) -> u32 {
        let held = super::fibs(self.machine);
        let needed = wanted.routes.iter().map(|route| route.fib.saturating_add(1)).max().unwrap_or(1);
        if needed <= held {
            return held;
        }
        let setting = format!("net.fibs={needed}");
        let outcome = self.machine.ask(SYSCTL, &[&setting]);
        self.note(&setting, None, outcome.map(|_| true).map_err(|error| error.to_string()));
        held
    }

    fn route(&mut self, step: RouteStep, wanted: &NetworkSettings) {
        match step {
            RouteStep::Delete(command) => self.run(&command),
            RouteStep::Connected(route, interface) => {
                let problem = format!("{interface} is connected to that network itself");
                let command = plan::add(&route);
                self.note(&command.what, command.interface, Err(problem));
            }
            RouteStep::Add(route) => {
                let command = plan::add(&route);
                let mut outcome = self.try_run(&command);
                match (&outcome, link_of(&route, wanted)) {
                    (Ok(_), _) => {}
                    (Err(_), Some(link)) => {
                        // Whether the gateway's route could be made shows in the next line.
                        self.try_run(&plan::add_gateway(&route, link.as_str())).ok();
                        outcome = self.try_run(&command);
                    }
                    // The kernel's own words are "Invalid argument".
                    (Err(reason), None) => {
                        outcome =
                            Err(format!("{} is in no network of an interface ({reason})", route.gateway));
                    }
                }
                self.note(&command.what, command.interface, outcome);
            }
        }
    }

    /// Those that are configured, else those that others have told.
    fn name_servers(&mut self, wanted: &NetworkSettings, known: &Known) {
        let mut servers: Vec<String> = wanted.name_servers.iter().map(ToString::to_string).collect();
        if servers.is_empty() {
            let leases = wanted.dhcp().filter_map(|name| known.leases.get(name.as_str()));
            servers.extend(leases.flat_map(|lease| &lease.name_servers).map(ToString::to_string));
            servers.extend(known.name_servers.values().flatten().map(ToString::to_string));
            let mut had = BTreeSet::new();
            servers.retain(|server| had.insert(server.clone()));
        }
        let path = self.machine.file("/etc/resolv.conf");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if resolv::name_server_words(&before) == servers {
            return;
        }
        let text = resolv::with_name_servers(&before, &servers);
        let outcome = atomic::write_if_different(&path, text.as_bytes(), 0o644);
        self.note("name servers", None, outcome.map_err(|error| error.to_string()));
    }
}

/// The interface on whose link a gateway is: as the route says, else by its networks.
fn link_of<'a>(route: &'a RouteSetting, wanted: &'a NetworkSettings) -> Option<&'a InterfaceName> {
    let holds = |net: Option<IpNet>| net.is_some_and(|net| net.contains(&route.gateway));
    let near = || {
        wanted
            .interfaces
            .iter()
            .find(|setting| holds(setting.inet.map(IpNet::V4)) || holds(setting.inet6.map(IpNet::V6)))
    };
    route.interface.as_ref().or_else(|| near().map(|setting| &setting.name))
}

/// The settings with what DHCP servers have given: addresses, and routes where none is configured.
fn with_leases(settings: &NetworkSettings, known: &Known) -> NetworkSettings {
    let mut wanted = settings.clone();
    for setting in wanted.interfaces.iter_mut().filter(|setting| setting.dhcp && setting.up) {
        let Some(lease) = known.leases.get(setting.name.as_str()) else { continue };
        setting.inet = Some(lease.address);
        for (net, gateway) in &lease.routes {
            let destination = IpNet::V4(*net);
            let taken = wanted.routes.iter().any(|route| route.fib == 0 && route.destination == destination);
            // A destination on the link needs no route of ours: the address's network is one.
            if !taken && !gateway.is_unspecified() {
                let interface = Some(setting.name.clone());
                wanted.routes.push(RouteSetting {
                    fib: 0,
                    destination,
                    gateway: IpAddr::V4(*gateway),
                    interface,
                });
            }
        }
    }
    wanted
}

pub fn configure(machine: &FreeBsd, settings: &NetworkSettings) -> NetworkReport {
    let mut job = Job { machine, report: NetworkReport::default() };
    let prepared = prepare(machine, settings).map_err(|error| error.to_string());
    job.note("DHCP client's files", None, prepared.map(|()| false));
    let known = Known::read(&directory(machine), settings.dhcp(), settings.slaac());
    let wanted = with_leases(settings, &known);
    if let Err(error) = job.interfaces(&wanted) {
        job.note("interfaces", None, Err(error.to_string()));
    }
    if settings.slaac().next().is_some() {
        job.obey_routers();
    }
    job.routes(&wanted);
    job.name_servers(&wanted, &known);
    job.report
}

fn config_file(directory: &Path, interface: &str) -> PathBuf {
    directory.join(format!("{interface}.dhclient.conf"))
}

/// The script, and dhclient.conf(5) of each interface that has a client.
fn prepare(machine: &FreeBsd, settings: &NetworkSettings) -> std::io::Result<()> {
    let directory = directory(machine);
    let program = machine.own.clone().map_or_else(std::env::current_exe, Ok)?;
    let script = format!(
        "#!/bin/sh\n# Run by dhclient(8) and rtsold(8): what they have learned goes to the firmware.\n\
         exec '{}' network-event --directory '{}' \"$@\"\n",
        program.display(),
        directory.display()
    );
    let path = directory.join(lease::SCRIPT);
    atomic::write_if_different(&path, script.as_bytes(), 0o755)?;
    let names = |all: &mut dyn Iterator<Item = &InterfaceName>| -> Vec<String> {
        all.map(ToString::to_string).collect()
    };
    let (dhcp, slaac) = (names(&mut settings.dhcp()), names(&mut settings.slaac()));
    lease::keep_only(&directory, &dhcp, &slaac)?;
    for name in settings.dhcp() {
        let text = format!(
            "script \"{}\";\ntimeout 30;\nretry 15;\nreboot 5;\ninitial-interval 2;\nbackoff-cutoff 15;\n",
            path.display()
        );
        atomic::write_if_different(&config_file(&directory, name.as_str()), text.as_bytes(), 0o644)?;
    }
    if settings.dhcp().next().is_some() {
        std::fs::create_dir_all(machine.file(LEASES))?;
    }
    Ok(())
}

/// dhclient(8) in the foreground for each interface that has none of its own address, rtsold(8) for each that listens
/// to routers. Base has no DHCPv6 client.
pub fn children(machine: &FreeBsd, settings: &NetworkSettings) -> Vec<NetworkChild> {
    let directory = directory(machine);
    let shown = |path: PathBuf| path.display().to_string();
    let dhclient = settings.dhcp().map(|name| {
        let name = name.as_str();
        let pid = directory.join(format!("{name}.dhclient.pid"));
        let leases = machine.file(LEASES).join(format!("{name}.leases"));
        NetworkChild {
            name: format!("dhclient {name}"),
            program: machine.program("/sbin/dhclient"),
            arguments: vec![
                "-d".into(),
                "-c".into(),
                shown(config_file(&directory, name)),
                "-l".into(),
                shown(leases),
                "-p".into(),
                shown(pid.clone()),
                name.into(),
            ],
            stale: vec![pid],
        }
    });
    let rtsold = settings.slaac().map(|name| NetworkChild {
        name: format!("rtsold {name}"),
        program: machine.program("/usr/sbin/rtsold"),
        arguments: vec!["-f".into(), "-R".into(), shown(directory.join(lease::SCRIPT)), name.to_string()],
        stale: Vec::new(),
    });
    dhclient.chain(rtsold).collect()
}

#[cfg(test)]
mod tests;
