//! The machine of a sandbox: a development host without privileges. Its interfaces are simulated, with counters
//! that the replay of captures moves; its vital signs are those of the host it runs on. It changes nothing
//! outside its state directory, and `kind` says that it is a sandbox. Made by `aifw sandbox` and by tests.

mod network;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use network::Network;

use super::hardware::{Hardware, Nic};
use super::{
    HostFacts, HostStep, Interface, KernelRoute, NetworkChild, NetworkReport, NetworkStep, Platform,
    PlatformError, Power, Scheduled, Vitals, host, system,
};
use crate::atomic;
use crate::compile::os::host::{BootMethod, HostSettings};
use crate::compile::os::network::NetworkSettings;

/// Where the sandbox notes in its state directory what its network was told to be.
pub const NETWORK_RECORD: &str = "network.json";

/// Told of the interfaces and the default gateway after each change.
type OnChange = Box<dyn Fn(&[Interface], Option<IpAddr>) + Send + Sync>;

/// Simulated interfaces on a real host.
pub struct Sandbox {
    state_dir: PathBuf,
    network: RwLock<Network>,
    on_change: RwLock<Option<OnChange>>,
    /// Empty = the host's.
    hostname: RwLock<String>,
    default_gateway: RwLock<Option<IpAddr>>,
    /// What was asked for, and when it happens.
    power_due: RwLock<Option<(Power, SystemTime)>>,
}

impl Sandbox {
    /// A sandbox with the default interfaces: `em0`, the WAN side, 203.0.113.2/24, and `em1`, the LAN side,
    /// 192.168.1.1/24. `state_dir` need not exist yet.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            network: RwLock::new(Network::of(default_interfaces())),
            on_change: RwLock::default(),
            hostname: RwLock::default(),
            default_gateway: RwLock::default(),
            power_due: RwLock::default(),
        }
    }

    /// Where the simulated machine sends what is on none of its links; before, the host's own is told.
    pub fn set_default_gateway(&self, gateway: Option<IpAddr>) {
        *self.default_gateway.write().unwrap_or_else(PoisonError::into_inner) = gateway;
    }

    /// The name that this machine goes by from now on; the host keeps its own.
    pub fn set_hostname(&self, name: &str) {
        *self.hostname.write().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    }

    /// The restart, or the end, that was asked for and is due.
    pub fn power_due(&self) -> Option<Power> {
        let held = *self.power_due.read().unwrap_or_else(PoisonError::into_inner);
        held.filter(|(_, due)| *due <= SystemTime::now()).map(|(power, _)| power)
    }

    /// Where OS changes of this sandbox are recorded.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn network(&self) -> RwLockReadGuard<'_, Network> {
        self.network.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn network_mut(&self) -> RwLockWriteGuard<'_, Network> {
        self.network.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all interfaces. An interface that keeps its name keeps its counters.
    pub fn set_interfaces(&self, mut interfaces: Vec<Interface>) {
        let mut network = self.network_mut();
        for new in &mut interfaces {
            if let Some(old) = network.interfaces.iter().find(|old| old.name == new.name) {
                new.packets_in += old.packets_in;
                new.packets_out += old.packets_out;
                new.bytes_in += old.bytes_in;
                new.bytes_out += old.bytes_out;
            }
        }
        network.interfaces = interfaces;
    }

    /// Has this told of the interfaces and the default gateway after each change that configuring makes.
    pub fn when_changed(&self, tell: impl Fn(&[Interface], Option<IpAddr>) + Send + Sync + 'static) {
        *self.on_change.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
    }

    /// The simulated default gateway as far as configuring has made one.
    fn gateway(&self, network: &Network) -> Option<IpAddr> {
        let held = *self.default_gateway.read().unwrap_or_else(PoisonError::into_inner);
        if network.is_configured() { network.default_gateway() } else { held }
    }

    /// Writes down what the network was told to be; nothing of it leaves the state directory.
    fn record(&self, settings: &NetworkSettings) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(settings).map_err(std::io::Error::other)?;
        atomic::write_if_different(&self.state_dir.join(NETWORK_RECORD), &text, 0o644).map(|_| ())
    }

    /// Adds traffic to an interface's counters; traffic of an interface that is not there is not counted.
    /// Takes a read-modify-write lock: a replay hands over sums of a batch, not every packet.
    pub fn count(&self, interface: &str, inbound: bool, packets: u64, bytes: u64) {
        let mut network = self.network_mut();
        if let Some(interface) = network.interfaces.iter_mut().find(|held| held.name == interface) {
            let (packet_sum, byte_sum) = if inbound {
                (&mut interface.packets_in, &mut interface.bytes_in)
            } else {
                (&mut interface.packets_out, &mut interface.bytes_out)
            };
            *packet_sum += packets;
            *byte_sum += bytes;
        }
    }
}

/// WAN in a documentation network (RFC 5737), LAN in a private one (RFC 1918); locally administered MACs.
fn default_interfaces() -> Vec<Interface> {
    let interface = |name: &str, mac: &str, network: &str| Interface {
        name: name.into(),
        mac: Some(mac.into()),
        up: true,
        link: Some(true),
        mtu: 1500,
        media: Some("Ethernet autoselect (1000baseT <full-duplex>)".into()),
        addresses: network.parse::<IpNet>().into_iter().collect(),
        ..Interface::default()
    };
    vec![
        interface("em0", "02:00:00:00:00:01", "203.0.113.2/24"),
        interface("em1", "02:00:00:00:00:02", "192.168.1.1/24"),
    ]
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

impl Platform for Sandbox {
    fn kind(&self) -> &'static str {
        "sandbox"
    }
    fn interfaces(&self) -> Result<Vec<Interface>, PlatformError> {
        Ok(self.network().interfaces.clone())
    }
    fn configure_network(&self, settings: &NetworkSettings) -> NetworkReport {
        let (mut report, interfaces, gateway) = {
            let mut network = self.network_mut();
            let report = network.configure(settings);
            (report, network.interfaces.clone(), network.default_gateway())
        };
        if let Err(error) = self.record(settings) {
            let what = NETWORK_RECORD.to_owned();
            report.steps.push(NetworkStep { what, interface: None, problem: Some(error.to_string()) });
        }
        if let Some(tell) = &*self.on_change.read().unwrap_or_else(PoisonError::into_inner) {
            tell(&interfaces, gateway);
        }
        report
    }
    fn network_children(&self, _: &NetworkSettings) -> Vec<NetworkChild> {
        // The simulated server answers at once.
        Vec::new()
    }
    fn routes(&self, fib: u32) -> Result<Vec<KernelRoute>, PlatformError> {
        Ok(self.network().table(fib))
    }
    fn fibs(&self) -> u32 {
        network::FIBS
    }
    fn vitals(&self) -> Result<Vitals, PlatformError> {
        let mut vitals = host::vitals(&self.state_dir);
        let given = self.hostname.read().unwrap_or_else(PoisonError::into_inner);
        if !given.is_empty() {
            vitals.hostname = given.clone();
        }
        let network = self.network();
        if let Some(gateway) = self.gateway(&network) {
            vitals.default_gateway = Some(gateway);
        }
        Ok(vitals)
    }
    /// Processor and memory are the host's, the network cards are simulated, and there are no disks.
    fn hardware(&self) -> Result<Hardware, PlatformError> {
        let nics = self.interfaces()?.into_iter().filter(|interface| !Nic::is_virtual(&interface.name));
        Ok(Hardware {
            nics: nics
                .map(|found| Nic { mac: found.mac, link: Some(found.up), ..Nic::named(&found.name) })
                .collect(),
            ..host::hardware()
        })
    }

    fn host_facts(&self) -> Result<HostFacts, PlatformError> {
        Ok(host::facts())
    }

    fn time_zones(&self) -> Vec<String> {
        system::time_zones(Path::new("/usr/share/zoneinfo"))
    }

    /// Recorded: the files as the appliance would have them, below `root` in the state directory, and the kernel's
    /// settings in `sysctl.conf` there. No secret is written.
    fn configure_host(&self, settings: &HostSettings) -> Vec<HostStep> {
        let root = self.state_dir.join("root");
        self.set_hostname(&settings.hostname);
        let mut steps = system::write_files(&root, settings);
        let mut record = |step, path: &str, text: &dyn Fn(&str) -> String| {
            let path = root.join(path);
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            let written = atomic::write_if_different(&path, text(&before).as_bytes(), 0o644);
            steps.push(HostStep::of(step, written));
        };
        record("hostname", "etc/hostname", &|_| format!("{}\n", settings.hostname));
        record("console", "data/aifw/loader.conf", &|before| settings.loader_conf(before, BootMethod::Bios));
        record("ttys", "etc/ttys", &|before| {
            settings.ttys(if before.is_empty() {
                "ttyu0\t\"/usr/libexec/getty 3wire\"\tvt100\tonifconsole secure\n"
            } else {
                before
            })
        });
        record("sysctl", "etc/sysctl.conf", &|_| {
            settings.sysctls.iter().map(|item| format!("{}={}\n", item.name, item.value)).collect()
        });
        steps
    }

    /// Recorded in `power.log` of the state directory; whoever runs the sandbox does it when it is due.
    fn power(&self, power: Power, delay: Duration) -> Result<Scheduled, PlatformError> {
        use std::io::Write;
        let mut due = self.power_due.write().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        if due.is_some_and(|(_, due)| due > now) {
            return Ok(Scheduled::Already);
        }
        std::fs::create_dir_all(&self.state_dir)?;
        let mut log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.state_dir.join("power.log"))?;
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        writeln!(log, "{at} {} {}", power.word(), system::shutdown_time(delay))?;
        *due = Some((power, now + delay));
        Ok(Scheduled::Now)
    }

    fn cancel_power(&self) -> Result<bool, PlatformError> {
        let due = self.power_due.write().unwrap_or_else(PoisonError::into_inner).take();
        Ok(due.is_some_and(|(_, due)| due > SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_machine_has_a_wan_and_a_lan() {
        let sandbox = Sandbox::new("/nonexistent/state");
        assert_eq!(sandbox.kind(), "sandbox");
        let interfaces = sandbox.interfaces().unwrap();
        let shown: Vec<_> =
            interfaces.iter().map(|i| (i.name.as_str(), i.addresses[0].to_string(), i.up)).collect();
        assert_eq!(shown, [("em0", "203.0.113.2/24".into(), true), ("em1", "192.168.1.1/24".into(), true)]);
    }

    #[test]
    fn traffic_is_counted_and_survives_a_change_of_interfaces() {
        let sandbox = Sandbox::new("/nonexistent/state");
        sandbox.count("em0", true, 3, 300);
        sandbox.count("em0", false, 2, 120);
        sandbox.count("em9", true, 1, 1);
        sandbox.set_interfaces(vec![
            Interface { name: "em0".into(), ..Interface::default() },
            Interface { name: "vlan10".into(), ..Interface::default() },
        ]);
        sandbox.count("em0", true, 1, 100);
        let interfaces = sandbox.interfaces().unwrap();
        let em0 = &interfaces[0];
        assert_eq!((em0.packets_in, em0.bytes_in, em0.packets_out, em0.bytes_out), (4, 400, 2, 120));
        assert_eq!(
            (interfaces[1].name.as_str(), interfaces[1].packets_in, interfaces.len()),
            ("vlan10", 0, 2)
        );
    }
}
