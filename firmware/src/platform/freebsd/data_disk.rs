//! The data partition, which alone outlives a reboot: found, made or grown, checked and mounted, as the first thing
//! at every boot (DESIGN.md, "The image"). What has to be done follows from what gpart(8) and mount(8) list, by a
//! pure function; after each change of the table it is asked anew. Called by `aifw supervise` before anything is
//! opened. Never makes a file system where one may be: only in a partition that it has added itself and whose making
//! has not been completed (its label says so), or in one that is blank.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use super::FreeBsd;
use super::hardware::{providers, root_device};
use crate::platform::PlatformError;

/// The partition's GPT label.
pub const LABEL: &str = "data";
/// Its label until the file system in it is complete: what a power cut leaves half-made is made anew.
const UNFINISHED: &str = "data-new";
/// Where it is mounted.
pub const MOUNT_POINT: &str = "/data";
/// A partition on the boot disk that tells that the appliance is installed there.
const SLOT: &str = "slot-a";
/// Less than this is no room for a store that grows.
const SMALLEST: u64 = 64 * 1024 * 1024;
/// Partitions start and end at multiples of 1 MiB, so that less than two may stay behind the last one.
const SPARE: u64 = 2 * 1024 * 1024;
/// So much of a partition is looked at to see whether it is blank. UFS2 has its superblock at 64 KiB.
const LOOKED_AT: u64 = 1024 * 1024;
/// Changes of the table after which it is asked anew; more would be a table that does not keep what it is told.
const ROUNDS: usize = 4;

const GPART: &str = "/sbin/gpart";
const MOUNT: &str = "/sbin/mount";
const NEWFS: &str = "/sbin/newfs";
const FSCK: &str = "/sbin/fsck_ffs";
const GROWFS: &str = "/sbin/growfs";
/// gpart(8) waits for the disk.
const TABLE_LIMIT: Duration = Duration::from_secs(60);
/// A large disk without a usable journal is read in whole.
const FILE_SYSTEM_LIMIT: Duration = Duration::from_secs(3600);

/// A GPT as gpart(8) `list` tells it; sizes and positions in sectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub disk: String,
    /// Both copies are in their places.
    pub whole: bool,
    /// Last sector that a partition may use.
    pub last: u64,
    pub sector_bytes: u64,
    pub partitions: Vec<Entry>,
}

/// A partition of a [`Table`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub index: u32,
    pub label: String,
    pub uuid: String,
    pub end: u64,
    /// Somebody holds it open.
    pub open: bool,
}

/// What there is to decide by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub tables: Vec<Table>,
    /// Device on `/`, without `/dev/`.
    pub root: String,
    /// Type of the file system that is mounted at [`MOUNT_POINT`].
    pub mounted: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes the table's second copy to the end of the disk, where an image that was written to a larger disk does not
    /// have it.
    Recover {
        disk: String,
    },
    Add {
        disk: String,
    },
    /// Up to the end of the disk.
    Resize {
        disk: String,
        index: u32,
    },
    Label {
        disk: String,
        index: u32,
        label: &'static str,
    },
    /// With soft updates and their journal.
    Make {
        device: String,
    },
    Check {
        device: String,
    },
    Grow {
        device: String,
    },
    Mount {
        device: String,
    },
}

impl Step {
    /// Whether positions or names in the table are others afterwards.
    fn changes_table(&self) -> bool {
        matches!(self, Self::Recover { .. } | Self::Add { .. })
    }

    /// The tool, its arguments, and how long it may take.
    pub fn command(&self) -> (&'static str, Vec<String>, Duration) {
        let index = |index: &u32| index.to_string();
        let (tool, arguments, limit): (_, Vec<String>, _) = match self {
            Self::Recover { disk } => (GPART, vector(&["recover", disk]), TABLE_LIMIT),
            Self::Add { disk } => (
                GPART,
                vector(&["add", "-t", "freebsd-ufs", "-l", UNFINISHED, "-a", "1m", disk]),
                TABLE_LIMIT,
            ),
            Self::Resize { disk, index: at } => {
                (GPART, vector(&["resize", "-i", &index(at), "-a", "1m", disk]), TABLE_LIMIT)
            }
            Self::Label { disk, index: at, label } => {
                (GPART, vector(&["modify", "-i", &index(at), "-l", label, disk]), TABLE_LIMIT)
            }
            Self::Make { device } => (NEWFS, vector(&["-U", "-j", &node(device)]), FILE_SYSTEM_LIMIT),
            Self::Check { device } => (FSCK, vector(&["-p", &node(device)]), FILE_SYSTEM_LIMIT),
            Self::Grow { device } => (GROWFS, vector(&["-y", &node(device)]), FILE_SYSTEM_LIMIT),
            Self::Mount { device } => (
                MOUNT,
                vector(&["-t", "ufs", "-o", "rw,noatime,nosuid", &node(device), MOUNT_POINT]),
                TABLE_LIMIT,
            ),
        };
        (tool, arguments, limit)
    }

    /// For the console.
    fn told(&self) -> String {
        match self {
            Self::Recover { disk } => format!("partition table of {disk} moved to the end of the disk"),
            Self::Add { disk } => format!("data partition added on {disk}"),
            Self::Resize { disk, .. } => format!("data partition grown to the end of {disk}"),
            Self::Label { label, .. } => format!("data partition labelled {label}"),
            Self::Make { device } => format!("file system made on {device}"),
            Self::Check { device } => format!("file system on {device} checked"),
            Self::Grow { device } => format!("file system on {device} fills its partition"),
            Self::Mount { device } => format!("{device} mounted at {MOUNT_POINT}"),
        }
    }
}

fn vector(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn node(device: &str) -> String {
    format!("/dev/{device}")
}

/// Partition tables, from `gpart list`. Schemes other than GPT are passed over.
pub fn tables(gpart: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut scheme_of_last = "";
    let mut keep = Vec::new();
    for line in gpart.lines() {
        if let Some(disk) = line.strip_prefix("Geom name: ") {
            tables.push(Table { disk: disk.trim().into(), ..Table::default() });
            keep.push(false);
            scheme_of_last = "";
            continue;
        }
        let (Some(table), Some((key, value))) = (tables.last_mut(), line.split_once(": ")) else { continue };
        // What stands at the beginning of a line is the table's, what is indented its providers'.
        match key {
            "state" => table.whole = value == "OK",
            "last" => table.last = value.parse().unwrap_or(0),
            "scheme" => scheme_of_last = value,
            "   Sectorsize" if table.sector_bytes == 0 => {
                table.sector_bytes =
                    value.split(' ').next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
            }
            _ => {}
        }
        if let Some(kept) = keep.last_mut() {
            *kept = scheme_of_last == "GPT";
        }
    }
    for (disk, values) in providers(gpart) {
        let Some(table) = tables.iter_mut().find(|table| table.disk == disk) else { continue };
        let text = |key: &str| values.get(key).copied().unwrap_or_default();
        let number = |key: &str| text(key).parse().unwrap_or(0);
        table.partitions.push(Entry {
            name: text("Name").into(),
            index: u32::try_from(number("index")).unwrap_or(0),
            // gpart(8) prints a missing label so.
            label: Some(text("label")).filter(|label| *label != "(null)").unwrap_or_default().into(),
            uuid: text("rawuuid").into(),
            end: number("end"),
            open: text("Mode") != "r0w0e0",
        });
    }
    tables.into_iter().zip(keep).filter(|(_, kept)| *kept).map(|(table, _)| table).collect()
}

/// What is mounted at [`MOUNT_POINT`], from `mount -p`: the last line counts, since it lies on top.
pub fn mounted(mounts: &str) -> Option<String> {
    let words = mounts.lines().rev().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = words.into_iter().find(|words| words.get(1) == Some(&MOUNT_POINT));
    found.and_then(|words| words.get(2).map(|kind| (*kind).to_owned()))
}

impl Table {
    /// Whether the system runs from it. The device on `/` may be named in any of the ways that GEOM offers; of
    /// several disks with the same labels, the one is meant whose partition is in use.
    fn holds(&self, root: &str) -> bool {
        let named = |entry: &Entry| {
            entry.name == root
                || root.strip_prefix("gptid/").is_some_and(|uuid| uuid == entry.uuid)
                || (entry.open && root.strip_prefix("gpt/").is_some_and(|label| label == entry.label))
        };
        self.partitions.iter().any(named)
    }

    fn data(&self) -> Option<&Entry> {
        self.partitions.iter().find(|entry| entry.label == LABEL || entry.label == UNFINISHED)
    }

    /// Bytes behind the last partition.
    fn free(&self) -> u64 {
        let end = self.partitions.iter().map(|entry| entry.end).max().unwrap_or(0);
        self.last.saturating_sub(end) * self.sector_bytes.max(512)
    }

    fn is_last(&self, entry: &Entry) -> bool {
        self.partitions.iter().all(|other| other.end <= entry.end)
    }
}

/// The table that has, or is to have, the data partition: the boot disk's; or that of a disk which holds nothing but
/// data, if the boot disk has none.
fn table_of(seen: &Seen) -> Result<&Table, String> {
    let boot = seen.tables.iter().find(|table| table.holds(&seen.root));
    if let Some(boot) = boot.filter(|table| table.data().is_some()) {
        return Ok(boot);
    }
    let slots = |table: &Table| table.partitions.iter().any(|entry| entry.label == SLOT);
    let other = seen.tables.iter().find(|table| !slots(table) && table.data().is_some());
    other.or(boot).ok_or_else(|| match seen.root.as_str() {
        "" => "it is not known what is mounted on /".into(),
        root => format!("no disk with a GPT holds {root}, on which the system runs"),
    })
}

/// What is to be done next, in order; empty when the partition is mounted. After a step that changes the table, the
/// rest is to be asked for again. `blank` tells whether a partition holds nothing at all.
pub fn plan(seen: &Seen, blank: &dyn Fn(&str) -> bool) -> Result<Vec<Step>, String> {
    if let Some(kind) = &seen.mounted {
        return match kind.as_str() {
            "ufs" => Ok(Vec::new()),
            other => Err(format!("{MOUNT_POINT} is taken by a {other} file system")),
        };
    }
    let table = table_of(seen)?;
    let disk = || table.disk.clone();
    if !table.whole {
        return Ok(vec![Step::Recover { disk: disk() }]);
    }
    let Some(data) = table.data() else {
        return match table.free() {
            free if free < SMALLEST => Err(format!(
                "{} has no data partition, and {} MiB behind the last partition are too little for one",
                table.disk,
                free / (1024 * 1024)
            )),
            _ => Ok(vec![Step::Add { disk: disk() }]),
        };
    };
    let device = || data.name.clone();
    let mut steps = Vec::new();
    if table.is_last(data) && table.free() >= SPARE {
        steps.push(Step::Resize { disk: disk(), index: data.index });
    }
    let label = |label| Step::Label { disk: disk(), index: data.index, label };
    if data.label == UNFINISHED || blank(&data.name) {
        if data.label != UNFINISHED {
            steps.push(label(UNFINISHED));
        }
        steps.push(Step::Make { device: device() });
        steps.push(label(LABEL));
    } else {
        steps.push(Step::Check { device: device() });
        steps.push(Step::Grow { device: device() });
    }
    steps.push(Step::Mount { device: device() });
    Ok(steps)
}

impl FreeBsd {
    /// Has the data partition mounted when it returns. `tell` hears of each step that was done. Blocks, for minutes on
    /// a large disk that was not unmounted.
    pub fn prepare_data(&self, tell: &mut dyn FnMut(&str)) -> Result<(), PlatformError> {
        for _ in 0..ROUNDS {
            let seen = self.see()?;
            let steps = plan(&seen, &|device| self.is_blank(device)).map_err(PlatformError::Refused)?;
            let asked_anew = steps.iter().any(Step::changes_table);
            for step in &steps {
                self.take(step)?;
                tell(&step.told());
            }
            if !asked_anew {
                return Ok(());
            }
        }
        Err(PlatformError::Refused("the partition table does not keep what it is told".into()))
    }

    fn see(&self) -> Result<Seen, PlatformError> {
        let mounts = self.ask(MOUNT, &["-p"])?;
        let tables = tables(&self.ask(GPART, &["list"])?);
        let root = root_device(&mounts).trim_start_matches("/dev/").to_owned();
        Ok(Seen { tables, root, mounted: mounted(&mounts) })
    }

    fn take(&self, step: &Step) -> Result<(), PlatformError> {
        if let Step::Make { device } | Step::Check { device } = step {
            self.appears(device)?;
        }
        let run = |step: &Step| {
            let (tool, arguments, limit) = step.command();
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.tell(tool, &words, "", limit).map(|_| ())
        };
        match step {
            Step::Check { device } => run(step).or_else(|error| {
                log::warn!("{error}; repairing {device}");
                let repair = |_| self.tell(FSCK, &["-y", &node(device)], "", FILE_SYSTEM_LIMIT).map(|_| ());
                // One repair may uncover what the next has to.
                repair(()).or_else(|_| repair(()))
            }),
            // As large as it was is large enough: what counts is whether it can be mounted.
            Step::Grow { .. } => run(step).or_else(|error| {
                log::warn!("{error}");
                Ok(())
            }),
            _ => run(step),
        }
    }

    /// A device node appears a moment after its partition was made.
    fn appears(&self, device: &str) -> Result<(), PlatformError> {
        let path = self.devices.join(device);
        let begun = Instant::now();
        while !path.exists() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(PlatformError::Refused(format!("{device} does not appear")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Whether its first MiB is zeros. What cannot be read is not blank.
    fn is_blank(&self, device: &str) -> bool {
        is_blank(&self.devices.join(device)).unwrap_or(false)
    }
}

fn is_blank(path: &Path) -> std::io::Result<bool> {
    // Whole blocks: raw devices give nothing else.
    let mut block = vec![0; 64 * 1024];
    let mut file = File::open(path)?;
    for _ in 0..LOOKED_AT / block.len() as u64 {
        file.read_exact(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
