//! The whole way of an update with `aifw sandbox` as a process: what is installed is booted once, found healthy and
//! kept; going back; a restart of the firmware alone; being killed in the middle of an install.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use aifw::update::testing::{Package, Signer, noise};
use serde_json::{Value, json};

use crate::process::{Sandbox, text};
use crate::rig::{form, own};
use crate::wire::{Answer, Wire};

pub struct Machine {
    pub dir: tempfile::TempDir,
    signer: Signer,
}

impl Machine {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::new();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/release.keys"), signer.public()).unwrap();
        Self { dir, signer }
    }
    pub fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }
    fn start(&self) -> Sandbox {
        let address = self.dir.path().join("address");
        Sandbox::start(&self.state(), &["--slot-mib", "8", "--address-file", address.to_str().unwrap()])
    }
    pub fn package(&self, version: &str, seed: u64, length: usize) -> Vec<u8> {
        Package::new(version, &noise(seed, length)).signed(&self.signer).bytes()
    }
}

fn upload(sandbox: &Sandbox, token: &str, package: &[u8], restart: bool) -> Answer {
    let restart: &[u8] = if restart { b"true" } else { b"false" };
    let (kind, body) = form(&[("tarball", true, package), ("restart", false, restart)]);
    let headers = [format!("Authorization: Bearer {token}"), format!("Content-Type: {kind}")];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    Wire::connect(sandbox.address).request("POST", "/api/v1/updates/aifw/install-local", &headers, &body)
}

/// Asks, as the web UI does, until the appliance answers and what it says is as wished.
pub fn until(sandbox: &Sandbox, token: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let asked = std::net::TcpStream::connect_timeout(&sandbox.address, Duration::from_secs(2)).is_ok();
        if asked {
            let answer = std::panic::catch_unwind(AssertUnwindSafe(|| {
                sandbox.call("GET", "/updates/aifw/status", token, Value::Null)
            }));
            if let Ok(answer) = answer
                && answer.status == 200
                && holds(&answer.json())
            {
                return answer.json();
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn b15_an_installed_version_comes_up_is_confirmed_and_the_token_stays_good() {
    let machine = Machine::new();
    let sandbox = machine.start();
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let pid = sandbox.child.id();
    // The address file is written anew by each start.
    let address = machine.dir.path().join("address");
    let written = || std::fs::metadata(&address).and_then(|file| file.modified()).ok();
    let first = written();
    // A restart of the firmware alone: answered before it goes down.
    let answer = sandbox.post("/updates/aifw/restart", token, Value::Null);
    assert_eq!(answer["message"], "Services restarting...");
    until(&sandbox, token, "the process starts anew", |_| written().is_some_and(|now| Some(now) != first));
    // An install with a restart: the machine boots the slot that was written, and keeps it.
    let answer = upload(&sandbox, token, &machine.package("9.9.9", 1, 1 << 20), true);
    assert_eq!((answer.status, &answer.json()["message"]), (200, &"installed 9.9.9".into()));
    let info = until(&sandbox, token, "9.9.9 is confirmed", |info| {
        info["running_version"] == "9.9.9" && info["trying"] == false
    });
    assert_eq!((&info["restart_pending"], &info["backup_version"]), (&false.into(), &own().into()));
    assert_eq!(sandbox.child.id(), pid);
    // The services are there again.
    let services = sandbox.call("GET", "/services", token, Value::Null);
    assert_eq!(services.status, 200, "{}", services.text());
    // And back.
    sandbox.post("/updates/aifw/rollback", token, Value::Null);
    let answer = sandbox.post("/updates/aifw/restart", token, Value::Null);
    assert!(text(&answer["message"]).contains("boots the installed version"), "{answer}");
    let info = until(&sandbox, token, "the first version is confirmed", |info| {
        info["running_version"] == own().as_str() && info["trying"] == false
    });
    assert_eq!(info["backup_version"], "9.9.9");
    let (status, printed) = sandbox.terminate();
    assert!(status.success(), "{printed}");
    // A restart, two reboots, the end.
    assert_eq!(printed.matches("[OK] stopping").count(), 4, "{printed}");
}

#[test]
fn a_sandbox_killed_while_it_installs_comes_up_with_its_rules() {
    let machine = Machine::new();
    let mut sandbox = machine.start();
    let login = sandbox.admin();
    let token = text(&login["access_token"]).to_owned();
    let package = machine.package("9.9.9", 1, 6 << 20);
    for (round, wait) in [5_u64, 40, 90, 150, 250, 400].into_iter().enumerate() {
        let rule = json!({ "action": "pass", "direction": "in", "protocol": "tcp", "label": format!("rule {round}") });
        sandbox.post("/rules", &token, rule);
        let rules = sandbox.rule_ids(&token);
        std::thread::scope(|scope| {
            let (address, package, token) = (sandbox.address, &package, &token);
            scope.spawn(move || {
                let (kind, body) = form(&[("tarball", true, package)]);
                let head = format!(
                    "POST /api/v1/updates/aifw/install-local HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
                     Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                use std::io::{Read, Write};
                let Ok(mut stream) = std::net::TcpStream::connect(address) else { return };
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
                let mut answer = [0; 1];
                stream.read_exact(&mut answer).ok();
            });
            std::thread::sleep(Duration::from_millis(wait));
            sandbox.child.kill().unwrap();
            sandbox.child.wait().unwrap();
        });
        sandbox = machine.start();
        let info = until(&sandbox, &token, "it is settled", |info| info["trying"] == false);
        assert_eq!(sandbox.rule_ids(&token), rules, "round {round}: {info}");
        assert!(leftovers(&machine.state()).is_empty(), "round {round}: {:?}", leftovers(&machine.state()));
    }
    let answer = upload(&sandbox, &token, &package, false);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn leftovers(state: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state.join("update/packages")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("upload"))
        .collect()
}

/// `aifw update …` as it is typed: exit status, output, errors.
fn typed(socket: &Path, words: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aifw"))
        .arg("update")
        .args(words)
        .arg("--socket")
        .arg(socket)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn updates_from_the_command_line() {
    let machine = Machine::new();
    let socket = machine.dir.path().join("s");
    let (status, _, errors) = typed(&socket, &["status"]);
    assert!(status == 1 && errors.contains("does not answer"), "{status} {errors}");
    let options = ["--slot-mib", "8", "--socket", socket.to_str().unwrap()];
    let sandbox = Sandbox::start(&machine.state(), &options);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let (status, output, errors) = typed(&socket, &["status"]);
    assert_eq!(
        (status, output),
        (0, format!("running:  {}\nlatest:   not asked for yet\n", own())),
        "{errors}"
    );
    // Its checksum must lie beside it, and fit.
    let package = machine.dir.path().join("package.tar.xz");
    let bytes = machine.package("9.9.9", 1, 1 << 20);
    std::fs::write(&package, &bytes).unwrap();
    let install = ["install", "--from", package.to_str().unwrap()];
    let (status, _, errors) = typed(&socket, &install);
    assert!(
        status == 1 && errors.contains("package.tar.xz.sha256: expected the package's checksum"),
        "{errors}"
    );
    let side = machine.dir.path().join("package.tar.xz.sha256");
    std::fs::write(&side, "ab".repeat(32)).unwrap();
    let (status, _, errors) = typed(&socket, &install);
    assert!(status == 1 && errors.contains("checksum mismatch"), "{errors}");
    std::fs::write(&side, format!("SHA256 (x) = {}\n", aifw::update::testing::sha256(&bytes))).unwrap();
    // Nobody agrees to the restart, so it waits.
    let (status, output, errors) = typed(&socket, &install);
    assert_eq!(status, 0, "{errors}");
    assert_eq!(output, "installed 9.9.9\nIt is booted with the next restart: aifw update restart\n");
    assert!(errors.contains("Restart into it now? [y/N]"), "{errors}");
    let (_, output, _) = typed(&socket, &["status"]);
    let expected = format!(
        "running:  {0}\nwaiting:  9.9.9, for the next boot\nlatest:   not asked for yet\ngo back:  {0}\n",
        own()
    );
    assert_eq!(output, expected);
    let (status, output, _) = typed(&socket, &["restart"]);
    assert!(status == 0 && output.contains("boots the installed version"), "{output}");
    until(&sandbox, token, "9.9.9 is confirmed", |info| {
        info["running_version"] == "9.9.9" && info["trying"] == false
    });
    let (status, output, errors) = typed(&socket, &["rollback", "-y"]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.starts_with(&format!("Rolled back to v{}\n", own())), "{output}");
    until(&sandbox, token, "the first version runs", |info| info["running_version"] == own().as_str());
    let (status, output, _) = typed(&socket, &["reboot"]);
    assert_eq!(
        (status, output.as_str()),
        (0, "System rebooting in 1 minute. Cancel with: aifw update cancel-reboot\n")
    );
    assert_eq!(typed(&socket, &["cancel-reboot"]).0, 0);
    let (status, _, errors) = typed(&socket, &["cancel-reboot"]);
    assert!(status == 1 && errors.contains("no reboot or shutdown is scheduled"), "{errors}");
    // More than a body may have is refused before it comes.
    let mut wire = Wire::connect(sandbox.address);
    wire.send(format!(
        "POST /api/v1/updates/aifw/install-local HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n",
        500 * 1024 * 1024 + 1
    ));
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut wire.stream, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    let (_, output, _) = typed(&socket, &["history"]);
    assert!(output.contains("v9.9.9 is healthy and stays") && output.contains("(user root)"), "{output}");
}
