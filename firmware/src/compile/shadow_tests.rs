#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::{Environment, rule_warnings};
use super::*;
use crate::config::alias::AliasRequest;
use crate::config::rule::RuleRequest;
use crate::config::{Id, Timestamp, request};

/// A rule of tcp to 192.0.2.0/24 port 80-90 that comes in on em0, with changes.
fn rule(config: &Config, changes: Value) -> Rule {
    let mut body = json!({"action": "pass", "direction": "in", "protocol": "tcp", "interface": "em0",
        "dst_addr": "192.0.2.0/24", "dst_port_start": 80, "dst_port_end": 90});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    let wanted: RuleRequest = request::parse(body.to_string().as_bytes()).unwrap();
    wanted.create(Timestamp::UNIX_EPOCH, config).unwrap()
}

fn config() -> Config {
    let mut config = Config::default();
    for body in [
        json!({"name": "hosts", "alias_type": "host", "entries": ["192.0.2.1"]}),
        json!({"name": "off", "alias_type": "host", "entries": ["192.0.2.1"], "enabled": false}),
        json!({"name": "web", "alias_type": "port", "entries": ["80", "443", "8000-8090"]}),
    ] {
        let wanted: AliasRequest = request::parse(body.to_string().as_bytes()).unwrap();
        let alias = wanted.create(Timestamp::UNIX_EPOCH, &config).unwrap();
        config.aliases.insert(alias);
    }
    config
}

#[test]
fn what_covers_what() {
    let config = config();
    let all_ports = json!({"dst_port_start": null, "dst_port_end": null});
    let with = |mut base: Value, more: Value| {
        base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        base
    };
    let no_ports = |more: Value| with(all_ports.clone(), more);
    for (earlier, later, covered) in [
        (json!({}), json!({}), true),
        (json!({"action": "block", "log": true}), json!({}), true),
        (json!({"direction": "any"}), json!({}), true),
        (json!({}), json!({"direction": "any"}), false),
        (json!({"interface": null}), json!({}), true),
        (json!({"interface": "em1"}), json!({}), false),
        (json!({}), json!({"interface": null}), false),
        (json!({"protocol": "tcp/udp"}), json!({}), true),
        (json!({}), json!({"protocol": "tcp/udp"}), false),
        (no_ports(json!({"protocol": "any"})), json!({}), true),
        (no_ports(json!({"protocol": "esp"})), json!({}), false),
        // Addresses.
        (json!({"dst_addr": "192.0.2.128/23"}), json!({}), true),
        (json!({"dst_addr": "192.0.2.0/25"}), json!({}), false),
        (json!({"dst_addr": "any"}), json!({}), true),
        (json!({"dst_addr": "0.0.0.0/0"}), json!({}), true),
        (json!({"dst_addr": "::/0"}), json!({}), false),
        (json!({"dst_addr": "0.0.0.0/0"}), json!({"dst_addr": "any"}), false),
        (json!({"dst_addr": "any", "ip_version": "inet"}), json!({"dst_addr": "any"}), false),
        (
            json!({"dst_addr": "any", "ip_version": "inet6"}),
            json!({"dst_addr": "any", "ip_version": "inet6"}),
            true,
        ),
        (json!({"dst_addr": "0.0.0.0/0"}), json!({"dst_addr": "<hosts>", "ip_version": "inet"}), true),
        (json!({"dst_addr": "192.0.2.1"}), json!({"dst_addr": "192.0.2.1/32"}), true),
        (json!({"src_addr": "10.0.0.0/8"}), json!({}), false),
        (json!({"dst_addr": "<hosts>"}), json!({"dst_addr": "<hosts>"}), true),
        (json!({}), json!({"dst_addr": "<hosts>"}), false),
        (json!({"dst_addr": "<hosts>"}), json!({"dst_addr": "192.0.2.1"}), false),
        (json!({"dst_addr": "(em0)"}), json!({"dst_addr": "self"}), false),
        // Inverted ones.
        (json!({"dst_addr": "198.51.100.0/24", "dst_invert": true}), json!({}), true),
        (json!({"dst_addr": "192.0.2.7", "dst_invert": true}), json!({}), false),
        (json!({"dst_addr": "192.0.0.0/8", "dst_invert": true}), json!({}), false),
        (json!({"dst_addr": "192.0.2.7", "dst_invert": true}), json!({"dst_invert": true}), true),
        (json!({"dst_invert": true}), json!({"dst_addr": "192.0.2.7", "dst_invert": true}), false),
        (json!({}), json!({"dst_invert": true}), false),
        (json!({"dst_addr": "<hosts>", "dst_invert": true}), json!({"dst_addr": "<hosts>"}), false),
        // Ports.
        (all_ports.clone(), json!({}), true),
        (json!({}), all_ports.clone(), false),
        (json!({"dst_port_start": 81}), json!({}), false),
        (json!({"dst_port_start": 80, "dst_port_end": 80}), json!({"dst_port_end": 80}), true),
        (json!({"src_port_start": 1, "src_port_end": 1023}), json!({}), false),
        (
            no_ports(json!({"dst_port_alias": "web"})),
            json!({"dst_port_start": 8000, "dst_port_end": 8090}),
            true,
        ),
        (no_ports(json!({"dst_port_alias": "web"})), json!({}), false),
        (
            json!({"dst_port_start": 1, "dst_port_end": 9000}),
            no_ports(json!({"dst_port_alias": "web"})),
            true,
        ),
        (no_ports(json!({"dst_port_alias": "web"})), no_ports(json!({"dst_port_alias": "web"})), true),
    ] {
        let (other, this) = (rule(&config, earlier.clone()), rule(&config, later.clone()));
        assert_eq!(covers(&config, &other, &this), covered, "{earlier} {later}");
    }
    let scheduled = Rule { schedule_id: Some(Id::from_u128(1)), ..rule(&config, json!({})) };
    let always = rule(&config, json!({}));
    assert!(covers(&config, &always, &scheduled) && covers(&config, &scheduled, &scheduled));
    assert!(!covers(&config, &scheduled, &always));
}

#[test]
fn only_an_earlier_quick_rule_in_force_shadows() {
    let mut config = config();
    let later = rule(&config, json!({"priority": 50, "label": "later"}));
    config.rules.insert(later.clone());
    let warned = |config: &Config, other: Value| {
        let mut config = config.clone();
        let other = rule(&config, other);
        config.rules.insert(other.clone());
        let warnings = rule_warnings(&config, &Environment::empty(), &later);
        assert!(warnings.iter().all(|text| text.contains(&other.id.to_string())), "{warnings:?}");
        !warnings.is_empty()
    };
    assert!(warned(&config, json!({"priority": 10})));
    assert!(!warned(&config, json!({"priority": 60})));
    assert!(!warned(&config, json!({"priority": 10, "quick": false})));
    assert!(!warned(&config, json!({"priority": 10, "status": "disabled"})));
    // Left out of the ruleset with its alias.
    assert!(!warned(
        &config,
        json!({"priority": 10, "src_addr": "<off>", "src_invert": true, "dst_addr": "any"})
    ));
    let off = Rule { status: Status::Disabled, ..later.clone() };
    config.rules.insert(rule(&config, json!({"priority": 10})));
    assert!(rule_warnings(&config, &Environment::empty(), &off).is_empty());
}

#[test]
fn the_first_of_several_is_named() {
    let mut config = config();
    for (priority, label) in [(30, "third"), (10, "first"), (20, "second")] {
        config.rules.insert(rule(&config, json!({"priority": priority, "label": label})));
    }
    let later = rule(&config, json!({"priority": 50}));
    let warnings = rule_warnings(&config, &Environment::empty(), &later);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("(first)"), "{warnings:?}");
}

#[test]
fn what_compiling_says_is_told() {
    let config = config();
    let surprising =
        json!({"direction": "out", "gateway": "198.51.100.1", "state_tracking": "synproxy_state"});
    let warnings = rule_warnings(&config, &Environment::empty(), &rule(&config, surprising));
    assert_eq!(
        warnings,
        [
            "no interface is in the network of gateway 198.51.100.1: passed without routing",
            "synproxy is for incoming connections: modulate state is used"
        ]
    );
}
