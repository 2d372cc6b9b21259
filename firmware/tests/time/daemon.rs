//! The daemon at work.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::{Rig, ask, free_port, stand_in_server};

/// Waits for a state of the service.
pub async fn until(rig: &Rig, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = rig.get("/time/status").await;
        if holds(&status) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {status}");
        async_io::Timer::after(Duration::from_millis(100)).await;
    }
}

#[test]
fn b09_apply_starts_what_is_stored_and_stops_it() {
    let rig = Rig::new();
    block_on(async {
        rig.on_free_ports().await;
        rig.ok("PUT", "/time/config", json!({ "ntp_rate_limit": 7.5 })).await;
        let said = rig.ok("POST", "/time/apply", Value::Null).await;
        assert_eq!(said["message"], "Time config applied and rTime restarted");
        assert!(rig.file().contains("rate_limit = 7.5"), "{}", rig.file());
        assert!(rig.file().contains("discipline = false"), "a sandbox leaves the host's clock alone");
        let status = rig.get("/time/status").await;
        assert_eq!(
            (&status["running"], &status["version"]),
            (&json!(true), &json!("rTime 0.15.1 (running)"))
        );
        assert!(status["uptime_seconds"].is_number(), "{status}");
        assert!(rig.app.store.snapshot().applied.time.enabled);
        rig.ok("PUT", "/time/config", json!({ "enabled": false })).await;
        let said = rig.ok("POST", "/time/apply", Value::Null).await;
        assert_eq!(said["message"], "Time config saved, rTime stopped");
        assert_eq!(rig.get("/time/status").await["running"], false);
        assert!(!rig.app.store.snapshot().applied.time.enabled);
        // Started by hand it runs, and the stored setting stays.
        rig.ok("POST", "/time/start", Value::Null).await;
        assert_eq!(rig.get("/time/status").await["running"], true);
        assert_eq!(rig.get("/time/config").await["enabled"], false);
        rig.ok("POST", "/time/restart", Value::Null).await;
        rig.ok("POST", "/time/stop", Value::Null).await;
        assert_eq!(rig.get("/time/status").await["running"], false);
        rig.end().await;
    });
}

#[test]
fn b06_b10_names_that_do_not_resolve_are_left_out_with_a_warning() {
    let rig = Rig::new();
    block_on(async {
        rig.on_free_ports().await;
        rig.ok("POST", "/time/sources", json!({ "address": "no-such-name.invalid" })).await;
        rig.ok("POST", "/time/sources", json!({ "address": "2001:db8::1" })).await;
        rig.ok("POST", "/time/sources", json!({ "address": "localhost:1123" })).await;
        let said = rig.ok("POST", "/time/apply", Value::Null).await;
        assert!(said["warning"].as_str().unwrap().contains("no-such-name.invalid"), "{said}");
        let file = rig.file();
        assert!(file.contains("\"[2001:db8::1]:123\"") && file.contains("\"127.0.0.1:1123\""), "{file}");
        assert!(!file.contains("invalid"), "{file}");
        assert_eq!(rig.get("/time/status").await["running"], true);
        rig.end().await;
    });
}

#[test]
fn b11_b12_what_the_daemon_cannot_do_is_not_pretended() {
    let rig = Rig::new();
    block_on(async {
        rig.on_free_ports().await;
        let nts = json!({ "nts_enabled": true, "nts_certificate": rig.path("a.pem"),
            "nts_private_key": rig.path("a.key"), "ptp_interface": "em0", "ptp_domain": 3 });
        // The files must be there, and the key not for everyone.
        assert_eq!(rig.refused("/time/config", nts.clone()).await, "nts_certificate");
        std::fs::write(rig.path("a.pem"), "").unwrap();
        std::fs::write(rig.path("a.key"), "").unwrap();
        let mode =
            |mode| std::fs::set_permissions(rig.path("a.key"), PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert_eq!(rig.refused("/time/config", nts.clone()).await, "nts_private_key");
        mode(0o600);
        rig.ok("PUT", "/time/config", nts).await;
        let said = rig.ok("POST", "/time/apply", Value::Null).await;
        assert!(said["warning"].as_str().unwrap().contains("no NTS"), "{said}");
        let file = rig.file();
        let nts = file.split("[ntp.nts]").nth(1).unwrap();
        assert!(nts.contains("enabled = false") && !file.contains("a.pem"), "{file}");
        // em0 of the sandbox is 203.0.113.2; the daemon takes no names.
        assert!(file.contains("interface = \"203.0.113.2\"") && file.contains("domain = 3"), "{file}");
        assert!(rig.get("/time/status").await["warnings"][0].as_str().unwrap().contains("NTS"));
        rig.end().await;
    });
}

#[test]
fn b14_logs_are_plain_and_newest_first() {
    let rig = Rig::new();
    block_on(async {
        rig.on_free_ports().await;
        rig.ok("POST", "/time/apply", Value::Null).await;
        let all = rig.get("/time/logs?lines=5000").await["data"].as_array().unwrap().clone();
        assert!(
            !all.is_empty() && !all.iter().any(|line| line.as_str().unwrap().contains('\u{1b}')),
            "{all:?}"
        );
        let found = rig.get("/time/logs?lines=3&search=NTP").await["data"].as_array().unwrap().clone();
        assert!((1..=3).contains(&found.len()), "{found:?}");
        assert!(found.iter().all(|line| line.as_str().unwrap().to_lowercase().contains("ntp")));
        let first = all.iter().find(|line| line.as_str().unwrap().to_lowercase().contains("ntp"));
        assert_eq!(first, found.first());
        rig.end().await;
    });
}

#[test]
fn b15_b16_it_follows_a_source_serves_clients_and_limits_them() {
    let rig = Rig::new();
    let upstream = stand_in_server();
    block_on(async {
        let served = rig.on_free_ports().await;
        rig.ok("PUT", "/time/config", json!({ "ntp_rate_limit": 1, "ntp_rate_burst": 8 })).await;
        let source = json!({ "address": upstream.to_string(), "min_poll": 1, "max_poll": 1 });
        rig.ok("POST", "/time/sources", source).await;
        rig.ok("POST", "/time/apply", Value::Null).await;
        let status = until(&rig, "synchronised", |status| status["synchronized"] == true).await;
        assert_eq!(status["stratum"], 3, "one more than its source: {status}");
        let selected: Vec<&Value> = status["sources"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|source| source["selected"] == true)
            .collect();
        assert_eq!(selected.len(), 1, "{status}");
        assert_eq!(selected[0]["address"], upstream.to_string());
        // A client of ours, by hand, and the daemon's own.
        let answer = ask(served, Duration::from_secs(5)).expect("an NTP answer");
        assert_eq!((answer[0] & 7, answer[1]), (4, 3), "server mode, stratum 3");
        let tested = rig.ok("POST", "/time/sources/test", json!({ "address": served.to_string() })).await;
        assert_eq!((&tested["ok"], &tested["stratum"]), (&json!(true), &json!(3)), "{tested}");
        assert!(tested["offset_ms"].as_f64().unwrap().abs() < 1000.0, "{tested}");
        // Who asks too often is told so (RFC 5905 §7.4: stratum 0, kiss code RATE).
        let answers: Vec<[u8; 48]> =
            (0..30).filter_map(|_| ask(served, Duration::from_millis(200))).collect();
        let told = answers.iter().filter(|answer| answer[1] == 0 && &answer[12..16] == b"RATE").count();
        println!("of 30 requests at once {told} were told RATE (burst 8, 1 a second)");
        assert!(told >= 15, "{told}");
        let nobody = format!("127.0.0.1:{}", free_port());
        let tested = rig.ok("POST", "/time/sources/test", json!({ "address": nobody })).await;
        assert_eq!(tested["ok"], false, "{tested}");
        assert!(!tested["error"].as_str().unwrap().is_empty(), "{tested}");
        rig.end().await;
    });
}

#[test]
fn a_restart_costs_so_much() {
    let rig = Rig::new();
    block_on(async {
        let served = rig.on_free_ports().await;
        let source = json!({ "address": stand_in_server().to_string(), "min_poll": 1, "max_poll": 1 });
        rig.ok("POST", "/time/sources", source).await;
        rig.ok("PUT", "/time/config", json!({ "ntp_rate_limit": 100_000, "ntp_rate_burst": 100_000 })).await;
        rig.ok("POST", "/time/apply", Value::Null).await;
        until(&rig, "synchronised", |status| status["synchronized"] == true).await;
        let begun = Instant::now();
        rig.ok("POST", "/time/restart", Value::Null).await;
        let up = begun.elapsed();
        while ask(served, Duration::from_millis(20)).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        println!(
            "restart: up after {} ms, first answer after {} ms",
            up.as_millis(),
            begun.elapsed().as_millis()
        );
        rig.end().await;
    });
}
