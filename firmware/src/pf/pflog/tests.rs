#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use super::*;
use crate::testing::shared;

/// The first record of 15.1's capture: `rule 3/0(match): block out on vtnet0: 10.0.2.15 > 10.0.2.3: ICMP`.
const ICMP: &str = "\
    4502 0100 7674 6e65 7430 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0003 \
    ffff ffff ffff ffff a086 0100 0000 0000 0000 0000 0200 0000 0000 0000 0000 0000 4500 0054 1299 0000 \
    4001 4fff 0a00 020f 0a00 0203 0800 ce26 2904 0000 0000 001b 0024 1593 0809 0a0b 0c0d 0e0f 1011 1213 \
    1415 1617 1819 1a1b 1c1d 1e1f 2021 2223 2425 2627 2829 2a2b 2c2d 2e2f 3031 3233 3435 3637";
/// `rule 2/0(match): block out on vtnet0: 10.0.2.15.18762 > 10.0.2.2.9: Flags [S]`.
const TCP: &str = "\
    4502 0100 7674 6e65 7430 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0002 \
    ffff ffff ffff ffff a086 0100 0000 0000 0000 0000 0200 0000 0000 0000 0000 0000 4500 003c 0000 4000 \
    4006 22ac 0a00 020f 0a00 0202 494a 0009 4ad6 d875 0000 0000 a002 ffff 183f 0000 0204 05b4 0103 0308 \
    0402 080a 1ea9 5497 0000 0000";
/// `rule 0.aifw.0/0(match): block out on vtnet0: 10.0.2.15.47694 > 10.0.2.2.1234: UDP`.
const ANCHOR: &str = "\
    4502 0100 7674 6e65 7430 0000 0000 0000 0000 0000 6169 6677 0000 0000 0000 0000 0000 0000 0000 0000 \
    0000 0000 ffff ffff a086 0100 0000 0000 0000 0000 0200 0000 0000 0000 0000 0000 4500 001e 129b 0000 \
    4011 5024 0a00 020f 0a00 0202 ba4e 04d2 000a 182c 780a";
/// `rule 5/0(match): block out on vtnet1: fd00:1::1 > fd00:1::99: ICMP6, echo request`.
const ICMP6: &str = "\
    451c 0100 7674 6e65 7431 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0005 \
    ffff ffff ffff ffff a086 0100 0000 0000 0000 0000 0200 0000 0000 0000 0000 0000 6000 0000 0010 3a40 \
    fd00 0001 0000 0000 0000 0000 0000 0001 fd00 0001 0000 0000 0000 0000 0000 0099 8000 6a5b 0432 0000 \
    0000 001f 13fa 0271";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()
}

fn read(hex: &str) -> LoggedPacket {
    decode(Timestamp::UNIX_EPOCH, &bytes(hex)).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_blocked_tcp_segment() {
    let expected = LoggedPacket {
        at: Timestamp::UNIX_EPOCH,
        passed: false,
        inbound: false,
        interface: "vtnet0".into(),
        protocol: "tcp".into(),
        src: address("10.0.2.15"),
        src_port: 18762,
        dst: address("10.0.2.2"),
        dst_port: 9,
        reason: "match".into(),
        anchor: String::new(),
        rule_number: Some(2),
        labels: vec![],
    };
    assert_eq!(read(TCP), expected);
}

#[test]
fn icmp_has_no_ports_and_ipv6_is_read() {
    let icmp = read(ICMP);
    assert_eq!(
        (icmp.protocol.as_str(), icmp.src_port, icmp.dst_port, icmp.rule_number),
        ("icmp", 0, 0, Some(3))
    );
    let icmp6 = read(ICMP6);
    assert_eq!((icmp6.protocol.as_str(), icmp6.interface.as_str()), ("ipv6-icmp", "vtnet1"));
    assert_eq!((icmp6.src, icmp6.dst), (address("fd00:1::1"), address("fd00:1::99")));
}

#[test]
fn the_rule_within_an_anchor_is_the_one_that_decided() {
    let packet = read(ANCHOR);
    assert_eq!((packet.anchor.as_str(), packet.rule_number), ("aifw", Some(0)));
    assert_eq!((packet.protocol.as_str(), packet.src_port, packet.dst_port), ("udp", 47694, 1234));
}

#[test]
fn actions_directions_and_reasons() {
    let with = |at: usize, value: u8| {
        let mut record = bytes(TCP);
        record[at] = value;
        decode(Timestamp::UNIX_EPOCH, &record).unwrap()
    };
    assert!(with(2, 0).passed && with(60, 1).inbound);
    assert_eq!((with(3, 1).reason.as_str(), with(3, 16).reason.as_str()), ("bad-offset", "translate"));
    assert_eq!(with(3, 200).reason, "");
    // PF_RDR: passed on, and the number is not one of a filter rule.
    let translated = with(2, 10);
    assert!(translated.passed && translated.rule_number.is_none());
    // The default rule has no number.
    let mut record = bytes(TCP);
    record[36..40].fill(0xff);
    assert_eq!(decode(Timestamp::UNIX_EPOCH, &record).unwrap().rule_number, None);
}

#[test]
fn damaged_records_are_no_packets() {
    let whole = bytes(TCP);
    for cut in 0..92 {
        assert_eq!(decode(Timestamp::UNIX_EPOCH, &whole[..cut]), None, "{cut}");
    }
    let mut short_header = whole;
    short_header[0] = 40;
    assert_eq!(decode(Timestamp::UNIX_EPOCH, &short_header), None);
}

/// A pcap file of one record.
fn file(link: u32, record: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, link] {
        file.extend(word.to_le_bytes());
    }
    let length = record.len() as u32;
    for word in [1_795_470_265, 484_918, length, length] {
        file.extend(word.to_le_bytes());
    }
    file.extend(record);
    file
}

#[test]
fn log_files_are_read_up_to_where_they_are_cut() {
    let mut whole = file(LINK_TYPE, &bytes(TCP));
    let packets = read_file(whole.as_slice()).unwrap();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].at.to_string(), "2026-11-23T21:44:25.484918Z");
    let again = whole[24..].to_vec();
    whole.extend(&again[..again.len() - 1]);
    assert_eq!(read_file(whole.as_slice()).unwrap(), packets);
    assert!(matches!(read_file(file(1, &bytes(TCP)).as_slice()), Err(LogError::LinkType(1))));
    assert!(matches!(read_file(&b"no capture"[..]), Err(LogError::Format(_))));
}

/// FreeBSD's own capture against what its own tcpdump(1) said of it.
#[test]
fn the_capture_of_15_1_is_read_as_tcpdump_reads_it() {
    let Some(folder) = shared("freebsd-15.1") else { return };
    let packets = read_file(std::fs::File::open(folder.join("pflog0.pcap")).unwrap()).unwrap();
    let text = std::fs::read_to_string(folder.join("tcpdump-pflog.txt")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" rule ")).collect();
    assert_eq!(packets.len(), lines.len());
    for (packet, line) in packets.iter().zip(lines) {
        let end = |address: IpAddr, port: u16| {
            if port == 0 { address.to_string() } else { format!("{address}.{port}") }
        };
        let rule = match packet.anchor.as_str() {
            "" => packet.rule_number.unwrap().to_string(),
            anchor => format!("0.{anchor}.{}", packet.rule_number.unwrap()),
        };
        let expected = format!(
            "{} rule {rule}/0({}): {} {} on {}: {} > {}: ",
            packet.at.strftime("%Y-%m-%d %H:%M:%S%.6f"),
            packet.reason,
            if packet.passed { "pass" } else { "block" },
            if packet.inbound { "in" } else { "out" },
            packet.interface,
            end(packet.src, packet.src_port),
            end(packet.dst, packet.dst_port),
        );
        assert!(line.starts_with(&expected), "{line}\n{expected}");
    }
}

#[test]
fn readers_get_completed_packets_and_slow_ones_the_newest() {
    let log = Log::new(|packet| packet.labels = vec!["default-deny".into()]);
    let (slow, gone) = (log.subscribe(), log.subscribe());
    drop(gone);
    let packet = read(TCP);
    for port in 0..=u16::try_from(WAITING).unwrap() {
        deliver(&log.readers, log.complete.as_ref(), LoggedPacket { src_port: port, ..packet.clone() });
    }
    assert_eq!(log.readers.lock().unwrap().len(), 1);
    let first = slow.try_recv().unwrap();
    assert_eq!((first.src_port, first.labels), (1, vec!["default-deny".to_owned()]));
    assert_eq!(slow.len(), WAITING - 1);
}
