//! A DHCP client by hand (RFC 2131): what it sends comes from loopback, and so do the answers.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

pub struct DhcpClient {
    socket: UdpSocket,
    port: u16,
    mac: [u8; 6],
    pub hostname: Option<String>,
    client_id: Option<Vec<u8>>,
    /// The relay that passes on what it sends.
    relay: Option<Ipv4Addr>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 2 = offer, 5 = ack, 6 = nak.
    pub kind: u8,
    pub address: Ipv4Addr,
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }
}

impl DhcpClient {
    pub fn new(port: u16, number: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let [.., a, b, c, d] = number.to_be_bytes();
        Self { socket, port, mac: [2, 0, a, b, c, d], hostname: None, client_id: None, relay: None }
    }
    pub fn with_mac(port: u16, mac: [u8; 6]) -> Self {
        Self { mac, ..Self::new(port, 0) }
    }
    pub fn named(mut self, hostname: &str) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    pub fn identified(mut self, client_id: &[u8]) -> Self {
        self.client_id = Some(client_id.to_vec());
        self
    }
    /// Through a relay, which does not listen: the answer is lost.
    pub fn discover_through(mut self, relay: Ipv4Addr) {
        self.relay = Some(relay);
        self.send(1, Ipv4Addr::UNSPECIFIED, &[]);
    }

    fn ask(&self, kind: u8, held: Ipv4Addr, options: &[(u8, Vec<u8>)]) -> Option<Answer> {
        self.send(kind, held, options);
        self.receive()
    }

    fn send(&self, kind: u8, held: Ipv4Addr, options: &[(u8, Vec<u8>)]) {
        let mut packet = vec![0_u8; 236];
        (packet[0], packet[1], packet[2]) = (1, 1, 6);
        packet[4..8].copy_from_slice(&self.mac[2..6]);
        packet[12..16].copy_from_slice(&held.octets());
        if let Some(relay) = self.relay {
            packet[3] = 1;
            packet[24..28].copy_from_slice(&relay.octets());
        }
        packet[28..34].copy_from_slice(&self.mac);
        packet.extend([99, 130, 83, 99, 53, 1, kind]);
        if let Some(name) = &self.hostname {
            packet.extend([12, name.len() as u8]);
            packet.extend(name.bytes());
        }
        if let Some(id) = &self.client_id {
            packet.extend([61, id.len() as u8]);
            packet.extend(id);
        }
        packet.extend([55, 8, 1, 3, 6, 15, 42, 44, 67, 119]);
        for (code, value) in options {
            packet.extend([*code, value.len() as u8]);
            packet.extend(value);
        }
        packet.push(255);
        self.socket.send_to(&packet, ("127.0.0.1", self.port)).unwrap();
    }

    fn receive(&self) -> Option<Answer> {
        let mut buffer = [0; 1500];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        let text = &buffer[..length];
        let address = Ipv4Addr::new(text[16], text[17], text[18], text[19]);
        let mut options = Vec::new();
        let mut rest = &text[240..];
        while let [code, length, tail @ ..] = rest {
            if *code == 255 {
                break;
            }
            let (value, tail) = tail.split_at(usize::from(*length));
            options.push((*code, value.to_vec()));
            rest = tail;
        }
        let kind = options.iter().find(|(code, _)| *code == 53)?.1[0];
        Some(Answer { kind, address, options })
    }

    pub fn discover(&self) -> Option<Answer> {
        self.ask(1, Ipv4Addr::UNSPECIFIED, &[])
    }
    /// An offer taken: the whole way to an address.
    pub fn lease(&self) -> Option<Answer> {
        let offer = self.discover()?;
        let server = offer.option(54)?.to_vec();
        self.ask(3, Ipv4Addr::UNSPECIFIED, &[(50, offer.address.octets().to_vec()), (54, server)])
    }
}
