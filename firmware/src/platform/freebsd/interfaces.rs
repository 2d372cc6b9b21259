//! ifconfig(8) with addresses in CIDR form, and the counters of `netstat -ibdn` beside it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::platform::Interface;

/// Interfaces in ifconfig's order, without counters. A name stands at the start of a line, what belongs to it
/// follows on lines that begin with a tab.
pub fn read(text: &str) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for line in text.lines() {
        if !line.starts_with(['\t', ' ']) {
            interfaces.extend(read_head(line));
        } else if let Some(interface) = interfaces.last_mut() {
            read_detail(line, interface);
        }
    }
    for interface in &mut interfaces {
        interface.addresses.sort_by_key(|address| address.addr().is_ipv6());
    }
    interfaces
}

/// `em0: flags=1008843<UP,BROADCAST,RUNNING> metric 0 mtu 1500`
fn read_head(line: &str) -> Option<Interface> {
    let (name, rest) = line.split_once(": flags=")?;
    let flags = rest.split_whitespace().next()?;
    let flags = flags.split_once('<').map_or("", |(_, names)| names.trim_end_matches('>'));
    let up = flags.split(',').any(|flag| flag == "UP");
    Some(Interface { name: name.into(), up, ..Interface::default() })
}

fn read_detail(line: &str, interface: &mut Interface) {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("ether") => interface.mac = words.next().map(Into::into),
        Some("inet" | "inet6") => {
            let words: Vec<&str> = words.collect();
            interface.addresses.extend(read_address(&words));
        }
        _ => {}
    }
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
    received_bytes: u64,
    #[serde(default)]
    sent_packets: u64,
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
        let interfaces = read(IFCONFIG);
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
        let mut interfaces = read(IFCONFIG);
        counters.add_to(&mut interfaces);
        let numbers: Vec<_> =
            interfaces.iter().map(|i| (i.packets_in, i.bytes_in, i.packets_out, i.bytes_out)).collect();
        assert_eq!(numbers, [(2, 1180, 27, 2330), (0, 0, 0, 0), (0, 0, 0, 0), (5, 6, 0, 0)]);
    }
}
