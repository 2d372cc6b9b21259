//! What is stored and what is refused.

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::Rig;

#[test]
fn b01_a_fresh_system_has_defaults_and_four_sources() {
    block_on(async {
        let rig = Rig::without_daemon().seeded().await;
        let config = rig.get("/time/config").await;
        assert_eq!(
            config,
            json!({ "enabled": false, "log_level": "info", "clock_discipline": true, "clock_step_threshold_ms": 128.0,
                "clock_panic_threshold_ms": 1_000_000.0, "ntp_enabled": true, "ntp_listen": "0.0.0.0:123",
                "ntp_interfaces": [], "ntp_rate_limit": 16.0, "ntp_rate_burst": 32, "nts_enabled": false,
                "nts_ke_listen": "0.0.0.0:4460", "nts_certificate": "", "nts_private_key": "", "ptp_enabled": false,
                "ptp_domain": 0, "ptp_interface": "em0", "ptp_transport": "udp-ipv4", "ptp_priority1": 128,
                "ptp_priority2": 128, "ptp_delay_mechanism": "e2e", "metrics_enabled": true,
                "metrics_listen": "127.0.0.1:9100", "management_enabled": true, "management_listen": "127.0.0.1:9200" })
        );
        let sources = rig.get("/time/sources").await["data"].clone();
        let addresses: Vec<&str> =
            sources.as_array().unwrap().iter().map(|source| source["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, ["pool.ntp.org", "time.apple.com", "time.cloudflare.com", "time.google.com"]);
        assert_eq!(
            (&sources[2]["nts"], &sources[0]["min_poll"], &sources[0]["max_poll"]),
            (&json!(true), &json!(4), &json!(10))
        );
        let status = rig.get("/time/status").await;
        assert_eq!((&status["running"], &status["sources_count"]), (&json!(false), &json!(4)));
        assert_eq!(status["version"], "rTime (stopped)");
        assert!(status["synchronized"].is_null());
    });
}

#[test]
fn b02_b03_b04_settings_change_one_by_one_or_not_at_all() {
    let rig = Rig::without_daemon();
    block_on(async {
        let mut before = rig.get("/time/config").await;
        let said = rig.ok("PUT", "/time/config", json!({ "ntp_rate_burst": 64 })).await;
        assert_eq!(said, json!({ "message": "Time service config updated" }));
        before["ntp_rate_burst"] = json!(64);
        assert_eq!(rig.get("/time/config").await, before);
        for (field, body) in [
            ("clock_step_threshold_ms", json!({ "clock_step_threshold_ms": 0 })),
            (
                "clock_step_threshold_ms",
                json!({ "clock_step_threshold_ms": 2000, "clock_panic_threshold_ms": 1000 }),
            ),
            ("ntp_rate_limit", json!({ "ntp_rate_limit": -1 })),
            ("ntp_listen", json!({ "ntp_listen": "em0:123", "ntp_rate_burst": 5 })),
            ("ptp_domain", json!({ "ptp_domain": 200 })),
            ("nts_certificate", json!({ "nts_enabled": true })),
            ("log_level", json!({ "log_level": "loud" })),
        ] {
            let (status, refused) = rig.send("PUT", "/time/config", body).await;
            assert_eq!(status, 400);
            assert!(refused["error"].as_str().unwrap().starts_with(field), "{refused}");
            assert_eq!(refused["error"], refused["message"]);
        }
        assert_eq!(rig.get("/time/config").await, before);
        for number in [json!(128), json!(128.5)] {
            rig.ok("PUT", "/time/config", json!({ "clock_step_threshold_ms": number })).await;
        }
    });
}

#[test]
fn b05_b06_b07_sources_are_added_refused_and_counted() {
    let rig = Rig::without_daemon();
    block_on(async {
        let (status, made) = rig.send("POST", "/time/sources", json!({ "address": "ntp.example.org" })).await;
        assert_eq!(status, 201);
        let source = &made["data"];
        assert_eq!(
            (&source["nts"], &source["min_poll"], &source["max_poll"], &source["enabled"]),
            (&json!(false), &json!(4), &json!(10), &json!(true))
        );
        assert_eq!(rig.send("POST", "/time/sources", json!({ "address": "ntp.example.org" })).await.0, 409);
        // The same server in other words.
        assert_eq!(
            rig.send("POST", "/time/sources", json!({ "address": "ntp.example.org:123" })).await.0,
            409
        );
        for bad in [
            json!({ "address": "a.test", "min_poll": 11, "max_poll": 10 }),
            json!({ "address": "a.test", "min_poll": 0 }),
            json!({ "address": "a.test", "max_poll": 18 }),
            json!({ "address": " " }),
            json!({}),
        ] {
            assert_eq!(rig.send("POST", "/time/sources", bad.clone()).await.0, 400, "{bad}");
        }
        let six = rig.ok("POST", "/time/sources", json!({ "address": "2001:db8::1" })).await;
        assert_eq!(six["data"]["address"], "[2001:db8::1]:123");
        let unknown = "/time/sources/00000000-0000-4000-8000-000000000000";
        assert_eq!(rig.send("PUT", unknown, json!({ "address": "x" })).await.0, 404);
        assert_eq!(rig.send("DELETE", unknown, Value::Null).await.0, 404);
        let one = format!("/time/sources/{}", source["id"].as_str().unwrap());
        let said = rig.ok("PUT", &one, json!({ "address": "ntp.example.org", "enabled": false })).await;
        assert_eq!(said["message"], format!("Source {} updated", source["id"].as_str().unwrap()));
        assert_eq!(rig.get("/time/status").await["sources_count"], 1);
        let said = rig.ok("DELETE", &one, Value::Null).await;
        assert_eq!(said["message"], format!("Source {} deleted", source["id"].as_str().unwrap()));
        assert_eq!(rig.get("/time/sources").await["data"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn b03_interfaces_must_be_there() {
    let rig = Rig::without_daemon();
    block_on(async {
        assert_eq!(rig.refused("/time/config", json!({ "ntp_interfaces": ["em9"] })).await, "ntp_interfaces");
        let ptp = json!({ "ptp_enabled": true, "ptp_interface": "em9" });
        assert_eq!(rig.refused("/time/config", ptp).await, "ptp_interface");
        rig.ok("PUT", "/time/config", json!({ "ntp_interfaces": ["em1"], "ptp_enabled": true })).await;
        let open = json!({ "metrics_listen": "0.0.0.0:9100" });
        let said = rig.ok("PUT", "/time/config", open).await;
        assert!(said["warning"].as_str().unwrap().starts_with("metrics_listen: "), "{said}");
    });
}

#[test]
fn b08_sources_that_were_deleted_stay_away() {
    block_on(async {
        let rig = Rig::new().seeded().await;
        for source in rig.get("/time/sources").await["data"].as_array().unwrap() {
            let one = format!("/time/sources/{}", source["id"].as_str().unwrap());
            rig.ok("DELETE", &one, Value::Null).await;
        }
        let rig = rig.started_again().await;
        assert_eq!(rig.get("/time/sources").await, json!({ "data": [] }));
        assert_eq!(rig.get("/time/status").await["sources_count"], 0);
        rig.end().await;
    });
}

#[test]
fn b13_a_missing_daemon_is_told() {
    let rig = Rig::without_daemon();
    block_on(async {
        let (status, refused) = rig.send("POST", "/time/start", Value::Null).await;
        assert_eq!(status, 500);
        assert_eq!(refused["message"], "Time service start failed: rTIME is not installed");
        assert_eq!(refused["error"], refused["message"]);
        assert_eq!(rig.get("/time/status").await["running"], false);
        assert_eq!(rig.get("/time/logs").await, json!({ "data": [] }));
    });
}

#[test]
fn b17_a_reader_writes_nothing() {
    let rig = Rig::without_daemon();
    block_on(async {
        let reader = rig.client.with_bearer("settings:read");
        assert_eq!(reader.get("/time/status").send().await.status, 200);
        assert_eq!(reader.put("/time/config").json(json!({})).send().await.status, 403);
        for path in ["apply", "start", "stop", "restart", "sources"] {
            assert_eq!(
                reader.post(&format!("/time/{path}")).json(json!({})).send().await.status,
                403,
                "{path}"
            );
        }
        assert_eq!(reader.delete("/time/sources/x").send().await.status, 403);
    });
}
