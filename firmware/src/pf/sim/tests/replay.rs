//! Captures replayed: the demonstration captures through a ruleset like the sandbox's, formats, timing, stopping.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use super::*;
use crate::pf::sim::demo;
use crate::pf::sim::replay::{Capture, Options, Progress, ReplayError, replay};

const RULES: &str = "set block-policy drop\nnat on em0 inet from (em1:network) to any -> (em0:0)\n\
    block drop in log all label \"default-deny-in\"\npass out all keep state label \"default-pass-out\"\n\
    antispoof log quick for { (em0), (em1) } label \"antispoof\"\n\
    pass in on em1 from (em1:network) to any keep state label \"lan\"\n";

/// As the sandbox has it: the demonstration captures' networks.
fn sandbox() -> Simulator {
    let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
    let sim = Simulator::new(vec![
        SimInterface::new("em0", nets(&["203.0.113.2/24", "2001:db8:0:1::2/64"]))
            .with_gateway(ip("203.0.113.1"))
            .with_gateway(ip("2001:db8:0:1::1")),
        SimInterface::new("em1", nets(&["192.168.1.1/24", "2001:db8:1::1/64"])),
    ]);
    sim.load(None, RULES).unwrap();
    sim
}

const AT_ONCE: Options = Options { speed: 0.0, repeat: false };

fn replayed(sim: &Simulator, capture: &Capture) -> (u64, u64, u64) {
    let progress = Progress::default();
    smol::block_on(replay(sim, capture, AT_ONCE, &progress));
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    (read(&progress.passed), read(&progress.blocked), read(&progress.left_out))
}

#[test]
fn an_office_works_through_nat() {
    let sim = sandbox();
    let capture = Capture::read(demo::office().unwrap().as_slice()).unwrap();
    let (passed, blocked, left_out) = replayed(&sim, &capture);
    assert_eq!((blocked, left_out), (0, 0), "of {}", capture.len());
    assert_eq!(passed, capture.len() as u64);
    let info = sim.info().unwrap();
    assert!(info.states > 20, "{info:?}");
    assert!(info.counters.contains(&("state-mismatch".into(), 0)));
    let states = sim.states().unwrap();
    // Behind the router's address on the WAN, by its own on the LAN.
    assert!(states.iter().any(|s| s.src.0 == ip("203.0.113.2") && s.dst.1 == 443));
    assert!(states.iter().any(|s| s.src.0 == ip("192.168.1.15")));
    assert!(states.iter().any(|s| s.src.0 == ip("2001:db8:1::12")));
    assert!(states.iter().any(|s| s.state == "FIN_WAIT_2:FIN_WAIT_2"));
    assert!(states.iter().all(|s| s.packets.0 > 0));
    let traffic = sim.interfaces().unwrap();
    assert!(traffic.iter().all(|i| i.packets_in > 500 && i.packets_out > 500), "{traffic:?}");
    let (_, rules) = sim.rules(None).unwrap();
    let lan = rules.iter().find(|r| r.labels == ["lan"]).unwrap();
    assert!(lan.packets > 1000 && lan.bytes > 200_000);
}

#[test]
fn scans_are_blocked_and_logged() {
    let sim = sandbox();
    let logged = sim.logged();
    let capture = Capture::read(demo::scans().unwrap().as_slice()).unwrap();
    let (passed, blocked, left_out) = replayed(&sim, &capture);
    assert_eq!((passed, left_out), (0, 0));
    assert_eq!(blocked, capture.len() as u64);
    let packets: Vec<_> = std::iter::from_fn(|| logged.try_recv().ok()).collect();
    assert_eq!(packets.len(), capture.len());
    assert!(packets.iter().all(|p| !p.passed && p.inbound && p.interface == "em0"));
    let forged = |p: &&crate::pf::LoggedPacket| p.labels == ["antispoof"];
    // Inside, own and outside addresses that cannot come from there: three senders, eight times each.
    assert_eq!(packets.iter().filter(forged).count(), 24);
    assert!(packets.iter().any(|p| p.src.is_ipv6()));
    assert!(packets.iter().any(|p| p.protocol == "icmp"));
    let span = packets.last().unwrap().at.duration_since(packets[0].at);
    assert!((110..125).contains(&span.as_secs()), "the capture's own time: {span:?}");
    assert!(packets[0].at.duration_since(Timestamp::now()).as_secs().abs() < 10, "from now on");
}

fn frame(src: [u8; 4], dst: [u8; 4], to: u16) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4(src, dst, 64)
        .udp(999, to)
        .write(&mut out, &[0; 8])
        .unwrap();
    out
}

#[test]
fn pcapng_names_its_interfaces() {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    for (name, resolution) in [("em0", 9), ("em1", 6)] {
        let mut description = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
        description.options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
            InterfaceDescriptionOption::IfTsResol(resolution),
        ];
        writer.write_pcapng_block(description).unwrap();
    }
    let frames = [
        // A client asks; the packet leaves on em0 (the simulator forwards by itself); the answer comes in.
        (1, frame([192, 168, 1, 5], [192, 0, 2, 1], 53)),
        (0, frame([192, 168, 1, 5], [192, 0, 2, 1], 53)),
        // From outside with an inside address: on em0, as the file says.
        (0, frame([192, 168, 1, 5], [203, 0, 113, 2], 53)),
        // The router itself asks.
        (0, frame([203, 0, 113, 2], [192, 0, 2, 1], 53)),
    ];
    for (n, (interface, data)) in frames.iter().enumerate() {
        let seconds = 1000 + n as u64;
        let ticks = if *interface == 0 { seconds * 1_000_000_000 } else { seconds * 1_000_000 };
        writer
            .write_pcapng_block(EnhancedPacketBlock {
                interface_id: *interface,
                timestamp: Duration::from_nanos(ticks),
                original_len: data.len() as u32,
                data: Cow::Borrowed(data),
                options: vec![],
            })
            .unwrap();
    }
    let capture = Capture::read(writer.into_inner().as_slice()).unwrap();
    assert_eq!((capture.len(), capture.duration()), (4, Duration::from_secs(3)));
    let sim = sandbox();
    let logged = sim.logged();
    assert_eq!(replayed(&sim, &capture), (2, 1, 1));
    let blocked = logged.try_recv().unwrap();
    assert_eq!((blocked.interface.as_str(), blocked.labels), ("em0", vec!["antispoof".to_owned()]));
}

fn two_packets(apart: Duration) -> Capture {
    let mut writer = PcapWriter::with_header(Vec::new(), PcapHeader::default()).unwrap();
    for (n, at) in [Duration::from_secs(5), Duration::from_secs(5) + apart].into_iter().enumerate() {
        let data = frame([192, 168, 1, 5], [192, 0, 2, 1], 53 + n as u16);
        writer.write_packet(&PcapPacket::new(at, data.len() as u32, &data)).unwrap();
    }
    Capture::read(writer.into_writer().as_slice()).unwrap()
}

#[test]
fn timing_speed_and_stopping() {
    let sim = sandbox();
    let progress = Progress::default();
    let begun = Instant::now();
    smol::block_on(replay(
        &sim,
        &two_packets(Duration::from_secs(2)),
        Options { speed: 20.0, repeat: false },
        &progress,
    ));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(progress.passed.load(Ordering::Relaxed), 2);
    // A loop ends when its future goes.
    let progress = Progress::default();
    let capture = two_packets(Duration::from_millis(10));
    smol::block_on(async {
        let looping = replay(&sim, &capture, Options { speed: 0.0, repeat: true }, &progress);
        let enough = async {
            while progress.rounds.load(Ordering::Relaxed) < 100 {
                smol::future::yield_now().await;
            }
        };
        smol::future::or(looping, enough).await;
    });
    assert!(progress.passed.load(Ordering::Relaxed) >= 200);
}

#[test]
fn a_looped_office_keeps_working() {
    let sim = sandbox();
    let capture = Capture::read(demo::office().unwrap().as_slice()).unwrap();
    let progress = Progress::default();
    smol::block_on(async {
        let looping = replay(&sim, &capture, Options { speed: 0.0, repeat: true }, &progress);
        let enough = async {
            while progress.rounds.load(Ordering::Relaxed) < 3 {
                smol::future::yield_now().await;
            }
        };
        smol::future::or(looping, enough).await;
    });
    assert_eq!(progress.blocked.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_no_capture() {
    assert!(matches!(Capture::read(&b"\x01\x02"[..]), Err(ReplayError::Cut)));
    assert!(matches!(Capture::read(&b"no capture"[..]), Err(ReplayError::Format(_))));
    let office = demo::office().unwrap();
    for cut in [10, 30, office.len() / 2 + 1, office.len() - 1] {
        assert!(matches!(Capture::read(&office[..cut]), Err(ReplayError::Cut)), "after {cut} bytes");
    }
    assert!(matches!(Capture::read(&[7u8; 100][..]), Err(ReplayError::Format(_))));
    let empty = PcapWriter::with_header(Vec::new(), PcapHeader::default()).unwrap().into_writer();
    assert!(matches!(Capture::read(empty.as_slice()), Err(ReplayError::Empty)));
    let odd = PcapHeader { datalink: DataLink::PFLOG, ..PcapHeader::default() };
    let odd = PcapWriter::with_header(Vec::new(), odd).unwrap().into_writer();
    assert!(matches!(Capture::read(odd.as_slice()), Err(ReplayError::Link(117))));
    // A file that ends within a packet.
    let mut cut = demo::office().unwrap();
    cut.truncate(1000);
    assert!(Capture::read(cut.as_slice()).is_err());
}
