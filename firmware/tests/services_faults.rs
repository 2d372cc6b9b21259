//! The real daemons as children of `aifw sandbox`, and what must hold when something dies: a daemon killed again and
//! again, the appliance itself killed, everything ordered to stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod process;
mod wire;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process::{Sandbox, text};
use serde_json::{Value, json};
use wire::Wire;

/// Everything that is watched, with what makes it run.
const DAEMONS: [&str; 5] = ["rdhcpd", "rdns", "rtime", "suricata", "trafficcop"];

/// A port that was free for both UDP and TCP a moment ago.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn put(sandbox: &Sandbox, token: &str, path: &str, body: Value) {
    let answer = sandbox.call("PUT", path, token, body);
    assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text());
}

/// Configures and starts all five.
fn start_all(sandbox: &Sandbox, token: &str) {
    let local = || format!("127.0.0.1:{}", free_port());
    put(
        sandbox,
        token,
        "/dns/resolver/config",
        json!({ "enabled": true, "listen_interfaces": ["127.0.0.1"], "port": free_port(), "dnssec": false }),
    );
    let applied = sandbox.post("/dns/resolver/apply", token, Value::Null);
    assert_eq!(applied["probe_udp"], true, "{applied}");
    for source in sandbox.get("/time/sources", token)["data"].as_array().unwrap() {
        sandbox.call("DELETE", &format!("/time/sources/{}", text(&source["id"])), token, Value::Null);
    }
    put(
        sandbox,
        token,
        "/time/config",
        json!({ "enabled": true, "ntp_listen": local(), "metrics_listen": local(), "management_listen": local() }),
    );
    sandbox.post("/time/apply", token, Value::Null);
    sandbox.post("/reverse-proxy/entrypoints", token, json!({ "name": "web", "address": local() }));
    put(sandbox, token, "/reverse-proxy/config", json!({ "enabled": true }));
    sandbox.post("/reverse-proxy/apply", token, Value::Null);
    // The sandbox's LAN has its subnet from the set-up.
    put(sandbox, token, "/dhcp/v4/config", json!({ "enabled": true, "api_port": free_port() }));
    sandbox.post("/dhcp/v4/apply", token, Value::Null);
    put(sandbox, token, "/ids/config", json!({ "mode": "ids" }));
}

/// What is known of a daemon.
fn service(sandbox: &Sandbox, token: &str, name: &str) -> Value {
    let all = sandbox.get("/services", token)["services"].clone();
    let found = all.as_array().unwrap().iter().find(|service| service["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {all}"))
}

/// Waits until a daemon is up, and no longer with `old`; returns what is then known of it.
fn running(sandbox: &Sandbox, token: &str, name: &str, old: Option<i64>) -> Value {
    let begun = Instant::now();
    loop {
        let known = service(sandbox, token, name);
        if known["state"] == "running" && known["pid"].as_i64() != old {
            return known;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not up within a minute: {known}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid(known: &Value) -> i64 {
    known["pid"].as_i64().unwrap_or_else(|| panic!("no pid: {known}"))
}

fn is_alive(pid: i64) -> bool {
    // A zombie counts as dead: it waits for its new parent.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn token(sandbox: &Sandbox) -> String {
    text(&sandbox.admin()["access_token"]).to_owned()
}

fn start(state: &Path) -> (Sandbox, String) {
    let sandbox = Sandbox::start(state, &[]);
    let token = token(&sandbox);
    start_all(&sandbox, &token);
    (sandbox, token)
}

#[test]
fn the_appliance_killed_leaves_no_orphan_and_finds_its_feet() {
    let dir = tempfile::tempdir().unwrap();
    let (sandbox, token) = start(dir.path());
    let before: Vec<i64> = DAEMONS.iter().map(|name| pid(&running(&sandbox, &token, name, None))).collect();
    sandbox.kill();
    let begun = Instant::now();
    while before.iter().any(|pid| is_alive(*pid)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "orphans: {before:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let sandbox = Sandbox::start(dir.path(), &[]);
    for (name, old) in DAEMONS.iter().zip(&before) {
        let known = running(&sandbox, &token, name, Some(*old));
        assert_eq!((&known["enabled"], &known["restarts"]), (&json!(true), &json!(0)), "{known}");
    }
    // Ordered to stop, it takes them along.
    let after: Vec<i64> = DAEMONS.iter().map(|name| pid(&service(&sandbox, &token, name))).collect();
    let (status, _) = sandbox.terminate();
    assert!(status.success(), "{status}");
    assert!(!after.iter().any(|pid| is_alive(*pid)), "{after:?}");
}

#[test]
fn every_daemon_killed_twenty_times_is_back_and_counted_while_the_api_answers() {
    const ROUNDS: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let (sandbox, token) = start(dir.path());
    let done = AtomicBool::new(false);
    let (sandbox, token, done) = (&sandbox, &token, &done);
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let mut wire = Wire::connect(sandbox.address);
            let credential = format!("Authorization: Bearer {token}");
            let (mut calls, mut longest) = (0_u32, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = wire.request("GET", "/api/v1/status", &[&credential], b"");
                assert_eq!(answer.status, 200);
                longest = longest.max(begun.elapsed());
                calls += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (calls, longest)
        });
        let killers: Vec<_> = DAEMONS
            .iter()
            .map(|name| {
                scope.spawn(move || {
                    let mut old = pid(&running(sandbox, token, name, None));
                    let mut longest = Duration::ZERO;
                    let mut counted = 0;
                    for _ in 0..ROUNDS {
                        kill(Pid::from_raw(old as i32), Signal::SIGKILL).unwrap();
                        let begun = Instant::now();
                        let known = running(sandbox, token, name, Some(old));
                        longest = longest.max(begun.elapsed());
                        // On a host so busy that a daemon misses its probes, it is started anew without us, too.
                        let restarts = known["restarts"].as_u64().unwrap();
                        assert!(restarts > counted, "{counted} before: {known}");
                        counted = restarts;
                        assert_eq!(known["last_end"], "signal 9", "{known}");
                        old = pid(&known);
                    }
                    (*name, longest)
                })
            })
            .collect();
        let killed: Vec<_> = killers.into_iter().map(|killer| killer.join()).collect();
        done.store(true, Ordering::Relaxed);
        for outcome in killed {
            let (name, longest) = outcome.unwrap();
            println!(
                "{name}: killed {ROUNDS} times, at most {} ms until it was up again",
                longest.as_millis()
            );
        }
        let (calls, longest) = watch.join().unwrap();
        println!("meanwhile {calls} calls of GET /status, at most {} ms", longest.as_millis());
        assert!(longest < Duration::from_secs(2), "the API was held up for {longest:?}");
    });
}
