//! The server's end of a WebSocket (RFC 6455), after the handshake.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::api::reply::{Io, WebSocket};

/// Largest message and frame taken from a client; more closes the connection with 1009.
pub const LARGEST_MESSAGE: usize = 64 * 1024;

/// Takes over a connection whose handshake is done; `read` are bytes that arrived after the request's head.
pub(crate) async fn accept(io: Box<dyn Io>, read: Vec<u8>) -> WebSocket {
    let limits = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    WebSocketStream::from_partially_read(io, read, Role::Server, Some(limits)).await
}
