//! What both platforms share of the host itself: what its hardware is, time zones, files written below a root.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::resolv;
use crate::atomic;
use crate::compile::os::host::HostSettings;

/// What does not change while the system runs, and temperatures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// `uname -v`
    pub kernel: String,
    pub cpu_model: String,
    /// More than one thread per core.
    pub threads: bool,
    /// Number of the core and °C, for those that tell.
    pub temperatures: Vec<(u32, f64)>,
}

/// What the power switch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Reboot,
    PowerOff,
}

impl Power {
    /// Told to everybody who is logged in.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "power off",
        }
    }
}

/// What [`super::Platform::power`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduled {
    Now,
    /// One that was asked for before is still to come; this one was not needed.
    Already,
}

/// How a step of [`super::Platform::configure_host`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStep {
    /// `hostname`, `timezone`, `hosts` …
    pub step: &'static str,
    /// Something was changed; unset when all was as wanted already.
    pub changed: bool,
    /// Why it was not done.
    pub error: Option<String>,
}

impl HostStep {
    /// The step with what became of it: whether anything was changed, or why not.
    pub fn of<E: std::fmt::Display>(step: &'static str, outcome: Result<bool, E>) -> Self {
        match outcome {
            Ok(changed) => Self { step, changed, error: None },
            Err(error) => Self { step, changed: false, error: Some(error.to_string()) },
        }
    }
}

/// Load averages over 1, 5 and 15 minutes (getloadavg(3)); zeros where the system does not tell.
pub fn load_average() -> [f64; 3] {
    let mut load = [0.0; 3];
    // SAFETY: the array has room for the three numbers that are asked for.
    let told = unsafe { nix::libc::getloadavg(load.as_mut_ptr(), 3) };
    if told == 3 { load } else { [0.0; 3] }
}

/// Time zones, sorted: the compiled files (RFC 9636: they begin with `TZif`) below `folder`, by their names relative
/// to it. Always with UTC. Without such a folder, those that the program itself knows.
pub fn time_zones(folder: &Path) -> Vec<String> {
    let mut zones = Vec::new();
    walk(folder, "", &mut zones);
    if zones.is_empty() {
        zones.extend(jiff::tz::db().available().map(|name| name.to_string()));
    }
    zones.push("UTC".into());
    zones.sort_unstable();
    zones.dedup();
    zones
}

fn walk(folder: &Path, prefix: &str, zones: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // The same zones once more, with other ideas about leap seconds.
        if name.starts_with('.') || (prefix.is_empty() && (name == "posix" || name == "right")) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(&path, &format!("{prefix}{name}/"), zones);
        } else if is_compiled(&path) {
            zones.push(format!("{prefix}{name}"));
        }
    }
}

fn is_compiled(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"TZif"
}

/// The steps that are nothing but files below `root`: hosts, banners, search domain, time zone.
pub fn write_files(root: &Path, settings: &HostSettings) -> Vec<HostStep> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut steps = Vec::new();
    for (step, paths) in
        [("hosts", &["/etc/hosts"][..]), ("banner", &["/etc/issue", "/etc/motd.template", "/var/run/motd"])]
    {
        let files = settings.files.iter().filter(|file| paths.contains(&file.path));
        let mut outcome = Ok(false);
        for file in files {
            let written = atomic::write_if_different(&below(file.path), file.text.as_bytes(), file.mode);
            outcome = match (outcome, written) {
                (Ok(before), Ok(now)) => Ok(before || now),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        steps.push(HostStep::of(step, outcome));
    }
    let resolver = below("/etc/resolv.conf");
    let before = fs::read_to_string(&resolver).unwrap_or_default();
    let after = resolv::with_search(&before, &settings.search_domain);
    let written = match before == after {
        true => Ok(false),
        false => atomic::write(&resolver, after.as_bytes(), 0o644).map(|()| true),
    };
    steps.push(HostStep::of("search domain", written));
    // As tzsetup(8) leaves it: a link, and the name with a line end.
    let zone = Path::new("/usr/share/zoneinfo").join(&settings.timezone);
    let zone = atomic::link(&below("/etc/localtime"), &zone).and_then(|linked| {
        let name = format!("{}\n", settings.timezone);
        Ok(atomic::write_if_different(&below("/var/db/zoneinfo"), name.as_bytes(), 0o644)? || linked)
    });
    steps.push(HostStep::of("timezone", zone));
    steps
}

/// shutdown(8)'s word for a time from now.
pub fn shutdown_time(delay: Duration) -> String {
    match delay.as_secs() {
        0 => "now".into(),
        secs => format!("+{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b08_zones_are_compiled_files_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("Europe/Berlin", "TZif2"),
            ("Etc/UTC", "TZif2"),
            ("America/Argentina/Ushuaia", "TZif2"),
            ("zone.tab", "# tz zone"),
            ("tzdata.zi", "# version"),
            ("posix/UTC", "TZif2"),
            ("right/UTC", "TZif2"),
            (".hidden", "TZif2"),
            ("short", "TZ"),
        ] {
            atomic::write(&dir.path().join(name), text.as_bytes(), 0o644).unwrap();
        }
        let expected = ["America/Argentina/Ushuaia", "Etc/UTC", "Europe/Berlin", "UTC"];
        assert_eq!(time_zones(dir.path()), expected);
        let own = time_zones(Path::new("/nonexistent"));
        assert!(own.contains(&"UTC".to_owned()) && own.is_sorted(), "{own:?}");
    }

    #[test]
    fn times_of_shutdown() {
        let times = [0, 10, 60].map(|secs| shutdown_time(Duration::from_secs(secs)));
        assert_eq!(times, ["now", "+10s", "+60s"]);
    }
}
