//! From the route table to a tide application: routing, the order of checks (contract/auth.md §1.3), error
//! bodies, CORS, security headers, compression. The listener, the local socket and the tests all call the same
//! application; nothing here knows of sockets.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_lite::{AsyncReadExt, FutureExt};
use ipnet::IpNet;
use tide::http::{self, Method, StatusCode, headers};

use super::call::{Upload, body_failed, too_large};
use super::encode::Encoder;
use super::reply::{Conversation, Payload};
use super::tree::{Found, Tree};
use super::ui::Ui;
use super::{Access, ApiError, App, Call, Peer, Reply, Route};
use crate::auth::{Caller, Credential};

/// Which web pages of other origins may read answers. Credentials are never cookies, so `Any` gives nothing
/// away that the caller does not already hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cors {
    #[default]
    Any,
    /// These origins only, as `https://host[:port]`.
    Only(Vec<String>),
}

impl Cors {
    /// From a comma-separated list of origins; `*` or nothing = any. An entry that no browser would send as its
    /// origin is refused, since it would silently allow nobody.
    pub fn parse(list: &str) -> Result<Self, BadOrigin> {
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let mut only = Vec::new();
        for origin in origins {
            if origin == "*" {
                return Ok(Self::Any);
            }
            if !is_origin(origin) {
                return Err(BadOrigin(origin.to_owned()));
            }
            only.push(origin.to_owned());
        }
        Ok(if only.is_empty() { Self::Any } else { Self::Only(only) })
    }
}

/// An entry of a list of origins that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: expected an origin as https://host[:port], or *")]
pub struct BadOrigin(String);

/// Whether the text is an origin as browsers send it: scheme, host, perhaps a port, nothing else (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let Ok(url) = http::Url::parse(text) else { return false };
    matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization().eq_ignore_ascii_case(text)
}

/// What may be set about the application.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub cors: Cors,
    /// A directory with a static web UI, served at `/`.
    pub ui: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed, beside loopback.
    pub trusted_proxies: Vec<IpNet>,
}

/// The tide application's state.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    app: Arc<App>,
    tree: Tree,
    options: Options,
    ui: Option<Ui>,
    encoder: Encoder,
}

/// An accepted WebSocket upgrade, attached to a 101 answer: the listener sends the answer, then hands the
/// connection to the conversation.
pub(crate) struct Upgrade(Mutex<Option<Conversation>>);

impl Upgrade {
    pub(crate) fn take(&self) -> Option<Conversation> {
        self.0.lock().ok()?.take()
    }
}

/// The application with default options.
pub fn app(app: Arc<App>, routes: Vec<Route>) -> tide::Server<Api> {
    app_with(app, routes, Options::default())
}

/// The application. It answers in process (`respond`) as well as behind the listener.
pub fn app_with(app: Arc<App>, routes: Vec<Route>, options: Options) -> tide::Server<Api> {
    let ui = options.ui.as_deref().map(Ui::new);
    let state =
        Api(Arc::new(Inner { app, tree: Tree::new(routes), ui, options, encoder: Encoder::default() }));
    let mut server = tide::with_state(state);
    server.at("/").all(Everything);
    server.at("/*").all(Everything);
    server
}

/// tide's one endpoint: our own tree routes, so that the table stays data.
struct Everything;

#[async_trait::async_trait]
impl tide::Endpoint<Api> for Everything {
    async fn call(&self, request: tide::Request<Api>) -> tide::Result {
        let api = request.state().clone();
        let request: http::Request = request.into();
        Ok(api.answer(request).await.into())
    }
}

/// What is known of a request before its body is read.
struct Head {
    method: Method,
    path: String,
    /// Handed on to the handler.
    headers: HashMap<String, String>,
    peer: Option<Peer>,
    // What the answer depends on:
    origin: Option<String>,
    encodings: Option<String>,
    preflight: Option<Preflight>,
}

/// A browser asks beforehand whether a request of another origin would be allowed (Fetch, "CORS-preflight").
struct Preflight {
    headers: Option<String>,
}

impl Head {
    fn new(request: &http::Request) -> Self {
        let method = request.method();
        let headers = headers_of(request);
        let asks = method == Method::Options && headers.contains_key("access-control-request-method");
        Self {
            method,
            path: request.url().path().to_owned(),
            peer: request.ext().get::<Peer>().copied(),
            origin: headers.get("origin").cloned(),
            encodings: headers.get("accept-encoding").cloned(),
            preflight: asks
                .then(|| Preflight { headers: headers.get("access-control-request-headers").cloned() }),
            headers,
        }
    }
}

const API: &str = "/api";
const PREFIX: &str = "/api/v1";
const ANY_HEADER: &str = "Authorization, Content-Type, If-None-Match, X-Requested-With";
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; \
     frame-ancestors 'none'";

impl Api {
    async fn answer(&self, request: http::Request) -> http::Response {
        let mut head = Head::new(&request);
        let result = match AssertUnwindSafe(self.dispatch(&mut head, request)).catch_unwind().await {
            Ok(result) => result,
            Err(_) => Err(ApiError::internal(format!("a handler of {} panicked", head.path))),
        };
        let reply = result.unwrap_or_else(Reply::from);
        self.0.app.traffic.count(reply.status);
        self.response(&head, reply).await
    }

    async fn dispatch(&self, head: &mut Head, request: http::Request) -> Result<Reply, ApiError> {
        if head.preflight.is_some() {
            return Ok(Reply::empty(204));
        }
        let below = head.path.strip_prefix(PREFIX).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if below.is_some() {
            return self.operation(head, request).await;
        }
        let api_path =
            head.path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if api_path {
            return Err(ApiError::not_found(&head.path));
        }
        match head.method {
            Method::Get | Method::Head => match &self.0.ui {
                Some(ui) => ui.page(&head.path, &head.headers).await,
                None if head.path == "/" => Ok(Reply::json(&serde_json::json!({
                    "product": "AiFw",
                    "version": env!("CARGO_PKG_VERSION"),
                    "api": PREFIX,
                    "openapi": "/api/v1/openapi.json",
                }))),
                None => Err(ApiError::not_found(&head.path)),
            },
            Method::Options => Ok(Reply::empty(204).with_header("Allow", "GET, HEAD, OPTIONS")),
            _ => {
                Err(ApiError::new(405, "only GET is possible here")
                    .with_header("Allow", "GET, HEAD, OPTIONS"))
            }
        }
    }

    /// One operation of the table: 404/405 → 401 → 403 → 413 → the handler.
    async fn operation(&self, head: &mut Head, mut request: http::Request) -> Result<Reply, ApiError> {
        let path = head.path.get(PREFIX.len()..).unwrap_or_default();
        let sought = if head.method == Method::Head { Method::Get } else { head.method };
        let (route, parameters) = match self.0.tree.find(sought.as_ref(), path) {
            Found::Route { route, parameters } => (route, parameters),
            Found::Methods(methods) if head.method == Method::Options => {
                return Ok(Reply::empty(204).with_header("Allow", allow(&methods)));
            }
            Found::Methods(methods) => {
                return Err(ApiError::new(405, format!("{} is not possible here", head.method))
                    .with_header("Allow", allow(&methods)));
            }
            Found::Nothing => return Err(ApiError::not_found(&head.path)),
        };
        let query = query_of(&request);
        let forwarded = head.headers.get("x-forwarded-for").map(String::as_str);
        let ip = head.peer.and_then(|peer| peer.client(forwarded, &self.0.options.trusted_proxies));
        let ticket = query.iter().find(|(name, _)| name == "ticket").map(|(_, value)| value.as_str());
        let caller = self.caller(head, route, ticket, ip)?;
        self.permit(route, caller.as_ref())?;
        let (body, upload) = match route.streams {
            true => (Vec::new(), Some(stream_body(&mut request, route.body_limit)?)),
            false => (read_body(&mut request, route.body_limit).await?, None),
        };
        let wants_websocket = websocket_key(head);
        let writer = if route.method != "GET" && route.snapshot { caller.clone() } else { None };
        let call = Call {
            app: self.0.app.clone(),
            caller,
            method: route.method,
            path: head.path.clone(),
            params: parameters.into_iter().collect(),
            query,
            body,
            upload,
            ip,
            local_addr: head.peer.and_then(|peer| peer.local()),
            headers: std::mem::take(&mut head.headers),
        };
        let reply = (route.handler)(call).await?;
        if let Payload::WebSocket(_) = reply.body {
            return wants_websocket.map(|accept| {
                reply
                    .with_header("Upgrade", "websocket")
                    .with_header("Connection", "Upgrade")
                    .with_header("Sec-WebSocket-Accept", accept)
            });
        }
        if let Some(writer) = writer.filter(|_| (200..300).contains(&reply.status)) {
            self.0.app.wrote(route, &head.path, &writer);
        }
        Ok(reply)
    }

    fn caller(
        &self,
        head: &Head,
        route: &Route,
        ticket: Option<&str>,
        ip: Option<std::net::IpAddr>,
    ) -> Result<Option<Caller>, ApiError> {
        if matches!(head.peer, Some(Peer::Local { .. })) && !head.headers.contains_key("authorization") {
            return Ok(Some(Caller::local()));
        }
        match self.0.app.gate.authenticate(&head.headers, ticket, route.takes_ticket, ip) {
            // A stale token must not keep anybody from logging in.
            Err(_) if route.access == Access::Public => Ok(None),
            Err(refusal) if refusal.status == 401 && !refusal.has_header("WWW-Authenticate") => {
                Err(refusal.with_header("WWW-Authenticate", "Bearer"))
            }
            result => result,
        }
    }

    fn permit(&self, route: &Route, caller: Option<&Caller>) -> Result<(), ApiError> {
        if route.access == Access::Public {
            return Ok(());
        }
        let caller = caller.ok_or_else(|| ApiError::unauthorized("a credential is needed"))?;
        let refusal = match route.access {
            Access::Local if caller.credential != Credential::Local => {
                "only root on the appliance itself can do this, over the local socket".into()
            }
            Access::Needs(permission) if !caller.may(permission) => {
                format!("the permission {permission} is needed")
            }
            Access::Needs(_) | Access::Authenticated if caller.enrolment_only() => {
                "this token is good for setting up the second factor only".into()
            }
            _ => return Ok(()),
        };
        self.0.app.gate.denied(caller, route);
        Err(ApiError::forbidden(refusal))
    }

    async fn response(&self, head: &Head, mut reply: Reply) -> http::Response {
        let is_api = head.path.starts_with(API);
        self.0.encoder.encode(head.encodings.as_deref(), &mut reply).await;
        let status = StatusCode::try_from(reply.status).unwrap_or(StatusCode::InternalServerError);
        let mut response = http::Response::new(status);
        // First, so that the body does not bring a type of its own.
        response.insert_header(headers::CONTENT_TYPE, reply.content_type);
        response.insert_header("x-content-type-options", "nosniff");
        if is_api && !reply.has_header("Cache-Control") {
            response.insert_header(headers::CACHE_CONTROL, "no-store");
        }
        if !is_api && reply.content_type.starts_with("text/html") {
            response.insert_header("Content-Security-Policy", PAGE_POLICY);
            response.insert_header("X-Frame-Options", "DENY");
            response.insert_header("Referrer-Policy", "same-origin");
        }
        if head.peer.is_some_and(|peer| peer.is_tls()) {
            response.insert_header("Strict-Transport-Security", "max-age=31536000; includeSubDomains");
        }
        self.cross_origin(head, &mut response);
        for (name, value) in reply.headers {
            let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            let value = if printable { value } else { value.replace(|c| !matches!(c, ' '..='~'), "?") };
            response.append_header(name, value);
        }
        match reply.body {
            Payload::Bytes(bytes) => response.set_body(http::Body::from_bytes(bytes)),
            Payload::Shared(bytes) => {
                let length = bytes.len();
                response
                    .set_body(http::Body::from_reader(futures_lite::io::Cursor::new(bytes), Some(length)));
            }
            Payload::Stream(reader) => {
                response.set_body(http::Body::from_reader(futures_lite::io::BufReader::new(reader), None));
            }
            Payload::WebSocket(conversation) => {
                response.ext_mut().insert(Upgrade(Mutex::new(Some(conversation))));
            }
        }
        if matches!(reply.status, 101 | 204 | 304) {
            response.remove_header("Content-Type");
        }
        response
    }

    fn cross_origin(&self, head: &Head, response: &mut http::Response) {
        let Some(origin) = &head.origin else { return };
        match &self.0.options.cors {
            Cors::Any => {
                response.insert_header("Access-Control-Allow-Origin", "*");
            }
            Cors::Only(origins) => {
                response.append_header("Vary", "Origin");
                if !origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
                    return;
                }
                response.insert_header("Access-Control-Allow-Origin", origin.as_str());
            }
        }
        response.insert_header(
            "Access-Control-Expose-Headers",
            "X-Total-Count, X-Config-Version, Retry-After, Content-Disposition",
        );
        if let Some(preflight) = &head.preflight {
            let asked = preflight.headers.as_deref().unwrap_or(ANY_HEADER);
            response.insert_header(
                "Access-Control-Allow-Methods",
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            );
            response.insert_header("Access-Control-Allow-Headers", asked);
            response.insert_header("Access-Control-Max-Age", "600");
        }
    }
}

fn allow(methods: &[&str]) -> String {
    let mut allowed = methods.to_vec();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    allowed.push("OPTIONS");
    allowed.join(", ")
}

fn headers_of(request: &http::Request) -> HashMap<String, String> {
    let mut headers = HashMap::with_capacity(12);
    for (name, values) in request.iter() {
        let mut values = values.iter().map(http::headers::HeaderValue::as_str);
        let mut text = values.next().unwrap_or_default().to_owned();
        for value in values {
            text.push_str(", ");
            text.push_str(value);
        }
        headers.insert(name.as_str().to_owned(), text);
    }
    headers
}

fn query_of(request: &http::Request) -> Vec<(String, String)> {
    let Some(query) = request.url().query() else { return Vec::new() };
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// The whole body; 413 as soon as it is known to be larger than `limit`.
async fn read_body(request: &mut http::Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let length = request.len();
    if length == Some(0) {
        return Ok(Vec::new());
    }
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(64 * 1024));
    let mut body = request.take_body().into_reader().take(limit as u64 + 1);
    body.read_to_end(&mut bytes).await.map_err(|error| body_failed(&error))?;
    if bytes.len() > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

/// The body as it comes; 413 when it is announced to be larger than `limit`.
fn stream_body(request: &mut http::Request, limit: usize) -> Result<Upload, ApiError> {
    let length = request.len();
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    Ok(Upload::new(request.take_body().into_reader(), limit, length))
}

/// `Sec-WebSocket-Accept` for a request that asks for a WebSocket (RFC 6455 §4.2.1); else 400 or 426.
fn websocket_key(head: &Head) -> Result<String, ApiError> {
    let lists = |name: &str, token: &str| {
        let tokens = head.headers.get(name).map_or("", String::as_str).split(',');
        tokens.map(str::trim).any(|candidate| candidate.eq_ignore_ascii_case(token))
    };
    if head.method != Method::Get || !lists("upgrade", "websocket") || !lists("connection", "upgrade") {
        return Err(ApiError::bad_request("expected a WebSocket request (RFC 6455)"));
    }
    let Some(version) = head.headers.get("sec-websocket-version") else {
        return Err(ApiError::bad_request("Sec-WebSocket-Version: expected 13"));
    };
    if version.trim() != "13" {
        let refusal = ApiError::new(426, "Sec-WebSocket-Version: expected 13");
        return Err(refusal.with_header("Sec-WebSocket-Version", "13").with_header("Upgrade", "websocket"));
    }
    let key = head.headers.get("sec-websocket-key").map_or("", String::as_str);
    let decoded = data_encoding::BASE64.decode(key.as_bytes()).ok().filter(|nonce| nonce.len() == 16);
    if decoded.is_none() {
        return Err(ApiError::bad_request("Sec-WebSocket-Key: expected 16 bytes in base64"));
    }
    Ok(async_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes()))
}
