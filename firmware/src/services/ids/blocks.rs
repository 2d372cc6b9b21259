//! Sources that are blocked for a time: what pf's table should hold. Expiry is a moment, so that nothing runs for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::compile::InterfaceFacts;
use crate::config::Config;

/// More are not blocked at once: the oldest go.
const MOST: usize = 100_000;

/// The blocked sources.
#[derive(Debug, Default)]
pub struct Blocks {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    until: BTreeMap<IpAddr, Instant>,
    /// Blocks that were made since the start.
    made: u64,
}

impl Blocks {
    /// Blocks a source for a time, or for longer. Returns whether it was not blocked before.
    pub fn add(&self, source: IpAddr, time: Duration, now: Instant) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = held.until.insert(source, now + time).is_none();
        held.made += u64::from(fresh);
        if held.until.len() > MOST
            && let Some(oldest) = held.until.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip)
        {
            held.until.remove(&oldest);
        }
        fresh
    }

    /// Those that are blocked now, as entries of a table.
    pub fn entries(&self, now: Instant) -> Vec<String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.until.retain(|_, until| *until > now);
        held.until.keys().map(ToString::to_string).collect()
    }

    pub fn clear(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).until.clear();
    }

    pub fn made(&self) -> u64 {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).made
    }
}

/// Whether a source may be blocked: never the home networks, an address of our own, a gateway, a name server, nor
/// where an administrator is (`spared`).
pub fn may_block(
    source: IpAddr,
    config: &Config,
    interfaces: &[InterfaceFacts],
    spared: &BTreeSet<IpAddr>,
) -> bool {
    let mut home = config.ids.home_net.iter().filter_map(|net| {
        let net = net.strip_prefix('!').is_none().then_some(net.as_str())?;
        net.parse::<IpNet>().ok().or_else(|| Some(IpNet::from(net.parse::<IpAddr>().ok()?)))
    });
    let system = &config.system;
    let own = interfaces.iter().flat_map(|interface| &interface.networks).any(|net| net.addr() == source);
    !(source.is_loopback()
        || source.is_unspecified()
        || source.is_multicast()
        || own
        || spared.contains(&source)
        || home.any(|net| net.contains(&source))
        || system.wan_gateway == Some(source)
        || system.dns_servers.iter().any(|server| server.ip == source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blocks_end_by_themselves_and_some_are_never_made() {
        let (blocks, now) = (Blocks::default(), Instant::now());
        let source = "203.0.113.9".parse().unwrap();
        assert!(blocks.add(source, Duration::from_secs(60), now));
        assert!(!blocks.add(source, Duration::from_secs(60), now + Duration::from_secs(30)));
        assert_eq!(blocks.entries(now + Duration::from_secs(80)), ["203.0.113.9"]);
        assert!(blocks.entries(now + Duration::from_secs(91)).is_empty());
        assert_eq!(blocks.made(), 1);
        let config = Config::default();
        let own = InterfaceFacts::of("em0", &["198.51.100.2/24".parse().unwrap()]).unwrap();
        for never in ["192.168.7.7", "10.0.0.1", "127.0.0.1", "198.51.100.2", "224.0.0.1"] {
            let never: IpAddr = never.parse().unwrap();
            let none = BTreeSet::new();
            assert!(!may_block(never, &config, std::slice::from_ref(&own), &none), "{never}");
        }
        let stranger: IpAddr = "203.0.113.9".parse().unwrap();
        assert!(may_block(stranger, &config, std::slice::from_ref(&own), &BTreeSet::new()));
        assert!(!may_block(stranger, &config, &[own], &BTreeSet::from([stranger])));
    }
}
