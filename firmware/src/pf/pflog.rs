//! pflog(4): what pf logged. A record is a header of FreeBSD's (`struct pfloghdr`, if_pflog.h) and the packet as
//! it was. Decoding is pure; on FreeBSD the records come from `pflog0` through bpf(4), elsewhere none come.
//! Called by the pfctl driver, and to read log files that pflogd(8) wrote.

#[cfg(target_os = "freebsd")]
mod bpf;
mod buffer;

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, Once, PoisonError};

use async_channel::{Receiver, Sender};

use super::LoggedPacket;
use super::packet::{Packet, Transport, protocol_name};
use crate::config::Timestamp;

pub use buffer::records;

/// Link type of a capture file that holds pflog records (LINKTYPE_PFLOG).
pub const LINK_TYPE: u32 = 117;
/// Packets that wait for a reader; then the oldest are dropped.
const WAITING: usize = 10_000;

/// Why a log file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("not a capture file: {0}")]
    Format(#[from] pcap_file::PcapError),
    #[error("the capture's link type is {0}, expected pflog ({LINK_TYPE})")]
    LinkType(u32),
}

/// Reads a log file (pcap format). What is behind a cut-off record is lost, as after a crash of pflogd(8).
pub fn read_file(file: impl Read) -> Result<Vec<LoggedPacket>, LogError> {
    let mut reader = pcap_file::pcap::PcapReader::new(file)?;
    let link = u32::from(reader.header().datalink);
    if link != LINK_TYPE {
        return Err(LogError::LinkType(link));
    }
    let mut packets = Vec::new();
    while let Some(Ok(record)) = reader.next_packet() {
        let at = Timestamp::UNIX_EPOCH.checked_add(record.timestamp).unwrap_or(Timestamp::UNIX_EPOCH);
        packets.extend(decode(at, &record.data));
    }
    Ok(packets)
}

/// Decodes one record: header, then packet. `None` when it is no pflog record, or holds no IP packet.
pub fn decode(at: Timestamp, record: &[u8]) -> Option<LoggedPacket> {
    let header = Header::read(record)?;
    let packet = Packet::decode(record.get(header.padded_length()..)?).ok()?;
    let (src_port, dst_port) = match packet.transport {
        Transport::Tcp(_) | Transport::Udp { .. } => packet.ports(),
        _ => (0, 0),
    };
    Some(LoggedPacket {
        at,
        passed: header.passed(),
        inbound: header.direction == Header::IN,
        protocol: protocol_name(packet.protocol),
        src: packet.src,
        src_port,
        dst: packet.dst,
        dst_port,
        reason: reason(header.reason).into(),
        rule_number: header.rule_number(),
        interface: header.interface,
        anchor: header.anchor,
        labels: Vec::new(),
    })
}

/// The fields of `struct pfloghdr` that are used; numbers are in network byte order.
struct Header {
    length: u8,
    action: u8,
    reason: u8,
    interface: String,
    anchor: String,
    rule: u32,
    /// The rule within the anchor; all ones without one.
    rule_in_anchor: u32,
    direction: u8,
}

impl Header {
    /// Up to and with `dir`; what follows (`pad`, `ridentifier`, `reserve`) differs between releases.
    const SHORTEST: u8 = 61;
    const PASS: u8 = 0;
    const DROP: u8 = 1;
    const IN: u8 = 1;
    const NO_RULE: u32 = u32::MAX;

    fn read(record: &[u8]) -> Option<Self> {
        let number = |at: usize| record.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four));
        let text = |at: usize| -> Option<String> {
            let field = record.get(at..at + 16)?;
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            Some(String::from_utf8_lossy(&field[..end]).into_owned())
        };
        let length = *record.first()?;
        if length < Self::SHORTEST {
            return None;
        }
        Some(Self {
            length,
            action: *record.get(2)?,
            reason: *record.get(3)?,
            interface: text(4)?,
            anchor: text(20)?,
            rule: number(36)?,
            rule_in_anchor: number(40)?,
            direction: *record.get(60)?,
        })
    }

    /// The packet follows at the next multiple of four.
    fn padded_length(&self) -> usize {
        usize::from(self.length).next_multiple_of(4)
    }

    /// Whatever is neither dropped nor answered by synproxy (12) is on its way.
    fn passed(&self) -> bool {
        !matches!(self.action, Self::DROP | 12)
    }

    /// Number of the filter rule within its ruleset. Translation rules are numbered apart and not told.
    fn rule_number(&self) -> Option<u32> {
        if !matches!(self.action, Self::PASS | Self::DROP) {
            return None;
        }
        let number = if self.anchor.is_empty() { self.rule } else { self.rule_in_anchor };
        (number != Self::NO_RULE).then_some(number)
    }
}

/// PFRES_* of FreeBSD 15 by number, as `pfctl -si` names them.
fn reason(number: u8) -> &'static str {
    const REASONS: [&str; 17] = [
        "match",
        "bad-offset",
        "fragment",
        "short",
        "normalize",
        "memory",
        "bad-timestamp",
        "congestion",
        "ip-option",
        "proto-cksum",
        "state-mismatch",
        "state-insert",
        "state-limit",
        "src-limit",
        "synproxy",
        "map-failed",
        "translate",
    ];
    REASONS.get(usize::from(number)).copied().unwrap_or("")
}

/// Adds what the packet itself does not tell.
type Complete = dyn Fn(&mut LoggedPacket) + Send + Sync;

/// The live log, handed to every subscriber. The capture starts with the first one.
pub struct Log {
    readers: Arc<Mutex<Vec<Sender<LoggedPacket>>>>,
    complete: Arc<Complete>,
    started: Once,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    pub fn new(complete: impl Fn(&mut LoggedPacket) + Send + Sync + 'static) -> Self {
        Self { readers: Arc::default(), complete: Arc::new(complete), started: Once::new() }
    }

    /// Packets from now on; of those that nobody takes, the newest are kept.
    pub fn subscribe(&self) -> Receiver<LoggedPacket> {
        let (send, receive) = async_channel::bounded(WAITING);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(send);
        self.started.call_once(|| start(self.readers.clone(), self.complete.clone()));
        receive
    }
}

/// Completes a packet and hands it to every reader that is still there.
#[cfg_attr(not(any(target_os = "freebsd", test)), allow(dead_code))]
fn deliver(readers: &Mutex<Vec<Sender<LoggedPacket>>>, complete: &Complete, mut packet: LoggedPacket) {
    complete(&mut packet);
    let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
    readers.retain(|reader| reader.force_send(packet.clone()).is_ok());
}

#[cfg(target_os = "freebsd")]
fn start(readers: Arc<Mutex<Vec<Sender<LoggedPacket>>>>, complete: Arc<Complete>) {
    bpf::start(move |packet| deliver(&readers, complete.as_ref(), packet));
}

/// Only FreeBSD has pflog(4): the readers wait.
#[cfg(not(target_os = "freebsd"))]
fn start(_: Arc<Mutex<Vec<Sender<LoggedPacket>>>>, _: Arc<Complete>) {}

#[cfg(test)]
mod tests;
