//! The newest packets that pf logged, blocked or passed, in a ring (contract/live.md §7). Texts that repeat
//! (interfaces, reasons, labels) are kept once.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Timestamp;
use crate::pf::LoggedPacket;

/// Packets kept.
pub const CAPACITY: usize = 10_000;
/// Texts that are kept before those no longer used are looked for.
const TEXTS: usize = 1024;

/// A logged packet, compact.
#[derive(Debug, Clone)]
pub struct Logged {
    pub at: Timestamp,
    pub passed: bool,
    pub inbound: bool,
    pub interface: Arc<str>,
    pub protocol: Arc<str>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub reason: Arc<str>,
    pub anchor: Arc<str>,
    pub rule_number: Option<u32>,
    /// First label of the deciding rule.
    pub label: Option<Arc<str>>,
}

/// A logged packet as clients see it; `reason` and what follows only in `/blocked`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BlockedView<'a> {
    pub timestamp: String,
    /// `block` or `pass`.
    pub action: &'static str,
    /// `in` or `out`.
    pub direction: &'static str,
    pub interface: &'a str,
    pub protocol: &'a str,
    pub src_addr: IpAddr,
    pub src_port: u16,
    pub dst_addr: IpAddr,
    pub dst_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    /// ISO 3166 code of the source, where a geo-IP database knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

impl Logged {
    pub fn action(&self) -> &'static str {
        if self.passed { "pass" } else { "block" }
    }
    pub fn direction(&self) -> &'static str {
        if self.inbound { "in" } else { "out" }
    }
    /// As a tick shows it.
    pub fn brief(&self) -> BlockedView<'_> {
        BlockedView {
            timestamp: self.at.to_string(),
            action: self.action(),
            direction: self.direction(),
            interface: &self.interface,
            protocol: &self.protocol,
            src_addr: self.src,
            src_port: self.src_port,
            dst_addr: self.dst,
            dst_port: self.dst_port,
            reason: None,
            anchor: None,
            rule_number: None,
            label: None,
            country: None,
        }
    }
    /// As `/blocked` shows it.
    pub fn full(&self) -> BlockedView<'_> {
        BlockedView {
            reason: Some(&self.reason),
            anchor: (!self.anchor.is_empty()).then_some(&self.anchor),
            rule_number: self.rule_number,
            label: self.label.as_deref(),
            ..self.brief()
        }
    }
    /// One line for `/logs`: `in on em0 tcp 1.2.3.4:5 > 6.7.8.9:22`.
    pub fn line(&self) -> String {
        let end = |ip: IpAddr, port: u16| match (ip, port) {
            (_, 0) => ip.to_string(),
            (IpAddr::V4(_), _) => format!("{ip}:{port}"),
            (IpAddr::V6(_), _) => format!("[{ip}]:{port}"),
        };
        let protocol = if self.protocol.is_empty() { "ip" } else { &*self.protocol };
        let (src, dst) = (end(self.src, self.src_port), end(self.dst, self.dst_port));
        format!("{} on {} {protocol} {src} > {dst}", self.direction(), self.interface)
    }
}

/// The ring.
#[derive(Debug, Default)]
pub struct BlockedRing {
    packets: VecDeque<Arc<Logged>>,
    texts: HashSet<Arc<str>>,
    /// Packets ever added.
    added: u64,
}

impl BlockedRing {
    pub fn push(&mut self, packet: LoggedPacket) {
        let logged = Logged {
            at: packet.at,
            passed: packet.passed,
            inbound: packet.inbound,
            interface: self.text(&packet.interface),
            protocol: self.text(wire_protocol(&packet.protocol)),
            src: packet.src,
            dst: packet.dst,
            src_port: packet.src_port,
            dst_port: packet.dst_port,
            reason: self.text(wire_reason(&packet.reason)),
            anchor: self.text(&packet.anchor),
            rule_number: packet.rule_number,
            label: packet.labels.first().map(|label| self.text(label)),
        };
        if self.packets.len() >= CAPACITY {
            self.packets.pop_front();
        }
        self.packets.push_back(Arc::new(logged));
        self.added += 1;
    }
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= TEXTS {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }
    /// Newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<Logged>> {
        self.packets.iter().rev()
    }
    /// The newest `count` blocked packets, oldest first.
    pub fn newest_blocked(&self, count: usize) -> Vec<Arc<Logged>> {
        let mut newest: Vec<_> =
            self.newest_first().filter(|packet| !packet.passed).take(count).cloned().collect();
        newest.reverse();
        newest
    }
    /// Packets ever added: changes whenever the ring does.
    pub fn added(&self) -> u64 {
        self.added
    }
}

/// One of the words that the wire knows.
fn wire_protocol(protocol: &str) -> &str {
    match protocol {
        "tcp" | "udp" | "icmp" | "esp" | "ah" | "gre" | "igmp" => protocol,
        "ipv6-icmp" | "icmp6" | "icmpv6" => "icmp",
        _ => "",
    }
}

/// A packet that a rule matched was decided by policy; other reasons are pf's own.
fn wire_reason(reason: &str) -> &str {
    if reason.is_empty() { "policy" } else { reason }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    pub(in crate::live) fn packet(src: &str, passed: bool) -> LoggedPacket {
        LoggedPacket {
            at: "2026-11-23T21:44:22.347491Z".parse().unwrap(),
            passed,
            inbound: true,
            interface: "em0".into(),
            protocol: "tcp".into(),
            src: src.parse().unwrap(),
            src_port: 5,
            dst: "6.7.8.9".parse().unwrap(),
            dst_port: 22,
            reason: "match".into(),
            anchor: "aifw".into(),
            rule_number: Some(3),
            labels: vec!["block-ssh".into()],
        }
    }

    #[test]
    fn the_newest_ten_thousand_are_kept_and_texts_only_once() {
        let mut ring = BlockedRing::default();
        for n in 0..CAPACITY as u32 + 7 {
            let mut packet = packet("1.2.3.4", n % 2 == 0);
            packet.rule_number = Some(n);
            packet.labels = vec![format!("label {}", n / 1000)];
            ring.push(packet);
        }
        assert_eq!(ring.packets.len(), CAPACITY);
        assert_eq!(ring.newest_first().next().unwrap().rule_number, Some(10_006));
        assert_eq!(ring.added(), 10_007);
        let newest = ring.newest_blocked(3);
        assert_eq!(
            newest.iter().map(|packet| packet.rule_number.unwrap()).collect::<Vec<_>>(),
            [10_001, 10_003, 10_005]
        );
        assert!(ring.texts.len() < 20, "{}", ring.texts.len());
        for n in 0..5000 {
            let mut packet = packet("1.2.3.4", false);
            packet.labels = vec![format!("unique {n}")];
            ring.push(packet);
        }
        assert!(ring.texts.len() <= CAPACITY + 20);
    }

    #[test]
    fn a_packet_is_shown_in_the_words_of_the_contract() {
        let mut ring = BlockedRing::default();
        ring.push(packet("1.2.3.4", false));
        let logged = ring.newest_first().next().unwrap();
        assert_eq!(logged.line(), "in on em0 tcp 1.2.3.4:5 > 6.7.8.9:22");
        assert_eq!(
            serde_json::to_string(&logged.brief()).unwrap(),
            concat!(
                r#"{"timestamp":"2026-11-23T21:44:22.347491Z","action":"block","direction":"in","#,
                r#""interface":"em0","protocol":"tcp","src_addr":"1.2.3.4","src_port":5,"#,
                r#""dst_addr":"6.7.8.9","dst_port":22}"#
            )
        );
        let full = serde_json::to_value(logged.full()).unwrap();
        assert_eq!(
            (&full["reason"], &full["label"], &full["rule_number"]),
            (&"match".into(), &"block-ssh".into(), &3.into())
        );
        let mut six = packet("fd00:1::1", false);
        (six.protocol, six.src_port, six.dst_port) = ("ipv6-icmp".into(), 0, 0);
        six.dst = "fd00:1::99".parse().unwrap();
        six.reason = String::new();
        ring.push(six);
        let logged = ring.newest_first().next().unwrap();
        assert_eq!(logged.line(), "in on em0 icmp fd00:1::1 > fd00:1::99");
        assert_eq!(logged.full().reason, Some("policy"));
    }
}
