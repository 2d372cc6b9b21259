//! Installing to another disk: the running medium's slot layout written to it (DESIGN.md, "The image"). The plan
//! is a pure function of what gpart(8) lists; carrying it out runs gpart with argument vectors and copies
//! partitions, reading each back. What may boot is marked last, so that a half-written disk never does.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::FreeBsd;
use super::hardware::Partition;
use crate::platform::PlatformError;
use crate::platform::hardware::{DiskDrive, Progress};

/// Anything smaller cannot hold two slots and a store that grows.
pub const SMALLEST: u64 = 4 * 1000 * 1000 * 1000;
/// What is left for the data partition at least.
const DATA: u64 = 512 * 1024 * 1024;
const BLOCK: usize = 1024 * 1024;

/// Partitions of the layout that are made by size; `data` takes the rest.
const FIXED: [(&str, &str); 4] =
    [("esp", "efi"), ("boot", "freebsd-boot"), ("slot-a", "freebsd-ufs"), ("slot-b", "freebsd-ufs")];

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// gpart(8)'s argument vectors before anything is copied.
    pub prepare: Vec<Vec<String>>,
    /// Device names below /dev: from, to, bytes.
    pub copies: Vec<(String, String, u64)>,
    /// Devices whose first MiB is zeroed, so that nothing old is found there.
    pub wiped: Vec<String>,
    /// gpart(8)'s argument vectors after everything is written: what makes the disk boot.
    pub finish: Vec<Vec<String>>,
}

/// `nda0` has partitions `nda0p1`; a name that ends like this is how all GPT providers are called (gpart(8)).
fn partition(disk: &str, index: u32) -> String {
    format!("{disk}p{index}")
}

fn vector(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The plan for a target, or why there is none. `root` is the device mounted on `/`.
pub fn plan(partitions: &[Partition], disks: &[DiskDrive], root: &str, target: &str) -> Result<Plan, String> {
    let Some(disk) = disks.iter().find(|disk| disk.name == target) else {
        return Err(format!("there is no disk {target:?}"));
    };
    if disk.boot {
        return Err(format!("{target} is what this system was started from"));
    }
    if disk.in_use {
        return Err(format!("{target} is in use"));
    }
    if disk.bytes < SMALLEST {
        return Err(format!("{target} has {} MB; 4 GB are needed", disk.bytes / 1_000_000));
    }
    let Some(source) = disks.iter().find(|disk| disk.boot) else {
        return Err("it is not known which disk this system was started from".into());
    };
    let of_source = |label: &str| {
        let found = partitions.iter().find(|part| part.disk == source.name && part.label == label);
        found.ok_or_else(|| format!("{} has no partition {label:?}: not the appliance's layout", source.name))
    };
    let root = root.trim_start_matches("/dev/");
    let running = ["slot-a", "slot-b"]
        .into_iter()
        .filter_map(|label| of_source(label).ok())
        .find(|part| part.name == root || root == format!("gpt/{}", part.label))
        .ok_or_else(|| format!("{root} is no slot of the appliance"))?;
    let mut prepare = Vec::new();
    if partitions.iter().any(|part| part.disk == target) {
        prepare.push(vector(&["destroy", "-F", target]));
    }
    prepare.push(vector(&["create", "-s", "gpt", target]));
    let mut needed = DATA;
    for (label, kind) in FIXED {
        let part = of_source(label)?;
        needed += part.bytes;
        let size = format!("{}k", part.bytes.div_ceil(1024));
        // The boot code needs no alignment, and must stay small (gptboot(8)).
        let align = if kind == "freebsd-boot" { "4k" } else { "1m" };
        prepare.push(vector(&["add", "-t", kind, "-l", label, "-a", align, "-s", &size, target]));
    }
    if needed > disk.bytes {
        return Err(format!("{target} is too small: {} MB are needed", needed.div_ceil(1_000_000)));
    }
    prepare.push(vector(&["add", "-t", "freebsd-ufs", "-l", "data", "-a", "1m", target]));
    let esp = of_source("esp")?;
    Ok(Plan {
        prepare,
        copies: vec![
            (esp.name.clone(), partition(target, 1), esp.bytes),
            (running.name.clone(), partition(target, 3), running.bytes),
        ],
        wiped: vec![partition(target, 4), partition(target, 5)],
        finish: vec![
            vector(&["bootcode", "-b", "/boot/pmbr", "-p", "/boot/gptboot", "-i", "2", target]),
            vector(&["set", "-a", "bootme", "-i", "3", target]),
        ],
    })
}

impl FreeBsd {
    /// Carries a plan out. Reports as it goes. After a failure the target holds nothing that boots.
    pub(super) fn carry_out(
        &self,
        plan: &Plan,
        target: &str,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), PlatformError> {
        let total: u64 = plan.copies.iter().map(|(_, _, bytes)| bytes * 2).sum();
        let mut done = 0;
        let outcome = (|| {
            tell(Progress { step: format!("partitioning {target}"), done, total });
            for arguments in &plan.prepare {
                self.gpart(arguments)?;
            }
            for name in &plan.wiped {
                self.wipe(name)?;
            }
            for (from, to, bytes) in &plan.copies {
                let step = format!("writing {to}");
                let written = copy(&self.device(from), &self.wait_for(to)?, *bytes, &mut |count| {
                    done += count;
                    tell(Progress { step: step.clone(), done, total });
                })?;
                let step = format!("reading {to} back");
                let read = digest(&self.device(to), *bytes, &mut |count| {
                    done += count;
                    tell(Progress { step: step.clone(), done, total });
                })?;
                if written != read {
                    return Err(PlatformError::Tool {
                        tool: to.clone(),
                        reason: "what was read back is not what was written".into(),
                    });
                }
            }
            for arguments in &plan.finish {
                self.gpart(arguments)?;
            }
            tell(Progress { step: "done".into(), done: total, total });
            Ok(())
        })();
        if outcome.is_err() {
            // It may never have had a table; the first failure is the one to be told.
            let _ = self.gpart(&vector(&["destroy", "-F", target]));
        }
        outcome
    }

    fn gpart(&self, arguments: &[String]) -> Result<(), PlatformError> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.ask("/sbin/gpart", &arguments).map(|_| ())
    }

    fn device(&self, name: &str) -> PathBuf {
        self.devices.join(name)
    }

    /// A device node appears a moment after its partition was made.
    fn wait_for(&self, name: &str) -> Result<PathBuf, PlatformError> {
        let path = self.device(name);
        let begun = Instant::now();
        while !path.exists() {
            if begun.elapsed() > Duration::from_secs(10) {
                let reason = "the partition does not appear".into();
                return Err(PlatformError::Tool { tool: name.into(), reason });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(path)
    }

    fn wipe(&self, name: &str) -> Result<(), PlatformError> {
        let mut file = OpenOptions::new().write(true).open(self.wait_for(name)?)?;
        file.write_all(&vec![0; BLOCK])?;
        file.sync_all()?;
        Ok(())
    }
}

/// Copies so many bytes; gives their SHA-256.
fn copy(from: &Path, to: &Path, bytes: u64, tell: &mut dyn FnMut(u64)) -> std::io::Result<Vec<u8>> {
    let mut target = OpenOptions::new().write(true).open(to)?;
    target.seek(SeekFrom::Start(0))?;
    let digest = read_through(from, bytes, &mut |block| {
        target.write_all(block)?;
        tell(block.len() as u64);
        Ok(())
    })?;
    target.sync_all()?;
    Ok(digest)
}

fn digest(from: &Path, bytes: u64, tell: &mut dyn FnMut(u64)) -> std::io::Result<Vec<u8>> {
    read_through(from, bytes, &mut |block| {
        tell(block.len() as u64);
        Ok(())
    })
}

/// Whole blocks, as raw devices want it.
fn read_through(
    from: &Path,
    bytes: u64,
    take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<Vec<u8>> {
    let mut source = File::open(from)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        source.read_exact(&mut block[..length])?;
        context.update(&block[..length]);
        take(&block[..length])?;
        left -= length as u64;
    }
    Ok(context.finish().as_ref().to_vec())
}

#[cfg(test)]
mod tests;
