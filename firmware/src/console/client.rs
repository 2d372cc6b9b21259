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
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
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

    fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: &[u8]) -> Result<T, ClientError> {
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
    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let length = body.len();
        let mut request = format!(
            "{method} /api/v1{path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
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
