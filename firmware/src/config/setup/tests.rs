//! Setup files: what they give, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;

use super::*;
use crate::config::settings::DefaultPolicy;
use seeds::pool;

fn setup(value: Value) -> Result<Setup, Invalid> {
    let mut body = json!({"admin_password": "Secret123"});
    for (key, value) in value.as_object().unwrap() {
        body[key] = value.clone();
    }
    let facts = Facts { ram_mb: 4096, cores: 2, threads_per_core: 1, ..Facts::default() };
    Setup::parse(body.to_string().as_bytes(), "2026-01-02T03:04:05Z".parse().unwrap(), &facts)
}

fn rules(setup: &Setup) -> Vec<String> {
    let mut rules: Vec<_> = setup.config.rules.iter().collect();
    rules.sort_by_key(|rule| rule.order());
    rules
        .iter()
        .map(|rule| {
            let on = rule.interface.as_ref().map_or("-", InterfaceName::as_str);
            let port = rule.dst.port.map_or("-".to_owned(), |port| port.start().to_string());
            format!("{} {:?} {:?} {on} {} {port}", rule.priority, rule.action, rule.direction, rule.src.addr)
        })
        .collect()
}

#[test]
fn a_password_alone_is_enough() {
    let made = setup(json!({})).unwrap();
    assert_eq!(made.admin.as_ref().unwrap().username, "admin");
    let system = &made.config.system;
    assert_eq!((system.hostname.as_str(), system.api_port), ("aifw", 8080));
    assert_eq!(system.wan_interface.as_ref().unwrap().as_str(), "em0");
    assert_eq!(system.dns_servers.len(), 2);
    assert_eq!(
        rules(&made),
        [
            "1 Pass Out em0 any -",
            "10 Pass In em0 any -",
            "20 Pass In em0 any 22",
            "21 Pass In em0 any 8080",
            "1000 Block In - any -"
        ]
    );
    assert_eq!(made.warnings.len(), 2, "{:?}", made.warnings);
    assert!(!format!("{made:?}").contains("Secret123"));
}

#[test]
fn a_router_with_everything() {
    let made = setup(json!({
        "hostname": "fw.example.org", "timezone": "Europe/Vienna", "wan_interface": "vtnet0", "wan_mode": "static",
        "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1", "lan_interface": "vtnet1", "lan_ip": "10.0.7.1/22",
        "dhcp_enabled": true, "nat_enabled": true, "api_port": 443, "ssh_auth_method": "password", "ram_mb": 2048,
        "surprise": 1
    }))
    .unwrap();
    assert_eq!(
        (made.config.system.hostname.as_str(), made.config.system.domain.as_str()),
        ("fw", "example.org")
    );
    assert_eq!(
        rules(&made),
        [
            "1 Pass Out vtnet0 any -",
            "2 Pass Out vtnet1 any -",
            "3 Pass In vtnet1 10.0.4.0/22 -",
            "4 Pass In vtnet1 any 67",
            "5 Pass In vtnet1 any 68",
            "10 Pass In vtnet1 10.0.4.0/22 -",
            "20 Pass In vtnet1 10.0.4.0/22 22",
            "21 Pass In vtnet1 10.0.4.0/22 443",
            "1000 Block In - any -"
        ]
    );
    let nat = made.config.nat.iter().next().unwrap();
    assert_eq!((nat.src_addr.to_string().as_str(), nat.interface.as_str()), ("10.0.4.0/22", "vtnet0"));
    let subnet = made.config.dhcp_subnets.iter().next().unwrap();
    assert_eq!((subnet.network.as_str(), subnet.gateway.as_str()), ("10.0.4.0/22", "10.0.7.1"));
    assert_eq!((subnet.pool_start.as_str(), subnet.pool_end.as_str()), ("10.0.4.20", "10.0.7.0"));
    assert_eq!(made.warnings, ["surprise: not a key of the setup file, ignored"]);
}

#[test]
fn policies() {
    let lan = json!({"default_policy": "strict", "lan_interface": "em1"});
    assert_eq!(
        rules(&setup(lan).unwrap()),
        ["20 Pass In em1 192.168.1.0/24 22", "21 Pass In em1 192.168.1.0/24 8080", "1000 Block Any - any -"]
    );
    assert_eq!(rules(&setup(json!({"default_policy": "permissive"})).unwrap()), ["1 Pass Any - any -"]);
}

#[test]
fn pools() {
    let of = |text: &str| pool(text.parse().unwrap()).map(|(a, b)| format!("{a}-{b}")).unwrap_or_default();
    assert_eq!(of("192.168.1.1/24"), "192.168.1.20-192.168.1.219");
    assert_eq!(of("192.168.1.100/24"), "192.168.1.101-192.168.1.219");
    assert_eq!(of("192.168.1.1/25"), "192.168.1.20-192.168.1.126");
    assert_eq!(of("192.168.1.1/28"), "192.168.1.8-192.168.1.14");
    assert_eq!(of("192.168.1.14/28"), "192.168.1.8-192.168.1.13");
    assert_eq!(of("192.168.1.1/30"), "192.168.1.2-192.168.1.2");
    assert_eq!(of("192.168.1.2/30"), "192.168.1.1-192.168.1.1");
}

#[test]
fn a_second_factor_and_a_hash() {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let made = setup(json!({"admin_password": null, "admin_password_hash": hash, "totp_enabled": true,
        "totp_secret": "JBSWY3DPEHPK3PXP", "recovery_codes": ["a-b"]}))
    .unwrap();
    assert!(matches!(made.admin.as_ref().unwrap().password, AdminPassword::Hash(_)));
    assert!(made.config.auth.require_totp && made.admin.as_ref().unwrap().totp_enabled);
    assert_eq!(made.admin.as_ref().unwrap().recovery_codes.len(), 1);
}

#[test]
fn refusals_name_the_key() {
    for (changes, key) in [
        (json!({"admin_password": null}), "admin_password"),
        (json!({"admin_password": "short1A"}), "admin_password"),
        (json!({"admin_password": "nouppercase1"}), "admin_password"),
        (
            json!({"admin_password_hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAA"}),
            "admin_password",
        ),
        (json!({"admin_password": null, "admin_password_hash": "plain"}), "admin_password_hash"),
        (json!({"admin_username": "a b"}), "admin_username"),
        (json!({"hostname": "-x"}), "hostname"),
        (json!({"hostname": "a..b"}), "hostname"),
        (json!({"domain": "bad domain"}), "domain"),
        (json!({"timezone": "Mars/Olympus"}), "timezone"),
        (json!({"wan_mode": "pppoe"}), "wan_mode"),
        (json!({"wan_mode": "static"}), "wan_ip"),
        (json!({"wan_mode": "static", "wan_ip": "203.0.113.2/24"}), "wan_gateway"),
        (
            json!({"wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "198.51.100.1"}),
            "wan_gateway",
        ),
        (
            json!({"wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.2"}),
            "wan_gateway",
        ),
        (
            json!({"wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.255"}),
            "wan_gateway",
        ),
        (json!({"wan_interface": "em0; reboot"}), "wan_interface"),
        (json!({"lan_interface": "em0"}), "lan_interface"),
        (json!({"lan_ip": "192.168.1.1/24"}), "lan_ip"),
        (json!({"lan_interface": "em1", "lan_ip": "192.168.1.0/24"}), "lan_ip"),
        (json!({"lan_interface": "em1", "lan_ip": "192.168.1.1/31"}), "lan_ip"),
        (
            json!({"lan_interface": "em1", "lan_ip": "203.0.113.9/25", "wan_mode": "static",
            "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1"}),
            "lan_ip",
        ),
        (json!({"dhcp_enabled": true}), "dhcp_enabled"),
        (json!({"nat_enabled": true}), "nat_enabled"),
        (json!({"api_port": 0}), "api_port"),
        (json!({"api_listen": "everywhere"}), "api_listen"),
        (json!({"dns_servers": []}), "dns_servers"),
        (json!({"dns_servers": ["1.1.1.1", "x"]}), "dns_servers[1]"),
        (json!({"default_policy": "open"}), "default_policy"),
        (json!({"totp_enabled": true}), "totp_secret"),
        (json!({"totp_secret": "1!"}), "totp_secret"),
        (json!({"ssh_authorized_keys": ["ssh-ed25519 AAAA"]}), "ssh_authorized_keys[0]"),
        (json!({"ssh_github_user": "../x"}), "ssh_github_user"),
        (json!({"root_password": "short"}), "root_password"),
        (json!({"root_password_hash": "plain"}), "root_password_hash"),
    ] {
        let text = setup(changes.clone()).map(|_| "accepted".to_owned()).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{key}: ")), "{changes} gave {text}");
    }
    assert!(setup(json!({"admin_username": 1})).is_err());
}

#[test]
fn tuning_and_buffers_follow_the_machine() {
    let on = |made: &Setup| made.config.tuning.entries.iter().filter(|entry| entry.enabled).count();
    let made = setup(json!({})).unwrap();
    assert_eq!((made.config.tuning.entries.len(), on(&made)), (12, 12));
    assert_eq!((made.config.ids.alert_buffer_mb, made.config.dashboard.history_seconds), (48, 1800));
    let made = setup(json!({"tuning": "none", "ram_mb": 9000})).unwrap();
    assert_eq!((made.config.tuning.entries.len(), on(&made)), (12, 0));
    assert_eq!(made.config.ids.alert_buffer_mb, 128);
    let made = setup(json!({"tuning": ["net.fibs"]})).unwrap();
    assert_eq!(on(&made), 1);
    assert!(
        setup(json!({"tuning": ["net.fibs", "kern.nothing"]}))
            .unwrap_err()
            .to_string()
            .starts_with("tuning: ")
    );
}

fn pair() -> Value {
    json!({"lan_interface": "em1", "cluster": {"role": "secondary", "sync_interface": "em2", "peer": "10.9.9.1",
        "password": "Carp-Secret", "vips": [
            {"interface": "em0", "virtual_ip": "203.0.113.9", "prefix": 24, "vhid": 1},
            {"interface": "em1", "virtual_ip": "192.168.1.254", "vhid": 2}]}})
}

#[test]
fn a_pair() {
    let made = setup(pair()).unwrap();
    let vips: Vec<_> =
        made.config.carp_vips.iter().map(|vip| (vip.virtual_ip.to_string(), vip.vhid)).collect();
    assert_eq!(vips.len(), 2);
    let mut nodes: Vec<_> = made
        .config
        .ha_nodes
        .iter()
        .map(|node| format!("{} {} {:?}", node.name, node.address, node.role))
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["aifw 192.168.1.1 Secondary", "peer-10.9.9.1 10.9.9.1 Primary"]);
    assert_eq!(made.config.ha.pfsync.as_ref().unwrap().sync_interface.as_str(), "em2");
    assert!(!format!("{made:?}").contains("Carp-Secret"));
    for (pointer, bad, field) in [
        ("/cluster/peer", json!("x"), "cluster.peer"),
        ("/cluster/password", json!("short"), "cluster.password"),
        ("/cluster/password", json!("with$dollar"), "cluster.password"),
        ("/cluster/role", json!("standalone"), "cluster.role"),
        ("/cluster/vips/0/virtual_ip", json!("203.0.113.300"), "cluster.vips[0].virtual_ip"),
        ("/cluster/vips/0/prefix", json!(33), "cluster.vips[0].prefix"),
        ("/cluster/vips/1/vhid", json!(0), "cluster.vips[1].vhid"),
        ("/cluster/vips/1/virtual_ip", json!("203.0.113.9"), "cluster.vips[1].vhid"),
        ("/lan_interface", json!(null), "cluster"),
    ] {
        let mut file = pair();
        *file.pointer_mut(pointer).unwrap() = bad;
        let text = setup(file).map(|_| "accepted".to_owned()).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{field}: ")), "{pointer} gave {text}");
    }
}

#[test]
fn behaviour_11_a_second_setup_keeps_what_people_have_made() {
    let mut config = setup(pair()).unwrap().config;
    let mut own = (**config.rules.iter().next().unwrap()).clone();
    own.id = crate::config::Id::new_v4();
    own.priority = 50;
    config.rules.insert(own);
    let rules = config.rules.len();
    std::sync::Arc::make_mut(&mut config.system).root_password_hash = Secret::new("$6$x");
    let mut again = pair();
    again["hostname"] = json!("two.example.org");
    again["default_policy"] = json!("strict");
    again["dhcp_enabled"] = json!(true);
    setup(again).unwrap().reconfigure(&mut config);
    assert_eq!((config.rules.len(), config.carp_vips.len(), config.ha_nodes.len()), (rules, 2, 2));
    assert_eq!((config.system.hostname.as_str(), config.system.domain.as_str()), ("two", "example.org"));
    assert_eq!(config.system.root_password_hash.expose(), "$6$x");
    assert_eq!(config.firewall.default_policy, DefaultPolicy::Strict);
    assert!(config.dhcp.enabled && config.dhcp_subnets.len() == 1);
    setup(json!({"lan_interface": "em1"})).unwrap().reconfigure(&mut config);
    assert_eq!((config.carp_vips.len(), config.ha.pfsync.is_none(), config.dhcp.enabled), (0, true, false));
}
