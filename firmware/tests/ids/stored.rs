//! What is stored, what is refused, and what is there without an engine.

use std::sync::Arc;

use aifw::api::testing::{Client, bare_app};
use aifw::api::{self, App};
use aifw::store::{Author, Draft, StoreError};
use serde_json::{Value, json};
use smol::block_on;

struct Rig {
    app: Arc<App>,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(bare_app(dir.path()));
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("ids:read,ids:write");
        Self { app, client, _dir: dir }
    }
    async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, &format!("/ids{path}"));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await;
        (answer.status, answer.json())
    }
    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, path, body).await;
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
        answer
    }
    async fn seed(&self) {
        let commit = self.app.store.commit(&Author::system("setup"), |draft: &mut Draft| {
            draft.config.ids_rulesets = aifw::config::ids::seeds().into_iter().collect();
            Ok::<(), StoreError>(())
        });
        commit.await.unwrap();
    }
}

#[test]
fn b20_without_suricata_everything_stored_is_there() {
    let rig = Rig::new();
    block_on(async {
        rig.seed().await;
        for path in ["/alerts", "/rules", "/rules/search?q=x", "/rulesets", "/suppressions"] {
            assert!(rig.ok("GET", path, Value::Null).await["data"].is_array(), "{path}");
        }
        let rulesets = rig.ok("GET", "/rulesets", Value::Null).await["data"].clone();
        assert_eq!(rulesets[0]["id"], "a0000000-0000-0000-0000-000000000002");
        assert_eq!(
            (&rulesets[0]["name"], &rulesets[1]["name"]),
            (&json!("Abuse.ch SSLBL"), &json!("ET Open (Emerging Threats)"))
        );
        assert_eq!(
            (&rulesets[1]["enabled"], &rulesets[1]["rule_count"], &rulesets[1]["last_updated"]),
            (&json!(false), &json!(0), &Value::Null)
        );
        let stats = rig.ok("GET", "/stats", Value::Null).await["data"].clone();
        assert_eq!(
            (&stats["running"], &stats["mode"], &stats["severity_counts"]),
            (&json!(false), &json!("disabled"), &json!([]))
        );
        assert_eq!(stats["stats"]["packets_inspected"], 0);
        let buffer = rig.ok("GET", "/alerts/buffer-stats", Value::Null).await;
        assert_eq!(
            (&buffer["alerts_total"], &buffer["running"], &buffer["max_mb"]),
            (&json!(0), &json!(false), &json!(64))
        );
        assert_eq!(rig.send("PUT", "/config", json!({ "mode": "ids" })).await.0, 503);
        assert_eq!(rig.ok("GET", "/config", Value::Null).await["data"]["mode"], "disabled");
        assert_eq!(rig.ok("POST", "/reload", Value::Null).await["message"], "rules reloaded");
    });
}

#[test]
fn b09_settings_change_one_by_one_or_not_at_all() {
    let rig = Rig::new();
    block_on(async {
        let fresh = rig.ok("GET", "/config", Value::Null).await["data"].clone();
        assert_eq!(
            (
                &fresh["home_net"],
                &fresh["external_net"],
                &fresh["alert_retention_days"],
                &fresh["syslog_target"]
            ),
            (
                &json!(["192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12"]),
                &json!(["!$HOME_NET"]),
                &json!(30),
                &Value::Null
            )
        );
        for (field, body) in [
            ("mode", json!({ "mode": "monitor" })),
            ("home_net", json!({ "home_net": ["300.1.1.1"] })),
            ("home_net", json!({ "home_net": [] })),
            ("external_net", json!({ "external_net": ["$NOT_HOME"] })),
            ("interfaces", json!({ "interfaces": ["em0; id"] })),
            ("alert_retention_days", json!({ "alert_retention_days": 0 })),
            ("eve_log_path", json!({ "eve_log_path": "/etc/passwd" })),
            ("eve_log_path", json!({ "eve_log_path": "/var/log/x.txt" })),
            ("syslog_target", json!({ "syslog_target": "nowhere" })),
        ] {
            let (status, refused) = rig.send("PUT", "/config", body.clone()).await;
            assert_eq!(status, 400, "{body}");
            assert!(refused["error"].as_str().unwrap().starts_with(&format!("{field}: ")), "{refused}");
        }
        assert_eq!(rig.ok("GET", "/config", Value::Null).await["data"], fresh);
        let set = json!({ "worker_count": 1000, "flow_table_size": 5, "stream_depth": 99999999999_u64,
            "syslog_target": "192.0.2.9:514" });
        let changed = rig.ok("PUT", "/config", set).await["data"].clone();
        assert_eq!(
            (&changed["worker_count"], &changed["flow_table_size"], &changed["stream_depth"]),
            (&json!(64), &json!(5), &json!(16 << 20))
        );
        let cleared =
            rig.ok("PUT", "/config", json!({ "worker_count": null, "syslog_target": "" })).await["data"]
                .clone();
        assert_eq!(
            (&cleared["worker_count"], &cleared["syslog_target"], &cleared["flow_table_size"]),
            (&Value::Null, &Value::Null, &json!(5))
        );
    });
}

#[test]
fn b12_b16_rulesets_and_suppressions_are_checked() {
    let rig = Rig::new();
    block_on(async {
        let ruleset = |url: &str| json!({ "name": "own", "rule_format": "suricata", "source_url": url, "enabled": false });
        for url in ["file:///etc/passwd", "ftp://x/y", "-o /tmp/x"] {
            assert_eq!(rig.send("POST", "/rulesets", ruleset(url)).await.0, 400, "{url}");
        }
        let made =
            rig.ok("POST", "/rulesets", ruleset("http://127.0.0.1:1/none.rules")).await["data"].clone();
        assert_eq!(rig.send("POST", "/rulesets", ruleset("http://127.0.0.1:1/x")).await.0, 409);
        let one = format!("/rulesets/{}", made["id"].as_str().unwrap());
        let changed = rig.ok("PUT", &one, json!({ "enabled": true })).await["data"].clone();
        assert_eq!((&changed["enabled"], &changed["rule_count"]), (&json!(true), &json!(0)));
        assert!(changed["last_error"].as_str().unwrap().contains("127.0.0.1:1"), "{changed}");
        assert_eq!(rig.send("PUT", &one, json!({ "rule_format": "snort" })).await.0, 400);
        assert_eq!(rig.ok("DELETE", &one, Value::Null).await["message"], "ruleset deleted");
        assert_eq!(rig.send("DELETE", &one, Value::Null).await.0, 404);

        let row = json!({ "sid": 7, "suppress_type": "both", "ip_cidr": "127.0.0.0/8" });
        let made = rig.ok("POST", "/suppressions", row.clone()).await["data"].clone();
        assert_eq!(rig.send("POST", "/suppressions", row).await.0, 409);
        for bad in [
            json!({ "sid": 7, "suppress_type": "both", "ip_cidr": "300.1.1.1" }),
            json!({ "sid": 0, "suppress_type": "src" }),
            json!({ "sid": 7, "suppress_type": "any" }),
        ] {
            assert_eq!(rig.send("POST", "/suppressions", bad.clone()).await.0, 400, "{bad}");
        }
        assert_eq!(rig.ok("GET", "/suppressions", Value::Null).await["total"], 1);
        let one = format!("/suppressions/{}", made["id"].as_str().unwrap());
        assert_eq!(rig.ok("DELETE", &one, Value::Null).await["message"], "suppression deleted");
        assert_eq!(rig.send("DELETE", &one, Value::Null).await.0, 404);
    });
}

#[test]
fn b17_unknown_alerts_and_wrong_judgements() {
    let rig = Rig::new();
    block_on(async {
        let one = "/alerts/00000000-0000-4000-8000-000000000000";
        assert_eq!(rig.send("GET", one, Value::Null).await.0, 404);
        assert_eq!(rig.send("PUT", &format!("{one}/acknowledge"), Value::Null).await.0, 404);
        let judged = rig.send("PUT", &format!("{one}/classify"), json!({ "classification": "maybe" })).await;
        assert_eq!(judged.0, 400);
        let judged =
            rig.send("PUT", &format!("{one}/classify"), json!({ "classification": "confirmed" })).await;
        assert_eq!(judged.0, 404);
        assert_eq!(rig.ok("DELETE", "/alerts", Value::Null).await["message"], "0 alerts purged");
        let reader = rig.client.with_bearer("ids:read");
        assert_eq!(reader.delete("/ids/alerts").send().await.status, 403);
        assert_eq!(reader.put("/ids/config").json(json!({})).send().await.status, 403);
    });
}
