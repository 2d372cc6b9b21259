//! Names of time sources. The daemon resolves a name once, at its start, takes the first address, and ends when one
//! cannot be resolved; so names are resolved here, and those that cannot be are left out, with a warning. Addresses
//! that were good once are kept for the next start: DNS may need the time first.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::compile::services::Places;
use crate::compile::services::time::Resolved;
use crate::config::Config;
use crate::config::time::SourceAddress;
use crate::services::files;

/// Of a pool, which answers with different servers under one name.
const OF_A_POOL: usize = 4;
const LIMIT: Duration = Duration::from_secs(4);
/// Asked again within that time, a name has the addresses that it had.
const FRESH: Duration = Duration::from_secs(60);
const KEPT: &str = "resolved.json";

type Addresses = Vec<IpAddr>;

/// Names that were resolved, and when.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<BTreeMap<Arc<str>, (Instant, Addresses)>>,
}

impl Names {
    /// The enabled sources with their addresses, and what could not be found. Blocks for 4 s at most.
    pub fn sources(&self, config: &Config, places: &Places) -> (Vec<Resolved>, Vec<String>) {
        let mut stored: Vec<_> = config.time_sources.iter().filter(|source| source.enabled).collect();
        stored.sort_by(|a, b| a.address.cmp(&b.address));
        let (mut sources, mut warnings) = (Vec::new(), Vec::new());
        let mut parsed: Vec<(_, SourceAddress)> = Vec::new();
        for source in &stored {
            match source.address.parse() {
                Ok(address) => parsed.push((source, address)),
                // What was imported was not checked.
                Err(bad) => warnings.push(format!("source {:?} is left out: {bad}", source.address)),
            }
        }
        let names = parsed.iter().filter_map(|(_, address)| match address {
            SourceAddress::Name { name, .. } => Some(name.clone()),
            SourceAddress::Ip(_) => None,
        });
        let found = self.look_up(names.collect());
        let path = places.data.join(KEPT);
        let kept: BTreeMap<String, Addresses> =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let mut good = BTreeMap::new();
        for (source, address) in parsed {
            let mut add = |address: SocketAddr| {
                if sources.iter().all(|known: &Resolved| known.address != address) {
                    sources.push(Resolved {
                        address,
                        nts: source.nts,
                        min_poll: source.min_poll,
                        max_poll: source.max_poll,
                    });
                }
            };
            match address {
                SourceAddress::Ip(place) => add(place),
                SourceAddress::Name { name, port } => {
                    let most = if name.contains("pool") { OF_A_POOL } else { 1 };
                    let addresses = match found.get(&name).filter(|addresses| !addresses.is_empty()) {
                        Some(addresses) => addresses,
                        None => match kept.get(&*name) {
                            Some(addresses) => {
                                warnings.push(format!(
                                    "source {name} does not resolve now; its last addresses are used"
                                ));
                                addresses
                            }
                            None => {
                                warnings.push(format!("source {name} does not resolve and is left out"));
                                continue;
                            }
                        },
                    };
                    // The daemon asks over IPv4 alone: an IPv6 address is of use only to tell that there is one.
                    let four = addresses.iter().any(IpAddr::is_ipv4);
                    let usable = addresses.iter().filter(|ip| ip.is_ipv4() || !four);
                    usable.take(most).for_each(|ip| add(SocketAddr::new(*ip, port)));
                    good.insert(name.to_string(), addresses.clone());
                }
            }
        }
        for source in sources.iter().filter(|source| source.address.is_ipv6()) {
            warnings.push(format!(
                "source {}: this version of the daemon asks over IPv4 only; it will get no answer",
                source.address
            ));
        }
        if good != kept
            && let Ok(text) = serde_json::to_vec(&good)
            && let Err(error) = files::write(&path, &text, 0o600)
        {
            log::warn!("time sources: {error}");
        }
        (sources, warnings)
    }

    fn look_up(&self, names: Vec<Arc<str>>) -> BTreeMap<Arc<str>, Addresses> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |at: &Instant| at.elapsed() > FRESH;
        let wanted: Vec<_> =
            names.iter().filter(|name| known().get(*name).is_none_or(|(at, _)| old(at))).cloned().collect();
        for (name, addresses) in resolve(wanted) {
            known().insert(name, (Instant::now(), addresses));
        }
        let known = known();
        names.into_iter().filter_map(|name| Some((name.clone(), known.get(&name)?.1.clone()))).collect()
    }
}

/// Looks names up side by side; what takes longer than 4 s has no addresses. IPv4 first, in a fixed order, so that
/// the same answer is the same list.
pub fn resolve(names: Vec<Arc<str>>) -> Vec<(Arc<str>, Addresses)> {
    let (sender, receiver) = mpsc::channel();
    for name in names.clone() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let found = (&*name, 0).to_socket_addrs().map(|all| all.map(|place| place.ip()).collect());
            let mut addresses: Addresses = found.unwrap_or_default();
            addresses.sort();
            addresses.dedup();
            sender.send((name, addresses)).ok();
        });
    }
    drop(sender);
    let end = Instant::now() + LIMIT;
    let mut found = Vec::new();
    while let Ok(one) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
        found.push(one);
    }
    for name in names {
        if found.iter().all(|(known, _)| *known != name) {
            found.push((name, Vec::new()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Id;
    use crate::config::time::TimeSource;

    fn config(addresses: &[&str]) -> Config {
        let source = |address: &&str| TimeSource {
            id: Id::new_v4(),
            address: (*address).to_owned(),
            nts: false,
            min_poll: 4,
            max_poll: 10,
            enabled: true,
        };
        Config { time_sources: addresses.iter().map(source).collect(), ..Config::default() }
    }

    #[test]
    fn a_name_that_does_not_resolve_has_the_addresses_that_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let places =
            Places { config: place("etc"), run: place("run"), data: place("data"), log: place("log") };
        let config = config(&["pool.ntp.invalid:1123", "new.invalid", "192.0.2.1", "2001:db8::1", "a b"]);
        let kept = r#"{"pool.ntp.invalid": ["192.0.2.7", "192.0.2.8", "2001:db8::7"]}"#;
        files::write(&places.data.join(KEPT), kept.as_bytes(), 0o600).unwrap();
        let (sources, warnings) = Names::default().sources(&config, &places);
        let found: Vec<_> = sources.iter().map(|source| source.address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1:123", "[2001:db8::1]:123", "192.0.2.7:1123", "192.0.2.8:1123"]);
        for (warning, told) in warnings.iter().zip([
            "source \"a b\" is left out",
            "source new.invalid does not resolve and is left out",
            "source pool.ntp.invalid does not resolve now; its last addresses are used",
            "source [2001:db8::1]:123: this version of the daemon asks over IPv4 only",
        ]) {
            assert!(warning.starts_with(told), "{warning}");
        }
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        // And they are kept on.
        assert!(std::fs::read_to_string(places.data.join(KEPT)).unwrap().contains("192.0.2.8"));
    }
}
