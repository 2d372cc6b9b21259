//! What goes wrong, with the real daemon; and one rTIME behind another.

use std::time::{Duration, Instant};

use aifw::compile::services::Places;
use aifw::config::ServiceKind;
use aifw::supervisor::State;
use serde_json::{Value, json};
use smol::block_on;

use crate::daemon::until;
use crate::rig::{Rig, ask, stand_in_server};

#[test]
fn b15_one_rtime_follows_another() {
    let (first, second) = (Rig::new(), Rig::new());
    block_on(async {
        let served = first.on_free_ports().await;
        let source = |address: String| json!({ "address": address, "min_poll": 1, "max_poll": 1 });
        first.ok("POST", "/time/sources", source(stand_in_server().to_string())).await;
        first.ok("POST", "/time/apply", Value::Null).await;
        until(&first, "the first follows the stand-in", |status| status["synchronized"] == true).await;
        second.on_free_ports().await;
        second.ok("POST", "/time/sources", source(served.to_string())).await;
        second.ok("POST", "/time/apply", Value::Null).await;
        let status =
            until(&second, "the second follows the first", |status| status["synchronized"] == true).await;
        assert_eq!(status["stratum"], 4, "stand-in 2, first 3: {status}");
        assert_eq!(status["sources"][0]["selected"], true);
        assert_eq!(status["sources"][0]["stratum"], 3);
        second.end().await;
        first.end().await;
    });
}

#[test]
fn killed_twenty_times_it_is_back_and_counted_while_the_api_answers() {
    const ROUNDS: u64 = 20;
    let rig = Rig::new();
    block_on(async {
        let served = rig.on_free_ports().await;
        rig.ok("PUT", "/time/config", json!({ "ntp_rate_limit": 100_000, "ntp_rate_burst": 100_000 })).await;
        rig.ok("POST", "/time/apply", Value::Null).await;
        let runner = rig.app.services.runner(ServiceKind::Time).clone();
        let (mut back, mut gaps, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
        for round in 1..=ROUNDS {
            let old = runner.status().pid.unwrap();
            while ask(served, Duration::from_millis(100)).is_none() {}
            let begun = Instant::now();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(old as i32), nix::sys::signal::Signal::SIGKILL)
                .unwrap();
            // Answered all the while.
            let asked = Instant::now();
            rig.get("/time/status").await;
            slowest = slowest.max(asked.elapsed());
            let known = rig
                .app
                .services
                .supervisor()
                .wait_for("rtime", |status| status.state == State::Running && status.pid != Some(old));
            let known = known.await.unwrap();
            back.push(begun.elapsed().as_millis());
            while ask(served, Duration::from_millis(100)).is_none() {}
            gaps.push(begun.elapsed().as_millis());
            assert_eq!(known.restarts, round);
            assert_eq!(known.last_end.as_deref(), Some("signal 9"));
        }
        println!("killed {ROUNDS} times: ready again after {back:?} ms, first NTP answer after {gaps:?} ms");
        println!("the slowest answer of /time/status meanwhile took {} ms", slowest.as_millis());
        assert!(back.iter().all(|taken| *taken < 30_000));
        assert!(slowest < Duration::from_secs(5));
        rig.end().await;
    });
}

#[test]
fn what_the_daemon_refuses_leaves_the_running_one_in_place() {
    let rig = Rig::new();
    block_on(async {
        rig.on_free_ports().await;
        rig.ok("POST", "/time/apply", Value::Null).await;
        let (runner, file) = (rig.app.services.runner(ServiceKind::Time).clone(), rig.file());
        let old = runner.status().pid;
        // Past the checks of the API, as an import would bring it.
        let mut config = rig.app.store.snapshot().config.clone();
        std::sync::Arc::make_mut(&mut config.time).ntp_rate_limit = -1.0;
        let refused = rig.app.applier.rehearse_service(ServiceKind::Time, &config).await.unwrap_err();
        assert!(refused.to_string().starts_with("ntp_rate_limit"), "{refused}");
        assert!(runner.apply(&config, aifw::services::How::Change).await.is_err());
        assert_eq!((rig.file(), runner.status().pid), (file, old));
        // In the daemon's own words.
        let dir = tempfile::tempdir().unwrap();
        let below = |name: &str| dir.path().join(name);
        let places =
            Places { config: below("etc"), run: below("run"), data: below("data"), log: below("log") };
        [&places.config, &places.data].into_iter().for_each(|place| std::fs::create_dir(place).unwrap());
        let said = aifw::services::rtime::dry_start(
            &runner.program(),
            "[clock]\nstep_threshold_ms = \"far\"\n",
            &places,
        );
        let said = said.unwrap_err().to_string();
        assert!(said.contains("invalid type: string \"far\""), "{said}");
        assert!(aifw::services::rtime::dry_start(&runner.program(), "", &places).is_ok());
        rig.end().await;
    });
}

#[test]
fn a_port_that_somebody_else_holds_is_told() {
    let rig = Rig::new();
    block_on(async {
        rig.on_free_ports().await;
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held = holder.local_addr().unwrap().to_string();
        rig.ok("PUT", "/time/config", json!({ "management_listen": held })).await;
        let (status, refused) = rig.send("POST", "/time/apply", Value::Null).await;
        assert_eq!(status, 500, "{refused}");
        assert!(refused["error"].as_str().unwrap().contains(&held), "{refused}");
        assert_eq!(rig.get("/time/status").await["running"], false);
        rig.end().await;
    });
}
