//! A client that speaks HTTP/1.1 byte by byte, and servers on free ports of loopback.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use aifw::api::server::{Limits, Listen, Server};

/// A plain server on a free port of loopback.
pub fn serve<S: Clone + Send + Sync + 'static>(app: tide::Server<S>, limits: Limits) -> (Server, SocketAddr) {
    let server = Server::start(app, &[Listen::Plain("127.0.0.1:0".parse().unwrap())], limits, 2).unwrap();
    let address = server.addresses()[0];
    (server, address)
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.text()))
    }
}

/// One connection.
pub struct Wire<T = TcpStream> {
    pub stream: T,
    pub buffer: Vec<u8>,
}

impl Wire<TcpStream> {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self::over(stream)
    }
}

impl<T: Read + Write> Wire<T> {
    pub fn over(stream: T) -> Self {
        Self { stream, buffer: Vec::new() }
    }
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }
    /// `method path`, a host, these further header lines, this body.
    pub fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.send(request(method, path, headers, body));
        if method == "HEAD" { self.answer_to_head() } else { self.answer() }
    }
    fn fill(&mut self) -> usize {
        let mut chunk = [0; 16 * 1024];
        let count = self.stream.read(&mut chunk).unwrap();
        self.buffer.extend_from_slice(&chunk[..count]);
        count
    }
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head[..end].to_vec()).unwrap());
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "cut in the middle of a head: {:?}", self.buffer);
                return None;
            }
        }
    }
    pub fn answer(&mut self) -> Answer {
        self.next().expect("an answer, not the end of the connection")
    }
    pub fn answer_to_head(&mut self) -> Answer {
        let head = self.head().expect("an answer");
        Answer { status: head[9..12].parse().unwrap(), head, body: Vec::new() }
    }
    /// The next answer, or `None` at the end of the connection.
    pub fn next(&mut self) -> Option<Answer> {
        let head = self.head()?;
        let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: Vec::new() };
        if matches!(answer.status, 100 | 101 | 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(length) =
            answer.header("content-length").map(|text| text.parse::<usize>().unwrap())
        {
            answer.body = self.take(length);
        } else {
            while self.fill() > 0 {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Some(answer)
    }
    /// The next chunk of a chunked body; `None` after the last one.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            assert!(self.fill() > 0, "cut in the middle of a chunked body");
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
        let mut bytes = self.take(size + 2);
        bytes.truncate(size);
        (size > 0).then_some(bytes)
    }
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill() > 0, "cut in the middle of a body");
        }
        self.buffer.drain(..count).collect()
    }
    /// Whether the server has closed the connection without another byte.
    pub fn ended(&mut self) -> bool {
        self.buffer.is_empty() && matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

pub fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: fw.test\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
