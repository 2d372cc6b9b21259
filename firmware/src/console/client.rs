//! The console's side of the local socket: one request, one connection, JSON both ways. The kernel tells the
//! appliance who asks; there is no credential.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where the appliance listens for root.
pub const SOCKET: &str = "/var/run/aifw.sock";

/// The longest that an operation may take: a setup starts services, and waits for each.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why an operation gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or hangs up in the middle.
    #[error("the appliance does not answer at {}: {reason}", .socket.display())]
    Unreachable { socket: PathBuf, reason: io::Error },
    /// In the appliance's own words.
    #[error("{message}")]
    Refused { status: u16, message: String },
    #[error("an answer that is not understood: {0}")]
    Answer(String),
}

/// Speaks to the appliance.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// What is sent with a request.
struct Body<'a> {
    kind: &'a str,
    length: u64,
    bytes: &'a mut dyn Read,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), patience: PATIENCE }
    }

    /// The same, for operations that may take so long.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `path` below `/api/v1`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call("GET", path, &[])
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ClientError> {
        self.call("POST", path, body.to_string().as_bytes())
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ClientError> {
        self.call("PUT", path, body.to_string().as_bytes())
    }

    /// POSTs so many bytes of that media type as they are read.
    pub fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: &str,
        length: u64,
        bytes: &mut dyn Read,
    ) -> Result<T, ClientError> {
        self.answered("POST", path, Body { kind, length, bytes })
    }

    fn call<T: DeserializeOwned>(&self, method: &str, path: &str, mut body: &[u8]) -> Result<T, ClientError> {
        let length = body.len() as u64;
        self.answered(method, path, Body { kind: "application/json", length, bytes: &mut body })
    }

    fn answered<T: DeserializeOwned>(&self, method: &str, path: &str, body: Body) -> Result<T, ClientError> {
        let unreachable =
            |reason: io::Error| ClientError::Unreachable { socket: self.socket.clone(), reason };
        let answer = self.exchange(method, path, body).map_err(unreachable)?;
        let (status, body) = read_answer(&answer)?;
        if (200..300).contains(&status) {
            return serde_json::from_slice(body).map_err(|error| ClientError::Answer(error.to_string()));
        }
        let told: Option<Value> = serde_json::from_slice(body).ok();
        let message = told.and_then(|told| told["message"].as_str().map(str::to_owned));
        Err(ClientError::Refused { status, message: message.unwrap_or_else(|| format!("status {status}")) })
    }

    /// HTTP/1.0: the answer ends where the connection does (RFC 9112 §6.3).
    fn exchange(&self, method: &str, path: &str, body: Body) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        let head = format!(
            "{method} /api/v1{path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            body.kind, body.length
        );
        let sent = stream.write_all(head.as_bytes()).and_then(|()| io::copy(body.bytes, &mut stream));
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // A refusal comes before all is sent, and counts more than that the rest could not be.
        if answer.is_empty() {
            sent?;
            read?;
        }
        Ok(answer)
    }
}

/// Status and body of a whole answer.
fn read_answer(answer: &[u8]) -> Result<(u16, &[u8]), ClientError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(answer) {
        Ok(httparse::Status::Complete(end)) => Ok((head.code.unwrap_or_default(), &answer[end..])),
        Ok(httparse::Status::Partial) => Err(ClientError::Answer("it ends in the middle".into())),
        Err(error) => Err(ClientError::Answer(error.to_string())),
    }
}
