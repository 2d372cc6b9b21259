//! `aifw sandbox` as a process of its own, and how to speak to it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::wire::{Answer, Wire};

pub const PASSWORD: &str = "PlantedPassword1";

pub fn command(state: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aifw"));
    command.arg("sandbox").arg("--state").arg(state).args(["--listen", "127.0.0.1:0"]).args(options);
    command.env_remove("AIFW_JWT_SECRET").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A sandbox that answers. Killed when dropped.
pub struct Sandbox {
    pub child: Child,
    pub address: SocketAddr,
    output: Vec<JoinHandle<String>>,
}

impl Sandbox {
    pub fn start(state: &Path, options: &[&str]) -> Self {
        Self::run(command(state, options))
    }
    pub fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let begin = seen.len();
            if lines.read_line(&mut seen).unwrap() == 0 {
                panic!("ended with {}: {seen}{}", child.wait().unwrap(), errors.join().unwrap());
            }
            if let Some((_, address)) = seen[begin..].trim_end().split_once("://") {
                break address.parse().unwrap();
            }
        };
        let rest = std::thread::spawn(move || {
            lines.read_to_string(&mut seen).unwrap();
            seen
        });
        Self { child, address, output: vec![rest, errors] }
    }
    pub fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let credential = format!("Authorization: Bearer {token}");
        let headers: &[&str] = if token.is_empty() { &[] } else { &[&credential] };
        Wire::connect(self.address).request(method, &format!("/api/v1{path}"), headers, &body)
    }
    pub fn get(&self, path: &str, token: &str) -> Value {
        let answer = self.call("GET", path, token, Value::Null);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
    pub fn post(&self, path: &str, token: &str, body: Value) -> Value {
        let answer = self.call("POST", path, token, body);
        assert!(matches!(answer.status, 200 | 201), "{path}: {} {}", answer.status, answer.text());
        answer.json()
    }
    /// Registers the first administrator and logs in.
    pub fn admin(&self) -> Value {
        let account = json!({ "username": "admin", "password": PASSWORD });
        self.post("/auth/register", "", account.clone());
        self.post("/auth/login", "", account)
    }
    pub fn rule_ids(&self, token: &str) -> Vec<String> {
        let rules = self.get("/rules", token);
        let mut ids: Vec<String> = rules["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["id"].as_str().unwrap().into())
            .collect();
        ids.sort();
        ids
    }
    /// SIGKILL: nothing can be tidied up.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.end().1
    }
    pub fn terminate(mut self) -> (ExitStatus, String) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        self.end()
    }
    fn end(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.output.drain(..).map(|thread| thread.join().unwrap()).collect())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Waits for what happens shortly after something else.
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command that must end by itself, with what it printed.
pub fn refused(mut command: Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let printed = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap_or_else(|| panic!("{status}: {printed}")), printed)
}
