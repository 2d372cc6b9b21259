//! Rule requests: what is accepted, what is refused and why, and what PUT keeps.
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

fn base(changes: Value) -> Value {
    let mut body = json!({"action": "pass", "direction": "in", "protocol": "tcp"});
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn create_in(config: &Config, changes: Value) -> Result<Rule, Invalid> {
    request::from_value::<RuleRequest>(base(changes))?.create(now(), config)
}

fn create(changes: Value) -> Result<Rule, Invalid> {
    create_in(&Config::default(), changes)
}

fn replace(stored: &Rule, changes: Value) -> Result<Rule, Invalid> {
    request::from_value::<RuleRequest>(base(changes))?.replace(stored, later(), &Config::default())
}

fn refused(changes: Value) -> String {
    create(changes.clone()).map(|rule| format!("accepted: {rule:?}")).unwrap_err().to_string()
}

#[test]
fn defaults_of_a_new_rule() {
    let rule = create(json!({"dst_port_start": 22})).unwrap();
    assert_eq!(rule.priority, 100);
    assert!(rule.quick && !rule.log);
    assert_eq!(rule.src, Endpoint::default());
    assert_eq!(rule.dst.port, Some(PortRange::new(22, 22).unwrap()));
    assert_eq!((rule.ip_version, rule.status), (IpVersion::Both, Status::Active));
    assert_eq!(rule.state, StateOptions::default());
    assert_eq!((rule.created_at, rule.updated_at), (now(), now()));
}

#[test]
fn words_are_read_forgivingly() {
    for (word, protocol) in [
        ("TCP", Protocol::Tcp),
        ("tcpudp", Protocol::TcpUdp),
        ("tcp+udp", Protocol::TcpUdp),
        ("{ tcp udp }", Protocol::TcpUdp),
        ("*", Protocol::Any),
        ("ICMP6", Protocol::Icmp6),
    ] {
        assert_eq!(create(json!({"protocol": word})).unwrap().protocol, protocol, "{word}");
    }
    for (word, action) in [
        ("block-drop", Action::BlockDrop),
        ("blockreturn", Action::BlockReturn),
        ("block_drop", Action::BlockDrop),
    ] {
        assert_eq!(create(json!({"action": word})).unwrap().action, action, "{word}");
    }
    for (word, version) in [
        ("4", IpVersion::Inet),
        ("ipv6", IpVersion::Inet6),
        ("", IpVersion::Both),
        ("inet46", IpVersion::Inet46),
    ] {
        assert_eq!(create(json!({"ip_version": word})).unwrap().ip_version, version, "{word}");
    }
    for word in ["ANY", " any ", "interface", "Interface Address"] {
        assert_eq!(create(json!({"src_addr": word})).unwrap().src.addr, Address::Any, "{word}");
    }
    let blank =
        create(json!({"interface": "", "label": "", "description": "", "gateway": "", "schedule_id": ""}));
    let blank = blank.unwrap();
    assert_eq!(
        (blank.interface, blank.label, blank.description, blank.gateway, blank.schedule_id),
        (None, None, None, None, None)
    );
    assert_eq!(create(json!({"interface": "any"})).unwrap().interface, None);
}

#[test]
fn legacy_addresses_are_read() {
    let single = create(json!({"src_addr": {"Single": "192.0.2.1"}})).unwrap();
    assert_eq!(single.src.addr.to_string(), "192.0.2.1");
    let network = create(json!({"src_addr": {"Network": ["10.1.2.3", 8]}})).unwrap();
    assert_eq!(network.src.addr.to_string(), "10.1.2.3/8");
    let table = create(json!({"src_addr": {"Table": "bruteforce"}})).unwrap();
    assert_eq!(table.src.addr.to_string(), "<bruteforce>");
    assert!(refused(json!({"src_addr": {"Network": ["10.0.0.0", 33]}})).starts_with("src_addr"));
    assert!(refused(json!({"src_addr": {"Table": "a> to any"}})).starts_with("src_addr"));
}

#[test]
fn own_box_addresses_are_echoed() {
    for text in ["self", "(em0)", "em0:network", "2001:db8::/32", "10.1.2.3/8", "<ai_blocked>", "<geoip_cn>"]
    {
        assert_eq!(create(json!({"dst_addr": text})).unwrap().dst.addr.to_string(), text);
    }
    assert_eq!(create(json!({"dst_addr": "<bruteforce>/32"})).unwrap().dst.addr.to_string(), "<bruteforce>");
}

#[test]
fn refusals_name_the_field() {
    for (changes, field) in [
        (json!({"action": "allow"}), "action"),
        (json!({"action": null}), "action"),
        (json!({"direction": "inbound"}), "direction"),
        (json!({"protocol": "sctp"}), "protocol"),
        (json!({"protocol": 6}), "protocol"),
        (json!({"ip_version": "ipx"}), "ip_version"),
        (json!({"interface": "em0; rm -rf /"}), "interface"),
        (json!({"interface": "e".repeat(40)}), "interface"),
        (json!({"src_addr": "10.0.0.0/33"}), "src_addr"),
        (json!({"src_addr": "<a> to any"}), "src_addr"),
        (json!({"src_addr": "<>"}), "src_addr"),
        (json!({"dst_addr": format!("<{}>", "a".repeat(32))}), "dst_addr"),
        (json!({"dst_addr": "<nothere>"}), "dst_addr"),
        (json!({"dst_addr": "example.com"}), "dst_addr"),
        (json!({"dst_addr": ""}), "dst_addr"),
        (json!({"dst_port_start": 0}), "dst_port_start"),
        (json!({"dst_port_start": 70000}), "dst_port_start"),
        (json!({"dst_port_start": -1}), "dst_port_start"),
        (json!({"dst_port_start": "80"}), "dst_port_start"),
        (json!({"dst_port_start": 90, "dst_port_end": 80}), "dst_port_start"),
        (json!({"src_port_end": 80}), "src_port_start"),
        (json!({"protocol": "icmp", "dst_port_start": 80}), "dst_port_start"),
        (json!({"protocol": "any", "dst_port_alias": "web"}), "dst_port_alias"),
        (json!({"dst_port_alias": "web"}), "dst_port_alias"),
        (json!({"src_invert": true}), "src_invert"),
        (json!({"dst_invert": "yes"}), "dst_invert"),
        (json!({"priority": 10001}), "priority"),
        (json!({"priority": -1}), "priority"),
        (json!({"label": "a\"b"}), "label"),
        (json!({"label": "a;b"}), "label"),
        (json!({"label": "a\nb"}), "label"),
        (json!({"label": "l".repeat(64)}), "label"),
        (json!({"description": "d".repeat(256)}), "description"),
        (json!({"description": "a\u{7}b"}), "description"),
        (json!({"gateway": "WAN_GW"}), "gateway"),
        (json!({"gateway": "192.0.2.1", "action": "block"}), "gateway"),
        (json!({"gateway": "192.0.2.1", "direction": "any"}), "gateway"),
        (json!({"gateway": "192.0.2.1", "ip_version": "inet6"}), "gateway"),
        (json!({"ip_version": "inet", "src_addr": "2001:db8::1"}), "src_addr"),
        (json!({"src_addr": "192.0.2.1", "dst_addr": "2001:db8::1"}), "dst_addr"),
        (json!({"protocol": "icmp", "ip_version": "inet6"}), "protocol"),
        (json!({"protocol": "icmp6", "ip_version": "inet"}), "protocol"),
        (json!({"state_tracking": "sloppy"}), "state_tracking"),
        (
            json!({"state_options": {"adaptive_timeouts": {"start": 2, "end": 1}}}),
            "state_options.adaptive_timeouts",
        ),
        (json!({"state_options": {"adaptive_timeouts": {"start": 2}}}), "state_options.adaptive_timeouts"),
        (json!({"state_options": {"policy": "sticky"}}), "state_options.policy"),
        (json!({"status": "off"}), "status"),
        (json!({"schedule_id": "11111111-1111-4111-8111-111111111111"}), "schedule_id"),
        (json!({"schedule_id": "x"}), "schedule_id"),
    ] {
        let text = refused(changes.clone());
        assert!(text.starts_with(&format!("{field}: ")), "{changes} gave {text}");
    }
}

#[test]
fn put_keeps_and_clears_as_the_table_says() {
    let stored = create(json!({
        "action": "pass", "ip_version": "inet46", "interface": "em0", "src_addr": "10.0.0.0/8", "src_invert": true,
        "dst_port_start": 8000, "dst_port_end": 8080, "log": true, "quick": false, "priority": 7, "label": "l",
        "description": "d", "gateway": "192.0.2.1", "state_tracking": "modulate_state",
        "state_options": {"timeout_tcp": 60}, "status": "disabled"
    }))
    .unwrap();
    assert_eq!(stored.state.tracking, StateTracking::ModulateState);
    let bare = replace(&stored, json!({})).unwrap();
    let cleared = Rule {
        interface: None,
        src: Endpoint::default(),
        dst: Endpoint::default(),
        label: None,
        description: None,
        updated_at: later(),
        ..stored.clone()
    };
    assert_eq!(bare, cleared);
    assert_eq!(replace(&stored, json!({"gateway": null})).unwrap().gateway, None);
    // A gateway is not dropped in silence.
    for change in [json!({"action": "block"}), json!({"direction": "any"})] {
        assert_eq!(replace(&stored, change.clone()).unwrap_err().field, "gateway");
        let mut cleared = change;
        cleared["gateway"] = Value::Null;
        assert_eq!(replace(&stored, cleared).unwrap().gateway, None);
    }
    assert_eq!(replace(&stored, json!({"state_options": null})).unwrap().state, StateOptions::default());
}

#[test]
fn equal_start_keeps_the_end() {
    let stored = create(json!({"dst_port_start": 8000, "dst_port_end": 8080})).unwrap();
    let port =
        |changes| replace(&stored, changes).unwrap().dst.port.map(|range| (range.start(), range.end()));
    assert_eq!(port(json!({"dst_port_start": 8000})), Some((8000, 8080)));
    assert_eq!(port(json!({"dst_port_start": 8000, "dst_port_end": null})), Some((8000, 8000)));
    assert_eq!(port(json!({"dst_port_start": 8001})), Some((8001, 8001)));
    assert_eq!(port(json!({"dst_port_start": null})), None);
    assert_eq!(port(json!({})), None);
}

#[test]
fn references_are_looked_up() {
    let mut config = Config::default();
    let alias = |name: &str, kind: &str, entry: &str| {
        let body = json!({"name": name, "alias_type": kind, "entries": [entry]});
        request::from_value::<alias::AliasRequest>(body).unwrap().create(now(), &Config::default()).unwrap()
    };
    config.aliases.insert(alias("web", "port", "80"));
    config.aliases.insert(alias("servers", "host", "192.0.2.1"));
    let rule = create_in(&config, json!({"dst_addr": "<servers>", "dst_port_alias": "web"})).unwrap();
    assert_eq!(rule.words().iter().map(|word| &**word).collect::<Vec<_>>(), ["servers", "web"]);
    assert!(create_in(&config, json!({"dst_addr": "<web>"})).is_err());
    assert!(create_in(&config, json!({"dst_port_alias": "servers"})).is_err());
    assert!(create_in(&config, json!({"dst_port_alias": "web", "dst_port_start": 80})).is_err());
    config.rules.insert(rule.clone());
    assert_eq!(config.rules.find("servers").count(), 1);
    config.rules.remove(&rule.id);
    assert_eq!(config.rules.find("servers").count(), 0);
}

#[test]
fn at_most_ten_thousand_rules() {
    let one = create(json!({})).unwrap();
    let config = Config {
        rules: (0..MAX_RULES).map(|_| Rule { id: Id::new_v4(), ..one.clone() }).collect(),
        ..Config::default()
    };
    let error = create_in(&config, json!({})).unwrap_err();
    assert_eq!(error.to_string(), "rules: expected at most 10000 rules");
    assert!(
        request::from_value::<RuleRequest>(base(json!({}))).unwrap().replace(&one, later(), &config).is_ok()
    );
}
