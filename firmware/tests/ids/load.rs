//! The engine with as many rules as a large ruleset has, killed again and again, and what it tells to others.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::engine::{NTP, Rig};
use crate::process::text;
use crate::wire::Wire;

fn rules(count: u32) -> String {
    let rule = |n: u32| {
        let port = [25, 53, 80, 443, 8080][n as usize % 5];
        let sid = 1_000_000 + n;
        format!(
            "alert tcp any any -> any {port} (msg:\"n {n}\"; content:\"needle{n:05}\"; sid:{sid}; rev:1;)\n"
        )
    };
    (0..count).map(rule).collect()
}

/// A call whose answer waits for the engine to load all its rules.
fn patiently(rig: &Rig, method: &str, path: &str, body: &str) -> Value {
    let mut wire = Wire::connect(rig.sandbox.address);
    wire.stream.set_read_timeout(Some(Duration::from_secs(200))).unwrap();
    let credential = format!("Authorization: Bearer {}", rig.token);
    let answer = wire.request(method, &format!("/api/v1{path}"), &[&credential], body.as_bytes());
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Set when it is dropped, also by a failure.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn thirty_thousand_rules_are_loaded_and_reloaded_and_the_api_answers_meanwhile() {
    let rig = Rig::without_traffic(&rules(30_000));
    rig.put("/config", json!({ "mode": "ids" }));
    let done = AtomicBool::new(false);
    let done = &done;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                rig.sandbox.get("/status", &rig.token);
                rig.get("/config");
                slowest = slowest.max(asked.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            slowest
        });
        let ended = Ended(done);
        let begun = Instant::now();
        let enabled = rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "enabled": true }));
        assert_eq!(enabled["data"]["rule_count"], 30_000);
        let first = begun.elapsed();
        let begun = Instant::now();
        let pid = rig.engine()["pid"].clone();
        let reloaded = patiently(&rig, "POST", "/ids/reload", "");
        let second = begun.elapsed();
        drop(ended);
        assert_eq!((&reloaded["rules_loaded"], &reloaded["rules_failed"]), (&json!(30_000), &json!(0)));
        assert_eq!(rig.engine()["pid"], pid, "a reload, no restart");
        let slowest = asking.join().unwrap();
        println!(
            "30,000 rules: fetched and parsed in {first:?}; in force, and loaded once more, after {second:?}; slowest answer {slowest:?}"
        );
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
    // Started anew with them.
    let begun = Instant::now();
    rig.put("/config", json!({ "mode": "disabled" }));
    patiently(&rig, "PUT", "/ids/config", "{\"mode\":\"ids\"}");
    rig.until("running", "/stats", |stats| stats["data"]["loaded_rules"] == 30_000);
    println!("30,000 rules: stopped and started in {:?}", begun.elapsed());
}

#[test]
fn killed_twenty_times_it_is_back_counted_and_no_alert_is_doubled() {
    let rig = Rig::without_traffic(&format!("{NTP}\n"));
    rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "enabled": true }));
    rig.put("/config", json!({ "mode": "ids" }));
    rig.feed(1);
    let once = rig.settled();
    assert!(once > 0);
    let mut slowest = Duration::ZERO;
    for number in 1..=20 {
        let pid = rig.engine()["pid"].as_i64().unwrap();
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        let begun = Instant::now();
        loop {
            let engine = rig.engine();
            if engine["state"] == "running" && engine["pid"].as_i64() != Some(pid) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{number}: {engine}");
            std::thread::sleep(Duration::from_millis(20));
        }
        slowest = slowest.max(begun.elapsed());
    }
    println!("killed 20 times: back within {slowest:?} at the slowest, readiness included");
    assert_eq!(rig.engine()["restarts"], 20);
    assert_eq!(rig.get("/alerts")["total"], once);
    rig.feed(2);
    let twice = rig.until("again", "/alerts", |alerts| alerts["total"].as_u64() >= Some(2 * once));
    assert_eq!(twice["total"], 2 * once);
}

#[test]
fn a_log_that_has_grown_large_is_moved_aside_and_no_alert_is_lost_or_doubled() {
    let rig = Rig::without_traffic(&format!("{NTP}\n"));
    rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "enabled": true }));
    rig.put("/config", json!({ "mode": "ids" }));
    rig.feed(1);
    let once = rig.settled();
    let log = rig.dir.path().join("s/services/suricata/log");
    // As if the engine had written so much: the product moves the file from 64 MiB on.
    let mut file = std::fs::OpenOptions::new().append(true).open(log.join("eve.json")).unwrap();
    let line = format!("{{\"event_type\":\"stats\",\"filler\":\"{}\"}}\n", "x".repeat(1 << 20));
    for _ in 0..65 {
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    }
    let begun = Instant::now();
    while !log.join("eve.json.1").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not moved");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = rig.engine()["pid"].clone();
    rig.feed(2);
    rig.until("again", "/alerts", |alerts| alerts["total"].as_u64() >= Some(2 * once));
    // The second look's alerts lie in the new file.
    let written = std::fs::read_to_string(log.join("eve.json")).unwrap();
    assert!(written.contains("\"event_type\":\"alert\""), "{}", written.len());
    assert_eq!(rig.get("/alerts")["total"], 2 * once);
    assert_eq!(rig.engine()["pid"], pid, "no restart");
}

#[test]
fn an_alert_goes_to_the_websocket_and_to_a_syslog_server() {
    let rig = Rig::without_traffic(&format!("{NTP}\n"));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "enabled": true }));
    let target = server.local_addr().unwrap().to_string();
    rig.put("/config", json!({ "mode": "ids", "syslog_target": target }));
    rig.feed(1);
    let mut bytes = [0; 2048];
    let length = server.recv(&mut bytes).unwrap();
    let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
    // Facility 4, severity of a rule of priority 2.
    assert!(message.starts_with("<34>1 "), "{message}");
    assert!(message.contains(" aifw - ids - [1000001] NTP seen udp "), "{message}");

    let mut wire = Wire::connect(rig.sandbox.address);
    wire.send(format!(
        "GET /api/v1/ws HTTP/1.1\r\nHost: aifw\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        rig.token
    ));
    // Frames of a server are not masked: their text is there to be read.
    let begun = Instant::now();
    let mut seen = Vec::new();
    let mut part = [0; 65_536];
    let sent = |seen: &[u8]| {
        let text = String::from_utf8_lossy(seen);
        let at = text.find("\"recent_alerts\":[{")?;
        let end = text[at..].find(']')?;
        serde_json::from_str::<Value>(&text[at + "\"recent_alerts\":".len()..=at + end]).ok()
    };
    let alerts = loop {
        let length = std::io::Read::read(&mut wire.stream, &mut part).unwrap();
        assert!(
            length > 0 && begun.elapsed() < Duration::from_secs(30),
            "{}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&part[..length]);
        if let Some(alerts) = sent(&seen) {
            break alerts;
        }
    };
    let newest = rig.get("/alerts?limit=1")["data"][0].clone();
    assert_eq!(
        (text(&alerts[0]["signature_msg"]), &alerts[0]["dst_ip"], &alerts[0]["severity"]),
        ("NTP seen", &newest["dst_ip"], &json!(2))
    );
}
