//! An appliance in process with the real rDNS on a free port of loopback, a name server of the test's own, and
//! `dig`.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aifw::api::testing::{Client, app_with_daemons, bare_app};
use aifw::api::{self, App};
use aifw::config::ServiceKind;
use serde_json::{Value, json};

pub struct Rig {
    pub app: Arc<App>,
    pub client: Client,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Rig {
    /// With the daemons of this host.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(app_with_daemons(dir.path()));
        let installed = app.services.runner(ServiceKind::Dns).is_installed();
        assert!(installed, "rDNS is missing: run `cargo image components`");
        Self::of(app, dir)
    }
    pub fn without_daemons() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(bare_app(dir.path()));
        Self::of(app, dir)
    }
    fn of(app: Arc<App>, dir: tempfile::TempDir) -> Self {
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("dns:read,dns:write");
        Self { app, client, port: free_port(), dir }
    }
    /// Enabled on a free port, asking nobody of the world.
    pub async fn running() -> Self {
        Self::running_with(json!({})).await
    }
    pub async fn running_with(more: Value) -> Self {
        let rig = Self::new();
        let mut settings = json!({
            "enabled": true, "port": rig.port, "listen_interfaces": ["127.0.0.1"], "dnssec": false,
            "forwarding_servers": []
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rig.ok("PUT", "/dns/resolver/config", settings).await;
        rig.applied().await;
        rig
    }
    pub async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await;
        (answer.status, answer.json())
    }
    /// What must succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, path, body).await;
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
        answer
    }
    /// What must be refused, and with what reason it was.
    pub async fn refused(&self, method: &str, path: &str, body: Value, status: u16) -> String {
        let (said, answer) = self.send(method, path, body).await;
        assert_eq!(said, status, "{method} {path}: {answer}");
        answer["error"].as_str().unwrap_or_else(|| panic!("no error in {answer}")).to_owned()
    }
    pub async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, Value::Null).await
    }
    pub async fn apply(&self) -> Value {
        self.ok("POST", "/dns/resolver/apply", Value::Null).await
    }
    /// An apply that must leave a resolver that answers.
    pub async fn applied(&self) -> Value {
        let report = self.apply().await;
        let log = self.app.services.runner(ServiceKind::Dns).log(20);
        assert_eq!(report["message"], "rdns applied and healthy", "{report}\n{log:?}");
        assert_eq!((&report["probe_udp"], &report["probe_tcp"]), (&json!(true), &json!(true)), "{report}");
        report
    }
    pub async fn host(&self, hostname: &str, domain: &str, kind: &str, value: &str) -> Value {
        let body = json!({ "hostname": hostname, "domain": domain, "record_type": kind, "value": value });
        self.ok("POST", "/dns/resolver/hosts", body).await["data"].clone()
    }
    pub fn pending(&self) -> bool {
        self.app.applier.pending().dns
    }
    pub fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
    pub fn directory(&self) -> &std::path::Path {
        self.dir.path()
    }
    /// A file made for the daemon.
    pub fn file(&self, name: &str) -> String {
        let path = self.app.services.runner(ServiceKind::Dns).places().config.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
    /// What `dig +short` says, line by line.
    pub async fn dig(&self, question: &[&str]) -> Vec<String> {
        let said = self.dig_raw(&[question, &["+short"]].concat()).await;
        said.lines().map(str::to_owned).collect()
    }
    /// The response code that dig reports.
    pub async fn rcode(&self, question: &[&str]) -> String {
        let said = self.dig_raw(question).await;
        let after = said.split("status: ").nth(1).unwrap_or_else(|| panic!("no status in {said}"));
        after.split(',').next().unwrap().to_owned()
    }
    pub async fn dig_raw(&self, question: &[&str]) -> String {
        let mut args = vec!["@127.0.0.1".to_owned(), "-p".into(), self.port.to_string()];
        args.extend(["+time=3", "+tries=1"].map(str::to_owned));
        args.extend(question.iter().map(|word| (*word).to_owned()));
        dig(args).await
    }
    pub fn pid(&self) -> u32 {
        self.app.services.runner(ServiceKind::Dns).status().pid.expect("rDNS runs")
    }
    pub async fn end(self) {
        self.app.services.shutdown().await;
    }
}

pub async fn dig(args: Vec<String>) -> String {
    blocking::unblock(move || {
        let said =
            Command::new("dig").args(&args).output().expect("dig is missing: apt-get install dnsutils");
        String::from_utf8(said.stdout).unwrap()
    })
    .await
}

/// A port that was free for UDP and TCP a moment ago, below those that the kernel gives to clients: one of them could
/// be taken while a daemon restarts.
pub fn free_port() -> u16 {
    loop {
        let port = 11_000 + (aifw::config::Id::new_v4().as_u128() % 20_000) as u16;
        let free = std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A name server of the world outside: answers every question for an address with this one (IPv4), and every
/// other one with no record. Counts nothing, remembers nothing; ends with the process.
pub fn upstream(address: [u8; 4]) -> SocketAddr {
    Mortal::new(address).place
}

/// As [`upstream`], and can be made to answer no more.
pub struct Mortal {
    pub place: SocketAddr,
    dead: Arc<AtomicBool>,
}

impl Mortal {
    pub fn new(address: [u8; 4]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (place, dead) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let silent = dead.clone();
        std::thread::spawn(move || {
            let mut question = [0_u8; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut question) {
                let answer = reply(&question[..length], address);
                if let Some(answer) = answer.filter(|_| !silent.load(Ordering::Relaxed)) {
                    socket.send_to(&answer, client).ok();
                }
            }
        });
        Self { place, dead }
    }
    pub fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

/// RFC 1035 §4.1, one question.
fn reply(question: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(question[end]);
    }
    let kind = u16::from_be_bytes([*question.get(end + 1)?, *question.get(end + 2)?]);
    let mut answer = question.get(..end + 5)?.to_vec();
    let answers = u8::from(kind == 1);
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
    if kind == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
    }
    Some(answer)
}

/// Asks again until `done`, for at most so long.
pub async fn eventually<F: Future<Output = bool>>(patience: Duration, mut done: impl FnMut() -> F) -> bool {
    let deadline = std::time::Instant::now() + patience;
    loop {
        if done().await {
            return true;
        }
        if std::time::Instant::now() > deadline {
            return false;
        }
        smol::Timer::after(Duration::from_millis(50)).await;
    }
}
