//! What is read through the `system` section, what rows say, and what requests make of them.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::config::Invalid;
use crate::config::request::{self, Refusal};

fn name(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

fn from_setup() -> Config {
    let system = System {
        wan_interface: Some(name("em0")),
        wan_mode: WanMode::Static,
        wan_ip: Some("203.0.113.2/24".parse().unwrap()),
        wan_gateway: Some("203.0.113.1".parse().unwrap()),
        lan_interface: Some(name("em1")),
        lan_ip: Some("192.168.1.1/24".parse().unwrap()),
        ..System::default()
    };
    Config { system: Arc::new(system), ..Config::default() }
}

fn wanted(body: serde_json::Value) -> InterfaceRequest {
    request::parse(body.to_string().as_bytes()).unwrap()
}

fn refused(body: serde_json::Value) -> String {
    let stored = settings(&from_setup(), "em1").unwrap();
    match request::parse::<InterfaceRequest>(body.to_string().as_bytes()) {
        Err(invalid) => invalid.to_string(),
        Ok(request) => request.addressing(&stored, &[]).unwrap_err().to_string(),
    }
}

#[test]
fn without_rows_the_system_section_is_read() {
    let config = from_setup();
    assert_eq!(
        settings(&config, "em0").unwrap(),
        Addressing {
            inet: Inet::Static("203.0.113.2/24".parse().unwrap()),
            gateway: Some("203.0.113.1".parse().unwrap()),
            ..Addressing::default()
        }
    );
    assert_eq!(settings(&config, "em2"), None);
    let shown: Vec<_> = roles(&config).iter().map(|(of, role)| format!("{of} {role}")).collect();
    assert_eq!(shown, ["em0 WAN", "em1 LAN"]);
    let mut dhcp = config;
    Arc::make_mut(&mut dhcp.system).wan_mode = WanMode::Dhcp;
    assert_eq!(settings(&dhcp, "em0").unwrap(), Addressing { inet: Inet::Dhcp, ..Addressing::default() });
}

#[test]
fn rows_and_system_say_the_same_after_a_write() {
    let mut config = from_setup();
    materialise(&mut config);
    let unchanged = config.system.clone();
    keep_in_step(&mut config);
    assert_eq!((config.system.clone(), config.interfaces.len()), (unchanged, 2));
    let mut lan = (**config.interfaces.get(&name("em1")).unwrap()).clone();
    lan.addressing.inet = Inet::Static("10.0.0.1/8".parse().unwrap());
    config.interfaces.insert(lan);
    config.interface_roles.insert(InterfaceRole {
        name: name("em2"),
        role: RoleName::normal("wan").unwrap(),
        updated_at: Timestamp::now(),
    });
    keep_in_step(&mut config);
    assert_eq!(config.system.lan_ip, Some("10.0.0.1/8".parse().unwrap()));
    // The first WAN stays the one that counts, until it is none any more.
    assert_eq!(config.system.wan_interface, Some(name("em0")));
    config.interface_roles.remove(&name("em0"));
    keep_in_step(&mut config);
    assert_eq!((config.system.wan_interface.clone(), config.system.wan_ip), (Some(name("em2")), None));
    assert_eq!(settings(&config, "em2"), None);
    assert_eq!(role_of(&config, "em2").unwrap().as_str(), "WAN");
}

#[test]
fn a_document_without_rows_is_newer_than_the_rows() {
    let mut config = from_setup();
    materialise(&mut config);
    let mut row = (**config.interfaces.get(&name("em1")).unwrap()).clone();
    row.addressing.mtu = Some(1400);
    config.interfaces.insert(row);
    Arc::make_mut(&mut config.system).lan_ip = Some("172.16.0.1/16".parse().unwrap());
    Arc::make_mut(&mut config.system).wan_interface = Some(name("em7"));
    follow_system(&mut config);
    let lan = settings(&config, "em1").unwrap();
    assert_eq!((lan.mtu, lan.inet), (Some(1400), Inet::Static("172.16.0.1/16".parse().unwrap())));
    assert_eq!(role_of(&config, "em7").unwrap().as_str(), "WAN");
    assert_eq!(role_of(&config, "em0"), None);
}

#[test]
fn requests_change_what_they_name() {
    let stored = settings(&from_setup(), "em0").unwrap();
    let changed =
        wanted(json!({"mtu": 1400, "description": " uplink ", "enabled": false})).addressing(&stored, &[]);
    assert_eq!(
        changed.unwrap(),
        Addressing { mtu: Some(1400), description: Some("uplink".into()), enabled: false, ..stored.clone() }
    );
    let dhcp =
        wanted(json!({"ipv4_mode": "DHCP", "gateway": "203.0.113.1"})).addressing(&stored, &[]).unwrap();
    assert_eq!((dhcp.inet, dhcp.gateway), (Inet::Dhcp, None));
    let moved = json!({"ipv4_mode": "static", "ipv4_address": "198.51.100.2/24"});
    let moved = wanted(moved).addressing(&stored, &[]).unwrap();
    // A gateway outside of the new network goes.
    assert_eq!((moved.inet, moved.gateway), (Inet::Static("198.51.100.2/24".parse().unwrap()), None));
    let cleared = Addressing { description: Some("x".into()), ..stored.clone() };
    assert_eq!(wanted(json!({"description": ""})).addressing(&cleared, &[]).unwrap().description, None);
    let without = wanted(json!({"gateway": ""})).addressing(&stored, &[]).unwrap();
    assert_eq!((without.inet, without.gateway), (stored.inet, None));
}

#[test]
fn a_bare_ipv6_address_that_is_there_changes_nothing() {
    let mut stored = settings(&from_setup(), "em1").unwrap();
    let present: Vec<IpNet> = vec!["2001:db8::7/56".parse().unwrap()];
    let sent = wanted(json!({"ipv6_address": "2001:db8::7"}));
    stored.inet6 = Inet6::Slaac;
    assert_eq!(sent.addressing(&stored, &present).unwrap().inet6, Inet6::Slaac);
    stored.inet6 = Inet6::Static("2001:db8::7/56".parse().unwrap());
    assert_eq!(sent.addressing(&stored, &present).unwrap().inet6, stored.inet6);
    stored.inet6 = Inet6::None;
    let made = sent.addressing(&stored, &[]).unwrap().inet6;
    assert_eq!(made, Inet6::Static("2001:db8::7/64".parse().unwrap()));
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    for (body, expected) in [
        (json!({"ipv4_mode": "static"}), "ipv4_address: expected, since ipv4_mode is static"),
        (json!({"ipv4_mode": "pppoe"}), "ipv4_mode: expected none, static, dhcp or slaac"),
        (json!({"ipv4_mode": "slaac"}), "ipv4_mode: expected dhcp, static or none"),
        (
            json!({"ipv4_mode": "static", "ipv4_address": "192.168.1.1"}),
            "ipv4_address: expected an IPv4 address with",
        ),
        (json!({"ipv4_mode": "static", "ipv4_address": "10.0.0.300/24"}), "ipv4_address: expected an IPv4"),
        (
            json!({"ipv4_mode": "static", "ipv4_address": "10.0.0.255/24"}),
            "ipv4_address: expected the address of a",
        ),
        (
            json!({"ipv4_mode": "static", "ipv4_address": "10.0.0.1/24", "gateway": "10.0.1.1"}),
            "gateway: expected another host of 10.0.0.0/24",
        ),
        (json!({"mtu": 67}), "mtu: expected 72 to 9000 bytes"),
        (json!({"mtu": 9001}), "mtu: expected 72 to 9000 bytes"),
        (json!({"mtu": 1200, "ipv6_mode": "slaac"}), "mtu: expected 1280 bytes or more"),
        (
            json!({"ipv6_mode": "dhcp"}),
            "ipv6_mode: expected static, slaac or none: FreeBSD's base system has no DHCPv6",
        ),
        (json!({"ipv6_address": "fe80::1"}), "ipv6_address: expected no link-local"),
        (json!({"ipv6_address": "nonsense"}), "ipv6_address: expected an IPv6"),
        (json!({"description": "two\nlines"}), "description: expected text"),
    ] {
        let said = refused(body.clone());
        assert!(said.starts_with(expected), "{body}: {said}");
    }
}

fn vlan(config: &Config, body: serde_json::Value) -> Result<Vlan, Refusal> {
    let request: Result<VlanRequest, Invalid> = request::parse(body.to_string().as_bytes());
    request?.create(Timestamp::UNIX_EPOCH, config)
}

#[test]
fn vlans_take_defaults_and_names() {
    let mut config = from_setup();
    let first =
        vlan(&config, json!({"vlan_id": 100, "parent": " em1 ", "ipv4_address": "10.0.0.1/8"})).unwrap();
    assert_eq!(
        (first.device.as_str(), first.addressing.mtu, first.addressing.inet),
        ("vlan100", Some(1500), Inet::None)
    );
    config.vlans.insert(first.clone());
    let twice = vlan(&config, json!({"vlan_id": 100, "parent": "em1"})).unwrap_err();
    assert_eq!(twice.to_string(), "there is a VLAN 100 on em1 already");
    let second = vlan(&config, json!({"vlan_id": 100, "parent": "em0"})).unwrap();
    assert_eq!(second.device.as_str(), "em0.100");
    config.vlans.insert(second.clone());
    config.vlans.remove(&first.id);
    // A device keeps its name although the short one is free now.
    let request: VlanRequest = request::parse(br#"{"vlan_id": 100, "parent": "em0", "mtu": 1400}"#).unwrap();
    let replaced = request.replace(&second, &config).unwrap();
    assert_eq!((replaced.device.as_str(), replaced.addressing.mtu), ("em0.100", Some(1400)));
    for (body, expected) in [
        (json!({"vlan_id": 0, "parent": "em0"}), "vlan_id: expected 1 to 4094"),
        (json!({"vlan_id": 4095, "parent": "em0"}), "vlan_id: expected 1 to 4094"),
        (json!({"vlan_id": 70000, "parent": "em0"}), "vlan_id: "),
        (json!({"vlan_id": 5, "parent": "em0;x"}), "parent: expected an interface name"),
        (json!({"vlan_id": 5, "parent": "em0.100"}), "parent: em0.100 is a VLAN itself"),
        (json!({"vlan_id": 5, "parent": "em0", "ipv4_mode": "static"}), "ipv4_address: expected"),
        (json!({"vlan_id": 5, "parent": "em0", "mtu": 60}), "mtu: expected"),
        (
            json!({"vlan_id": 5, "parent": "em0", "ipv4_mode": "static", "ipv4_address": "192.168.1.1/30"}),
            "192.168.1.1 is the address of em1",
        ),
    ] {
        let said = vlan(&config, body.clone()).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{body}: {said}");
    }
}

#[test]
fn rows_come_back_as_they_were() {
    let row = InterfaceSettings {
        name: name("em1"),
        addressing: Addressing {
            inet: Inet::Static("10.0.0.1/8".parse().unwrap()),
            inet6: Inet6::Slaac,
            gateway: Some("10.0.0.2".parse().unwrap()),
            mtu: Some(1500),
            ..Addressing::default()
        },
    };
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(
        text,
        r#"{"name":"em1","enabled":true,"mtu":1500,"inet":{"mode":"static","address":"10.0.0.1/8"},"inet6":{"mode":"slaac"},"gateway":"10.0.0.2","gateway6":null,"description":null}"#
    );
    assert_eq!(serde_json::from_str::<InterfaceSettings>(&text).unwrap(), row);
}
