//! The sandbox that `aifw console` and `aifw setup` speak to, and a terminal for them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::process::{command, soon};
use crate::terminal::Line;
use crate::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox that nobody has set up, or that was.
pub struct Machine {
    pub dir: tempfile::TempDir,
    child: Option<Child>,
    options: Vec<String>,
}

impl Machine {
    pub fn new(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("c").tempdir_in("/tmp").unwrap();
        let mut machine =
            Self { dir, child: None, options: options.iter().map(|text| (*text).to_owned()).collect() };
        machine.start();
        machine
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn start(&mut self) {
        let socket = self.socket();
        let mut options = vec!["--socket", socket.to_str().unwrap(), "--unconfigured", "--insecure-loopback"];
        options.extend(self.options.iter().map(String::as_str));
        let log = File::create(self.dir.path().join("log")).unwrap();
        let mut command = command(&self.state(), &options);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        soon("the sandbox answers on its socket", || self.try_local("GET", "/setup", Value::Null).is_some());
    }

    /// A power cut.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        self.start();
    }

    /// How the sandbox ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        soon("the sandbox ends", || child.try_wait().unwrap().is_some());
        child.wait().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn try_local(&self, method: &str, path: &str, body: Value) -> Option<(u16, Value)> {
        let stream = std::os::unix::net::UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = Wire::over(stream).request(method, &format!("/api/v1{path}"), &[], &body);
        Some((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
    }

    /// An operation of the local socket.
    pub fn local(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.try_local(method, path, body).unwrap()
    }

    pub fn seen(&self) -> Value {
        self.local("GET", "/setup", Value::Null).1
    }

    pub fn is_configured(&self) -> bool {
        self.seen()["configured"].as_bool().unwrap()
    }

    pub fn config(&self) -> Value {
        self.local("GET", "/config/export", Value::Null).1
    }

    /// Status of a login over the network.
    pub fn login(&self, user: &str, password: &str) -> u16 {
        let url = self.seen()["url"].as_str().unwrap().to_owned();
        let address = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let body = json!({ "username": user, "password": password }).to_string().into_bytes();
        Wire::connect(address).request("POST", "/api/v1/auth/login", &[], &body).status
    }

    /// A terminal on which a command runs: `console` or `setup` with its options.
    pub fn line(&self, words: &[&str]) -> Line {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aifw"));
        command.args(&words[..1]).arg("--socket").arg(self.socket()).args(&words[1..]);
        Line::run(command)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A file of the machine's folder.
pub fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}
