//! The supervisor with real processes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smol::block_on;

use super::*;

fn sh(name: &str, script: &str) -> ServiceSpec {
    let quick = Backoff {
        first: Duration::from_millis(5),
        longest: Duration::from_millis(20),
        longest_of_ready: Duration::from_millis(20),
        ..Backoff::default()
    };
    ServiceSpec { backoff: quick, grace: Duration::from_millis(300), ..ServiceSpec::new(name, "/bin/sh") }
        .arg("-c")
        .arg(script)
}

fn pid_of(status: &Status) -> Pid {
    Pid::from_raw(status.pid.unwrap() as i32)
}

/// Waits until a child has said so many lines: it counts as started before its program has begun.
async fn said(supervisor: &Supervisor, name: &str, lines: usize) {
    while supervisor.log(name, lines).unwrap().len() < lines {
        async_io::Timer::after(Duration::from_millis(5)).await;
    }
}

fn exists(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[test]
fn a_child_is_started_watched_and_stopped() {
    block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(sh("one", "echo hello; echo trouble >&2; exec sleep 1000"));
        assert_eq!(supervisor.status("one").unwrap().state, State::Stopped);
        supervisor.start("one").await.unwrap();
        let status = supervisor.status("one").unwrap();
        assert_eq!((status.state, status.restarts), (State::Running, 0));
        let pid = pid_of(&status);
        assert!(exists(pid));
        said(&supervisor, "one", 2).await;
        supervisor.stop("one").await.unwrap();
        assert_eq!(supervisor.status("one").unwrap().state, State::Stopped);
        assert!(!exists(pid));
        let mut lines: Vec<String> = supervisor.log("one", 10).unwrap().into_iter().map(|l| l.line).collect();
        lines.sort();
        assert_eq!(lines, ["hello", "trouble"]);
    });
}

#[test]
fn a_killed_child_comes_back_every_time_and_is_counted() {
    block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(sh("phoenix", "exec sleep 1000"));
        supervisor.start("phoenix").await.unwrap();
        for round in 1..=20 {
            let pid = pid_of(&supervisor.status("phoenix").unwrap());
            kill(pid, Signal::SIGKILL).unwrap();
            let back = |status: &Status| status.state == State::Running && status.restarts == round;
            let status = supervisor.wait_for("phoenix", back).await.unwrap();
            assert_eq!(status.last_end.as_deref(), Some("signal 9"));
            assert_ne!(pid_of(&status), pid);
        }
        supervisor.shutdown().await;
        assert_eq!(supervisor.start("phoenix").await, Err(SupervisorError::ShuttingDown));
    });
}

#[test]
fn a_child_that_ends_at_once_is_left_alone_with_its_last_lines() {
    block_on(async {
        let supervisor = Supervisor::new();
        let mut spec = sh("broken", "echo no such file: x.conf; exit 3");
        spec.backoff.attempts = 3;
        // It must live for a moment to count as ready, so that its end is one of a start.
        spec.readiness = Arc::new(Listening("127.0.0.1:1".parse().unwrap()));
        supervisor.define(spec);
        let refused = supervisor.start("broken").await.unwrap_err();
        assert!(refused.to_string().contains("exit status 3"), "{refused}");
        let status = supervisor.wait_for("broken", |status| status.state == State::Failed).await.unwrap();
        assert_eq!(status.restarts, 2);
        assert!(status.last_lines.contains(&"no such file: x.conf".to_string()), "{status:?}");
    });
}

#[test]
fn one_that_has_failed_is_tried_again_and_can_be_started_at_once() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let cure = dir.path().join("cure");
        let supervisor = Supervisor::new();
        let script = format!("test -e {} && exec sleep 1000; exit 3", cure.display());
        let mut spec = sh("ill", &script);
        spec.backoff.attempts = 2;
        spec.backoff.retry_after = Some(Duration::from_millis(50));
        spec.readiness = Arc::new(Exists(cure.clone()));
        supervisor.define(spec.clone());
        supervisor.start("ill").await.unwrap_err();
        supervisor.wait_for("ill", |status| status.state == State::Failed).await.unwrap();
        supervisor.wait_for("ill", |status| status.restarts >= 3).await.unwrap();
        std::fs::write(&cure, "").unwrap();
        supervisor.wait_for("ill", |status| status.state == State::Running).await.unwrap();
        supervisor.stop("ill").await.unwrap();
        // With a long wait before it: a person need not wait.
        std::fs::remove_file(&cure).unwrap();
        spec.backoff.retry_after = Some(Duration::from_secs(3600));
        supervisor.define(spec);
        supervisor.start("ill").await.unwrap_err();
        supervisor.wait_for("ill", |status| status.state == State::Failed).await.unwrap();
        std::fs::write(&cure, "").unwrap();
        supervisor.start("ill").await.unwrap();
        supervisor.shutdown().await;
    });
}

#[test]
fn one_that_lives_but_no_longer_works_is_started_again() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let sign = dir.path().join("sign");
        let supervisor = Supervisor::new();
        let mut spec = sh("mute", &format!(": > {}; exec sleep 1000", sign.display()));
        spec.readiness = Arc::new(Exists(sign.clone()));
        let (every, within) = (Duration::from_millis(10), Duration::from_secs(5));
        spec.liveness = Some(Liveness { every, within, misses: 3 });
        supervisor.define(spec);
        supervisor.start("mute").await.unwrap();
        let before = supervisor.status("mute").unwrap();
        std::fs::remove_file(&sign).unwrap();
        let again = |status: &Status| status.state == State::Running && status.restarts == 1;
        let after = supervisor.wait_for("mute", again).await.unwrap();
        assert_ne!(after.pid, before.pid);
        assert_eq!(after.last_end.as_deref(), Some("no answer any more: not there"));
        assert!(!exists(pid_of(&before)));
        supervisor.shutdown().await;
    });
}

/// Ready once a file is there.
struct Exists(std::path::PathBuf);

impl spec::Probe for Exists {
    fn probe(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let there = self.0.exists();
        Box::pin(async move { if there { Ok(()) } else { Err("not there".into()) } })
    }
}

#[test]
fn a_child_that_ignores_term_is_killed_with_its_children() {
    block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(sh("stubborn", "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done"));
        supervisor.start("stubborn").await.unwrap();
        let grandchild = loop {
            if let Some(line) = supervisor.log("stubborn", 1).unwrap().pop() {
                break Pid::from_raw(line.line.parse().unwrap());
            }
            async_io::Timer::after(Duration::from_millis(5)).await;
        };
        let pid = pid_of(&supervisor.status("stubborn").unwrap());
        supervisor.stop("stubborn").await.unwrap();
        assert!(!exists(pid));
        // The grandchild is not ours to wait for; it is dead, or a zombie that its new parent has yet to reap.
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    });
}

#[test]
fn readiness_is_told_by_the_probe() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let supervisor = Supervisor::new();
        let mut late = sh("late", "exec sleep 1000");
        late.readiness = Arc::new(Listening(address));
        late.ready_within = Duration::from_secs(30);
        supervisor.define(late);
        let other = supervisor.clone();
        let start = smol::spawn(async move { other.start("late").await });
        supervisor
            .wait_for("late", |status| status.state == State::Starting && status.pid.is_some())
            .await
            .unwrap();
        let _listener = TcpListener::bind(address).unwrap();
        start.await.unwrap();
        assert_eq!(supervisor.status("late").unwrap().state, State::Running);
        let mut never = sh("never", "exec sleep 1000");
        never.readiness = Arc::new(SocketOpen("/nowhere".into()));
        never.ready_within = Duration::from_millis(50);
        supervisor.define(never);
        let refused = supervisor.start("never").await.unwrap_err();
        assert!(refused.to_string().contains("not ready"), "{refused}");
        supervisor.shutdown().await;
    });
}

#[test]
fn children_start_after_those_they_need_and_stop_before_them() {
    block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(sh("base", "exec sleep 1000"));
        supervisor.define(ServiceSpec { after: vec!["base".into()], ..sh("top", "exec sleep 1000") });
        let other = supervisor.clone();
        let top = smol::spawn(async move { other.start("top").await });
        supervisor.wait_for("top", |status| status.state == State::Starting).await.unwrap();
        assert_eq!(supervisor.status("top").unwrap().pid, None);
        supervisor.start("base").await.unwrap();
        top.await.unwrap();
        let (base, top) = (supervisor.status("base").unwrap(), supervisor.status("top").unwrap());
        assert!(top.since >= base.since);
        supervisor.shutdown().await;
        assert!(!exists(pid_of(&base)) && !exists(pid_of(&top)));
    });
}

#[test]
fn what_is_not_there_is_not_installed() {
    block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(ServiceSpec::new("ghost", "/nowhere/ghostd"));
        assert_eq!(supervisor.status("ghost").unwrap().state, State::NotInstalled);
        assert_eq!(supervisor.start("ghost").await, Err(SupervisorError::NotInstalled("ghost".into())));
        assert_eq!(supervisor.start("nobody").await, Err(SupervisorError::Unknown("nobody".into())));
    });
}

#[test]
fn a_child_that_is_done_stays_stopped_when_the_policy_says_so() {
    block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(ServiceSpec { restart: RestartPolicy::OnFailure, ..sh("once", "exit 0") });
        supervisor.start("once").await.ok();
        let done = |status: &Status| status.state == State::Stopped && status.last_end.is_some();
        let status = supervisor.wait_for("once", done).await.unwrap();
        assert_eq!(status.last_end.as_deref(), Some("exit status 0"));
    });
}

/// Not a test by itself: the supervising process of the next one, run by it.
#[test]
fn supervising_process() {
    if std::env::var_os("AIFW_TEST_SUPERVISE").is_none() {
        return;
    }
    block_on(async {
        become_reaper().unwrap();
        let supervisor = Supervisor::new();
        supervisor.define(sh("orphan", "exec sleep 1000"));
        supervisor.start("orphan").await.unwrap();
        println!("\nchild {}", supervisor.status("orphan").unwrap().pid.unwrap());
        future_of_nothing().await;
    });
}

async fn future_of_nothing() {
    smol::future::pending::<()>().await;
}

#[test]
fn no_child_outlives_a_killed_supervisor() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "supervisor::tests::supervising_process"])
        .env("AIFW_TEST_SUPERVISE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let child = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("child ").and_then(|pid| pid.parse().ok()))
        .expect("the supervising process tells its child's pid");
    let child = Pid::from_raw(child);
    assert!(exists(child));
    process.kill().unwrap();
    process.wait().unwrap();
    // The kernel's signal comes with the parent's death; the child's end is not ours to wait for.
    for _ in 0..500 {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if !exists(child) || stat.contains(") Z ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the child outlived its supervisor");
}

#[test]
fn limits_are_set_before_the_program_runs() {
    block_on(async {
        let supervisor = Supervisor::new();
        let mut spec = sh("limited", "ulimit -n; ulimit -c; exec sleep 1000");
        spec.limits = Limits { open_files: Some(64), ..Limits::default() };
        supervisor.define(spec);
        supervisor.start("limited").await.unwrap();
        said(&supervisor, "limited", 2).await;
        supervisor.shutdown().await;
        let lines: Vec<String> = supervisor.log("limited", 2).unwrap().into_iter().map(|l| l.line).collect();
        assert_eq!(lines, ["64", "0"]);
    });
}
