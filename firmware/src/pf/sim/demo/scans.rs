//! Two minutes of what knocks at 203.0.113.2, as seen on the WAN: scans, guessed passwords, forged senders,
//! floods. Nothing in it is answered.

use pcap_file::PcapError;

use super::{Host, Mac, Tape, dns_query, ms};
use crate::pf::packet::flag;

/// The provider's router, and ours on the WAN.
const PROVIDER: Mac = [0x02, 0, 0, 0, 0xff, 0x01];
const ROUTER: Mac = [0x02, 0, 0, 0, 0x00, 0x01];
const SECOND: u64 = 1000;

fn from(address: &str) -> Host {
    Host::new(PROVIDER, address)
}

fn target(address: &str) -> Host {
    Host::new(ROUTER, address)
}

/// The capture.
pub fn scans() -> Result<Vec<u8>, PcapError> {
    let mut tape = Tape::new(0x5ca0_5000_0000_0001);
    let t = &mut tape;
    let wan = target("203.0.113.2");
    port_scans(t, wan);
    guessing(t, wan);
    forged(t, wan);
    floods(t, wan);
    sweeps(t);
    ipv6(t);
    tape.file()
}

fn port_scans(t: &mut Tape, wan: Host) {
    // A SYN scan of the usual ports, then of a range.
    let known = [
        21u16, 22, 23, 25, 53, 80, 110, 111, 135, 139, 143, 443, 445, 993, 995, 1433, 1723, 3306, 3389, 5432,
        5900, 6379, 8000, 8080, 8443, 9200, 11211, 27017,
    ];
    let port = t.port();
    for (number, to) in (0u64..).zip(known.into_iter().chain(1..=200)) {
        let seq = t.number();
        t.segment(ms(2000 + number * 35), (from("198.51.100.66"), port), (wan, to), (flag::SYN, seq, 0), &[]);
    }
    // Stealth scans: FIN, NULL and Xmas.
    for (round, flags) in [(0u64, flag::FIN), (1, 0), (2, flag::FIN | flag::PSH | flag::URG)] {
        for (number, to) in (0u64..).zip(known) {
            let (port, seq) = (t.port(), t.number());
            let at = ms((20 + round * 6) * SECOND + number * 60);
            t.segment(at, (from("198.51.100.67"), port), (wan, to), (flags, seq, 0), &[]);
        }
    }
    // One port, many senders.
    for number in 0..120u64 {
        let (port, seq, last) = (t.port(), t.number(), t.below(254) + 1);
        let sender = from(&format!("198.51.100.{last}"));
        t.segment(ms(SECOND + number * 970), (sender, port), (wan, 23), (flag::SYN, seq, 0), &[]);
    }
}

/// Passwords are guessed on SSH and remote desktops: a new connection every half second.
fn guessing(t: &mut Tape, wan: Host) {
    for number in 0..160u64 {
        let (port, seq) = (t.port(), t.number());
        let (sender, to) = if number % 4 == 3 { ("192.0.2.99", 3389) } else { ("192.0.2.98", 22) };
        t.segment(ms(5 * SECOND + number * 500), (from(sender), port), (wan, to), (flag::SYN, seq, 0), &[]);
    }
}

/// Senders that cannot be: our own addresses, private networks, the loopback, nobody.
fn forged(t: &mut Tape, wan: Host) {
    let senders = [
        "192.168.1.10",
        "192.168.1.1",
        "203.0.113.2",
        "10.0.0.1",
        "10.20.30.40",
        "172.16.5.5",
        "127.0.0.1",
        "169.254.7.7",
        "100.64.0.9",
        "0.0.0.0",
        "240.0.0.1",
        "224.0.0.5",
    ];
    for round in 0..8u64 {
        for (number, sender) in (0u64..).zip(senders) {
            let (port, seq) = (t.port(), t.number());
            let at = ms((10 + round * 13) * SECOND + number * 90);
            let to = [80u16, 445, 8080][usize::try_from(number % 3).unwrap_or(0)];
            if number % 2 == 0 {
                t.segment(at, (from(sender), port), (wan, to), (flag::SYN, seq, 0), &[]);
            } else {
                t.udp(at, (from(sender), port), (wan, 161), b"\x30\x26\x02\x01\x01\x04\x06public");
            }
        }
    }
}

fn floods(t: &mut Tape, wan: Host) {
    // Datagrams to ports at random.
    for number in 0..400u64 {
        let (port, to) = (t.port(), t.port());
        t.udp(ms(60 * SECOND + number * 12), (from("192.0.2.200"), port), (wan, to), &[0x41; 64]);
    }
    // Answers that nobody asked for (reflection).
    for number in 0..150u64 {
        let query = dns_query(t.port(), "amplify.example.org", 255);
        let last = t.below(200) + 1;
        let sender = from(&format!("198.51.100.{last}"));
        let to = t.port();
        t.udp(ms(75 * SECOND + number * 25), (sender, 53), (wan, to), &query);
    }
    // Half-open connections from everywhere.
    for number in 0..300u64 {
        let (port, seq) = (t.port(), t.number());
        let sender = from(&format!("192.0.2.{}", t.below(254) + 1));
        t.segment(ms(90 * SECOND + number * 15), (sender, port), (wan, 443), (flag::SYN, seq, 0), &[]);
    }
    // Services that answer a lot to a little: time, discovery, caches.
    for (number, to) in
        (0u64..).zip([123u16, 1900, 11211, 389, 19, 17, 5353, 69, 520].into_iter().cycle().take(90))
    {
        let port = t.port();
        t.udp(ms(30 * SECOND + number * 300), (from("198.51.100.150"), port), (wan, to), &[0x17, 0, 3, 0x2a]);
    }
}

/// Echo requests to every address of the network, and connections to its neighbours.
fn sweeps(t: &mut Tape) {
    for host in 1..=120u64 {
        let to = target(&format!("203.0.113.{host}"));
        let seq = u16::try_from(host).unwrap_or(0);
        t.echo(ms(45 * SECOND + host * 80), from("198.51.100.5"), to, false, 1, seq);
    }
    for number in 0..30u16 {
        let at = ms(100 * SECOND + u64::from(number) * 400);
        t.echo(at, from("192.0.2.77"), target("203.0.113.2"), false, 99, number);
    }
}

fn ipv6(t: &mut Tape) {
    let scanner = from("2001:db8:bad::1");
    for number in 0..80u64 {
        let to = target(&format!("2001:db8:0:1::{:x}", number + 1));
        let (port, seq) = (t.port(), t.number());
        let service = [22u16, 80, 443, 8080][usize::try_from(number % 4).unwrap_or(0)];
        t.segment(ms(15 * SECOND + number * 400), (scanner, port), (to, service), (flag::SYN, seq, 0), &[]);
        if number % 4 == 0 {
            let id = u16::try_from(number).unwrap_or(0);
            t.echo(ms(15 * SECOND + number * 400 + 50), scanner, to, false, id, 1);
        }
    }
}
