//! Names of clients in a real DNS server (BIND's named), entered and removed by signed updates.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smol::block_on;

use crate::named::{Named, SECRET};
use crate::rig::Rig;

#[test]
fn b17_a_lease_is_entered_signed_and_its_release_removes_it() {
    let rig = Rig::new();
    let dir = tempfile::tempdir().unwrap();
    let named =
        Named::start(dir.path(), &["lan.test", "1.168.192.in-addr.arpa"], "printer IN A 192.168.1.77\n");
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let settings = json!({ "enabled": true, "forward_zone": "lan.test", "reverse_zone_v4": "1.168.192.in-addr.arpa",
            "dns_server": format!("127.0.0.1:{}", named.port), "tsig_key": "updates", "tsig_secret": SECRET });
        rig.ok("PUT", "/ddns", settings).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        let follow = || rig.app.services.follow_leases(&rig.app.store.snapshot().applied);
        let lease = rig.dhcp(1).named("PC1").lease().unwrap();
        assert_eq!(follow(), 1);
        assert_eq!(named.ask("pc1.lan.test", "A"), lease.address.to_string());
        let last = lease.address.octets()[3];
        let pointer = format!("{last}.1.168.192.in-addr.arpa");
        assert_eq!(named.ask(&pointer, "PTR"), "pc1.lan.test.");
        assert_eq!(follow(), 0, "nothing new, nothing sent");

        // A name that the zone has already stays as it is.
        rig.dhcp(2).named("printer").lease().unwrap();
        follow();
        assert_eq!(named.ask("printer.lan.test", "A"), "192.168.1.77");
        let shown = rig.get("/ddns").await;
        assert!(shown["last_error"].as_str().unwrap().contains("somebody else's"), "{shown}");

        rig.ok("DELETE", &format!("/v4/leases/{}", lease.address), Value::Null).await;
        follow();
        assert_eq!(
            (named.ask("pc1.lan.test", "A"), named.ask(&pointer, "PTR")),
            (String::new(), String::new())
        );

        // A wrong secret is told, and nothing is entered.
        rig.ok("PUT", "/ddns", json!({ "tsig_secret": "d3Jvbmc=" })).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        rig.dhcp(3).named("pc3").lease().unwrap();
        follow();
        assert_eq!(named.ask("pc3.lan.test", "A"), "");
        let shown = rig.get("/ddns").await;
        assert!(shown["last_error"].is_string(), "{shown}");
        rig.end().await;
    });
}

#[test]
fn a_refused_pointer_leaves_no_orphan_and_switched_off_everything_goes() {
    let rig = Rig::new();
    let dir = tempfile::tempdir().unwrap();
    let named =
        Named::start(dir.path(), &["lan.test", "1.168.192.in-addr.arpa"], "printer IN A 192.168.1.77\n");
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        // The server has no such zone.
        let settings = json!({ "enabled": true, "forward_zone": "lan.test", "reverse_zone_v4": "168.192.in-addr.arpa",
            "dns_server": format!("127.0.0.1:{}", named.port), "tsig_key": "updates", "tsig_secret": SECRET });
        rig.ok("PUT", "/ddns", settings).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        let follow = || rig.app.services.follow_leases(&rig.app.store.snapshot().applied);
        let lease = rig.dhcp(1).named("pc1").lease().unwrap();
        follow();
        assert_eq!(named.ask("pc1.lan.test", "A"), lease.address.to_string());
        assert!(rig.get("/ddns").await["last_error"].is_string());
        rig.ok("DELETE", &format!("/v4/leases/{}", lease.address), Value::Null).await;
        follow();
        assert_eq!(named.ask("pc1.lan.test", "A"), "");

        rig.ok("PUT", "/ddns", json!({ "reverse_zone_v4": "1.168.192.in-addr.arpa" })).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        let lease = rig.dhcp(2).named("pc2").lease().unwrap();
        follow();
        let pointer = format!("{}.1.168.192.in-addr.arpa", lease.address.octets()[3]);
        assert_eq!(named.ask(&pointer, "PTR"), "pc2.lan.test.");
        assert_eq!(rig.get("/ddns").await["last_error"], Value::Null);
        rig.ok("PUT", "/ddns", json!({ "enabled": false })).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        assert_eq!(follow(), 1);
        assert_eq!(
            (named.ask("pc2.lan.test", "A"), named.ask(&pointer, "PTR")),
            (String::new(), String::new())
        );
        rig.end().await;
    });
}

#[test]
fn a_silent_dns_server_holds_nobody_up() {
    let rig = Rig::new();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let server = silent.local_addr().unwrap().to_string();
        rig.ok("PUT", "/ddns", json!({ "enabled": true, "forward_zone": "lan.test", "dns_server": server }))
            .await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        rig.dhcp(1).named("pc1").lease().unwrap();
        let (services, applied) = (rig.app.services.clone(), rig.app.store.snapshot().applied.clone());
        let follower = std::thread::spawn(move || services.follow_leases(&applied));
        silent.recv(&mut [0; 1500]).unwrap();
        let begun = Instant::now();
        rig.get("/ddns").await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(follower.join().unwrap(), 0);
        let shown = rig.get("/ddns").await;
        assert!(shown["last_error"].as_str().unwrap().contains("does not answer"), "{shown}");
        rig.end().await;
    });
}

#[test]
fn an_answer_that_is_not_signed_with_the_key_is_none() {
    let rig = Rig::new();
    let forger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = forger.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((_, from)) = forger.recv_from(&mut message) {
            // The id, an answer to an update, no error, and nothing else.
            let head = [message[0], message[1], 0x80 | 5 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            forger.send_to(&head, from).ok();
        }
    });
    block_on(async {
        rig.serve("192.168.1.100", "192.168.1.110").await;
        let settings = json!({ "enabled": true, "forward_zone": "lan.test", "dns_server": server, "tsig_key": "updates",
            "tsig_secret": SECRET });
        rig.ok("PUT", "/ddns", settings).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        rig.dhcp(1).named("pc1").lease().unwrap();
        let follow = || rig.app.services.follow_leases(&rig.app.store.snapshot().applied);
        assert_eq!(follow(), 0);
        let shown = rig.get("/ddns").await;
        assert!(shown["last_error"].as_str().unwrap().contains("not signed with the key"), "{shown}");
        // Without a key it counts; what was left open is entered again.
        rig.ok("PUT", "/ddns", json!({ "tsig_key": "", "tsig_secret": "" })).await;
        rig.ok("POST", "/v4/apply", Value::Null).await;
        assert_eq!(follow(), 1);
        assert_eq!(rig.get("/ddns").await["last_error"], Value::Null);
        rig.end().await;
    });
}
