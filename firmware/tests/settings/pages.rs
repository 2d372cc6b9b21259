//! pf's limits, the dashboard's past, kept alerts, the pages' own sections, and who may do what.

use std::sync::Arc;

use aifw::config::Permission;
use aifw::pf::Pf;
use aifw::store::Author;
use serde_json::{Value, json};
use smol::block_on;

use crate::rig::Rig;

fn limit(rig: &Rig, name: &str) -> u64 {
    rig.pf.limits().unwrap().into_iter().find(|(known, _)| known == name).unwrap().1
}

fn timeout(rig: &Rig, name: &str) -> u64 {
    rig.pf.timeouts().unwrap().into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn b09_limits_of_pf_change_at_once_and_the_rules_stay() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        rig.ok("POST", "/reload", json!({ "confirm": true })).await;
        let rules = rig.pf.rules(None).unwrap();
        assert!(!rules.1.is_empty());
        for bad in [999, 4_000_001] {
            let told = rig.refused(400, "PUT", "/settings/pf-tuning", json!({ "max_states": bad })).await;
            assert_eq!(told, "max_states: expected 1000 to 4000000");
        }
        assert_eq!(limit(&rig, "states"), 100_000);

        let answer = rig.ok("PUT", "/settings/pf-tuning", json!({ "max_states": 250_000 })).await;
        assert_eq!(
            (&answer["configured_max_states"], &answer["live_max_states"]),
            (&250_000.into(), &250_000.into())
        );
        assert_eq!((&answer["min_states"], &answer["max_states"]), (&1_000.into(), &4_000_000.into()));
        assert_eq!(answer["current_states"], 0);
        assert!(answer["warning"].is_null());
        assert_eq!(answer, rig.get("/settings/pf-tuning").await);
        assert!(rig.audited().contains("pf tuning: max_states: 100000 -> 250000"));
        // pf(4) moves the adaptive limits with the limit of states.
        assert_eq!((timeout(&rig, "adaptive.start"), timeout(&rig, "adaptive.end")), (150_000, 300_000));
        let after = rig.pf.rules(None).unwrap();
        let lines =
            |rules: &[aifw::pf::LoadedRule]| rules.iter().map(|rule| rule.text.clone()).collect::<Vec<_>>();
        assert_eq!((lines(&after.0), lines(&after.1)), (lines(&rules.0), lines(&rules.1)));
        assert_eq!(rig.get("/pending").await["firewall"], false);

        let more = json!({ "limits": { "src-nodes": 20_000, "frags": 6_000, "table-entries": 400_000 },
            "timeouts": { "tcp.established": 3_600, "udp.first": 90 } });
        let answer = rig.ok("PUT", "/settings/pf-tuning", more).await;
        assert_eq!(
            answer["limits"],
            json!({ "src-nodes": 20_000, "frags": 6_000, "table-entries": 400_000 })
        );
        assert_eq!(
            (&answer["timeouts"]["tcp.established"], &answer["timeouts"]["tcp.first"]),
            (&3_600.into(), &120.into())
        );

        // A load of the rules sets what is not in it to pf's own: it must be in it.
        let block = json!({ "action": "block", "direction": "in", "protocol": "tcp", "dst_port_start": 23 });
        let added = rig.send("POST", "/rules", block).await;
        assert_eq!(added.0, 201, "{}", added.1);
        rig.ok("POST", "/reload", json!({ "confirm": true })).await;
        let all = |rig: &Rig| {
            (
                ["states", "src-nodes", "frags", "table-entries"].map(|name| limit(rig, name)),
                timeout(rig, "tcp.established"),
            )
        };
        let expected = ([250_000, 20_000, 6_000, 400_000], 3_600);
        assert_eq!(all(&rig), expected);

        // null: pf's own again.
        rig.ok(
            "PUT",
            "/settings/pf-tuning",
            json!({ "timeouts": { "udp.first": null }, "limits": { "frags": null } }),
        )
        .await;
        assert_eq!((timeout(&rig, "udp.first"), limit(&rig, "frags")), (60, 5_000));
        drop(rig);

        // A start of the machine: an empty pf, the same store.
        let rig = Rig::new(dir.path());
        assert_eq!(limit(&rig, "states"), 100_000);
        rig.app.applier.start().await.unwrap();
        assert_eq!(all(&rig), ([250_000, 20_000, 5_000, 400_000], 3_600));
        let exported = rig.get("/config/export").await;
        let tunables = exported["config"]["tuning"].as_array().unwrap();
        assert!(
            tunables.iter().any(|row| row["key"] == "pf.max_states" && row["value"] == "250000"),
            "{tunables:?}"
        );
    });
}

#[test]
fn b09_without_pf_the_limit_is_stored_and_the_answer_warns() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let app = Arc::new(aifw::api::testing::bare_app(dir.path()));
        let client = aifw::api::testing::Client::new(aifw::api::app(app.clone(), aifw::api::routes()))
            .with_bearer("all");
        let (status, answer) =
            client.put("/settings/pf-tuning").json(json!({ "max_states": 3_000_000 })).await;
        assert_eq!(status, 200);
        assert_eq!(
            (&answer["configured_max_states"], &answer["live_max_states"]),
            (&3_000_000.into(), &Value::Null)
        );
        let warning = answer["warning"].as_str().unwrap();
        assert!(
            warning.contains("stored, but pf did not take it") && warning.contains("states_hashsize"),
            "{warning}"
        );
    });
}

#[test]
fn b11_b15_sections_are_three_and_hold_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let key = json!({ "provider": "openai", "api_key": "marked-key" });
        rig.ok("PUT", "/settings/ai", key).await;
        for other in ["ai_openai", "smtp", "users", "ai_", "%25"] {
            assert_eq!(rig.get(&format!("/settings/{other}")).await, json!({}), "{other}");
        }
        rig.ok(
            "PUT",
            "/settings/api",
            json!({ "port": 8443, "jwt_secret": "marked-jwt", "cors_origins": "*" }),
        )
        .await;
        assert_eq!(rig.get("/settings/api_server").await, json!({ "port": "8443", "cors_origins": "*" }));
        assert_eq!(rig.get("/settings/api").await, rig.get("/settings/api_server").await);
        rig.refused(400, "PUT", "/settings/users", json!({ "port": 8443 })).await;
        rig.refused(400, "PUT", "/settings/metrics", json!([1])).await;
        let url = "postgres://fw:marked-db@db.example/metrics";
        rig.ok(
            "PUT",
            "/settings/metrics",
            json!({ "backend": "postgres", "postgres_url": url, "retention_days": 30 }),
        )
        .await;
        let shown = rig.get("/settings/metrics").await;
        assert_eq!(
            shown,
            json!({ "backend": "postgres", "postgres_url": "postgres://fw:***@db.example/metrics", "retention_days": "30" })
        );
        // What was shown can be sent back.
        rig.ok("PUT", "/settings/metrics", shown).await;
        let stored =
            rig.app.store.snapshot().config.preferences.sections["metrics"]["postgres_url"].password.clone();
        assert_eq!(stored.expose(), "marked-db");
        for bad in [json!({ "Upper": 1 }), json!({ "x": "y".repeat(4097) })] {
            rig.refused(400, "PUT", "/settings/metrics", bad).await;
        }
    });
}

#[test]
fn b13_the_dashboards_past_is_clamped_and_trimmed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let path = "/settings/dashboard-history";
        let fresh = rig.get(path).await;
        let expected = json!({ "history_seconds": 1800, "current_entries": 0, "estimated_ram_mb": 3.5, "mode": "duration", "ram_limit_mb": 0 });
        assert_eq!(fresh, expected);
        assert!(rig.refused(400, "PUT", path, json!({ "mode": "ram" })).await.starts_with("ram_limit_mb: "));
        assert!(rig.refused(400, "PUT", path, json!({})).await.starts_with("history_seconds: "));
        rig.refused(400, "PUT", path, json!({ "mode": "forever" })).await;
        let answer = rig.ok("PUT", path, json!({ "mode": "duration", "history_seconds": 10 })).await;
        assert_eq!(answer["history_seconds"], 300);
        let answer = rig.ok("PUT", path, json!({ "mode": "duration", "history_seconds": 99_999_999 })).await;
        assert_eq!(answer["history_seconds"], 2_592_000);
        let answer = rig.ok("PUT", path, json!({ "mode": "ram", "ram_limit_mb": 1 })).await;
        assert_eq!(
            (&answer["history_seconds"], &answer["estimated_ram_mb"], &answer["mode"]),
            (&512.into(), &1.0.into(), &"ram".into())
        );
        assert_eq!(rig.get(path).await["ram_limit_mb"], 1);
    });
}

/// With the sampler, which a process has.
#[test]
fn b13_a_shorter_past_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let platform: Arc<dyn aifw::platform::Platform> =
            Arc::new(aifw::platform::sandbox::Sandbox::new(dir.path()));
        let app = aifw::api::testing::bare_app(dir.path());
        let (live, mut sampler) = aifw::live::Live::by_hand(aifw::live::Deps {
            store: app.store.clone(),
            pf: app.pf.clone(),
            platform,
            counters: app.traffic.clone(),
            state_dir: None,
            sources: aifw::live::sources::Sources::default(),
            limits: aifw::live::fanout::StreamLimits::default(),
        });
        let app = Arc::new(aifw::api::App { live, ..app });
        let begun = std::time::Instant::now();
        for second in 0..400 {
            let at = begun + std::time::Duration::from_secs(second);
            sampler
                .tick(aifw::live::sampler::Moment { unix_ms: 1_800_000_000_000 + second as i64 * 1000, at })
                .await;
        }
        let client = aifw::api::testing::Client::new(aifw::api::app(app.clone(), aifw::api::routes()))
            .with_bearer("all");
        let entries =
            || async { client.get("/settings/dashboard-history").await.1["current_entries"].clone() };
        assert_eq!(entries().await, 400);
        let body = json!({ "mode": "duration", "history_seconds": 300 });
        assert_eq!(client.put("/settings/dashboard-history").json(body).await.0, 200);
        assert_eq!(entries().await, 300);
    });
}

#[test]
fn b14_kept_alerts_are_clamped_and_told() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let path = "/settings/ids-alerts";
        let fresh = rig.get(path).await;
        assert_eq!(
            (&fresh["max_mb"], &fresh["max_age_secs"], &fresh["stats"]["count"]),
            (&64.into(), &86_400.into(), &0.into())
        );
        let answer = rig.ok("PUT", path, json!({ "max_mb": 1 })).await;
        assert_eq!((&answer["max_mb"], &answer["max_age_secs"]), (&8.into(), &86_400.into()));
        assert!(!answer["message"].as_str().unwrap().contains("restart"));
        let answer = rig.ok("PUT", path, json!({ "max_mb": 9_999, "max_age_secs": 1 })).await;
        assert_eq!(
            (&answer["max_mb"], &answer["max_age_secs"], &answer["stats"]["max_mb"]),
            (&512.into(), &3_600.into(), &512.into())
        );
        // The engine's other settings keep waiting for their own apply.
        rig.app
            .store
            .commit(&Author::system("test"), |draft| {
                let ids = Arc::make_mut(&mut draft.config.ids);
                ids.home_net.push("10.9.9.0/24".into());
                Ok::<_, aifw::api::ApiError>(())
            })
            .await
            .unwrap();
        rig.ok("PUT", path, json!({ "max_mb": 16 })).await;
        let snapshot = rig.app.store.snapshot();
        assert_eq!((snapshot.config.ids.alert_buffer_mb, snapshot.applied.ids.alert_buffer_mb), (16, 16));
        assert_ne!(snapshot.config.ids.home_net, snapshot.applied.ids.home_net);
        rig.refused(400, "PUT", path, json!({ "max_mb": "8" })).await;
    });
}

#[test]
fn b18_n18_readers_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let routes = aifw::api::routes();
        let ours = |route: &&aifw::api::Route| {
            ["/settings/", "/notify/", "/ddns/", "/acme/dns-providers"]
                .iter()
                .any(|prefix| route.path.starts_with(prefix))
        };
        let ours: Vec<_> = routes.iter().filter(ours).collect();
        assert_eq!(ours.iter().filter(|route| route.path.starts_with("/settings/")).count(), 16);
        let every_read: Vec<&str> = Permission::ALL
            .iter()
            .map(|permission| permission.name())
            .filter(|name| name.ends_with(":read"))
            .collect();
        for reader in ["settings:read", "interfaces:read", &every_read.join(",")] {
            for route in ours.iter().filter(|route| route.method != "GET") {
                let path = route.path.replace("{id}", "1").replace("{section}", "metrics");
                let answer = rig.client.request(route.method, &path).bearer(reader).json(json!({})).await;
                assert_eq!(answer.0, 403, "{reader} {} {path}: {}", route.method, answer.1);
            }
        }
        let settings = rig.client.get("/settings/tls").bearer("settings:read").await;
        assert_eq!(settings.0, 200);
        assert_eq!(rig.client.get("/notify/smtp/config").bearer("settings:read").await.0, 403);
        assert_eq!(rig.client.get("/notify/smtp/config").bearer("backup:read").await.0, 200);
        assert_eq!(rig.client.get("/ddns/records").bearer("interfaces:read").await.0, 403);
    });
}

#[test]
fn every_write_leaves_one_entry_that_names_the_user() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let entries = || rig.audited().lines().count();
        let explicit = json!({ "provider_id": 1, "hostname": "m.example.org", "source": "explicit", "explicit_ip": "198.51.100.1" });
        let manual = json!({ "name": "m", "kind": "manual", "zone": "example.org" });
        let ddns = json!({ "poll_interval_secs": 600, "ip_echo_url_v4": "https://a.example", "ip_echo_url_v6": "https://b.example" });
        for (method, path, body) in [
            ("PUT", "/settings/tls", json!({ "min_version": "tls13" })),
            ("PUT", "/settings/valkey", json!({ "enabled": false })),
            ("PUT", "/settings/pf-tuning", json!({ "max_states": 200_000 })),
            ("PUT", "/settings/ai", json!({ "enabled": true })),
            ("POST", "/settings/ai/test", json!({ "provider": "ollama" })),
            ("PUT", "/settings/dashboard-history", json!({ "history_seconds": 600 })),
            ("PUT", "/settings/ids-alerts", json!({ "max_mb": 32 })),
            ("PUT", "/settings/metrics", json!({ "backend": "local" })),
            ("PUT", "/notify/smtp/config", json!({ "enabled": false, "port": 25 })),
            ("POST", "/notify/smtp/test", Value::Null),
            ("POST", "/acme/dns-providers", manual.clone()),
            ("PUT", "/acme/dns-providers/1", manual),
            ("POST", "/acme/dns-providers/1/test", Value::Null),
            ("POST", "/ddns/records", explicit.clone()),
            ("PUT", "/ddns/records/1", explicit),
            ("POST", "/ddns/records/1/update", Value::Null),
            ("PUT", "/ddns/config", ddns),
            ("DELETE", "/ddns/records/1", Value::Null),
            ("DELETE", "/acme/dns-providers/1", Value::Null),
        ] {
            let before = entries();
            let (status, answer) = rig.send(method, path, body).await;
            assert!(matches!(status, 200 | 204), "{method} {path}: {status} {answer}");
            assert_eq!(entries(), before + 1, "{method} {path}: {}", rig.audited());
            assert!(
                rig.audited().lines().next().unwrap().contains("tester"),
                "{method} {path}: {}",
                rig.audited()
            );
        }
    });
}
