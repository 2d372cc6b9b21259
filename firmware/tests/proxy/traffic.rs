//! What clients and servers on both sides of the proxy see: TLS, balance, limits, redirects, and what a change costs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::{Backend, Rig, curl, free_port, service};

/// A certificate for `a.test` where the configuration may name it.
fn certificate(rig: &Rig) {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let directory = rig.path("/usr/local/etc/trafficcop");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("a.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("a.key"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn https_is_balanced_limited_and_plain_http_redirected() {
    let rig = Rig::new();
    let (one, two) = (Backend::start("one"), Backend::start("two"));
    block_on(async {
        let (plain, secure) = (free_port(), free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let redirect = json!({ "http": { "redirections": { "entryPoint": { "to": "websecure", "scheme": "https",
            "permanent": true } } } });
        rig.post(
            "/entrypoints",
            json!({ "name": "web", "address": at(plain), "config_json": redirect.to_string() }),
        )
        .await;
        let tls = json!({ "asDefault": true, "http": { "tls": {} } }).to_string();
        rig.post("/entrypoints", json!({ "name": "websecure", "address": at(secure), "config_json": tls }))
            .await;
        rig.post("/http/services", service("one", &[(one.port, 1)])).await;
        rig.post("/http/services", service("two", &[(two.port, 1)])).await;
        let shares = json!({ "services": [{ "name": "one", "weight": 3 }, { "name": "two", "weight": 1 }] });
        rig.post(
            "/http/services",
            json!({ "name": "both", "service_type": "weighted", "config_json": shares.to_string() }),
        )
        .await;
        rig.post("/http/routers", json!({ "name": "site", "rule": "Host(`a.test`)", "service": "both" }))
            .await;
        let limit = json!({ "average": 1, "burst": 3, "period": "10s" }).to_string();
        rig.post(
            "/http/middlewares",
            json!({ "name": "slow", "middleware_type": "rateLimit", "config_json": limit }),
        )
        .await;
        rig.post(
            "/http/routers",
            json!({ "name": "limited", "rule": "Host(`a.test`) && PathPrefix(`/limited`)",
            "service": "one", "middlewares": "slow" }),
        )
        .await;
        rig.put("/config", json!({ "enabled": true })).await;

        // Without a certificate the daemon would serve plain HTTP there.
        let (status, refused) = rig.send("POST", "/apply", Value::Null).await;
        assert_eq!(status, 400, "{refused}");
        assert!(refused["error"].as_str().unwrap().contains("plain HTTP"), "{refused}");
        let pair = json!({ "name": "a", "cert_file": "/usr/local/etc/trafficcop/a.pem",
            "key_file": "/usr/local/etc/trafficcop/a.key" });
        rig.post("/tls/certs", pair).await;
        let (status, refused) = rig.send("POST", "/apply", Value::Null).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().contains("certificate \"a\""), "{refused}");
        certificate(&rig);
        let applied = rig.post("/apply", Value::Null).await;
        assert!(applied["warnings"].to_string().contains("HTTP/2"), "{applied}");

        let resolve = format!("a.test:{secure}:127.0.0.1");
        let https = |path: &str| {
            curl(&["--http1.1", "--resolve", &resolve], &format!("https://a.test:{secure}{path}"))
        };
        for _ in 0..40 {
            assert_eq!(https("/").0, 200);
        }
        assert_eq!((one.count(), two.count()), (30, 10), "weights 3 and 1");
        let codes: Vec<u16> = (0..6).map(|_| https("/limited").0).collect();
        assert_eq!(codes.iter().filter(|code| **code == 200).count(), 3, "{codes:?}");
        assert_eq!(codes.last(), Some(&429));
        let (status, _, location) = curl(&["-H", "Host: a.test"], &format!("http://127.0.0.1:{plain}/x?y=1"));
        assert_eq!((status, location), (301, format!("https://a.test:{secure}/x?y=1")));
        rig.end().await;
    });
}

/// One request on a connection of its own; `None` = it was not answered.
fn ask(port: u16) -> Option<u16> {
    ask_for(port, "/")
}

fn ask_for(port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// Seconds of load: 3, or as many as `AIFW_LOAD_SECONDS` says.
fn seconds() -> u64 {
    std::env::var("AIFW_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn a_change_of_routers_under_load_loses_no_request() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    let port = block_on(async {
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        port
    });
    let pid = rig.pid();
    let (done, lost, answered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut changes, mut in_force) = (0, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    match ask(port) {
                        Some(200) => answered.fetch_add(1, Ordering::Relaxed),
                        _ => lost.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        let begun = Instant::now();
        block_on(async {
            while begun.elapsed() < Duration::from_secs(seconds()) {
                changes += 1;
                // A route of its own that nothing else answers: in force when apply has answered, or never.
                let to = format!("extra{changes}.test");
                let answer = json!({ "scheme": "https", "port": "8443" }).to_string();
                let name = format!("to{changes}");
                rig.post(
                    "/http/middlewares",
                    json!({ "name": name, "middleware_type": "redirectScheme", "config_json": answer }),
                )
                .await;
                rig.post(
                    "/http/routers",
                    json!({ "name": to, "rule": format!("Path(`/extra{changes}`)"), "service": "back",
                        "middlewares": name, "priority": 1000 }),
                )
                .await;
                let applied = rig.post("/apply", Value::Null).await;
                let now = ask_for(port, &format!("/extra{changes}"));
                in_force += u64::from(now == Some(302));
                assert_eq!(applied["reloaded"], true, "{applied}");
            }
        });
        done.store(true, Ordering::Relaxed);
    });
    println!(
        "{changes} changes in {} s: {} requests answered, {} lost",
        seconds(),
        answered.load(Ordering::Relaxed),
        lost.load(Ordering::Relaxed)
    );
    assert_eq!(rig.pid(), pid, "the daemon was not restarted");
    assert_eq!(in_force, changes, "routes that answered when apply had");
    assert_eq!(lost.load(Ordering::Relaxed), 0);
    assert!(answered.load(Ordering::Relaxed) > 100);
    block_on(rig.end());
}

#[test]
fn the_gap_of_a_restart_is_measured() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    let port = block_on(async {
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        port
    });
    let done = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                if ask(port) == Some(200) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            longest
        });
        block_on(async {
            for _ in 0..3 {
                // A client that keeps its connection and says nothing more: the daemon would wait 30 s for it.
                let mut idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
                idle.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
                assert!(idle.read(&mut [0; 512]).unwrap() > 0);
                rig.post("/restart", Value::Null).await;
            }
        });
        done.store(true, Ordering::Relaxed);
        longest = asker.join().unwrap();
    });
    println!("restart: at most {} ms between two answers", longest.as_millis());
    // 1.5 s to drain, and a start.
    assert!(longest < Duration::from_millis(4500), "{longest:?}");
    block_on(rig.end());
}

/// A TLS entry point and a router for `a.test`; returns the port.
async fn secure(rig: &Rig, tls: Value, backend: u16) -> u16 {
    let port = free_port();
    let settings = json!({ "http": { "tls": tls } }).to_string();
    let address = format!("127.0.0.1:{port}");
    rig.post("/entrypoints", json!({ "name": "sec", "address": address, "config_json": settings })).await;
    rig.post("/http/services", service("back", &[(backend, 1)])).await;
    rig.post("/http/routers", json!({ "name": "site", "rule": "Host(`a.test`)", "service": "back" })).await;
    rig.put("/config", json!({ "enabled": true })).await;
    port
}

#[test]
fn a_renewed_certificate_at_the_same_path_is_served_after_apply() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        certificate(&rig);
        let pair = json!({ "name": "a", "cert_file": "/usr/local/etc/trafficcop/a.pem",
            "key_file": "/usr/local/etc/trafficcop/a.key" });
        rig.post("/tls/certs", pair).await;
        let port = secure(&rig, json!({}), backend.port).await;
        rig.post("/apply", Value::Null).await;
        // Trusted is what lies there now.
        let trusted = || {
            let pem = rig.path("/usr/local/etc/trafficcop/a.pem");
            std::process::Command::new("curl")
                .args([
                    "-s",
                    "--max-time",
                    "10",
                    "--noproxy",
                    "*",
                    "--http1.1",
                    "-w",
                    "%{http_code}",
                    "--cacert",
                ])
                .arg(&pem)
                .args(["--resolve", &format!("a.test:{port}:127.0.0.1")])
                .arg(format!("https://a.test:{port}/"))
                .output()
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .expect("curl is installed")
        };
        assert_eq!(trusted(), "one200");
        let pid = rig.pid();
        rig.post("/apply", Value::Null).await;
        assert_eq!(rig.pid(), pid, "nothing has changed");
        certificate(&rig);
        assert_eq!(trusted(), "000", "the old one is served");
        rig.post("/apply", Value::Null).await;
        assert_eq!(trusted(), "one200");
        rig.end().await;
    });
}

#[test]
fn a_tls_entry_point_without_its_certificates_is_not_served_in_the_clear() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        // A server for certificates that is not there.
        let acme = json!({ "acme": { "email": "a@a.test", "storage": "/var/db/acme.json",
            "caServer": format!("http://127.0.0.1:{}/dir", free_port()) } });
        rig.post("/cert-resolvers", json!({ "name": "acme", "config_json": acme.to_string() })).await;
        let port = secure(&rig, json!({ "certResolver": "acme" }), backend.port).await;
        let begun = Instant::now();
        let (status, refused) = rig.send("POST", "/apply", Value::Null).await;
        assert_eq!(status, 500, "{refused}");
        let text = refused["error"].as_str().unwrap();
        assert!(text.contains("\"sec\" would serve plain HTTP instead of TLS"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(60), "what cannot come is not waited for");
        assert_eq!(curl(&["-H", "Host: a.test"], &format!("http://127.0.0.1:{port}/")).0, 0);
        rig.end().await;
    });
}

#[test]
fn a_deny_list_at_an_entry_point_keeps_clients_out() {
    let rig = Rig::new();
    let backend = Backend::start("one");
    block_on(async {
        let port = rig.plain(backend.port).await;
        rig.post("/apply", Value::Null).await;
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(curl(&[], &url).0, 200);
        let ranges = json!({ "sourceRange": ["127.0.0.0/8"] }).to_string();
        rig.post(
            "/http/middlewares",
            json!({ "name": "deny", "middleware_type": "ipDenyList", "config_json": ranges }),
        )
        .await;
        let row = rig.get("/entrypoints").await[0].clone();
        let settings = json!({ "http": { "middlewares": ["deny"] } }).to_string();
        rig.change("/entrypoints", &row, json!({ "config_json": settings })).await;
        rig.post("/apply", Value::Null).await;
        assert_eq!(curl(&[], &url).0, 403);
        rig.end().await;
    });
}
