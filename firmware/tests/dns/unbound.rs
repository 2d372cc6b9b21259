//! The other backend. Where unbound is on this host (`apt-get install unbound`) it is checked, started and asked for
//! real; without it, the answer is that it is not installed and nothing is touched. FreeBSD's `local-unbound` is the
//! same program under another name.

use std::path::Path;

use serde_json::json;

use crate::rig::{Rig, upstream};

#[test]
fn the_other_backend_takes_over_and_gives_back_or_is_truthfully_missing() {
    smol::block_on(async {
        let corp = upstream([10, 0, 0, 1]);
        let rig = Rig::running().await;
        rig.host("www", "lan.test", "A", "192.168.1.7").await;
        rig.host("www", "lan.test", "TXT", "it's \"quoted\"").await;
        let body = json!({ "domain": "corp.test", "server": corp.to_string() });
        rig.ok("POST", "/dns/resolver/domains", body).await;
        rig.applied().await;
        let settings = json!({ "backend": "unbound", "custom_options": "do-not-query-localhost: no\nedns-buffer-size: 1232" });
        rig.ok("PUT", "/dns/resolver/config", settings).await;
        let report = rig.apply().await;
        let tool = |name: &str| Path::new("/usr/sbin").join(name).is_file();
        if !tool("unbound") && !tool("local-unbound") {
            println!("unbound is not on this host: its absence is what is tested");
            assert_eq!(report["message"], "failed: unbound is not installed", "{report}");
            assert_eq!((&report["backend"], &report["probe_udp"]), (&json!("rdns"), &json!(true)));
            assert_eq!(rig.dig(&["www.lan.test"]).await, ["192.168.1.7"]);
            return rig.end().await;
        }
        let log = rig.app.services.runner(aifw::config::ServiceKind::Dns).log(20);
        assert_eq!(report["message"], "unbound applied and healthy", "{report} {log:?}");
        assert_eq!((&report["backend"], &report["previous"]), (&json!("unbound"), &json!("rdns")));
        assert_eq!(rig.dig(&["www.lan.test"]).await, ["192.168.1.7"]);
        assert_eq!(rig.dig(&["www.lan.test", "TXT"]).await, [r#""it's \"quoted\"""#]);
        assert_eq!(rig.dig(&["-x", "192.168.1.7"]).await, ["www.lan.test."]);
        assert_eq!(rig.dig(&["pc.corp.test"]).await, ["10.0.0.1"]);
        let status = rig.get("/dns/resolver/status").await;
        assert!(status["version"].as_str().unwrap().starts_with("Version 1."), "{status}");
        assert_eq!((&status["running"], &status["listening_tcp"]), (&json!(true), &json!(true)));
        assert!(status["queries_total"].as_u64().unwrap() >= 4, "{status}");
        let stats = rig.get("/dns/stats").await;
        assert_eq!(stats["rpz"], json!({ "rules": 0, "zones": 0, "hits": 0, "per_zone": [] }));
        assert!(stats["queries"]["total"].as_u64().unwrap() >= 4);
        // What its own checker refuses touches nothing.
        rig.ok("PUT", "/dns/resolver/config", json!({ "custom_options": "no-such-option: 1" })).await;
        let refused = rig.apply().await;
        assert!(refused["message"].as_str().unwrap().contains("no-such-option"), "{refused}");
        assert_eq!(refused["backend"], "unbound");
        rig.ok("PUT", "/dns/resolver/config", json!({ "backend": "rdns", "custom_options": "" })).await;
        rig.applied().await;
        assert_eq!(rig.dig(&["www.lan.test"]).await, ["192.168.1.7"]);
        rig.end().await;
    });
}
