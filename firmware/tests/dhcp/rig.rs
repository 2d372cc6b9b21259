//! An appliance in process with the real rDHCP on a high port of this host.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api::testing::{Client, app_with_daemons_above, bare_app};
use aifw::api::{self, App};
use aifw::config::ServiceKind;
use serde_json::{Value, json};

use crate::client::DhcpClient;

pub struct Rig {
    pub app: Arc<App>,
    pub client: Client,
    /// Where the daemon serves.
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = loop {
            let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
            if port > 10_000 {
                break port;
            }
        };
        let app = Arc::new(app_with_daemons_above(dir.path(), port - 67));
        let installed = app.services.runner(ServiceKind::Dhcp).is_installed();
        assert!(installed, "rDHCP is missing: run `cargo image components`");
        Self::of(app, dir, port)
    }
    pub fn without_daemon() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::of(Arc::new(bare_app(dir.path())), dir, 0)
    }
    fn of(app: Arc<App>, dir: tempfile::TempDir, port: u16) -> Self {
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("dhcp:read,dhcp:write");
        Self { app, client, port, _dir: dir }
    }
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(&format!("/dhcp{path}")).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
    pub async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, &format!("/dhcp{path}"));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await;
        (answer.status, answer.json())
    }
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, path, body).await;
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
        answer
    }
    /// A subnet on the sandbox's LAN, whose address is 192.168.1.1; served from then on.
    pub async fn serve(&self, start: &str, end: &str) -> Value {
        let subnet = json!({ "network": "192.168.1.0/24", "pool_start": start, "pool_end": end,
            "gateway": "192.168.1.1", "lease_time": 600 });
        let subnet = self.ok("POST", "/v4/subnets", subnet).await["data"].clone();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.ok("PUT", "/v4/config", json!({ "enabled": true, "api_port": port, "interfaces": ["em1"] }))
            .await;
        self.ok("POST", "/v4/apply", Value::Null).await;
        subnet
    }
    pub fn dhcp(&self, mac: u64) -> DhcpClient {
        DhcpClient::new(self.port, mac)
    }
    /// Of the daemon, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let status = self.app.services.runner(ServiceKind::Dhcp).status();
        status.pid.filter(|_| status.state == aifw::supervisor::State::Running)
    }
    pub fn file(&self) -> String {
        let places = self.app.services.runner(ServiceKind::Dhcp).places();
        std::fs::read_to_string(places.config.join("config.toml")).unwrap()
    }
    /// Waits for what follows a write a second later.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
            async_io::Timer::after(Duration::from_millis(20)).await;
        }
    }
    pub async fn end(self) {
        self.app.services.shutdown().await;
    }
}
