//! The machine: its interfaces, its vital signs, its power switch. `freebsd` drives the real tools with
//! argument vectors; `sandbox` serves any development host without privileges and says that it is one.

pub mod fetch;
pub mod freebsd;
pub mod geoip;
pub mod hardware;
pub mod host;
pub mod reset;
pub mod resolv;
pub mod sandbox;
pub mod system;
pub mod usage;

use std::net::IpAddr;
use std::path::PathBuf;

use hardware::{DiskDrive, Hardware, Progress};
use ipnet::IpNet;
use std::time::Duration;

pub use system::{HostFacts, HostStep, Power, Scheduled};

use crate::compile::os::host::HostSettings;

use crate::compile::os::network::NetworkSettings;

/// A network interface as the machine has it now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interface {
    pub name: String,
    pub mac: Option<String>,
    /// Administratively; whether there is a signal is `link`.
    pub up: bool,
    /// Whether there is a signal; `None` where the driver does not tell.
    pub link: Option<bool>,
    /// Bytes; 0 where it is not known.
    pub mtu: u32,
    /// As ifconfig(8) names it: `Ethernet autoselect (1000baseT <full-duplex>)`.
    pub media: Option<String>,
    pub description: Option<String>,
    pub vlan: Option<VlanTag>,
    /// Addresses with their prefix, IPv4 first.
    pub addresses: Vec<IpNet>,
    pub errors_in: u64,
    pub errors_out: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// What makes an interface a VLAN's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanTag {
    pub tag: u16,
    pub parent: String,
}

/// A line of the kernel's routing table, in netstat(1)'s words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelRoute {
    /// `default`, `10.0.0.0/8`, `10.1.2.3`.
    pub destination: String,
    /// An address, or `link#2`.
    pub gateway: String,
    /// `UGS`.
    pub flags: String,
    pub interface: String,
    pub inet6: bool,
}

/// One thing that was done to the network, or that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkStep {
    /// As an administrator would say it: `em1: address 192.168.1.1/24`.
    pub what: String,
    /// The interface it was about, if it was about one.
    pub interface: Option<String>,
    /// Why it could not be done.
    pub problem: Option<String>,
}

/// What was done to bring the network to its settings; nothing where it was as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkReport {
    pub steps: Vec<NetworkStep>,
}

impl NetworkReport {
    /// What could not be done, in words.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.steps.iter().filter_map(|step| Some(format!("{}: {}", step.what, step.problem.as_ref()?)))
    }

    /// As [`NetworkReport::problems`], of one interface.
    pub fn problem_of(&self, interface: &str) -> Option<String> {
        let step =
            |step: &&NetworkStep| step.problem.is_some() && step.interface.as_deref() == Some(interface);
        let step = self.steps.iter().find(step)?;
        Some(format!("{}: {}", step.what, step.problem.as_ref()?))
    }
}

/// A program that goes on running for the network's sake: a DHCP client, a sender of router solicitations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChild {
    /// `dhclient em0`.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Left by an earlier run: to be removed before a start.
    pub stale: Vec<PathBuf>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub active: u64,
    pub inactive: u64,
    pub wired: u64,
    pub cached: u64,
    pub free: u64,
    /// Of this process.
    pub resident: u64,
    pub arc: u64,
}

impl Memory {
    /// What is not free and cannot be had at once.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free + self.inactive + self.cached)
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Disk {
    pub mount: String,
    pub filesystem: String,
    pub total: u64,
    pub used: u64,
}

/// Cumulative, over whole disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskIo {
    pub reads: u64,
    pub writes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

/// Vital signs. CPU times are cumulative ticks (`kern.cp_time`): busy and total.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vitals {
    pub cpu_busy: u64,
    pub cpu_total: u64,
    pub cpu_cores: u32,
    pub memory: Memory,
    pub disks: Vec<Disk>,
    pub disk_io: DiskIo,
    pub uptime_secs: u64,
    pub hostname: String,
    pub os_version: String,
    pub dns_servers: Vec<IpAddr>,
    pub default_gateway: Option<IpAddr>,
    pub route_count: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    #[error("{tool} failed: {reason}")]
    Tool { tool: String, reason: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The machine will not do it; nothing was touched.
    #[error("{0}")]
    Refused(String),
}

/// The machine. Calls may block; from async code run them with `blocking::unblock`.
pub trait Platform: Send + Sync {
    /// `freebsd` or `sandbox`.
    fn kind(&self) -> &'static str;
    fn interfaces(&self) -> Result<Vec<Interface>, PlatformError>;
    fn vitals(&self) -> Result<Vitals, PlatformError>;
    /// Brings the network to these settings; what is as it should be is not touched. One step that fails stops no
    /// other, and stands in the report. What asks a DHCP server or listens to routers is not started here:
    /// [`Platform::network_children`].
    fn configure_network(&self, settings: &NetworkSettings) -> NetworkReport;
    /// The programs that must run beside these settings; none where the platform does it itself.
    fn network_children(&self, settings: &NetworkSettings) -> Vec<NetworkChild>;
    /// Where those programs say that they have learned something, by connecting; to be closed when
    /// [`Platform::configure_network`] has been called again.
    fn network_socket(&self) -> Option<PathBuf> {
        None
    }
    /// A routing table, IPv4 before IPv6.
    fn routes(&self, fib: u32) -> Result<Vec<KernelRoute>, PlatformError>;
    /// How many routing tables there are (`net.fibs`).
    fn fibs(&self) -> u32;
    /// What the machine is made of.
    fn hardware(&self) -> Result<Hardware, PlatformError>;
    /// Disks that could be installed to, and the one that runs.
    fn disks_present(&self) -> Result<Vec<DiskDrive>, PlatformError> {
        Ok(Vec::new())
    }
    /// Whether [`Platform::install`] would begin; touches nothing.
    fn check_install(&self, _target: &str) -> Result<(), PlatformError> {
        Err(PlatformError::Refused("a sandbox is not installed to disks".into()))
    }
    /// Writes the running system's slot layout to another disk, whose contents are lost. Blocks for minutes.
    fn install(&self, target: &str, _tell: &mut dyn FnMut(Progress)) -> Result<(), PlatformError> {
        self.check_install(target)
    }
    /// What the hardware is.
    fn host_facts(&self) -> Result<HostFacts, PlatformError>;
    /// Names of the tz database that this machine has, sorted.
    fn time_zones(&self) -> Vec<String>;
    /// Makes the host as wanted; what is so already is left alone. A step that fails does not keep the others from being done.
    fn configure_host(&self, settings: &HostSettings) -> Vec<HostStep>;
    /// Restarts the machine, or switches it off, after a while; one at a time.
    fn power(&self, power: Power, delay: Duration) -> Result<Scheduled, PlatformError>;
    /// Takes back what [`Platform::power`] has scheduled. Whether there was anything.
    fn cancel_power(&self) -> Result<bool, PlatformError>;
}
