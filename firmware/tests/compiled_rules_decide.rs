//! What compiled configurations do to packets: compiled, printed, loaded as text into the simulator, asked.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::sync::Arc;

use aifw::compile::{Environment, InterfaceFacts, firewall};
use aifw::config::nat::Redirect;
use aifw::config::rule::{Action, Direction as RuleDirection, Endpoint, IpVersion, Protocol, StateOptions};
use aifw::config::settings::DefaultPolicy;
use aifw::config::{
    Config, GeoIpAction, GeoIpRule, Id, InterfaceName, NatKind, NatRule, PortRange, Rule, Status, TableName,
    Timestamp,
};
use aifw::pf::Pf;
use aifw::pf::packet::{Direction, Packet, flag};
use aifw::pf::sim::{SimInterface, Simulator};
use ipnet::IpNet;

const WAN: [&str; 2] = ["203.0.113.2/24", "2001:db8:1::2/64"];
const LAN: [&str; 2] = ["192.168.1.1/24", "2001:db8:2::1/64"];

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}
fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
fn id(number: u128) -> Id {
    Id::from_u128(number)
}

/// WAN em0, LAN em1, policy standard, and the seeded rules' final block.
fn config() -> Config {
    let mut config = Config::default();
    let system = Arc::make_mut(&mut config.system);
    system.wan_interface = Some(InterfaceName::new("em0").unwrap());
    system.lan_interface = Some(InterfaceName::new("em1").unwrap());
    let mut out = rule(1, Action::Pass);
    out.priority = 3;
    out.interface = Some(InterfaceName::new("em1").unwrap());
    config.rules.insert(out);
    let mut last = rule(2, Action::Block);
    last.priority = 1000;
    config.rules.insert(last);
    config
}

fn rule(number: u128, action: Action) -> Rule {
    Rule {
        id: id(number),
        priority: 100,
        action,
        direction: RuleDirection::In,
        ip_version: IpVersion::Both,
        interface: None,
        protocol: Protocol::Any,
        src: Endpoint::default(),
        dst: Endpoint::default(),
        log: false,
        quick: true,
        label: None,
        description: None,
        gateway: None,
        state: StateOptions::default(),
        status: Status::Active,
        schedule_id: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn forward(
    number: u128,
    interface: &str,
    dst: &str,
    port: Option<u16>,
    target: &str,
    to: Option<u16>,
) -> NatRule {
    let range = |port: Option<u16>| port.map(|port| PortRange::new(port, port).unwrap());
    NatRule {
        id: id(number),
        position: 1,
        nat_type: NatKind::Dnat,
        interface: InterfaceName::new(interface).unwrap(),
        protocol: Protocol::Tcp,
        src_addr: aifw::config::Address::Any,
        src_port: None,
        dst_addr: dst.parse().unwrap(),
        dst_port: range(port),
        redirect: Redirect { address: target.parse().unwrap(), port: range(to) },
        label: None,
        status: Status::Active,
        static_port: false,
        associated_filter: true,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn loaded(config: &Config) -> Simulator {
    let cn = Arc::new(nets(&["198.51.100.0/24"]));
    let none = Arc::new(Vec::new());
    let environment = Environment {
        interfaces: vec![
            InterfaceFacts::of("em0", &nets(&WAN)).unwrap(),
            InterfaceFacts::of("em1", &nets(&LAN)).unwrap(),
        ],
        countries: Arc::new(move |country| if country == "CN" { cn.clone() } else { none.clone() }),
        ..Environment::empty()
    };
    let made = firewall(config, &environment).unwrap();
    let simulator = Simulator::new(vec![
        SimInterface::new("em0", nets(&WAN))
            .with_gateway(ip("203.0.113.1"))
            .with_gateway(ip("2001:db8:1::1")),
        SimInterface::new("em1", nets(&LAN)),
    ]);
    simulator
        .set_file_contents(made.files.iter().map(|(path, lines)| (path.clone(), lines.join("\n"))).collect());
    simulator.load(None, &made.main.to_string()).unwrap();
    for (name, ruleset) in &made.anchors {
        simulator.load(Some(name), &ruleset.to_string()).unwrap();
    }
    simulator
}

fn syn(src: &str, dst: &str, port: u16) -> Packet {
    Packet::tcp(ip(src), 40000, ip(dst), port, flag::SYN)
}

fn passes(config: &Config, interface: &str, packet: &Packet) -> bool {
    loaded(config).explain(interface, Direction::In, packet).passed()
}

#[test]
fn b18_ssh_and_ui_stay_reachable_from_the_lan_whatever_the_rules() {
    let base = config();
    let mut none = base.clone();
    none.rules.clear();
    let mut blocked = base.clone();
    let mut all = rule(9, Action::BlockDrop);
    all.priority = 0;
    all.direction = RuleDirection::Any;
    blocked.rules.insert(all);
    let mut forwarded = base.clone();
    forwarded.nat.insert(forward(8, "em1", "any", None, "192.168.1.50", Some(9)));
    let mut strict = none.clone();
    Arc::make_mut(&mut strict.firewall).default_policy = DefaultPolicy::Strict;
    for config in [&base, &none, &blocked, &forwarded, &strict] {
        for port in [22, 8080] {
            assert!(passes(config, "em1", &syn("192.168.1.77", "192.168.1.1", port)), "{port}");
            assert!(passes(config, "em1", &syn("2001:db8:2::77", "2001:db8:2::1", port)), "{port}");
            assert!(!passes(config, "em0", &syn("198.51.100.9", "203.0.113.2", port)), "{port}");
        }
    }
    let mut careless = none.clone();
    Arc::make_mut(&mut careless.firewall).anti_lockout = false;
    assert!(!passes(&careless, "em1", &syn("192.168.1.77", "192.168.1.1", 22)));
}

#[test]
fn b13_a_port_forward_is_translated_reflected_and_passed() {
    let mut config = config();
    config.nat.insert(forward(8, "em0", "203.0.113.2", Some(8443), "192.168.1.10", Some(443)));
    let client = syn("198.51.100.9", "203.0.113.2", 8443);
    let simulator = loaded(&config);
    let now = Timestamp::UNIX_EPOCH;
    let outcome = simulator.inject("em0", Direction::In, &client, now);
    assert!(outcome.passed);
    assert_eq!((outcome.packet.dst, outcome.packet.ports().1), (ip("192.168.1.10"), 443));
    assert_eq!(outcome.packet.src, ip("198.51.100.9"));

    // From the LAN to the public address: the server must answer through this machine.
    let inside = simulator.inject("em1", Direction::In, &syn("192.168.1.77", "203.0.113.2", 8443), now);
    assert!(inside.passed);
    assert_eq!((inside.packet.dst, inside.packet.ports().1), (ip("192.168.1.10"), 443));
    assert_eq!(inside.packet.src, ip("192.168.1.1"));

    let mut bare = config.clone();
    let mut without = forward(8, "em0", "203.0.113.2", Some(8443), "192.168.1.10", Some(443));
    without.associated_filter = false;
    bare.nat.insert(without);
    assert!(!passes(&bare, "em0", &client));

    let mut refused = rule(9, Action::Block);
    refused.src.addr = "198.51.100.0/24".parse().unwrap();
    config.rules.insert(refused);
    assert!(!passes(&config, "em0", &client));
    assert!(passes(&config, "em0", &syn("192.0.2.9", "203.0.113.2", 8443)));
}

#[test]
fn the_lan_goes_out_with_the_wan_address_and_ipv6_with_its_own() {
    let config = config();
    let simulator = loaded(&config);
    let now = Timestamp::UNIX_EPOCH;
    let four = simulator.inject("em1", Direction::In, &syn("192.168.1.77", "192.0.2.9", 443), now);
    assert!(four.passed);
    assert_eq!(four.packet.src, ip("203.0.113.2"));
    let six = simulator.inject("em1", Direction::In, &syn("2001:db8:2::77", "2001:db8:9::9", 443), now);
    assert!(six.passed);
    assert_eq!(six.packet.src, ip("2001:db8:2::77"));
    // The administrator's own rule comes first.
    let mut own = config.clone();
    let mut snat = forward(8, "em0", "any", None, "203.0.113.2", None);
    snat.nat_type = NatKind::Snat;
    snat.protocol = Protocol::Any;
    snat.redirect = Redirect { address: "203.0.113.99".parse().unwrap(), port: None };
    own.nat.insert(snat);
    let translated = loaded(&own).inject("em1", Direction::In, &syn("192.168.1.77", "192.0.2.9", 443), now);
    assert_eq!(translated.packet.src, ip("203.0.113.99"));
}

#[test]
fn strangers_spoofers_and_listed_addresses_stay_outside() {
    let mut config = config();
    let mut open = rule(5, Action::Pass);
    open.priority = 10;
    config.rules.insert(open);
    // Everything is open now, and yet:
    assert!(passes(&config, "em0", &syn("192.0.2.9", "203.0.113.2", 443)));
    assert!(!passes(&config, "em0", &syn("192.168.1.77", "203.0.113.2", 443)));
    assert!(!passes(&config, "em0", &syn("203.0.113.2", "203.0.113.2", 443)));
    let simulator = loaded(&config);
    let bruteforce = TableName::new("bruteforce").unwrap();
    simulator.replace_table(&bruteforce, &["192.0.2.0/24".into()]).unwrap();
    assert!(!simulator.explain("em0", Direction::In, &syn("192.0.2.9", "203.0.113.2", 443)).passed());
}

#[test]
fn b15_a_blocked_country_is_dropped_and_an_allow_list_keeps_others_out() {
    let country = |action| GeoIpRule {
        id: id(30),
        country: "CN".parse().unwrap(),
        action,
        label: None,
        status: Status::Active,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    let mut config = config();
    let mut open = rule(5, Action::Pass);
    open.priority = 10;
    config.rules.insert(open);
    let (inside, outside) = (syn("198.51.100.9", "203.0.113.2", 443), syn("192.0.2.9", "203.0.113.2", 443));
    config.geoip.insert(country(GeoIpAction::Block));
    let explained = loaded(&config).explain("em0", Direction::In, &inside);
    assert!(!explained.passed());
    let decided = explained.legs[0].rule.as_ref().unwrap();
    assert!(decided.text.contains("label \"geoip-block-CN\""), "{}", decided.text);
    assert!(explained.legs[0].logged);
    assert!(passes(&config, "em0", &outside));

    config.geoip.insert(country(GeoIpAction::Allow));
    assert!(passes(&config, "em0", &inside));
    assert!(!passes(&config, "em0", &outside));
    assert!(passes(&config, "em1", &syn("192.168.1.77", "192.0.2.9", 443)));
}

#[test]
fn b14_nat64_takes_ipv6_clients_to_ipv4_servers() {
    let mut config = config();
    let mut nat64 = forward(8, "em1", "any", None, "203.0.113.2", None);
    nat64.nat_type = NatKind::Nat64;
    nat64.protocol = Protocol::Any;
    nat64.redirect = Redirect { address: aifw::config::Address::Any, port: None };
    config.nat.insert(nat64);
    let outcome = loaded(&config).inject(
        "em1",
        Direction::In,
        &syn("2001:db8:2::77", "64:ff9b::c000:209", 443),
        Timestamp::UNIX_EPOCH,
    );
    assert!(outcome.passed);
    assert_eq!((outcome.packet.src, outcome.packet.dst), (ip("203.0.113.2"), ip("192.0.2.9")));
}
