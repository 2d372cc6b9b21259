//! Behaviours that packets show: configured through the API, decided by the simulator.

use std::net::IpAddr;

use aifw::config::Timestamp;
use aifw::pf::packet::{Direction, Packet, flag};
use aifw::pf::sim::Outcome;
use futures_lite::future::block_on;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::rig::{Rig, id};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The first packet of a TCP connection comes in.
fn syn(rig: &Rig, interface: &str, src: (&str, u16), dst: (&str, u16)) -> Outcome {
    let packet = Packet::tcp(ip(src.0), src.1, ip(dst.0), dst.1, flag::SYN);
    rig.simulator.inject(interface, Direction::In, &packet, Timestamp::now())
}

/// What the API says of a new TCP connection.
async fn explain(rig: &Rig, interface: &str, src: &str, dst: &str, port: u16) -> Value {
    let question = json!({"interface": interface, "protocol": "tcp", "src": src, "src_port": 50_000, "dst": dst,
        "dst_port": port});
    let (status, answer) = rig.post("/rules/explain", question).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn b08_a_rule_appears_at_its_opening_and_its_states_die_at_its_closing() {
    block_on(async {
        let rig = Rig::new();
        let now = Timestamp::now();
        let hours = |count: i64| now + SignedDuration::from_hours(count);
        let word = |count: i64| hours(count).strftime("%H:%M").to_string();
        let window = format!("{}-{}", word(2), word(4));
        let schedule = rig.create("/schedules", json!({"name": "later", "time_ranges": window})).await;
        let body = json!({"action": "pass", "direction": "in", "protocol": "tcp", "interface": "em0",
            "dst_port_start": 8022, "schedule_id": schedule["id"]});
        let rule = rig.create("/rules", body).await;
        rig.reload().await;
        assert!(rig.lines("aifw").is_empty());
        let (client, server) = ("198.51.100.9", ("203.0.113.2", 8022));
        assert!(!syn(&rig, "em0", (client, 40_000), server).passed);
        let states = || {
            let all = rig.pf.states().unwrap();
            all.iter().filter(|state| state.src.0 == ip(client)).count()
        };
        assert_eq!(states(), 0);
        // One minute before, nothing; at the opening, the rule.
        assert!(!rig.app.applier.schedule_tick(hours(1)).await.unwrap());
        assert!(rig.app.applier.schedule_tick(hours(3)).await.unwrap());
        let loaded = rig.lines("aifw");
        assert!(loaded.len() == 1 && loaded[0].contains(&id(&rule)), "{loaded:?}");
        assert!(syn(&rig, "em0", (client, 40_001), server).passed);
        assert_eq!(states(), 1);
        // Still open: nothing is loaded again, and the state stays.
        assert!(!rig.app.applier.schedule_tick(hours(3)).await.unwrap());
        assert_eq!(states(), 1);
        assert!(rig.app.applier.schedule_tick(hours(5)).await.unwrap());
        assert!(rig.lines("aifw").is_empty());
        assert_eq!(states(), 0);
        assert!(!syn(&rig, "em0", (client, 40_001), server).passed);
    });
}

#[test]
fn b13_a_forward_reflects_and_an_earlier_block_of_the_source_wins() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let forward = rig
            .create(
                "/nat",
                json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_addr": "203.0.113.2",
                    "dst_port_start": 8080, "redirect_addr": "192.168.1.10", "redirect_port_start": 80}),
            )
            .await;
        let lan = json!({"action": "pass", "direction": "in", "protocol": "any", "interface": "em1", "priority": 200});
        rig.create("/rules", lan).await;
        rig.reload().await;
        let nat = rig.lines("aifw-nat").join("\n");
        for line in [
            "rdr on em0 inet proto tcp from any to 203.0.113.2 port = http-alt -> 192.168.1.10 port 80",
            "rdr on em1 inet proto tcp from (em1:network) to 203.0.113.2 port = http-alt -> 192.168.1.10 port 80",
            "nat on em1 inet proto tcp from (em1:network) to 192.168.1.10 port = http -> (em1:0)",
        ] {
            assert!(nat.contains(line), "{line} is not in\n{nat}");
        }
        let outside = syn(&rig, "em0", ("198.51.100.9", 40_000), ("203.0.113.2", 8080));
        assert!(outside.passed);
        assert_eq!((outside.packet.dst, outside.packet.ports().1), (ip("192.168.1.10"), 80));
        assert_eq!(outside.packet.src, ip("198.51.100.9"));
        // From the LAN to the WAN address: back into the LAN, in the firewall's own name.
        let inside = syn(&rig, "em1", ("192.168.1.50", 40_000), ("203.0.113.2", 8080));
        assert!(inside.passed);
        assert_eq!((inside.packet.dst, inside.packet.ports().1), (ip("192.168.1.10"), 80));
        assert_eq!(inside.packet.src, ip("192.168.1.1"));

        let block = json!({"action": "block_drop", "direction": "in", "protocol": "any", "src_addr": "198.51.100.0/24",
            "priority": 1});
        let block = rig.create("/rules", block).await;
        rig.reload().await;
        let blocked = explain(&rig, "em0", "198.51.100.77", "203.0.113.2", 8080).await;
        assert_eq!(blocked["verdict"], "block", "{blocked}");
        assert!(blocked["rule"]["labels"].to_string().contains(&id(&block)), "{blocked}");
        let other = explain(&rig, "em0", "192.0.2.77", "203.0.113.2", 8080).await;
        assert_eq!(other["verdict"], "pass", "{other}");
        assert!(other["rule"]["labels"].to_string().contains(&id(&forward)), "{other}");
    });
}

#[test]
fn b15_a_country_is_blocked_with_its_networks_and_logged() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let geoip = &rig.app.applier.machine().geoip;
        let locations = "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,is_in_european_union\n\
            1814991,en,AS,Asia,CN,China,0\n";
        let blocks = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider\n\
            198.51.100.0/25,1814991,1814991,,0,0\n192.0.2.0/24,1814991,1814991,,0,0\n";
        geoip.install("GeoLite2-Country-Locations-en.csv", locations.as_bytes()).unwrap();
        geoip.install("GeoLite2-Country-Blocks-IPv4.csv", blocks.as_bytes()).unwrap();
        let china = rig.create("/geoip", json!({"country_code": "cn", "action": "block"})).await;
        assert_eq!(china["cidr_count"], 2);
        // A user's own pass cannot undo it.
        rig.create("/rules", json!({"action": "pass", "direction": "in", "protocol": "any", "priority": 0}))
            .await;
        rig.reload().await;
        let mut held: Vec<String> = rig.simulator.with(|engine| {
            let table = engine.table("aifw-geoip", "geoip_cn").unwrap();
            table.entries().map(|entry| entry.to_string()).collect()
        });
        held.sort();
        assert_eq!(held, ["192.0.2.0/24", "198.51.100.0/25"]);
        let logged = rig.pf.logged();
        assert!(!syn(&rig, "em0", ("198.51.100.7", 40_000), ("203.0.113.2", 443)).passed);
        let entry = logged.try_recv().unwrap();
        assert_eq!(
            (entry.passed, entry.src, entry.anchor.as_str()),
            (false, ip("198.51.100.7"), "aifw-geoip")
        );
        assert_eq!(entry.labels, ["geoip-block-CN".to_owned(), format!("geoip:{}", id(&china))]);
        assert!(syn(&rig, "em0", ("198.51.100.200", 40_000), ("203.0.113.2", 443)).passed);
        // A start writes the files that the rules name, wherever they have gone.
        std::fs::remove_dir_all(rig.dir.path().join("root")).unwrap();
        rig.app.applier.start().await.unwrap();
        assert!(!syn(&rig, "em0", ("198.51.100.8", 40_001), ("203.0.113.2", 443)).passed);
    });
}

/// SSH and the UI answer to the LAN, whatever else is so.
async fn reachable_from_the_lan(rig: &Rig, when: &str) {
    let system = rig.app.store.snapshot().config.system.clone();
    for port in [system.ssh_port, system.api_port] {
        let explained = explain(rig, "em1", "192.168.1.50", "192.168.1.1", port).await;
        assert_eq!(explained["verdict"], "pass", "{when}, port {port}: {explained}");
        let outside = explain(rig, "em0", "198.51.100.9", "203.0.113.2", port).await;
        assert_eq!(outside["verdict"], "block", "{when}, port {port}, from the WAN: {outside}");
    }
}

#[test]
fn b18_ssh_and_ui_stay_reachable_from_the_lan() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let lan = json!({"action": "pass", "direction": "in", "protocol": "any", "interface": "em1"});
        let rule = rig.create("/rules", lan).await;
        rig.reload().await;
        assert_eq!(rig.delete(&format!("/rules/{}", id(&rule))).await.0, 200);
        rig.reload().await;
        assert!(rig.lines("aifw").is_empty());
        reachable_from_the_lan(&rig, "without rules").await;
        let other = explain(&rig, "em1", "192.168.1.50", "192.168.1.1", 25).await;
        assert_eq!(other["verdict"], "block", "{other}");

        let all =
            json!({"action": "block", "direction": "any", "protocol": "any", "priority": 0, "quick": true});
        let all = rig.create("/rules", all).await;
        rig.reload().await;
        reachable_from_the_lan(&rig, "with everything blocked").await;
        assert_eq!(rig.delete(&format!("/rules/{}", id(&all))).await.0, 200);

        let forward = json!({"nat_type": "dnat", "interface": "em1", "protocol": "tcp", "dst_port_start": 1,
            "dst_port_end": 65535, "redirect_addr": "192.168.1.10"});
        rig.create("/nat", forward).await;
        rig.reload().await;
        reachable_from_the_lan(&rig, "with all TCP of the LAN forwarded").await;
        let other = syn(&rig, "em1", ("192.168.1.50", 41_000), ("192.168.1.1", 25));
        assert_eq!(other.packet.dst, ip("192.168.1.10"));
    });
}

/// A reload as it comes from a LAN client.
async fn reload_from_the_lan(rig: &Rig, body: Value) -> (u16, Value) {
    rig.client.post("/reload").from(ip("192.168.1.50")).json(body).await
}

/// Without anti-lockout: a rule that lets the LAN in is applied, one that cuts it off is stored. Gives the
/// latter's id.
async fn about_to_be_cut_off(rig: &Rig) -> String {
    rig.configure(|config| std::sync::Arc::make_mut(&mut config.firewall).anti_lockout = false).await;
    let lan = json!({"action": "pass", "direction": "in", "protocol": "any", "interface": "em1"});
    rig.create("/rules", lan).await;
    assert_eq!(reload_from_the_lan(rig, json!({})).await.0, 200);
    let cut =
        json!({"action": "block", "direction": "in", "protocol": "tcp", "interface": "em1", "priority": 1});
    id(&rig.create("/rules", cut).await)
}

#[test]
fn a_reload_that_would_cut_its_own_caller_off_must_be_confirmed() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let cut = about_to_be_cut_off(&rig).await;
        let before = rig.lines("aifw");
        let (status, answer) = reload_from_the_lan(&rig, json!({})).await;
        assert_eq!(status, 409, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(&cut), "{answer}");
        assert_eq!(rig.lines("aifw"), before);
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
        // Nobody else is cut off.
        let (status, answer) = rig.client.post("/reload").from(ip("127.0.0.1")).await;
        assert_eq!(status, 200, "{answer}");
    });
}

#[test]
fn a_reload_that_cuts_its_caller_off_passes_when_confirmed() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let cut = about_to_be_cut_off(&rig).await;
        let (status, answer) = reload_from_the_lan(&rig, json!({"confirm": true})).await;
        assert_eq!(status, 200, "{answer}");
        assert!(rig.lines("aifw").join("\n").contains(&cut));
    });
}

#[test]
fn a_reload_that_cuts_its_caller_off_passes_while_it_would_undo_itself() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let cut = about_to_be_cut_off(&rig).await;
        let (status, answer) = rig.post("/config/commit-confirm", json!({"timeout_secs": 60})).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = reload_from_the_lan(&rig, json!({})).await;
        assert_eq!(status, 200, "{answer}");
        assert!(rig.lines("aifw").join("\n").contains(&cut));
    });
}

#[test]
fn with_anti_lockout_a_block_of_everything_needs_no_confirmation() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let all = json!({"action": "block", "direction": "any", "protocol": "any", "priority": 0});
        rig.create("/rules", all).await;
        let (status, answer) = reload_from_the_lan(&rig, json!({})).await;
        assert_eq!(status, 200, "{answer}");
    });
}
