//! Captures for the engine of a sandbox, whose interfaces are simulated: copies with times that begin now, in the
//! directory that the engine reads, file by file. So its alerts are the true result of real packets.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

/// Puts a copy of a capture into `directory`; it is there as a whole or not at all. A file in another format than pcap
/// is copied as it is. Blocks.
pub fn feed(capture: &Path, directory: &Path, number: u64) -> io::Result<()> {
    let name = capture.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let hidden = directory.with_file_name(format!("{name}-{number}.part"));
    let finished = directory.join(format!("{name}-{number}.pcap"));
    let shifted = shift(capture, &hidden);
    if shifted.is_err() {
        std::fs::copy(capture, &hidden)?;
    }
    std::fs::rename(&hidden, &finished)
}

/// A packet that means nothing, for the engine to begin with. While it reads files its time is that of packets, and its
/// threads wait for a first one: with none for 64 s it gives up ("thread FM#01 failed to start in time"), and until then
/// its main loop, which reloads rules, does not run. Blocks.
pub fn begin(directory: &Path) -> io::Result<()> {
    let finished = directory.join("begin.pcap");
    if finished.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let now = SystemTime::now();
    let time = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // To everyone, from a local address, of the ethertype for local experiments (IEEE 802, 0x88b5).
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    let hidden = directory.with_file_name("begin.part");
    let mut writer = PcapWriter::new(File::create(&hidden)?).map_err(io::Error::other)?;
    writer.write_packet(&PcapPacket::new(time, 60, &frame)).map_err(io::Error::other)?;
    // Files that are younger than two seconds are left for later.
    let file = writer.into_writer();
    file.set_modified(now.checked_sub(Duration::from_secs(60)).unwrap_or(now))?;
    std::fs::rename(&hidden, &finished)
}

fn shift(capture: &Path, copy: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut reader = PcapReader::new(BufReader::new(File::open(capture)?))?;
    let header = reader.header();
    let mut writer = PcapWriter::with_header(BufWriter::new(File::create(copy)?), header)?;
    let mut first: Option<Duration> = None;
    while let Some(packet) = reader.next_packet() {
        let mut packet = packet?.into_owned();
        let first = *first.get_or_insert(packet.timestamp);
        packet.timestamp = now + packet.timestamp.saturating_sub(first);
        writer.write_packet(&packet)?;
    }
    io::Write::flush(&mut writer.into_writer())?;
    Ok(())
}
