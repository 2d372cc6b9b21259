//! What each daemon's files say: pure functions from a configuration and [`Facts`] to [`Artifacts`]. One file
//! per daemon. Called by `services/`; no effects.

pub mod anchors;
pub mod dhcp;
pub mod ids;
pub mod proxy;
pub mod time;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::InterfaceFacts;
use crate::config::Timestamp;

/// What a daemon is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// Whether it is to run.
    pub enabled: bool,
    /// All files that are made from the configuration; others of the same directory are left alone.
    pub files: Vec<File>,
    /// Files that must be there before it starts, with what they hold at first: data that changes while it runs.
    pub seeds: Vec<File>,
    /// What is configured but cannot be as its author expects.
    pub warnings: Vec<String>,
    /// What else running the daemon depends on, by name: where it listens, how much it says.
    pub facts: Vec<(&'static str, String)>,
}

impl Artifacts {
    /// What is known under a name; empty when nothing is.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }
}

/// A file of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below [`Places::config`]; no `..`.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl File {
    /// Readable by its owner alone.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: text.into(), mode: 0o600 }
    }
}

/// Directories of one daemon, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Files made from the configuration.
    pub config: PathBuf,
    /// Sockets and pid files.
    pub run: PathBuf,
    /// What it keeps: leases, caches.
    pub data: PathBuf,
    pub log: PathBuf,
}

/// What the configuration alone does not say.
#[derive(Debug, Clone)]
pub struct Facts {
    pub interfaces: Vec<InterfaceFacts>,
    pub places: Places,
    pub listen: ListenMap,
    /// Below it lie the files that the configuration names by absolute paths: `/` on the appliance.
    pub root: PathBuf,
    /// The daemon shares a development host with others: it must not touch the host's clock and the like.
    pub sandbox: bool,
    pub now: Timestamp,
}

impl Facts {
    /// Where a file really is that the configuration names by an absolute path.
    pub fn path(&self, configured: &str) -> PathBuf {
        self.root.join(configured.trim_start_matches('/'))
    }

    /// Addresses of an interface; empty when there is none of that name.
    pub fn addresses_of(&self, interface: &str) -> Vec<IpAddr> {
        let facts = self.interfaces.iter().filter(|facts| facts.name.as_str() == interface);
        facts.flat_map(|facts| facts.networks.iter().map(|network| network.addr())).collect()
    }
}

/// Where a daemon really listens that is configured to listen somewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListenMap {
    /// There.
    #[default]
    AsConfigured,
    /// On loopback, well-known ports (below 1024) being `offset` higher: what an unprivileged process on a
    /// development host can do.
    Loopback { offset: u16 },
}

impl ListenMap {
    pub fn at(self, configured: SocketAddr) -> SocketAddr {
        match self {
            Self::AsConfigured => configured,
            Self::Loopback { .. } => {
                let ip = match configured.ip() {
                    ip if ip.is_loopback() => ip,
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                SocketAddr::new(ip, self.port(configured.port()))
            }
        }
    }

    pub fn port(self, configured: u16) -> u16 {
        match self {
            Self::Loopback { offset } if configured < 1024 => configured.saturating_add(offset),
            _ => configured,
        }
    }

    /// Each place once, in the order given.
    pub fn all(self, configured: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let mut places = Vec::new();
        for place in configured.into_iter().map(|place| self.at(place)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sandbox_listens_on_loopback_and_high_ports() {
        let listen = ListenMap::Loopback { offset: 10_000 };
        let at = |text: &str| listen.at(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:53"), "127.0.0.1:10053");
        assert_eq!(at("[::]:443"), "[::1]:10443");
        assert_eq!(at("127.0.0.2:8080"), "127.0.0.2:8080");
        let both = ["192.168.1.1:53", "127.0.0.1:53"].map(|text| text.parse().unwrap());
        assert_eq!(listen.all(both).len(), 1);
        assert_eq!(ListenMap::AsConfigured.all(both).len(), 2);
    }
}
