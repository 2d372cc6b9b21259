//! An appliance in process with the real rTIME, and NTP spoken by hand.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aifw::api::testing::{Client, app_with_daemons, bare_app};
use aifw::api::{self, App};
use aifw::config::ServiceKind;
use aifw::store::{Author, Draft, StoreError};
use serde_json::{Value, json};

pub struct Rig {
    pub app: Arc<App>,
    pub client: Client,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(app_with_daemons(dir.path()));
        let installed = app.services.runner(ServiceKind::Time).is_installed();
        assert!(installed, "rTIME is missing: run `cargo image components`");
        Self::of(app, dir)
    }
    pub fn without_daemon() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(bare_app(dir.path()));
        Self::of(app, dir)
    }
    fn of(app: Arc<App>, dir: tempfile::TempDir) -> Self {
        let client =
            Client::new(api::app(app.clone(), api::routes())).with_bearer("settings:read,settings:write");
        Self { app, client, _dir: dir }
    }
    /// As a first set-up leaves it.
    pub async fn seeded(self) -> Self {
        let commit = self.app.store.commit(&Author::system("setup"), |draft: &mut Draft| {
            draft.config.time_sources = aifw::config::time::seeds().into_iter().collect();
            Ok::<(), StoreError>(())
        });
        commit.await.unwrap();
        self
    }
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(path).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
    pub async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await;
        (answer.status, answer.json())
    }
    /// The field that a PUT is refused for.
    pub async fn refused(&self, path: &str, body: Value) -> String {
        let (status, answer) = self.send("PUT", path, body).await;
        assert_eq!(status, 400, "{answer}");
        answer["error"].as_str().unwrap().split(':').next().unwrap().to_owned()
    }
    /// In the appliance's own directory.
    pub fn path(&self, name: &str) -> String {
        self._dir.path().join(name).display().to_string()
    }
    /// What must succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, path, body).await;
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
        answer
    }
    /// Enabled, on free ports; where NTP is served.
    pub async fn on_free_ports(&self) -> SocketAddr {
        let place = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let served = place();
        let settings = json!({ "enabled": true, "ntp_listen": served.to_string(),
            "metrics_listen": place().to_string(), "management_listen": place().to_string() });
        self.ok("PUT", "/time/config", settings).await;
        served
    }
    pub fn file(&self) -> String {
        let places = self.app.services.runner(ServiceKind::Time).places();
        std::fs::read_to_string(places.config.join("rtime.toml")).unwrap()
    }
    pub async fn end(self) {
        self.app.services.shutdown().await;
    }
    /// The appliance stops and is started again from what it has kept.
    pub async fn started_again(self) -> Self {
        let Self { app, client, _dir: dir } = self;
        app.services.shutdown().await;
        drop((app, client));
        let app = Arc::new(app_with_daemons(dir.path()));
        app.applier.start_services().await;
        Self::of(app, dir)
    }
}

/// A port that was free for UDP and TCP a moment ago.
pub fn free_port() -> u16 {
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One client request (RFC 5905 §7.3); the answer's 48 octets.
pub fn ask(server: SocketAddr, patience: Duration) -> Option<[u8; 48]> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut packet = [0_u8; 48];
    packet[0] = 0x23; // no warning, version 4, client
    packet[40..48].copy_from_slice(&0x1234_5678_9abc_def0_u64.to_be_bytes());
    socket.send_to(&packet, server).unwrap();
    let mut answer = [0; 48];
    match socket.recv_from(&mut answer) {
        Ok((48, _)) if answer[24..32] == packet[40..48] => Some(answer),
        _ => None,
    }
}

/// A server of stratum 2 with this host's own time. A stand-in: rTIME itself does not serve until it is
/// synchronised, and no server of the world can be asked here.
pub fn stand_in_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut request = [0_u8; 256];
        while let Ok((length, client)) = socket.recv_from(&mut request) {
            if length < 48 {
                continue;
            }
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            // Seconds since 1900 and their fraction.
            let seconds = now.as_secs() + 2_208_988_800;
            let stamp = (seconds << 32) | ((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000);
            let mut answer = [0_u8; 48];
            (answer[0], answer[1], answer[2], answer[3]) = (0x24, 2, request[2], 0xec);
            answer[4..8].copy_from_slice(&0x0000_0040_u32.to_be_bytes());
            answer[8..12].copy_from_slice(&0x0000_0040_u32.to_be_bytes());
            answer[12..16].copy_from_slice(&[127, 0, 0, 9]);
            answer[16..24].copy_from_slice(&stamp.to_be_bytes());
            answer[24..32].copy_from_slice(&request[40..48]);
            answer[32..40].copy_from_slice(&stamp.to_be_bytes());
            answer[40..48].copy_from_slice(&stamp.to_be_bytes());
            socket.send_to(&answer, client).ok();
        }
    });
    place
}
