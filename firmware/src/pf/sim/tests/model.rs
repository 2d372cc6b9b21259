//! The simulator against a reference that shares nothing with it: a loop over rules written here, with lists of
//! plain conditions, for random rulesets and packets.

use proptest::prelude::*;

use super::*;
use crate::pf::packet::Family;

/// One rule of the model; prints itself as pf text on its own.
#[derive(Debug, Clone)]
struct Rule {
    pass: bool,
    direction: Option<Direction>,
    quick: bool,
    on: Option<(bool, &'static str)>,
    inet6: Option<bool>,
    protocol: Option<&'static str>,
    from: Option<(bool, u8, u8)>,
    to: Option<(bool, u8, u8)>,
    to_port: Option<(u16, u16)>,
    /// The rules of an anchor, instead of a rule.
    inner: Option<Vec<Rule>>,
}

/// Addresses are 10.0.0.n/len and 2001:db8::n/(96 + len).
fn net(inet6: bool, (negate, host, len): (bool, u8, u8)) -> String {
    let not = if negate { "! " } else { "" };
    if inet6 { format!("{not}2001:db8::{host:x}/{}", 96 + len) } else { format!("{not}10.0.0.{host}/{len}") }
}

impl Rule {
    fn text(&self, anchors: &mut Vec<String>) -> String {
        let mut out = String::new();
        let anchor = self.inner.as_ref().map(|inner| {
            let body: String = inner.iter().map(|r| r.text(anchors)).collect();
            anchors.push(body);
            format!("a{}", anchors.len())
        });
        match &anchor {
            Some(name) => out += &format!("anchor \"{name}\""),
            None => out += if self.pass { "pass" } else { "block" },
        }
        match self.direction {
            Some(Direction::In) => out += " in",
            Some(Direction::Out) => out += " out",
            None => {}
        }
        if self.quick {
            out += " quick";
        }
        if let Some((negate, name)) = self.on {
            out += &format!(" on {}{name}", if negate { "! " } else { "" });
        }
        if let Some(inet6) = self.inet6 {
            out += if inet6 { " inet6" } else { " inet" };
        }
        if let Some(protocol) = self.protocol {
            out += &format!(" proto {protocol}");
        }
        let side = |side| self.inet6.zip(side).map_or("any".into(), |(inet6, side)| net(inet6, side));
        out += &format!(" from {} to {}", side(self.from), side(self.to));
        if let Some((low, high)) = self.ports() {
            out += &format!(" port {low}:{high}");
        }
        if anchor.is_none() && self.pass {
            out += if self.protocol == Some("tcp") { " flags any no state" } else { " no state" };
        }
        out + "\n"
    }
    fn ports(&self) -> Option<(u16, u16)> {
        self.to_port.filter(|_| matches!(self.protocol, Some("tcp" | "udp")))
    }

    /// Whether the model matches, by its own arithmetic.
    fn matches(&self, direction: Direction, interface: &str, packet: &Packet) -> bool {
        let inet6 = packet.family() == Family::Inet6;
        let number = match self.protocol {
            Some("tcp") => Some(6),
            Some("udp") => Some(17),
            Some("esp") => Some(50),
            _ => None,
        };
        let within = |side: Option<(bool, u8, u8)>, address: IpAddr| {
            let (Some(_), Some((negate, host, len))) = (self.inet6, side) else { return true };
            let last = match address {
                IpAddr::V4(a) => a.octets()[3],
                IpAddr::V6(a) => a.octets()[15],
            };
            // All addresses share the first 24 (120) bits.
            let keep = len.saturating_sub(24);
            let mask = if keep == 0 { 0 } else { 0xffu8 << (8 - keep) };
            (last & mask == host & mask) != negate
        };
        self.direction.is_none_or(|d| d == direction)
            && self.on.is_none_or(|(negate, name)| (name == interface) != negate)
            && self.inet6.is_none_or(|six| six == inet6)
            && number.is_none_or(|n| n == packet.protocol)
            && within(self.from, packet.src)
            && within(self.to, packet.dst)
            && self.ports().is_none_or(|(low, high)| low <= packet.ports().1 && packet.ports().1 <= high)
    }
}

/// Verdict so far, and whether it is final; `matched` grows with each match.
fn evaluate(
    rules: &[Rule],
    d: Direction,
    i: &str,
    p: &Packet,
    verdict: &mut bool,
    matched: &mut usize,
) -> bool {
    for rule in rules {
        if !rule.matches(d, i, p) {
            continue;
        }
        match &rule.inner {
            Some(inner) => {
                let before = *matched;
                if evaluate(inner, d, i, p, verdict, matched) || (rule.quick && *matched > before) {
                    return true;
                }
            }
            None => {
                *verdict = rule.pass;
                *matched += 1;
                if rule.quick {
                    return true;
                }
            }
        }
    }
    false
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::In), Just(Direction::Out)]
}

fn side() -> impl Strategy<Value = Option<(bool, u8, u8)>> {
    prop::option::of((prop::bool::weighted(0.2), any::<u8>(), prop_oneof![Just(32u8), 24u8..=32]))
}

fn leaf() -> impl Strategy<Value = Rule> {
    (
        (any::<bool>(), prop::option::of(direction()), prop::bool::weighted(0.2)),
        prop::option::of((prop::bool::weighted(0.2), prop_oneof![Just("em0"), Just("em1")])),
        prop::option::weighted(0.7, any::<bool>()),
        prop::option::of(prop_oneof![Just("tcp"), Just("udp"), Just("esp")]),
        (side(), side()),
        prop::option::of((1u16..40, 0u16..5).prop_map(|(a, n)| (a, a + n))),
    )
        .prop_map(|((pass, direction, quick), on, inet6, protocol, (from, to), to_port)| Rule {
            pass,
            direction,
            quick,
            on,
            inet6,
            protocol,
            from,
            to,
            to_port,
            inner: None,
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    (leaf(), prop::option::weighted(0.15, prop::collection::vec(leaf(), 0..6)))
        .prop_map(|(rule, inner)| Rule { inner, ..rule })
}

fn packet() -> impl Strategy<Value = (Direction, &'static str, Packet)> {
    let host = || prop_oneof![any::<u8>(), 0u8..8];
    (
        direction(),
        prop_oneof![Just("em0"), Just("em1"), Just("em2")],
        any::<bool>(),
        host(),
        host(),
        0u8..4,
        0u16..45,
    )
        .prop_map(|(d, i, six, src, dst, kind, port)| {
            let address = |n: u8| ip(&if six { format!("2001:db8::{n:x}") } else { format!("10.0.0.{n}") });
            let (src, dst) = (address(src), address(dst));
            let packet = match kind {
                0 => Packet::tcp(src, 999, dst, port, flag::SYN),
                1 => Packet::udp(src, 999, dst, port),
                2 => Packet::other(src, dst, 50),
                _ => Packet::icmp(src, dst, if six { 128 } else { 8 }, 0, 1),
            };
            (d, i, packet)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_the_reference(rules in prop::collection::vec(rule(), 0..25), packets in prop::collection::vec(packet(), 30)) {
        let mut anchors = Vec::new();
        let text: String = rules.iter().map(|r| r.text(&mut anchors)).collect();
        let sim = loaded(&text);
        for (n, body) in anchors.iter().enumerate() {
            sim.load(Some(&format!("a{}", n + 1)), body).unwrap();
        }
        for (d, i, p) in packets {
            let (mut verdict, mut matched) = (true, 0);
            evaluate(&rules, d, i, &p, &mut verdict, &mut matched);
            let leg = sim.explain(i, d, &p).legs.remove(0);
            prop_assert_eq!(leg.verdict == "pass", verdict, "{:?} {} {:?}\n{}\n{:?}", d, i, p, text, anchors);
            prop_assert_eq!(leg.rule.is_some(), matched > 0);
            // With and without counting the same is decided.
            let first = sim.with(|e| e.inject(i, d, &p, 0));
            if !verdict { prop_assert!(!first.passed); }
        }
    }

    /// An answer to a passed flow passes whatever the rules say; a packet that nobody asked for does not.
    #[test]
    fn answers_pass_and_strangers_do_not(dst in 1u8..250, port in 1u16.., far in 1u16.., stranger in 1u16.., kind in 0u8..2) {
        let sim = loaded("block in quick on em0 all\npass out on em0 all\n");
        let (a, b) = ("203.0.113.2", format!("192.0.2.{dst}"));
        let asked = if kind == 0 { syn(a, port, &b, far) } else { udp(a, port, &b, far) };
        let answer = |p: &Packet| {
            let mut back = p.reversed();
            if let Transport::Tcp(tcp) = &mut back.transport {
                tcp.flags = flag::SYN | flag::ACK;
                tcp.ack = 1;
            }
            back
        };
        prop_assert!(!inside(&sim, "em0", &answer(&asked), 0.0).passed, "before it was asked for");
        prop_assert!(outside(&sim, "em0", &asked, 0.0).passed);
        prop_assert!(inside(&sim, "em0", &answer(&asked), 0.1).passed);
        if stranger != far {
            let mut other = answer(&asked);
            other.set_ports(stranger, port);
            prop_assert!(!inside(&sim, "em0", &other, 0.1).passed);
        }
        prop_assert_eq!(sim.flush_states().unwrap(), 1);
        prop_assert!(!inside(&sim, "em0", &answer(&asked), 0.2).passed);
    }
}
