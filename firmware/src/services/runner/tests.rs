//! The engine on a real child process, a shell script whose one file says how it behaves: what it comes up with,
//! what it is refused, what is taken back.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{How, Runner};
use crate::compile::services::{Artifacts, Facts, File, ListenMap, Places};
use crate::config::{Config, ServiceKind};
use crate::platform::sandbox::Sandbox;
use crate::services::{Components, Daemon, ServiceError, Setup, base_spec};
use crate::supervisor::{Probe, ServiceSpec, State, Supervisor};

/// Its file holds the host name. `dies…` ends at once, `refused…` does not pass the check, `soft…` is taken
/// without a restart, `big…` is more than a small disk holds.
struct Script;

struct Ready(PathBuf);

impl Probe for Ready {
    fn probe(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let ready = self.0.exists();
        Box::pin(async move { if ready { Ok(()) } else { Err("not there".into()) } })
    }
}

const PROGRAM: &str = r#"#!/bin/sh
read -r word < ../etc/word
echo "saw $word"
case $word in dies*) echo "last words"; exit 3 ;; esac
: > ../run/ready
exec sleep 1000
"#;

impl Daemon for Script {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Time
    }
    fn artifacts(&self, config: &Config, _: &Facts) -> Result<Artifacts, ServiceError> {
        let word = config.system.hostname.to_string();
        let mut text = format!("{word}\n").into_bytes();
        if word.starts_with("big") {
            text.resize(1 << 20, b'\n');
        }
        let mut files = vec![File::new("word", text)];
        files.extend(word.ends_with("two").then(|| File::new("extra/second", "2")));
        let seeds = vec![File::new("data/kept", "first")];
        Ok(Artifacts {
            enabled: true,
            files,
            seeds,
            warnings: vec![format!("about {word}")],
            ..Artifacts::default()
        })
    }
    fn check(&self, _: &Path, _: &Artifacts, places: &Places) -> Result<(), ServiceError> {
        match fs::read_to_string(places.config.join("word")).unwrap() {
            word if word.starts_with("refused") => Err(ServiceError::Refused("line 1: no".into())),
            _ => Ok(()),
        }
    }
    fn spec(&self, program: &Path, _: &Artifacts, facts: &Facts) -> ServiceSpec {
        let mut spec = base_spec(self.kind(), program, facts);
        spec.private_run = None;
        spec.readiness = Arc::new(Ready(facts.places.run.join("ready")));
        spec.stale = vec![facts.places.run.join("ready")];
        spec.ready_within = Duration::from_secs(20);
        spec.backoff.first = Duration::from_millis(10);
        spec
    }
    fn reload(&self, changed: &[PathBuf], _: &Artifacts, facts: &Facts) -> Result<bool, ServiceError> {
        assert!(changed.contains(&"word".into()));
        Ok(fs::read_to_string(facts.places.config.join("word")).unwrap().starts_with("soft"))
    }
}

fn rig(dir: &Path) -> Arc<Runner> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("rtime"), PROGRAM).unwrap();
    fs::set_permissions(bin.join("rtime"), fs::Permissions::from_mode(0o755)).unwrap();
    runner(dir, Components::in_directories([bin]))
}

fn runner(dir: &Path, components: Components) -> Arc<Runner> {
    let setup = Setup {
        state_dir: dir.join("state"),
        components,
        platform: Arc::new(Sandbox::new(dir)),
        supervisor: Supervisor::new(),
        listen: ListenMap::AsConfigured,
        sandbox: true,
        root: dir.join("state/root"),
        sshd: crate::services::sshd::Programs::None,
        inside_allowed: true,
    };
    Arc::new(Runner::new(Arc::new(Script), Arc::new(setup)))
}

fn config(word: &str) -> Config {
    let mut config = Config::default();
    Arc::make_mut(&mut config.system).hostname = word.parse().unwrap();
    ServiceKind::Time.set_enabled(&mut config, true);
    config
}

fn word(runner: &Runner) -> String {
    fs::read_to_string(runner.places().config.join("word")).unwrap().trim().to_owned()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_has_not_changed_costs_nothing_and_what_has_is_started_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let runner = rig(dir.path());
    smol::block_on(async {
        let report = runner.apply(&config("one"), How::Change).await.unwrap();
        assert!(report.restarted && report.running);
        assert_eq!(report.warnings, ["about one"]);
        let pid = runner.status().pid;
        let again = runner.apply(&config("one"), How::Change).await.unwrap();
        assert!(again.changed.is_empty() && !again.restarted && again.running);
        assert_eq!(runner.status().pid, pid);
        let soft = runner.apply(&config("soft"), How::Change).await.unwrap();
        assert!(soft.reloaded && !soft.restarted);
        assert_eq!(runner.status().pid, pid);
        fs::write(runner.places().config.join("data/kept"), "its own").unwrap();
        let other = runner.apply(&config("two"), How::Change).await.unwrap();
        assert!(other.restarted);
        assert_ne!(runner.status().pid, pid);
        assert_eq!(names(&runner.places().config), [".files", "data", "extra", "word"]);
        // What it no longer has goes, what it keeps itself stays.
        runner.apply(&config("three"), How::Restart).await.unwrap();
        assert!(names(&runner.places().config.join("extra")).is_empty());
        assert_eq!(fs::read_to_string(runner.places().config.join("data/kept")).unwrap(), "its own");
        let stopped = runner.apply(&Config::default(), How::Change).await.unwrap();
        assert!(stopped.stopped && !stopped.running);
        assert_eq!(runner.status().state, State::Stopped);
        assert_eq!(
            names(&runner.places().config.join("..")),
            ["data", "etc", "log", "run"],
            "no rehearsal is left"
        );
        runner.supervisor().shutdown().await;
    });
}

#[test]
fn what_the_checker_refuses_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runner = rig(dir.path());
    smol::block_on(async {
        runner.apply(&config("one"), How::Change).await.unwrap();
        let pid = runner.status().pid;
        let error = runner.apply(&config("refused"), How::Change).await.unwrap_err();
        assert_eq!(error.to_string(), "line 1: no");
        assert!(matches!(error, ServiceError::Refused(_)));
        assert_eq!((word(&runner), runner.status().pid), ("one".into(), pid));
        assert_eq!(runner.rehearse(&config("two")).await.unwrap(), ["about two"]);
        assert_eq!(word(&runner), "one");
        runner.supervisor().shutdown().await;
    });
}

#[test]
fn what_it_does_not_come_up_with_is_taken_back_and_it_runs_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let runner = rig(dir.path());
    smol::block_on(async {
        // Nothing to go back to: it is stopped, and no file of the attempt stays.
        let error = runner.apply(&config("dies"), How::Change).await.unwrap_err();
        assert!(matches!(error, ServiceError::NotReady { rolled_back: false, .. }), "{error}");
        assert!(!runner.places().config.join("word").exists());
        assert_eq!(runner.status().state, State::Stopped);
        runner.apply(&config("one"), How::Change).await.unwrap();
        let error = runner.apply(&config("dies-two"), How::Change).await.unwrap_err();
        let ServiceError::NotReady { reason, last_lines, rolled_back, .. } = error else { panic!("{error}") };
        assert!(reason.starts_with("exit status 3"), "{reason}");
        assert!(last_lines.contains(&"last words".to_owned()), "{last_lines:?}");
        assert!(rolled_back);
        assert_eq!(word(&runner), "one");
        assert!(!runner.places().config.join("extra/second").exists());
        assert!(runner.is_running());
        // Its words come through a pipe of their own.
        while runner.log(1).pop().unwrap().line != "saw one" {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
        runner.supervisor().shutdown().await;
    });
}

#[test]
fn at_the_start_of_the_appliance_it_is_tried_until_it_comes_up() {
    let dir = tempfile::tempdir().unwrap();
    let runner = rig(dir.path());
    smol::block_on(async {
        let error = runner.apply(&config("dies"), How::Boot).await.unwrap_err();
        assert!(matches!(error, ServiceError::NotReady { .. }));
        // Its file is changed from outside, and the next attempt finds it.
        fs::write(runner.places().config.join("word"), "better\n").unwrap();
        let name = runner.kind().program();
        let up = runner.supervisor().wait_for(name, |status| status.state == State::Running).await.unwrap();
        assert!(up.restarts >= 1);
        runner.supervisor().shutdown().await;
    });
}

#[test]
fn one_that_is_not_installed_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let runner = runner(dir.path(), Components::none());
    assert_eq!(runner.status().state, State::NotInstalled);
    smol::block_on(async {
        let error = runner.apply(&config("one"), How::Change).await.unwrap_err();
        assert_eq!(error.to_string(), "rTIME is not installed");
        // What it is to do can be checked all the same, and stopping it is no error.
        runner.rehearse(&config("one")).await.unwrap();
        runner.apply(&Config::default(), How::Change).await.unwrap();
    });
}

/// The disk is really full: the state directory is a file system of 256 KiB, mounted in a namespace of the test's
/// own, in which this program runs again as [`full_disk_child`].
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_files_and_process_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("unshare");
    child.args(["--mount", "--map-root-user", "--"]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "services::runner::tests::full_disk_child", "--nocapture", "--include-ignored"]);
    let output = child.env("AIFW_FULL_DISK", dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("the full disk was met"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "part of a_full_disk_leaves_files_and_process_as_they_were"]
fn full_disk_child() {
    let Some(dir) = std::env::var_os("AIFW_FULL_DISK").map(PathBuf::from) else { return };
    let state = dir.join("state");
    fs::create_dir(&state).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&state)
        .status()
        .unwrap();
    assert!(mounted.success());
    let runner = rig(&dir);
    smol::block_on(async {
        runner.apply(&config("one"), How::Change).await.unwrap();
        let pid = runner.status().pid;
        let error = runner.apply(&config("big"), How::Change).await.unwrap_err();
        assert!(error.to_string().contains("No space left on device"), "{error}");
        assert_eq!((word(&runner), runner.status().pid), ("one".into(), pid));
        assert_eq!(names(&runner.places().config.join("..")), ["data", "etc", "log", "run"]);
        assert_eq!(names(&runner.places().config), [".files", "data", "word"]);
        // There is room for what is small, before and after.
        runner.apply(&config("two"), How::Change).await.unwrap();
        runner.supervisor().shutdown().await;
    });
    println!("the full disk was met");
}
