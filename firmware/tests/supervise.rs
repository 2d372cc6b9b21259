//! `aifw supervise` as a process, in a trial directory. Standing in for FreeBSD: its tools are one script that prints
//! what 15.1 prints and records what it was asked to do, the console is a file, pf is simulated. What is shown
//! is ours: the order of the start, what answers when, setup over the local socket, emergencies, kills and the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod process;
mod wire;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process::{PASSWORD, soon};
use serde_json::{Value, json};
use wire::{Answer, Wire};

/// Answers as FreeBSD 15.1 gives them; everything else is recorded, and succeeds.
const TOOL: &str = r#"#!/bin/sh
here=$(dirname "$0"); name=$(basename "$0")
case "$name $*" in
'mount -p')
    printf '/dev/gpt/slot-a\t\t/\t\t\tufs\tro\t\t1 1\ndevfs\t\t\t/dev\t\t\tdevfs\trw\t\t0 0\n'
    [ -f "$here/mounted" ] && printf '/dev/vtbd0p5\t\t/data\t\t\tufs\trw\t\t2 2\n'
    exit 0 ;;
'gpart list') cat "$here/gpart.txt"; exit ;;
'geom disk list')
    printf 'Geom name: vtbd0\nProviders:\n1. Name: vtbd0\n   Mediasize: 8589934592 (8.0G)\n   Mode: r1w0e2\n   descr: \n'
    exit 0 ;;
'ifconfig -'*)
    printf 'vtnet0: flags=8843<UP> metric 0 mtu 1500\n\tether 52:54:00:12:34:56\n\tinet 203.0.113.2/24\n\tstatus: active\n'
    printf 'vtnet1: flags=8843<UP> metric 0 mtu 1500\n\tether 52:54:00:12:34:57\n\tinet 192.168.1.1/24\n\tstatus: active\n'
    exit 0 ;;
'ifconfig pflog0') exit 1 ;;
'netstat --libxo json -i -b -d -n') echo '{"statistics":{"interface":[]}}'; exit ;;
'netstat --libxo json -r -n'*) echo '{"statistics":{"route-information":{"route-table":{"rt-family":[]}}}}'; exit ;;
'mount --libxo json') echo '{"mount":{"mounted":[]}}'; exit ;;
'sysctl -n machdep.bootmethod') echo UEFI; exit ;;
'sysctl -n '*) echo 1; exit ;;
'dhclient '*) echo $$ >"$here/dhclient.pid"; exec sleep 600 ;;
'sysctl -i hw.model'*) printf 'hw.model: Trial\nhw.physmem: 1073741824\nkern.smp.cores: 2\n'; exit ;;
'sysctl -'*) printf 'kern.hostname: aifw\nkern.ostype: FreeBSD\nkern.osrelease: 15.1-RELEASE\n'; exit ;;
'hostname ') echo aifw; exit ;;
'ps '* | 'iostat '*) echo 1; exit ;;
esac
echo "$name $*" >>"$here/calls"
[ -f "$here/$name-fails" ] && { cat "$here/$name-fails" >&2; exit 1; }
case "$name $*" in
'mount -t ufs '*) : >"$here/mounted" ;;
'gpart add '*) mv "$here/added.txt" "$here/gpart.txt" ;;
'shutdown '*) echo 'shutdown: [pid 4242]' ;;
esac
exit 0
"#;

const TOOLS: [&str; 19] = [
    "mount", "gpart", "geom", "ifconfig", "netstat", "sysctl", "hostname", "ps", "iostat", "kldload",
    "newfs", "fsck_ffs", "growfs", "shutdown", "pw", "kill", "date", "dhclient", "route",
];

fn partitions(more: &[(u32, &str, u64)]) -> String {
    let mut text =
        "Geom name: vtbd0\nstate: OK\nlast: 16777182\nfirst: 40\nscheme: GPT\nProviders:\n".to_owned();
    let fixed = [(1, "esp", 67_617), (2, "boot", 68_641), (3, "slot-a", 2_000_000), (4, "slot-b", 4_000_000)];
    for (index, label, end) in fixed.iter().chain(more) {
        let mode = if *label == "slot-a" { "r1w0e1" } else { "r0w0e0" };
        text += &format!(
            "{index}. Name: vtbd0p{index}\n   Sectorsize: 512\n   Mode: {mode}\n   label: {label}\n   index: {index}\n   end: {end}\n"
        );
    }
    text + "Consumers:\n1. Name: vtbd0\n"
}

/// A machine that can be started, and started again.
struct Trial {
    dir: tempfile::TempDir,
}

impl Trial {
    /// As it comes from the image: no data partition yet.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["tools", "dev", "data", "etc", "var/run", "var/db", "usr/local/sbin"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        // The shell writes it, so that no thread of this process holds it open while another starts a program.
        let script = Command::new("sh")
            .args(["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(root.join("tools/script"))
            .arg(TOOL)
            .status();
        assert!(script.unwrap().success());
        for tool in TOOLS {
            std::os::unix::fs::symlink("script", root.join("tools").join(tool)).unwrap();
        }
        fs::write(root.join("tools/gpart.txt"), partitions(&[])).unwrap();
        fs::write(root.join("tools/added.txt"), partitions(&[(5, "data-new", 16_775_167)])).unwrap();
        fs::write(root.join("dev/vtbd0p5"), vec![0; 1024 * 1024]).unwrap();
        fs::write(root.join("dev/console"), "").unwrap();
        fs::write(root.join("etc/ttys"), "ttyv0\t\"/usr/libexec/getty Pc\"\txterm\tonifexists secure\n")
            .unwrap();
        fs::write(root.join("etc/master.passwd"), "root:*:0:0::0:0:Charlie &:/root:/bin/sh\n").unwrap();
        Self { dir }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
    fn console(&self) -> String {
        fs::read_to_string(self.at("dev/console")).unwrap()
    }
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("tools/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aifw"));
        // As init(8): an empty environment but for TERM, no files; and the entry's name at the end.
        command.args(["supervise", "--listen", "127.0.0.1:0", "--root"]).arg(self.dir.path()).arg("aifw");
        command.env_clear().env("TERM", "unknown").env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Started, and waited for until the local socket answers.
    fn start(&self) -> Running<'_> {
        fs::write(self.at("dev/console"), "").unwrap();
        let mut running = Running { trial: self, child: self.command().spawn().unwrap() };
        soon("the local socket answers", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.console());
            UnixStream::connect(self.at("var/run/aifw.sock")).is_ok()
        });
        running
    }
}

struct Running<'a> {
    trial: &'a Trial,
    child: Child,
}

impl Running<'_> {
    fn local(&self, method: &str, path: &str, body: Value) -> Answer {
        let stream = UnixStream::connect(self.trial.at("var/run/aifw.sock")).unwrap();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Wire::over(stream).request(method, &format!("/api/v1{path}"), &[], &body)
    }
    fn setup(&self) -> Value {
        let answer = self.local("GET", "/setup", Value::Null);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
    /// On the network, with the appliance's own certificate.
    fn network(&self, path: &str) -> Result<Value, ureq::Error> {
        let url = self.setup()["url"].as_str().unwrap().to_owned();
        let state = self.trial.at("data/aifw/tls-cert.pem");
        let root = ureq::tls::Certificate::from_pem(&fs::read(state).unwrap()).unwrap();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
        let account = json!({ "username": "chief", "password": PASSWORD });
        let text = |mut answer: ureq::http::Response<ureq::Body>| answer.body_mut().read_to_string().unwrap();
        let login = agent.post(format!("{url}api/v1/auth/login")).send_json(account).map(text)?;
        let login: Value = serde_json::from_str(&login).unwrap();
        let token = format!("Bearer {}", login["access_token"].as_str().unwrap());
        let answer =
            agent.get(format!("{url}api/v1{path}")).header("Authorization", token).call().map(text)?;
        Ok(serde_json::from_str(&answer).unwrap())
    }
    fn set_up(&self) {
        let answer = self.local("POST", "/setup", answers());
        assert_eq!(answer.status, 201, "{}\n{}", answer.text(), self.trial.console());
    }
    fn end(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn answers() -> Value {
    json!({
        "hostname": "fw", "admin_username": "chief", "admin_password": PASSWORD, "wan_interface": "vtnet0",
        "lan_interface": "vtnet1", "lan_ip": "192.168.1.1/24", "root_password": PASSWORD, "ssh_enabled": false,
    })
}

/// Waits until the console has said something.
fn says(trial: &Trial, what: &str) {
    soon(what, || trial.console().contains(what));
}

#[test]
fn from_the_first_start_through_setup_to_an_api_that_answers() {
    let trial = Trial::new();
    let running = trial.start();
    says(&trial, "not set up");
    let expected = [
        concat!("aifw: [OK] version ", env!("CARGO_PKG_VERSION")),
        "aifw: [OK] pf is on: nothing comes in yet",
        "aifw: [OK] data partition added on vtbd0",
        "aifw: [OK] file system made on vtbd0p5",
        "aifw: [OK] data partition labelled data",
        "aifw: [OK] vtbd0p5 mounted at /data",
        "aifw: [OK] local socket /var/run/aifw.sock",
        "aifw: [!] not set up: answer the questions on the console, or aifw setup --config FILE",
    ];
    assert_eq!(trial.console().lines().collect::<Vec<_>>(), expected);
    // Where administrators put their own certificate; the slot's /usr/local/etc/aifw leads there.
    assert!(trial.at("data/aifw/etc/tls").is_dir());
    let calls = trial.calls();
    let modules = calls.iter().filter_map(|call| call.strip_prefix("kldload -n "));
    assert_eq!(
        modules.collect::<Vec<_>>(),
        [
            "pf",
            "pflog",
            "pfsync",
            "carp",
            "if_wg",
            "ipsec",
            "if_bridge",
            "if_lagg",
            "if_vlan",
            "if_gre",
            "if_gif"
        ]
    );
    assert_eq!(
        calls[11..],
        [
            "ifconfig pflog0 create",
            "ifconfig pflog0 up",
            "gpart add -t freebsd-ufs -l data-new -a 1m vtbd0",
            "newfs -U -j /dev/vtbd0p5",
            "gpart modify -i 5 -l data vtbd0",
            "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data",
        ]
    );
    let shown = running.setup();
    assert_eq!((&shown["configured"], &shown["url"]), (&false.into(), &Value::Null));
    assert_eq!((&shown["platform"], &shown["emergency"]), (&"freebsd".into(), &Value::Null));
    // Nothing is made half: a setup that is refused leaves it as it was.
    let refused = running.local("POST", "/setup", json!({ "wan_interface": "em9" }));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(running.setup()["configured"], false);
    let answer = running.local("POST", "/setup", answers());
    assert_eq!(answer.status, 201, "{}\n{}", answer.text(), trial.console());
    // Its answer says where the API is, and there it is, without a restart.
    let url = answer.json()["data"]["url"].as_str().unwrap().to_owned();
    assert_eq!(running.setup()["url"], url);
    assert_eq!(running.network("/system/info").unwrap()["hostname"], "aifw");
    says(&trial, "set up\n");
    says(&trial, "pf filters as configured");
    says(&trial, "API and web UI on https://127.0.0.1:");
    let calls = trial.calls();
    assert!(calls.contains(&"hostname fw".to_owned()), "{calls:?}");
    assert!(calls.contains(&"pw usermod root -H 0".to_owned()), "{calls:?}");
    let log = trial.at("data/aifw/log/aifw.log");
    assert!(running.end(Signal::SIGTERM).success());
    let console = trial.console();
    assert!(console.ends_with("aifw: [OK] stopping\naifw: [OK] stopped\n"), "{console}");
    // The log holds what was told before there was one.
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("[OK] data partition added on vtbd0") && log.contains("[OK] stopped"), "{log}");
    assert!(!trial.at("var/run/aifw.sock").exists());
    // After a reboot it is what it was. Root has its password before anybody is asked for it.
    fs::remove_file(trial.at("tools/mounted")).unwrap();
    fs::write(trial.at("tools/gpart.txt"), partitions(&[(5, "data", 16_775_167)])).unwrap();
    fs::write(trial.at("dev/vtbd0p5"), vec![1; 1024 * 1024]).unwrap();
    let again = trial.start();
    says(&trial, "API and web UI on");
    assert!(!trial.console().contains("not set up"));
    let console = trial.console();
    let at = |line: &str| console.find(line).unwrap_or_else(|| panic!("{line}: {console}"));
    assert!(at("host settings are in force") < at("local socket"));
    assert!(at("the network is configured") < at("pf filters as configured"));
    assert_eq!(again.setup()["configured"], true);
    assert_eq!(again.network("/config/export").unwrap()["config"]["system"]["hostname"], "fw");
    let last = trial.calls();
    let file_system: Vec<&String> =
        last.iter().filter(|call| call.contains("/dev/vtbd0p5")).skip(2).collect();
    assert_eq!(
        file_system,
        [
            "fsck_ffs -p /dev/vtbd0p5",
            "growfs -y /dev/vtbd0p5",
            "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data"
        ]
    );
}

#[test]
fn one_that_was_killed_is_followed_by_one_that_takes_over() {
    let trial = Trial::new();
    let running = trial.start();
    running.set_up();
    let pid = || {
        let text = fs::read_to_string(trial.at("tools/dhclient.pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    };
    soon("the DHCP client runs", || pid().is_some());
    let client = pid().unwrap();
    assert!(kill(client, None).is_ok());
    let before = trial.calls();
    // A second one by hand does not disturb it.
    let mut second = trial.command().spawn().unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(3));
    says(&trial, "aifw supervise runs already, as process ");
    assert_eq!(trial.calls(), before);
    // HUP comes from init(8) long before the end.
    kill(Pid::from_raw(running.child.id() as i32), Signal::SIGHUP).unwrap();
    assert_eq!(running.setup()["configured"], true);
    running.end(Signal::SIGKILL);
    assert!(trial.at("var/run/aifw.sock").exists(), "nothing was tidied up");
    soon("the DHCP client of the one that was killed is gone", || kill(client, None).is_err());
    let again = trial.start();
    says(&trial, "API and web UI on");
    assert_eq!(again.setup()["configured"], true);
    assert!(again.network("/system/info").is_ok());
    soon("another DHCP client runs", || pid().is_some_and(|pid| pid != client));
    let touched = trial.calls()[before.len()..]
        .iter()
        .filter(|call| ["gpart", "newfs", "mount", "fsck_ffs"].iter().any(|tool| call.starts_with(tool)))
        .count();
    assert_eq!(touched, 0, "the data partition is mounted");
    assert!(again.end(Signal::SIGTERM).success());
}

#[test]
fn without_a_data_partition_it_runs_from_memory_and_says_so() {
    let trial = Trial::new();
    fs::write(trial.at("tools/newfs-fails"), "newfs: /dev/vtbd0p5: Input/output error\n").unwrap();
    let running = trial.start();
    says(&trial, "not set up");
    let console = trial.console();
    let reason = "the data partition cannot be used: newfs failed: newfs: /dev/vtbd0p5: Input/output error";
    assert!(
        console.contains("aifw: [ERROR] EMERGENCY: the appliance runs without its stored configuration\n")
    );
    assert!(console.contains(&format!("aifw: [ERROR] {reason}\n")), "{console}");
    let memory = trial.at("var/db/aifw-memory").canonicalize().unwrap();
    let mount = format!("mount -t tmpfs -o rw,nosuid,mode=700,size=268435456 tmpfs {}", memory.display());
    assert_eq!(trial.calls().last(), Some(&mount));
    assert_eq!(running.setup()["emergency"], reason);
    running.set_up();
    let me = running.local("GET", "/system/info", Value::Null);
    assert_eq!(me.json()["emergency"], reason);
    assert!(memory.join("aifw.redb").exists() && !trial.at("data/aifw/aifw.redb").exists());
    assert!(running.end(Signal::SIGTERM).success());
    // The next start finds the disk in order, and the half-made partition is made.
    fs::remove_file(trial.at("tools/newfs-fails")).unwrap();
    let again = trial.start();
    says(&trial, "vtbd0p5 mounted at /data");
    assert_eq!((&again.setup()["configured"], &again.setup()["emergency"]), (&false.into(), &Value::Null));
}

#[test]
fn a_store_that_cannot_be_read_is_left_alone() {
    let trial = Trial::new();
    fs::create_dir_all(trial.at("data/aifw")).unwrap();
    fs::write(trial.at("data/aifw/aifw.redb"), "this is no database").unwrap();
    let running = trial.start();
    says(&trial, "EMERGENCY");
    says(&trial, "what is stored cannot be used: ");
    assert_eq!(running.setup()["configured"], false);
    assert!(running.end(Signal::SIGTERM).success());
    assert_eq!(fs::read_to_string(trial.at("data/aifw/aifw.redb")).unwrap(), "this is no database");
}

#[test]
fn a_factory_reset_restarts_the_machine_and_forgets() {
    let trial = Trial::new();
    let mut running = trial.start();
    running.set_up();
    let answer = running.local("POST", "/console/factory-reset", json!({ "confirm": "RESET" }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(running.child.wait().unwrap().success());
    says(&trial, "the machine restarts");
    let asked = trial.calls().into_iter().find(|call| call.starts_with("shutdown -r "));
    assert!(asked.is_some(), "{:?}", trial.calls());
    let again = trial.start();
    says(&trial, "not set up");
    assert_eq!(again.setup()["configured"], false);
}

#[test]
fn other_systems_are_sent_to_the_sandbox() {
    if cfg!(target_os = "freebsd") {
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_aifw")).args(["supervise", "aifw"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "[ERROR] supervise: expected FreeBSD; on other hosts there is aifw sandbox\n");
    let missing = Command::new(env!("CARGO_BIN_EXE_aifw"))
        .args(["supervise", "--root"])
        .arg(Path::new("/nonexistent"))
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(3));
}
