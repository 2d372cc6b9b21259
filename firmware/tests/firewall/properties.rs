//! Properties: whatever the API accepts is shown as it was meant, sent back it changes nothing, and text that
//! could leave its quotes in pf is refused or kept as it is.

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

fn address() -> impl Strategy<Value = Value> {
    prop_oneof![
        one_of(&[
            "any",
            "ANY",
            "interface",
            "self",
            "(em0)",
            "em1:network",
            "(1em)",
            "<bruteforce>",
            "<geoip_cn>",
            "<nothere>"
        ]),
        any::<[u8; 4]>().prop_map(|ip| json!(std::net::Ipv4Addr::from(ip).to_string())),
        (any::<[u8; 4]>(), 0..=33u8)
            .prop_map(|(ip, n)| json!(format!("{}/{n}", std::net::Ipv4Addr::from(ip)))),
        (any::<[u8; 16]>(), 0..=129u8)
            .prop_map(|(ip, n)| json!(format!("{}/{n}", std::net::Ipv6Addr::from(ip)))),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..=65535u32).prop_map(|port| json!(port)),
        Just(Value::Null),
        Just(json!(0)),
        Just(json!(70000))
    ]
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ -~]{0,70}".prop_map(|text| json!(text)),
        "\\PC{0,20}".prop_map(|text| json!(text)),
        Just(json!(""))
    ]
}

fn body(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect())
}

prop_compose! {
    fn rule_body()(
        action in one_of(&["pass", "block", "block-drop", "blockreturn"]),
        direction in one_of(&["in", "out", "any"]),
        protocol in one_of(&["tcp", "udp", "tcpudp", "icmp", "icmp6", "esp", "any", "*"]),
        ip_version in maybe(one_of(&["inet", "6", "both", "inet46", ""])),
        interface in maybe(one_of(&["em0", "", "any", "vlan10", "em0 from any"])),
        (src_addr, dst_addr) in (maybe(address()), maybe(address())),
        (src_start, src_end, dst_start, dst_end) in (maybe(port()), maybe(port()), maybe(port()), maybe(port())),
        (src_invert, dst_invert, log, quick) in (
            maybe(any::<bool>().prop_map(Value::from)), maybe(any::<bool>().prop_map(Value::from)),
            maybe(any::<bool>().prop_map(Value::from)), maybe(any::<bool>().prop_map(Value::from))),
        priority in maybe((0..10_100u32).prop_map(|n| json!(n))),
        (label, description) in (maybe(text()), maybe(text())),
        gateway in maybe(one_of(&["192.0.2.1", "2001:db8::1", "", "WAN"])),
        tracking in maybe(one_of(&["none", "keep_state", "modulate_state", "synproxy_state"])),
        status in maybe(one_of(&["active", "disabled"])),
    ) -> Value {
        body(vec![
            ("action", Some(action)), ("direction", Some(direction)), ("protocol", Some(protocol)),
            ("ip_version", ip_version), ("interface", interface), ("src_addr", src_addr), ("dst_addr", dst_addr),
            ("src_port_start", src_start), ("src_port_end", src_end), ("dst_port_start", dst_start),
            ("dst_port_end", dst_end), ("src_invert", src_invert), ("dst_invert", dst_invert), ("log", log),
            ("quick", quick), ("priority", priority), ("label", label), ("description", description),
            ("gateway", gateway), ("state_tracking", tracking), ("status", status),
        ])
    }
}

prop_compose! {
    fn nat_body()(
        kind in one_of(&["snat", "dnat", "masquerade", "binat", "nat64", "nat46"]),
        interface in one_of(&["em0", "vlan10"]),
        protocol in one_of(&["tcp", "udp", "tcp/udp", "any", "icmp"]),
        (src, dst, to) in (maybe(address()), maybe(address()), maybe(address())),
        (src_start, dst_start, dst_end, to_start) in (maybe(port()), maybe(port()), maybe(port()), maybe(port())),
        label in maybe(text()),
        (static_port, filter) in (maybe(any::<bool>().prop_map(Value::from)), maybe(any::<bool>().prop_map(Value::from))),
    ) -> Value {
        body(vec![
            ("nat_type", Some(kind)), ("interface", Some(interface)), ("protocol", Some(protocol)), ("src_addr", src),
            ("dst_addr", dst), ("redirect_addr", to), ("src_port_start", src_start), ("dst_port_start", dst_start),
            ("dst_port_end", dst_end), ("redirect_port_start", to_start), ("label", label),
            ("static_port", static_port), ("associated_filter", filter),
        ])
    }
}

/// Some kinds of NAT need to know which interface leads outside.
fn with_wan() -> Config {
    let system = System { wan_interface: Some("em0".parse().unwrap()), ..System::default() };
    Config { system: std::sync::Arc::new(system), ..Config::default() }
}

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
        assert_eq!(rig.get(&one).await, (200, answer.clone()));
        rig.delete(&one).await;
    });
}

#[test]
fn an_accepted_rule_survives_the_way_back() {
    let rig = Rig::new();
    let config = with_wan();
    proptest!(ProptestConfig::with_cases(400), |(body in rule_body())| {
        let read = request::from_value::<RuleRequest>(body.clone()).and_then(|request| request.create(now(), &config));
        if let Ok(rule) = &read {
            let line = compile::rule_line(&config, &Environment::empty(), rule).unwrap();
            rig.pf.check(Some("aifw"), &format!("{line}\n")).unwrap();
        }
        survives_the_way_back(&rig, "/rules", read.is_ok(), body);
    });
}

#[test]
fn an_accepted_nat_rule_survives_the_way_back() {
    let rig = Rig::new();
    let config = with_wan();
    proptest!(ProptestConfig::with_cases(400), |(body in nat_body())| {
        let read = request::from_value::<NatRequest>(body.clone()).and_then(|request| request.create(now(), &config));
        if let Ok(rule) = &read {
            for line in compile::nat_lines(&config, &Environment::empty(), rule).unwrap() {
                rig.pf.check(Some("aifw-nat"), &format!("{line}\n")).unwrap();
            }
        }
        survives_the_way_back(&rig, "/nat", read.is_ok(), body);
    });
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
