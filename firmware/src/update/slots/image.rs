//! A disk image in a file as boot medium: the sandbox's, and that of tests. Its partitions are those of the
//! appliance; what a slot holds is written and read, never mounted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Medium, SlotError, SlotName, Slots};
use crate::update::boot;
use crate::update::gpt::{
    Attribute, Attributes, EFI_SYSTEM, FREEBSD_BOOT, FREEBSD_UFS, Gpt, GptError, Partition, SECTOR, Sectors,
};

/// A disk in a file.
#[derive(Debug)]
pub struct FileDisk(File);

impl FileDisk {
    pub fn new(file: File) -> Self {
        Self(file)
    }
}

impl Sectors for FileDisk {
    fn sectors(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len() / SECTOR as u64)
    }
    fn read(&mut self, first: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, first * SECTOR as u64)
    }
    fn write(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, first * SECTOR as u64)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

type Shared = Arc<Mutex<Box<dyn Sectors>>>;

fn locked(disk: &Shared) -> MutexGuard<'_, Box<dyn Sectors>> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Slots on a disk of which the image is at hand.
pub struct ImageSlots {
    disk: Shared,
    running: SlotName,
}

impl ImageSlots {
    /// The slots of a disk from which `running` was booted.
    pub fn new(disk: Box<dyn Sectors>, running: SlotName) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), running }
    }

    /// Writes the appliance's partitions onto a disk, slot A being the one that boots.
    pub fn format(disk: &mut dyn Sectors, slot_bytes: u64, small: bool) -> Result<(), GptError> {
        // For tests of every single sector, the least that a table can hold.
        let (esp, code, data) = if small { (512, 512, 512) } else { (1 << 20, 512 * 1024, 1 << 20) };
        let partitions = [
            (EFI_SYSTEM, "esp", esp),
            (FREEBSD_BOOT, "boot", code),
            (FREEBSD_UFS, SlotName::A.label(), slot_bytes),
            (FREEBSD_UFS, SlotName::B.label(), slot_bytes),
            (FREEBSD_UFS, "data", data),
        ];
        let mut gpt = Gpt::create(disk, &partitions)?;
        gpt.set(disk, 3, Attribute::BootMe, true)
    }

    fn partition(disk: &mut dyn Sectors, slot: SlotName) -> Result<(Gpt, Partition), GptError> {
        let gpt = Gpt::read(disk)?;
        let found = gpt.partitions()?.into_iter().find(|partition| partition.label == slot.label());
        found.map(|found| (gpt, found)).ok_or_else(|| GptError::NoPartition(slot.label().into()))
    }
}

impl Slots for ImageSlots {
    fn running(&self) -> Result<SlotName, SlotError> {
        Ok(self.running)
    }
    fn attributes(&self, slot: SlotName) -> Result<Attributes, SlotError> {
        Ok(Self::partition(&mut **locked(&self.disk), slot)?.1.attributes)
    }
    fn set(&self, slot: SlotName, attribute: Attribute, on: bool) -> Result<(), SlotError> {
        let mut disk = locked(&self.disk);
        let (mut gpt, partition) = Self::partition(&mut **disk, slot)?;
        Ok(gpt.set(&mut **disk, partition.number, attribute, on)?)
    }
    fn repair(&self) -> Result<(), SlotError> {
        let mut disk = locked(&self.disk);
        Ok(Gpt::read(&mut **disk)?.repair(&mut **disk)?)
    }
    fn capacity(&self, slot: SlotName) -> Result<u64, SlotError> {
        Ok(Self::partition(&mut **locked(&self.disk), slot)?.1.bytes())
    }
    fn open(&self, slot: SlotName) -> Result<Box<dyn Medium>, SlotError> {
        let partition = Self::partition(&mut **locked(&self.disk), slot)?.1;
        Ok(Box::new(Part { disk: self.disk.clone(), partition }))
    }
    fn version(&self, _slot: SlotName) -> Option<String> {
        None
    }
}

/// The sectors of one partition.
struct Part {
    disk: Shared,
    partition: Partition,
}

impl Part {
    /// The sector of an offset, if so many bytes from there lie in the partition.
    fn sector(&self, offset: u64, length: usize) -> io::Result<u64> {
        let aligned = offset.is_multiple_of(SECTOR as u64) && length.is_multiple_of(SECTOR);
        match aligned && offset + length as u64 <= self.partition.bytes() {
            true => Ok(self.partition.first + offset / SECTOR as u64),
            false => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "outside the slot, or not whole sectors"))
            }
        }
    }
}

impl Medium for Part {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let first = self.sector(offset, bytes.len())?;
        locked(&self.disk).write(first, bytes)
    }
    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let first = self.sector(offset, into.len())?;
        locked(&self.disk).read(first, into)
    }
    fn sync(&mut self) -> io::Result<()> {
        locked(&self.disk).sync()
    }
}

/// The sandbox's disk: a sparse file that is made when it is first written to. Until then it is as from the factory:
/// slot A runs, slot B is empty.
pub struct SandboxDisk {
    path: PathBuf,
    slot_bytes: u64,
    running: SlotName,
}

impl SandboxDisk {
    /// Turns the simulated machine on: what gptboot chooses is what runs. A disk from which nothing can be booted is
    /// an error, as it would be on the machine.
    pub fn power_on(path: &Path, slot_bytes: u64) -> Result<Self, SlotError> {
        let mut running = SlotName::A;
        if path.exists() {
            let mut disk = FileDisk(OpenOptions::new().read(true).write(true).open(path)?);
            let chosen = boot::choose(&mut disk, |_, _| true)?;
            let label = chosen.map(|partition| partition.label).unwrap_or_default();
            let slot = SlotName::BOTH.into_iter().find(|slot| slot.label() == label);
            running = slot.ok_or_else(|| SlotError::NoSlots(format!("gptboot chose {label:?}")))?;
        }
        Ok(Self::running_from(path, slot_bytes, running))
    }

    /// The machine as it is on, running from this slot.
    pub fn running_from(path: &Path, slot_bytes: u64, running: SlotName) -> Self {
        Self { path: path.to_owned(), slot_bytes, running }
    }

    fn opened(&self) -> Result<ImageSlots, SlotError> {
        let open = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = match open {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make()?,
            other => other?,
        };
        Ok(ImageSlots::new(Box::new(FileDisk(file)), self.running))
    }

    /// Whole, or not there under its name.
    fn make(&self) -> Result<File, SlotError> {
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_len(2 * self.slot_bytes + (4 << 20))?;
        let mut disk = FileDisk(file);
        ImageSlots::format(&mut disk, self.slot_bytes, false)?;
        std::fs::rename(&new, &self.path)?;
        Ok(disk.0)
    }
}

impl Slots for SandboxDisk {
    fn running(&self) -> Result<SlotName, SlotError> {
        Ok(self.running)
    }
    fn attributes(&self, slot: SlotName) -> Result<Attributes, SlotError> {
        match self.path.exists() {
            true => self.opened()?.attributes(slot),
            false => Ok(Attributes { boot_me: slot == SlotName::A, ..Attributes::default() }),
        }
    }
    fn set(&self, slot: SlotName, attribute: Attribute, on: bool) -> Result<(), SlotError> {
        self.opened()?.set(slot, attribute, on)
    }
    fn repair(&self) -> Result<(), SlotError> {
        if self.path.exists() { self.opened()?.repair() } else { Ok(()) }
    }
    fn capacity(&self, slot: SlotName) -> Result<u64, SlotError> {
        if self.path.exists() { self.opened()?.capacity(slot) } else { Ok(self.slot_bytes) }
    }
    fn open(&self, slot: SlotName) -> Result<Box<dyn Medium>, SlotError> {
        self.opened()?.open(slot)
    }
    fn version(&self, _slot: SlotName) -> Option<String> {
        None
    }
}
