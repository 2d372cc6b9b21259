//! A client that speaks to the application in process, and a gate whose tokens are lists of permissions: for
//! the tests of every area. Not used by the appliance.
//!
//! ```no_run
//! # async fn demo(app: std::sync::Arc<aifw::api::App>) {
//! use aifw::api::{self, testing::Client};
//! let client = Client::new(api::app(app, api::routes()));
//! let (status, json) = client.get("/rules").bearer("rules:read").await;
//! # }
//! ```

use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_io::Async;
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::Role;
use futures_lite::AsyncReadExt;
use serde_json::Value;
use tide::http::{self, Method, Url};

use super::app::Traffic;
use super::reply::Io;
use super::router::{Api, Upgrade};
use super::{ApiError, App, Gate, Peer, Route};
use crate::apply::Applier;
use crate::apply::url_tables::UrlTables;
use crate::auth::{Auth, Caller, Credential};
use crate::compile::services::ListenMap;
use crate::config::{Id, Permission, PermissionSet};
use crate::live::{self, Live};
use crate::pf::Pf;
use crate::platform::Platform;
use crate::platform::geoip::GeoIp;
use crate::services::{self, Components, Services};
use crate::store::Store;
use crate::supervisor::Supervisor;
use crate::update::slots::image::SandboxDisk;
use crate::update::{self, Updater, this_version};

/// Accepts `Bearer all`, `Bearer none`, or `Bearer rules:read,nat:read`; every other credential is wrong.
/// A ticket is any hexadecimal text, and holds every permission.
#[derive(Debug, Default, Clone, Copy)]
pub struct ListGate;

impl ListGate {
    /// The caller who holds these permissions.
    pub fn caller(permissions: PermissionSet, ip: Option<IpAddr>) -> Caller {
        Caller {
            user_id: Id::from_u128(1),
            username: "tester".into(),
            role_id: "builtin-admin".into(),
            role: "admin".into(),
            permissions,
            credential: Credential::Token {
                jti: "test".into(),
                session: None,
                enrolment_only: false,
                issued_at: 0,
                expires_at: i64::MAX,
            },
            ip,
        }
    }
}

impl Gate for ListGate {
    fn authenticate(
        &self,
        headers: &HashMap<String, String>,
        ticket: Option<&str>,
        takes_ticket: bool,
        ip: Option<IpAddr>,
    ) -> Result<Option<Caller>, ApiError> {
        if let Some(header) = headers.get("authorization") {
            let wrong = || ApiError::unauthorized("the credential is not valid");
            let list = header.strip_prefix("Bearer ").ok_or_else(wrong)?;
            let permissions = match list {
                "all" => PermissionSet::ALL,
                "none" => PermissionSet::NONE,
                list => list
                    .split(',')
                    .map(str::parse::<Permission>)
                    .collect::<Result<_, _>>()
                    .map_err(|_| wrong())?,
            };
            return Ok(Some(Self::caller(permissions, ip)));
        }
        let hexadecimal = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ticket = ticket.filter(|_| takes_ticket).filter(hexadecimal);
        Ok(ticket.map(|_| Self::caller(PermissionSet::ALL, ip)))
    }
    fn current(&self, caller: &Caller) -> Option<Caller> {
        Some(caller.clone())
    }
    fn denied(&self, _caller: &Caller, _route: &Route) {}
}

/// An appliance with an empty store in `dir`, no packet filter, and [`ListGate`]; see [`guarded`].
pub fn bare_app(dir: &Path) -> App {
    app_with_pf(dir, Arc::new(crate::pf::absent::Absent))
}

/// As [`bare_app`], with a packet filter. Files that rules name are below `root` in the directory.
pub fn app_with_pf(dir: &Path, pf: Arc<dyn Pf>) -> App {
    app_with(dir, pf, Components::none())
}

/// As [`bare_app`], with the daemons of this host (`cargo image components`), which listen as configured: give
/// them free ports of loopback. Make the directory of a short path: it holds Unix sockets. End with
/// `app.services.shutdown()`.
pub fn app_with_daemons(dir: &Path) -> App {
    app_with(dir, Arc::new(crate::pf::absent::Absent), Components::of_this_host())
}

/// As [`app_with_daemons`], well-known ports being so much higher.
pub fn app_with_daemons_above(dir: &Path, offset: u16) -> App {
    let platform: Arc<dyn Platform> = Arc::new(crate::platform::sandbox::Sandbox::new(dir));
    let listen = ListenMap::Loopback { offset };
    let services = services_at(dir, platform.clone(), Components::of_this_host(), listen);
    app_of(dir, Arc::new(crate::pf::absent::Absent), platform, services)
}

/// Services of which none is installed.
pub fn no_daemons(dir: &Path, platform: Arc<dyn Platform>) -> Services {
    services_of(dir, platform, Components::none())
}

fn services_of(dir: &Path, platform: Arc<dyn Platform>, components: Components) -> Services {
    services_at(dir, platform, components, ListenMap::AsConfigured)
}

fn services_at(
    dir: &Path,
    platform: Arc<dyn Platform>,
    components: Components,
    listen: ListenMap,
) -> Services {
    Services::new(services::Setup {
        state_dir: dir.to_owned(),
        components,
        platform,
        supervisor: Supervisor::new(),
        listen,
        sandbox: true,
        root: dir.join("root"),
        sshd: services::sshd::Programs::None,
        inside_allowed: true,
    })
}

/// The whole choice.
#[allow(clippy::expect_used)]
pub fn app_with(dir: &Path, pf: Arc<dyn Pf>, components: Components) -> App {
    let platform: Arc<dyn Platform> = Arc::new(crate::platform::sandbox::Sandbox::new(dir));
    let services = services_of(dir, platform.clone(), components);
    app_of(dir, pf, platform, services)
}

/// As [`app_with_pf`], on another machine than the sandbox's.
pub fn app_on(dir: &Path, pf: Arc<dyn Pf>, platform: Arc<dyn Platform>) -> App {
    let services = services_of(dir, platform.clone(), Components::none());
    app_of(dir, pf, platform, services)
}

#[allow(clippy::expect_used)]
fn app_of(dir: &Path, pf: Arc<dyn Pf>, platform: Arc<dyn Platform>, services: Services) -> App {
    let updater = updater(dir, platform.clone());
    let store = Store::open(dir).expect("a store can be made in the directory");
    let traffic = Arc::new(Traffic::default());
    let applier = Applier::new(
        store.clone(),
        pf.clone(),
        platform.clone(),
        Arc::new(GeoIp::new(dir.join("geoip"))),
        Arc::new(UrlTables::new(dir.join("url_tables"), true)),
        dir.join("root"),
        services.clone(),
    );
    let (live, _) = Live::by_hand(live::Deps {
        store: store.clone(),
        pf: pf.clone(),
        platform: platform.clone(),
        counters: traffic.clone(),
        state_dir: None,
        sources: live::sources::Sources::default(),
        limits: live::fanout::StreamLimits::default(),
    });
    let auth = Auth::new(store.clone(), dir, crate::auth::Options::default()).expect("a key can be made");
    App {
        store,
        auth,
        pf,
        platform,
        gate: Arc::new(ListGate),
        applier,
        services,
        live,
        updater,
        after_write: Vec::new(),
        traffic,
        local: super::console::LocalState::new(dir),
        emergency: None,
    }
}

/// An updater whose disk is `disk.img` in the directory, with slots of 4 MiB, whose release keys are in `release.keys`
/// there, and whose release server is nobody.
#[allow(clippy::expect_used)]
pub fn updater(dir: &Path, platform: Arc<dyn Platform>) -> Arc<Updater> {
    let slots = SandboxDisk::power_on(&dir.join("disk.img"), 4 << 20).expect("the disk boots");
    let updater = Updater::begin(update::Options {
        slots: Arc::new(slots),
        platform,
        state_dir: dir.to_owned(),
        keys: dir.join("release.keys"),
        version: this_version(),
        simulated: true,
        reboot_marker: dir.join("root/var/run/reboot-required"),
        release_url: "http://127.0.0.1:9/latest".into(),
    });
    Arc::new(updater.expect("the updater begins"))
}

/// The same appliance with its real authentication at the gate, and its built-in roles in the store.
#[allow(clippy::expect_used)]
pub async fn guarded(app: App) -> App {
    app.auth.start().await.expect("the built-in roles can be stored");
    App { gate: Arc::new(app.auth.clone()), ..app }
}

/// Sends requests to an application without a socket. Clones share the application and the token.
#[derive(Clone)]
pub struct Client {
    server: tide::Server<Api>,
    token: Option<String>,
}

/// A request being put together; awaiting it sends it and gives status and JSON body (`null` if there is none).
#[must_use]
pub struct Request {
    client: Client,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    peer: Option<Peer>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case; repeated ones joined by `, `.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// The client's end of a WebSocket that was opened in process.
pub type WebSocketClient = WebSocketStream<Async<UnixStream>>;

impl Client {
    pub fn new(server: tide::Server<Api>) -> Self {
        Self { server, token: None }
    }
    /// The same client, every request carrying `Authorization: Bearer <token>`.
    pub fn with_bearer(&self, token: impl Into<String>) -> Self {
        Self { server: self.server.clone(), token: Some(token.into()) }
    }
    /// `path` is below `/api/v1` and may carry a query: `/rules?limit=1`.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request {
            client: self.clone(),
            method: method.parse().unwrap_or(Method::Get),
            path: format!("/api/v1{path}"),
            headers: self
                .token
                .iter()
                .map(|token| ("authorization".into(), format!("Bearer {token}")))
                .collect(),
            body: Vec::new(),
            peer: None,
        }
    }
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }
    pub fn put(&self, path: &str) -> Request {
        self.request("PUT", path)
    }
    pub fn delete(&self, path: &str) -> Request {
        self.request("DELETE", path)
    }
}

impl Request {
    pub fn bearer(self, token: impl std::fmt::Display) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }
    pub fn api_key(self, key: impl std::fmt::Display) -> Self {
        self.header("Authorization", format!("ApiKey {key}"))
    }
    /// Sets (replaces) a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        let name = name.to_ascii_lowercase();
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }
    pub fn json(self, value: impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(&value).unwrap_or_default();
        self.header("Content-Type", "application/json").body(body)
    }
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }
    /// The path as it is, not below `/api/v1`.
    pub fn absolute(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }
    /// As if it came from this address over TCP.
    pub fn from(mut self, ip: IpAddr) -> Self {
        self.peer = Some(Peer::Tcp { peer: SocketAddr::new(ip, 40_000), local: None, tls: false });
        self
    }
    /// As if it came from this peer.
    pub fn peer(mut self, peer: Peer) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The whole answer. For a stream that never ends use [`Request::stream`].
    pub async fn send(self) -> Answer {
        let mut response = self.respond().await;
        let headers = headers(&response);
        let mut body = Vec::new();
        let _ = response.take_body().into_reader().read_to_end(&mut body).await;
        Answer { status: response.status().into(), headers, body }
    }

    /// Status, headers, and the body as it comes (SSE).
    pub async fn stream(self) -> (u16, HashMap<String, String>, EventStream) {
        let mut response = self.respond().await;
        let headers = headers(&response);
        let status = response.status().into();
        let body = response.take_body();
        (status, headers, EventStream { body, pending: Vec::new() })
    }

    /// Opens a WebSocket in process. The conversation runs on its own thread until it ends. A refusal gives
    /// status and body.
    pub async fn websocket(self) -> Result<WebSocketClient, (u16, Value)> {
        let request = self
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut response = request.respond().await;
        let status: u16 = response.status().into();
        let Some(talk) = response.ext().get::<Upgrade>().and_then(Upgrade::take) else {
            let mut body = Vec::new();
            let _ = response.take_body().into_reader().read_to_end(&mut body).await;
            return Err((status, serde_json::from_slice(&body).unwrap_or_default()));
        };
        let failed = |error: std::io::Error| (0, Value::String(error.to_string()));
        let (ours, theirs) = Async::<UnixStream>::pair().map_err(failed)?;
        std::thread::spawn(move || {
            async_io::block_on(async move {
                let io: Box<dyn Io> = Box::new(theirs);
                talk(super::server::websocket::accept(io, Vec::new()).await).await;
            });
        });
        Ok(WebSocketStream::from_raw_socket(ours, Role::Client, None).await)
    }

    async fn respond(self) -> http::Response {
        let mut response = http::Response::new(500);
        let Ok(url) = Url::parse(&format!("http://appliance.test{}", self.path)) else { return response };
        let mut request = http::Request::new(self.method, url);
        for (name, value) in &self.headers {
            request.insert_header(name.as_str(), value.as_str());
        }
        request.insert_header("host", "appliance.test");
        request.set_body(self.body);
        if let Some(peer) = self.peer {
            request.ext_mut().insert(peer);
        }
        if let Ok(answer) = self.client.server.respond(request).await {
            response = answer;
        }
        response
    }
}

impl IntoFuture for Request {
    type Output = (u16, Value);
    type IntoFuture = Pin<Box<dyn Future<Output = (u16, Value)> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = self.send().await;
            (answer.status, answer.json())
        })
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
    /// `null` if the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Server-Sent Events being read.
pub struct EventStream {
    body: http::Body,
    pending: Vec<u8>,
}

impl EventStream {
    /// The next event's data as JSON, or `None` at the end or after `patience`. Comments are skipped.
    pub async fn next(&mut self, patience: Duration) -> Option<Value> {
        let read = async {
            loop {
                if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = self.pending.drain(..end + 2).collect();
                    let text = String::from_utf8_lossy(&event);
                    let data: Vec<&str> =
                        text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                    if !data.is_empty() {
                        return serde_json::from_str(&data.join("\n")).ok();
                    }
                    continue;
                }
                let mut buf = [0; 4096];
                match self.body.read(&mut buf).await {
                    Ok(count) if count > 0 => self.pending.extend_from_slice(&buf[..count]),
                    _ => return None,
                }
            }
        };
        let timeout = async {
            async_io::Timer::after(patience).await;
            None
        };
        futures_lite::future::or(read, timeout).await
    }
}

fn headers(response: &http::Response) -> HashMap<String, String> {
    let join = |values: &http::headers::HeaderValues| {
        values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(", ")
    };
    response.iter().map(|(name, values)| (name.as_str().to_owned(), join(values))).collect()
}
