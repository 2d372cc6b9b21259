//! `cargo image components` as a process, with a stand-in for cargo: a script that "installs" small programs and
//! writes cargo's record of them. What the real cargo does with the real packages is seen by tests/run, which
//! builds them before anything else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `install --locked --root DIR PACKAGE@=VERSION`. Notes each call in $CALLS; fails for $BROKEN; waits while $GATE
/// is there; says the wrong version with $LIES.
const CARGO: &str = r#"#!/bin/sh
[ "$1 $2 $3" = "install --locked --root" ] || exit 64
root=$4 package=${5%@*} version=${5#*@=}
echo "$package $version" >>"$CALLS"
mkdir -p "$root/bin" "$CARGO_TARGET_DIR/release"
while [ -e "$GATE" ]; do sleep 0.02; done
if [ "$package" = "$BROKEN" ]; then echo "error: could not compile $package" >&2; exit 101; fi
case $package in
    rdns-server) programs="rdns rdns-control" ;;
    rtimed) programs=rtime ;;
    *) programs=$package ;;
esac
list=
for program in $programs; do
    printf '#!/bin/sh\necho %s %s\n' "$program" "${LIES:-$version}" >"$root/bin/$program"
    chmod +x "$root/bin/$program"
    list="$list${list:+,}\"$program\""
done
printf '{"installs":{"%s %s (registry+https://example.org/index)":{"bins":[%s]}}}' \
    "$package" "$version" "$list" >"$root/.crates2.json"
"#;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tools = dir.path().join("tools");
        fs::create_dir(&tools).unwrap();
        write_script(&tools.join("cargo"), CARGO);
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image"));
        let path = std::env::var("PATH").unwrap();
        command
            .arg("components")
            .env("PATH", format!("{}:{path}", self.path("tools").display()))
            .env("AIFW_COMPONENTS", self.path("store"))
            .env("CALLS", self.path("calls"))
            .env("GATE", self.path("gate"))
            .env_remove("BROKEN")
            .env_remove("LIES")
            .stdin(Stdio::null());
        command
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    fn start(&self) -> Child {
        // A group of its own, so that killing it takes the stand-in along, as a closed terminal would.
        self.command().process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What cargo was asked for, in order.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn wait_for_calls(&self, number: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.calls().len() < number {
            assert!(Instant::now() < end, "cargo was called for {:?} only", self.calls());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn says(&self, program: &str) -> String {
        let output = Command::new(self.path("store/bin").join(program)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// A component in another version than the pinned one, as an earlier run would have left it.
    fn has_before(&self, package: &str, program: &str, version: &str) {
        let bin = self.path("store").join(format!("{package}-{version}/bin"));
        fs::create_dir_all(&bin).unwrap();
        write_script(&bin.join(program), &format!("#!/bin/sh\necho {program} {version}\n"));
        let link = self.path("store/bin").join(program);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        fs::remove_file(&link).ok();
        std::os::unix::fs::symlink(format!("../{package}-{version}/bin/{program}"), link).unwrap();
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Written by a process of its own: were it open for writing here, a child that another test starts at that moment
/// would hold it open too, and it could not be executed.
fn write_script(path: &Path, script: &str) {
    let write = r#"printf %s "$2" >"$1" && chmod 755 "$1""#;
    let written = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(script).status().unwrap();
    assert!(written.success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PINNED: [&str; 4] = ["rdns-server 1.17.25", "rdhcpd 0.16.2", "rtimed 0.15.1", "trafficcop 1.5.0"];

#[test]
fn all_are_built_once_and_kept() {
    let host = Host::new();
    let first = host.run();
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(host.calls(), PINNED);
    assert_eq!(host.names("store/bin"), ["rdhcpd", "rdns", "rdns-control", "rtime", "trafficcop"]);
    assert_eq!(host.says("rdns-control"), "rdns-control 1.17.25\n");
    assert!(!host.path("store/target").exists(), "compiled dependencies are left behind");
    for line in PINNED.map(|pinned| format!("{pinned}: ready")) {
        assert!(text(&first.stdout).contains(&line), "{}", text(&first.stdout));
    }
    let second = host.run();
    assert!(second.status.success());
    assert_eq!(host.calls().len(), 4, "nothing is built again");
    assert_eq!(text(&second.stderr), "");
}

#[test]
fn a_changed_pin_rebuilds_only_that_one() {
    let host = Host::new();
    host.run();
    host.has_before("rtimed", "rtime", "0.14.0");
    fs::remove_dir_all(host.path("store/rtimed-0.15.1")).unwrap();
    assert!(host.run().status.success());
    assert_eq!(host.calls()[4..], ["rtimed 0.15.1"]);
    assert_eq!(host.says("rtime"), "rtime 0.15.1\n");
    // Back and forth between two versions builds nothing.
    host.has_before("rtimed", "rtime", "0.14.0");
    assert!(host.run().status.success());
    assert_eq!(host.calls().len(), 5);
    assert_eq!(host.says("rtime"), "rtime 0.15.1\n");
}

#[test]
fn a_failed_build_leaves_the_old_one_and_the_others_go_on() {
    let host = Host::new();
    host.has_before("rdhcpd", "rdhcpd", "0.15.0");
    let output = host.command().env("BROKEN", "rdhcpd").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("not built: rdhcpd"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("trafficcop 1.5.0: ready"), "{}", text(&output.stdout));
    assert_eq!(host.says("rdhcpd"), "rdhcpd 0.15.0\n");
    assert_eq!(host.says("trafficcop"), "trafficcop 1.5.0\n");
}

#[test]
fn a_program_that_says_another_version_is_not_taken() {
    let host = Host::new();
    host.has_before("rtimed", "rtime", "0.14.0");
    let output = host.command().env("LIES", "9.9.9").output().unwrap();
    assert!(!output.status.success());
    let said = text(&output.stdout);
    assert!(said.contains(r#"-V says "rtime 9.9.9", not 0.15.1"#), "{said}");
    assert_eq!(host.says("rtime"), "rtime 0.14.0\n");
}

#[test]
fn a_damaged_component_is_built_again() {
    let host = Host::new();
    host.run();
    fs::remove_file(host.path("store/rdns-server-1.17.25/bin/rdns-control")).unwrap();
    fs::write(host.path("store/trafficcop-1.5.0/bin/trafficcop"), "cut sho").unwrap();
    assert!(host.run().status.success());
    assert_eq!(host.calls()[4..], ["rdns-server 1.17.25", "trafficcop 1.5.0"]);
    assert_eq!(host.says("trafficcop"), "trafficcop 1.5.0\n");
}

#[test]
fn programs_put_there_by_hand_give_way_only_to_whole_ones() {
    let host = Host::new();
    fs::create_dir_all(host.path("store/bin")).unwrap();
    fs::copy("/bin/true", host.path("store/bin/rdns")).unwrap();
    fs::write(host.path("gate"), "").unwrap();
    let mut run = host.start();
    host.wait_for_calls(1);
    assert_eq!(host.says("rdns"), "", "the old one is there while the new one is built");
    fs::remove_file(host.path("gate")).unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(host.says("rdns"), "rdns 1.17.25\n");
}

#[test]
fn two_runs_at_once_build_each_once() {
    let host = Host::new();
    fs::write(host.path("gate"), "").unwrap();
    let first = host.start();
    host.wait_for_calls(1);
    let second = host.start();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(host.calls().len(), 1, "the second run builds too");
    fs::remove_file(host.path("gate")).unwrap();
    let outputs = [first, second].map(|run| run.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()));
    assert!(text(&outputs[1].stderr).contains("waiting for it"), "{}", text(&outputs[1].stderr));
    assert_eq!(host.calls(), PINNED);
}

#[test]
fn a_killed_run_leaves_the_old_ones_and_the_next_one_builds() {
    let host = Host::new();
    host.has_before("rdns-server", "rdns", "1.16.0");
    fs::write(host.path("gate"), "").unwrap();
    let mut run = host.start();
    host.wait_for_calls(1);
    kill_group(run.id());
    run.wait().unwrap();
    assert_eq!(host.says("rdns"), "rdns 1.16.0\n");
    fs::remove_file(host.path("gate")).unwrap();
    assert!(host.run().status.success());
    assert_eq!(host.says("rdns"), "rdns 1.17.25\n");
    assert!(!host.path("store/partial").exists());
}

#[test]
fn without_cargo_or_a_place_to_keep_them_it_says_so() {
    let host = Host::new();
    let nowhere = host.command().env("AIFW_COMPONENTS", "/proc/nowhere").output().unwrap();
    assert!(!nowhere.status.success());
    assert!(text(&nowhere.stderr).contains("/proc/nowhere"), "{}", text(&nowhere.stderr));
    let empty = host.command().env("PATH", Path::new("/nonexistent")).output().unwrap();
    assert!(!empty.status.success());
    assert!(text(&empty.stdout).contains("cargo is not installed"), "{}", text(&empty.stdout));
}

fn kill_group(leader: u32) {
    let killed = Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).status().unwrap();
    assert!(killed.success());
}
