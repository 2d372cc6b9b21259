//! The host itself on FreeBSD: name, time zone, console, kernel settings, root's password, the power switch. What is
//! sent and what is read, tool by tool: hostname(1), sysctl(8), pw(8), shutdown(8), kill(1).

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{FreeBsd, LIMIT};
use crate::atomic;
use crate::compile::os::host::{BootMethod, FIBS, HostSettings, Sysctl};
use crate::platform::PlatformError;
use crate::platform::system::{HostFacts, HostStep, Power, Scheduled, shutdown_time, write_files};

/// Loader settings that the loader reads from the data partition, whichever slot it boots.
pub const LOADER_CONF: &str = "/data/aifw/loader.conf";

/// Asked once for all facts; `-i` passes over what this kernel does not have.
pub const FACTS: &[&str] = &["-i", "kern.version", "hw.model", "kern.smp.threads_per_core", "dev.cpu"];

/// `name: value` lines; a value may go on in lines that follow.
pub fn read_facts(text: &str) -> HostFacts {
    let mut facts = HostFacts::default();
    let mut in_version = false;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(": ").filter(|(name, _)| !name.contains(' ')) else {
            if in_version && !line.trim().is_empty() {
                facts.kernel = format!("{} {}", facts.kernel, line.trim());
            }
            continue;
        };
        in_version = name == "kern.version";
        match name {
            "kern.version" => facts.kernel = value.trim().to_owned(),
            "hw.model" => facts.cpu_model = value.trim().to_owned(),
            "kern.smp.threads_per_core" => facts.threads = value.trim().parse::<u32>().is_ok_and(|n| n > 1),
            _ => facts.temperatures.extend(temperature(name, value)),
        }
    }
    facts.temperatures.sort_by_key(|(core, _)| *core);
    facts
}

/// `dev.cpu.3.temperature: 38.0C`
fn temperature(name: &str, value: &str) -> Option<(u32, f64)> {
    let core = name.strip_prefix("dev.cpu.")?.strip_suffix(".temperature")?.parse().ok()?;
    let celsius: f64 = value.trim().strip_suffix('C')?.parse().ok()?;
    celsius.is_finite().then_some((core, celsius))
}

pub fn configure(machine: &FreeBsd, settings: &HostSettings) -> Vec<HostStep> {
    let mut steps = vec![HostStep::of("hostname", set_hostname(machine, &settings.hostname))];
    steps.extend(write_files(&machine.root, settings));
    // login(1) and sshd(8) show the message through this name.
    let motd = atomic::link(&machine.file("/etc/motd"), std::path::Path::new("/var/run/motd"));
    steps.push(HostStep::of("motd", motd));
    steps.push(HostStep::of("console", set_loader(machine, settings)));
    steps.push(HostStep::of("ttys", set_ttys(machine, settings)));
    steps.push(HostStep::of("sysctl", set_sysctls(machine, &settings.sysctls)));
    steps.push(HostStep::of("modules", load_modules(machine, &settings.modules)));
    steps.push(HostStep::of("offloading", set_offloading(machine, &settings.offloading)));
    steps.push(HostStep::of("root password", set_root_password(machine, settings)));
    steps
}

fn set_hostname(machine: &FreeBsd, name: &str) -> Result<bool, PlatformError> {
    if name.is_empty() || machine.ask("/bin/hostname", &[])?.trim() == name {
        return Ok(false);
    }
    machine.ask("/bin/hostname", &[name])?;
    Ok(true)
}

/// How the machine was started; UEFI unless the kernel says BIOS.
fn boot_method(machine: &FreeBsd) -> Result<BootMethod, PlatformError> {
    let said = machine.ask("/sbin/sysctl", &["-n", "machdep.bootmethod"])?;
    Ok(if said.trim() == "BIOS" { BootMethod::Bios } else { BootMethod::Uefi })
}

fn set_loader(machine: &FreeBsd, settings: &HostSettings) -> Result<bool, PlatformError> {
    let path = machine.file(LOADER_CONF);
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        read => read.unwrap_or_default(),
    };
    let after = settings.loader_conf(&before, boot_method(machine)?);
    Ok(atomic::write_if_different(&path, after.as_bytes(), 0o644)?)
}

fn set_ttys(machine: &FreeBsd, settings: &HostSettings) -> Result<bool, PlatformError> {
    let path = machine.file("/etc/ttys");
    let before = fs::read_to_string(&path)?;
    let after = settings.ttys(&before);
    if before == after {
        return Ok(false);
    }
    atomic::write(&path, after.as_bytes(), 0o644)?;
    // init(8) reads the file again.
    machine.ask("/bin/kill", &["-HUP", "1"])?;
    Ok(true)
}

/// Sets what differs, each by itself, so that one the kernel refuses keeps no other from being set.
fn set_sysctls(machine: &FreeBsd, wanted: &[Sysctl]) -> Result<bool, PlatformError> {
    if wanted.is_empty() {
        return Ok(false);
    }
    let names: Vec<&str> = ["-i"].into_iter().chain(wanted.iter().map(|item| item.name.as_str())).collect();
    let text = machine.ask("/sbin/sysctl", &names)?;
    let values = super::sysctl::Values::read(&text);
    let mut changed = false;
    let mut refused = Vec::new();
    let in_force = |item: &Sysctl| {
        let more = item.name == FIBS && values.number(FIBS) >= item.value.parse().unwrap_or(u64::MAX);
        more || values.text(&item.name) == item.value
    };
    for item in wanted.iter().filter(|item| !in_force(item)) {
        match machine.ask("/sbin/sysctl", &[&format!("{}={}", item.name, item.value)]) {
            Ok(_) => changed = true,
            Err(PlatformError::Tool { reason, .. }) => refused.push(format!("{}: {reason}", item.name)),
            Err(error) => return Err(error),
        }
    }
    match refused.is_empty() {
        true => Ok(changed),
        false => Err(PlatformError::Tool { tool: "sysctl".into(), reason: refused.join("; ") }),
    }
}

/// The hash reaches pw(8) on its input, never on a command line that ps(1) shows.
fn set_root_password(machine: &FreeBsd, settings: &HostSettings) -> Result<bool, PlatformError> {
    let hash = settings.root_password_hash.expose();
    let wanted = if hash.is_empty() { LOCKED } else { hash };
    let users = fs::read_to_string(machine.file("/etc/master.passwd"))?;
    let held = users.lines().find_map(|line| line.strip_prefix("root:")?.split(':').next());
    if held == Some(wanted) {
        return Ok(false);
    }
    match hash.is_empty() {
        true => machine.ask("/usr/sbin/pw", &["usermod", "root", "-h", "-"])?,
        false => {
            machine.tell("/usr/sbin/pw", &["usermod", "root", "-H", "0"], &format!("{hash}\n"), LIMIT)?
        }
    };
    Ok(true)
}

/// What stands in master.passwd(5) where no password fits.
const LOCKED: &str = "*";

/// `-n`: one that is there already is no error.
pub fn load_modules(machine: &FreeBsd, modules: &[String]) -> Result<bool, PlatformError> {
    let mut refused = Vec::new();
    for module in modules {
        if let Err(error) = machine.ask("/sbin/kldload", &["-n", module]) {
            refused.push(format!("{module}: {error}"));
        }
    }
    match refused.is_empty() {
        true => Ok(!modules.is_empty()),
        false => Err(PlatformError::Tool { tool: "kldload".into(), reason: refused.join("; ") }),
    }
}

fn set_offloading(machine: &FreeBsd, cards: &[(String, Vec<String>)]) -> Result<bool, PlatformError> {
    let mut changed = false;
    for (name, flags) in cards.iter().filter(|(_, flags)| !flags.is_empty()) {
        let arguments: Vec<&str> =
            [name.as_str()].into_iter().chain(flags.iter().map(String::as_str)).collect();
        machine.ask("/sbin/ifconfig", &arguments)?;
        changed = true;
    }
    Ok(changed)
}

/// What shutdown(8) was asked for.
#[derive(Debug, Default)]
pub struct PowerSwitch(Mutex<Option<Waiting>>);

#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// The waiting process.
    pid: Option<u32>,
}

impl PowerSwitch {
    pub fn schedule(
        &self,
        machine: &FreeBsd,
        power: Power,
        delay: Duration,
    ) -> Result<Scheduled, PlatformError> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.as_ref().is_some_and(|waiting| waiting.due > Instant::now()) {
            return Ok(Scheduled::Already);
        }
        let flag = match power {
            Power::Reboot => "-r",
            Power::PowerOff => "-p",
        };
        let text = format!("AiFw: {} requested by the administrator", power.word());
        let said = machine.launch("/sbin/shutdown", &[flag, &shutdown_time(delay), &text])?;
        *waiting = Some(Waiting { due: Instant::now() + delay, pid: read_pid(&said) });
        Ok(Scheduled::Now)
    }

    pub fn cancel(&self, machine: &FreeBsd) -> Result<bool, PlatformError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pid) = held.as_ref().filter(|held| held.due > Instant::now()).and_then(|held| held.pid)
        else {
            return Ok(false);
        };
        machine.ask("/bin/kill", &["-TERM", &pid.to_string()])?;
        // shutdown(8) forbids logins shortly before; one that is ended leaves that behind.
        fs::remove_file(machine.file("/var/run/nologin")).ok();
        *held = None;
        Ok(true)
    }
}

/// `shutdown: [pid 1234]`
fn read_pid(text: &str) -> Option<u32> {
    text.split_once("[pid ")?.1.split(']').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
