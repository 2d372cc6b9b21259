//! The machine: its interfaces, its vital signs, its power switch. `freebsd` drives the real tools with
//! argument vectors; `sandbox` serves any development host without privileges and says that it is one.

pub mod fetch;
pub mod freebsd;
pub mod geoip;
pub mod host;
pub mod resolv;
pub mod sandbox;
pub mod system;
mod usage;

use std::net::IpAddr;

use ipnet::IpNet;
use std::time::Duration;

pub use system::{HostFacts, HostStep, Power, Scheduled};

use crate::compile::os::host::HostSettings;

/// A network interface as the machine has it now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interface {
    pub name: String,
    pub mac: Option<String>,
    pub up: bool,
    /// Addresses with their prefix, IPv4 first.
    pub addresses: Vec<IpNet>,
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
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
}

/// The machine. Calls may block; from async code run them with `blocking::unblock`.
pub trait Platform: Send + Sync {
    /// `freebsd` or `sandbox`.
    fn kind(&self) -> &'static str;
    fn interfaces(&self) -> Result<Vec<Interface>, PlatformError>;
    fn vitals(&self) -> Result<Vitals, PlatformError>;
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
