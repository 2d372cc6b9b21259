//! Links of a test's own: the appliance as a process in a network namespace, others at the far end of virtual Ethernet
//! interfaces. Needs root, or user namespaces.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::Wire;

/// A network namespace, which lasts as long as a process in it.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--", "sh", "-c", "echo ready; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = unshare.spawn().expect("unshare is installed");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "network namespaces need root here");
        Self(child)
    }
    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", "--", program]).stdin(Stdio::null());
        command
    }
    pub fn run(&self, words: &str) -> String {
        let mut words = words.split(' ');
        let output = self.command(words.next().unwrap()).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The appliance in a namespace, spoken to over its local socket.
pub struct Appliance {
    child: Child,
    socket: std::path::PathBuf,
}

impl Appliance {
    /// With the DHCP server, or without.
    pub fn start(namespace: &Namespace, dir: &Path, dhcp: bool) -> Self {
        let socket = dir.join("api.sock");
        let setup = json!({ "wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
            "lan_interface": "em1", "lan_ip": "192.168.1.1/24", "nat_enabled": true, "dhcp_enabled": dhcp,
            "dns_servers": ["192.0.2.53"], "admin_username": "admin", "admin_password": "PlantedPassword1" });
        let file = dir.join("setup.json");
        std::fs::write(&file, setup.to_string()).unwrap();
        let mut command = namespace.command(env!("CARGO_BIN_EXE_aifw"));
        command.arg("sandbox").arg("--state").arg(dir.join("state")).args([
            "--listen",
            "127.0.0.1:0",
            "--as-configured",
        ]);
        command.arg("--setup").arg(file).arg("--socket").arg(&socket);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).ok();
            text
        });
        let mut seen = String::new();
        while !seen.contains("://") {
            if lines.read_line(&mut seen).unwrap() == 0 {
                panic!("it ended: {seen}{}", errors.join().unwrap());
            }
        }
        std::thread::spawn(move || {
            std::io::copy(&mut lines, &mut std::io::sink()).ok();
        });
        Self { child, socket }
    }
    pub fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = Wire::over(stream).request(method, &format!("/api/v1{path}"), &[], &body);
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }
    pub fn until(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.call("GET", path, Value::Null);
            if holds(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        )
        .ok();
        self.child.wait().ok();
    }
}
