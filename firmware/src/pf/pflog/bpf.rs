//! Live capture of `pflog0` through bpf(4). FreeBSD only; a thread of its own, since read(2) waits for packets.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::{LINK_TYPE, LoggedPacket, decode, records};

/// Where pf logs to unless a rule names another interface.
const INTERFACE: &str = "pflog0";
/// After the capture has died, it is tried again this much later.
const PAUSE: Duration = Duration::from_secs(2);
/// Asked for; the kernel gives less where `net.bpf.maxbufsize` is smaller.
const BUFFER: u32 = 512 * 1024;

/// `struct ifreq`: a name, and a union that BIOCSETIF does not read.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    union: [u64; 2],
}

nix::ioctl_readwrite!(bioc_set_buffer_length, b'B', 102, u32);
nix::ioctl_read!(bioc_get_link_type, b'B', 106, u32);
nix::ioctl_write_ptr!(bioc_set_interface, b'B', 108, InterfaceRequest);
nix::ioctl_write_ptr!(bioc_set_immediate, b'B', 112, u32);

/// Captures for as long as the process lives.
pub fn start(deliver: impl Fn(LoggedPacket) + Send + 'static) {
    let capture = move || {
        let mut said = String::new();
        loop {
            let ended = capture(&deliver);
            let reason = ended.err().map(|error| error.to_string()).unwrap_or_default();
            if reason != said {
                log::warn!(
                    "capture of {INTERFACE} ended: {reason}; trying again every {} s",
                    PAUSE.as_secs()
                );
                said = reason;
            }
            std::thread::sleep(PAUSE);
        }
    };
    if let Err(error) = std::thread::Builder::new().name(INTERFACE.into()).spawn(capture) {
        log::error!("no thread for the capture of {INTERFACE}: {error}");
    }
}

/// Captures until the device says no more, as it does when the interface goes away.
fn capture(deliver: &impl Fn(LoggedPacket)) -> io::Result<()> {
    let (mut device, length) = open()?;
    let mut buffer = vec![0; length];
    loop {
        let read = device.read(&mut buffer)?;
        for (at, record) in records(&buffer[..read]) {
            if let Some(packet) = decode(at, record) {
                deliver(packet);
            }
        }
    }
}

/// A bpf device that listens on the interface, and the length that each read must ask for.
fn open() -> io::Result<(File, usize)> {
    let device = OpenOptions::new().read(true).open("/dev/bpf")?;
    let fd = device.as_raw_fd();
    let mut request = InterfaceRequest { name: [0; 16], union: [0; 2] };
    for (to, from) in request.name.iter_mut().zip(INTERFACE.bytes()) {
        *to = from;
    }
    let (mut length, mut link_type, yes) = (BUFFER, 0, 1);
    // SAFETY: `fd` is open, and each pointer is to a live value of the type that the ioctl's number encodes the
    // size of (bpf(4)). The length must be set before the interface.
    unsafe {
        bioc_set_buffer_length(fd, &mut length)?;
        bioc_set_interface(fd, &request)?;
        bioc_get_link_type(fd, &mut link_type)?;
        bioc_set_immediate(fd, &yes)?;
    }
    if link_type != LINK_TYPE {
        return Err(io::Error::other(format!("{INTERFACE} has link type {link_type}, expected {LINK_TYPE}")));
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    Ok((device, length))
}
