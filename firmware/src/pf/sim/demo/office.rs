//! Two minutes of a small office on 192.168.1.0/24 and 2001:db8:1::/64, as seen on the LAN side of its router.

use std::time::Duration;

use pcap_file::PcapError;

use super::{Host, Mac, Talk, Tape, client_hello, dns_answer, dns_query, ms};
use crate::pf::packet::flag;

/// The router on the LAN; everything from outside comes from its hardware address.
const ROUTER: Mac = [0x02, 0, 0, 0, 0x01, 0x01];
const SECOND: u64 = 1000;

/// A web site: name, address.
const SITES: [(&str, &str); 6] = [
    ("www.example.com", "198.51.100.10"),
    ("cdn.example.net", "198.51.100.20"),
    ("mail.example.org", "192.0.2.25"),
    ("update.example.com", "192.0.2.80"),
    ("video.example.net", "198.51.100.30"),
    ("api.example.org", "192.0.2.44"),
];

fn client(number: u8) -> Host {
    Host::new([0x02, 0, 0, 0, 0x02, number], &format!("192.168.1.{number}"))
}

fn outside(address: &str) -> Host {
    Host::new(ROUTER, address)
}

/// Looks a name up at the router's resolver; the moment of the answer.
fn look_up(tape: &mut Tape, at: Duration, who: Host, name: &str, address: Option<&str>) -> Duration {
    let resolver = Host::new(ROUTER, "192.168.1.1");
    let (port, id) = (tape.port(), tape.port());
    let query = dns_query(id, name, 1);
    tape.udp(at, (who, port), (resolver, 53), &query);
    let after = at + ms(8 + tape.below(25));
    let answer = dns_answer(&query, address.and_then(|a| a.parse().ok()));
    tape.udp(after, (resolver, 53), (who, port), &answer);
    after
}

/// A page over HTTPS.
fn browse(tape: &mut Tape, at: Duration, who: Host, site: (&str, &str), pages: usize) {
    let after = look_up(tape, at, who, site.0, Some(site.1));
    let trip = ms(12 + tape.below(40));
    let port = tape.port();
    let mut talk = Talk::open(tape, after + ms(2), trip, (who, port), (outside(site.1), 443));
    let hello = client_hello(site.0, &mut tape.random);
    talk.exchange(tape, &hello, &[0x16; 122], 2);
    for _ in 0..pages {
        talk.at += ms(200 + tape.below(2500));
        let segments = usize::try_from(2 + tape.below(8)).unwrap_or(2);
        talk.exchange(tape, &[0x17; 180], &[0x17; 300], segments);
    }
    talk.close(tape);
}

/// The capture.
pub fn office() -> Result<Vec<u8>, PcapError> {
    let mut tape = Tape::new(0x0ff1_ce00_0000_0001);
    let t = &mut tape;
    leases(t);
    // Browsing, all through the two minutes.
    for round in 0..8u64 {
        for number in [10u8, 11, 12, 14] {
            let start = ms(round * 14 * SECOND + u64::from(number) * 170 + t.below(6000));
            let site = SITES[usize::try_from(t.below(6)).unwrap_or(0)];
            let pages = usize::try_from(1 + t.below(2)).unwrap_or(1);
            browse(t, start, client(number), site, pages);
        }
    }
    plain_web(t);
    mail(t);
    long_flows(t);
    time_and_pings(t);
    ipv6(t);
    failures(t);
    tape.file()
}

/// DHCP: one client renews its lease.
fn leases(t: &mut Tape) {
    let (who, router) = (client(12), Host::new(ROUTER, "192.168.1.1"));
    let mut message = vec![0u8; 240];
    message[0..4].copy_from_slice(&[1, 1, 6, 0]);
    message[12..16].copy_from_slice(&[192, 168, 1, 12]);
    message[28..34].copy_from_slice(&who.mac);
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, 3, 255]);
    t.udp(ms(400), (who, 68), (router, 67), &message);
    message[0] = 2;
    let end = message.len() - 2;
    message[end] = 5;
    t.udp(ms(404), (router, 67), (who, 68), &message);
}

fn plain_web(t: &mut Tape) {
    for (start, number) in [(4u64, 13u8), (37, 13), (71, 10), (95, 13)] {
        let who = client(number);
        let after = look_up(t, ms(start * SECOND), who, "update.example.com", Some("192.0.2.80"));
        let port = t.port();
        let mut talk = Talk::open(t, after, ms(24), (who, port), (outside("192.0.2.80"), 80));
        let request = b"GET /firmware/index.json HTTP/1.1\r\nHost: update.example.com\r\nUser-Agent: updater/2.1\r\nAccept: */*\r\n\r\n";
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17520\r\n\r\n";
        talk.exchange(t, request, answer, 12);
        talk.close(t);
    }
}

fn mail(t: &mut Tape) {
    let (who, server) = (client(11), outside("192.0.2.25"));
    let after = look_up(t, ms(9 * SECOND), who, "mail.example.org", Some("192.0.2.25"));
    let port = t.port();
    let mut talk = Talk::open(t, after, ms(31), (who, port), (server, 587));
    talk.at += ms(40);
    talk.down(t, flag::ACK | flag::PSH, b"220 mail.example.org ESMTP\r\n");
    talk.exchange(t, b"EHLO desk11.office.example\r\n", b"250-mail.example.org\r\n250 STARTTLS\r\n", 0);
    talk.exchange(t, b"STARTTLS\r\n", b"220 ready\r\n", 0);
    let hello = client_hello("mail.example.org", &mut t.random);
    talk.exchange(t, &hello, &[0x16; 122], 2);
    for _ in 0..4 {
        talk.exchange(t, &[0x17; 900], &[0x17; 60], 0);
    }
    talk.close(t);
    // A mailbox that stays open.
    let port = t.port();
    let mut talk = Talk::open(t, ms(10 * SECOND), ms(31), (who, port), (server, 993));
    let hello = client_hello("mail.example.org", &mut t.random);
    talk.exchange(t, &hello, &[0x16; 122], 2);
    for minute in 0..7u64 {
        talk.at = ms((15 + minute * 14) * SECOND);
        talk.exchange(t, &[0x17; 70], &[0x17; 140], 0);
    }
    talk.at = ms(118 * SECOND);
    talk.close(t);
}

fn long_flows(t: &mut Tape) {
    // A video, in bursts.
    let who = client(14);
    let port = t.port();
    let mut talk = Talk::open(t, ms(6 * SECOND), ms(18), (who, port), (outside("198.51.100.30"), 443));
    let hello = client_hello("video.example.net", &mut t.random);
    talk.exchange(t, &hello, &[0x16; 122], 2);
    for burst in 0..12u64 {
        talk.at = ms((8 + burst * 8) * SECOND);
        talk.exchange(t, &[0x17; 220], &[0x17; 300], 20);
    }
    talk.close(t);
    // A remote shell.
    let port = t.port();
    let mut talk = Talk::open(t, ms(3 * SECOND), ms(45), (client(15), port), (outside("198.51.100.77"), 22));
    talk.exchange(t, b"SSH-2.0-OpenSSH_9.9\r\n", b"SSH-2.0-OpenSSH_9.9\r\n", 0);
    for key in 0..40u64 {
        talk.at = ms((5 * SECOND) + key * 2700 + t.below(900));
        talk.exchange(t, &[0x5a; 36], &[0x5a; 68], 0);
    }
    talk.close(t);
    // A call: UDP in both directions, every 400 ms.
    let (port, peer) = (t.port(), outside("192.0.2.150"));
    for number in 0..120u64 {
        let at = ms(40 * SECOND + number * 400);
        t.udp(at, (client(10), port), (peer, 3478), &[0x80; 60]);
        t.udp(at + ms(20), (peer, 3478), (client(10), port), &[0x80; 60]);
    }
    // QUIC.
    for number in [11u8, 12] {
        let port = t.port();
        for part in 0..8u64 {
            let at = ms(u64::from(number) * 4 * SECOND + part * 90);
            t.udp(at, (client(number), port), (outside("198.51.100.20"), 443), &[0xc3; 200]);
            t.udp(at + ms(25), (outside("198.51.100.20"), 443), (client(number), port), &[0xc3; 240]);
        }
    }
}

fn time_and_pings(t: &mut Tape) {
    for (number, start) in [(10u8, 1u64), (11, 17), (12, 33), (13, 49), (14, 65), (15, 81)] {
        let mut request = [0u8; 48];
        request[0] = 0x23;
        t.udp(ms(start * SECOND), (client(number), 123), (outside("192.0.2.123"), 123), &request);
        request[0] = 0x24;
        t.udp(ms(start * SECOND + 28), (outside("192.0.2.123"), 123), (client(number), 123), &request);
    }
    for seq in 0..20u16 {
        let at = ms(20 * SECOND + u64::from(seq) * SECOND);
        t.echo(at, client(15), outside("198.51.100.1"), false, 4711, seq);
        t.echo(at + ms(14), outside("198.51.100.1"), client(15), true, 4711, seq);
    }
    for seq in 0..10u16 {
        let (at, router) = (ms(50 * SECOND + u64::from(seq) * SECOND), Host::new(ROUTER, "192.168.1.1"));
        t.echo(at, client(13), router, false, 815, seq);
        t.echo(at + ms(1), router, client(13), true, 815, seq);
    }
}

fn ipv6(t: &mut Tape) {
    let who = Host::new([0x02, 0, 0, 0, 0x02, 12], "2001:db8:1::12");
    let resolver = outside("2001:db8:1::1");
    for round in 0..4u64 {
        let start = ms((11 + round * 26) * SECOND);
        let (port, id) = (t.port(), t.port());
        let query = dns_query(id, "www.example.com", 28);
        t.udp(start, (who, port), (resolver, 53), &query);
        let answer = dns_answer(&query, "2001:db8:ffff::10".parse().ok());
        t.udp(start + ms(11), (resolver, 53), (who, port), &answer);
        let port = t.port();
        let server = (outside("2001:db8:ffff::10"), 443);
        let mut talk = Talk::open(t, start + ms(14), ms(22), (who, port), server);
        let hello = client_hello("www.example.com", &mut t.random);
        talk.exchange(t, &hello, &[0x16; 122], 2);
        talk.exchange(t, &[0x17; 180], &[0x17; 600], 6);
        talk.close(t);
    }
    for seq in 0..5u16 {
        let at = ms(60 * SECOND + u64::from(seq) * SECOND);
        t.echo(at, who, outside("2001:db8:ffff::10"), false, 66, seq);
        t.echo(at + ms(22), outside("2001:db8:ffff::10"), who, true, 66, seq);
    }
}

/// What does not work in any office: a name that is not there, a port that is closed, a host that is silent.
fn failures(t: &mut Tape) {
    look_up(t, ms(14 * SECOND), client(13), "printer.example.invalid", None);
    let (who, port) = (client(14), t.port());
    let seq = t.number();
    let closed = (outside("198.51.100.10"), 8443);
    t.segment(ms(26 * SECOND), (who, port), closed, (flag::SYN, seq, 0), &[]);
    t.segment(
        ms(26 * SECOND + 30),
        closed,
        (who, port),
        (flag::RST | flag::ACK, 0, seq.wrapping_add(1)),
        &[],
    );
    let (port, seq) = (t.port(), t.number());
    for wait in [0u64, 1000, 3000, 7000] {
        let silent = (outside("192.0.2.200"), 443);
        t.segment(ms(30 * SECOND + wait), (client(13), port), silent, (flag::SYN, seq, 0), &[]);
    }
    let port = t.port();
    let talk = Talk::open(t, ms(44 * SECOND), ms(20), (client(12), port), (outside("192.0.2.44"), 443));
    talk.reset(t);
}
