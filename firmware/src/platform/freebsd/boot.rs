//! What the kernel must have before the appliance can work: modules, pf's log interface, memory to write to when
//! there is no disk. kldload(8), ifconfig(8), mount(8). Called by `aifw supervise` at every start; what is so already
//! stays.

use std::path::Path;
use std::time::Duration;

use super::{FreeBsd, host};
use crate::platform::PlatformError;

/// Without these the appliance filters or serves nothing of what it may be configured to.
pub const MODULES: [&str; 11] = [
    "pf",
    "pflog",
    "pfsync",
    "carp",
    "if_wg",
    "ipsec",
    "if_bridge",
    "if_lagg",
    "if_vlan",
    "if_gre",
    "if_gif",
];

/// What pf logs to, and is read from through bpf(4).
const PFLOG: &str = "pflog0";
/// Enough for a store and logs, on any machine that can run the appliance.
const MEMORY_BYTES: u64 = 256 * 1024 * 1024;

impl FreeBsd {
    /// Loads kernel modules; one that cannot be loaded keeps no other from being loaded, and is named.
    pub fn load_modules(&self, names: &[&str]) -> Result<(), PlatformError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        host::load_modules(self, &names).map(|_| ())
    }

    /// Has pf's log interface, up: pf(4) logs to none that is down.
    pub fn raise_pflog(&self) -> Result<(), PlatformError> {
        if self.ask("/sbin/ifconfig", &[PFLOG]).is_err() {
            self.ask("/sbin/ifconfig", &[PFLOG, "create"])?;
        }
        self.ask("/sbin/ifconfig", &[PFLOG, "up"]).map(|_| ())
    }

    /// A file system in memory at this place, unless there is one already.
    pub fn mount_memory(&self, place: &Path) -> Result<(), PlatformError> {
        let place = place.to_string_lossy();
        let mounts = self.ask("/sbin/mount", &["-p"])?;
        let there = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|at| at == place);
        if there {
            return Ok(());
        }
        let options = format!("rw,nosuid,mode=700,size={MEMORY_BYTES}");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs", &place];
        self.tell("/sbin/mount", &arguments, "", Duration::from_secs(20)).map(|_| ())
    }
}
