//! The daemon: what it is given, what it refuses, and what becomes of it.

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::{Backend, Rig, curl, free_port, service};

#[test]
fn b05_a_disabled_router_is_listed_not_counted_and_not_generated() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        assert_eq!(rig.get("/status").await["http_routers"], 1);
        assert_eq!(curl(&[], &format!("http://127.0.0.1:{port}/")).1, "one");
        let row = rig.get("/http/routers").await[0].clone();
        rig.change("/http/routers", &row, json!({ "enabled": false })).await;
        assert_eq!(rig.get("/http/routers").await.as_array().unwrap().len(), 1);
        assert_eq!(rig.get("/status").await["http_routers"], 0);
        rig.post("/apply", Value::Null).await;
        assert!(!rig.file().unwrap().contains("PathPrefix"));
        assert_eq!(curl(&[], &format!("http://127.0.0.1:{port}/")).0, 404);
        rig.end().await;
    });
}

#[test]
fn b07_what_clients_store_is_taken_by_the_daemon() {
    let rig = Rig::new();
    block_on(async {
        rig.plain(free_port()).await;
        let weighted = json!({ "weighted": { "services": [{ "name": "t", "weight": 1 }] } }).to_string();
        rig.post(
            "/tcp/services",
            json!({ "name": "w", "service_type": "weighted", "config_json": weighted }),
        )
        .await;
        let framed = json!({ "servers": [{ "address": "127.0.0.1:9" }], "proxyProtocol": { "version": 2 } })
            .to_string();
        rig.post("/tcp/services", json!({ "name": "t", "config_json": framed })).await;
        rig.post(
            "/tcp/routers",
            json!({ "name": "r", "rule": "HostSNI(`*`)", "service": "w", "entry_points": "web" }),
        )
        .await;
        let tls = json!({ "certResolver": "", "domains": "a.com, b.com" }).to_string();
        rig.post(
            "/http/routers",
            json!({ "name": "tls", "rule": "Host(`a.com`)", "service": "back", "tls_json": tls }),
        )
        .await;
        let checked = rig.post("/validate", Value::Null).await;
        assert_eq!(checked["valid"], true, "{checked}");
        let warnings = checked["warnings"].to_string();
        assert!(warnings.contains(r#"TCP router \"r\""#), "{checked}");
        assert!(
            warnings.contains(r#"HTTP router \"tls\" asks for TLS, but answers plain HTTP"#),
            "{checked}"
        );
        rig.post("/apply", Value::Null).await;
        let file = rig.file().unwrap();
        assert!(file.contains(r#""domains":[{"main":"a.com","sans":["b.com"]}]"#), "{file}");
        assert!(file.contains(r#""proxyProtocol":2"#), "{file}");
        rig.end().await;
    });
}

#[test]
fn b08_validate_tells_what_is_wrong() {
    let rig = Rig::new();
    block_on(async {
        let empty = rig.post("/validate", Value::Null).await;
        assert_eq!(empty["valid"], false);
        let message = empty["message"].as_str().unwrap();
        assert!(message.starts_with("Configuration invalid:") && message.contains("entryPoint"), "{message}");
        rig.plain(free_port()).await;
        let good = rig.post("/validate", Value::Null).await;
        assert!(good["message"].as_str().unwrap().starts_with("Configuration valid."), "{good}");
        assert_eq!((&good["valid"], &good["errors"]), (&json!(true), &json!([])));
        rig.post("/http/routers", json!({ "name": "lost", "rule": "Path(`/x`)", "service": "gone" })).await;
        let bad = rig.post("/validate", Value::Null).await;
        let message = bad["message"].as_str().unwrap();
        assert!(message.contains("lost") && message.contains("gone"), "{message}");
        // Nothing of a check stays behind.
        let directory = rig.app.services.runner(aifw::config::ServiceKind::Proxy).places().config;
        let left: Vec<_> = std::fs::read_dir(directory.parent().unwrap()).unwrap().flatten().collect();
        assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("rehearsal")));
        rig.end().await;
    });
}

#[test]
fn b09_b10_apply_starts_refuses_and_stops() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let port = rig.plain(backend.port).await;
        let url = format!("http://127.0.0.1:{port}/");
        let applied = rig.post("/apply", Value::Null).await;
        assert_eq!(applied["message"], "TrafficCop config applied and service restarted");
        assert_eq!(curl(&[], &url), (200, "one".into(), String::new()));
        let status = rig.get("/status").await;
        assert_eq!((&status["running"], &status["version"]), (&json!(true), &json!("1.5.0")));
        let (file, pid) = (rig.file(), rig.pid());
        let row = rig
            .post("/http/routers", json!({ "name": "lost", "rule": "Path(`/x`)", "service": "gone" }))
            .await;
        let (status, refused) = rig.send("POST", "/apply", Value::Null).await;
        assert_eq!(status, 400, "{refused}");
        let text = refused["error"].as_str().unwrap();
        assert!(text.contains("lost") && text.contains("gone"), "{text}");
        assert_eq!((rig.file(), rig.pid()), (file, pid));
        assert_eq!(curl(&[], &url).1, "one");
        rig.send("DELETE", &format!("/http/routers/{}", row["id"].as_str().unwrap()), Value::Null).await;
        rig.put("/config", json!({ "enabled": false })).await;
        let stopped = rig.post("/apply", Value::Null).await;
        assert_eq!(stopped["message"], "TrafficCop config saved, service stopped");
        assert_eq!(rig.get("/status").await["running"], false);
        assert_eq!(curl(&[], &url).0, 0);
        rig.end().await;
    });
}

#[test]
fn b09_a_place_that_is_taken_leaves_the_running_proxy_as_it_was() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        let file = rig.file();
        // Somebody else answers there, so that a connection alone proves nothing.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let blocked = taken.local_addr().unwrap();
        let row = rig.post("/entrypoints", json!({ "name": "second", "address": blocked.to_string() })).await;
        let (status, refused) = rig.send("POST", "/apply", Value::Null).await;
        assert_eq!(status, 500, "{refused}");
        let text = refused["error"].as_str().unwrap();
        assert!(text.contains("second") && text.contains("it runs as before"), "{text}");
        assert_eq!(rig.file(), file);
        assert_eq!(curl(&[], &format!("http://127.0.0.1:{port}/")).1, "one");
        drop(taken);
        rig.post("/apply", Value::Null).await;
        rig.send("DELETE", &format!("/entrypoints/{}", row["id"].as_str().unwrap()), Value::Null).await;
        rig.end().await;
    });
}

#[test]
fn b11_metrics_answer_at_their_address() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let port = rig.plain(backend.port).await;
        let metrics = free_port();
        rig.put(
            "/config",
            json!({ "metrics_enabled": true, "metrics_address": format!("127.0.0.1:{metrics}") }),
        )
        .await;
        rig.post("/apply", Value::Null).await;
        curl(&[], &format!("http://127.0.0.1:{port}/"));
        // The daemon counts nothing yet; it answers where it is told to.
        assert_eq!(curl(&[], &format!("http://127.0.0.1:{metrics}/metrics")).0, 200);
        rig.end().await;
    });
}

#[test]
fn b12_starting_what_is_not_enabled_fails_in_words_and_stop_and_start_work() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let refused = rig.post("/start", Value::Null).await;
        assert!(refused["message"].as_str().unwrap().starts_with("TrafficCop start failed: "), "{refused}");
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        let url = format!("http://127.0.0.1:{port}/");
        for (action, answers) in [("stop", 0), ("start", 200), ("restart", 200)] {
            let said = rig.post(&format!("/{action}"), Value::Null).await["message"]
                .as_str()
                .unwrap()
                .to_lowercase();
            assert!(said.starts_with(&format!("trafficcop {action}: ")), "{said}");
            assert!(!said.contains("fail") && !said.contains("error"), "{said}");
            assert_eq!(curl(&[], &url).0, answers, "{action}");
        }
        rig.end().await;
    });
}

#[test]
fn b13_logs_are_searched_newest_first() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        assert_eq!(rig.get("/logs?log_type=access").await, json!([]));
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        for path in ["a", "b", "c"] {
            curl(&[], &format!("http://127.0.0.1:{port}/{path}"));
        }
        let begun = std::time::Instant::now();
        let lines = loop {
            let lines = rig.get("/logs?lines=2&log_type=access&search=GET").await;
            if lines[0].as_str().is_some_and(|line| line.contains("/c")) {
                break lines;
            }
            assert!(begun.elapsed().as_secs() < 10, "{lines}");
            async_io::Timer::after(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(lines.as_array().unwrap().len(), 2);
        assert!(lines[1].as_str().unwrap().contains("/b"));
        assert_eq!(rig.get("/logs?search=%27%3B%20rm%20-rf%20").await, json!([]));
        let server = rig.get("/logs?log_type=server").await;
        assert!(!server.as_array().unwrap().is_empty());
        assert!(!server.to_string().contains("\\u001b"));
        assert_eq!(rig.client.get("/reverse-proxy/logs?lines=abc").send().await.status, 400);
        rig.end().await;
    });
}

#[test]
fn b17_a_guard_that_the_daemon_cannot_be_is_refused_also_inside_a_chain() {
    let rig = Rig::new();
    block_on(async {
        rig.plain(free_port()).await;
        let address = json!({ "address": "http://127.0.0.1:9/auth" }).to_string();
        rig.post(
            "/http/middlewares",
            json!({ "name": "guard", "middleware_type": "forwardAuth", "config_json": address }),
        )
        .await;
        let chain = json!({ "middlewares": ["guard"] }).to_string();
        rig.post(
            "/http/middlewares",
            json!({ "name": "chain", "middleware_type": "chain", "config_json": chain }),
        )
        .await;
        // Stored but not used, it harms nobody.
        assert_eq!(rig.post("/validate", Value::Null).await["valid"], true);
        let row = rig.get("/http/routers").await[0].clone();
        rig.change("/http/routers", &row, json!({ "middlewares": "chain" })).await;
        let (status, refused) = rig.send("POST", "/apply", Value::Null).await;
        assert_eq!(status, 400);
        let text = refused["error"].as_str().unwrap();
        assert!(
            text.contains("\"all\"") && text.contains("\"guard\"") && text.contains("forwardAuth"),
            "{text}"
        );
        rig.end().await;
    });
}

#[test]
fn a_missing_daemon_is_told_and_everything_else_works() {
    let rig = Rig::without_daemon();
    block_on(async {
        rig.plain(free_port()).await;
        let checked = rig.post("/validate", Value::Null).await;
        assert_eq!(checked["message"], "Failed to run validation: TrafficCop is not installed");
        assert_eq!(rig.send("POST", "/apply", Value::Null).await.0, 503);
        assert_eq!(rig.get("/status").await["running"], false);
        assert_eq!(rig.post("/http/services", service("x", &[(1, 1)])).await["name"], "x");
    });
}

/// Permission bits of a file.
fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_the_proxy_writes_is_not_for_everybody_to_read() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        assert_eq!(curl(&[], &format!("http://127.0.0.1:{port}/")).0, 200);
        let places = rig.app.services.runner(aifw::config::ServiceKind::Proxy).places();
        assert_eq!(mode(&places.config.join("config.yaml")), 0o640);
        assert_eq!(mode(&rig.path("/var/log/trafficcop/access.log")), 0o640);
        rig.end().await;
    });
}
