//! The engine at work in a sandbox: packets of a capture, rules of ours, alerts of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Sandbox, text};

/// Serves rules over HTTP: what `text` holds at the time.
fn serve(text: Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/test.rules", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = text.lock().unwrap().clone();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok();
        }
    });
    url
}

pub struct Rig {
    pub sandbox: Sandbox,
    pub token: String,
    rules: Arc<Mutex<String>>,
    pub ruleset: String,
    pub dir: tempfile::TempDir,
}

// With a content, so that each packet counts; without one a rule is asked once a flow.
pub const NTP: &str =
    "alert udp any any -> any 123 (msg:\"NTP seen\"; content:\"|00 00|\"; priority:2; sid:1000001; rev:1;)";
pub const DNS: &str =
    "alert udp any any -> any 53 (msg:\"DNS seen\"; content:\"|00 01|\"; priority:3; sid:1000002; rev:1;)";

impl Rig {
    fn new(rules: &str) -> Self {
        Self::start(rules, &["--speed", "0", "--replay", capture().to_str().unwrap()])
    }
    /// The engine sees what it is fed by the test, and nothing else.
    pub fn without_traffic(rules: &str) -> Self {
        Self::start(rules, &[])
    }
    fn start(rules: &str, options: &[&str]) -> Self {
        assert!(
            Path::new("/usr/bin/suricata").exists() || which("suricata"),
            "Suricata 7 is missing: see tests/run"
        );
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(&dir.path().join("s"), options);
        let token = text(&sandbox.admin()["access_token"]).to_owned();
        let rules = Arc::new(Mutex::new(rules.to_owned()));
        let ruleset = json!({ "name": "own", "rule_format": "suricata", "source_url": serve(rules.clone()),
            "enabled": false });
        let ruleset = text(&sandbox.post("/ids/rulesets", &token, ruleset)["data"]["id"]).to_owned();
        Self { sandbox, token, rules, ruleset, dir }
    }
    pub fn get(&self, path: &str) -> Value {
        self.sandbox.get(&format!("/ids{path}"), &self.token)
    }
    pub fn put(&self, path: &str, body: Value) -> Value {
        let answer = self.sandbox.call("PUT", &format!("/ids{path}"), &self.token, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
    pub fn until(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if holds(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    /// The packets of the capture again.
    pub fn feed(&self, number: u64) {
        let directory = self.dir.path().join("s/services/suricata/data/captures");
        aifw::services::ids::captures::feed(&capture(), &directory, 1000 + number).unwrap();
    }
    /// How many alerts there are once the engine has read all that it was fed, and we what it wrote.
    pub fn settled(&self) -> u64 {
        let directory = self.dir.path().join("s/services/suricata/data/captures");
        let log = self.dir.path().join("s/services/suricata/log/eve.json");
        let begun = Instant::now();
        loop {
            let left = std::fs::read_dir(&directory).unwrap().count();
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let written = log.lines().filter(|line| line.contains("\"event_type\":\"alert\"")).count() as u64;
            let total = self.get("/alerts")["total"].as_u64().unwrap();
            if left == 0 && written > 0 && total == written {
                return total;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{left} files, {written} written, {total} known"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    pub fn engine(&self) -> Value {
        let all = self.sandbox.get("/services", &self.token)["services"].clone();
        all.as_array().unwrap().iter().find(|service| service["name"] == "suricata").unwrap().clone()
    }
}

fn capture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures/office.pcap")
}

fn which(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[test]
fn b09_to_b14_an_alert_of_a_replayed_capture_is_seen_judged_and_suppressed() {
    let rig = Rig::new(&format!("{NTP}\n{DNS}\n"));
    // Enabled, its rules are fetched while the caller waits.
    let enabled = rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "enabled": true }));
    assert_eq!((&enabled["data"]["rule_count"], &enabled["data"]["last_error"]), (&json!(2), &Value::Null));
    let config = rig.put("/config", json!({ "mode": "ids" }));
    assert_eq!(config["data"]["mode"], "ids");
    let stats = rig.until("running", "/stats", |stats| {
        stats["data"]["running"] == true && stats["data"]["loaded_rules"] == 2
    });
    assert_eq!(stats["data"]["engine_version"].as_str().map(|version| &version[..1]), Some("7"));

    let alerts =
        rig.until("an alert", "/alerts?signature_id=1000001", |alerts| alerts["total"].as_u64() > Some(0));
    let alert = &alerts["data"][0];
    assert_eq!(
        (
            &alert["severity"],
            &alert["protocol"],
            &alert["dst_port"],
            &alert["action"],
            &alert["classification"]
        ),
        (&json!(2), &json!("udp"), &json!(123), &json!("alert"), &json!("unreviewed"))
    );
    assert_eq!((&alert["signature_msg"], &alert["rule_source"]), (&json!("NTP seen"), &json!("custom")));
    let age = aifw::config::Timestamp::now().as_second()
        - alert["timestamp"].as_str().unwrap().parse::<aifw::config::Timestamp>().unwrap().as_second();
    assert!(age < 120, "the capture's packets are of now: {alert}");
    let detail = rig.get(&format!("/alerts/{}", text(&alert["id"])));
    assert_eq!(detail["data"]["event"]["event_type"], "alert");
    assert!(detail["data"]["payload"].is_string());
    // Filters, judgement.
    assert_eq!(rig.get("/alerts?severity=1")["total"], 0);
    assert!(rig.get("/alerts?severity=3&limit=1")["total"].as_u64() > Some(0));
    let one = format!("/alerts/{}", text(&alert["id"]));
    assert_eq!(rig.put(&format!("{one}/acknowledge"), Value::Null)["message"], "alert acknowledged");
    assert_eq!(rig.get("/alerts?acknowledged=true")["total"], 1);
    let judged =
        rig.put(&format!("{one}/classify"), json!({ "classification": "true_positive", "notes": "ours" }));
    assert_eq!(judged["message"], "alert classified as confirmed");
    let reviewed = rig.get("/alerts?classification=reviewed");
    assert_eq!((&reviewed["total"], &reviewed["data"][0]["analyst_notes"]), (&json!(1), &json!("ours")));
    // The rule has counted.
    let rule = rig.get("/rules/1000001");
    assert!(rule["data"]["hit_count"].as_u64() > Some(0) && rule["data"]["last_hit"].is_string(), "{rule}");
    assert_eq!(rig.get("/rules?search=dns")["total"], 1);

    // Suppressed, it is silent; the other one is not.
    let row = json!({ "sid": 1000001, "suppress_type": "both", "ip_cidr": "192.168.0.0/16" });
    let row = rig.sandbox.post("/ids/suppressions", &rig.token, row)["data"].clone();
    let count = |sid: u32| rig.get(&format!("/alerts?signature_id={sid}"))["total"].as_u64().unwrap();
    let (ntp, dns) = (count(1_000_001), count(1_000_002));
    let thresholds = rig.dir.path().join("s/services/suricata/etc/threshold.config");
    let begun = Instant::now();
    while !std::fs::read_to_string(&thresholds).unwrap_or_default().contains("sig_id 1000001") {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = rig.engine()["pid"].clone();
    assert_eq!(
        std::fs::read_to_string(&thresholds).unwrap(),
        "suppress gen_id 1, sig_id 1000001, track by_either, ip 192.168.0.0/16\n"
    );
    rig.feed(1);
    rig.until("more DNS", "/alerts?signature_id=1000002", |alerts| alerts["total"].as_u64() > Some(dns));
    assert_eq!(count(1_000_001), ntp);
    assert_eq!(rig.engine()["pid"], pid, "a reload, no restart");
    let gone = rig.sandbox.call(
        "DELETE",
        &format!("/ids/suppressions/{}", text(&row["id"])),
        &rig.token,
        Value::Null,
    );
    assert_eq!(gone.status, 200);

    // Decided otherwise: the file for the engine says so; one bad rule does not stop the others.
    rig.put("/rules/1000002", json!({ "action_override": "drop" }));
    *rig.rules.lock().unwrap() =
        format!("{NTP}\n{DNS}\nalert nonsense any any -> any any (msg:\"bad\"; sid:1000003;)\n");
    let file = rig.dir.path().join("s/services/suricata/etc/rules/aifw.rules");
    let begun = Instant::now();
    while !std::fs::read_to_string(&file).unwrap_or_default().contains("drop udp any any -> any 53") {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Moved to itself with a query, it is fetched again.
    let url =
        text(
            &rig.get("/rulesets")["data"]
                .as_array()
                .unwrap()
                .iter()
                .find(|set| set["name"] == "own")
                .unwrap()["source_url"],
        )
        .to_owned();
    let moved =
        rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "source_url": format!("{url}?again") }));
    assert_eq!(moved["data"]["rule_count"], 3);
    let reloaded = rig.sandbox.post("/ids/reload", &rig.token, Value::Null);
    assert_eq!((&reloaded["rules_loaded"], &reloaded["rules_failed"]), (&json!(2), &json!(1)), "{reloaded}");
    assert_eq!(rig.get("/rules/1000002")["data"]["action_override"], "drop");

    // Killed, it is back, and what was read is not read twice.
    let before = rig.get("/alerts")["total"].clone();
    let pid = rig.engine()["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let begun = Instant::now();
    while rig.engine()["state"] != "running" || rig.engine()["pid"].as_i64() == Some(pid) {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("killed, the engine was back after {} ms", begun.elapsed().as_millis());
    assert_eq!(rig.engine()["restarts"], 1);
    assert!(rig.get("/alerts")["total"].as_u64() >= before.as_u64());
    rig.put("/config", json!({ "mode": "disabled" }));
    assert_eq!(rig.engine()["state"], "stopped");
    assert_eq!(rig.get("/stats")["data"]["running"], false);
}

#[test]
fn b15_prevention_blocks_the_source_for_a_time() {
    let rig = Rig::new(
        "drop udp any any -> any any (msg:\"scanner\"; content:\"|00|\"; priority:1; sid:1000009; rev:1;)\n",
    );
    rig.put(&format!("/rulesets/{}", rig.ruleset), json!({ "enabled": true }));
    // Home is elsewhere, so that the capture's clients may be blocked.
    rig.put("/config", json!({ "mode": "ips", "home_net": ["10.99.0.0/16"], "ips_block_secs": 600 }));
    let alerts = rig.until("a drop", "/alerts", |alerts| {
        alerts["data"].as_array().unwrap().iter().any(|alert| alert["action"] == "drop")
    });
    let source =
        alerts["data"].as_array().unwrap().iter().find(|alert| alert["action"] == "drop").unwrap()["src_ip"]
            .clone();
    let stats = rig.until("blocked", "/stats", |stats| stats["data"]["blocked_sources"].as_u64() > Some(0));
    assert!(stats["data"]["stats"]["drops_total"].as_u64() > Some(0), "{stats}");
    println!("blocked: {source}");
    let rules = rig.sandbox.get("/rules/system", &rig.token);
    assert!(rules.to_string().contains("ids-block"), "pf has the lines");
    rig.put("/config", json!({ "mode": "disabled" }));
    assert_eq!(rig.get("/stats")["data"]["blocked_sources"], 0);
}
