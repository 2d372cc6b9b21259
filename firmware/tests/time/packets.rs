//! Behaviour 16's interfaces: pf is FreeBSD's, so the simulator decides, from the very text that pf would be given.

use std::net::IpAddr;
use std::sync::Arc;

use aifw::compile::{Environment, InterfaceFacts, firewall};
use aifw::config::{Config, Timestamp};
use aifw::pf::Pf;
use aifw::pf::packet::{Direction, Packet};
use aifw::pf::sim::{SimInterface, Simulator};

/// Whether an NTP request from each side gets through.
fn let_in(config: &Config) -> [bool; 2] {
    let networks = [("em0", "203.0.113.2/24"), ("em1", "192.168.1.1/24")];
    let interfaces = networks.map(|(name, net)| InterfaceFacts::of(name, &[net.parse().unwrap()]).unwrap());
    let environment = Environment { interfaces: interfaces.into(), ..Environment::empty() };
    let compiled = firewall(config, &environment).unwrap();
    let simulator =
        Simulator::new(networks.map(|(name, net)| SimInterface::new(name, [net.parse().unwrap()])).into());
    simulator.load(None, &compiled.main.to_string()).unwrap();
    for (name, rules) in &compiled.anchors {
        simulator.load(Some(name), &rules.to_string()).unwrap();
    }
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    [("em0", "203.0.113.9", "203.0.113.2"), ("em1", "192.168.1.9", "192.168.1.1")].map(|(on, from, to)| {
        let packet = Packet::udp(ip(from), 40_000, ip(to), 123);
        simulator.inject(on, Direction::In, &packet, Timestamp::now()).passed
    })
}

#[test]
fn b16_requests_come_in_on_the_chosen_interface_only() {
    let mut config = Config::default();
    let mut with = |change: &dyn Fn(&mut aifw::config::time::TimeSettings)| {
        change(Arc::make_mut(&mut config.time));
        let_in(&config)
    };
    let off = with(&|_| {});
    assert_eq!(with(&|time| time.enabled = true), off, "nothing is opened that was not chosen");
    assert_eq!(with(&|time| time.ntp_interfaces = vec!["em1".into()]), [false, true]);
    assert_eq!(with(&|time| time.ntp_interfaces = vec!["em0".into()]), [true, false]);
    assert_eq!(with(&|time| time.ntp_enabled = false), off);
    assert_eq!(with(&|time| (time.ntp_enabled, time.enabled) = (true, false)), off);
}
