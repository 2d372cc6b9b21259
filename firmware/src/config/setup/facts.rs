//! What setup wants to know of the machine, and what follows from it: the tuning list and the sizes of buffers
//! (contract/console.md §2, §4). Pure; the platform fills the facts in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::settings::TuningEntry;

/// The machine, as far as its size matters. Zero = not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// MiB.
    pub ram_mb: u64,
    pub cores: u32,
    pub threads_per_core: u32,
    /// Kernel modules of hardware that speeds up cryptography: `aesni`, `armv8crypto`, `qat`.
    pub crypto: Vec<String>,
    /// Names of the network cards.
    pub interfaces: Vec<String>,
}

/// One line of the list that the dialogue shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TuningItem {
    /// What it is called in the setup file: the name of the variable.
    pub key: String,
    pub value: String,
    /// `sysctl` (at once), `loader` (after a reboot), `module`, `interface` (a network card's flags).
    pub target: String,
    pub reason: String,
    pub on: bool,
}

impl TuningItem {
    pub(super) fn entry(&self, on: bool) -> TuningEntry {
        TuningEntry {
            key: self.key.clone(),
            value: self.value.clone(),
            target: self.target.clone(),
            reason: self.reason.clone(),
            enabled: on,
        }
    }
}

/// MiB of alerts and seconds of history for a size of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    pub alert_mb: u32,
    pub history_seconds: u32,
}

impl Facts {
    /// What setup turns on unless told otherwise; in the order in which it is shown.
    pub fn tuning(&self) -> Vec<TuningItem> {
        let ram = self.ram_mb;
        let mut items = Vec::new();
        let mut add = |target: &str, key: &str, value: String, reason: &str, on: bool| {
            let (target, key, reason) = (target.into(), key.into(), reason.into());
            items.push(TuningItem { key, value, target, reason, on });
        };
        add("sysctl", "net.inet.ip.forwarding", "1".into(), "IPv4 packets are forwarded", true);
        add("sysctl", "net.inet6.ip6.forwarding", "1".into(), "IPv6 packets are forwarded", true);
        add("sysctl", "net.inet.tcp.syncookies", "1".into(), "SYN floods cost no memory", true);
        add("loader", "net.fibs", "16".into(), "routing tables for several uplinks", true);
        let states = match ram {
            0..=1024 => 32_768,
            1025..=4096 => 131_072,
            4097..=16_384 => 524_288,
            _ => 1_048_576,
        };
        add("loader", "net.pf.states_hashsize", states.to_string(), "buckets of the state table", true);
        let buffer: u64 = match ram {
            0..=2048 => 2_097_152,
            2049..=8192 => 4_194_304,
            _ => 16_777_216,
        };
        add("sysctl", "kern.ipc.maxsockbuf", buffer.to_string(), "largest socket buffer", true);
        for side in ["net.inet.tcp.sendbuf_max", "net.inet.tcp.recvbuf_max"] {
            add("sysctl", side, (buffer / 2).to_string(), "half of the largest socket buffer", true);
        }
        if self.cores > 1 {
            add("sysctl", "net.isr.dispatch", "deferred".into(), "packets are spread over the cores", true);
            add("loader", "net.isr.maxthreads", self.cores.to_string(), "one thread per core", true);
        }
        let fragments = if ram <= 2048 { "2048" } else { "8192" };
        for family in ["net.inet.ip.maxfragpackets", "net.inet6.ip6.maxfragpackets"] {
            add("sysctl", family, fragments.into(), "fragmented packets being put together", true);
        }
        for module in &self.crypto {
            add("module", module, "YES".into(), "encryption in hardware", true);
        }
        for name in &self.interfaces {
            add("interface", name, "-tso -lro".into(), "offloading that routers must not use", true);
        }
        if self.threads_per_core > 1 {
            let reason = "no hyper-threading, against side channels";
            add("loader", "machdep.hyperthreading_allowed", "0".into(), reason, false);
        }
        items
    }

    /// `None` when the memory is not known.
    pub fn buffers(&self) -> Option<Buffers> {
        let (alert_mb, history_seconds) = match self.ram_mb {
            0 => return None,
            1..=1024 => (16, 900),
            1025..=2048 => (32, 1800),
            2049..=4096 => (48, 1800),
            4097..=8192 => (64, 3600),
            8193..=16_384 => (128, 3600),
            _ => (256, 7200),
        };
        Some(Buffers { alert_mb, history_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ram(ram_mb: u64) -> Facts {
        Facts {
            ram_mb,
            cores: 4,
            threads_per_core: 2,
            crypto: vec!["aesni".into()],
            interfaces: vec!["em0".into()],
        }
    }

    #[test]
    fn behaviour_18_memory_decides_the_buffers() {
        let sizes = [1024, 2048, 4096, 8192, 16_384, 32_768].map(|ram| with_ram(ram).buffers());
        let expected = [(16, 900), (32, 1800), (48, 1800), (64, 3600), (128, 3600), (256, 7200)];
        assert_eq!(
            sizes,
            expected.map(|(alert_mb, history_seconds)| Some(Buffers { alert_mb, history_seconds }))
        );
        assert_eq!(Facts::default().buffers(), None);
    }

    #[test]
    fn the_list_follows_the_machine() {
        let value = |facts: &Facts, key: &str| {
            facts.tuning().into_iter().find(|item| item.key == key).map(|item| (item.value, item.on))
        };
        let set = |text: &str| Some((text.to_owned(), true));
        let big = with_ram(32_768);
        assert_eq!(value(&big, "net.pf.states_hashsize"), set("1048576"));
        assert_eq!(value(&big, "kern.ipc.maxsockbuf"), set("16777216"));
        assert_eq!(value(&big, "net.inet.tcp.sendbuf_max"), set("8388608"));
        assert_eq!(value(&big, "net.isr.maxthreads"), set("4"));
        assert_eq!(value(&big, "aesni"), set("YES"));
        assert_eq!(value(&big, "em0"), set("-tso -lro"));
        assert_eq!(value(&big, "machdep.hyperthreading_allowed"), Some(("0".into(), false)));
        let small = Facts { ram_mb: 1024, cores: 1, threads_per_core: 1, ..Facts::default() };
        assert_eq!(value(&small, "net.pf.states_hashsize"), set("32768"));
        assert_eq!(value(&small, "net.inet.ip.maxfragpackets"), set("2048"));
        assert_eq!(value(&small, "net.isr.dispatch"), None);
        assert_eq!(value(&small, "machdep.hyperthreading_allowed"), None);
    }
}
