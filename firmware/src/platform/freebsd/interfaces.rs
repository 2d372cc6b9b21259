//! ifconfig(8) with addresses in CIDR form, and the counters of `netstat -ibdn` beside it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::platform::{Interface, VlanTag};

/// Everything about every interface, addresses with their prefix.
pub const SHOW: &[&str] = &["-f", "inet:cidr,inet6:cidr", "-a"];

/// An address as ifconfig shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub net: IpNet,
    /// It is a CARP group's (carp(4)).
    pub shared: bool,
    /// The kernel made it from a router advertisement.
    pub autoconf: bool,
}

/// An interface with what only its configuration asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub interface: Interface,
    /// In ifconfig's order.
    pub addresses: Vec<Address>,
    /// Groups it is a member of.
    pub groups: Vec<String>,
    /// Flags of neighbour discovery: `IFDISABLED`, `ACCEPT_RTADV`, …
    pub nd6: Vec<String>,
}

impl Seen {
    pub fn has_nd6(&self, flag: &str) -> bool {
        self.nd6.iter().any(|known| known == flag)
    }
}

/// Interfaces in ifconfig's order, without counters. A name stands at the start of a line, what belongs to it
/// follows on lines that begin with a tab.
pub fn read(text: &str) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for line in text.lines() {
        if !line.starts_with(['\t', ' ']) {
            all.extend(read_head(line));
        } else if let Some(seen) = all.last_mut() {
            read_detail(line, seen);
        }
    }
    for seen in &mut all {
        let mut addresses: Vec<IpNet> = seen.addresses.iter().map(|address| address.net).collect();
        addresses.sort_by_key(|address| address.addr().is_ipv6());
        seen.interface.addresses = addresses;
    }
    all
}

/// `em0: flags=1008843<UP,BROADCAST,RUNNING> metric 0 mtu 1500`
fn read_head(line: &str) -> Option<Seen> {
    let (name, rest) = line.split_once(": flags=")?;
    let mut words = rest.split_whitespace();
    let up = in_brackets(words.next()?).any(|flag| flag == "UP");
    let mtu = words.skip_while(|word| *word != "mtu").nth(1).and_then(|mtu| mtu.parse().ok()).unwrap_or(0);
    Some(Seen {
        interface: Interface { name: name.into(), up, mtu, ..Interface::default() },
        ..Seen::default()
    })
}

/// `8843<UP,BROADCAST>`
fn in_brackets(word: &str) -> impl Iterator<Item = &str> {
    let (_, names) = word.split_once('<').unwrap_or_default();
    names.trim_end_matches('>').split(',').filter(|name| !name.is_empty())
}

fn read_detail(line: &str, seen: &mut Seen) {
    let line = line.trim();
    let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = || rest.split_whitespace();
    let interface = &mut seen.interface;
    match key {
        "ether" => interface.mac = words().next().map(Into::into),
        "inet" | "inet6" => {
            let words: Vec<&str> = words().collect();
            seen.addresses.extend(read_address(&words).map(|net| Address {
                net,
                shared: words.contains(&"vhid"),
                autoconf: words.contains(&"autoconf"),
            }));
        }
        "description:" => interface.description = Some(rest.to_owned()),
        "media:" => interface.media = Some(rest.to_owned()),
        // Of a wireless or bonded one it is another word.
        "status:" => interface.link = Some(["active", "associated"].contains(&rest)),
        "groups:" => seen.groups = words().map(Into::into).collect(),
        "vlan:" => interface.vlan = read_vlan(rest),
        "nd6" => seen.nd6 = words().flat_map(in_brackets).map(Into::into).collect(),
        _ => {}
    }
}

/// `20 vlanproto: 802.1q vlanpcp: 0 parent interface: em0`; the parent of one that has none is `<none>`.
fn read_vlan(text: &str) -> Option<VlanTag> {
    let tag = text.split_whitespace().next()?.parse().ok()?;
    let parent = text.split_once("parent interface: ")?.1.trim();
    (parent != "<none>").then(|| VlanTag { tag, parent: parent.to_owned() })
}

/// `10.0.2.15/24 broadcast 10.0.2.255`, `fe80::1%em0/64 scopeid 0x2`, `10.9.0.1 --> 10.9.0.2/32`. The scope is
/// dropped, since the interface is known; an address without a prefix is a host.
fn read_address(words: &[&str]) -> Option<IpNet> {
    let (text, prefix) =
        words.first()?.split_once('/').map_or((*words.first()?, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = text.split('%').next()?.parse().ok()?;
    let far_end = || {
        let at = words.iter().position(|word| *word == "-->")?;
        words.get(at + 1)?.split_once('/').map(|(_, prefix)| prefix)
    };
    let prefix = match prefix.or_else(far_end) {
        Some(prefix) => prefix.parse().ok()?,
        None if address.is_ipv4() => 32,
        None => 128,
    };
    IpNet::new(address, prefix).ok()
}

/// `netstat --libxo json -ibdn`.
#[derive(Debug, Deserialize)]
pub struct Counters {
    statistics: Statistics,
}

#[derive(Debug, Deserialize)]
struct Statistics {
    interface: Vec<Row>,
}

/// A row for the interface itself, whose network is `<Link#N>`, and one for each of its addresses.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    name: String,
    #[serde(default)]
    network: String,
    #[serde(default)]
    received_packets: u64,
    #[serde(default)]
    received_errors: u64,
    #[serde(default)]
    received_bytes: u64,
    #[serde(default)]
    sent_packets: u64,
    #[serde(default)]
    send_errors: u64,
    #[serde(default)]
    sent_bytes: u64,
}

impl Counters {
    /// Fills in what each interface has carried. An interface that is down has a `*` behind its name.
    pub fn add_to(&self, interfaces: &mut [Interface]) {
        for row in self.statistics.interface.iter().filter(|row| row.network.starts_with("<Link#")) {
            let name = row.name.trim_end_matches('*');
            if let Some(interface) = interfaces.iter_mut().find(|interface| interface.name == name) {
                interface.packets_in = row.received_packets;
                interface.bytes_in = row.received_bytes;
                interface.packets_out = row.sent_packets;
                interface.bytes_out = row.sent_bytes;
                interface.errors_in = row.received_errors;
                interface.errors_out = row.send_errors;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub const IFCONFIG: &str = "\
vtnet1: flags=1008943<UP,BROADCAST,RUNNING,PROMISC,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\toptions=880028<VLAN_MTU,JUMBO_MTU,LINKSTATE,HWSTATS>
\tether 52:54:00:12:34:57
\tinet6 fd00:1::1/64
\tinet6 fe80::5054:ff:fe12:3457%vtnet1/64 scopeid 0x2
\tinet 192.168.1.1/24 broadcast 192.168.1.255
\tinet 192.168.1.254/32 broadcast 192.168.1.254 vhid 7
\tcarp: MASTER vhid 7 advbase 1 advskew 100
\t      peer 224.0.0.18 peer6 ff02::12
\tstatus: active
\tnd6 options=21<PERFORMNUD,AUTO_LINKLOCAL>
pfsync0: flags=0 metric 0 mtu 1500
\tmaxupd: 128 defer: off version: 1500
\tgroups: pfsync
tun0: flags=1008051<UP,POINTOPOINT,RUNNING,MULTICAST> metric 0 mtu 1500
\tinet 10.9.0.1 --> 10.9.0.2/30
vtnet1.20: flags=1008842<BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\tdescription: guest net
\tether 52:54:00:12:34:57
\tinet 10.20.0.1/24 broadcast 10.20.0.255
\tvlan: 20 vlanproto: 802.1q vlanpcp: 0 parent interface: vtnet1
";

    #[test]
    fn addresses_flags_and_hardware_addresses() {
        let seen = read(IFCONFIG);
        let interfaces: Vec<_> = seen.iter().map(|seen| &seen.interface).collect();
        let names: Vec<_> = interfaces.iter().map(|i| (i.name.as_str(), i.up)).collect();
        assert_eq!(names, [("vtnet1", true), ("pfsync0", false), ("tun0", true), ("vtnet1.20", false)]);
        let shown = |at: usize| interfaces[at].addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown(0),
            ["192.168.1.1/24", "192.168.1.254/32", "fd00:1::1/64", "fe80::5054:ff:fe12:3457/64"]
        );
        assert_eq!(interfaces[0].mac.as_deref(), Some("52:54:00:12:34:57"));
        assert!(interfaces[1].addresses.is_empty() && interfaces[1].mac.is_none());
        assert_eq!((shown(2), shown(3)), (vec!["10.9.0.1/30".into()], vec!["10.20.0.1/24".into()]));
    }

    #[test]
    fn what_an_interface_is_and_is_called() {
        let seen = read(IFCONFIG);
        let (lan, vlan) = (&seen[0], &seen[3]);
        assert_eq!(
            (lan.interface.mtu, lan.interface.link, lan.interface.vlan.clone()),
            (1500, Some(true), None)
        );
        assert_eq!(
            lan.addresses.iter().map(|own| own.shared).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        assert_eq!(lan.nd6, ["PERFORMNUD", "AUTO_LINKLOCAL"]);
        assert_eq!(seen[1].groups, ["pfsync"]);
        assert_eq!(vlan.interface.description.as_deref(), Some("guest net"));
        assert_eq!(vlan.interface.vlan, Some(VlanTag { tag: 20, parent: "vtnet1".into() }));
        assert_eq!((vlan.interface.link, vlan.interface.media.clone()), (None, None));
    }

    #[test]
    fn an_address_that_a_router_gave_is_known() {
        let text = "em0: flags=1008843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500\n\
            \tinet6 fe80::1%em0/64 scopeid 0x1\n\
            \tinet6 fec0::5054:ff:fe12:3456/64 autoconf pltime 14400 vltime 86400\n\
            \tstatus: no carrier\n\
            \tnd6 options=23<PERFORMNUD,ACCEPT_RTADV,AUTO_LINKLOCAL>\n";
        let seen = read(text);
        let autoconf: Vec<_> = seen[0].addresses.iter().map(|own| own.autoconf).collect();
        assert_eq!((autoconf, seen[0].interface.link), (vec![false, true], Some(false)));
        assert!(seen[0].has_nd6("ACCEPT_RTADV") && !seen[0].has_nd6("IFDISABLED"));
    }

    #[test]
    fn counters_are_those_of_the_link_row() {
        let json = r#"{"statistics": {"interface": [
            {"name": "vtnet1", "flags": "0x8943", "mtu": 1500, "network": "<Link#2>", "address": "52:54:00:12:34:57",
             "received-packets": 2, "received-errors": 0, "dropped-packets": 0, "received-bytes": 1180,
             "sent-packets": 27, "send-errors": 0, "sent-bytes": 2330, "collisions": 0, "dropped-packets": 0},
            {"name": "vtnet1", "flags": "0x8943", "network": "192.168.1.0/24", "address": "192.168.1.1",
             "received-packets": 0, "received-bytes": 0, "sent-packets": 17, "sent-bytes": 976},
            {"name": "vtnet1.20*", "network": "<Link#7>", "received-packets": 5, "received-bytes": 6}
        ]}}"#;
        let counters: Counters = serde_json::from_str(json).unwrap();
        let mut interfaces: Vec<_> = read(IFCONFIG).into_iter().map(|seen| seen.interface).collect();
        counters.add_to(&mut interfaces);
        let numbers: Vec<_> =
            interfaces.iter().map(|i| (i.packets_in, i.bytes_in, i.packets_out, i.bytes_out)).collect();
        assert_eq!(numbers, [(2, 1180, 27, 2330), (0, 0, 0, 0), (0, 0, 0, 0), (5, 6, 0, 0)]);
    }
}
