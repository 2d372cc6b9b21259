//! The server's end of a WebSocket (RFC 6455), after the handshake.

use std::time::Duration;

use async_io::Timer;
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::protocol::frame::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};

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

/// Ends a conversation that reading has failed: tells the client why (1009 for a message above
/// [`LARGEST_MESSAGE`], 1007, 1002), and lets it read that although it may still be sending.
pub async fn fail(mut socket: WebSocket, error: &Error) {
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return,
    };
    let farewell = async {
        let frame = CloseFrame { code, reason: error.to_string().into() };
        if socket.close(Some(frame)).await.is_err() {
            return;
        }
        let io = socket.get_mut();
        let mut sink = vec![0; 16 * 1024];
        // Closing with unread bytes would make our kernel throw the close frame away.
        if io.close().await.is_ok() {
            while matches!(io.read(&mut sink).await, Ok(count) if count > 0) {}
        }
    };
    farewell
        .or(async {
            Timer::after(Duration::from_secs(5)).await;
        })
        .await;
}
