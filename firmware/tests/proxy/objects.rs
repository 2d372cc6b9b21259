//! What the collections take, refuse and give back.

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::Rig;

const KINDS: [(&str, &str); 11] = [
    ("/entrypoints", r#"{"name":"n","address":":80"}"#),
    ("/http/routers", r#"{"name":"n","rule":"Host(`a`)","service":"s"}"#),
    ("/http/services", r#"{"name":"n","service_type":"loadBalancer","config_json":"{}"}"#),
    ("/http/middlewares", r#"{"name":"n","middleware_type":"compress","config_json":"{}"}"#),
    ("/tcp/routers", r#"{"name":"n","rule":"HostSNI(`*`)","service":"s","entry_points":"web"}"#),
    ("/tcp/services", r#"{"name":"n","config_json":"{}"}"#),
    ("/udp/routers", r#"{"name":"n","rule":"","service":"s"}"#),
    ("/udp/services", r#"{"name":"n","config_json":"{}"}"#),
    ("/tls/certs", r#"{"name":"n","cert_file":"/etc/ssl/a.pem","key_file":"/etc/ssl/a.key"}"#),
    ("/tls/options", r#"{"name":"n","config_json":"{}"}"#),
    ("/cert-resolvers", r#"{"name":"n","config_json":"{}"}"#),
];
const FIELDS: [&[&str]; 11] = [
    &["id", "name", "address", "config_json", "enabled", "created_at"],
    &[
        "id",
        "name",
        "rule",
        "service",
        "entry_points",
        "middlewares",
        "priority",
        "tls_json",
        "enabled",
        "created_at",
    ],
    &["id", "name", "service_type", "config_json", "enabled", "created_at"],
    &["id", "name", "middleware_type", "config_json", "enabled", "created_at"],
    &["id", "name", "rule", "service", "entry_points", "priority", "tls_json", "enabled", "created_at"],
    &["id", "name", "service_type", "config_json", "enabled", "created_at"],
    &["id", "name", "rule", "service", "entry_points", "priority", "enabled", "created_at"],
    &["id", "name", "service_type", "config_json", "enabled", "created_at"],
    &["id", "name", "cert_file", "key_file", "stores_json", "created_at"],
    &["id", "name", "config_json", "created_at"],
    &["id", "name", "config_json", "created_at"],
];

#[test]
fn b01_a_fresh_system_has_defaults_and_eleven_empty_lists() {
    let rig = Rig::without_daemon();
    block_on(async {
        assert_eq!(
            rig.get("/config").await,
            json!({ "enabled": false, "log_level": "info", "access_log_enabled": true,
                "access_log_path": "/var/log/trafficcop/access.log", "access_log_format": "json",
                "metrics_enabled": false, "metrics_address": "127.0.0.1:8082", "api_dashboard": false })
        );
        for (path, _) in KINDS {
            assert_eq!(rig.get(path).await, json!([]), "{path}");
        }
        assert_eq!(
            rig.get("/status").await,
            json!({ "running": false, "version": "unknown", "entrypoints": 0, "http_routers": 0, "http_services": 0,
                "http_middlewares": 0, "tcp_routers": 0, "udp_routers": 0 })
        );
    });
}

#[test]
fn b02_b03_b04_every_kind_is_created_listed_refused_replaced_and_deleted() {
    let rig = Rig::without_daemon();
    block_on(async {
        for ((path, body), fields) in KINDS.iter().zip(FIELDS) {
            let body: Value = serde_json::from_str(body).unwrap();
            let raw = rig.client.post(&format!("/reverse-proxy{path}")).json(&body).send().await;
            assert_eq!(raw.status, 200, "{path}: {}", raw.text());
            // In this order: the text, not the parsed value.
            let places: Vec<usize> =
                fields.iter().map(|field| raw.text().find(&format!("\"{field}\":")).unwrap()).collect();
            assert!(places.is_sorted(), "{path}: {}", raw.text());
            let row = raw.json();
            assert_eq!(row.as_object().unwrap().len(), fields.len(), "{row}");
            assert_eq!(rig.get(path).await, json!([row]));
            let (status, refused) = rig.send("POST", path, body.clone()).await;
            assert_eq!(status, 409, "{path}: {refused}");
            assert_eq!(refused["error"], refused["message"]);
            for name in ["", "a b", "a/b", "a@b", &"x".repeat(129)] {
                let mut bad = body.clone();
                bad["name"] = json!(name);
                let (status, refused) = rig.send("POST", path, bad).await;
                assert_eq!(status, 400, "{path} {name:?}");
                assert!(refused["error"].as_str().unwrap().starts_with("name: "), "{refused}");
            }
            let mut nameless = body.clone();
            nameless.as_object_mut().unwrap().remove("name");
            assert_eq!(rig.send("POST", path, nameless).await.0, 400, "{path}");
            assert_eq!(rig.send("POST", path, json!([])).await.0, 400, "{path}");
            let unknown = format!("{path}/00000000-0000-4000-8000-000000000000");
            assert_eq!(rig.send("PUT", &unknown, row.clone()).await.0, 404, "{path}");
            assert_eq!(rig.send("DELETE", &unknown, Value::Null).await.0, 404, "{path}");
            // The whole row comes back with a change; what it does not tell takes its default.
            let mut renamed = row.clone();
            renamed["name"] = json!("other");
            let one = format!("{path}/{}", row["id"].as_str().unwrap());
            assert_eq!(rig.send("PUT", &one, renamed.clone()).await, (200, json!({ "message": "Updated" })));
            assert_eq!(rig.get(path).await, json!([renamed]));
            assert_eq!(rig.send("DELETE", &one, Value::Null).await, (200, json!({ "message": "Deleted" })));
            assert_eq!(rig.get(path).await, json!([]));
        }
        let (_, missing) = rig.send("POST", "/entrypoints", json!({ "name": "web" })).await;
        assert!(missing["error"].as_str().unwrap().contains("address"), "{missing}");
        for (field, value) in
            [("address", "nonsense"), ("address", ":0"), ("config_json", "not json"), ("config_json", "[]")]
        {
            let mut bad = json!({ "name": "web", "address": ":80" });
            bad[field] = json!(value);
            let (status, refused) = rig.send("POST", "/entrypoints", bad).await;
            assert_eq!(status, 400);
            assert!(refused["error"].as_str().unwrap().starts_with(&format!("{field}: ")), "{refused}");
        }
    });
}

#[test]
fn rows_are_listed_by_name_and_audited_once_a_write() {
    let rig = Rig::without_daemon();
    block_on(async {
        for name in ["b", "a", "c"] {
            rig.post("/tls/options", json!({ "name": name, "config_json": "{}" })).await;
        }
        let names: Vec<String> = rig
            .get("/tls/options")
            .await
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        let (audit, _) =
            rig.app.store.audit(&aifw::store::AuditFilter { limit: 10, ..Default::default() }).unwrap();
        let told: Vec<&str> = audit
            .iter()
            .filter(|entry| entry.source == "proxy")
            .map(|entry| entry.details.as_str())
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("TLS option \"c\" added (user "), "{told:?}");
    });
}

#[test]
fn b06_lists_of_names_are_kept_as_they_were_given() {
    let rig = Rig::without_daemon();
    block_on(async {
        for (given, kept) in [
            (json!("web"), "web"),
            (json!(r#"["a","b"]"#), r#"["a","b"]"#),
            (json!(["a", "b"]), r#"["a","b"]"#),
        ] {
            let row = rig
                .post(
                    "/tcp/routers",
                    json!({ "name": "r", "rule": "*", "service": "s", "entry_points": given }),
                )
                .await;
            assert_eq!(row["entry_points"], kept);
            rig.send("DELETE", &format!("/tcp/routers/{}", row["id"].as_str().unwrap()), Value::Null).await;
        }
    });
}

#[test]
fn b14_b15_settings_and_rules_that_the_daemon_would_not_take_are_refused() {
    let rig = Rig::without_daemon();
    block_on(async {
        for (field, value) in
            [("log_level", "loud"), ("access_log_path", "/etc/passwd"), ("metrics_address", "x")]
        {
            let (status, refused) = rig.send("PUT", "/config", json!({ field: value })).await;
            assert_eq!(status, 400);
            assert!(refused["error"].as_str().unwrap().starts_with(&format!("{field}: ")), "{refused}");
        }
        let router = |rule: &str| json!({ "name": "r", "rule": rule, "service": "s" });
        let (status, refused) = rig.send("POST", "/http/routers", router("ClientIP(`10.0.0.0/8`)")).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains("ClientIP"), "{refused}");
        let taken = rig.post("/http/routers", router("Host(`a`) && PathPrefix(`/x`)")).await;
        assert_eq!(taken["rule"], "Host(`a`) && PathPrefix(`/x`)");
    });
}

#[test]
fn b16_a_viewer_reads_without_secrets_and_writes_nothing() {
    let rig = Rig::without_daemon();
    block_on(async {
        let config = json!({ "users": ["ann:$apr1$secret"], "realm": "r" }).to_string();
        rig.post(
            "/http/middlewares",
            json!({ "name": "m", "middleware_type": "basicAuth", "config_json": config }),
        )
        .await;
        assert_eq!(rig.get("/http/middlewares").await[0]["config_json"], config.as_str());
        let viewer = rig.client.with_bearer("proxy:read");
        let seen = viewer.get("/reverse-proxy/http/middlewares").send().await;
        assert!(!seen.text().contains("apr1") && seen.text().contains("ann:***"), "{}", seen.text());
        for (path, body) in KINDS {
            let path = format!("/reverse-proxy{path}");
            assert_eq!(viewer.get(&path).send().await.status, 200);
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(viewer.post(&path).json(body).send().await.status, 403);
        }
        for action in ["start", "stop", "restart", "validate", "apply"] {
            assert_eq!(viewer.post(&format!("/reverse-proxy/{action}")).send().await.status, 403);
        }
        let nobody = aifw::api::testing::Client::new(aifw::api::app(rig.app.clone(), aifw::api::routes()));
        assert_eq!(nobody.get("/reverse-proxy/config").send().await.status, 401);
    });
}

#[test]
fn a_rule_that_took_the_process_down_is_refused() {
    let rig = Rig::without_daemon();
    block_on(async {
        let rule = vec!["Path(`/`)"; 20_000].join("||");
        let row = json!({ "name": "long", "rule": rule, "service": "s" });
        let (status, refused) = rig.send("POST", "/http/routers", row).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains("rule: expected at most 8192"), "{refused}");
        let (status, refused) = rig
            .send(
                "POST",
                "/http/routers",
                json!({ "name": "n", "rule": "Host(`a`)", "service": "s", "entry_points": "{\"a\":1}" }),
            )
            .await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains("entry_points"), "{refused}");
    });
}

#[test]
fn a_range_that_the_daemon_would_forget_is_refused_when_it_is_stored() {
    let rig = Rig::without_daemon();
    block_on(async {
        let ranges = json!({ "sourceRange": ["10.0.0.0/8", "10.0.0.0/99"] }).to_string();
        let row = json!({ "name": "only", "middleware_type": "ipAllowList", "config_json": ranges });
        let (status, refused) = rig.send("POST", "/http/middlewares", row).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains("10.0.0.0/99"), "{refused}");
    });
}

#[test]
fn an_acme_binding_is_hidden_from_readers_and_survives_its_mask() {
    let rig = Rig::without_daemon();
    let routes = aifw::api::app(rig.app.clone(), aifw::api::routes());
    let viewer = aifw::api::testing::Client::new(routes).with_bearer("proxy:read");
    block_on(async {
        let eab =
            json!({ "acme": { "email": "a@a.test", "eab": { "kid": "k", "hmacEncoded": "hidden-key" } } });
        let row =
            rig.post("/cert-resolvers", json!({ "name": "acme", "config_json": eab.to_string() })).await;
        let shown = viewer.get("/reverse-proxy/cert-resolvers").send().await;
        assert!(!shown.text().contains("hidden-key") && shown.text().contains("***"), "{}", shown.text());
        let shown: Value = shown.json();
        rig.change("/cert-resolvers", &row, json!({ "config_json": shown[0]["config_json"] })).await;
        let stored = rig.get("/cert-resolvers").await;
        let stored: Value = serde_json::from_str(stored[0]["config_json"].as_str().unwrap()).unwrap();
        assert_eq!(stored, eab);
        // Nothing is stored that it could stand for.
        let (status, refused) = rig
            .send("POST", "/cert-resolvers", json!({ "name": "new", "config_json": shown[0]["config_json"] }))
            .await;
        assert_eq!(status, 400, "{refused}");
    });
}
