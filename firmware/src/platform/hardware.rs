//! What the machine is made of, as the first-boot dialogue and the installer show it, and the state of an
//! installation to another disk. Types only; the platforms fill them in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::setup::Facts;

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hardware {
    pub cpu: String,
    pub architecture: String,
    pub cores: u32,
    pub threads_per_core: u32,
    pub ram_mb: u64,
    /// Kernel modules of hardware that speeds up cryptography.
    pub crypto: Vec<String>,
    pub nics: Vec<Nic>,
    pub disks: Vec<DiskDrive>,
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nic {
    pub name: String,
    pub driver: String,
    pub mac: Option<String>,
    /// Whether there is a carrier; `None` where the card does not tell.
    pub link: Option<bool>,
}

/// A whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskDrive {
    pub name: String,
    pub bytes: u64,
    pub model: String,
    /// `SSD`, `HDD` or `disk` where it is not known.
    pub kind: String,
    /// Something of it is mounted or opened for writing.
    pub in_use: bool,
    /// The running system was started from it.
    pub boot: bool,
}

impl Hardware {
    /// What setup decides by.
    pub fn facts(&self) -> Facts {
        Facts {
            ram_mb: self.ram_mb,
            cores: self.cores,
            threads_per_core: self.threads_per_core,
            crypto: self.crypto.clone(),
            interfaces: self.nics.iter().map(|nic| nic.name.clone()).collect(),
        }
    }
}

impl Nic {
    /// `vtnet0` is driven by `vtnet`.
    pub fn named(name: &str) -> Self {
        let driver = name.trim_end_matches(|c: char| c.is_ascii_digit());
        Self { name: name.into(), driver: driver.into(), ..Self::default() }
    }

    /// Names that are no network card: loopback, pf's and IPsec's own, tunnels and bridges.
    pub fn is_virtual(name: &str) -> bool {
        const KINDS: [&str; 14] = [
            "lo", "pflog", "pfsync", "enc", "gif", "gre", "stf", "tun", "tap", "wg", "bridge", "epair",
            "vlan", "lagg",
        ];
        let numbered = |kind: &&str| {
            name.strip_prefix(*kind).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        // `em0.20` is a VLAN of em0 (ifconfig(8)).
        name.contains('.') || KINDS.iter().any(numbered)
    }
}

/// How far an installation has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// In words, for a person.
    pub step: String,
    pub done: u64,
    pub total: u64,
}
