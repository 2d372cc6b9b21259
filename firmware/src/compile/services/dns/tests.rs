#![allow(clippy::unwrap_used)]

use super::*;
use crate::compile::InterfaceFacts;
use crate::config::Id;
use crate::config::dns::records::{DomainRequest, HostRequest};

fn facts() -> Facts {
    let dir = |name: &str| std::path::PathBuf::from("/d").join(name);
    Facts {
        interfaces: vec![
            InterfaceFacts::of("em1", &["192.168.1.1/24".parse().unwrap(), "fe80::1/64".parse().unwrap()])
                .unwrap(),
        ],
        places: Places { config: dir("etc"), run: dir("run"), data: dir("data"), log: dir("log") },
        listen: ListenMap::AsConfigured,
        root: "/".into(),
        sandbox: true,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn world() -> World {
    World { user: "nobody".into(), group: "nogroup".into(), ..World::default() }
}

fn settings(change: serde_json::Value) -> Config {
    let settings = DnsResolver::default().changed_by(change.as_object().unwrap()).unwrap();
    Config { dns_resolver: settings.into(), ..Config::default() }
}

fn host(config: &mut Config, hostname: &str, domain: &str, kind: &str, value: &str) {
    let body = json!({ "hostname": hostname, "domain": domain, "record_type": kind, "value": value });
    let request: HostRequest = serde_json::from_value(body).unwrap();
    config.dns_hosts.insert(request.create(Timestamp::UNIX_EPOCH, config).unwrap());
}

fn domain(config: &mut Config, domain: &str, server: &str) {
    let request: DomainRequest =
        serde_json::from_value(json!({ "domain": domain, "server": server })).unwrap();
    config.dns_domains.insert(request.create(Timestamp::UNIX_EPOCH, config).unwrap());
}

fn made(config: &Config, world: &World) -> Artifacts {
    artifacts(config, &facts(), world).unwrap()
}

fn text(artifacts: &Artifacts, path: &str) -> String {
    let file = artifacts.files.iter().find(|file| file.path == Path::new(path));
    String::from_utf8(file.unwrap_or_else(|| panic!("no {path}")).bytes.clone()).unwrap()
}

#[test]
fn the_daemon_listens_on_addresses_and_on_loopback() {
    let mut warnings = Vec::new();
    let at = |list: serde_json::Value, warnings: &mut Vec<String>| -> Vec<String> {
        let config = settings(json!({ "listen_interfaces": list }));
        listen(&config.dns_resolver, &facts(), warnings).iter().map(SocketAddr::to_string).collect()
    };
    assert_eq!(at(json!(["em1"]), &mut warnings), ["192.168.1.1:53", "127.0.0.1:53", "[::1]:53"]);
    assert_eq!(at(json!(["0.0.0.0", "192.168.1.1"]), &mut warnings), ["0.0.0.0:53", "[::1]:53"]);
    assert_eq!(at(json!([]), &mut warnings), ["0.0.0.0:53", "[::]:53"]);
    assert!(warnings.is_empty());
    assert_eq!(at(json!(["em7"]), &mut warnings), ["127.0.0.1:53", "[::1]:53"]);
    assert_eq!(warnings, ["listen_interfaces: em7 has no address to listen on"]);
}

#[test]
fn rdns_toml_says_what_is_configured() {
    let mut config = settings(json!({
        "forwarding_servers": ["9.9.9.9", "[2001:db8::1]:54"], "cache_min_ttl": 7, "query_timeout_ms": 900,
        "rebind_protection": false
    }));
    domain(&mut config, "Corp.Test.", "10.0.0.53:5353, 10.0.0.54");
    let artifacts = made(&config, &world());
    let toml: toml::Table = text(&artifacts, "rdns.toml").parse().unwrap();
    assert_eq!(toml["server"]["user"].as_str(), Some("nobody"));
    assert_eq!(toml["resolver"]["forwarders"].to_string(), r#"["9.9.9.9:53", "[2001:db8::1]:54"]"#);
    let zone = &toml["resolver"]["forward_zones"][0];
    assert_eq!(zone["name"].as_str(), Some("corp.test"));
    assert_eq!(zone["forwarders"].to_string(), r#"["10.0.0.53:5353", "10.0.0.54:53"]"#);
    assert_eq!(toml["cache"]["min_ttl"].as_integer(), Some(7));
    assert_eq!(toml["resolver"]["query_timeout_ms"].as_integer(), Some(900));
    assert_eq!(toml["security"]["sandbox"].as_bool(), Some(false));
    assert_eq!(toml["control"]["socket"].as_str(), Some("../run/control.sock"));
    let rpz = toml["rpz"]["zones"].as_array().unwrap();
    assert!(rpz.iter().any(|zone| zone["name"].as_str() == Some("rpz.hosts")));
    assert_eq!(artifacts.warnings, Vec::<String>::new());
}

#[test]
fn forwarders_that_answer_come_first() {
    let config = settings(json!({ "forwarding_servers": ["9.9.9.1", "9.9.9.2", "9.9.9.3"] }));
    let dead = |ips: &[u8]| World {
        unreachable: ips.iter().map(|last| ([9, 9, 9, *last], 53).into()).collect(),
        ..world()
    };
    let order = |world: &World| {
        let toml: toml::Table = text(&made(&config, world), "rdns.toml").parse().unwrap();
        toml["resolver"]["forwarders"].to_string()
    };
    assert_eq!(order(&dead(&[1])), r#"["9.9.9.2:53", "9.9.9.3:53", "9.9.9.1:53"]"#);
    let none = dead(&[1, 2, 3]);
    assert!(made(&config, &none).warnings.contains(&"forwarding_servers: none of them answers".to_owned()));
}

#[test]
fn names_of_ours_become_zones_of_their_own() {
    let mut config = settings(json!({}));
    host(&mut config, "WWW", "lan.test", "A", "192.168.1.7");
    host(&mut config, "www", "lan.test", "AAAA", "2001:db8::7");
    host(&mut config, "www", "lan.test", "MX", "mail.lan.test");
    host(&mut config, "alias", "lan.test", "CNAME", "www.lan.test");
    host(&mut config, "@", "apex.test", "A", "192.168.1.8");
    let artifacts = made(&config, &world());
    let www = text(&artifacts, "zones/www.lan.test.zone");
    let records: Vec<&str> = www.lines().skip(3).collect();
    assert_eq!(
        records,
        [
            "www.lan.test. IN A 192.168.1.7",
            "www.lan.test. IN AAAA 2001:db8::7",
            "www.lan.test. IN MX 10 mail.lan.test."
        ]
    );
    let alias = text(&artifacts, "zones/alias.lan.test.zone");
    assert!(alias.contains("alias.lan.test. IN CNAME www.lan.test.\nalias.lan.test. IN A 192.168.1.7\n"));
    assert!(text(&artifacts, "rpz/hosts.rpz").ends_with("apex.test A 192.168.1.8\n"));
    let reverse = text(&artifacts, "zones/1.168.192.in-addr.arpa.zone");
    assert!(reverse.contains("7.1.168.192.in-addr.arpa. IN PTR www.lan.test.\n"));
    assert!(reverse.contains("8.1.168.192.in-addr.arpa. IN PTR apex.test.\n"));
    assert!(text(&artifacts, "zones/local.zone").contains("local. IN SOA"));
}

#[test]
fn names_of_clients_give_way_to_overrides_and_reservations() {
    let mut config = settings(json!({ "dhcp_domain": "home.test" }));
    host(&mut config, "nas", "home.test", "A", "192.168.1.2");
    let reservation: crate::config::dhcp::DhcpReservation = serde_json::from_value(json!({
        "id": Id::new_v4(), "subnet_id": null, "mac_address": "02:00:00:00:00:01", "ip_address": "192.168.1.3",
        "hostname": "Printer.office", "client_id": null, "description": null, "created_at": Timestamp::UNIX_EPOCH
    }))
    .unwrap();
    config.dhcp_reservations.insert(reservation);
    let lease = |name: &str, last: u8| Named { name: name.into(), ip: [192, 168, 1, last].into() };
    let leases = vec![lease("pc1", 10), lease("printer", 11), lease("NAS", 12), lease("bad_name", 13)];
    let policy = text(&made(&config, &World { leases, ..world() }), "rpz/hosts.rpz");
    let names: Vec<&str> = policy.lines().skip(3).collect();
    assert_eq!(names, ["printer.home.test A 192.168.1.3", "pc1.home.test A 192.168.1.10"]);
    // A forwarded domain must not be hidden by a zone of ours.
    domain(&mut config, "sub.home.test", "10.0.0.53");
    let artifacts = made(&config, &world());
    assert!(artifacts.files.iter().all(|file| file.path != Path::new("zones/home.test.zone")));
}

#[test]
fn custom_options_are_merged_and_cannot_take_over() {
    let config =
        settings(json!({ "custom_options": "[cache]\nmax_entries = 5\n[edns]\nudp_payload_size = 1400" }));
    let toml: toml::Table = text(&made(&config, &world()), "rdns.toml").parse().unwrap();
    assert_eq!(toml["cache"]["max_entries"].as_integer(), Some(5));
    assert_eq!(toml["cache"]["max_ttl"].as_integer(), Some(86_400));
    assert_eq!(toml["edns"]["udp_payload_size"].as_integer(), Some(1400));
    // A document that was imported has not passed the request's check.
    let mut config = config;
    std::sync::Arc::make_mut(&mut config.dns_resolver).custom_options = "[server]\nuser = \"root\"".into();
    let refused = artifacts(&config, &facts(), &world()).unwrap_err();
    assert_eq!(refused.to_string(), "custom_options: [server] cannot be set here");
}

#[test]
fn what_is_pending_is_what_an_apply_would_change() {
    let applied = settings(json!({ "enabled": true }));
    assert!(!differs(&applied, &applied.clone()));
    // unbound alone has this setting; it is still something that was changed and not applied.
    assert!(differs(&applied, &settings(json!({ "enabled": true, "msg_cache_size": 16 }))));
    assert!(differs(&applied, &settings(json!({ "enabled": false }))));
    assert!(differs(&applied, &settings(json!({ "enabled": true, "listen_interfaces": ["em0"] }))));
    assert!(differs(&applied, &settings(json!({ "enabled": true, "use_system_nameservers": true }))));
    assert!(!differs(&applied, &settings(json!({ "enabled": true, "whitelist": ["legacy.test"] }))));
    let mut stored = applied.clone();
    host(&mut stored, "x", "lan.test", "A", "10.0.0.1");
    assert!(differs(&applied, &stored));
    let off = crate::config::dns::HostOverride {
        enabled: false,
        ..(**stored.dns_hosts.iter().next().unwrap()).clone()
    };
    stored.dns_hosts.insert(off);
    assert!(!differs(&applied, &stored));
}

#[test]
fn unbound_conf_says_what_is_configured() {
    let mut config = settings(json!({
        "backend": "unbound", "dot_enabled": true, "dns64": true, "listen_interfaces": ["em1"], "num_threads": 4,
        "custom_options": "prefetch: no", "rebind_protection": true, "private_addresses": ["10.0.0.0/8"]
    }));
    host(&mut config, "www", "lan.test", "A", "192.168.1.7");
    host(&mut config, "txt", "lan.test", "TXT", "it's");
    domain(&mut config, "corp.test", "10.0.0.53:5353");
    let artifacts = made(&config, &world());
    let conf = text(&artifacts, "unbound.conf");
    for line in [
        "\tinterface: \"192.168.1.1@53\"",
        "\tmodule-config: \"dns64 validator iterator\"",
        "\toutgoing-range: 224",
        "\tprivate-address: \"10.0.0.0/8\"",
        "\tlocal-data: 'www.lan.test. 300 IN A 192.168.1.7'",
        "\tlocal-data: 'txt.lan.test. 300 IN TXT \"it\\039s\"'",
        "\tlocal-data-ptr: \"192.168.1.7 www.lan.test\"",
        "\tforward-addr: \"10.0.0.53@5353\"",
        "\tforward-addr: \"1.1.1.1@853#cloudflare-dns.com\"",
        "\tforward-tls-upstream: yes",
        "\tauto-trust-anchor-file: \"/d/etc/root.key\"",
        "\taccess-control: 192.168.1.0/24 allow",
        "\tprefetch: no",
    ] {
        assert!(conf.lines().any(|have| have == line), "no {line:?} in\n{conf}");
    }
    assert_eq!(conf.matches("trust-anchor").count(), 1);
    assert!(!conf.contains("forward-first"));
    assert_eq!(artifacts.seeds[0].path, Path::new("root.key"));
}
