//! A client of the Redis serialisation protocol, version 2 (valkey.io/topics/protocol): commands are arrays of bulk
//! strings, answers one of five types. TCP, TLS, or a Unix socket; 3 s for each step.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::config::reach::Reach;
use crate::config::valkey::{Place, Valkey};

const PATIENCE: Duration = Duration::from_secs(3);
/// Longest line or bulk string of an answer that is read.
const LARGEST: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RespError {
    #[error("the URL is none of a Valkey server")]
    Url,
    #[error("the server cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("the server is on a link-local or metadata address")]
    Forbidden,
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the server's answer is none of this protocol")]
    Protocol,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Bytes(Option<Vec<u8>>),
    List(Vec<Value>),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that is signed in.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

fn tcp(host: &str, port: u16) -> Result<TcpStream, RespError> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        if !Reach::Inside.allows(address.ip()) {
            return Err(RespError::Forbidden);
        }
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

fn tls(host: &str, stream: TcpStream, extra: &[String]) -> Result<Box<dyn Stream>, RespError> {
    let fault = |error: &dyn std::fmt::Display| RespError::Tls(error.to_string());
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for pem in extra {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|error| fault(&error))?).map_err(|error| fault(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| fault(&error))?;
    let session = rustls::ClientConnection::new(Arc::new(config), name).map_err(|error| fault(&error))?;
    Ok(Box::new(rustls::StreamOwned::new(session, stream)))
}

impl Connection {
    /// Connects, signs in and picks the database.
    pub fn open(settings: &Valkey, extra_roots: &[String]) -> Result<Self, RespError> {
        let (stream, database): (Box<dyn Stream>, u32) = match settings.place().ok_or(RespError::Url)? {
            Place::Tcp { host, port, tls: false, database } => (Box::new(tcp(&host, port)?), database),
            Place::Tcp { host, port, tls: true, database } => {
                (tls(&host, tcp(&host, port)?, extra_roots)?, database)
            }
            Place::Unix { path, database } => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                (Box::new(stream), database)
            }
        };
        let mut connection = Self { stream: BufReader::new(stream) };
        let password = settings.password.expose().as_bytes();
        match settings.username() {
            _ if password.is_empty() => {}
            Some(user) => drop(connection.run(&[&[b"AUTH", user.as_bytes(), password]])?),
            None => drop(connection.run(&[&[b"AUTH", password]])?),
        }
        if database != 0 {
            connection.run(&[&[b"SELECT", database.to_string().as_bytes()]])?;
        }
        connection.run(&[&[b"PING"]])?;
        Ok(connection)
    }

    /// Sends commands together and reads their answers; the first refusal is the error.
    pub fn run(&mut self, commands: &[&[&[u8]]]) -> Result<Vec<Value>, RespError> {
        let mut bytes = Vec::new();
        for command in commands {
            bytes.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for part in *command {
                bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.stream.get_mut().write_all(&bytes)?;
        self.stream.get_mut().flush()?;
        let mut refusal = None;
        let mut answers = Vec::new();
        for _ in commands {
            match read(&mut self.stream, 0) {
                Ok(value) => answers.push(value),
                Err(RespError::Refused(text)) => refusal = refusal.or(Some(text)),
                Err(error) => return Err(error),
            }
        }
        refusal.map_or(Ok(answers), |text| Err(RespError::Refused(text)))
    }
}

fn line(stream: &mut impl Read) -> Result<String, RespError> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b'\n' => break,
            b'\r' => {}
            byte => bytes.push(byte),
        }
        if bytes.len() > 64 * 1024 {
            return Err(RespError::Protocol);
        }
    }
    String::from_utf8(bytes).map_err(|_| RespError::Protocol)
}

fn read(stream: &mut impl Read, depth: usize) -> Result<Value, RespError> {
    let text = line(stream)?;
    let (kind, rest) = text.split_at_checked(1).ok_or(RespError::Protocol)?;
    let number = || rest.parse::<i64>().map_err(|_| RespError::Protocol);
    match kind {
        "+" => Ok(Value::Text(rest.to_owned())),
        "-" => Err(RespError::Refused(rest.to_owned())),
        ":" => Ok(Value::Integer(number()?)),
        "$" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Value::Bytes(None)) };
            if length > LARGEST {
                return Err(RespError::Protocol);
            }
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Value::Bytes(Some(bytes)))
        }
        "*" if depth < 8 => {
            let count = usize::try_from(number()?).unwrap_or(0);
            (0..count).map(|_| read(stream, depth + 1)).collect::<Result<_, _>>().map(Value::List)
        }
        _ => Err(RespError::Protocol),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_of_every_type() {
        let mut text: &[u8] = b"*5\r\n+OK\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*0\r\n";
        let expected = Value::List(vec![
            Value::Text("OK".into()),
            Value::Integer(-7),
            Value::Bytes(Some(b"a\r\n".to_vec())),
            Value::Bytes(None),
            Value::List(Vec::new()),
        ]);
        assert_eq!(read(&mut text, 0).unwrap(), expected);
        assert!(
            matches!(read(&mut &b"-WRONGPASS no\r\n"[..], 0), Err(RespError::Refused(text)) if text == "WRONGPASS no")
        );
        assert!(matches!(read(&mut &b"$99999999999\r\n"[..], 0), Err(RespError::Protocol)));
        assert!(matches!(read(&mut &b"HTTP/1.1 400\r\n"[..], 0), Err(RespError::Protocol)));
    }
}
