//! The listener: HTTP/1.1 on TCP, TLS and the local socket, in front of the tide application.

pub mod websocket;
