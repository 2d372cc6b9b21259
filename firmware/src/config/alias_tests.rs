//! Alias requests, and what follows from a name that rules use.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::config::request;
use crate::config::rule::RuleRequest;

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn create_in(config: &Config, body: Value) -> Result<Alias, Refusal> {
    request::from_value::<AliasRequest>(body).map_err(Refusal::from)?.create(now(), config)
}

fn entries(kind: &str, entries: Value) -> Result<Vec<String>, String> {
    create_in(&Config::default(), json!({"name": "x1", "alias_type": kind, "entries": entries}))
        .map(|alias| alias.entries)
        .map_err(|refusal| refusal.to_string())
}

#[test]
fn entries_are_checked_and_trimmed() {
    assert_eq!(
        entries("host", json!([" 192.0.2.1 ", "", "!2001:db8::1"])).unwrap(),
        ["192.0.2.1", "!2001:db8::1"]
    );
    assert_eq!(entries("Network", json!(["10.0.0.0/8", "192.0.2.1", "!10.1.0.0/16"])).unwrap().len(), 3);
    assert_eq!(entries("port", json!(["80", "8000-8080", "1:65535"])).unwrap().len(), 3);
    assert_eq!(entries("urltable", json!(["https://example.com/list.txt"])).unwrap().len(), 1);
    for (kind, bad) in [
        ("host", "999.1.1.1"),
        ("host", "10.0.0.0/8"),
        ("host", "example.com"),
        ("host", "192.0.2.1 port 22"),
        ("network", "10.0.0.0/33"),
        ("network", "10.0.0.0/8\n1.1.1.1"),
        ("port", "0"),
        ("port", "70000"),
        ("port", "90-80"),
        ("port", "+80"),
        ("port", "http"),
        ("port", "!80"),
        ("url_table", "file:///etc/passwd"),
        ("url_table", "ftp://example.com/x"),
        ("url_table", "example.com/x"),
    ] {
        let text = entries(kind, json!(["", bad])).unwrap_err();
        assert!(text.starts_with("entries[0]: expected"), "{kind} {bad:?} gave {text}");
    }
    let many: Vec<String> =
        (0..10_001).map(|n: u32| std::net::Ipv4Addr::from(n + (10 << 24)).to_string()).collect();
    assert_eq!(entries("host", json!(many)).unwrap_err(), "entries: expected at most 10000 entries");
    assert!(entries("host", json!(many[1..])).is_ok());
}

#[test]
fn names_that_pf_or_the_product_needs_are_refused() {
    let long = "a".repeat(32);
    for name in [
        "",
        "bad name",
        long.as_str(),
        "in",
        "Pass",
        "inet6",
        "table",
        "bruteforce",
        "ai_blocked",
        "geoip_cn",
        "-x",
        "a.b",
    ] {
        let body = json!({"name": name, "alias_type": "host", "entries": []});
        let text = create_in(&Config::default(), body).unwrap_err().to_string();
        assert!(text.starts_with("name: "), "{name} gave {text}");
    }
    let body = json!({"name": "a".repeat(31), "alias_type": "host", "entries": []});
    assert!(create_in(&Config::default(), body).is_ok());
}

#[test]
fn use_is_known_and_renaming_follows() {
    let mut config = Config::default();
    let alias =
        create_in(&config, json!({"name": "lan1", "alias_type": "network", "entries": ["10.0.0.0/8"]}))
            .unwrap();
    config.aliases.insert(alias.clone());
    assert_eq!(check_unused(&config, &alias), Ok(()));
    assert!(matches!(
        create_in(&config, json!({"name": "lan1", "alias_type": "host", "entries": []})),
        Err(Refusal::Conflict(_))
    ));
    let body = json!({"action": "block", "direction": "in", "protocol": "any", "src_addr": "<lan1>", "src_invert": true});
    let rule = request::from_value::<RuleRequest>(body).unwrap().create(now(), &config).unwrap();
    config.rules.insert(rule.clone());
    assert!(matches!(check_unused(&config, &alias), Err(Refusal::Conflict(_))));
    let put = |name: &str, kind: &str, config: &Config| {
        let body = json!({"name": name, "alias_type": kind, "entries": []});
        request::from_value::<AliasRequest>(body).unwrap().replace(&alias, now(), config)
    };
    assert!(matches!(put("lan1", "port", &config), Err(Refusal::Conflict(_))));
    let renamed = put("lan2", "host", &config).unwrap();
    config.aliases.insert(renamed.clone());
    rename_uses(&mut config, &alias.name, &renamed.name);
    assert_eq!(config.rules.get(&rule.id).unwrap().src.addr.to_string(), "<lan2>");
    assert_eq!(config.rules.find("lan1").count(), 0);
    assert_eq!(config.aliases.find("lan1").count(), 0);
    assert_eq!(config.rules.find("lan2").count(), 1);
}

#[test]
fn refresh_is_for_url_tables_and_not_below_ten_seconds() {
    let with = |kind: &str, entry: &str, secs: u32| {
        create_in(
            &Config::default(),
            json!({"name": "u1", "alias_type": kind, "entries": [entry], "refresh_secs": secs}),
        )
    };
    assert_eq!(with("url_table", "https://example.com", 10).unwrap().refresh_secs, Some(10));
    assert!(with("url_table", "https://example.com", 9).is_err());
    assert!(with("host", "192.0.2.1", 60).is_err());
}
