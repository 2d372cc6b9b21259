//! A live capture: the engine listens on a virtual Ethernet interface in a network namespace, real packets come from
//! another.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine::DNS;
use crate::link_rig::{Appliance, Namespace};
use crate::process::text;

/// Serves the files of a directory.
struct Server(Child);

impl Server {
    fn start(namespace: &Namespace, directory: &Path) -> Self {
        let mut command = namespace.command("busybox");
        command.args(["httpd", "-f", "-p", "192.168.1.50:80", "-h"]).arg(directory);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_packet_on_a_real_link_raises_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (Namespace::new(), Namespace::new());
    inside.run("ip link set lo up");
    inside.run("ip link add em1 type veth peer name c0");
    inside.run(&format!("ip link set c0 netns {}", outside.pid()));
    inside.run("ip addr add 192.168.1.1/24 dev em1");
    inside.run("ip link set em1 up");
    outside.run("ip addr add 192.168.1.50/24 dev c0");
    outside.run("ip link set c0 up");
    let appliance = Appliance::start(&inside, dir.path(), false);
    // The rules are served at the far end of the link.
    let www = dir.path().join("www");
    std::fs::create_dir(&www).unwrap();
    std::fs::write(www.join("test.rules"), format!("{DNS}\n")).unwrap();
    let _server = Server::start(&outside, &www);
    let url = "http://192.168.1.50/test.rules";
    let begun = Instant::now();
    while !inside.command("busybox").args(["wget", "-q", "-O", "-", url]).output().unwrap().status.success() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the rules are not served");
    }
    let ruleset = json!({ "name": "own", "rule_format": "suricata", "source_url": url, "enabled": false });
    let ruleset = appliance.call("POST", "/ids/rulesets", ruleset);
    let path = format!("/ids/rulesets/{}", text(&ruleset["data"]["id"]));
    let enabled = appliance.call("PUT", &path, json!({ "enabled": true }));
    assert_eq!(enabled["data"]["rule_count"], 1, "{enabled}");
    appliance.call("PUT", "/ids/config", json!({ "mode": "ids" }));
    appliance.until("running", "/ids/stats", |stats| stats["data"]["loaded_rules"] == 1);

    // A query; nobody answers it.
    let mut query = outside.command("busybox");
    query.args(["timeout", "3", "busybox", "nslookup", "example.com", "192.168.1.1"]).output().unwrap();
    let alerts = appliance.until("an alert", "/ids/alerts", |alerts| alerts["total"].as_u64() > Some(0));
    let alert = &alerts["data"][0];
    assert_eq!(
        (&alert["src_ip"], &alert["dst_ip"], &alert["dst_port"], &alert["signature_id"]),
        (&json!("192.168.1.50"), &json!("192.168.1.1"), &json!(53), &json!(1_000_002))
    );
    assert_eq!(alert["metadata"]["in_iface"], "em1", "{alert}");
    let stats = appliance.call("GET", "/ids/stats", Value::Null);
    assert_eq!(stats["data"]["running"], true);
}
