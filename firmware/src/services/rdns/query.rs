//! A question to a name server and its answer, as far as the appliance asks itself: does it answer, and with
//! which addresses or text (RFC 1035 §4.1).

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::pin::Pin;
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

use crate::compile::services::dns::Probe;

/// Record types that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    A = 1,
    Soa = 6,
    Txt = 16,
    Aaaa = 28,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED …
    pub rcode: u8,
    pub addresses: Vec<IpAddr>,
    /// Character strings of TXT records.
    pub texts: Vec<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("not an answer to the question")]
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// The question as it is sent, with recursion desired.
pub fn question(id: u16, name: &str, kind: Type) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        // Names of a configuration have labels of at most 63 bytes.
        message.push(label.len().min(63) as u8);
        message.extend(label.bytes().take(63));
    }
    message.extend([0, 0, kind as u8, 0, 1]);
    message
}

/// Reads an answer to the question with this id.
pub fn read(id: u16, message: &[u8]) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let is_answer = word(2)? & 0x8000 != 0;
    if word(0)? != id || !is_answer {
        return None;
    }
    let mut answer = Answer { rcode: message.get(3)? & 15, addresses: Vec::new(), texts: Vec::new() };
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    for _ in 0..answers {
        at = after_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        match kind {
            1 => answer.addresses.push(<[u8; 4]>::try_from(data).ok()?.into()),
            28 => answer.addresses.push(<[u8; 16]>::try_from(data).ok()?.into()),
            16 => {
                let mut rest = data;
                while let Some((length, tail)) = rest.split_first() {
                    let (text, tail) = tail.split_at_checked(usize::from(*length))?;
                    answer.texts.push(text.to_vec());
                    rest = tail;
                }
            }
            _ => {}
        }
        at += 10 + length;
    }
    Some(answer)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// Asks one question.
pub async fn ask(
    server: SocketAddr,
    transport: Transport,
    name: &str,
    kind: Type,
    patience: Duration,
) -> Result<Answer, QueryError> {
    let mut id = [0; 2];
    // Without randomness there is still an answer to be had.
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id).ok();
    let id = u16::from_be_bytes(id);
    let message = question(id, name, kind);
    let talk = async {
        match transport {
            Transport::Udp => over_udp(server, id, &message).await,
            Transport::Tcp => over_tcp(server, id, &message).await,
        }
    };
    future::or(talk, async {
        Timer::after(patience).await;
        Err(QueryError::Silent(patience))
    })
    .await
}

async fn over_udp(server: SocketAddr, id: u16, message: &[u8]) -> Result<Answer, QueryError> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = Async::<UdpSocket>::bind(any)?;
    socket.get_ref().connect(server)?;
    socket.send(message).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = read(id, buffer.get(..length).unwrap_or_default()) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, id: u16, message: &[u8]) -> Result<Answer, QueryError> {
    let mut connection = Async::<TcpStream>::connect(server).await?;
    // RFC 1035 §4.2.2: the length comes first. Questions of ours are short.
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    connection.write_all(&framed).await?;
    let mut length = [0; 2];
    connection.read_exact(&mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut answer).await?;
    read(id, &answer).ok_or(QueryError::Foreign)
}

/// How long one try of a probe may take.
pub const TRY: Duration = Duration::from_millis(700);

/// Whether the resolver answers here, and is ours: it alone knows the probe's text.
pub async fn works(probe: &Probe, transport: Transport, patience: Duration) -> Result<(), String> {
    let over = match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    };
    let address = probe.address;
    match ask(address, transport, &probe.name, Type::Txt, patience).await {
        Ok(answer) if answer.texts.iter().any(|text| text == probe.token.as_bytes()) => Ok(()),
        Ok(_) => Err(format!("another name server answers on {address} over {over}")),
        Err(error) => Err(format!("{address} over {over}: {error}")),
    }
}

/// Ready when it answers over UDP and TCP.
#[derive(Debug, Clone)]
pub struct Answers(pub Probe);

impl crate::supervisor::Probe for Answers {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let probe = self.0.clone();
        Box::pin(async move {
            works(&probe, Transport::Udp, TRY).await?;
            works(&probe, Transport::Tcp, TRY).await
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_question_is_written_and_an_answer_read() {
        let asked = question(0x1234, "ab.c.", Type::Txt);
        assert_eq!(asked, b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ab\x01c\x00\x00\x10\x00\x01");
        let mut said = asked.clone();
        (said[2], said[3], said[7]) = (0x81, 0x80, 2);
        said.extend(b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x04\x03xyz");
        said.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01");
        let answer = read(0x1234, &said).unwrap();
        assert_eq!((answer.rcode, answer.texts), (0, vec![b"xyz".to_vec()]));
        assert_eq!(answer.addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert!(read(0x1235, &said).is_none());
        assert!(read(0x1234, &asked).is_none());
        // What is cut off anywhere is no answer, and no fault of ours.
        for end in 0..said.len() {
            assert!(read(0x1234, &said[..end]).is_none(), "{end}");
        }
    }
}
