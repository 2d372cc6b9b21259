//! The daemon at work, with a client by hand.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smol::block_on;

use crate::client::DhcpClient;
use crate::rig::Rig;

#[test]
fn b02_b06_b10_clients_get_the_pool_s_and_the_reserved_address() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let status = rig.get("/status").await;
        assert_eq!((&status["running"], &status["version"]), (&json!(true), &json!("0.16.2")), "{status}");
        let first = rig.dhcp(1).named("pc1").lease().expect("an acknowledgement");
        assert_eq!(first.kind, 5);
        assert!((100..=110).contains(&first.address.octets()[3]), "{first:?}");
        let leases = rig.get("/v4/leases").await["data"].clone();
        let lease = &leases[0];
        assert_eq!(lease["ip_address"], first.address.to_string());
        assert_eq!(
            (&lease["subnet"], &lease["hostname"], &lease["state"], &lease["static"]),
            (&json!("192.168.1.0/24"), &json!("pc1"), &json!("bound"), &json!(false))
        );
        assert_eq!(rig.get("/status").await["active_leases"], 1);
        assert_eq!(rig.get("/pool-stats").await["data"][0]["total"], 11);
        assert!(rig.client.get("/dhcp/metrics").send().await.text().contains("rdhcpd_pool_total"));
        // A reservation acts a second later, without a word from anybody.
        let pid = rig.pid();
        let reserved = json!({ "mac_address": "AA-BB-CC-DD-EE-01", "ip_address": "192.168.1.50" });
        rig.ok("POST", "/v4/reservations", reserved).await;
        rig.until("restart", || rig.pid().is_some() && rig.pid() != pid).await;
        assert!(rig.file().contains("mac = \"aa:bb:cc:dd:ee:01\""), "{}", rig.file());
        let client = DhcpClient::with_mac(rig.port, [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);
        assert_eq!(client.lease().expect("an answer").address, Ipv4Addr::new(192, 168, 1, 50));
        let found = rig.get("/v4/leases?mac=AA-BB-CC-DD-EE-01").await;
        assert_eq!(found["data"][0]["static"], true, "{found} of {}", rig.get("/v4/leases?state=all").await);
        // What the daemon is told of the interface is in pf's anchor.
        let snapshot = rig.app.store.snapshot();
        let compiled =
            aifw::compile::firewall(&snapshot.applied, &aifw::compile::Environment::empty()).unwrap();
        let (_, rules) = compiled.anchors.iter().find(|(name, _)| name == "aifw-dhcp").unwrap();
        let text = rules.to_string();
        for label in ["dhcp-discover", "dhcp-reply", "dhcp-renew"] {
            assert!(text.contains(label), "{text}");
        }
        rig.ok("PUT", "/v4/config", json!({ "enabled": false })).await;
        assert_eq!(rig.get("/status").await["running"], false);
        let snapshot = rig.app.store.snapshot();
        let compiled =
            aifw::compile::firewall(&snapshot.applied, &aifw::compile::Environment::empty()).unwrap();
        let (_, rules) = compiled.anchors.iter().find(|(name, _)| name == "aifw-dhcp").unwrap();
        assert_eq!(rules.to_string(), "");
        rig.end().await;
    });
}

#[test]
fn b09_settings_of_the_whole_server_reach_clients_unless_a_subnet_says_otherwise() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        rig.ok("PUT", "/v4/config", json!({ "ntp_servers": ["localhost", "192.168.1.1"], "wins_servers": ["192.168.1.9"],
            "boot_filename": "global.bin", "domain_search": ["a.test", "b.test"], "next_server": "boot.test" })).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        let answer = rig.dhcp(2).discover().expect("an offer");
        assert_eq!(answer.option(42), Some(&[127, 0, 0, 1, 192, 168, 1, 1][..]));
        assert_eq!(answer.option(44), Some(&[192, 168, 1, 9][..]));
        assert_eq!(answer.option(67), Some(&b"global.bin"[..]));
        assert_eq!(answer.option(119), Some(&b"\x01a\x04test\x00\x01b\x04test\x00"[..]));
        assert_eq!(answer.option(3), Some(&[192, 168, 1, 1][..]));
        let mut subnet = rig.get("/v4/subnets").await["data"][0].clone();
        subnet["options"] = json!([{ "code": 67, "value_type": "string", "value": "own.bin" }]);
        let one = format!("/v4/subnets/{}", subnet["id"].as_str().unwrap());
        rig.ok("PUT", &one, subnet).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        assert_eq!(rig.dhcp(3).discover().expect("an offer").option(67), Some(&b"own.bin"[..]));
        rig.end().await;
    });
}

#[test]
fn b11_six_thousand_leases_are_listed() {
    const CLIENTS: u64 = 6000;
    let rig = Rig::new();
    block_on(async {
        let subnet = json!({ "network": "192.168.0.0/16", "pool_start": "192.168.10.1", "pool_end": "192.168.60.1",
            "gateway": "192.168.1.1" });
        rig.ok("POST", "/v4/subnets", subnet).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        rig.ok("PUT", "/v4/config", json!({ "enabled": true, "api_port": port })).await;
        let begun = Instant::now();
        for number in 0..CLIENTS {
            let leased = (0..3).find_map(|_| rig.dhcp(0x1_0000 + number).lease());
            assert!(leased.is_some(), "client {number}");
        }
        println!("{CLIENTS} leases in {} ms", begun.elapsed().as_millis());
        let begun = Instant::now();
        let leases = rig.get("/v4/leases").await;
        assert_eq!(leases["data"].as_array().unwrap().len() as u64, CLIENTS);
        println!("listed in {} ms", begun.elapsed().as_millis());
        let page = rig.get("/v4/leases?limit=10&offset=5995").await;
        assert_eq!((page["data"].as_array().unwrap().len(), &page["total"]), (5, &json!(CLIENTS)));
        rig.end().await;
    });
}

#[test]
fn b12_leases_are_released() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.101").await;
        let lease = rig.dhcp(7).lease().expect("a lease");
        assert_eq!(rig.send("DELETE", "/v4/leases/nonsense", Value::Null).await.0, 400);
        assert_eq!(rig.send("DELETE", "/v4/leases/192.168.1.200", Value::Null).await.0, 404);
        let said = rig.ok("DELETE", &format!("/v4/leases/{}", lease.address), Value::Null).await;
        assert_eq!(said["message"], format!("Lease {} released", lease.address));
        assert_eq!(rig.get("/v4/leases").await["data"], json!([]));
        // A reserved address is not given to others after its lease was released.
        let reserved = json!({ "mac_address": "aa:bb:cc:dd:ee:01", "ip_address": "192.168.1.100" });
        rig.ok("POST", "/v4/reservations", reserved).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        let owner = DhcpClient::with_mac(rig.port, [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);
        assert_eq!(owner.lease().unwrap().address, Ipv4Addr::new(192, 168, 1, 100));
        let pid = rig.pid();
        rig.ok("DELETE", "/v4/leases/192.168.1.100", Value::Null).await;
        rig.until("restart", || rig.pid().is_some() && rig.pid() != pid).await;
        let others: Vec<Ipv4Addr> =
            (20..23).filter_map(|number| rig.dhcp(number).lease().map(|lease| lease.address)).collect();
        assert_eq!(others, [Ipv4Addr::new(192, 168, 1, 101)], "one address is left for others");
        rig.end().await;
    });
}

#[test]
fn b18_logs_are_plain_and_newest_first() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        rig.dhcp(9).lease().unwrap();
        let found = rig.get("/logs?lines=3&search=dhcp").await["data"].as_array().unwrap().clone();
        assert!((1..=3).contains(&found.len()), "{found:?}");
        assert!(!found.iter().any(|line| line.as_str().unwrap().contains('\u{1b}')));
        rig.end().await;
    });
}

#[test]
fn b19_a_burst_of_writes_is_one_restart_and_leases_are_kept() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let lease = rig.dhcp(11).lease().unwrap();
        let pid = rig.pid();
        for number in 2..7 {
            let subnet = json!({ "network": format!("10.{number}.0.0/24"), "pool_start": format!("10.{number}.0.10"),
                "pool_end": format!("10.{number}.0.20"), "gateway": "" });
            rig.ok("POST", "/v4/subnets", subnet).await;
        }
        assert_eq!(rig.pid(), pid);
        rig.until("restart", || rig.pid().is_some() && rig.pid() != pid).await;
        let after = rig.pid();
        async_io::Timer::after(Duration::from_millis(2500)).await;
        assert_eq!(rig.pid(), after, "one restart");
        assert!(rig.file().contains("10.6.0.0/24"));
        let kept = rig.get("/v4/leases").await["data"].clone();
        assert_eq!(kept[0]["ip_address"], lease.address.to_string());
        rig.end().await;
    });
}

#[test]
fn what_the_daemon_would_refuse_is_refused_before_it_is_stored() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let (pid, file) = (rig.pid(), rig.file());
        // A domain that our own checks pass by import, and that the file cannot have: through the back door.
        let mut config = rig.app.store.snapshot().config.clone();
        let mut bad = (**config.dhcp_subnets.iter().next().unwrap()).clone();
        bad.pool_end = "192.168.7.7".into();
        config.dhcp_subnets.insert(bad);
        let refused =
            rig.app.applier.rehearse_service(aifw::config::ServiceKind::Dhcp, &config).await.unwrap_err();
        assert!(refused.to_string().contains("rDHCP refuses this configuration"), "{refused}");
        assert_eq!((rig.pid(), rig.file()), (pid, file));
        assert!(rig.dhcp(12).lease().is_some());
        rig.end().await;
    });
}

#[test]
fn b14_a_port_that_is_taken_is_a_failure_in_words() {
    let rig = Rig::new();
    // Without the option that would let both have it.
    let _taken = std::net::UdpSocket::bind(("0.0.0.0", rig.port)).unwrap();
    block_on(async {
        let subnet = json!({ "network": "192.168.1.0/24", "pool_start": "192.168.1.100", "pool_end": "192.168.1.110",
            "gateway": "192.168.1.1" });
        rig.ok("POST", "/v4/subnets", subnet).await;
        let (status, refused) = rig.send("POST", "/start", Value::Null).await;
        assert_eq!(status, 500);
        assert!(refused["message"].as_str().unwrap().contains("failed"), "{refused}");
        assert_eq!(rig.get("/status").await["running"], false);
        rig.end().await;
    });
}

#[test]
fn b20_the_daemon_s_own_api_wants_its_key() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let port = rig.get("/v4/config").await["api_port"].as_u64().unwrap();
        let answer = ureq::get(format!("http://127.0.0.1:{port}/api/v1/leases")).call();
        assert!(matches!(answer, Err(ureq::Error::StatusCode(401))), "{answer:?}");
        rig.end().await;
    });
}

#[test]
fn the_gap_of_a_restart_is_measured() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.250").await;
        let mut longest = Duration::ZERO;
        for round in 0..5 {
            let begun = Instant::now();
            rig.ok("POST", "/restart", Value::Null).await;
            assert!(rig.dhcp(100 + round).discover().is_some());
            longest = longest.max(begun.elapsed());
        }
        println!("restart: an offer at most {} ms after the order", longest.as_millis());
        assert!(longest < Duration::from_secs(5));
        rig.end().await;
    });
}

#[test]
fn b02_a_relayed_client_gets_its_subnet_s_address_and_an_untrusted_relay_none() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let subnet = |network: u8, relays: Value| {
            json!({ "network": format!("10.{network}.0.0/24"), "pool_start": format!("10.{network}.0.10"),
                "pool_end": format!("10.{network}.0.20"), "gateway": format!("10.{network}.0.1"), "trusted_relays": relays })
        };
        let stored = rig.ok("POST", "/v4/subnets", subnet(8, json!([" 10.0.0.9 "]))).await;
        assert_eq!(stored["data"]["trusted_relays"], json!(["10.0.0.9"]));
        rig.ok("POST", "/v4/subnets", subnet(7, json!([]))).await;
        // There is no pf here, whose part is told as a failure; the daemon's is done.
        rig.send("POST", "/v4/apply", Value::Null).await;
        // What they send comes from 127.0.0.1, which the first does not trust.
        rig.dhcp(31).discover_through(Ipv4Addr::new(10, 8, 0, 1));
        rig.dhcp(32).discover_through(Ipv4Addr::new(10, 7, 0, 1));
        let begun = Instant::now();
        let offered = loop {
            let offered = rig.get("/v4/leases?state=offered").await["data"].clone();
            if offered.as_array().is_some_and(|offered| !offered.is_empty()) {
                break offered;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "no offer");
            async_io::Timer::after(Duration::from_millis(20)).await;
        };
        assert_eq!(offered.as_array().unwrap().len(), 1, "{offered}");
        assert_eq!(offered[0]["subnet"], "10.7.0.0/24");
        let metrics = rig.client.get("/dhcp/metrics").send().await.text();
        assert!(
            metrics.lines().any(|line| line.contains("untrusted_relay") && line.ends_with(" 1")),
            "{metrics}"
        );
        rig.end().await;
    });
}

#[test]
fn a_reservation_by_client_id_is_its_client_s_and_keeps_its_lease() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let mut reserved =
            json!({ "mac_address": "", "client_id": "FF:00:01:02", "ip_address": "192.168.1.60" });
        let made = rig.ok("POST", "/v4/reservations", reserved.clone()).await["data"].clone();
        rig.ok("POST", "/v4/apply", Value::Null).await;
        let owner = rig.dhcp(41).identified(&[255, 0, 1, 2]);
        assert_eq!(owner.lease().expect("an answer").address, Ipv4Addr::new(192, 168, 1, 60));
        let one = format!("/v4/reservations/{}", made["id"].as_str().unwrap());
        let pid = rig.pid();
        reserved["hostname"] = json!("owner");
        rig.ok("PUT", &one, reserved.clone()).await;
        assert_eq!(
            rig.get("/v4/leases").await["data"][0]["ip_address"],
            "192.168.1.60",
            "its own lease stays"
        );
        rig.until("restart", || rig.pid().is_some() && rig.pid() != pid).await;
        // Somebody else's lease of the address goes, also with the reservation.
        reserved["client_id"] = json!("ff000103");
        rig.ok("PUT", &one, reserved).await;
        assert_eq!(rig.get("/v4/leases").await["data"], json!([]));
        rig.end().await;
    });
}

#[test]
fn an_api_port_that_another_program_has_is_no_running_server() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let pid = rig.pid();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        rig.ok("PUT", "/v4/config", json!({ "api_port": port })).await;
        rig.until("the failure", || {
            rig.app.applier.last_soon_error(aifw::config::ServiceKind::Dhcp).is_some()
        })
        .await;
        let status = rig.get("/status").await;
        assert!(status["last_apply_error"].as_str().unwrap().contains("did not come up"), "{status}");
        assert_eq!(status["running"], true, "as before");
        assert_ne!(rig.pid(), pid);
        let (code, refused) = rig.send("POST", "/v4/apply", Value::Null).await;
        assert_eq!(code, 500, "{refused}");
        rig.end().await;
    });
}

#[test]
fn imported_reservations_that_the_daemon_refuses_are_left_out() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let made = json!({ "mac_address": "aa:bb:cc:dd:ee:01", "ip_address": "192.168.1.50" });
        rig.ok("POST", "/v4/reservations", made).await;
        let mut config = rig.app.store.snapshot().config.clone();
        let good = (**config.dhcp_reservations.iter().next().unwrap()).clone();
        for (mac, ip) in [("AA-BB-CC-DD-EE-02", "192.168.1.51"), ("", "192.168.1.52"), ("zz", "192.168.1.53")]
        {
            let mut raw = good.clone();
            raw.id = aifw::config::Id::new_v4();
            (raw.mac_address, raw.ip_address) = (mac.into(), ip.into());
            config.dhcp_reservations.insert(raw);
        }
        let kind = aifw::config::ServiceKind::Dhcp;
        let warnings = rig.app.applier.rehearse_service(kind, &config).await.unwrap().join("\n");
        assert!(
            warnings.contains("192.168.1.52: left out") && warnings.contains("192.168.1.53: left out"),
            "{warnings}"
        );
        assert!(!warnings.contains("192.168.1.51"), "{warnings}");
        // DHCPv6, whose port cannot be raised as DHCPv4's is here.
        let subnet = json!({ "network": "2001:db8::/64", "pool_start": "2001:db8::10", "pool_end": "2001:db8::20", "gateway": "" });
        let stored = rig.ok("POST", "/v4/subnets", subnet).await;
        assert!(stored["warning"].as_str().unwrap().contains("2001:db8::/64: left out"), "{stored}");
        // As above: no pf.
        rig.send("POST", "/v4/apply", Value::Null).await;
        assert_eq!(rig.get("/status").await["running"], true);
        assert!(!rig.file().contains("2001:db8"), "{}", rig.file());
        rig.end().await;
    });
}

#[test]
fn a_server_started_by_hand_follows_what_is_written() {
    let rig = Rig::new();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        rig.ok("PUT", "/v4/config", json!({ "enabled": false })).await;
        assert_eq!(rig.pid(), None);
        // There is no pf here, whose part is told as a failure; the daemon's is done.
        rig.send("POST", "/start", Value::Null).await;
        let pid = rig.pid();
        assert!(pid.is_some());
        let reserved = json!({ "mac_address": "aa:bb:cc:dd:ee:01", "ip_address": "192.168.1.50" });
        rig.ok("POST", "/v4/reservations", reserved).await;
        rig.until("restart", || rig.pid().is_some() && rig.pid() != pid).await;
        assert!(rig.file().contains("192.168.1.50"));
        // A lease released and a write right after: the restart is made.
        let owner = DhcpClient::with_mac(rig.port, [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);
        assert_eq!(owner.lease().unwrap().address, Ipv4Addr::new(192, 168, 1, 50));
        let pid = rig.pid();
        rig.ok("DELETE", "/v4/leases/192.168.1.50", Value::Null).await;
        rig.ok("PUT", "/v4/config", json!({ "authoritative": false })).await;
        rig.until("restart", || rig.pid().is_some() && rig.pid() != pid).await;
        rig.end().await;
    });
}
