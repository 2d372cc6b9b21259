//! Apply, start, stop, restart, and what is told of it.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use aifw::config::ServiceKind;
use serde_json::{Value, json};

use crate::rig::{Rig, eventually, free_port};

#[test]
fn b14_an_occupied_port_is_taken_back() {
    smol::block_on(async {
        let rig = Rig::running().await;
        rig.host("www", "lan.test", "A", "192.168.1.7").await;
        rig.applied().await;
        let occupied = free_port();
        let _tcp = TcpListener::bind(("127.0.0.1", occupied)).unwrap();
        let _udp = UdpSocket::bind(("127.0.0.1", occupied)).unwrap();
        rig.ok("PUT", "/dns/resolver/config", json!({ "port": occupied })).await;
        let report = rig.apply().await;
        assert_eq!(report["rolled_back"], true, "{report}");
        assert_eq!((&report["backend"], &report["previous"]), (&json!("rdns"), &json!("rdns")));
        assert_eq!(rig.dig(&["www.lan.test"]).await, ["192.168.1.7"]);
        let status = rig.get("/dns/resolver/status").await;
        let result = status["last_switch_result"].as_str().unwrap();
        assert!(
            result.starts_with("rolled_back: rdns did not come up: ")
                && result.contains(&occupied.to_string()),
            "{result}"
        );
        assert_eq!((&status["running"], &status["listening_udp"]), (&json!(true), &json!(true)));
        assert!(rig.pending());
        rig.end().await;
    });
}

#[test]
fn another_server_on_the_port_is_not_taken_for_ours() {
    smol::block_on(async {
        let other = Rig::running().await;
        let rig = Rig::new();
        let settings = json!({ "enabled": true, "port": other.port, "listen_interfaces": ["127.0.0.1"],
            "dnssec": false, "forwarding_servers": [] });
        rig.ok("PUT", "/dns/resolver/config", settings).await;
        let report = rig.apply().await;
        let message = report["message"].as_str().unwrap();
        assert!(message.starts_with("failed: rdns did not come up: "), "{report}");
        assert_eq!((&report["backend"], &report["probe_udp"]), (&json!("none"), &json!(false)));
        assert!(rig.pending());
        rig.end().await;
        assert_eq!(other.get("/dns/resolver/status").await["listening_udp"], true);
        other.end().await;
    });
}

#[test]
fn b15_stopped_and_started_again() {
    smol::block_on(async {
        let rig = Rig::running().await;
        rig.host("www", "lan.test", "A", "192.168.1.7").await;
        rig.applied().await;
        let stopped = rig.ok("POST", "/dns/resolver/stop", Value::Null).await;
        assert_eq!(
            (&stopped["message"], &stopped["backend"]),
            (&json!("DNS resolver stopped"), &json!("none"))
        );
        assert_eq!((&stopped["enabled"], &stopped["previous"]), (&json!(false), &json!("rdns")));
        // Not to be started with the appliance; what the administrator has set stays.
        assert!(!rig.app.store.snapshot().applied.dns_resolver.enabled);
        assert_eq!(rig.get("/dns/resolver/config").await["enabled"], true);
        let status = rig.get("/dns/resolver/status").await;
        assert_eq!((&status["running"], &status["backend"]), (&json!(false), &json!("none")));
        assert_eq!(status["last_switch_result"], "ok_disabled");
        assert!(status["last_switch_at"].is_string());
        let started = rig.ok("POST", "/dns/resolver/start", Value::Null).await;
        assert_eq!((&started["backend"], &started["probe_tcp"]), (&json!("rdns"), &json!(true)));
        assert_eq!(rig.dig(&["www.lan.test"]).await, ["192.168.1.7"]);
        let pid = rig.pid();
        rig.applied().await;
        assert_eq!(rig.pid(), pid, "an apply that changes nothing restarts nothing");
        rig.ok("POST", "/dns/resolver/restart", Value::Null).await;
        assert_ne!(rig.pid(), pid);
        let status = rig.get("/dns/resolver/status").await;
        assert_eq!(
            (&status["version"], &status["last_switch_result"]),
            (&json!("rDNS 1.17.25"), &json!("ok"))
        );
        assert_eq!((&status["listening_udp"], &status["listening_tcp"]), (&json!(true), &json!(true)));
        assert_eq!(status["total_hosts"], 1);
        rig.end().await;
    });
}

#[test]
fn what_the_daemon_refuses_touches_nothing() {
    smol::block_on(async {
        let rig = Rig::running().await;
        let pid = rig.pid();
        // Passes our check: only the daemon knows that this is no address.
        let custom = json!({ "custom_options": "[metrics]\naddress = \"nowhere\"" });
        rig.ok("PUT", "/dns/resolver/config", custom).await;
        let report = rig.apply().await;
        let message = report["message"].as_str().unwrap();
        assert!(message.starts_with("failed: ") && message.contains("Failed to parse config"), "{message}");
        assert_eq!((&report["backend"], &report["probe_udp"]), (&json!("rdns"), &json!(true)));
        let tried = rig.ok("POST", "/dns/resolver/apply?dry_run=true", Value::Null).await;
        assert!(tried["message"].as_str().unwrap().starts_with("refused: "), "{tried}");
        assert_eq!(rig.pid(), pid);
        assert!(rig.pending());
        rig.ok("PUT", "/dns/resolver/config", json!({ "custom_options": "[cache]\nmax_entries = 5000" }))
            .await;
        rig.applied().await;
        assert_eq!(rig.get("/dns/stats").await["cache"]["max_entries"], 5000);
        rig.end().await;
    });
}

#[test]
fn b16_a_daemon_that_is_down_is_told_and_keeps_nobody() {
    smol::block_on(async {
        let rig = Rig::without_daemons();
        let (status, refused) = rig.send("GET", "/dns/stats", Value::Null).await;
        assert_eq!(status, 502);
        assert!(refused["error"].as_str().unwrap().starts_with("rdns control: "), "{refused}");
        let shown = rig.get("/dns/resolver/status").await;
        assert_eq!(
            (&shown["running"], &shown["version"], &shown["cache_hits"]),
            (&json!(false), &json!("rDNS"), &json!(0))
        );
        assert_eq!((&shown["backend"], &shown["last_switch_at"]), (&json!("rdns"), &Value::Null));
        let begun = Instant::now();
        let (code, headers, mut events) = rig.client.get("/dns/stream").stream().await;
        assert_eq!((code, headers["content-type"].as_str()), (200, "text/event-stream"));
        let error = events.next(Duration::from_secs(2)).await.unwrap();
        assert_eq!(error["type"], "error");
        assert!(error["error"].is_string());
        assert_eq!(events.next(Duration::from_secs(10)).await, None);
        let held = begun.elapsed();
        assert!((Duration::from_millis(4500)..Duration::from_secs(7)).contains(&held), "{held:?}");
        rig.ok("PUT", "/dns/resolver/config", json!({ "enabled": true })).await;
        let report = rig.apply().await;
        assert_eq!(report["message"], "failed: rDNS is not installed");
        assert_eq!(report["backend"], "none");
    });
}

#[test]
fn b19_the_log_is_searched_newest_first_and_plain() {
    smol::block_on(async {
        let rig = Rig::running_with(json!({ "log_queries": true })).await;
        for name in ["one.nxd.test", "two.nxd.test"] {
            rig.host("x", name, "A", "10.0.0.1").await;
        }
        rig.applied().await;
        for name in ["x.one.nxd.test", "x.two.nxd.test"] {
            rig.dig(&[name]).await;
        }
        let path = "/dns/resolver/logs?lines=5&search=NXD";
        let told = eventually(Duration::from_secs(3), async || {
            rig.get(path).await["data"].to_string().contains("two.nxd")
        })
        .await;
        let log = rig.get(path).await;
        assert!(told, "{log}");
        let lines: Vec<&str> =
            log["data"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert!(!lines.is_empty() && lines.len() <= 5);
        assert!(
            lines.iter().all(|line| line.to_lowercase().contains("nxd") && !line.contains('\u{1b}')),
            "{lines:?}"
        );
        assert!(lines[0].contains("two"), "{lines:?}");
        assert_eq!(rig.send("GET", "/dns/resolver/logs?lines=x", Value::Null).await.0, 400);
        rig.end().await;
    });
}

/// The supervisor's own back-off; the restart is seen by its count and by an answer.
fn killed(times: u64) {
    smol::block_on(async {
        let rig = Rig::running().await;
        rig.host("www", "lan.test", "A", "192.168.1.7").await;
        rig.applied().await;
        let runner = rig.app.services.runner(ServiceKind::Dns).clone();
        let before = runner.status().restarts;
        let mut longest = Duration::ZERO;
        for kill in 1..=times {
            let pid = rig.pid();
            let killed = Instant::now();
            runner.supervisor().signal("rdns", nix::sys::signal::Signal::SIGKILL).unwrap();
            let back = runner.supervisor().wait_for("rdns", move |status| {
                status.restarts == before + kill && status.state == aifw::supervisor::State::Running
            });
            let late = async {
                smol::Timer::after(Duration::from_secs(20)).await;
                panic!("kill {kill}: not back within 20 s");
            };
            let status = smol::future::or(async { back.await.unwrap() }, late).await;
            longest = longest.max(killed.elapsed());
            assert_ne!(status.pid, Some(pid));
            assert_eq!(rig.dig(&["www.lan.test"]).await, ["192.168.1.7"], "kill {kill}");
            // The API has not waited for any of it.
            assert_eq!(rig.get("/dns/resolver/status").await["running"], true);
        }
        assert_eq!(runner.status().restarts, before + times);
        println!(
            "rDNS killed {times} times: back each time, after {} ms at the longest",
            longest.as_millis()
        );
        rig.end().await;
    });
}

#[test]
fn killed_it_is_back_within_its_back_off_and_counted() {
    killed(20);
}
