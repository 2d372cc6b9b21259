//! A GUID partition table (UEFI 2.10 §5.3) as gptboot(8) and gpart(8) use it: reading it, changing the boot
//! attributes of a partition, and making one. The medium is a [`Sectors`]: every sector that is written is a step
//! after which the power may be cut. The two copies of the table are never both invalid: the one that is invalid is
//! repaired before the other is touched.

use std::io;

/// Bytes of a sector. gptboot knows no other.
pub const SECTOR: usize = 512;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: usize = 128;
const ENTRIES: usize = 128;
const TABLE_SECTORS: u64 = (ENTRIES * ENTRY_BYTES / SECTOR) as u64;
/// First sector after the primary copy.
pub const FIRST_USABLE: u64 = 2 + TABLE_SECTORS;

/// `freebsd-ufs`, in the table's byte order.
pub const FREEBSD_UFS: [u8; 16] =
    [0xb6, 0x7c, 0x6e, 0x51, 0xcf, 0x6e, 0xd6, 0x11, 0x8f, 0xf8, 0x00, 0x02, 0x2d, 0x09, 0x71, 0x2b];
/// `freebsd-boot`.
pub const FREEBSD_BOOT: [u8; 16] =
    [0x9d, 0x6b, 0xbd, 0x83, 0x41, 0x7f, 0xdc, 0x11, 0xbe, 0x0b, 0x00, 0x15, 0x60, 0xb8, 0x4f, 0x0f];
/// EFI system partition.
pub const EFI_SYSTEM: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// What gptboot goes by (sys/disk/gpt.h of FreeBSD: bits 59, 58 and 57 of an entry's attributes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// May be booted.
    BootMe,
    /// Is to be booted once, before all others.
    BootOnce,
    /// Was to be booted once, and did not come up.
    BootFailed,
}

impl Attribute {
    fn mask(self) -> u64 {
        match self {
            Self::BootMe => 1 << 59,
            Self::BootOnce => 1 << 58,
            Self::BootFailed => 1 << 57,
        }
    }
    /// As gpart(8) calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BootMe => "bootme",
            Self::BootOnce => "bootonce",
            Self::BootFailed => "bootfailed",
        }
    }
}

/// The boot attributes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Attributes {
    pub boot_me: bool,
    pub boot_once: bool,
    pub boot_failed: bool,
}

/// A disk, sector by sector.
pub trait Sectors: Send {
    fn sectors(&self) -> u64;
    /// Reads whole sectors.
    fn read(&mut self, first: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes whole sectors, in order.
    fn write(&mut self, first: u64, bytes: &[u8]) -> io::Result<()>;
    /// What was written before is on the medium before what is written after.
    fn sync(&mut self) -> io::Result<()>;
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 1.
    pub number: usize,
    pub kind: [u8; 16],
    pub label: String,
    pub first: u64,
    pub last: u64,
    pub attributes: Attributes,
}

impl Partition {
    pub fn bytes(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first) * SECTOR as u64
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("the disk has no valid partition table")]
    NoTable,
    #[error("the disk has no partition {0}")]
    NoPartition(String),
    #[error("the disk is too small for its partitions")]
    TooSmall,
    #[error("the partition table: {0}")]
    Io(#[from] io::Error),
}

/// One copy of the table, in memory.
#[derive(Clone)]
struct Copy {
    header: [u8; SECTOR],
    table: Vec<u8>,
}

impl Copy {
    fn number(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.header[at..at + 8]);
        u64::from_le_bytes(bytes)
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn table_at(&self) -> u64 {
        self.number(72)
    }
    fn own_sector(&self) -> u64 {
        self.number(24)
    }
    fn other_sector(&self) -> u64 {
        self.number(32)
    }

    /// A copy that is valid by gptboot's rules, or `None`.
    fn load(disk: &mut dyn Sectors, at: u64) -> io::Result<Option<Self>> {
        if at == 0 || at >= disk.sectors() {
            return Ok(None);
        }
        let mut copy = Self { header: [0; SECTOR], table: vec![0; ENTRIES * ENTRY_BYTES] };
        disk.read(at, &mut copy.header)?;
        let four = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&copy.header[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let sizes = (four(12) as usize, four(80) as usize, four(84) as usize);
        if &copy.header[..8] != SIGNATURE
            || sizes != (HEADER_BYTES, ENTRIES, ENTRY_BYTES)
            || copy.own_sector() != at
            || four(16) != copy.header_sum()
            || copy.table_at() + TABLE_SECTORS > disk.sectors()
        {
            return Ok(None);
        }
        let (sum, table_at) = (four(88), copy.table_at());
        disk.read(table_at, &mut copy.table)?;
        Ok((crc32fast::hash(&copy.table) == sum).then_some(copy))
    }

    fn header_sum(&self) -> u32 {
        let mut header = self.header;
        header[16..20].fill(0);
        crc32fast::hash(&header[..HEADER_BYTES])
    }

    /// The header, with sums that fit.
    fn seal(&mut self) {
        let table = crc32fast::hash(&self.table);
        self.put(88, &table.to_le_bytes());
        let own = self.header_sum();
        self.put(16, &own.to_le_bytes());
    }

    /// The same table as the other copy of the disk.
    fn mirrored(&self, disk: &dyn Sectors) -> Self {
        let mut other = self.clone();
        let (own, there) = (self.own_sector(), self.other_sector());
        other.put(24, &there.to_le_bytes());
        other.put(32, &own.to_le_bytes());
        let table_at = if there == 1 { 2 } else { disk.sectors().min(there + 1) - 1 - TABLE_SECTORS };
        other.put(72, &table_at.to_le_bytes());
        other.seal();
        other
    }

    fn entry(&self, index: usize) -> &[u8] {
        &self.table[index * ENTRY_BYTES..(index + 1) * ENTRY_BYTES]
    }
    fn attributes(&self, index: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.entry(index)[48..56]);
        u64::from_le_bytes(bytes)
    }
    fn set_attributes(&mut self, index: usize, value: u64) {
        let at = index * ENTRY_BYTES + 48;
        self.table[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// As gptboot and gpart do: the sector of the entry first, then the header that vouches for it.
    fn write_entry(&self, disk: &mut dyn Sectors, index: usize) -> io::Result<()> {
        let sector = index * ENTRY_BYTES / SECTOR;
        let bytes = &self.table[sector * SECTOR..(sector + 1) * SECTOR];
        disk.write(self.table_at() + sector as u64, bytes)?;
        disk.write(self.own_sector(), &self.header)?;
        disk.sync()
    }
    fn write_all(&self, disk: &mut dyn Sectors) -> io::Result<()> {
        disk.write(self.table_at(), &self.table)?;
        disk.write(self.own_sector(), &self.header)?;
        disk.sync()
    }
}

/// The copies that are valid, as gptboot finds them.
pub struct Gpt {
    primary: Option<Copy>,
    backup: Option<Copy>,
}

impl Gpt {
    /// Reads both copies.
    pub fn read(disk: &mut dyn Sectors) -> Result<Self, GptError> {
        let primary = Copy::load(disk, 1)?;
        let place = primary.as_ref().map_or(disk.sectors().saturating_sub(1), Copy::other_sector);
        let backup = Copy::load(disk, place)?;
        if primary.is_none() && backup.is_none() {
            return Err(GptError::NoTable);
        }
        Ok(Self { primary, backup })
    }

    /// Whether both copies are there and say the same.
    pub fn is_whole(&self) -> bool {
        matches!((&self.primary, &self.backup), (Some(primary), Some(backup)) if primary.table == backup.table)
    }

    /// The copy that counts.
    fn valid(&self) -> Result<&Copy, GptError> {
        self.primary.as_ref().or(self.backup.as_ref()).ok_or(GptError::NoTable)
    }

    pub fn partitions(&self) -> Result<Vec<Partition>, GptError> {
        let copy = self.valid()?;
        let used = (0..ENTRIES).filter(|index| copy.entry(*index)[..16] != [0; 16]);
        Ok(used.map(|index| partition(copy, index)).collect())
    }

    /// Makes both copies say what the valid one says. Nothing is written when they do.
    pub fn repair(&mut self, disk: &mut dyn Sectors) -> Result<(), GptError> {
        if self.is_whole() {
            return Ok(());
        }
        if let Some(primary) = &self.primary {
            let backup = primary.mirrored(disk);
            backup.write_all(disk)?;
            self.backup = Some(backup);
        } else if let Some(backup) = &self.backup {
            let primary = backup.mirrored(disk);
            primary.write_all(disk)?;
            self.primary = Some(primary);
        }
        Ok(())
    }

    /// Sets or clears one attribute, in both copies. As gpart(8): to set `bootonce` sets `bootme`, too. An attribute
    /// that is so already costs no write.
    pub fn set(
        &mut self,
        disk: &mut dyn Sectors,
        number: usize,
        attribute: Attribute,
        on: bool,
    ) -> Result<(), GptError> {
        self.repair(disk)?;
        let index = number.checked_sub(1).filter(|index| *index < ENTRIES);
        let index = index.ok_or_else(|| GptError::NoPartition(number.to_string()))?;
        let before = self.valid()?.attributes(index);
        let mut mask = attribute.mask();
        if on && attribute == Attribute::BootOnce {
            mask |= Attribute::BootMe.mask();
        }
        let after = if on { before | mask } else { before & !mask };
        if after == before {
            return Ok(());
        }
        self.write_attributes(disk, index, after)?;
        Ok(())
    }

    /// Into each copy that is valid, the primary one first.
    fn write_attributes(&mut self, disk: &mut dyn Sectors, index: usize, value: u64) -> io::Result<()> {
        for copy in [&mut self.primary, &mut self.backup].into_iter().flatten() {
            copy.set_attributes(index, value);
            copy.seal();
            copy.write_entry(disk, index)?;
        }
        Ok(())
    }

    /// As gptboot writes: without repairing anything.
    pub(super) fn rewrite(
        &mut self,
        disk: &mut dyn Sectors,
        number: usize,
        change: impl Fn(Attributes) -> Attributes,
    ) -> Result<(), GptError> {
        let index = number - 1;
        for copy in [&mut self.primary, &mut self.backup].into_iter().flatten() {
            let before = copy.attributes(index);
            let after = with(before, change(attributes(before)));
            if after != before {
                copy.set_attributes(index, after);
                copy.seal();
                copy.write_entry(disk, index)?;
            }
        }
        Ok(())
    }

    /// Writes a new table with these partitions, one after the other from `FIRST_USABLE` on, aligned to 8 sectors;
    /// bytes are rounded up. For the sandbox's disk and for tests.
    pub fn create(disk: &mut dyn Sectors, partitions: &[([u8; 16], &str, u64)]) -> Result<Self, GptError> {
        let last = disk.sectors().saturating_sub(1);
        let mut primary = Copy { header: [0; SECTOR], table: vec![0; ENTRIES * ENTRY_BYTES] };
        primary.put(0, SIGNATURE);
        primary.put(8, &0x0001_0000_u32.to_le_bytes());
        primary.put(12, &(HEADER_BYTES as u32).to_le_bytes());
        primary.put(24, &1_u64.to_le_bytes());
        primary.put(32, &last.to_le_bytes());
        primary.put(40, &FIRST_USABLE.to_le_bytes());
        primary.put(48, &last.saturating_sub(TABLE_SECTORS + 1).to_le_bytes());
        primary.put(56, uuid::Uuid::new_v4().as_bytes());
        primary.put(72, &2_u64.to_le_bytes());
        primary.put(80, &(ENTRIES as u32).to_le_bytes());
        primary.put(84, &(ENTRY_BYTES as u32).to_le_bytes());
        let mut next = FIRST_USABLE.next_multiple_of(8);
        for (index, (kind, label, bytes)) in partitions.iter().enumerate() {
            let entry = &mut primary.table[index * ENTRY_BYTES..(index + 1) * ENTRY_BYTES];
            let end = next + bytes.div_ceil(SECTOR as u64) - 1;
            if end + TABLE_SECTORS >= last {
                return Err(GptError::TooSmall);
            }
            entry[..16].copy_from_slice(kind);
            entry[16..32].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
            entry[32..40].copy_from_slice(&next.to_le_bytes());
            entry[40..48].copy_from_slice(&end.to_le_bytes());
            for (at, unit) in label.encode_utf16().take(36).enumerate() {
                entry[56 + at * 2..58 + at * 2].copy_from_slice(&unit.to_le_bytes());
            }
            next = (end + 1).next_multiple_of(8);
        }
        primary.seal();
        let backup = primary.mirrored(disk);
        backup.write_all(disk)?;
        primary.write_all(disk)?;
        Ok(Self { primary: Some(primary), backup: Some(backup) })
    }
}

fn attributes(bits: u64) -> Attributes {
    let has = |attribute: Attribute| bits & attribute.mask() != 0;
    Attributes {
        boot_me: has(Attribute::BootMe),
        boot_once: has(Attribute::BootOnce),
        boot_failed: has(Attribute::BootFailed),
    }
}

fn with(bits: u64, attributes: Attributes) -> u64 {
    let each = [
        (Attribute::BootMe, attributes.boot_me),
        (Attribute::BootOnce, attributes.boot_once),
        (Attribute::BootFailed, attributes.boot_failed),
    ];
    each.iter().fold(bits, |bits, (attribute, on)| match on {
        true => bits | attribute.mask(),
        false => bits & !attribute.mask(),
    })
}

fn partition(copy: &Copy, index: usize) -> Partition {
    let entry = copy.entry(index);
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&entry[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut kind = [0; 16];
    kind.copy_from_slice(&entry[..16]);
    let units: Vec<u16> = entry[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Partition {
        number: index + 1,
        kind,
        label: String::from_utf16_lossy(&units),
        first: number(32),
        last: number(40),
        attributes: attributes(number(48)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::update::testing::MemoryDisk;

    fn disk() -> MemoryDisk {
        let mut disk = MemoryDisk::new(400);
        let slots = [(FREEBSD_UFS, "slot-a", 4096), (FREEBSD_UFS, "slot-b", 4096)];
        Gpt::create(&mut disk, &slots).unwrap();
        disk
    }

    #[test]
    fn a_table_is_read_back_from_either_copy() {
        let mut disk = disk();
        let read = Gpt::read(&mut disk).unwrap();
        assert!(read.is_whole());
        let partitions = read.partitions().unwrap();
        let told: Vec<_> =
            partitions.iter().map(|p| (p.number, p.label.as_str(), p.first, p.last, p.bytes())).collect();
        assert_eq!(told, [(1, "slot-a", 40, 47, 4096), (2, "slot-b", 48, 55, 4096)]);
        disk.bytes[SECTOR + 60] ^= 1;
        let mut damaged = Gpt::read(&mut disk).unwrap();
        assert!(!damaged.is_whole());
        assert_eq!(damaged.partitions().unwrap(), partitions);
        damaged.repair(&mut disk).unwrap();
        assert!(Gpt::read(&mut disk).unwrap().is_whole());
        let last = disk.bytes.len() - SECTOR;
        disk.bytes[SECTOR + 60] ^= 1;
        disk.bytes[last + 60] ^= 1;
        assert!(matches!(Gpt::read(&mut disk), Err(GptError::NoTable)));
    }

    #[test]
    fn attributes_are_set_as_gpart_sets_them() {
        let mut disk = disk();
        let mut gpt = Gpt::read(&mut disk).unwrap();
        gpt.set(&mut disk, 2, Attribute::BootOnce, true).unwrap();
        let of = |disk: &mut MemoryDisk| Gpt::read(disk).unwrap().partitions().unwrap()[1].attributes;
        assert_eq!(of(&mut disk), Attributes { boot_me: true, boot_once: true, boot_failed: false });
        gpt.set(&mut disk, 2, Attribute::BootOnce, false).unwrap();
        assert_eq!(of(&mut disk), Attributes { boot_me: true, ..Attributes::default() });
        let written = disk.written;
        gpt.set(&mut disk, 2, Attribute::BootMe, true).unwrap();
        assert_eq!(disk.written, written, "what is so already costs no write");
        assert!(Gpt::read(&mut disk).unwrap().is_whole());
        assert!(matches!(gpt.set(&mut disk, 0, Attribute::BootMe, true), Err(GptError::NoPartition(_))));
    }
}
