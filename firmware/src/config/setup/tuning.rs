//! The tuning list (contract/console.md §4): kernel settings that suit a firewall with this hardware. Pure; asked by
//! the first-boot dialogue, which shows it, and by unattended setup.

use crate::config::settings::TuningEntry;

/// What the list depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    pub ram_mb: u64,
    pub cores: u32,
    /// Some cores are two to the scheduler.
    pub threads: bool,
    /// `hw.model`
    pub cpu_model: String,
}

/// The items of the list, the default choice being `enabled`. Targets: `sysctl` = set while the system runs,
/// `loader` = from the next boot on.
pub fn default_list(hardware: &Hardware) -> Vec<TuningEntry> {
    let ram = hardware.ram_mb;
    let socket_buffer: u64 = match ram {
        0..=2048 => 2_097_152,
        2049..=8192 => 4_194_304,
        _ => 16_777_216,
    };
    let hash_size = match ram {
        0..=1024 => 32_768,
        1025..=4096 => 131_072,
        4097..=16_384 => 524_288,
        _ => 1_048_576,
    };
    let fragments = if ram <= 2048 { 2048 } else { 8192 };
    let mut list = Vec::new();
    let mut add = |key: &str, value: &dyn std::fmt::Display, target: &str, reason: &str| {
        list.push(TuningEntry {
            key: key.into(),
            value: value.to_string(),
            target: target.into(),
            reason: reason.into(),
            enabled: true,
        });
    };
    add("net.inet.ip.forwarding", &1, "sysctl", "routes IPv4");
    add("net.inet6.ip6.forwarding", &1, "sysctl", "routes IPv6");
    add("net.inet.tcp.syncookies", &1, "sysctl", "withstands SYN floods");
    add("net.fibs", &16, "loader", "routing tables for multiple uplinks");
    add("net.pf.states_hashsize", &hash_size, "loader", "buckets of pf's state table, by memory");
    add("kern.ipc.maxsockbuf", &socket_buffer, "sysctl", "largest socket buffer, by memory");
    add("net.inet.tcp.sendbuf_max", &(socket_buffer / 2), "sysctl", "largest TCP send buffer");
    add("net.inet.tcp.recvbuf_max", &(socket_buffer / 2), "sysctl", "largest TCP receive buffer");
    if hardware.cores > 1 {
        add("net.isr.dispatch", &"deferred", "sysctl", "spreads packets over the cores");
        add("net.isr.maxthreads", &hardware.cores, "loader", "one packet thread for each core");
    }
    add("net.inet.ip.maxfragpackets", &fragments, "sysctl", "IPv4 packets being put together, by memory");
    add("net.inet6.ip6.maxfragpackets", &fragments, "sysctl", "IPv6 packets being put together, by memory");
    if hardware.threads {
        add("machdep.hyperthreading_allowed", &0, "loader", "one thread per core: no side channels");
        if let Some(last) = list.last_mut() {
            last.enabled = false;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(hardware: &Hardware, key: &str) -> Option<(String, String, bool)> {
        let list = default_list(hardware);
        list.into_iter()
            .find(|entry| entry.key == key)
            .map(|entry| (entry.value, entry.target, entry.enabled))
    }

    #[test]
    fn values_follow_memory_and_cores() {
        let small = Hardware { ram_mb: 1024, cores: 1, ..Hardware::default() };
        let large = Hardware { ram_mb: 32_768, cores: 8, threads: true, ..Hardware::default() };
        let both = |key| (value(&small, key).map(|v| v.0), value(&large, key).map(|v| v.0));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(both("net.pf.states_hashsize"), (some("32768"), some("1048576")));
        assert_eq!(both("kern.ipc.maxsockbuf"), (some("2097152"), some("16777216")));
        assert_eq!(both("net.inet.tcp.recvbuf_max"), (some("1048576"), some("8388608")));
        assert_eq!(both("net.isr.maxthreads"), (None, some("8")));
        assert_eq!(both("net.inet.ip.maxfragpackets"), (some("2048"), some("8192")));
        assert_eq!(value(&small, "machdep.hyperthreading_allowed"), None);
        let threads = value(&large, "machdep.hyperthreading_allowed");
        assert_eq!(threads, Some(("0".into(), "loader".into(), false)));
        let four = Hardware { ram_mb: 4096, ..Hardware::default() };
        assert_eq!(value(&four, "net.pf.states_hashsize").map(|v| v.0), some("131072"));
    }
}
