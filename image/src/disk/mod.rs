//! The disk image: where each partition lies, what is in it, and the marks that the boot code goes by. DESIGN.md
//! has the layout: `esp`, `boot`, `slot-a`, `slot-b`, `data`. `build` writes one, `inspect` and `verify` read one.

pub mod esp;
mod table;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

pub use table::{DiskError, Part, PartKind, Table, boot_sector, read};

use crate::tool::{Error, file};

pub const MIB: u64 = 1 << 20;
pub const SECTOR: u64 = 512;
/// As gpart(8) makes it: far more than gptboot needs.
pub const BOOT_SIZE: u64 = 512 * 1024;
/// Room for the boot program; a FAT32 file system cannot be much smaller.
pub const ESP_SIZE: u64 = 40 * MIB;
/// The data partition as shipped: empty, and grown to the disk's end at first boot.
pub const DATA_SIZE: u64 = 64 * MIB;

/// GPT attributes that gptboot(8) reads: bits of an entry's attribute word (`sys/gpt.h`).
pub mod attribute {
    pub const BOOTME: u64 = 1 << 59;
    pub const BOOTONCE: u64 = 1 << 58;
    pub const BOOTFAILED: u64 = 1 << 57;

    /// Their names, as gpart(8) prints them.
    pub fn names(bits: u64) -> Vec<&'static str> {
        let all = [(BOOTME, "bootme"), (BOOTONCE, "bootonce"), (BOOTFAILED, "bootfailed")];
        all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect()
    }
}

/// What goes into an image.
#[derive(Debug)]
pub struct Contents<'a> {
    /// `/boot/pmbr`: the boot sector's program, for BIOS.
    pub pmbr: &'a [u8],
    /// `/boot/gptboot`, for BIOS.
    pub gptboot: &'a [u8],
    /// `/boot/gptboot.efi`.
    pub gptboot_efi: &'a [u8],
    /// The file system image of slot A.
    pub slot: &'a Path,
    pub slot_size: u64,
    /// What identifiers are derived from: the same for the same contents, and for nothing else.
    pub seed: &'a [u8],
}

/// Writes the image. Regions that are empty take no space on the host (sparse file).
pub fn create(path: &Path, contents: &Contents<'_>) -> Result<(), Error> {
    let parts = table::layout(contents.slot_size, contents.seed);
    let mut image =
        File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(file(path))?;
    image.set_len(table::image_size(&parts)).map_err(file(path))?;
    table::write(&image, &parts, contents.pmbr, contents.seed).map_err(|source| on(path, source))?;
    let esp = esp::make(contents.gptboot_efi, ESP_SIZE, contents.seed).map_err(file(path))?;
    let mut slot = File::open(contents.slot).map_err(file(contents.slot))?;
    for part in &parts {
        image.seek(SeekFrom::Start(part.offset())).map_err(file(path))?;
        match part.label.as_str() {
            "esp" => copy_sparse(&mut esp.as_slice(), &mut image).map_err(file(path))?,
            "boot" => {
                if contents.gptboot.len() as u64 > part.size() {
                    return Err(Error::TooLarge { what: "/boot/gptboot".into(), limit: part.size() });
                }
                copy_sparse(&mut &contents.gptboot[..], &mut image).map_err(file(path))?;
            }
            "slot-a" => copy_sparse(&mut slot, &mut image).map_err(file(path))?,
            _ => {}
        }
    }
    image.sync_all().map_err(file(path))
}

/// An error about a disk, with the disk's name.
pub fn on(path: &Path, source: DiskError) -> Error {
    Error::Disk { path: path.to_owned(), source: Box::new(source) }
}

/// Copies, skipping over what is zero: what is there must be zero already.
pub fn copy_sparse(from: &mut dyn Read, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        if buffer[..filled].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(filled as i64))?;
        } else {
            to.write_all(&buffer[..filled])?;
        }
    }
}
