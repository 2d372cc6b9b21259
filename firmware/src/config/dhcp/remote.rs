//! Names of clients in the DNS (RFC 2136), and leases on more than one node: what is configured of both.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DhcpDdns, DhcpHa, names};
use crate::config::ha::NodeRole;
use crate::config::{Config, Invalid, Refusal, Secret};

/// What stands for a secret that is set.
pub const MASK: &str = "***";
/// MD5 is taken for old servers, with a warning.
pub const ALGORITHMS: [&str; 6] =
    ["hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1", "hmac-md5"];
const DNS_PORT: u16 = 53;
const PEER_PORT: u16 = 9000;

/// Those that updates can be signed with here.
pub const SIGNABLE: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];

/// Settings to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DdnsRequest {
    enabled: Option<bool>,
    forward_zone: Option<String>,
    reverse_zone_v4: Option<String>,
    reverse_zone_v6: Option<String>,
    dns_server: Option<String>,
    tsig_key: Option<String>,
    tsig_algorithm: Option<String>,
    /// `***` keeps the stored one, `""` clears it.
    tsig_secret: Option<String>,
    ttl: Option<u32>,
}

fn expected(field: &str, what: impl std::fmt::Display) -> Invalid {
    Invalid::new(field, format!("expected {what}"))
}

/// `ip`, `ip:port` or `[v6]:port`.
pub fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)))
}

impl DdnsRequest {
    pub fn change(self, stored: &DhcpDdns) -> Result<DhcpDdns, Invalid> {
        let text =
            |given: Option<String>, old: &str| given.map_or(old.to_owned(), |text| text.trim().to_owned());
        let secret = match self.tsig_secret {
            Some(text) if text != MASK => Secret::new(text.trim()),
            _ => stored.tsig_secret.clone(),
        };
        let algorithm = text(self.tsig_algorithm, &stored.tsig_algorithm);
        let ddns = DhcpDdns {
            enabled: self.enabled.unwrap_or(stored.enabled),
            forward_zone: text(self.forward_zone, &stored.forward_zone),
            reverse_zone_v4: text(self.reverse_zone_v4, &stored.reverse_zone_v4),
            reverse_zone_v6: text(self.reverse_zone_v6, &stored.reverse_zone_v6),
            dns_server: text(self.dns_server, &stored.dns_server),
            tsig_key: text(self.tsig_key, &stored.tsig_key),
            tsig_algorithm: if algorithm.is_empty() {
                ALGORITHMS[0].into()
            } else {
                algorithm.to_ascii_lowercase()
            },
            tsig_secret: secret,
            ttl: self.ttl.unwrap_or(stored.ttl),
        };
        ddns.check().map(|()| ddns)
    }
}

impl DhcpDdns {
    fn check(&self) -> Result<(), Invalid> {
        if self.enabled && self.forward_zone.is_empty() {
            return Err(expected("forward_zone", "a zone, since enabled is set"));
        }
        if self.enabled && self.dns_server.is_empty() {
            return Err(expected("dns_server", "a server, since enabled is set"));
        }
        if !self.dns_server.is_empty() && server(&self.dns_server).is_none() {
            return Err(expected("dns_server", "an IP address, with or without a port"));
        }
        for (field, zone, ending) in [
            ("forward_zone", &self.forward_zone, ""),
            ("reverse_zone_v4", &self.reverse_zone_v4, "in-addr.arpa"),
            ("reverse_zone_v6", &self.reverse_zone_v6, "ip6.arpa"),
        ] {
            let bare = zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase();
            if !zone.is_empty() && (!names::is_domain(zone) || !bare.ends_with(ending)) {
                let what = if ending.is_empty() {
                    "a zone".to_owned()
                } else {
                    format!("a zone that ends in {ending}")
                };
                return Err(expected(field, what));
            }
        }
        if !ALGORITHMS.contains(&self.tsig_algorithm.as_str()) {
            return Err(expected("tsig_algorithm", ALGORITHMS.join(", ")));
        }
        let secret = self.tsig_secret.expose();
        if self.tsig_key.is_empty() != secret.is_empty() {
            return Err(expected("tsig_key", "a key name and a secret, or neither"));
        }
        if !self.tsig_key.is_empty() && !names::is_domain(&self.tsig_key) {
            return Err(expected("tsig_key", "the name of a key"));
        }
        if !secret.is_empty() && data_encoding::BASE64.decode(secret.as_bytes()).is_err() {
            return Err(expected("tsig_secret", "base64"));
        }
        if !(1..=604_800).contains(&self.ttl) {
            return Err(expected("ttl", "1 to 604800 seconds"));
        }
        Ok(())
    }
}

/// All of it: what is absent is null.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HaRequest {
    mode: Option<String>,
    peer: Option<String>,
    listen: Option<String>,
    scope_split: Option<f64>,
    mclt: Option<i64>,
    partner_down_delay: Option<i64>,
    node_id: Option<i64>,
    peers: Option<Vec<String>>,
    tls_cert: Option<String>,
    tls_key: Option<String>,
    tls_ca: Option<String>,
}

/// `host:port`.
fn is_place(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok_and(|place| place.port() != 0)
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            names::is_domain(host) && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
}

impl HaRequest {
    /// The TLS files that it names, by field.
    pub fn tls_files(&self) -> Vec<(&'static str, String)> {
        let files = [("tls_cert", &self.tls_cert), ("tls_key", &self.tls_key), ("tls_ca", &self.tls_ca)];
        let named = |(field, path): (&'static str, &Option<String>)| {
            path.as_deref()
                .map(str::trim)
                .filter(|path| path.starts_with('/'))
                .map(|path| (field, path.to_owned()))
        };
        files.into_iter().filter_map(named).collect()
    }

    /// The settings, where the cluster does not derive the peers (`derived`), which then may not be others.
    pub fn settings(self, derived: Option<&Derived>) -> Result<DhcpHa, Refusal> {
        let text =
            |given: Option<String>| given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let count = |field: &str, given: Option<i64>| {
            given.map(|number| u32::try_from(number).map_err(|_| expected(field, "0 or more"))).transpose()
        };
        let peers = self.peers.filter(|peers| !peers.is_empty());
        let mut ha = DhcpHa {
            mode: text(self.mode).unwrap_or_else(|| "standalone".into()),
            peer: text(self.peer),
            listen: text(self.listen),
            scope_split: self.scope_split,
            mclt: count("mclt", self.mclt)?,
            partner_down_delay: count("partner_down_delay", self.partner_down_delay)?,
            node_id: count("node_id", self.node_id)?,
            peers,
            tls_cert: text(self.tls_cert),
            tls_key: text(self.tls_key),
            tls_ca: text(self.tls_ca),
        };
        if let Some(derived) = derived {
            let others = ha.peer.as_ref().is_some_and(|peer| Some(peer) != derived.peer.as_ref())
                || ha.peers.as_ref().is_some_and(|peers| *peers != derived.peers);
            if others {
                return Err(Refusal::Conflict("peer: the cluster's nodes say who the peers are".into()));
            }
            (ha.peer, ha.peers) = (None, None);
        }
        ha.check(derived)?;
        Ok(ha)
    }
}

impl DhcpHa {
    fn check(&self, derived: Option<&Derived>) -> Result<(), Invalid> {
        if !["standalone", "active-active", "raft"].contains(&self.mode.as_str()) {
            return Err(expected("mode", "standalone, active-active or raft"));
        }
        let has_peer = self.peer.is_some() || derived.is_some_and(|derived| derived.peer.is_some());
        let has_peers = self.peers.is_some() || derived.is_some_and(|derived| !derived.peers.is_empty());
        if self.mode == "active-active" && !has_peer {
            return Err(expected("peer", "host:port, for active-active"));
        }
        if self.mode == "raft" && self.node_id.is_none() {
            return Err(expected("node_id", "a number, for raft"));
        }
        if self.mode == "raft" && !has_peers {
            return Err(expected("peers", "at least one host:port, for raft"));
        }
        if self.scope_split.is_some_and(|split| !(split > 0.0 && split < 1.0)) {
            return Err(expected("scope_split", "a number between 0 and 1"));
        }
        for (field, place) in [("peer", &self.peer), ("listen", &self.listen)] {
            if place.as_ref().is_some_and(|place| !is_place(place)) {
                return Err(expected(field, "host:port"));
            }
        }
        if self.peers.iter().flatten().any(|place| !is_place(place)) {
            return Err(expected("peers", "host:port in each"));
        }
        let paths = [("tls_cert", &self.tls_cert), ("tls_key", &self.tls_key), ("tls_ca", &self.tls_ca)];
        let given = paths.iter().filter(|(_, path)| path.is_some()).count();
        for (field, path) in paths {
            match path {
                None if given > 0 => return Err(expected(field, "all three TLS files, or none")),
                Some(path) if !path.starts_with('/') || path.split('/').any(|part| part == "..") => {
                    return Err(expected(field, "an absolute path without .."));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Peers that follow from the cluster's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    pub peer: Option<String>,
    pub peers: Vec<String>,
}

/// The peers that the cluster's nodes make, when it links DHCP to it: those with another role than this one's, at the
/// port that `listen` names.
pub fn derived(config: &Config) -> Option<Derived> {
    let pfsync = config.ha.pfsync.as_ref().filter(|pfsync| pfsync.dhcp_link)?;
    let own = pfsync.local_role.unwrap_or(NodeRole::Standalone);
    let listen = config.dhcp_ha.listen.as_deref().and_then(|place| place.rsplit_once(':'));
    let port = listen.and_then(|(_, port)| port.parse().ok()).unwrap_or(PEER_PORT);
    let mut peers: Vec<String> = config
        .ha_nodes
        .iter()
        .filter(|node| own != NodeRole::Standalone && node.role != own)
        .map(|node| match node.address.parse() {
            Ok(ip) => SocketAddr::new(ip, port).to_string(),
            Err(_) => format!("{}:{port}", node.address),
        })
        .collect();
    peers.sort();
    Some(Derived { peer: peers.first().cloned(), peers })
}
