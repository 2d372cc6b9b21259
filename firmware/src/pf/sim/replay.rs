//! Replays captures (.pcap, .pcapng) through the simulator: real packets in, so that states, counters and the log
//! are what they would be. Decides for each frame through which interface it comes, keeps the capture's timing,
//! faster or slower, once or in a loop. Used by the sandbox; ends when its future is dropped.
//!
//! A capture may have been taken on the LAN, on the WAN, or (pcapng with interface names) on both. Frames that
//! left through an interface are taken only when the router itself sent them: forwarded ones the simulator
//! forwards by itself. A LAN capture shows answers behind the translation; they are put back in front of it.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{PcapError, TsResolution};

use super::Simulator;
use super::interfaces::{Interfaces, SimInterface};
use super::state::{Ends, Micros};
use super::tcp::TcpState;
use crate::config::Timestamp;
use crate::pf::packet::{Direction, Frame, Link, Packet};

/// A capture is held in memory, headers only; more frames than this are refused.
pub const MAX_FRAMES: usize = 1_000_000;

/// Between the end of one round of a loop and the beginning of the next.
const PAUSE: Duration = Duration::from_secs(1);

/// So many packets are injected before others get their turn on the thread.
const BATCH: usize = 64;

/// Why a capture cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no capture in pcap or pcapng format: {0}")]
    Format(PcapError),
    /// An empty file, or one that was cut off.
    #[error("the capture ends in the middle of a packet or of its header")]
    Cut,
    #[error(
        "the capture's link type {0} is not supported: expected Ethernet, raw IP, BSD loopback or Linux cooked"
    )]
    Link(u32),
    #[error("the capture holds more than {MAX_FRAMES} packets")]
    TooLong,
    #[error("the capture holds no IP packets")]
    Empty,
}

impl From<PcapError> for ReplayError {
    fn from(error: PcapError) -> Self {
        match error {
            PcapError::IncompleteBuffer => Self::Cut,
            PcapError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::Cut,
            PcapError::IoError(error) => Self::Io(error),
            error => Self::Format(error),
        }
    }
}

/// A packet of a capture.
#[derive(Debug, Clone)]
struct Captured {
    /// From the capture's beginning.
    at: Duration,
    packet: Packet,
    macs: Option<([u8; 6], [u8; 6])>,
    /// Number in [`Capture::names`].
    interface: Option<usize>,
    direction: Option<Direction>,
}

/// A capture in memory.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    packets: Vec<Captured>,
    /// Interface names that the file gives.
    names: Vec<String>,
    skipped: u64,
}

/// Reads up to four bytes to tell the formats apart.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Microseconds and nanoseconds, either byte order.
const PCAP_MAGIC: [[u8; 4]; 4] =
    [[0xa1, 0xb2, 0xc3, 0xd4], [0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0x3c, 0x4d], [0x4d, 0x3c, 0xb2, 0xa1]];

impl Capture {
    /// Reads a capture file.
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        Self::read(std::io::BufReader::new(std::fs::File::open(path)?))
    }

    /// Reads a capture in either format.
    pub fn read(mut reader: impl Read) -> Result<Self, ReplayError> {
        let mut magic = [0; 4];
        reader.read_exact(&mut magic).map_err(PcapError::IoError)?;
        let whole = magic.chain(reader);
        let mut capture = Self::default();
        if magic == PCAPNG_MAGIC {
            capture.read_pcapng(whole)?
        } else if !PCAP_MAGIC.contains(&magic) {
            return Err(ReplayError::Format(PcapError::InvalidField("magic number")));
        } else {
            capture.read_pcap(whole)?
        }
        if capture.packets.is_empty() {
            return Err(ReplayError::Empty);
        }
        // Captures of several interfaces may be slightly out of order.
        capture.packets.sort_by_key(|p| p.at);
        let first = capture.packets[0].at;
        for packet in &mut capture.packets {
            packet.at -= first;
        }
        capture.packets.shrink_to_fit();
        Ok(capture)
    }

    fn read_pcap(&mut self, reader: impl Read) -> Result<(), ReplayError> {
        let mut reader = PcapReader::new(reader)?;
        let header = reader.header();
        let link = link(u32::from(header.datalink))?;
        let unit = if header.ts_resolution == TsResolution::NanoSecond { 1 } else { 1000 };
        while let Some(packet) = reader.next_raw_packet() {
            let packet = packet?;
            let at = Duration::from_secs(packet.ts_sec.into())
                + Duration::from_nanos(u64::from(packet.ts_frac) * unit);
            self.push(at, link, &packet.data, None, None)?;
        }
        Ok(())
    }

    fn read_pcapng(&mut self, reader: impl Read) -> Result<(), ReplayError> {
        struct Source {
            link: Link,
            name: Option<usize>,
            /// Exponent of if_tsresol; negative of ten, or of two with the high bit set.
            resolution: u8,
            offset: u64,
        }
        let mut reader = PcapNgReader::new(reader)?;
        let mut sources: Vec<Source> = Vec::new();
        let mut latest = Duration::ZERO;
        while let Some(block) = reader.next_block() {
            match block? {
                Block::SectionHeader(_) => sources.clear(),
                Block::InterfaceDescription(description) => {
                    let mut source = Source {
                        link: link(u32::from(description.linktype))?,
                        name: None,
                        resolution: 6,
                        offset: 0,
                    };
                    for option in &description.options {
                        match option {
                            InterfaceDescriptionOption::IfName(name) => {
                                let known = self.names.iter().position(|n| n == name);
                                source.name = Some(known.unwrap_or_else(|| {
                                    self.names.push(name.to_string());
                                    self.names.len() - 1
                                }));
                            }
                            InterfaceDescriptionOption::IfTsResol(exponent) => source.resolution = *exponent,
                            InterfaceDescriptionOption::IfTsOffset(seconds) => source.offset = *seconds,
                            _ => {}
                        }
                    }
                    sources.push(source);
                }
                Block::EnhancedPacket(packet) => {
                    let source = sources
                        .get(packet.interface_id as usize)
                        .ok_or(PcapError::InvalidInterfaceId(packet.interface_id))?;
                    // The reader hands the raw count of units out as nanoseconds.
                    let ticks = packet.timestamp.as_nanos();
                    latest = Duration::from_secs(source.offset) + span(ticks, source.resolution);
                    let direction = packet.options.iter().find_map(|option| match option {
                        EnhancedPacketOption::Flags(flags) => match flags & 3 {
                            1 => Some(Direction::In),
                            2 => Some(Direction::Out),
                            _ => None,
                        },
                        _ => None,
                    });
                    let (link, name) = (source.link, source.name);
                    self.push(latest, link, &packet.data, name, direction)?;
                }
                Block::SimplePacket(packet) => {
                    if let Some(source) = sources.first() {
                        let (link, name) = (source.link, source.name);
                        self.push(latest, link, &packet.data, name, None)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        at: Duration,
        link: Link,
        data: &[u8],
        interface: Option<usize>,
        direction: Option<Direction>,
    ) -> Result<(), ReplayError> {
        if self.packets.len() >= MAX_FRAMES {
            return Err(ReplayError::TooLong);
        }
        match Frame::decode(link, data) {
            Ok(Frame { packet, macs, .. }) => {
                self.packets.push(Captured { at, packet, macs, interface, direction });
            }
            Err(_) => self.skipped += 1,
        }
        Ok(())
    }

    /// Number of IP packets.
    pub fn len(&self) -> usize {
        self.packets.len()
    }
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
    /// Frames that hold no IP packet (ARP …).
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
    /// From the first packet to the last.
    pub fn duration(&self) -> Duration {
        self.packets.last().map_or(Duration::ZERO, |p| p.at)
    }
}

fn link(number: u32) -> Result<Link, ReplayError> {
    Link::from_number(number).map_err(|_| ReplayError::Link(number))
}

/// A count of `if_tsresol` units.
fn span(ticks: u128, resolution: u8) -> Duration {
    let nanos = if resolution & 0x80 != 0 {
        let shift = u32::from(resolution & 0x7f).min(64);
        (ticks * 1_000_000_000) >> shift
    } else {
        let exponent = u32::from(resolution);
        match exponent {
            0..=9 => ticks * 10u128.pow(9 - exponent),
            _ => ticks / 10u128.pow((exponent - 9).min(29)),
        }
    };
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

// --- which way a packet comes

/// Where a packet of a capture meets pf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    At(&'a SimInterface, Direction),
    /// Forwarded out: the simulator has done that by itself.
    Forwarded,
    Nowhere,
}

/// Tells inside from outside for one capture and one set of interfaces.
#[derive(Debug, Default)]
struct Sides {
    /// Hardware addresses and the interface behind which they are; `None` = outside.
    macs: HashMap<[u8; 6], Option<String>>,
}

/// The interface towards the internet: that of a default route, else of a public address, else the first.
fn wan(interfaces: &Interfaces) -> Option<&SimInterface> {
    let real = || interfaces.iter().filter(|i| !i.is_loopback());
    let public = |i: &&SimInterface| i.addresses.iter().any(|net| !is_private(net.addr()));
    real()
        .find(|i| !i.gateways.is_empty())
        .or_else(|| real().find(|i| i.name == "em0"))
        .or_else(|| real().find(public))
        .or_else(|| real().next())
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_private() || a.is_link_local() || a.is_loopback(),
        IpAddr::V6(a) => a.is_unique_local() || a.is_unicast_link_local() || a.is_loopback(),
    }
}

/// The inner interface whose network holds an address.
fn lan_of(interfaces: &Interfaces, address: IpAddr) -> Option<&SimInterface> {
    let outer = wan(interfaces)?;
    interfaces.on_link(address).filter(|i| i.name != outer.name && !i.is_loopback())
}

impl Sides {
    /// A sender is inside when most of what it sends has inside addresses: a forged one does not fool it.
    fn learn(capture: &Capture, interfaces: &Interfaces) -> Self {
        let mut counts: HashMap<[u8; 6], (HashMap<String, u64>, u64)> = HashMap::new();
        for captured in &capture.packets {
            let Some((from, _)) = captured.macs else { continue };
            let (inside, outside) = counts.entry(from).or_default();
            match lan_of(interfaces, captured.packet.src) {
                Some(lan) => *inside.entry(lan.name.clone()).or_default() += 1,
                None if is_unroutable(captured.packet.src) => {}
                None => *outside += 1,
            }
        }
        let macs = counts
            .into_iter()
            .filter(|(_, (inside, outside))| !inside.is_empty() || *outside > 0)
            .map(|(mac, (inside, outside))| {
                let most = inside.into_iter().max_by_key(|(_, count)| *count);
                (mac, most.filter(|(_, count)| *count > outside).map(|(name, _)| name))
            })
            .collect();
        Self { macs }
    }

    fn place<'a>(&self, captured: &Captured, name: Option<&str>, interfaces: &'a Interfaces) -> Place<'a> {
        let packet = &captured.packet;
        let own = |address| interfaces.is_own(address);
        if let Some(interface) = name.and_then(|name| interfaces.get(name)) {
            let by_mac = captured.macs.zip(interface.mac).and_then(|((from, to), mac)| {
                if from == mac {
                    Some(Direction::Out)
                } else if to == mac {
                    Some(Direction::In)
                } else {
                    None
                }
            });
            let behind = |address| interface.addresses.iter().any(|net| net.contains(&address));
            // From another inner network, or to a host behind this interface from elsewhere: on its way out.
            let guess = || {
                let elsewhere = lan_of(interfaces, packet.src).is_some_and(|lan| lan.name != interface.name);
                let forwarded = elsewhere || (!behind(packet.src) && behind(packet.dst));
                let leaves = own(packet.src) || (forwarded && !own(packet.dst));
                if leaves { Direction::Out } else { Direction::In }
            };
            let direction = captured.direction.or(by_mac).unwrap_or_else(guess);
            return match direction {
                Direction::Out if !own(packet.src) => Place::Forwarded,
                direction => Place::At(interface, direction),
            };
        }
        let Some(outer) = wan(interfaces) else { return Place::Nowhere };
        if own(packet.src) && !own(packet.dst) {
            // Sent by the router.
            let sender = interfaces.iter().find(|i| i.addresses.iter().any(|net| net.addr() == packet.src));
            return sender.map_or(Place::Nowhere, |interface| Place::At(interface, Direction::Out));
        }
        if let Some((from, to)) = captured.macs {
            let has = |mac: [u8; 6]| interfaces.iter().find(|i| i.mac == Some(mac));
            if let Some(interface) = has(to) {
                return Place::At(interface, Direction::In);
            }
            if let Some(interface) = has(from)
                && interface.name == outer.name
            {
                return Place::Forwarded;
            }
            match self.macs.get(&from) {
                Some(Some(inside)) => {
                    let inside = interfaces.get(inside);
                    return inside.map_or(Place::Nowhere, |i| Place::At(i, Direction::In));
                }
                Some(None) => return Place::At(outer, Direction::In),
                None => {}
            }
        }
        Place::At(lan_of(interfaces, packet.src).unwrap_or(outer), Direction::In)
    }
}

/// Source addresses that do not tell where their sender is.
fn is_unroutable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_unspecified() || a.is_link_local(),
        IpAddr::V6(a) => a.is_unspecified() || a.is_unicast_link_local(),
    }
}

// --- replay

/// How a capture is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Times as fast as it was captured; 0 = without waiting, in the capture's own time.
    pub speed: f64,
    /// Again and again.
    pub repeat: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { speed: 1.0, repeat: false }
    }
}

/// What has been replayed so far; shared with whoever wants to know.
#[derive(Debug, Default)]
pub struct Progress {
    pub passed: AtomicU64,
    pub blocked: AtomicU64,
    /// Forwarded out already, or belonging to no interface.
    pub left_out: AtomicU64,
    /// Rounds that are through.
    pub rounds: AtomicU64,
}

/// Replays a capture; resolves when it is through, never when it repeats. Dropping the future stops it.
pub async fn replay(simulator: &Simulator, capture: &Capture, options: Options, progress: &Progress) {
    let waits = options.speed.is_finite() && options.speed > 0.0;
    let scale = if waits { 1.0 / options.speed } else { 1.0 };
    let mut begin = Instant::now();
    let mut begin_at = Timestamp::now().as_microsecond();
    loop {
        let interfaces = simulator.with(|engine| engine.interfaces().clone());
        let sides = Sides::learn(capture, &interfaces);
        for (number, captured) in capture.packets.iter().enumerate() {
            let due = captured.at.mul_f64(scale);
            if waits && begin + due > Instant::now() {
                smol::Timer::at(begin + due).await;
            } else if number % BATCH == BATCH - 1 {
                smol::future::yield_now().await;
            }
            let name = captured.interface.and_then(|n| capture.names.get(n)).map(String::as_str);
            let at = begin_at.saturating_add(micros(due));
            let counter = match sides.place(captured, name, &interfaces) {
                Place::At(interface, direction) => {
                    if inject(simulator, interface, direction, captured, &interfaces, at) {
                        &progress.passed
                    } else {
                        &progress.blocked
                    }
                }
                Place::Forwarded | Place::Nowhere => &progress.left_out,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        progress.rounds.fetch_add(1, Ordering::Relaxed);
        if !options.repeat {
            return;
        }
        let round = capture.duration().mul_f64(scale) + PAUSE.mul_f64(scale);
        if waits {
            smol::Timer::at(begin + round).await;
        }
        // Short captures get here often.
        smol::future::yield_now().await;
        begin += round;
        begin_at = begin_at.saturating_add(micros(round));
        // The same ports come again: connections that the capture has left open would refuse their new SYN.
        simulator.with(|engine| {
            engine.states_mut().kill(|state| match &state.ends {
                Ends::Tcp(from, to) => from.state.min(to.state) < TcpState::FinWait2,
                Ends::Talk(..) | Ends::Icmp => false,
            })
        });
    }
}

fn micros(span: Duration) -> Micros {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn inject(
    simulator: &Simulator,
    interface: &SimInterface,
    direction: Direction,
    captured: &Captured,
    interfaces: &Interfaces,
    at: Micros,
) -> bool {
    let packet = &captured.packet;
    simulator.with(|engine| {
        let outer = (direction == Direction::In && !interfaces.is_own(packet.dst))
            .then(|| engine.before_translation(packet))
            .flatten();
        engine.inject(&interface.name, direction, outer.as_ref().unwrap_or(packet), at).passed
    })
}
