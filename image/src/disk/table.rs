//! The GUID partition table and the protective boot sector (UEFI specification, chapter 5), through the `gpt`
//! crate: the layout that is written, and any layout read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{self, Type};
use gpt::{GptConfig, GptError};
use ring::digest::{SHA256, digest};
use uuid::{Builder, Uuid};

use super::{BOOT_SIZE, DATA_SIZE, ESP_SIZE, MIB, SECTOR, attribute};

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("no GUID partition table: {0}")]
    Table(#[from] GptError),
    #[error("the boot sector is not writable: {0}")]
    BootSector(String),
    #[error("/boot/pmbr has {0} bytes; a boot sector has 512")]
    Pmbr(usize),
    #[error("{0}")]
    Layout(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub number: u32,
    pub label: String,
    pub kind: PartKind,
    pub first: u64,
    pub last: u64,
    pub attributes: u64,
    pub uuid: Uuid,
}

/// Types of partitions, by gpart(8)'s names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    Efi,
    FreeBsdBoot,
    FreeBsdUfs,
    Other(String),
}

impl Part {
    /// Where it begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.first * SECTOR
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        (self.last + 1 - self.first) * SECTOR
    }
}

impl PartKind {
    fn guid(&self) -> Type {
        match self {
            Self::Efi => partition_types::EFI,
            Self::FreeBsdBoot => partition_types::FREEBSD_BOOT,
            _ => partition_types::FREEBSD_UFS,
        }
    }

    fn of(guid: &Type) -> Self {
        let is = |known: Type| guid.guid == known.guid;
        if is(partition_types::EFI) {
            Self::Efi
        } else if is(partition_types::FREEBSD_BOOT) {
            Self::FreeBsdBoot
        } else if is(partition_types::FREEBSD_UFS) {
            Self::FreeBsdUfs
        } else {
            Self::Other(guid.guid.to_string())
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Efi => "efi",
            Self::FreeBsdBoot => "freebsd-boot",
            Self::FreeBsdUfs => "freebsd-ufs",
            Self::Other(guid) => guid,
        }
    }
}

/// A table that was read.
#[derive(Debug)]
pub struct Table {
    pub guid: Uuid,
    pub parts: Vec<Part>,
    /// Whether the copy at the disk's end is there and whole.
    pub has_backup: bool,
}

/// The appliance's partitions, in order, each at a whole mebibyte. Slot A is the one to boot.
pub fn layout(slot_size: u64, seed: &[u8]) -> Vec<Part> {
    let mut next = MIB;
    let parts = [
        ("esp", PartKind::Efi, ESP_SIZE, 0),
        ("boot", PartKind::FreeBsdBoot, BOOT_SIZE, 0),
        ("slot-a", PartKind::FreeBsdUfs, slot_size, attribute::BOOTME),
        ("slot-b", PartKind::FreeBsdUfs, slot_size, 0),
        ("data", PartKind::FreeBsdUfs, DATA_SIZE, 0),
    ];
    parts
        .into_iter()
        .zip(1..)
        .map(|((label, kind, size, attributes), number)| {
            let first = next / SECTOR;
            next = (next + size).next_multiple_of(MIB);
            let uuid = identifier(seed, label);
            Part {
                number,
                label: label.into(),
                kind,
                first,
                last: first + size / SECTOR - 1,
                attributes,
                uuid,
            }
        })
        .collect()
}

/// The smallest image with these partitions: a mebibyte more, for the table's copy at the end.
pub fn image_size(parts: &[Part]) -> u64 {
    parts.last().map_or(0, |part| (part.last + 1) * SECTOR).next_multiple_of(MIB) + MIB
}

/// A UUID that follows from the contents (RFC 9562, version 8).
fn identifier(seed: &[u8], name: &str) -> Uuid {
    let mut bytes = [0; 16];
    let hash = digest(&SHA256, &[seed, b"\0", name.as_bytes()].concat());
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Writes both tables, and the boot sector with its program.
pub fn write(image: &File, parts: &[Part], pmbr: &[u8], seed: &[u8]) -> Result<(), DiskError> {
    if pmbr.len() != SECTOR as usize {
        return Err(DiskError::Pmbr(pmbr.len()));
    }
    let sectors = image.metadata()?.len() / SECTOR;
    let mut boot_sector = ProtectiveMBR::with_lb_size(u32::try_from(sectors - 1).unwrap_or(u32::MAX));
    let mut program = [0; 440];
    program.copy_from_slice(&pmbr[..440]);
    boot_sector.set_bootcode(program);
    let mut device = image.try_clone()?;
    boot_sector.overwrite_lba0(&mut device).map_err(|error| DiskError::BootSector(error.to_string()))?;
    let entries: BTreeMap<u32, Partition> = parts.iter().map(|part| (part.number, entry(part))).collect();
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(device, Some(identifier(seed, "disk")))?;
    disk.update_partitions(entries)?;
    disk.write()?;
    Ok(())
}

fn entry(part: &Part) -> Partition {
    Partition {
        part_type_guid: part.kind.guid(),
        part_guid: part.uuid,
        first_lba: part.first,
        last_lba: part.last,
        flags: part.attributes,
        name: part.label.clone(),
    }
}

/// Reads the table of a disk or image; the copy at the end serves if the first is damaged.
pub fn read(image: &File) -> Result<Table, DiskError> {
    let disk =
        GptConfig::new().logical_block_size(LogicalBlockSize::Lb512).open_from_device(image.try_clone()?)?;
    let parts = disk.partitions().iter().filter(|(_, part)| part.is_used()).map(|(number, part)| Part {
        number: *number,
        label: part.name.clone(),
        kind: PartKind::of(&part.part_type_guid),
        first: part.first_lba,
        last: part.last_lba,
        attributes: part.flags,
        uuid: part.part_guid,
    });
    Ok(Table { guid: *disk.guid(), parts: parts.collect(), has_backup: disk.backup_header().is_ok() })
}

/// What of the boot sector is a program, and whether it ends as one.
pub fn boot_sector(image: &File) -> io::Result<([u8; 440], bool)> {
    let mut sector = [0; SECTOR as usize];
    image.read_exact_at(&mut sector, 0)?;
    let mut program = [0; 440];
    program.copy_from_slice(&sector[..440]);
    Ok((program, sector[510..] == [0x55, 0xaa]))
}
