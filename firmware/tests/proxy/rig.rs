//! An appliance in process with the real TrafficCop, small servers behind it, and curl in front.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aifw::api::testing::{Client, app_with_daemons, bare_app};
use aifw::api::{self, App};
use serde_json::{Value, json};

pub struct Rig {
    pub app: Arc<App>,
    pub client: Client,
    pub dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(app_with_daemons(dir.path()));
        let runner = app.services.runner(aifw::config::ServiceKind::Proxy);
        assert!(runner.is_installed(), "TrafficCop is missing: run `cargo image components`");
        Self::of(app, dir)
    }
    pub fn without_daemon() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(bare_app(dir.path()));
        Self::of(app, dir)
    }
    fn of(app: Arc<App>, dir: tempfile::TempDir) -> Self {
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("proxy:read,proxy:write");
        Self { app, client, dir }
    }
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(&format!("/reverse-proxy{path}")).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
    /// Status and body of a write.
    pub async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, &format!("/reverse-proxy{path}"));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await;
        (answer.status, answer.json())
    }
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
    pub async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("PUT", path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
    /// The whole row with changes, as clients send it back.
    pub async fn change(&self, path: &str, row: &Value, changes: Value) -> Value {
        let mut row = row.clone();
        for (key, value) in changes.as_object().unwrap() {
            row[key] = value.clone();
        }
        self.put(&format!("{path}/{}", row["id"].as_str().unwrap()), row).await
    }
    pub fn pid(&self) -> Option<u32> {
        self.app.services.runner(aifw::config::ServiceKind::Proxy).status().pid
    }
    pub fn file(&self) -> Option<String> {
        let places = self.app.services.runner(aifw::config::ServiceKind::Proxy).places();
        std::fs::read_to_string(places.config.join("config.yaml")).ok()
    }
    /// A file that the configuration names by an absolute path.
    pub fn path(&self, configured: &str) -> PathBuf {
        self.dir.path().join("root").join(configured.trim_start_matches('/'))
    }
    /// An entry point, a service and a router of plain HTTP; returns the port.
    pub async fn plain(&self, backend: u16) -> u16 {
        let port = free_port();
        self.post("/entrypoints", json!({ "name": "web", "address": format!("127.0.0.1:{port}") })).await;
        self.post("/http/services", service("back", &[(backend, 1)])).await;
        self.post("/http/routers", json!({ "name": "all", "rule": "PathPrefix(`/`)", "service": "back" }))
            .await;
        self.put("/config", json!({ "enabled": true })).await;
        port
    }
    pub async fn end(self) {
        self.app.services.shutdown().await;
    }
}

pub fn service(name: &str, servers: &[(u16, u64)]) -> Value {
    let servers: Vec<Value> = servers
        .iter()
        .map(|(port, weight)| json!({ "url": format!("http://127.0.0.1:{port}"), "weight": weight }))
        .collect();
    let config = json!({ "servers": servers, "serversTransport": "" });
    json!({ "name": name, "service_type": "loadBalancer", "config_json": config.to_string() })
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An HTTP server that answers every request with its name, and counts.
pub struct Backend {
    pub port: u16,
    pub served: Arc<AtomicU64>,
}

impl Backend {
    pub fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicU64::new(0));
        let counter = served.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                std::thread::spawn(move || answer(stream, name, &counter));
            }
        });
        Self { port, served }
    }
    pub fn count(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

fn answer(stream: TcpStream, name: &str, counter: &AtomicU64) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            counter.fetch_add(1, Ordering::Relaxed);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if writer.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// What curl got: status code, body, and the `Location` header.
pub fn curl(options: &[&str], url: &str) -> (u16, String, String) {
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "10", "--noproxy", "*", "-w", "\n%{http_code} %{redirect_url}"])
        .args(options)
        .arg(url)
        .output()
        .expect("curl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, rest) = text.rsplit_once('\n').unwrap();
    let (status, location) = rest.split_once(' ').unwrap();
    (status.parse().unwrap(), body.to_owned(), location.to_owned())
}
