//! Suricata, which is no crate: the host's own is used. Where it is, or how a host gets it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::tool;

/// The oldest that understands the configuration that the firmware writes.
const OLDEST: u32 = 7;

const HOW_TO_INSTALL: &str = "Debian 12: apt-get install -t bookworm-backports suricata (with backports among the \
     sources); later Debian and Ubuntu: apt-get install suricata; Fedora: dnf install suricata; macOS: brew install \
     suricata; FreeBSD: pkg install suricata";

/// Whether there is one that will do.
pub fn is_there() -> bool {
    version().is_some_and(|(_, version)| is_new_enough(&version))
}

/// One line about it.
pub fn report() -> String {
    match version() {
        Some((path, version)) if is_new_enough(&version) => {
            format!("suricata {version}: ready ({})", path.display())
        }
        Some((path, version)) => {
            format!("suricata {version} ({}) is older than {OLDEST}; {HOW_TO_INSTALL}", path.display())
        }
        None => format!("suricata: not installed; {HOW_TO_INSTALL}"),
    }
}

fn version() -> Option<(PathBuf, String)> {
    let path = tool::find("suricata")?;
    let mut command = Command::new(&path);
    let told = tool::output_within(command.arg("-V").stderr(Stdio::null()), Duration::from_secs(10)).ok()?;
    Some((path, parse_version(&told)?))
}

/// The number in "This is Suricata version 7.0.10 RELEASE".
fn parse_version(told: &str) -> Option<String> {
    let mut words = told.split_whitespace().skip_while(|word| *word != "version");
    words.nth(1).map(str::to_owned)
}

fn is_new_enough(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_version_is_read_from_what_it_says() {
        assert_eq!(parse_version("This is Suricata version 7.0.10 RELEASE\n").as_deref(), Some("7.0.10"));
        assert_eq!(parse_version("suricata: not found"), None);
        assert!(is_new_enough("7.0.10") && is_new_enough("8.0.0-dev"));
        assert!(!is_new_enough("6.0.10") && !is_new_enough("unknown"));
    }
}
