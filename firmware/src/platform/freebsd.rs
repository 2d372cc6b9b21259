//! FreeBSD, the appliance's own platform: the base system's tools through argument vectors, their answers read by
//! pure functions (`freebsd/*`). What changes seldom is asked for seldom, since every question is a process.
//! Compiles on every host; the tools are FreeBSD's.

pub mod boot;
mod cached;
pub mod data_disk;
mod hardware;
mod host;
mod install;
mod interfaces;
pub mod network;
mod routes;
mod storage;
mod sysctl;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cached::Cached;

use super::hardware::{DiskDrive, Hardware, Progress};
use super::{
    Disk, HostFacts, HostStep, Interface, KernelRoute, Memory, NetworkChild, NetworkReport, Platform,
    PlatformError, Power, Scheduled, Vitals, resolv,
};
use crate::compile::os::host::HostSettings;
use crate::compile::os::network::NetworkSettings;
use crate::tool::{Ended, Tool, ToolError};

/// These tools answer in milliseconds; one that does not is stuck.
const LIMIT: Duration = Duration::from_secs(10);

/// The machine itself.
#[derive(Debug)]
pub struct FreeBsd {
    /// Where the tools lie, if not where FreeBSD has them.
    folder: Option<PathBuf>,
    /// Where device nodes are.
    devices: PathBuf,
    /// Below it lie the system's files.
    root: PathBuf,
    /// The firmware, for scripts that run it; this very program unless told.
    own: Option<PathBuf>,
    power: host::PowerSwitch,
    routed: network::Routed,
    facts: Cached<HostFacts>,
    mounts: Cached<Vec<storage::Mount>>,
    routes: Cached<routes::Routes>,
    resident: Cached<u64>,
}

impl Default for FreeBsd {
    fn default() -> Self {
        Self::new()
    }
}

impl FreeBsd {
    pub fn new() -> Self {
        Self {
            folder: None,
            devices: PathBuf::from("/dev"),
            root: PathBuf::from("/"),
            own: None,
            power: host::PowerSwitch::default(),
            routed: network::Routed::default(),
            facts: Cached::new(Duration::from_secs(4)),
            mounts: Cached::new(Duration::from_secs(30)),
            routes: Cached::new(Duration::from_secs(5)),
            resident: Cached::new(Duration::from_secs(5)),
        }
    }

    /// The tools of another folder.
    pub fn with_tools(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..Self::new() }
    }

    /// The system's files, and its device nodes, lie below this directory.
    pub fn with_root(self, root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { devices: root.join("dev"), root, ..self }
    }

    /// Scripts run this program, not the one that this process is.
    pub fn with_firmware(self, program: impl Into<PathBuf>) -> Self {
        Self { own: Some(program.into()), ..self }
    }

    /// A file of the system by its absolute path.
    fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Runs a tool that must succeed, and answers what it printed.
    pub fn ask(&self, path: &str, arguments: &[&str]) -> Result<String, PlatformError> {
        self.tell(path, arguments, "", LIMIT)
    }

    /// As [`FreeBsd::ask`], with text on the tool's input, and the time that it may take.
    pub fn tell(
        &self,
        path: &str,
        arguments: &[&str],
        input: &str,
        limit: Duration,
    ) -> Result<String, PlatformError> {
        let (tool, failed) = self.tool(path, limit);
        succeeded(tool.run(arguments, input), failed)
    }

    /// As [`FreeBsd::ask`], for a tool that leaves a process behind.
    fn launch(&self, path: &str, arguments: &[&str]) -> Result<String, PlatformError> {
        let (tool, failed) = self.tool(path, LIMIT);
        succeeded(tool.launch(arguments), failed)
    }

    /// A tool by its path on FreeBSD, and how its failures are told.
    fn tool(&self, path: &str, limit: Duration) -> (Tool, impl Fn(String) -> PlatformError) {
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        (Tool::new(self.program(path), limit), move |reason| PlatformError::Tool {
            tool: name.clone(),
            reason,
        })
    }

    /// Where a program lies by its path on FreeBSD.
    fn program(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let name = path.file_name().unwrap_or_default();
        self.folder.as_ref().map_or_else(|| path.to_path_buf(), |folder| folder.join(name))
    }

    /// The kernel's routing table. netstat may take `-F 0` for a mistake: it asks errno whether strtol(3) failed, which
    /// holds what failed before. 0 is what it shows by itself.
    fn table(&self, fib: u32) -> Result<Vec<KernelRoute>, PlatformError> {
        let number = fib.to_string();
        let arguments = match fib {
            0 => &["-r", "-n"][..],
            _ => &["-r", "-n", "-F", &number],
        };
        let table: routes::Table = self.ask_json("/usr/bin/netstat", arguments)?;
        Ok(table.lines())
    }

    /// Reads JSON that a tool printed with libxo(3).
    fn ask_json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        arguments: &[&str],
    ) -> Result<T, PlatformError> {
        let text = self.ask(path, &[&["--libxo", "json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|error| PlatformError::Tool {
            tool: path.rsplit('/').next().unwrap_or(path).into(),
            reason: format!("its answer cannot be read: {error}"),
        })
    }

    /// Interfaces with what their configuration needs to know.
    fn seen(&self) -> Result<Vec<interfaces::Seen>, PlatformError> {
        Ok(interfaces::read(&self.ask("/sbin/ifconfig", interfaces::SHOW)?))
    }

    fn disks(&self) -> Result<Vec<Disk>, PlatformError> {
        let mounts = self.mounts.get(|| {
            let table: storage::MountTable = self.ask_json("/sbin/mount", &[])?;
            Ok::<_, PlatformError>(table.of_disks())
        })?;
        Ok(storage::usage_of(&mounts))
    }

    /// Memory of this process.
    fn resident(&self) -> Result<u64, PlatformError> {
        self.resident.get(|| {
            let pid = std::process::id().to_string();
            let text = self.ask("/bin/ps", &["-o", "rss=", "-p", &pid])?;
            Ok(sysctl::read_resident(&text).unwrap_or(0))
        })
    }
}

/// What a tool printed that must have succeeded.
fn succeeded(
    ended: Result<Ended, ToolError>,
    failed: impl Fn(String) -> PlatformError,
) -> Result<String, PlatformError> {
    let ended = ended.map_err(|error| failed(error.to_string()))?;
    if ended.success() {
        return Ok(ended.stdout);
    }
    let said = ended.stderr.trim();
    Err(failed(match (said, ended.code) {
        ("", Some(code)) => format!("it ended with {code}"),
        ("", None) => "it was killed".into(),
        (said, _) => said.into(),
    }))
}

/// `net.fibs`
fn fibs(machine: &FreeBsd) -> u32 {
    let text = machine.ask("/sbin/sysctl", &["-n", "net.fibs"]).unwrap_or_default();
    text.trim().parse().unwrap_or(1)
}

impl Platform for FreeBsd {
    fn kind(&self) -> &'static str {
        "freebsd"
    }

    fn interfaces(&self) -> Result<Vec<Interface>, PlatformError> {
        let mut interfaces: Vec<Interface> = self.seen()?.into_iter().map(|seen| seen.interface).collect();
        // -b bytes, -d drops, -n no names.
        let counters: interfaces::Counters = self.ask_json("/usr/bin/netstat", &["-i", "-b", "-d", "-n"])?;
        counters.add_to(&mut interfaces);
        Ok(interfaces)
    }

    fn configure_network(&self, settings: &NetworkSettings) -> NetworkReport {
        network::configure(self, settings)
    }

    fn network_children(&self, settings: &NetworkSettings) -> Vec<NetworkChild> {
        network::children(self, settings)
    }

    fn network_socket(&self) -> Option<PathBuf> {
        Some(network::directory(self).join(network::lease::SOCKET))
    }

    fn routes(&self, fib: u32) -> Result<Vec<KernelRoute>, PlatformError> {
        self.table(fib)
    }

    fn fibs(&self) -> u32 {
        fibs(self)
    }

    fn vitals(&self) -> Result<Vitals, PlatformError> {
        let text = self.ask("/sbin/sysctl", sysctl::QUESTION)?;
        let values = sysctl::Values::read(&text);
        let routes = self.routes.get(|| {
            let table: routes::Table = self.ask_json("/usr/bin/netstat", &["-r", "-n"])?;
            Ok::<_, PlatformError>(table.inet())
        })?;
        let cpu = values.cpu();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Vitals {
            cpu_busy: cpu.busy,
            cpu_total: cpu.total,
            cpu_cores: u32::try_from(values.number("hw.ncpu")).unwrap_or(0),
            memory: Memory { resident: self.resident()?, ..values.memory() },
            disks: self.disks()?,
            // Totals since boot (-I), in the extended form (-x).
            disk_io: storage::read_disk_io(&self.ask("/usr/sbin/iostat", &["-I", "-x"])?),
            uptime_secs: values.boot_time().map_or(0, |boot| now.saturating_sub(boot)),
            hostname: values.text("kern.hostname").to_owned(),
            os_version: format!("{} {}", values.text("kern.ostype"), values.text("kern.osrelease")),
            // No file, no servers: that is how the system takes it too.
            dns_servers: resolv::name_servers(
                &std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            ),
            default_gateway: routes.gateway,
            route_count: routes.count,
        })
    }

    fn hardware(&self) -> Result<Hardware, PlatformError> {
        Ok(Hardware {
            nics: hardware::nics(&self.ask("/sbin/ifconfig", &["-a"])?),
            disks: self.disks_present()?,
            ..hardware::machine(&self.ask("/sbin/sysctl", hardware::QUESTION)?)
        })
    }

    fn disks_present(&self) -> Result<Vec<DiskDrive>, PlatformError> {
        let (partitions, root) = self.layout()?;
        Ok(hardware::disks(&self.ask("/sbin/geom", &["disk", "list"])?, &partitions, &root))
    }

    fn check_install(&self, target: &str) -> Result<(), PlatformError> {
        self.plan_install(target).map(|_| ())
    }

    fn install(&self, target: &str, tell: &mut dyn FnMut(Progress)) -> Result<(), PlatformError> {
        self.carry_out(&self.plan_install(target)?, target, tell)
    }

    fn host_facts(&self) -> Result<HostFacts, PlatformError> {
        self.facts.get(|| Ok(host::read_facts(&self.ask("/sbin/sysctl", host::FACTS)?)))
    }

    fn time_zones(&self) -> Vec<String> {
        super::system::time_zones(&self.file("/usr/share/zoneinfo"))
    }

    fn configure_host(&self, settings: &HostSettings) -> Vec<HostStep> {
        host::configure(self, settings)
    }

    fn power(&self, power: Power, delay: Duration) -> Result<Scheduled, PlatformError> {
        self.power.schedule(self, power, delay)
    }

    fn cancel_power(&self) -> Result<bool, PlatformError> {
        self.power.cancel(self)
    }
}

impl FreeBsd {
    /// Partitions of all disks, and the device mounted on `/`.
    fn layout(&self) -> Result<(Vec<hardware::Partition>, String), PlatformError> {
        let partitions = hardware::partitions(&self.ask("/sbin/gpart", &["list"])?);
        let mounts = self.ask("/sbin/mount", &["-p"])?;
        Ok((partitions, hardware::root_device(&mounts).to_owned()))
    }

    fn plan_install(&self, target: &str) -> Result<install::Plan, PlatformError> {
        let (partitions, root) = self.layout()?;
        install::plan(&partitions, &self.disks_present()?, &root, target).map_err(PlatformError::Refused)
    }
}

#[cfg(test)]
mod tests;
