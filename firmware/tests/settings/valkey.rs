//! Export of metrics to a real Redis server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aifw::api::server::tls::self_signed;
use serde_json::{Value, json};
use smol::block_on;

use crate::process::{Sandbox, soon, text};
use crate::rig::Rig;

const PASSWORD: &str = "marked-password";

/// A server on loopback, on a Unix socket, and with TLS. Ends when dropped.
struct Redis {
    child: Child,
    port: u16,
    tls_port: u16,
    socket: PathBuf,
    certificate: String,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Redis {
    fn start(dir: &Path) -> Self {
        let pem = self_signed(&["localhost".into(), "127.0.0.1".into()]).unwrap();
        std::fs::write(dir.join("redis.pem"), &pem.certificate).unwrap();
        std::fs::write(dir.join("redis.key"), &pem.key).unwrap();
        Self::start_at(dir, free_port(), free_port(), pem.certificate)
    }
    fn start_at(dir: &Path, port: u16, tls_port: u16, certificate: String) -> Self {
        let socket = dir.join("redis.sock");
        std::fs::remove_file(&socket).ok();
        let (port_text, tls_text) = (port.to_string(), tls_port.to_string());
        let mut command = Command::new("redis-server");
        command.current_dir(dir).args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port_text,
            "--unixsocket",
            "redis.sock",
        ]);
        command.args([
            "--save",
            "",
            "--requirepass",
            PASSWORD,
            "--tls-port",
            &tls_text,
            "--tls-auth-clients",
            "no",
        ]);
        command.args([
            "--tls-cert-file",
            "redis.pem",
            "--tls-key-file",
            "redis.key",
            "--tls-ca-cert-file",
            "redis.pem",
        ]);
        let child = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let redis = Self { child, port, tls_port, socket, certificate };
        soon("the server answers", || redis.ask(&["PING"]) == "PONG");
        redis
    }
    fn ask(&self, command: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.env("REDISCLI_AUTH", PASSWORD).args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        let output = client.args(command).stderr(Stdio::null()).output().expect("redis-cli is installed");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
    fn number(&self, command: &[&str]) -> u64 {
        self.ask(command).parse().unwrap()
    }
    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn settings_are_checked_and_the_password_is_masked() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let path = "/settings/valkey";
        let fresh = rig.get(path).await;
        assert_eq!(
            (&fresh["enabled"], &fresh["url"], &fresh["retention_minutes"]),
            (&true.into(), &"redis://127.0.0.1:6379".into(), &30.into())
        );
        for (bad, field) in [
            (json!({ "url": "http://127.0.0.1" }), "url"),
            (json!({ "retention_minutes": 4 }), "retention_minutes"),
            (json!({ "retention_minutes": 1441 }), "retention_minutes"),
            (json!({ "enabled": "yes" }), "enabled"),
        ] {
            let told = rig.refused(400, "PUT", path, bad).await;
            assert!(told.starts_with(&format!("{field}: ")), "{told}");
        }
        let off = rig
            .ok(
                "PUT",
                path,
                json!({ "enabled": false, "url": format!("redis://fw:{PASSWORD}@192.0.2.1:6379") }),
            )
            .await;
        assert_eq!(off["status"], "disabled");
        let shown = rig.get(path).await;
        assert_eq!(
            (&shown["url"], &shown["status"]),
            (&"redis://fw:***@192.0.2.1:6379".into(), &"disabled".into())
        );
        // What was shown can be sent back; with another server it cannot.
        rig.ok("PUT", path, json!({ "url": shown["url"], "retention_minutes": 60 })).await;
        assert_eq!(rig.app.store.snapshot().config.valkey.password.expose(), PASSWORD);
        rig.refused(400, "PUT", path, json!({ "url": "redis://fw:***@192.0.2.2:6379" })).await;
        assert!(!rig.audited().contains(PASSWORD));
    });
}

#[test]
fn a_server_is_connected_to_over_tcp_tls_and_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let state = dir.path().join("state");
    block_on(async {
        let rig = Rig::new(&state);
        let path = "/settings/valkey";
        let answer = rig.ok("PUT", path, json!({ "url": redis.url() })).await;
        assert_eq!(answer["status"], "connected", "{answer}");
        assert_eq!(rig.get(path).await["status"], "connected");
        // A wrong password: told, without it.
        let wrong = format!("redis://:marked-wrong@127.0.0.1:{}", redis.port);
        assert_eq!(rig.ok("PUT", path, json!({ "url": wrong })).await["status"], "disconnected");
        let shown = rig.get(path).await;
        assert!(
            text(&shown["last_error"]).contains("WRONGPASS") && !shown.to_string().contains("marked-wrong"),
            "{shown}"
        );
        let socket = format!("unix://{}?db=3", redis.socket.display());
        assert_eq!(
            rig.ok("PUT", path, json!({ "url": socket })).await["status"],
            "disconnected",
            "no password, no entry"
        );
        // TLS, first with a certificate that nobody vouches for.
        let tls = format!("rediss://:{PASSWORD}@localhost:{}/2", redis.tls_port);
        assert_eq!(rig.ok("PUT", path, json!({ "url": tls })).await["status"], "disconnected");
        assert!(text(&rig.get(path).await["last_error"]).to_lowercase().contains("certificate"));
        rig.app.services.valkey().set_roots(vec![redis.certificate.clone()]);
        assert_eq!(rig.ok("PUT", path, json!({ "url": tls })).await["status"], "connected");
        let settings = rig.app.store.snapshot().config.valkey.clone();
        assert!(rig.app.services.valkey().push(&settings, 300, b"{}"));
        assert_eq!(
            (
                redis.ask(&["-n", "2", "LLEN", "aifw:metrics:history"]),
                redis.ask(&["LLEN", "aifw:metrics:history"])
            ),
            ("1".into(), "0".into())
        );
        assert_eq!(rig.ok("PUT", path, json!({ "enabled": false })).await["status"], "disabled");
        assert!(!rig.app.services.valkey().push(&rig.app.store.snapshot().config.valkey.clone(), 300, b"{}"));
    });
}

/// A silent address costs about 3 s, and a write of the settings no longer.
#[test]
fn a_server_that_does_not_answer_is_given_up_after_3_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    block_on(async {
        let rig = Rig::new(dir.path());
        let begun = std::time::Instant::now();
        let answer =
            rig.ok("PUT", "/settings/valkey", json!({ "url": format!("redis://127.0.0.1:{port}") })).await;
        assert_eq!(answer["status"], "disconnected");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

/// The appliance as a process: every second is there once, newest first, no more than the history is long, and gone
/// after the retention; a server that was away is connected to again.
#[test]
fn seconds_are_exported_newest_first_and_again_after_the_server_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let sandbox = Sandbox::start(&dir.path().join("state"), &[]);
    let login = sandbox.admin();
    let token = text(&login["access_token"]).to_owned();
    let put = |body: Value| {
        let answer = sandbox.call("PUT", "/settings/valkey", &token, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    assert_eq!(put(json!({ "url": redis.url(), "retention_minutes": 5 }))["status"], "connected");
    let list = "aifw:metrics:history";
    soon("three seconds", || redis.number(&["LLEN", list]) >= 3);
    let ttl = redis.number(&["TTL", list]);
    assert!((290..=300).contains(&ttl), "{ttl}");
    let entry =
        |index: &str| -> Value { serde_json::from_str(&redis.ask(&["LINDEX", list, index])).unwrap() };
    let (newest, before) = (entry("0"), entry("1"));
    assert!(newest["ts"].as_i64() > before["ts"].as_i64(), "{newest}\n{before}");
    assert_eq!((&newest["type"], newest["system"].is_object()), (&"status_update".into(), true));
    // Never more than the retention has seconds.
    redis.ask(&["EVAL", "for i = 1, 400 do redis.call('RPUSH', KEYS[1], '{}') end", "1", list]);
    soon("the list is trimmed", || redis.number(&["LLEN", list]) <= 300);

    let (port, tls_port, certificate) = (redis.port, redis.tls_port, redis.certificate.clone());
    drop(redis);
    let status = || sandbox.get("/settings/valkey", &token)["status"].clone();
    soon("the loss is seen", || status() == "disconnected");
    let redis = Redis::start_at(dir.path(), port, tls_port, certificate);
    soon("it is connected again", || status() == "connected");
    soon("seconds come again", || redis.number(&["LLEN", list]) >= 1);
    let (_, printed) = sandbox.terminate();
    assert!(!printed.contains(PASSWORD));
}
