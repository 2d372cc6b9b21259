//! Documents: round trips, limits, secrets, interfaces, findings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use std::sync::Arc;

use super::*;
use crate::config::{Document, Timestamp};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// A document as the reference writes it: every section, none of our own fields.
fn full() -> Value {
    let id = |n: u32| format!("00000000-0000-4000-8000-{n:012}");
    json!({
        "schema_version": 1,
        "system": {"hostname": "fw1", "dns_servers": ["9.9.9.9"], "wan_interface": "em0", "lan_interface": "em1",
            "lan_ip": "192.168.1.1/24", "api_listen": "0.0.0.0", "api_port": 8080, "ui_enabled": true},
        "auth": {"access_token_expiry_mins": 15, "refresh_token_expiry_days": 7, "require_totp": false,
            "require_totp_for_oauth": false, "auto_create_oauth_users": true},
        "rules": [
            {"id": id(1), "priority": 10, "action": "pass", "direction": "in", "protocol": "tcp", "interface": "em1",
                "src_addr": "192.168.1.0/24", "dst_addr": "<web>", "dst_port_start": 443, "log": false, "quick": true,
                "label": "web", "state_tracking": "keep_state", "status": "active"},
            {"id": id(2), "priority": 10, "action": "blockreturn", "direction": "in", "protocol": "any",
                "log": true, "quick": true, "state_tracking": "none", "status": "disabled", "ip_version": "inet6"},
            {"id": "not-a-uuid", "priority": 20, "action": "blockdrop", "direction": "any", "protocol": "tcp/udp",
                "src_addr": "(em0)", "src_invert": true, "log": true, "quick": true,
                "state_tracking": "keep_state", "status": "active"}],
        "nat": [{"id": id(4), "nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_port_start": 8080,
            "redirect_addr": "192.168.1.10", "redirect_port_start": 80, "label": null, "status": "active"}],
        "queues": [{"id": id(5), "name": "q", "interface": "em0", "queue_type": "codel", "bandwidth_value": 100,
            "bandwidth_unit": "mbps", "traffic_class": "bulk", "default": true, "status": "active"}],
        "rate_limits": [{"id": id(6), "name": "r", "protocol": "tcp", "dst_port_start": 22, "max_connections": 5,
            "window_secs": 30, "overload_table": "bruteforce", "flush_states": true, "status": "active"}],
        "vpn": {
            "wireguard": [{"id": id(7), "name": "w", "interface": "wg0", "listen_port": 51820, "address": "10.9.0.1/24",
                "private_key": "PRIVATE", "public_key": "PUB", "peers": [{"id": id(8), "name": "p", "public_key": "X",
                "preshared_key": "PSK", "endpoint": null, "allowed_ips": ["10.9.0.2/32"]}]}],
            "ipsec": [{"id": id(9), "name": "i", "src_addr": "192.0.2.1", "dst_addr": "192.0.2.2", "protocol": "esp_ah",
                "mode": "tunnel", "enc_algo": "aes-256-gcm", "auth_algo": "sha256"}]},
        "geoip": [{"id": id(10), "country": "CN", "action": "block", "status": "active"}],
        "tls": {"min_version": "tls13", "block_self_signed": true, "block_expired": true, "block_weak_keys": false,
            "blocked_ja3": ["abc"], "sni_rules": [{"id": id(11), "pattern": "*.example", "action": "block"}]},
        "ha": {"carp_vips": [{"id": id(12), "vhid": 1, "virtual_ip": "192.168.1.254", "prefix": 24,
            "interface": "em1", "password": "CARP"}],
            "pfsync": {"sync_interface": "em2", "sync_peer": "10.0.0.2", "defer": false},
            "nodes": [{"id": id(13), "name": "n", "address": "10.0.0.1", "role": "primary"}]},
        "tuning": [{"key": "pf.max_states", "value": "250000", "target": "sysctl", "reason": "r", "enabled": true},
            {"key": "net.inet.ip.x", "value": "1", "target": "sysctl", "reason": "r", "enabled": true}],
        "dhcp": {"global": {"enabled": true, "interfaces": ["em1"], "authoritative": true, "default_lease_time": 3600,
                "max_lease_time": 86400, "dns_servers": [], "domain_name": "", "domain_search": [], "ntp_servers": [],
                "wins_servers": [], "log_level": "info", "log_format": "text", "api_port": 9967, "workers": 1},
            "subnets": [{"id": id(14), "network": "192.168.1.0/24", "pool_start": "192.168.1.20",
                "pool_end": "192.168.1.99", "gateway": "192.168.1.1", "subnet_type": "address", "enabled": true,
                "trusted_relays": ["127.0.0.1", "10.0.0.9"],
                "options": [{"code": 3, "value_type": "ip", "value": "1.1.1.1"},
                    {"code": 66, "value_type": "string", "value": "tftp"}],
                "created_at": "2026-01-01T00:00:00Z"}],
            "reservations": [{"id": id(15), "subnet_id": id(14), "mac_address": "00:11:22:33:44:55",
                "ip_address": "192.168.1.30", "created_at": "2026-01-01T00:00:00Z"}],
            "ddns": {"enabled": true, "forward_zone": "lan", "reverse_zone_v4": "", "reverse_zone_v6": "",
                "dns_server": "", "tsig_key": "k", "tsig_algorithm": "hmac-sha256", "tsig_secret": "TSIG", "ttl": 300},
            "dhcp_ha": {"mode": "standalone", "scope_split": 0.5}},
        "aliases": [{"id": id(16), "name": "web", "alias_type": "host", "entries": ["192.0.2.80"]}],
        "static_routes": [{"id": id(17), "destination": "10.1.0.0/16", "gateway": "192.168.1.2", "interface": "em1",
            "fib": 3}],
        "services": {"time": {"-": {"enabled": true}}, "dns_resolver": {"-": {"enabled": true}},
            "proxy": {"-": {"enabled": true}}, "ids": {"-": {"mode": "ids"}}}
    })
}

fn document(value: &Value) -> ConfigDocument {
    ConfigDocument::from_value(value.clone()).unwrap()
}

fn config() -> Config {
    document(&full()).to_config(&Config::default(), now()).unwrap()
}

#[test]
fn a_reference_document_becomes_a_configuration() {
    let config = config();
    assert_eq!((config.rules.len(), config.nat.len(), config.aliases.len()), (3, 1, 1));
    assert_eq!(config.firewall.max_states, 250_000);
    assert_eq!(config.tuning.entries.len(), 1);
    let subnet = config.dhcp_subnets.iter().next().unwrap();
    assert_eq!(subnet.trusted_relays, ["10.0.0.9"]);
    assert_eq!(subnet.options.len(), 1);
    assert_eq!(config.wireguard.iter().next().unwrap().private_key.expose(), "PRIVATE");
    assert_eq!(document(&full()).resource_count(), 3 + 1 + 1 + 1 + 1 + 1 + 1 + 1);
    // Rules without times keep the document's order.
    let mut rules: Vec<_> = config.rules.iter().collect();
    rules.sort_by_key(|rule| rule.order());
    assert_eq!(rules[0].label.as_ref().unwrap().as_str(), "web");
    assert!(rules[1].label.is_none());
}

#[test]
fn b07_export_import_export_gives_the_same_hash() {
    let config = config();
    let first = ConfigDocument::from_config(&config);
    let text = secret::revealing(|| first.to_json());
    let again = ConfigDocument::parse(&text).unwrap();
    assert_eq!(again, first);
    let imported = again.to_config(&Config::default(), now()).unwrap();
    assert_eq!(imported, config);
    assert_eq!(fingerprint(&imported), fingerprint(&config));
    assert_eq!(first.hash().len(), 64);
    assert_eq!(first.resource_count(), 10);
}

#[test]
fn every_kind_of_the_configuration_is_in_the_document() {
    // Each row of a full configuration, taken away, changes the hash; so nothing is left out of it.
    let mut full = config();
    let name: crate::config::InterfaceName = "em1".parse().unwrap();
    full.interfaces.insert(crate::config::network::InterfaceSettings {
        name: name.clone(),
        addressing: crate::config::network::Addressing::default(),
    });
    full.interface_roles.insert(crate::config::network::InterfaceRole {
        name,
        role: "LAN".parse().unwrap(),
        updated_at: Timestamp::UNIX_EPOCH,
    });
    let vlan: crate::config::network::VlanRequest =
        serde_json::from_value(serde_json::json!({"vlan_id": 7, "parent": "em1"})).unwrap();
    full.vlans.insert(vlan.create(Timestamp::UNIX_EPOCH, &full).unwrap());
    full.dns_providers.insert(
        serde_json::from_value(json!({"id": 1, "name": "n", "kind": "cloudflare", "zone": "example.net"}))
            .unwrap(),
    );
    full.ddns_records.insert(crate::config::dynamic_dns::DdnsRecord {
        id: 1,
        provider_id: 1,
        hostname: "h.example.net".into(),
        record_type: Default::default(),
        source: Default::default(),
        interface: None,
        explicit_ip: None,
        ttl: 60,
        enabled: true,
    });
    Arc::make_mut(&mut full.mail).host = "mail.example.net".into();
    Arc::make_mut(&mut full.valkey).retention_minutes += 1;
    Arc::make_mut(&mut full.ai).enabled = true;
    Arc::make_mut(&mut full.preferences).sections.insert("web".into(), Default::default());
    Arc::make_mut(&mut full.ddns).poll_interval_secs += 1;
    let (hash, _) = fingerprint(&full);
    let rows = full.row_changes_since(&Config::default());
    let kinds: std::collections::HashSet<&str> = rows.iter().map(|row| row.kind).collect();
    for row in &rows {
        let mut without = full.clone();
        without.put_row(row.kind, &row.key, None).unwrap();
        assert_ne!(fingerprint(&without).0, hash, "{} {}", row.kind, row.key);
    }
    // The maintenance window belongs to the machine, not to what it is configured to do (contract/updates.md).
    let same_as_default = ["schedule", "auth", "history", "dashboard", "updates"];
    // Their rows are told as they are (`services.rs`).
    let of_a_service =
        |kind: &str| ["dns_", "time", "proxy", "ids"].iter().any(|area| kind.starts_with(area));
    for kind in Config::KINDS {
        assert!(
            kinds.contains(kind) || same_as_default.contains(kind) || of_a_service(kind),
            "{kind} is not in the test's document"
        );
    }
}

#[test]
fn secrets_show_only_when_asked_for_and_are_kept_when_left_out() {
    let config = config();
    let hidden = String::from_utf8(ConfigDocument::from_config(&config).to_json()).unwrap();
    for secret in ["PRIVATE", "PSK", "CARP", "TSIG"] {
        assert!(!hidden.contains(&format!("\"{secret}\"")), "{secret} shows in {hidden}");
    }
    let imported = ConfigDocument::parse(hidden.as_bytes()).unwrap().to_config(&config, now()).unwrap();
    assert_eq!(imported, config);
    let elsewhere =
        ConfigDocument::parse(hidden.as_bytes()).unwrap().to_config(&Config::default(), now()).unwrap();
    assert!(elsewhere.wireguard.iter().next().unwrap().private_key.is_empty());
}

#[test]
fn b08_what_is_refused() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value = full();
        change(&mut value);
        let read = ConfigDocument::parse(value.to_string().as_bytes());
        read.and_then(|document| document.to_config(&Config::default(), now())).unwrap_err().field
    };
    assert_eq!(refused(&|v| v["surprise"] = json!(1)), "surprise");
    assert_eq!(refused(&|v| v["schema_version"] = json!(2)), "schema_version");
    assert_eq!(refused(&|v| v["schema_version"] = json!(0)), "schema_version");
    assert_eq!(refused(&|v| drop(v.as_object_mut().unwrap().remove("auth"))), "body");
    assert_eq!(refused(&|v| v["system"]["dns_servers"] = json!(["1.1.1.1", "abc"])), "system.dns_servers[1]");
    assert_eq!(refused(&|v| v["system"]["api_port"] = json!(0)), "system.api_port");
    assert_eq!(refused(&|v| v["system"]["hostname"] = json!("h".repeat(254))), "system.hostname");
    assert_eq!(refused(&|v| v["system"]["hostname"] = json!("a\nb")), "system.hostname");
    assert_eq!(refused(&|v| v["rules"][1]["protocol"] = json!("sctp")), "rules[1].protocol");
    assert_eq!(refused(&|v| v["rules"][0]["dst_addr"] = json!("<nothere>")), "rules[0].dst_addr");
    assert_eq!(refused(&|v| v["rules"][0]["label"] = json!("a\"b")), "rules[0].label");
    assert_eq!(refused(&|v| v["rules"][0]["dst_port_end"] = json!(1)), "rules[0].dst_port_start");
    assert_eq!(refused(&|v| v["rules"][1]["id"] = v["rules"][0]["id"].clone()), "rules[1].id");
    assert_eq!(refused(&|v| v["nat"][0]["redirect_addr"] = json!("any")), "nat[0].redirect_addr");
    assert_eq!(refused(&|v| v["aliases"][0]["entries"] = json!(["999.1.1.1"])), "aliases[0].entries[0]");
    assert_eq!(refused(&|v| v["tuning"][0]["value"] = json!("many")), "tuning[0].value");
    assert_eq!(refused(&|v| v["tuning"][0]["value"] = json!("999")), "firewall.max_states");
    let rule = full()["rules"][1].clone();
    let many = (0..10_001).map(|_| {
        let mut rule = rule.clone();
        rule["id"] = json!("new");
        rule
    });
    assert_eq!(refused(&|v| v["rules"] = many.clone().collect()), "rules");
}

#[test]
fn b06_interfaces_are_renamed_or_dropped() {
    let mut document = document(&full());
    assert_eq!(document.interfaces_found(), ["em0", "em1", "em2", "wg0"]);
    let missing = ["em0".to_owned(), "em2".to_owned()];
    let drops = document.drop_summary(&missing);
    assert_eq!(
        drops,
        DropSummary { rules: 1, nat: 1, wireguard: 0, carp: 0, queues: 1, rate_limits: 0, pfsync: true }
    );
    let map: InterfaceMap =
        [("em0".to_owned(), Some("vtnet0".parse().unwrap())), ("em1".to_owned(), None)].into();
    document.map_interfaces(&map);
    assert_eq!(document.interfaces_found(), ["em2", "vtnet0", "wg0"]);
    assert_eq!((document.rules.len(), document.static_routes.len(), document.ha.carp_vips.len()), (2, 0, 0));
    assert!(document.dhcp.global.interfaces.is_empty());
    assert_eq!(
        (document.system.wan_interface.as_str(), document.system.lan_interface.as_deref()),
        ("vtnet0", Some(""))
    );
    let present = ["lo0", "vtnet0", "em7"].map(str::to_owned);
    let wanted = ["em0", "igb0", "wg0", "em0.10"].map(str::to_owned);
    let suggested: Vec<_> = suggestions(&wanted, &present).into_iter().collect();
    assert_eq!(suggested, [("em0".to_owned(), "em7".to_owned()), ("igb0".to_owned(), "vtnet0".to_owned())]);
}

#[test]
fn findings() {
    let clean = check(&Config::default(), true);
    assert_eq!(clean.errors, ["no name server is configured"]);
    assert_eq!(clean.warnings, ["there are no firewall rules"]);
    assert!(!clean.valid);
    let mut value = full();
    value["rules"].as_array_mut().unwrap().push(json!({"id": "x", "priority": 1, "action": "pass", "direction": "in",
        "protocol": "any", "log": false, "quick": true, "label": "open", "state_tracking": "keep_state", "status": "active"}));
    let mut twice = value["nat"][0].clone();
    twice["id"] = json!("y");
    value["nat"].as_array_mut().unwrap().push(twice);
    value["dhcp"]["subnets"][0]["gateway"] = json!("10.0.0.1");
    value["dhcp"]["subnets"][0]["pool_start"] = json!("192.168.1.200");
    value["dhcp"]["reservations"][0]["ip_address"] = json!("10.0.0.7");
    let config = document(&value).to_config(&Config::default(), now()).unwrap();
    let found = check(&config, false);
    assert!(!found.valid);
    assert_eq!(
        found.errors,
        [
            "DHCP subnet 192.168.1.0/24: gateway 10.0.0.1 is outside",
            "DHCP subnet 192.168.1.0/24: pool starts at 192.168.1.200, after its end 192.168.1.99",
            "DHCP reservation of 10.0.0.7 is outside its subnet 192.168.1.0/24"
        ]
    );
    assert_eq!(found.warnings.len(), 3, "{:?}", found.warnings);
    assert!(found.warnings[1].contains("\"open\" passes from any to any"));
    assert!(found.info.contains(&"4 firewall rules configured".to_owned()));
}
