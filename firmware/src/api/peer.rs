//! Where a request came from: what the listener knows of the connection, and which address counts as the
//! client's. Attached to the request by the listener (`http_types` extension), read by the router.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp {
        peer: SocketAddr,
        /// Our end.
        local: Option<SocketAddr>,
        tls: bool,
    },
    /// The local socket; the kernel has vouched for root (or for our own user).
    Local { uid: u32 },
}

impl Peer {
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
    /// Our end of the connection.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { local, .. } => *local,
            Self::Local { .. } => None,
        }
    }
    /// The client's address: the socket's peer. `X-Forwarded-For` counts only when the peer is loopback or a
    /// `trusted` proxy; then it is the right-most hop that is neither (contract/auth.md §3).
    pub fn client(&self, forwarded_for: Option<&str>, trusted: &[IpNet]) -> Option<IpAddr> {
        let Self::Tcp { peer, .. } = self else { return None };
        let peer = peer.ip().to_canonical();
        let is_proxy = |ip: &IpAddr| ip.is_loopback() || trusted.iter().any(|network| network.contains(ip));
        let Some(hops) = forwarded_for.filter(|_| is_proxy(&peer)) else { return Some(peer) };
        let mut client = peer;
        for hop in hops.rsplit(',') {
            let Some(ip) = parse_hop(hop.trim()) else { break };
            client = ip;
            if !is_proxy(&ip) {
                break;
            }
        }
        Some(client)
    }
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(peer: &str, forwarded: Option<&str>, trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let peer = Peer::Tcp { peer: peer.parse().unwrap(), local: None, tls: false };
        peer.client(forwarded, &trusted).unwrap().to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(client("203.0.113.9:1000", Some("10.0.0.1"), &[]), "203.0.113.9");
    }
    #[test]
    fn behind_a_proxy_the_right_most_untrusted_hop_counts() {
        assert_eq!(client("127.0.0.1:1", Some("1.1.1.1, 198.51.100.7"), &[]), "198.51.100.7");
        let hops = Some("1.1.1.1, 198.51.100.7, 10.0.0.2");
        assert_eq!(client("127.0.0.1:1", hops, &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(client("127.0.0.1:1", hops, &[]), "10.0.0.2");
        assert_eq!(client("10.0.0.3:1", Some("[2001:db8::5]:4711"), &["10.0.0.0/8"]), "2001:db8::5");
    }
    #[test]
    fn nonsense_in_the_header_ends_the_walk() {
        assert_eq!(client("127.0.0.1:1", Some("unknown"), &[]), "127.0.0.1");
        assert_eq!(client("127.0.0.1:1", Some("8.8.8.8, ; drop, 127.0.0.1"), &[]), "127.0.0.1");
        assert_eq!(client("[::ffff:127.0.0.1]:1", Some("8.8.8.8"), &[]), "8.8.8.8");
    }
}
