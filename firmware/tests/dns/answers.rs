//! What clients get.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use aifw::services::rdns::upkeep;

use crate::rig::{Mortal, Rig, eventually, free_port, upstream};

#[test]
fn b10_each_type_of_a_host_answers_and_goes_when_it_is_disabled() {
    smol::block_on(async {
        let rig = Rig::running().await;
        let a = rig.host("www", "lan.test", "A", "192.168.1.7").await;
        rig.host("www", "lan.test", "AAAA", "2001:db8::7").await;
        rig.host("www", "lan.test", "MX", "mail.lan.test").await;
        rig.host("www", "lan.test", "TXT", "v=spf1 \"quoted\"; -all").await;
        rig.host("alias", "lan.test", "CNAME", "www.lan.test").await;
        rig.host("@", "apex.test", "A", "192.168.1.8").await;
        assert!(rig.pending());
        rig.applied().await;
        assert!(!rig.pending());
        assert_eq!(rig.dig(&["www.lan.test", "A"]).await, ["192.168.1.7"]);
        assert_eq!(rig.dig(&["www.lan.test", "AAAA", "+tcp"]).await, ["2001:db8::7"]);
        assert_eq!(rig.dig(&["WWW.lan.TEST", "MX"]).await, ["10 mail.lan.test."]);
        assert_eq!(rig.dig(&["www.lan.test", "TXT"]).await, [r#""v=spf1 \"quoted\"; -all""#]);
        assert_eq!(rig.dig(&["-x", "192.168.1.7"]).await, ["www.lan.test."]);
        assert_eq!(rig.dig(&["-x", "2001:db8::7"]).await, ["www.lan.test."]);
        assert_eq!(rig.dig(&["alias.lan.test", "A"]).await, ["192.168.1.7"]);
        assert_eq!(rig.dig(&["alias.lan.test", "CNAME"]).await, ["www.lan.test."]);
        assert_eq!(rig.dig(&["apex.test", "A"]).await, ["192.168.1.8"]);
        // The UI toggles by putting back what it was given.
        let mut off = a.clone();
        off["enabled"] = json!(false);
        let path = format!("/dns/resolver/hosts/{}", a["id"].as_str().unwrap());
        let put = rig.ok("PUT", &path, off).await;
        assert_eq!((&put["data"]["enabled"], &put["data"]["created_at"]), (&json!(false), &a["created_at"]));
        rig.applied().await;
        assert!(rig.dig(&["www.lan.test", "A"]).await.is_empty());
        assert!(rig.dig(&["-x", "192.168.1.7"]).await.is_empty());
        assert_eq!(rig.dig(&["www.lan.test", "AAAA"]).await, ["2001:db8::7"]);
        rig.end().await;
    });
}

#[test]
fn b12_a_domain_is_asked_of_its_own_servers_and_the_rest_of_the_others() {
    smol::block_on(async {
        let (world, corp) = (upstream([198, 51, 100, 1]), upstream([10, 0, 0, 1]));
        let rig = Rig::running_with(json!({ "forwarding_servers": [world.to_string()] })).await;
        let body = json!({ "domain": "corp.test", "server": corp.to_string().replace(':', "@") });
        let made = rig.ok("POST", "/dns/resolver/domains", body).await;
        assert_eq!(made["data"]["server"], corp.to_string());
        assert!(rig.pending());
        rig.applied().await;
        let zone = format!("name = \"corp.test\"\nforwarders = [\"{corp}\"]");
        assert!(rig.file("rdns.toml").contains(&zone), "{}", rig.file("rdns.toml"));
        assert_eq!(rig.dig(&["pc.corp.test"]).await, ["10.0.0.1"]);
        assert_eq!(rig.dig(&["example.com"]).await, ["198.51.100.1"]);
        // Names of DHCP clients do not leave the house.
        assert_eq!(rig.rcode(&["nobody.local"]).await, "NXDOMAIN");
        rig.end().await;
    });
}

#[test]
fn a_forwarder_that_is_dead_does_not_come_first() {
    smol::block_on(async {
        let (dead, live) = (format!("127.0.0.1:{}", free_port()), upstream([198, 51, 100, 2]).to_string());
        let rig = Rig::running_with(json!({ "forwarding_servers": [&dead, &live] })).await;
        assert!(rig.file("rdns.toml").contains(&format!("forwarders = [\"{live}\",\"{dead}\"]")));
        assert_eq!(rig.dig(&["example.com"]).await, ["198.51.100.2"]);
        rig.ok("PUT", "/dns/resolver/config", json!({ "forwarding_servers": [&dead] })).await;
        let warnings = rig.applied().await["warnings"].to_string();
        assert!(warnings.contains("none of them answers"), "{warnings}");
        rig.end().await;
    });
}

/// Runs one of these tests again in a network namespace with more addresses on loopback.
fn in_a_namespace(test: &str, addresses: &[&str]) {
    let mut script = String::from("ip link set lo up");
    for address in addresses {
        script.push_str(&format!(" && ip addr add {address}/32 dev lo"));
    }
    script.push_str(" && exec \"$0\" --exact --nocapture \"$1\"");
    let this = std::env::current_exe().unwrap();
    // Root needs no namespace of users, and rDNS would not be able to become somebody else in one.
    let users: &[&str] = match nix::unistd::geteuid().is_root() {
        true => &[],
        false => &["--user", "--map-current-user", "--keep-caps"],
    };
    let args = ["--net", "sh", "-c", &script];
    let output =
        Command::new("unshare").args(users).args(args).arg(this).arg(test).env(NESTED, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{told}");
}

const NESTED: &str = "AIFW_TEST_NESTED";

#[test]
fn b13_the_most_specific_network_decides_who_is_answered() {
    if std::env::var_os(NESTED).is_none() {
        return in_a_namespace(
            "answers::b13_the_most_specific_network_decides_who_is_answered",
            &["10.1.2.3", "10.2.0.1", "198.18.0.9"],
        );
    }
    smol::block_on(async {
        let world = upstream([198, 51, 100, 1]);
        let rig = Rig::running_with(json!({ "forwarding_servers": [world.to_string()] })).await;
        // Without rows, private networks are answered and the world is not.
        assert_eq!(rig.dig(&["-b", "10.1.2.3", "example.com"]).await, ["198.51.100.1"]);
        assert_eq!(rig.rcode(&["-b", "198.18.0.9", "one.example.com"]).await, "REFUSED");
        for (network, action) in [("10.9.9.9/8", "allow"), ("10.1.0.0/16", "deny")] {
            let made =
                rig.ok("POST", "/dns/resolver/acls", json!({ "network": network, "action": action })).await;
            assert_ne!(made["data"]["network"], "10.9.9.9/8");
        }
        assert!(rig.pending());
        rig.applied().await;
        assert_eq!(rig.rcode(&["-b", "10.1.2.3", "two.example.com"]).await, "REFUSED");
        assert_eq!(rig.dig(&["-b", "10.2.0.1", "two.example.com"]).await, ["198.51.100.1"]);
        assert_eq!(rig.dig(&["two.example.com"]).await, ["198.51.100.1"]);
        rig.end().await;
    });
}

#[test]
fn b09_names_of_interfaces_become_their_addresses() {
    smol::block_on(async {
        let rig = Rig::running_with(json!({ "listen_interfaces": [] })).await;
        rig.ok("PUT", "/dns/resolver/config", json!({ "listen_interfaces": ["em1", "127.0.0.1"] })).await;
        // The interface is a simulated one: nobody can listen on its address here, and rDNS goes on without.
        let warnings = rig.ok("POST", "/dns/resolver/apply?dry_run=true", Value::Null).await;
        assert!(warnings["message"].as_str().unwrap().contains("checked; nothing was touched"), "{warnings}");
        assert!(rig.pending());
        rig.applied().await;
        let toml = rig.file("rdns.toml");
        assert!(
            toml.contains(&format!("udp = [\"192.168.1.1:{0}\",\"127.0.0.1:{0}\",\"[::1]:{0}\"]", rig.port))
        );
        let program = rig.app.services.runner(aifw::config::ServiceKind::Dns).program();
        let config =
            rig.app.services.runner(aifw::config::ServiceKind::Dns).places().config.join("rdns.toml");
        let checked = Command::new(program).arg("--check-config").arg("-c").arg(config).output().unwrap();
        assert!(String::from_utf8_lossy(&checked.stdout).contains("Configuration OK"));
        rig.end().await;
    });
}

/// An rDHCP that tells these leases. A stand-in for its HTTP API; the real one is in the tests of the DHCP server.
fn lease_api(leases: &'static str) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            let _ = connection.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                leases.len()
            );
            connection.write_all(head.as_bytes()).ok();
            connection.write_all(leases.as_bytes()).ok();
        }
    });
    port
}

#[test]
fn b17_a_leased_name_resolves_without_a_restart() {
    smol::block_on(async {
        let rig = Rig::running().await;
        rig.host("nas", "local", "A", "192.168.1.2").await;
        rig.applied().await;
        assert_eq!(rig.rcode(&["pc1.local"]).await, "NXDOMAIN");
        let port = lease_api(
            r#"[{"ip":"192.168.1.50","hostname":"PC1.whatever","state":"bound","lease_time":60,"start_time":1,
                 "expire_time":2,"subnet":"192.168.1.0/24"},
                {"ip":"192.168.1.51","hostname":"nas","state":"bound","lease_time":60,"start_time":1,
                 "expire_time":2,"subnet":"192.168.1.0/24"}]"#,
        );
        let enable = rig.app.store.commit(&aifw::store::Author::system("test"), move |draft| {
            let dhcp = std::sync::Arc::make_mut(&mut draft.applied.dhcp);
            (dhcp.enabled, dhcp.api_port) = (true, port);
            Ok::<(), aifw::store::StoreError>(())
        });
        enable.await.unwrap();
        let pid = rig.pid();
        assert!(
            upkeep::refresh_leases(
                rig.app.services.runner(aifw::config::ServiceKind::Dns),
                &rig.app.store.snapshot().applied,
            )
            .await
            .unwrap()
        );
        assert!(
            eventually(Duration::from_secs(2), async || rig.dig(&["pc1.local"]).await == ["192.168.1.50"])
                .await
        );
        // An override is nobody else's.
        assert_eq!(rig.dig(&["nas.local"]).await, ["192.168.1.2"]);
        assert_eq!(rig.pid(), pid);
        // Nothing has changed: nothing is done.
        assert!(
            !upkeep::refresh_leases(
                rig.app.services.runner(aifw::config::ServiceKind::Dns),
                &rig.app.store.snapshot().applied,
            )
            .await
            .unwrap()
        );
        rig.end().await;
    });
}

#[test]
fn a_forwarder_that_dies_is_put_behind_one_that_lives() {
    smol::block_on(async {
        let (first, second) = (Mortal::new([198, 51, 100, 1]), upstream([198, 51, 100, 2]));
        let servers = json!({ "forwarding_servers": [first.place.to_string(), second.to_string()] });
        let rig = Rig::running_with(servers).await;
        assert_eq!(rig.dig(&["one.example.com"]).await, ["198.51.100.1"]);
        let runner = rig.app.services.runner(aifw::config::ServiceKind::Dns);
        let applied = rig.app.store.snapshot().applied.clone();
        let pid = rig.pid();
        assert!(!upkeep::fail_over(runner, &applied).await.unwrap());
        assert_eq!(rig.pid(), pid);
        first.die();
        assert!(upkeep::fail_over(runner, &applied).await.unwrap());
        assert_eq!(rig.dig(&["two.example.com"]).await, ["198.51.100.2"]);
        assert!(!rig.pending());
        rig.end().await;
    });
}

#[test]
fn an_alias_leads_to_addresses_of_the_world() {
    smol::block_on(async {
        let world = upstream([198, 51, 100, 1]);
        let rig = Rig::running_with(json!({ "forwarding_servers": [world.to_string()] })).await;
        rig.host("shop", "lan.test", "CNAME", "shop.example.com.").await;
        rig.applied().await;
        assert_eq!(rig.dig(&["shop.lan.test"]).await, ["198.51.100.1"]);
        let runner = rig.app.services.runner(aifw::config::ServiceKind::Dns);
        let applied = rig.app.store.snapshot().applied.clone();
        // It still leads there.
        assert!(!upkeep::follow_aliases(runner, &applied).await.unwrap());
        rig.end().await;
    });
}
