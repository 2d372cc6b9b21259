//! NAT requests: what is accepted and refused, and the UI's switch.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::config::request;

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn later() -> Timestamp {
    "2026-01-02T03:04:06Z".parse().unwrap()
}

fn create_in(config: &Config, body: Value) -> Result<NatRule, Invalid> {
    request::from_value::<NatRequest>(body)?.create(now(), config)
}

fn create(kind: &str, changes: Value) -> Result<NatRule, Invalid> {
    let mut body = json!({"nat_type": kind, "interface": "em0", "protocol": "tcp"});
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    create_in(&Config::default(), body)
}

#[test]
fn kinds_that_are_accepted() {
    for (kind, changes) in [
        ("snat", json!({"src_addr": "192.168.1.0/24", "redirect_addr": "203.0.113.1"})),
        ("snat", json!({"redirect_addr": "any", "protocol": "any", "static_port": true})),
        (
            "snat",
            json!({"redirect_addr": "203.0.113.1", "redirect_port_start": 40000, "redirect_port_end": 50000}),
        ),
        ("masq", json!({"src_addr": "192.168.1.0/24", "redirect_addr": "interface"})),
        ("Masquerade", json!({})),
        ("rdr", json!({"dst_port_start": 8080, "redirect_addr": "192.168.1.10", "redirect_port_start": 80})),
        (
            "dnat",
            json!({"dst_port_start": 2000, "dst_port_end": 2099, "redirect_addr": "192.168.1.10",
            "redirect_port_start": 4000, "redirect_port_end": 4099}),
        ),
        (
            "dnat",
            json!({"dst_port_start": 2000, "dst_port_end": 2099, "redirect_addr": "192.168.1.10",
            "redirect_port_start": 4000}),
        ),
        (
            "binat",
            json!({"src_addr": "192.168.1.0/28", "redirect_addr": "203.0.113.16/28", "protocol": "any"}),
        ),
        ("nat64", json!({"redirect_addr": "any", "protocol": "any"})),
        ("nat64", json!({"redirect_addr": "203.0.113.1", "dst_addr": "2001:db8:64::/96"})),
        (
            "nat46",
            json!({"redirect_addr": "2001:db8:64::/96", "src_addr": "192.168.1.0/24", "dst_addr": "198.51.100.0/24"}),
        ),
        ("nat46", json!({"redirect_addr": "2001:db8::1"})),
    ] {
        create(kind, changes.clone()).unwrap_or_else(|error| panic!("{kind} {changes}: {error}"));
    }
    let masquerade = create("masq", json!({"redirect_addr": "192.0.2.1"})).unwrap();
    assert_eq!(masquerade.redirect.address, Address::Any);
}

#[test]
fn refusals_name_the_field() {
    for (kind, changes, field) in [
        ("nat", json!({}), "nat_type"),
        ("snat", json!({"interface": null}), "interface"),
        ("snat", json!({"interface": "em0 from any"}), "interface"),
        ("snat", json!({}), "redirect_addr"),
        ("snat", json!({"redirect_addr": "203.0.113.1", "label": "x\"; pass all"}), "label"),
        ("snat", json!({"redirect_addr": "<nothere>"}), "redirect_addr"),
        ("snat", json!({"redirect_addr": "2001:db8::1", "src_addr": "10.0.0.0/8"}), "redirect_addr"),
        (
            "snat",
            json!({"redirect_addr": "203.0.113.1", "redirect_port_start": 1, "static_port": true}),
            "static_port",
        ),
        (
            "snat",
            json!({"redirect_addr": "203.0.113.1", "protocol": "any", "dst_port_start": 53}),
            "dst_port_start",
        ),
        (
            "dnat",
            json!({"redirect_addr": "192.168.1.10", "static_port": true, "dst_port_start": 1}),
            "static_port",
        ),
        ("dnat", json!({"redirect_addr": "192.168.1.10"}), "dst_port_start"),
        ("dnat", json!({"redirect_addr": "any", "dst_port_start": 1}), "redirect_addr"),
        (
            "dnat",
            json!({"redirect_addr": "192.168.1.10", "protocol": "any", "dst_port_start": 1}),
            "dst_port_start",
        ),
        (
            "dnat",
            json!({"redirect_addr": "192.168.1.10", "dst_port_start": 1, "dst_port_end": 9,
            "redirect_port_start": 1, "redirect_port_end": 8}),
            "redirect_port_end",
        ),
        ("snat", json!({"redirect_addr": "203.0.113.1", "associated_filter": false}), "associated_filter"),
        ("binat", json!({"redirect_addr": "203.0.113.1"}), "src_addr"),
        ("binat", json!({"src_addr": "<bruteforce>", "redirect_addr": "203.0.113.1"}), "src_addr"),
        ("binat", json!({"src_addr": "10.0.0.1", "redirect_addr": "any"}), "redirect_addr"),
        ("binat", json!({"src_addr": "10.0.0.0/24", "redirect_addr": "203.0.113.0/25"}), "redirect_addr"),
        (
            "binat",
            json!({"src_addr": "10.0.0.1", "redirect_addr": "203.0.113.1", "dst_port_start": 1}),
            "dst_port_start",
        ),
        ("nat64", json!({"redirect_addr": "2001:db8::1"}), "redirect_addr"),
        ("nat64", json!({"redirect_addr": "any", "src_addr": "10.0.0.0/8"}), "src_addr"),
        ("nat64", json!({"redirect_addr": "any", "dst_addr": "2001:db8::/64"}), "dst_addr"),
        ("nat46", json!({"redirect_addr": "203.0.113.1"}), "redirect_addr"),
        ("nat46", json!({"redirect_addr": "2001:db8::/64"}), "redirect_addr"),
    ] {
        let text =
            create(kind, changes.clone()).map(|rule| format!("accepted {rule:?}")).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{field}: ")), "{kind} {changes} gave {text}");
    }
}

#[test]
fn the_switch_keeps_absent_ports() {
    let forward = create(
        "dnat",
        json!({"dst_addr": "203.0.113.1", "dst_port_start": 8080, "dst_port_end": 8090, "src_port_start": 7,
            "redirect_addr": "192.168.1.10", "redirect_port_start": 80, "label": "web"}),
    )
    .unwrap();
    let put = |stored: &NatRule, body: Value| {
        request::from_value::<NatRequest>(body).unwrap().replace(stored, later(), &Config::default()).unwrap()
    };
    let switched = put(
        &forward,
        json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_addr": "203.0.113.1",
            "dst_port_start": 8080, "redirect_addr": "192.168.1.10", "label": "web", "status": "disabled"}),
    );
    assert_eq!(switched, NatRule { status: Status::Disabled, updated_at: later(), ..forward.clone() });
    // Another difference makes it a replacement: absent is any and none again; an equal start keeps its end.
    let replaced = put(
        &forward,
        json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_port_start": 8080,
            "redirect_addr": "192.168.1.11", "status": "disabled"}),
    );
    assert_eq!(replaced.dst_addr, Address::Any);
    assert_eq!(replaced.dst_port, forward.dst_port);
    assert_eq!((replaced.src_port, replaced.redirect.port, replaced.label), (None, None, None));
}

#[test]
fn new_rules_come_last() {
    let mut config = Config::default();
    for expected in 1..=12 {
        let body = json!({"nat_type": "masquerade", "interface": "em0", "protocol": "any"});
        let rule = create_in(&config, body).unwrap();
        assert_eq!(rule.position, expected);
        config.nat.insert(rule);
    }
    assert_eq!(next_position(&config), 13);
}
