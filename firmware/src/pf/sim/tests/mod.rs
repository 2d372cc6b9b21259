//! Tests of the simulator as a whole: text in, packets through it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod anchors;
mod contract;
mod flows;
mod model;
mod replay;
mod robust;
mod translation;

use std::net::IpAddr;

use super::flow::Outcome;
use super::{SimInterface, Simulator};
use crate::config::Timestamp;
use crate::pf::packet::{Direction, Packet, Transport, flag};
use crate::pf::{Pf, StateEntry};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A moment in the packets' time, in seconds.
pub(super) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + (seconds * 1e6) as i64).unwrap()
}

/// A WAN on em0 with a default route, a LAN on em1, both families.
pub(super) fn router() -> Simulator {
    let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
    Simulator::new(vec![
        SimInterface::new("em0", nets(&["203.0.113.2/24", "203.0.113.3/24", "2001:db8:0:1::2/64"]))
            .with_gateway(ip("203.0.113.1"))
            .with_gateway(ip("2001:db8:0:1::1")),
        SimInterface::new("em1", nets(&["192.168.1.1/24", "2001:db8:0:2::1/64"])),
        SimInterface::new("em2", nets(&["10.2.0.2/24"])),
        SimInterface::new("lo0", nets(&["127.0.0.1/8", "::1/128"])),
    ])
}

pub(super) fn loaded(text: &str) -> Simulator {
    let sim = router();
    if let Err(error) = sim.load(None, text) {
        panic!("{error}\n{text}");
    }
    sim
}

pub(super) fn tcp(src: &str, src_port: u16, dst: &str, dst_port: u16, flags: u8) -> Packet {
    Packet::tcp(ip(src), src_port, ip(dst), dst_port, flags)
}

pub(super) fn syn(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Packet {
    tcp(src, src_port, dst, dst_port, flag::SYN)
}

pub(super) fn udp(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Packet {
    Packet::udp(ip(src), src_port, ip(dst), dst_port)
}

/// Sequence and acknowledgement numbers of a segment.
pub(super) fn seq(mut packet: Packet, seq: u32, ack: u32, payload: u32) -> Packet {
    if let Transport::Tcp(tcp) = &mut packet.transport {
        (tcp.seq, tcp.ack, tcp.payload) = (seq, ack, payload);
        packet.length += payload;
    }
    packet
}

pub(super) fn inside(sim: &Simulator, interface: &str, packet: &Packet, seconds: f64) -> Outcome {
    sim.inject(interface, Direction::In, packet, at(seconds))
}

pub(super) fn outside(sim: &Simulator, interface: &str, packet: &Packet, seconds: f64) -> Outcome {
    sim.inject(interface, Direction::Out, packet, at(seconds))
}

pub(super) fn one_state(sim: &Simulator) -> StateEntry {
    let states = sim.states().unwrap();
    assert_eq!(states.len(), 1, "{states:#?}");
    states.into_iter().next().unwrap()
}

pub(super) fn printed_state(sim: &Simulator) -> String {
    one_state(sim).state
}
