//! Changes that would cut their own caller off are refused, or undo themselves.

use std::net::IpAddr;

use serde_json::{Value, json};
use smol::block_on;

use super::rig::Rig;
use super::{addresses, machine, put, started};

async fn from_the_lan(rig: &Rig, path: &str, body: Value) -> (u16, Value) {
    rig.client.put(path).from("192.168.1.50".parse::<IpAddr>().unwrap()).json(body).await
}

#[test]
fn a_change_that_cuts_its_own_caller_off_must_be_confirmed() {
    block_on(async {
        let rig = started().await;
        for (body, reason) in [
            (json!({"enabled": false}), "em1 goes down"),
            (json!({"ipv4_mode": "none"}), "em1 loses 192.168.1.1"),
            (json!({"ipv4_mode": "dhcp"}), "em1 loses 192.168.1.1"),
            (json!({"ipv4_mode": "static", "ipv4_address": "192.168.7.1/24"}), "em1 loses 192.168.1.1"),
            (
                json!({"ipv4_mode": "static", "ipv4_address": "192.168.1.1/28"}),
                "192.168.1.50 is no longer in a network of em1",
            ),
        ] {
            let (status, answer) = from_the_lan(&rig, "/interfaces/config/em1", body.clone()).await;
            assert_eq!(status, 409, "{body}: {answer}");
            let said = answer["message"].as_str().unwrap();
            assert!(said.contains(reason) && said.contains("confirm"), "{said}");
        }
        assert_eq!(addresses(&rig, "em1"), ["192.168.1.1/24"]);
        // What leaves the connection alone passes.
        for body in [json!({"mtu": 1400}), json!({"ipv6_address": "2001:db8::1"})] {
            assert_eq!(from_the_lan(&rig, "/interfaces/config/em1", body).await.0, 200);
        }
        assert_eq!(from_the_lan(&rig, "/interfaces/config/em0", json!({"enabled": false})).await.0, 200);
        let body = json!({"ipv4_mode": "static", "ipv4_address": "192.168.7.1/24", "confirm": true});
        assert_eq!(from_the_lan(&rig, "/interfaces/config/em1", body).await.0, 200);
        assert_eq!(addresses(&rig, "em1")[0], "192.168.7.1/24");
    });
}

#[test]
fn a_way_back_to_the_caller_is_kept() {
    block_on(async {
        let rig = started().await;
        let caller: IpAddr = "198.51.100.9".parse().unwrap();
        let ask = |path: &'static str, body: Value| rig.client.put(path).from(caller).json(body);
        let (status, answer) = ask("/interfaces/config/em0", json!({"gateway": ""})).await;
        assert_eq!(status, 409, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("the route to 198.51.100.9 goes"), "{answer}");
        let (status, answer) = ask("/interfaces/config/em1", json!({"enabled": false})).await;
        assert_eq!(status, 200, "{answer}");
    });
}

#[test]
fn a_reload_that_takes_the_callers_vlan_away_must_be_confirmed() {
    block_on(async {
        let rig = started().await;
        let body =
            json!({"vlan_id": 5, "parent": "em1", "ipv4_mode": "static", "ipv4_address": "10.5.0.1/24"});
        let made = rig.create("/vlans", body).await;
        rig.reload().await;
        rig.delete(&format!("/vlans/{}", super::id(&made))).await;
        let ask = |body: Value| rig.client.post("/reload").from("10.5.0.9".parse().unwrap()).json(body);
        let (status, answer) = ask(json!({})).await;
        assert_eq!(status, 409, "{answer}");
        assert!(machine(&rig, "vlan5").is_some());
        assert_eq!(ask(json!({"confirm": true})).await.0, 200);
        assert!(machine(&rig, "vlan5").is_none());
    });
}

#[test]
fn a_change_that_is_not_confirmed_is_undone_by_itself() {
    block_on(async {
        let rig = started().await;
        put(&rig, "em1", json!({"mtu": 1400})).await;
        let body = json!({"ipv4_mode": "static", "ipv4_address": "192.168.7.1/24", "description": "moved",
            "commit_confirm": true, "confirm_timeout": 10});
        let (status, answer) = from_the_lan(&rig, "/interfaces/config/em1", body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(addresses(&rig, "em1"), ["192.168.7.1/24"]);
        let (_, window) = rig.get("/config/commit-confirm/status").await;
        assert_eq!((&window["active"], &window["description"]), (&json!(true), &json!("interface em1")));
        // The administrator is gone. Time is up.
        let background = smol::spawn(rig.app.applier.clone().run());
        let revisions = rig.app.store.watch();
        while rig.get("/config/commit-confirm/status").await.1["active"] == json!(true) {
            revisions.recv().await.unwrap();
        }
        // The way back to the machine follows the store.
        while addresses(&rig, "em1") != ["192.168.1.1/24"] {
            smol::future::yield_now().await;
        }
        background.cancel().await;
        let held = machine(&rig, "em1").unwrap();
        assert_eq!((held.mtu, held.description), (1400, None));
        let (_, config) = rig.get("/interfaces/config/em1").await;
        assert_eq!(config["data"]["ipv4_address"], "192.168.1.1/24");
    });
}

#[test]
fn a_confirmed_change_stays() {
    block_on(async {
        let rig = started().await;
        let body = json!({"ipv4_mode": "static", "ipv4_address": "192.168.7.1/24", "commit_confirm": true});
        assert_eq!(from_the_lan(&rig, "/interfaces/config/em1", body).await.0, 200);
        let (status, answer) = rig.post("/config/commit-confirm/confirm", json!({})).await;
        assert_eq!(status, 200, "{answer}");
        assert!(!rig.app.applier.revert_if_due().await);
        assert_eq!(addresses(&rig, "em1"), ["192.168.7.1/24"]);
        let body = json!({"mtu": 1400, "commit_confirm": true, "confirm_timeout": 9});
        assert_eq!(from_the_lan(&rig, "/interfaces/config/em1", body).await.0, 400);
    });
}

#[test]
fn what_the_machine_refuses_is_taken_back() {
    block_on(async {
        let rig = started().await;
        let made = json!({"vlan_id": 5, "parent": "em1", "mtu": 1500});
        rig.create("/vlans", made).await;
        rig.reload().await;
        // The parent may not become smaller than its VLAN: the VLAN's own setting cannot be kept then.
        put(&rig, "em1", json!({"mtu": 1500})).await;
        let before = rig.app.store.snapshot().config.interfaces.iter().cloned().collect::<Vec<_>>();
        let (status, answer) = rig
            .put(
                "/interfaces/config/em0",
                json!({"ipv4_mode": "static", "ipv4_address": "203.0.113.9/24",
                "gateway": "203.0.113.9"}),
            )
            .await;
        assert_eq!(status, 400, "{answer}");
        let after = rig.app.store.snapshot().config.interfaces.iter().cloned().collect::<Vec<_>>();
        assert_eq!(before, after);
    });
}
