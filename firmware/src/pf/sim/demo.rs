//! The two captures that come with the firmware, made here: `office`, an ordinary two minutes of a small office
//! as seen on its LAN, and `scans`, what knocks at a WAN address. Only documentation and private addresses
//! (RFC 5737, RFC 3849, RFC 1918); the same bytes every time, so that a test can compare them with the files in
//! `firmware/captures`. `cargo run -p aifw --example make-captures` writes them.

mod office;
mod scans;

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

pub use office::office;
pub use scans::scans;

use super::evaluate::Random;
use crate::pf::packet::flag;

/// The captures begin on 1 June 2026, 08:00 UTC.
const BEGIN: Duration = Duration::from_secs(1_780_300_800);

/// Data of bulk transfers is cut off here in the file; lengths in the headers are the real ones.
const SNAP: usize = 80;

type Mac = [u8; 6];

/// One end of a conversation, with the hardware address that stands for it on this wire.
#[derive(Debug, Clone, Copy)]
struct Host {
    mac: Mac,
    address: IpAddr,
}

impl Host {
    fn new(mac: Mac, address: &str) -> Self {
        // The addresses are this file's own literals.
        Self { mac, address: address.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)) }
    }
}

/// A frame and when it was seen.
struct Seen {
    at: Duration,
    bytes: Vec<u8>,
    length: usize,
}

/// A capture being made.
struct Tape {
    seen: Vec<Seen>,
    random: Random,
}

/// One TCP conversation: the next sequence numbers of both ends.
struct Talk {
    client: (Host, u16),
    server: (Host, u16),
    /// Time of the next segment, and of a round trip.
    at: Duration,
    trip: Duration,
    client_seq: u32,
    server_seq: u32,
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl Tape {
    fn new(seed: u64) -> Self {
        Self { seen: Vec::new(), random: Random::seeded(seed) }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn number(&mut self) -> u32 {
        u32::try_from(self.random.below(1 << 32)).unwrap_or(0)
    }

    /// A port of a client.
    fn port(&mut self) -> u16 {
        49152 + u16::try_from(self.random.below(16000)).unwrap_or(0)
    }

    fn frame(
        &mut self,
        at: Duration,
        from: Host,
        to: Host,
        write: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>, &mut Vec<u8>),
    ) {
        let step = PacketBuilder::ethernet2(from.mac, to.mac);
        let step = match (from.address, to.address) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => step.ipv4(src.octets(), dst.octets(), 64),
            (IpAddr::V6(src), IpAddr::V6(dst)) => step.ipv6(src.octets(), dst.octets(), 64),
            // Hosts of one conversation are of one family.
            _ => return,
        };
        let mut bytes = Vec::new();
        write(step, &mut bytes);
        let length = bytes.len();
        self.seen.push(Seen { at, bytes, length });
    }

    fn udp(&mut self, at: Duration, from: (Host, u16), to: (Host, u16), data: &[u8]) {
        self.frame(at, from.0, to.0, |step, out| {
            let _ = step.udp(from.1, to.1).write(out, data);
        });
    }

    fn segment(
        &mut self,
        at: Duration,
        from: (Host, u16),
        to: (Host, u16),
        (flags, seq, ack): (u8, u32, u32),
        data: &[u8],
    ) {
        let mut header = TcpHeader::new(from.1, to.1, seq, 64240);
        header.acknowledgment_number = ack;
        header.fin = flags & flag::FIN != 0;
        header.syn = flags & flag::SYN != 0;
        header.rst = flags & flag::RST != 0;
        header.psh = flags & flag::PSH != 0;
        header.ack = flags & flag::ACK != 0;
        header.urg = flags & flag::URG != 0;
        if header.syn {
            let _ = header.set_options(&[
                TcpOptionElement::MaximumSegmentSize(1460),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(7),
            ]);
        } else {
            header.window_size = 501;
        }
        self.frame(at, from.0, to.0, |step, out| {
            let _ = step.tcp_header(header).write(out, data);
        });
    }

    /// An ICMP or ICMPv6 echo request (or its answer).
    fn echo(&mut self, at: Duration, from: Host, to: Host, answer: bool, id: u16, seq: u16) {
        let data = [0x61; 56];
        self.frame(at, from, to, |step, out| {
            let _ = match (from.address.is_ipv4(), answer) {
                (true, false) => step.icmpv4_echo_request(id, seq).write(out, &data),
                (true, true) => step.icmpv4_echo_reply(id, seq).write(out, &data),
                (false, false) => step.icmpv6_echo_request(id, seq).write(out, &data),
                (false, true) => step.icmpv6_echo_reply(id, seq).write(out, &data),
            };
        });
    }

    /// The capture as a file, in order of time.
    fn file(mut self) -> Result<Vec<u8>, PcapError> {
        self.seen.sort_by_key(|seen| seen.at);
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            endianness: Endianness::Little,
            ts_resolution: TsResolution::MicroSecond,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header)?;
        for seen in &self.seen {
            writer.write_packet(&PcapPacket {
                timestamp: BEGIN + seen.at,
                orig_len: u32::try_from(seen.length).unwrap_or(u32::MAX),
                data: Cow::Borrowed(&seen.bytes),
            })?;
        }
        Ok(writer.into_writer())
    }
}

impl Talk {
    /// A connection's handshake.
    fn open(tape: &mut Tape, at: Duration, trip: Duration, client: (Host, u16), server: (Host, u16)) -> Self {
        let mut talk =
            Self { client, server, at, trip, client_seq: tape.number(), server_seq: tape.number() };
        talk.up(tape, flag::SYN, &[]);
        talk.at += trip;
        talk.down(tape, flag::SYN | flag::ACK, &[]);
        talk.at += ms(1);
        talk.up(tape, flag::ACK, &[]);
        talk
    }

    /// A segment from client to server.
    fn up(&mut self, tape: &mut Tape, flags: u8, data: &[u8]) {
        let ack = if flags & flag::ACK != 0 { self.server_seq } else { 0 };
        tape.segment(self.at, self.client, self.server, (flags, self.client_seq, ack), data);
        self.client_seq = advanced(self.client_seq, flags, data.len());
    }

    /// A segment from server to client.
    fn down(&mut self, tape: &mut Tape, flags: u8, data: &[u8]) {
        tape.segment(self.at, self.server, self.client, (flags, self.server_seq, self.client_seq), data);
        self.server_seq = advanced(self.server_seq, flags, data.len());
    }

    /// A request and its answer of so many full segments, acknowledged two by two. Full segments are cut off in
    /// the file.
    fn exchange(&mut self, tape: &mut Tape, request: &[u8], answer: &[u8], segments: usize) {
        self.at += ms(2);
        self.up(tape, flag::ACK | flag::PSH, request);
        self.at += self.trip;
        self.down(tape, flag::ACK | flag::PSH, answer);
        for number in 0..segments {
            self.at += ms(3);
            self.down(tape, flag::ACK, &[0x17; 1460]);
            if let Some(last) = tape.seen.last_mut() {
                last.bytes.truncate(SNAP);
            }
            if number % 2 == 1 {
                self.at += ms(1);
                self.up(tape, flag::ACK, &[]);
            }
        }
        self.at += ms(1);
        self.up(tape, flag::ACK, &[]);
    }

    /// Both ends close, the client first.
    fn close(mut self, tape: &mut Tape) {
        self.at += ms(5);
        self.up(tape, flag::FIN | flag::ACK, &[]);
        self.at += self.trip;
        self.down(tape, flag::FIN | flag::ACK, &[]);
        self.at += ms(1);
        self.up(tape, flag::ACK, &[]);
    }

    /// The client gives up.
    fn reset(mut self, tape: &mut Tape) {
        self.at += ms(5);
        self.up(tape, flag::RST | flag::ACK, &[]);
    }
}

fn advanced(seq: u32, flags: u8, data: usize) -> u32 {
    let control = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
    seq.wrapping_add(u32::try_from(data).unwrap_or(0)).wrapping_add(control)
}

/// A DNS query (RFC 1035 §4.1) for a name's A or AAAA record.
fn dns_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend(label.bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// The answer to a query, with one address, or "no such name".
fn dns_answer(query: &[u8], address: Option<IpAddr>) -> Vec<u8> {
    let mut out = query.to_vec();
    out[2] = 0x81;
    match address {
        None => out[3] = 0x83,
        Some(address) => {
            out[3] = 0x80;
            out[7] = 1;
            out.extend([0xc0, 12]);
            let (kind, data) = match address {
                IpAddr::V4(a) => (1u16, a.octets().to_vec()),
                IpAddr::V6(a) => (28, a.octets().to_vec()),
            };
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 1, 44]);
            out.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
            out.extend(data);
        }
    }
    out
}

/// A TLS 1.3 ClientHello (RFC 8446 §4.1.2) that names a server.
fn client_hello(name: &str, random: &mut Random) -> Vec<u8> {
    let byte = |random: &mut Random| u8::try_from(random.below(256)).unwrap_or(0);
    let len16 = |n: usize| u16::try_from(n).unwrap_or(0).to_be_bytes();
    let mut extensions = Vec::new();
    // server_name
    extensions.extend([0, 0]);
    extensions.extend(len16(name.len() + 5));
    extensions.extend(len16(name.len() + 3));
    extensions.push(0);
    extensions.extend(len16(name.len()));
    extensions.extend(name.bytes());
    // supported_versions: 1.3
    extensions.extend([0, 43, 0, 3, 2, 3, 4]);
    let mut hello = vec![3, 3];
    hello.extend((0..32).map(|_| byte(random)));
    hello.push(0);
    hello.extend([0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
    hello.extend(len16(extensions.len()));
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend(len16(hello.len() + 4));
    record.extend([1, 0]);
    record.extend(len16(hello.len()));
    record.extend(hello);
    record
}

#[cfg(test)]
mod tests;
