//! Settings against the machine: interfaces that are there, files that can be read.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use crate::compile::services::Facts;
use crate::config::Invalid;
use crate::config::time::TimeSettings;

/// Refuses what this machine has not. What was stored before is not judged again, so that an interface that has gone
/// does not keep anybody from changing something else. Blocks.
pub fn check_machine(asked: &TimeSettings, stored: &TimeSettings, facts: &Facts) -> Result<(), Invalid> {
    let is_there = |name: &str| facts.interfaces.iter().any(|known| known.name.as_str() == name);
    let new = asked.ntp_interfaces.iter().filter(|name| !stored.ntp_interfaces.contains(name));
    if let Some(name) = new.into_iter().find(|name| !is_there(name)) {
        return Err(Invalid::new("ntp_interfaces", format!("expected names of interfaces, not {name:?}")));
    }
    let ptp = |settings: &TimeSettings| (settings.ptp_enabled, settings.ptp_interface.clone());
    if asked.ptp_enabled
        && ptp(asked) != ptp(stored)
        && !facts.addresses_of(&asked.ptp_interface).iter().any(IpAddr::is_ipv4)
    {
        return Err(Invalid::new("ptp_interface", "expected an interface with an IPv4 address"));
    }
    let nts = |settings: &TimeSettings| {
        (settings.nts_enabled, settings.nts_certificate.clone(), settings.nts_private_key.clone())
    };
    if asked.nts_enabled && nts(asked) != nts(stored) {
        file("nts_certificate", &asked.nts_certificate, false)?;
        file("nts_private_key", &asked.nts_private_key, true)?;
    }
    Ok(())
}

fn file(field: &str, path: &str, secret: bool) -> Result<(), Invalid> {
    let data = std::fs::metadata(path).ok().filter(|data| data.is_file());
    let data = data.ok_or_else(|| Invalid::new(field, "expected the path of a file that is there"))?;
    if secret && data.permissions().mode() & 0o004 != 0 {
        return Err(Invalid::new(field, "expected a file that not everyone can read (chmod o-r)"));
    }
    Ok(())
}
