//! Properties: whatever the API accepts is shown as it was meant, sent back it changes nothing, and text that
//! could leave its quotes in pf is refused or kept as it is.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};

use aifw::compile::{self, Environment};
use aifw::config::nat::NatRequest;
use aifw::config::rule::RuleRequest;
use aifw::config::{Config, System, Timestamp, request};
use futures_lite::future::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rig::{Rig, id};

fn maybe(value: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    proptest::option::of(value)
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::select(words).prop_map(|word| json!(word))
}

/// An address of a family (of either where it does not matter), mostly one that is good.
fn address(family: Family) -> impl Strategy<Value = Value> {
    let v4 = (any::<[u8; 4]>(), 1..=32u8).prop_map(|(ip, n)| json!(format!("{}/{n}", Ipv4Addr::from(ip))));
    let v6 = (any::<[u8; 16]>(), 1..=128u8).prop_map(|(ip, n)| json!(format!("{}/{n}", Ipv6Addr::from(ip))));
    let v4_host = any::<[u8; 4]>().prop_map(|ip| json!(Ipv4Addr::from(ip).to_string()));
    let v6_host = any::<[u8; 16]>().prop_map(|ip| json!(Ipv6Addr::from(ip).to_string()));
    let neutral =
        one_of(&["any", "ANY", "interface", "self", "(em0)", "em1:network", "<bruteforce>", "<geoip_cn>"]);
    let bad = one_of(&["(1em)", "<nothere>", "10.0.0.0/33", "2001:db8::/129", "", "example.com"]);
    let (four, six) = if family == Family::V4 { (8, 0) } else { (0, 8) };
    prop_oneof![
        4 => neutral,
        1 => bad,
        four => v4,
        four => v4_host,
        six => v6,
        six => v6_host,
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![2 => Just(Family::V4), 1 => Just(Family::V6)]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        20 => (1..=65535u32).prop_map(|port| json!(port)),
        2 => Just(Value::Null),
        1 => Just(json!(0)),
        1 => Just(json!(70000)),
    ]
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => "[a-zA-Z0-9 $<>(){}.,:/_-]{0,63}".prop_map(|text| json!(text)),
        1 => "[ -~]{0,70}".prop_map(|text| json!(text)),
        1 => "\\PC{0,20}".prop_map(|text| json!(text)),
    ]
}

fn flag() -> impl Strategy<Value = Value> {
    any::<bool>().prop_map(Value::from)
}

fn body(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect())
}

/// Takes fields away unless the request is a careless one.
fn without(mut body: Value, careless: bool, when: bool, fields: &[&str]) -> Value {
    if when && !careless {
        fields.iter().for_each(|field| drop(body.as_object_mut().unwrap().remove(*field)));
    }
    body
}

fn rule_body() -> impl Strategy<Value = Value> {
    family().prop_flat_map(rule_of_family)
}

prop_compose! {
    fn rule_of_family(family: Family)(
        careless in proptest::bool::weighted(0.1),
        action in one_of(&["pass", "pass", "block", "block-drop", "blockreturn"]),
        direction in one_of(&["in", "out", "any"]),
        protocol in one_of(&["tcp", "udp", "tcpudp", "icmp", "icmp6", "esp", "any", "*"]),
        ip_version in maybe(one_of(&["inet", "6", "both", "inet46", ""])),
        interface in maybe(one_of(&["em0", "", "any", "vlan10"])),
        (src_addr, dst_addr) in (maybe(address(family)), maybe(address(family))),
        (src_start, src_end, dst_start, dst_end) in (maybe(port()), maybe(port()), maybe(port()), maybe(port())),
        (src_invert, dst_invert, log, quick) in (maybe(flag()), maybe(flag()), maybe(flag()), maybe(flag())),
        priority in maybe((0..10_050u32).prop_map(|n| json!(n))),
        (label, description) in (maybe(text()), maybe(text())),
        gateway in maybe(one_of(if family == Family::V4 { &["192.0.2.1", ""] } else { &["2001:db8::1", "WAN"] })),
        tracking in maybe(one_of(&["none", "keep_state", "modulate_state", "synproxy_state"])),
        status in maybe(one_of(&["active", "disabled"])),
    ) -> Value {
        let is = |value: &Option<Value>, words: &[&str]| {
            value.as_ref().and_then(Value::as_str).is_none_or(|word| words.contains(&word.to_lowercase().as_str()))
        };
        let any = ["any", "interface"];
        let (src_any, dst_any) = (is(&src_addr, &any), is(&dst_addr, &any));
        let has_ports = is(&Some(protocol.clone()), &["tcp", "udp", "tcpudp"]);
        let routed = action == "pass" && direction != "any";
        let other = if family == Family::V4 { "icmp6" } else { "icmp" };
        let other_version = if family == Family::V4 { "6" } else { "inet" };
        let clash = ip_version.as_ref().is_some_and(|word| word == other_version);
        let protocol = if protocol == other && !careless { json!("any") } else { protocol };
        let backwards = |start: &Option<Value>, end: &Option<Value>| {
            let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_u64);
            number(end).is_some_and(|end| number(start).is_none_or(|start| start > end))
        };
        let (src_back, dst_back) = (backwards(&src_start, &src_end), backwards(&dst_start, &dst_end));
        let body = body(vec![
            ("action", Some(action)), ("direction", Some(direction)), ("protocol", Some(protocol)),
            ("ip_version", ip_version), ("interface", interface), ("src_addr", src_addr), ("dst_addr", dst_addr),
            ("src_port_start", src_start), ("src_port_end", src_end), ("dst_port_start", dst_start),
            ("dst_port_end", dst_end), ("src_invert", src_invert), ("dst_invert", dst_invert), ("log", log),
            ("quick", quick), ("priority", priority), ("label", label), ("description", description),
            ("gateway", gateway), ("state_tracking", tracking), ("status", status),
        ]);
        let body = without(body, careless, src_any, &["src_invert"]);
        let body = without(body, careless, dst_any, &["dst_invert"]);
        let body = without(body, careless, clash, &["ip_version"]);
        let body = without(body, careless, src_back, &["src_port_end"]);
        let body = without(body, careless, dst_back, &["dst_port_end"]);
        let ports = ["src_port_start", "src_port_end", "dst_port_start", "dst_port_end"];
        let body = without(body, careless, !has_ports, &ports);
        without(body, careless, !routed, &["gateway"])
    }
}

fn nat_body() -> impl Strategy<Value = Value> {
    let kind = proptest::sample::select(vec!["snat", "dnat", "masquerade", "binat", "nat64", "nat46"]);
    (kind, family()).prop_flat_map(|(kind, family)| {
        let (outer, inner) = match kind {
            "nat64" => (Family::V6, Family::V4),
            "nat46" => (Family::V4, Family::V6),
            _ => (family, family),
        };
        nat_of_kind(kind, outer, inner)
    })
}

prop_compose! {
    fn nat_of_kind(kind: &'static str, outer: Family, inner: Family)(
        careless in proptest::bool::weighted(0.1),
        interface in one_of(&["em0", "vlan10"]),
        protocol in one_of(&["tcp", "udp", "tcp/udp", "any"]),
        (src, dst, to) in (maybe(address(outer)), maybe(address(outer)), address(inner)),
        (src_start, dst_start, to_start) in (maybe(port()), maybe(port()), maybe(port())),
        label in maybe(text()),
        (static_port, filter) in (maybe(flag()), maybe(flag())),
        length in 1..=32u8,
    ) -> Value {
        let has_ports = protocol != "any" && kind != "binat";
        let translates = matches!(kind, "nat64" | "nat46");
        // One to one: both sides of one length.
        let sized = |address: Value| match address.as_str().and_then(|text| text.split_once('/')) {
            Some((ip, _)) => json!(format!("{ip}/{length}")),
            None => address,
        };
        let (src, to) = if kind == "binat" { (src.map(sized), sized(to)) } else { (src, to) };
        let body = body(vec![
            ("nat_type", Some(json!(kind))), ("interface", Some(interface)), ("protocol", Some(protocol)),
            ("src_addr", src), ("dst_addr", dst), ("redirect_addr", Some(to)), ("src_port_start", src_start),
            ("dst_port_start", dst_start), ("redirect_port_start", to_start), ("label", label),
            ("static_port", static_port), ("associated_filter", filter),
        ]);
        let ports = ["src_port_start", "dst_port_start", "redirect_port_start"];
        let body = without(body, careless, !has_ports, &ports);
        let body = without(body, careless, translates, &["redirect_port_start"]);
        let sourced = matches!(kind, "snat" | "masquerade");
        let body = without(body, careless, !sourced || has_ports, &["static_port"]);
        without(body, careless, kind != "dnat", &["associated_filter"])
    }
}

/// Some kinds of NAT need to know which interface leads outside.
fn with_wan() -> Config {
    let system = System { wan_interface: Some("em0".parse().unwrap()), ..System::default() };
    Config { system: std::sync::Arc::new(system), ..Config::default() }
}

const CASES: u32 = 400;

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// Creates the object where it is acceptable; what is shown, sent back, must change nothing.
fn survives_the_way_back(rig: &Rig, path: &str, acceptable: bool, body: Value) {
    block_on(async {
        let (status, answer) = rig.post(path, body.clone()).await;
        assert_eq!(status, if acceptable { 201 } else { 400 }, "{body} gave {answer}");
        if !acceptable {
            assert!(answer["error"].as_str().is_some_and(|text| text.contains(": ")), "{answer}");
            return;
        }
        let object = &answer["data"];
        let one = format!("{path}/{}", id(object));
        assert_eq!(rig.put(&one, object.clone()).await, (200, answer.clone()), "{body}");
        assert_eq!(rig.get(&one).await, (200, json!({"data": object})));
        rig.delete(&one).await;
    });
}

#[test]
fn an_accepted_rule_survives_the_way_back() {
    let rig = block_on(Rig::new().with_roles());
    let (config, accepted) = (with_wan(), Cell::new(0));
    proptest!(ProptestConfig::with_cases(CASES), |(body in rule_body())| {
        let read = request::from_value::<RuleRequest>(body.clone()).and_then(|request| request.create(now(), &config));
        if let Ok(rule) = &read {
            accepted.set(accepted.get() + 1);
            let line = compile::rule_line(&config, &Environment::empty(), rule).unwrap();
            rig.pf.check(Some("aifw"), &format!("{line}\n")).unwrap();
        }
        survives_the_way_back(&rig, "/rules", read.is_ok(), body);
    });
    assert!((CASES / 4..CASES).contains(&accepted.get()), "{} of {CASES} accepted", accepted.get());
}

#[test]
fn an_accepted_nat_rule_survives_the_way_back() {
    let rig = block_on(Rig::new().with_roles());
    let (config, accepted) = (with_wan(), Cell::new(0));
    proptest!(ProptestConfig::with_cases(CASES), |(body in nat_body())| {
        let read = request::from_value::<NatRequest>(body.clone()).and_then(|request| request.create(now(), &config));
        if let Ok(rule) = &read {
            accepted.set(accepted.get() + 1);
            for line in compile::nat_lines(&config, &Environment::empty(), rule).unwrap() {
                rig.pf.check(Some("aifw-nat"), &format!("{line}\n")).unwrap();
            }
        }
        survives_the_way_back(&rig, "/nat", read.is_ok(), body);
    });
    assert!((CASES / 4..CASES).contains(&accepted.get()), "{} of {CASES} accepted", accepted.get());
}

/// Text that means something to pf, a shell, JSON or a terminal.
const HOSTILE: [&str; 16] = [
    "\"; pass all #",
    "x\" label \"y",
    "a'b",
    "a\\",
    "a\nblock all",
    "a\rb",
    "a\0b",
    "$(reboot)",
    "`id`",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "any port 22",
    "em0 { }",
    "\u{202e}gnp.exe",
    "é\u{1f600}",
    "\u{1b}[2J",
];

#[test]
fn hostile_text_is_refused_or_kept_as_it_is() {
    block_on(async {
        let rig = Rig::new();
        let rule = json!({"action": "pass", "direction": "in", "protocol": "tcp"});
        let nat =
            json!({"nat_type": "snat", "interface": "em0", "protocol": "tcp", "redirect_addr": "192.0.2.1"});
        let alias = json!({"name": "x1", "alias_type": "host", "entries": []});
        let schedule = json!({"name": "s", "time_ranges": "08:00-09:00"});
        let geoip = json!({"country_code": "CN", "action": "block"});
        let fields: [(&str, &Value, &[&str]); 5] = [
            (
                "/rules",
                &rule,
                &[
                    "interface",
                    "src_addr",
                    "dst_addr",
                    "label",
                    "description",
                    "gateway",
                    "schedule_id",
                    "src_port_alias",
                    "status",
                    "action",
                    "direction",
                    "protocol",
                    "ip_version",
                    "state_tracking",
                ],
            ),
            (
                "/nat",
                &nat,
                &[
                    "interface",
                    "src_addr",
                    "dst_addr",
                    "redirect_addr",
                    "label",
                    "protocol",
                    "nat_type",
                    "status",
                ],
            ),
            ("/aliases", &alias, &["name", "alias_type", "description"]),
            ("/schedules", &schedule, &["name", "description", "time_ranges", "days_of_week"]),
            ("/geoip", &geoip, &["country_code", "action", "label", "status"]),
        ];
        for (path, base, names) in fields {
            for name in names {
                for hostile in HOSTILE {
                    let mut body = base.clone();
                    body[*name] = json!(hostile);
                    let (status, answer) = rig.post(path, body).await;
                    match status {
                        201 => {
                            let shown = &answer["data"][*name];
                            assert_eq!(shown, hostile.trim(), "{path} {name}");
                            assert!(
                                matches!(*name, "label" | "description" | "name"),
                                "{path} {name} took {hostile:?}"
                            );
                            let quiet = !hostile.contains(['"', '\'', ';', '\\', '\n', '\r', '\0']);
                            assert!(*name != "label" || quiet, "{path} {name} took {hostile:?}");
                            rig.delete(&format!("{path}/{}", id(&answer["data"]))).await;
                        }
                        400 => assert!(
                            answer["error"].as_str().unwrap().starts_with(name),
                            "{path} {name}: {answer}"
                        ),
                        other => panic!("{path} {name} {hostile:?} gave {other} {answer}"),
                    }
                }
            }
            assert!(rig.list(path).await.is_empty());
        }
        for hostile in HOSTILE {
            let mut body = alias.clone();
            body["entries"] = json!([hostile]);
            assert_eq!(rig.post("/aliases", body).await.0, 400, "{hostile:?}");
        }
    });
}
