//! A packet as pf(4) looks at it: addresses, protocol, ports, flags, lengths. Decoded from captured frames for
//! the simulator and its replay, or put together field by field for `explain` and tests. It carries headers
//! only, no payload, and knows nothing of rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ipv6ExtensionSlice, LaxIpSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpOptionElement,
    TcpSlice,
};
use serde::{Deserialize, Serialize};

/// IANA protocol numbers that pf treats in a way of their own.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMP6: u8 = 58;
}

/// The name of a protocol number as pfctl prints it from /etc/protocols, lower case; the number where the
/// simulator knows no name.
pub fn protocol_name(number: u8) -> String {
    let name = match number {
        protocol::ICMP => "icmp",
        protocol::IGMP => "igmp",
        4 => "ipencap",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        41 => "ipv6",
        protocol::GRE => "gre",
        protocol::ESP => "esp",
        protocol::AH => "ah",
        protocol::ICMP6 => "ipv6-icmp",
        89 => "ospf",
        103 => "pim",
        112 => "carp",
        132 => "sctp",
        240 => "pfsync",
        other => return other.to_string(),
    };
    name.into()
}

/// TCP flag bits (RFC 9293 §3.1), as `flags S/SA` writes them.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// Address family of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Inet,
    Inet6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Inet } else { Self::Inet6 }
    }
}

/// Way of a packet through an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    In,
    Out,
}

impl Direction {
    pub fn other(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

/// A fragment of a larger packet (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    /// In bytes.
    pub offset: u32,
    pub more: bool,
}

/// What pf reads of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tcp {
    pub src_port: u16,
    pub dst_port: u16,
    /// Bits of [`flag`].
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    /// As it stands in the header, not scaled.
    pub window: u16,
    /// Window scale option, where present.
    pub wscale: Option<u8>,
    /// Bytes of data.
    pub payload: u32,
}

/// What pf reads of an ICMP or ICMPv6 message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    /// Identifier of echo messages, 0 in others.
    pub id: u16,
    /// The packet that an error message quotes.
    pub quoted: Option<Box<Packet>>,
}

/// The part of a packet above IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    Tcp(Tcp),
    Udp {
        src_port: u16,
        dst_port: u16,
    },
    /// ICMP or ICMPv6, as the protocol of the packet says.
    Icmp(Icmp),
    /// A protocol without ports, or a fragment behind the first.
    Other,
    /// The header of a protocol that pf looks into is cut off: pf drops it as `short`.
    Short,
}

/// One IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IANA number of the protocol above IP, behind IPv6 extension headers.
    pub protocol: u8,
    /// Length of the whole IP packet in bytes.
    pub length: u32,
    pub ttl: u8,
    /// TOS or traffic class byte.
    pub tos: u8,
    /// IP options or option headers that need `allow-opts`.
    pub options: bool,
    pub fragment: Option<Fragment>,
    pub transport: Transport,
}

/// Why a frame is no packet for pf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAPacket {
    #[error("not an IP packet")]
    NotIp,
    #[error("the IP header is cut off or damaged")]
    Damaged,
    #[error("the capture's link type {0} is not supported")]
    LinkType(u32),
}

/// The link layer of a capture (tcpdump.org link-layer header types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Ethernet,
    /// IP without a link header (LINKTYPE_RAW, _IPV4, _IPV6).
    Raw,
    /// BSD loopback: four bytes of address family.
    Loopback,
    /// Linux "cooked" capture: 16 bytes.
    LinuxCooked,
}

impl Link {
    /// From the number in a capture file.
    pub fn from_number(number: u32) -> Result<Self, NotAPacket> {
        match number {
            1 => Ok(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Ok(Self::Raw),
            0 | 108 => Ok(Self::Loopback),
            113 => Ok(Self::LinuxCooked),
            other => Err(NotAPacket::LinkType(other)),
        }
    }
}

/// A frame with what its link header told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub packet: Packet,
    /// Source and destination hardware addresses of Ethernet frames.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// The outermost VLAN tag.
    pub vlan: Option<u16>,
}

impl Frame {
    /// Reads one captured frame. Cut-off captures are fine as long as the IP header is there.
    pub fn decode(link: Link, bytes: &[u8]) -> Result<Self, NotAPacket> {
        match link {
            Link::Raw => Ok(Self { packet: Packet::decode(bytes)?, macs: None, vlan: None }),
            Link::Loopback => {
                let ip = bytes.get(4..).ok_or(NotAPacket::Damaged)?;
                Ok(Self { packet: Packet::decode(ip)?, macs: None, vlan: None })
            }
            Link::LinuxCooked => {
                let kind = bytes.get(14..16).ok_or(NotAPacket::Damaged)?;
                let kind = EtherType(u16::from_be_bytes([kind[0], kind[1]]));
                let sliced = LaxSlicedPacket::from_ether_type(kind, &bytes[16..]);
                let vlan = sliced.vlan_ids().first().map(|id| id.value());
                Ok(Self { packet: Packet::from_net(sliced.net)?, macs: None, vlan })
            }
            Link::Ethernet => {
                let sliced = LaxSlicedPacket::from_ethernet(bytes).map_err(|_| NotAPacket::Damaged)?;
                let macs = match &sliced.link {
                    Some(LinkSlice::Ethernet2(eth)) => Some((eth.source(), eth.destination())),
                    _ => None,
                };
                let vlan = sliced.vlan_ids().first().map(|id| id.value());
                Ok(Self { packet: Packet::from_net(sliced.net)?, macs, vlan })
            }
        }
    }
}

impl Packet {
    fn bare(src: IpAddr, dst: IpAddr, protocol: u8, payload: u32, transport: Transport) -> Self {
        let header = if src.is_ipv4() { 20 } else { 40 };
        Self {
            src,
            dst,
            protocol,
            length: header + payload,
            ttl: 64,
            tos: 0,
            options: false,
            fragment: None,
            transport,
        }
    }

    /// A TCP segment without data; `flags` are bits of [`flag`].
    pub fn tcp(src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16, flags: u8) -> Self {
        let tcp = Tcp { src_port, dst_port, flags, window: 65535, ..Tcp::default() };
        Self::bare(src, dst, protocol::TCP, 20, Transport::Tcp(tcp))
    }

    /// A UDP datagram without data.
    pub fn udp(src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16) -> Self {
        Self::bare(src, dst, protocol::UDP, 8, Transport::Udp { src_port, dst_port })
    }

    /// An ICMP or ICMPv6 message (as the addresses say) without a quoted packet.
    pub fn icmp(src: IpAddr, dst: IpAddr, kind: u8, code: u8, id: u16) -> Self {
        let number = if src.is_ipv4() { protocol::ICMP } else { protocol::ICMP6 };
        Self::bare(src, dst, number, 8, Transport::Icmp(Icmp { kind, code, id, quoted: None }))
    }

    /// An ICMP or ICMPv6 error that quotes a packet.
    pub fn icmp_error(src: IpAddr, dst: IpAddr, kind: u8, code: u8, quoted: Packet) -> Self {
        let number = if src.is_ipv4() { protocol::ICMP } else { protocol::ICMP6 };
        let icmp = Icmp { kind, code, id: 0, quoted: Some(Box::new(quoted)) };
        Self::bare(src, dst, number, 36, Transport::Icmp(icmp))
    }

    /// A packet of a protocol without ports (`esp`, `gre` …).
    pub fn other(src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        Self::bare(src, dst, protocol, 20, Transport::Other)
    }

    pub fn family(&self) -> Family {
        Family::of(self.src)
    }

    /// Source and destination port; 0 where the protocol has none.
    pub fn ports(&self) -> (u16, u16) {
        match &self.transport {
            Transport::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            Transport::Udp { src_port, dst_port } => (*src_port, *dst_port),
            _ => (0, 0),
        }
    }

    /// Puts ports in; does nothing to a packet without them.
    pub fn set_ports(&mut self, src: u16, dst: u16) {
        match &mut self.transport {
            Transport::Tcp(tcp) => (tcp.src_port, tcp.dst_port) = (src, dst),
            Transport::Udp { src_port, dst_port } => (*src_port, *dst_port) = (src, dst),
            _ => {}
        }
    }

    /// The packet seen from the other end: addresses and ports swapped.
    pub fn reversed(&self) -> Self {
        let mut back = self.clone();
        std::mem::swap(&mut back.src, &mut back.dst);
        let (src, dst) = self.ports();
        back.set_ports(dst, src);
        back
    }

    /// Reads an IP packet, as far as it was captured.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotAPacket> {
        match bytes.first().map(|b| b >> 4) {
            Some(4 | 6) => {}
            Some(_) => return Err(NotAPacket::NotIp),
            None => return Err(NotAPacket::Damaged),
        }
        let (ip, _) = LaxIpSlice::from_slice(bytes).map_err(|_| NotAPacket::Damaged)?;
        Ok(Self::from_ip(&ip, 0))
    }

    fn from_net(net: Option<LaxNetSlice<'_>>) -> Result<Self, NotAPacket> {
        match net {
            Some(LaxNetSlice::Ipv4(ip)) => Ok(Self::from_ip(&LaxIpSlice::Ipv4(ip), 0)),
            Some(LaxNetSlice::Ipv6(ip)) => Ok(Self::from_ip(&LaxIpSlice::Ipv6(ip), 0)),
            Some(LaxNetSlice::Arp(_)) | None => Err(NotAPacket::NotIp),
        }
    }

    /// `depth` is 1 inside an ICMP error, where nothing more is unpacked.
    fn from_ip(ip: &LaxIpSlice<'_>, depth: u8) -> Self {
        let payload = ip.payload();
        let mut packet = match ip {
            LaxIpSlice::Ipv4(v4) => from_v4(v4),
            LaxIpSlice::Ipv6(v6) => from_v6(v6, payload.ip_number.0),
        };
        let later_fragment = packet.fragment.is_some_and(|f| f.offset > 0);
        // What the IP length says lies above IP, whatever part of it was captured.
        let headers = payload_offset(ip);
        let above = packet.length.saturating_sub(headers);
        packet.transport = if later_fragment || packet.protocol == protocol::AH {
            Transport::Other
        } else {
            transport(packet.protocol, packet.family(), payload.payload, above, depth)
        };
        if packet.protocol == protocol::ICMP6 && !later_fragment {
            // MLD carries a router alert by design (RFC 3810 §5); pf lets it pass without allow-opts.
            if let Transport::Icmp(icmp) = &packet.transport
                && matches!(icmp.kind, 130..=132 | 143)
            {
                packet.options = false;
            }
        }
        packet
    }
}

/// Bytes of IP header and extension headers.
fn payload_offset(ip: &LaxIpSlice<'_>) -> u32 {
    let bytes = match ip {
        LaxIpSlice::Ipv4(v4) => v4.header().slice().len(),
        LaxIpSlice::Ipv6(v6) => 40 + v6.extensions().slice().len(),
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn from_v4(v4: &etherparse::LaxIpv4Slice<'_>) -> Packet {
    let header = v4.header();
    let fragment = header.is_fragmenting_payload().then(|| Fragment {
        id: u32::from(header.identification()),
        offset: u32::from(header.fragments_offset().value()) * 8,
        more: header.more_fragments(),
    });
    let number = header.protocol().0;
    // IGMP carries a router alert by design (RFC 3376 §4).
    let options = !header.options().is_empty() && number != protocol::IGMP;
    let captured = header.slice().len() + v4.payload().payload.len();
    let length = match header.total_len() {
        0 => u32::try_from(captured).unwrap_or(u32::MAX),
        given => u32::from(given),
    };
    Packet {
        src: IpAddr::V4(header.source_addr()),
        dst: IpAddr::V4(header.destination_addr()),
        protocol: number,
        length,
        ttl: header.ttl(),
        tos: (header.dcp().value() << 2) | header.ecn().value(),
        options,
        fragment,
        transport: Transport::Other,
    }
}

fn from_v6(v6: &etherparse::LaxIpv6Slice<'_>, above: u8) -> Packet {
    let header = v6.header();
    let mut packet = Packet {
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        protocol: above,
        length: 40 + u32::from(header.payload_length()),
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        options: false,
        fragment: None,
        transport: Transport::Other,
    };
    for extension in v6.extensions().clone() {
        match extension {
            Ipv6ExtensionSlice::Fragment(f) if f.is_fragmenting_payload() => {
                packet.fragment = Some(Fragment {
                    id: f.identification(),
                    offset: u32::from(f.fragment_offset().value()) * 8,
                    more: f.more_fragments(),
                });
            }
            Ipv6ExtensionSlice::Fragment(_) => {}
            Ipv6ExtensionSlice::Authentication(_) => packet.protocol = protocol::AH,
            Ipv6ExtensionSlice::HopByHop(_)
            | Ipv6ExtensionSlice::Routing(_)
            | Ipv6ExtensionSlice::DestinationOptions(_) => packet.options = true,
        }
    }
    packet
}

/// `above` is the length above IP that the IP header promises.
fn transport(number: u8, family: Family, bytes: &[u8], above: u32, depth: u8) -> Transport {
    let word = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    match (number, family) {
        (protocol::TCP, _) => match TcpSlice::from_slice(bytes) {
            Ok(tcp) => Transport::Tcp(Tcp {
                src_port: tcp.source_port(),
                dst_port: tcp.destination_port(),
                flags: bytes[13],
                seq: tcp.sequence_number(),
                ack: tcp.acknowledgment_number(),
                window: tcp.window_size(),
                wscale: tcp.options_iterator().find_map(|option| match option {
                    Ok(TcpOptionElement::WindowScale(shift)) => Some(shift.min(14)),
                    _ => None,
                }),
                payload: above.saturating_sub(u32::from(tcp.data_offset()) * 4),
            }),
            // An ICMP error quotes at least eight bytes: ports and sequence number.
            Err(_) if depth > 0 => match (word(0), word(2), word(4), word(6)) {
                (Some(src_port), Some(dst_port), Some(high), Some(low)) => Transport::Tcp(Tcp {
                    src_port,
                    dst_port,
                    seq: u32::from(high) << 16 | u32::from(low),
                    ..Tcp::default()
                }),
                _ => Transport::Short,
            },
            Err(_) => Transport::Short,
        },
        (protocol::UDP, _) => match (word(0), word(2), word(6)) {
            (Some(src_port), Some(dst_port), Some(_)) => Transport::Udp { src_port, dst_port },
            _ => Transport::Short,
        },
        (protocol::ICMP, Family::Inet) | (protocol::ICMP6, Family::Inet6) => {
            match (bytes.get(..2), word(4)) {
                (Some(head), Some(id)) => {
                    let (kind, code) = (head[0], head[1]);
                    let quoted = match family {
                        Family::Inet => matches!(kind, 3 | 4 | 5 | 11 | 12),
                        Family::Inet6 => matches!(kind, 1..=4),
                    };
                    let echo = match family {
                        Family::Inet => matches!(kind, 0 | 8 | 13..=18),
                        Family::Inet6 => matches!(kind, 128 | 129),
                    };
                    let quoted = (quoted && depth == 0)
                        .then(|| bytes.get(8..).and_then(|inner| LaxIpSlice::from_slice(inner).ok()))
                        .flatten()
                        .map(|(ip, _)| Box::new(Packet::from_ip(&ip, 1)));
                    Transport::Icmp(Icmp { kind, code, id: if echo { id } else { 0 }, quoted })
                }
                _ => Transport::Short,
            }
        }
        _ => Transport::Other,
    }
}

/// The unspecified address of a family.
pub fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use etherparse::{PacketBuilder, VlanId};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_tcp_syn_with_options() {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .single_vlan(VlanId::try_new(20).unwrap())
            .ipv4([192, 168, 1, 10], [203, 0, 113, 9], 63)
            .tcp(50000, 443, 7, 64240)
            .syn()
            .options(&[TcpOptionElement::MaximumSegmentSize(1460), TcpOptionElement::WindowScale(7)])
            .unwrap();
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"abc").unwrap();
        let frame = Frame::decode(Link::Ethernet, &bytes).unwrap();
        assert_eq!(frame.macs, Some(([1; 6], [2; 6])));
        assert_eq!(frame.vlan, Some(20));
        let packet = frame.packet;
        assert_eq!((packet.src, packet.dst), (ip("192.168.1.10"), ip("203.0.113.9")));
        assert_eq!((packet.ttl, packet.protocol, packet.length), (63, protocol::TCP, 20 + 28 + 3));
        assert_eq!(
            packet.transport,
            Transport::Tcp(Tcp {
                src_port: 50000,
                dst_port: 443,
                flags: flag::SYN,
                seq: 7,
                ack: 0,
                window: 64240,
                wscale: Some(7),
                payload: 3
            })
        );
        // Without the link layer, and cut off within the TCP header.
        assert_eq!(Packet::decode(&bytes[18..]).unwrap(), packet);
        assert_eq!(Packet::decode(&bytes[18..18 + 30]).unwrap().transport, Transport::Short);
        assert_eq!(Packet::decode(&bytes[18..18 + 10]), Err(NotAPacket::Damaged));
    }

    #[test]
    fn an_icmp_error_quotes_eight_bytes() {
        let mut quoted = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1)
            .tcp(1000, 80, 99, 10)
            .write(&mut quoted, &[])
            .unwrap();
        quoted.truncate(28);
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 9], [10, 0, 0, 1], 64)
            .icmpv4_raw(11, 0, [0; 4])
            .write(&mut bytes, &quoted)
            .unwrap();
        let packet = Packet::decode(&bytes).unwrap();
        let Transport::Icmp(icmp) = packet.transport else { panic!("{packet:?}") };
        assert_eq!((icmp.kind, icmp.code), (11, 0));
        let inner = icmp.quoted.unwrap();
        assert_eq!((inner.src, inner.dst, inner.ports()), (ip("10.0.0.1"), ip("10.0.0.2"), (1000, 80)));
        assert!(matches!(inner.transport, Transport::Tcp(Tcp { seq: 99, .. })));
    }

    #[test]
    fn ipv6_extension_headers() {
        // Hop-by-hop with padding, then a fragment header (first fragment), then UDP 53.
        let mut bytes = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        bytes.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([44, 0, 1, 4, 0, 0, 0, 0]);
        bytes.extend([17, 0, 0, 1, 0, 0, 0, 7]);
        bytes.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(packet.protocol, protocol::UDP);
        assert!(packet.options);
        assert_eq!(packet.fragment, Some(Fragment { id: 7, offset: 0, more: true }));
        assert_eq!(packet.ports(), (12345, 53));
        assert_eq!(packet.length, 64);
    }

    #[test]
    fn a_later_ipv4_fragment_has_no_ports() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2).write(&mut bytes, &[0; 32]).unwrap();
        (bytes[6], bytes[7]) = (0x20, 4);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(packet.fragment.map(|f| (f.offset, f.more)), Some((32, true)));
        assert_eq!(packet.transport, Transport::Other);
        assert_eq!(packet.ports(), (0, 0));
    }

    #[test]
    fn what_is_not_ip() {
        let mut arp = vec![0xff; 12];
        arp.extend([0x08, 0x06, 0, 1]);
        assert_eq!(Frame::decode(Link::Ethernet, &arp), Err(NotAPacket::NotIp));
        assert_eq!(Frame::decode(Link::Ethernet, &[0; 5]), Err(NotAPacket::Damaged));
        assert_eq!(Packet::decode(&[0x10; 40]), Err(NotAPacket::NotIp));
        assert_eq!(Link::from_number(117), Err(NotAPacket::LinkType(117)));
    }
}
