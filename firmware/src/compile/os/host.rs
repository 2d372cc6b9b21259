//! The host itself: its name, time zone, banners, console, kernel settings and who may log in, from the configuration
//! (contract/system.md §1, console.md §4). Pure; a platform puts [`HostSettings`] in force, sshd(8) gets [`SshSettings`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::block::with_block;
use crate::config::setup::answers;
use crate::config::system::{Console, ConsoleKind, System};
use crate::config::{Config, Secret};

/// The managed block of the loader's file.
pub const LOADER_BLOCK: &str = "AiFw console";

/// A file of the system, replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Absolute.
    pub path: &'static str,
    pub text: String,
    /// Permission bits.
    pub mode: u32,
}

/// A kernel setting of the running system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    pub name: String,
    pub value: String,
}

/// What the host is to be. Two that are equal need nothing done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// `kern.hostname`, with the domain if there is one; empty = leave it.
    pub hostname: String,
    /// Names without a dot are looked up in it; empty = in none.
    pub search_domain: String,
    /// A name of the tz database.
    pub timezone: String,
    /// hosts(5), `/etc/issue`, the message of the day.
    pub files: Vec<HostFile>,
    pub console: Console,
    /// Loader tunables of the tuning list.
    pub tunables: Vec<Sysctl>,
    pub sysctls: Vec<Sysctl>,
    /// Kernel modules to be loaded.
    pub modules: Vec<String>,
    /// Network cards, each with the flags of ifconfig(8) that turn its offloading off or on.
    pub offloading: Vec<(String, Vec<String>)>,
    /// crypt(3) hash; empty = nobody signs in as root with a password.
    pub root_password_hash: Secret,
}

/// What sshd(8) is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    pub enabled: bool,
    pub port: u16,
    /// sshd_config(5), whole.
    pub config: String,
    /// Lines of root's authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
    pub authorized_keys: String,
}

/// Where sshd's files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPlaces {
    /// sshd_config(5).
    pub config: PathBuf,
    /// Host keys, and `keys/USER` with the users' public keys.
    pub keys: PathBuf,
    /// `None` = everywhere.
    pub listen: Option<IpAddr>,
}

impl SshPlaces {
    /// Of an appliance that keeps what lasts in `state_dir`, with system files below `root`.
    pub fn of(root: &Path, state_dir: &Path) -> Self {
        Self { config: root.join("etc/ssh/sshd_config"), keys: state_dir.join("ssh"), listen: None }
    }

    /// Host keys by type, as ssh-keygen(1) names it.
    pub fn host_key(&self, kind: &str) -> PathBuf {
        self.keys.join(format!("ssh_host_{kind}_key"))
    }

    /// root's public keys.
    pub fn authorized_keys(&self) -> PathBuf {
        self.keys.join("keys/root")
    }
}

/// Types of host keys, in the order of preference.
pub const HOST_KEYS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

pub fn host_settings(config: &Config) -> HostSettings {
    let system = &*config.system;
    let entries = |target: &str| -> Vec<Sysctl> {
        let wanted = config.tuning.entries.iter().filter(|entry| entry.enabled && entry.target == target);
        wanted
            .filter(|entry| is_name(&entry.key) && is_value(&entry.value))
            .map(|entry| Sysctl { name: entry.key.clone(), value: entry.value.clone() })
            .collect()
    };
    let named = |target: &'static str| {
        let wanted =
            config.tuning.entries.iter().filter(move |entry| entry.enabled && entry.target == target);
        wanted.filter(|entry| is_name(&entry.key))
    };
    let flags = |value: &str| -> Vec<String> {
        value.split_whitespace().filter(|flag| OFFLOADING.contains(flag)).map(str::to_owned).collect()
    };
    // An imported document may say anything; what is no name is none.
    let hostname = Some(system.fqdn()).filter(|name| answers::domain(name).is_ok()).unwrap_or_default();
    let file = |path, text| HostFile { path, text, mode: 0o644 };
    let tunables = entries("loader");
    // Of what the loader is told, the kernel takes this one while it runs, too: no route has to wait for a reboot.
    let fibs = tunables.iter().find(|entry| entry.name == FIBS).cloned();
    HostSettings {
        files: vec![
            file("/etc/hosts", hosts(&hostname, system)),
            file("/etc/issue", shown(&system.login_banner)),
            file("/etc/motd.template", shown(&system.motd)),
            file("/var/run/motd", shown(&system.motd)),
        ],
        hostname,
        search_domain: Some(system.domain.clone())
            .filter(|name| answers::domain(name).is_ok())
            .unwrap_or_default(),
        timezone: system.timezone.clone(),
        console: system.console.clone(),
        sysctls: entries("sysctl").into_iter().chain(fibs).collect(),
        tunables,
        modules: named("module").map(|entry| entry.key.clone()).collect(),
        offloading: named("interface").map(|entry| (entry.key.clone(), flags(&entry.value))).collect(),
        root_password_hash: system.root_password_hash.clone(),
    }
}

/// Routing tables of the kernel: they can become more while it runs, never fewer.
pub const FIBS: &str = "net.fibs";

/// Flags of ifconfig(8) that a tuning entry of a network card may hold.
const OFFLOADING: [&str; 12] = [
    "tso", "-tso", "lro", "-lro", "rxcsum", "-rxcsum", "txcsum", "-txcsum", "rxcsum6", "-rxcsum6", "txcsum6",
    "-txcsum6",
];

/// sysctl(8) and loader.conf(5) names.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'%'))
}

fn is_value(text: &str) -> bool {
    text.len() <= 255 && !text.contains(['"', '\\']) && !text.chars().any(char::is_control)
}

/// Ends with a line end unless empty.
fn shown(text: &str) -> String {
    match text.is_empty() || text.ends_with('\n') {
        true => text.to_owned(),
        false => format!("{text}\n"),
    }
}

/// hosts(5): loopback, and the host's own name at 127.0.1.1.
fn hosts(hostname: &str, system: &System) -> String {
    let mut text = String::from("::1\tlocalhost\n127.0.0.1\tlocalhost\n");
    match hostname {
        "" => {}
        name if name == system.hostname => text += &format!("127.0.1.1\t{name}\n"),
        name => text += &format!("127.0.1.1\t{name} {}\n", system.hostname),
    }
    text
}

/// The firmware kind that the loader speaks to: `sysctl machdep.bootmethod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMethod {
    Bios,
    Uefi,
}

impl HostSettings {
    /// loader.conf(5) with our block of it made new: console and tunables.
    pub fn loader_conf(&self, text: &str, boot: BootMethod) -> String {
        let mut lines = console_lines(&self.console, boot);
        lines.extend(self.tunables.iter().map(|item| format!("{}=\"{}\"", item.name, item.value)));
        with_block(text, LOADER_BLOCK, &lines)
    }

    /// ttys(5) with the serial line's login prompt where the console wants it; everything else as it was.
    pub fn ttys(&self, text: &str) -> String {
        let wanted = match self.console.kind {
            ConsoleKind::Video => "onifconsole",
            ConsoleKind::Serial | ConsoleKind::Dual => "on",
        };
        text.split_inclusive('\n').map(|line| with_status(line, "ttyu0", wanted)).collect()
    }
}

/// loader.conf(5), loader_simp(8): the UEFI loader has other names for its consoles, and tells the kernel of a serial
/// one only if it is the only one, so that `boot_serial` and `boot_multicons` are said outright.
fn console_lines(console: &Console, boot: BootMethod) -> Vec<String> {
    let screen = match boot {
        BootMethod::Bios => "vidconsole",
        BootMethod::Uefi => "efi",
    };
    let speed = format!("comconsole_speed=\"{}\"", console.baud);
    let line = |text: &str| text.to_owned();
    match console.kind {
        ConsoleKind::Video => {
            vec![format!("console=\"{screen}\""), line("boot_serial=\"NO\""), line("boot_multicons=\"NO\"")]
        }
        ConsoleKind::Serial => vec![
            line("console=\"comconsole\""),
            line("boot_serial=\"YES\""),
            line("boot_multicons=\"NO\""),
            speed,
        ],
        ConsoleKind::Dual => vec![
            format!("console=\"comconsole,{screen}\""),
            line("boot_multicons=\"YES\""),
            line("boot_serial=\"YES\""),
            speed,
        ],
    }
}

/// Words of ttys(5) that say when the line's program runs.
const STATUSES: [&str; 4] = ["on", "off", "onifconsole", "onifexists"];

/// A line of ttys(5) with another status word, if it is the line of `device`.
fn with_status(line: &str, device: &str, wanted: &str) -> String {
    if line.split_whitespace().next() != Some(device) {
        return line.to_owned();
    }
    // The status stands behind the command, which may be quoted and hold any word.
    let head = line.find('"').and_then(|open| Some(open + 1 + line[open + 1..].find('"')? + 1)).unwrap_or(0);
    let (before, after) = line.split_at(head);
    let mut done = false;
    let words = after.split_inclusive(char::is_whitespace).map(|word| {
        let bare = word.trim_end();
        if done || !STATUSES.contains(&bare) {
            return word.to_owned();
        }
        done = true;
        word.replacen(bare, wanted, 1)
    });
    format!("{before}{}", words.collect::<String>())
}

/// sshd(8) as configured. Only root has a shell on the appliance, so only root may log in.
pub fn ssh_settings(config: &Config, places: &SshPlaces) -> SshSettings {
    let system = &*config.system;
    let yes = |value: bool| if value { "yes" } else { "no" };
    let root = match (system.ssh_permit_root_login, system.ssh_password_auth) {
        (false, _) => "no",
        (true, false) => "prohibit-password",
        (true, true) => "yes",
    };
    let passwords = yes(system.ssh_password_auth);
    let mut lines = vec![
        "# Made from the appliance's configuration: what is written here by hand is lost.".to_owned(),
        "# BEGIN AiFw".to_owned(),
        format!("Port {}", system.ssh_port),
        format!("PasswordAuthentication {passwords}"),
        format!("KbdInteractiveAuthentication {passwords}"),
        format!("PermitRootLogin {root}"),
    ];
    if !system.login_banner.is_empty() {
        let banner = places.config.parent().and_then(Path::parent).map(|etc| etc.join("issue"));
        lines.push(format!("Banner {}", banner.unwrap_or_else(|| "/etc/issue".into()).display()));
    }
    lines.push("# END AiFw".to_owned());
    lines.extend(places.listen.map(|address| format!("ListenAddress {address}")));
    lines.extend(HOST_KEYS.map(|kind| format!("HostKey {}", places.host_key(kind).display())));
    lines.extend([
        format!("AuthorizedKeysFile {}", places.keys.join("keys/%u").display()),
        "AllowUsers root".into(),
        "UsePAM yes".into(),
        "StrictModes yes".into(),
        "PermitEmptyPasswords no".into(),
        "MaxAuthTries 4".into(),
        "LoginGraceTime 30".into(),
        "UseDNS no".into(),
        "X11Forwarding no".into(),
        "AllowAgentForwarding no".into(),
        "ClientAliveInterval 60".into(),
        "ClientAliveCountMax 3".into(),
        "PidFile none".into(),
        "Subsystem sftp internal-sftp".into(),
    ]);
    let keys = system.ssh_authorized_keys.iter().filter(|key| !key.chars().any(char::is_control));
    SshSettings {
        enabled: system.ssh_enabled,
        port: system.ssh_port,
        config: lines.into_iter().map(|line| line + "\n").collect(),
        authorized_keys: keys.map(|key| format!("{key}\n")).collect(),
    }
}

#[cfg(test)]
mod tests;
