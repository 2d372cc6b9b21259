//! The forms of a successful answer (contract/auth.md §1.2).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_lite::{AsyncRead, AsyncWrite, Stream};
use serde::Serialize;
use serde_json::json;

use super::ApiError;
use super::events::Events;

/// A connection after its upgrade: TCP, TLS or the local socket.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An accepted WebSocket; the server side of the handshake is done.
pub type WebSocket = async_tungstenite::WebSocketStream<Box<dyn Io>>;
/// Holds the conversation on an accepted WebSocket.
pub type Conversation = Box<dyn FnOnce(WebSocket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What is sent as the body.
pub enum Payload {
    Bytes(Vec<u8>),
    /// Serialised once, sent many times.
    Shared(Arc<[u8]>),
    /// Sent as it comes, never compressed: SSE, downloads.
    Stream(Box<dyn AsyncRead + Unpin + Send + Sync>),
    /// The connection becomes a WebSocket (RFC 6455); the function holds the conversation.
    WebSocket(Conversation),
}

/// A successful answer.
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Payload,
}

pub const JSON: &str = "application/json";

impl Reply {
    /// 200 with the value as it is.
    pub fn json(value: &impl Serialize) -> Self {
        Self::bytes(200, JSON, serde_json::to_vec(value).unwrap_or_default())
    }
    /// 200 `{"data": value}`.
    pub fn data(value: &impl Serialize) -> Self {
        Self::json(&json!({ "data": value }))
    }
    /// 201 `{"data": value}`.
    pub fn created(value: &impl Serialize) -> Self {
        Self::data(value).with_status(201)
    }
    /// 200 `{"message": text}`.
    pub fn message(text: impl Into<String>) -> Self {
        Self::json(&json!({ "message": text.into() }))
    }
    /// 200 `{"data": rows, "total": total}` with `X-Total-Count`.
    pub fn page(rows: &impl Serialize, total: usize) -> Self {
        Self::json(&json!({ "data": rows, "total": total })).with_header("X-Total-Count", total.to_string())
    }
    pub fn bytes(status: u16, content_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: Payload::Bytes(bytes) }
    }
    pub fn shared(content_type: &'static str, bytes: Arc<[u8]>) -> Self {
        Self { status: 200, content_type, headers: Vec::new(), body: Payload::Shared(bytes) }
    }
    pub fn stream(
        content_type: &'static str,
        reader: impl AsyncRead + Unpin + Send + Sync + 'static,
    ) -> Self {
        Self { status: 200, content_type, headers: Vec::new(), body: Payload::Stream(Box::new(reader)) }
    }
    /// 200 `text/event-stream`: one unnamed event for each string (one line of JSON), a comment when nothing has
    /// been sent for 12 s, the end when `source` ends. `source` may be an `async_channel::Receiver`.
    pub fn events(source: impl Stream<Item = String> + Send + Sync + 'static) -> Self {
        Self::stream("text/event-stream", Events::new(Box::pin(source)))
            .with_header("Cache-Control", "no-cache")
            .with_header("X-Accel-Buffering", "no")
    }
    /// No body.
    pub fn empty(status: u16) -> Self {
        Self::bytes(status, JSON, Vec::new())
    }
    /// 101: the connection becomes a WebSocket and `talk` holds the conversation. The listener answers 400
    /// if the request did not ask for one.
    pub fn websocket<F, R>(talk: F) -> Self
    where
        F: FnOnce(WebSocket) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let body = Payload::WebSocket(Box::new(move |socket| Box::pin(talk(socket))));
        Self { status: 101, content_type: JSON, headers: Vec::new(), body }
    }
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

impl From<ApiError> for Reply {
    /// The one error body: `{"error": text, "message": text}`.
    fn from(refusal: ApiError) -> Self {
        let body = json!({ "error": refusal.message, "message": refusal.message });
        Self { headers: refusal.headers, ..Self::json(&body) }.with_status(refusal.status)
    }
}
