//! DNS UPDATE (RFC 2136), signed with TSIG (RFC 8945): how a message gets to a name server and whether its answer can
//! be believed. Used for the names of DHCP clients, and for zones that the appliance changes. Blocks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigVerifier, TSigner};

use crate::config::{Secret, Timestamp};

const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;
/// Over TCP, for one try.
const TCP_PATIENCE: Duration = Duration::from_secs(5);
/// Seconds by which our clock and the server's may differ (RFC 8945 §5.2.3).
const FUDGE: u16 = 300;
const LARGEST: usize = 4096;

/// Why an update was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("{0}: somebody else's record has this name")]
    Taken(Name),
    #[error("{server} refuses: {code}")]
    Refused { server: SocketAddr, code: ResponseCode },
    #[error("{server} does not answer")]
    NoAnswer { server: SocketAddr },
    /// It may be anybody's; a wrong key is the likeliest reason.
    #[error("{server} answers {code}, not signed with the key")]
    Unsigned { server: SocketAddr, code: ResponseCode },
    #[error("{0}")]
    Settings(String),
}

/// A domain name with the dot at its end that it may lack; `what` names it in an error.
pub fn full_name(what: &str, text: &str) -> Result<Name, UpdateError> {
    let mut name = Name::from_str(text).map_err(|error| UpdateError::Settings(format!("{what}: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Signs with a key: its name, `hmac-sha256`, `hmac-sha384` or `hmac-sha512`, and its secret in base64.
pub fn signer(key: &str, algorithm: &str, secret: &Secret) -> Result<TSigner, UpdateError> {
    let wrong =
        |what: &str, reason: &dyn std::fmt::Display| UpdateError::Settings(format!("{what}: {reason}"));
    let algorithm = match algorithm {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        other => {
            return Err(wrong("tsig_algorithm", &format!("updates cannot be signed with {other} here")));
        }
    };
    let secret = data_encoding::BASE64.decode(secret.expose().as_bytes());
    let secret = secret.map_err(|_| wrong("tsig_secret", &"expected base64"))?;
    TSigner::new(secret, algorithm, full_name("tsig_key", key)?, FUDGE)
        .map_err(|error| wrong("tsig_algorithm", &error))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// A name server that takes updates.
pub struct UpdateServer {
    pub address: SocketAddr,
    pub signer: Option<TSigner>,
    pub transport: Transport,
}

fn fault(error: &dyn std::fmt::Display) -> UpdateError {
    UpdateError::Settings(error.to_string())
}

impl UpdateServer {
    /// Sends an update; an answer other than `NoError` is a refusal.
    pub fn done(&self, message: impl Fn() -> Message) -> Result<(), UpdateError> {
        match self.send(message)?.0 {
            ResponseCode::NoError => Ok(()),
            code => Err(UpdateError::Refused { server: self.address, code }),
        }
    }

    /// Sends an update, three times if need be; returns what the server says, and whether it was sent more than once.
    /// With a key, only an answer that is signed with it counts (RFC 8945 §5.3).
    pub fn send(&self, message: impl Fn() -> Message) -> Result<(ResponseCode, bool), UpdateError> {
        for attempt in 0..TRIES {
            let mut message = message();
            let mut verifier = None;
            if let Some(signer) = &self.signer {
                let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
                verifier = message.finalize(signer, now).map_err(|error| fault(&error))?;
            }
            let bytes = message.to_vec().map_err(|error| fault(&error))?;
            let mut expected = Expected { id: message.metadata.id, verifier, unsigned: None };
            let code = match self.transport {
                Transport::Udp => self.over_udp(&bytes, &mut expected)?,
                Transport::Tcp => self.over_tcp(&bytes, &mut expected).ok().flatten(),
            };
            if let Some(code) = code {
                return Ok((code, attempt > 0));
            }
            if let Some(code) = expected.unsigned {
                return Err(UpdateError::Unsigned { server: self.address, code });
            }
        }
        Err(UpdateError::NoAnswer { server: self.address })
    }

    fn over_udp(&self, bytes: &[u8], expected: &mut Expected) -> Result<Option<ResponseCode>, UpdateError> {
        let any = if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).map_err(|error| fault(&error))?;
        socket.connect(self.address).map_err(|error| fault(&error))?;
        if socket.send(bytes).is_err() {
            // A port that nobody has answers with an error: no answer, as silence.
            return Ok(None);
        }
        let until = Instant::now() + PATIENCE;
        let mut buffer = [0; LARGEST];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            socket.set_read_timeout(Some(left)).map_err(|error| fault(&error))?;
            let Ok(length) = socket.recv(&mut buffer) else { return Ok(None) };
            if let Some(code) = expected.code(buffer.get(..length).unwrap_or_default()) {
                return Ok(Some(code));
            }
        }
    }

    /// With two octets of length before each message (RFC 1035 §4.2.2).
    fn over_tcp(&self, bytes: &[u8], expected: &mut Expected) -> std::io::Result<Option<ResponseCode>> {
        let mut stream = TcpStream::connect_timeout(&self.address, TCP_PATIENCE)?;
        stream.set_read_timeout(Some(TCP_PATIENCE))?;
        stream.set_write_timeout(Some(TCP_PATIENCE))?;
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        Ok(expected.code(&answer))
    }
}

/// What an answer must be like.
struct Expected {
    id: u16,
    verifier: Option<TSigVerifier>,
    /// What an answer said that was not signed: another may still come that is the server's own.
    unsigned: Option<ResponseCode>,
}

impl Expected {
    /// What a message says, if it is the answer.
    fn code(&mut self, bytes: &[u8]) -> Option<ResponseCode> {
        let answer = Message::from_vec(bytes).ok()?;
        let head = &answer.metadata;
        if head.id != self.id || head.message_type != MessageType::Response || head.op_code != OpCode::Update
        {
            return None;
        }
        let code = head.response_code;
        if self.verifier.as_mut().is_none_or(|verifier| verifier.verify(bytes).is_ok()) {
            return Some(code);
        }
        self.unsigned = Some(code);
        None
    }
}
