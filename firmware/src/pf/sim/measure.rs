//! Measures the simulator: how long rules take to load, how many packets a second pass. For `cargo bench`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{SimInterface, Simulator};
use crate::config::Timestamp;
use crate::pf::packet::{Direction, Packet, flag};
use crate::pf::{Pf, PfError};

/// What was measured with a number of rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub rules: usize,
    pub load: Duration,
    /// Packets that begin a flow: all rules that may match are looked at, in and out.
    pub new_flows_per_second: f64,
    /// Packets of flows that are known.
    pub known_flows_per_second: f64,
    /// Packets that no rule passes.
    pub blocked_per_second: f64,
}

/// A ruleset as an administrator's grows: hosts, networks, ports, tables, all different, none quick.
fn ruleset(rules: usize) -> String {
    let mut text = String::from(
        "table <some> { 10.9.0.0/16 }\nblock in all\npass out all\npass in on em1 proto tcp from 10.1.0.0/16 to any port 443\n",
    );
    for n in 0..rules.saturating_sub(3) {
        let (a, b) = (n / 250 % 250, n % 250);
        let _ = match n % 5 {
            0 => writeln!(
                text,
                "pass in quick on em1 inet proto tcp from 10.2.{a}.{b} to any port {}",
                1000 + n % 6000
            ),
            1 => {
                writeln!(text, "block in log quick on em0 inet from 198.18.{a}.{b} to any label \"rule:{n}\"")
            }
            2 => writeln!(
                text,
                "pass in on em1 inet proto udp from 10.3.{a}.0/24 to 192.0.2.{b} port {}",
                1 + n % 60000
            ),
            3 => writeln!(text, "pass in quick on em0 inet proto tcp from any to 10.4.{a}.{b} port 80"),
            _ => writeln!(
                text,
                "block in quick on em1 inet proto tcp from <some> to 10.5.{a}.{b} port {}",
                1 + n % 60000
            ),
        };
    }
    text
}

/// Loads so many rules and sends so many packets of each kind.
pub fn measure(rules: usize, packets: u32) -> Result<Measured, PfError> {
    let net = |a, b, c, d, len| ipnet::Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len).into();
    let simulator = Simulator::new(vec![
        SimInterface::new("em0", [net(203, 0, 113, 2, 24)])
            .with_gateway(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))),
        SimInterface::new("em1", [net(10, 1, 0, 1, 16)]),
    ]);
    let text = ruleset(rules);
    let begun = Instant::now();
    simulator.load(None, &text)?;
    let load = begun.elapsed();
    let now = Timestamp::now();
    let server = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80));
    let client = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a01_0100 + (n >> 14)));
    let port = |n: u32| 40_000 + u16::try_from(n & 0x3fff).unwrap_or(0);
    let run = |packet: &dyn Fn(u32) -> Packet, interface: &str| {
        let begun = Instant::now();
        for n in 0..packets {
            simulator.inject(interface, Direction::In, &packet(n), now);
        }
        f64::from(packets) / begun.elapsed().as_secs_f64()
    };
    let syn = |n| Packet::tcp(client(n), port(n), server, 443, flag::SYN);
    let new_flows_per_second = run(&syn, "em1");
    let known_flows_per_second = run(&syn, "em1");
    let stranger = |n| Packet::udp(server, 53, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)), port(n));
    let blocked_per_second = run(&stranger, "em0");
    Ok(Measured { rules, load, new_flows_per_second, known_flows_per_second, blocked_per_second })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// Also in a build without optimisation: ten thousand rules in seconds, and as many packets.
    #[test]
    fn ten_thousand_rules() {
        let few = measure(10, 2000).unwrap();
        let many = measure(10_000, 2000).unwrap();
        println!("{few:?}\n{many:?}");
        assert!(many.load < Duration::from_secs(10), "{many:?}");
        assert!(many.new_flows_per_second > 200.0, "{many:?}");
    }
}
