//! Mounted file systems (`mount --libxo json`) with their usage, and what the disks have moved (iostat(8)).

use serde::Deserialize;

use crate::platform::usage::usage;
use crate::platform::{Disk, DiskIo};

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Mount {
    node: String,
    fstype: String,
}

#[derive(Debug, Deserialize)]
pub struct MountTable {
    mount: Mounted,
}

#[derive(Debug, Deserialize)]
struct Mounted {
    #[serde(default)]
    mounted: Vec<Mount>,
}

impl MountTable {
    /// File systems that lie on disks: UFS and ZFS, `/` first, the others in the order of mounting.
    pub fn of_disks(self) -> Vec<Mount> {
        let mut mounts = self.mount.mounted;
        mounts.retain(|mount| matches!(mount.fstype.as_str(), "ufs" | "zfs"));
        mounts.sort_by_key(|mount| mount.node != "/");
        mounts
    }
}

/// How full they are, without what has been unmounted since.
pub fn usage_of(mounts: &[Mount]) -> Vec<Disk> {
    mounts.iter().filter_map(|mount| usage(&mount.node, &mount.fstype)).collect()
}

/// `iostat -I -x`: a line that names the columns, then a line for each device with its totals since boot:
/// transfers with a needless fraction, and KiB. Devices that are no disks, or stand on top of one, are left out.
pub fn read_disk_io(text: &str) -> DiskIo {
    let mut sum = DiskIo::default();
    let mut columns: Vec<&str> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"device") {
            columns = words;
            continue;
        }
        let Some(name) = words.first().filter(|_| words.len() == columns.len()) else { continue };
        if ["pass", "cd", "md", "ses", "sa"].contains(&name.trim_end_matches(|c: char| c.is_ascii_digit())) {
            continue;
        }
        let tenths = |column: &str| -> u64 {
            let at = columns.iter().position(|name| *name == column);
            at.and_then(|at| read_tenths(words.get(at)?)).unwrap_or(0)
        };
        sum.reads += tenths("r/i") / 10;
        sum.writes += tenths("w/i") / 10;
        sum.bytes_read += tenths("kr/i") * 1024 / 10;
        sum.bytes_written += tenths("kw/i") * 1024 / 10;
    }
    sum
}

/// `5905908945.5` in tenths. Not as a float: totals outgrow its precision.
fn read_tenths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let tenth = fraction.chars().next().and_then(|digit| digit.to_digit(10))?;
    whole.parse::<u64>().ok()?.checked_mul(10)?.checked_add(tenth.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_systems_on_disks_with_the_root_first() {
        let json = r#"{"mount": {"mounted": [
            {"special": "/dev/gpt/data", "node": "/data", "fstype": "ufs"},
            {"special": "/dev/gpt/root", "node": "/", "fstype": "ufs", "opts": ["local"]},
            {"special": "devfs", "node": "/dev", "fstype": "devfs"},
            {"special": "tmpfs", "node": "/out", "fstype": "tmpfs", "opts": ["local"]}]}}"#;
        let table: MountTable = serde_json::from_str(json).unwrap();
        let nodes: Vec<_> = table.of_disks().into_iter().map(|mount| mount.node).collect();
        assert_eq!(nodes, ["/", "/data"]);
        let empty: MountTable = serde_json::from_str(r#"{"mount": {}}"#).unwrap();
        assert!(empty.of_disks().is_empty());
    }

    #[test]
    fn what_has_been_unmounted_is_left_out() {
        let mount = |node: &str| Mount { node: node.into(), fstype: "ufs".into() };
        let disks = usage_of(&[mount("/nonexistent"), mount("/")]);
        assert_eq!((disks.len(), disks[0].mount.as_str(), disks[0].filesystem.as_str()), (1, "/", "ufs"));
    }

    /// The layout is that of iostat(8)'s manual; 15.1's captures at hand hold none.
    #[test]
    fn totals_over_whole_disks() {
        let text = "                        extended device statistics  \n\
                    device           r/i         w/i         kr/i         kw/i qlen   tsvc_t/i      sb/i  \n\
                    ada0       7919671.0   2973428.0 5905908945.5  119214504.0    0   118260.3   48234.8 \n\
                    vtbd0           10.0         2.0         40.0          8.5    0        0.1       0.1 \n\
                    pass0            9.0         9.0          9.0          9.0    0        0.0       0.0 \n\
                    cd0              9.0         9.0          9.0          9.0    0        0.0       0.0 \n";
        let expected = DiskIo {
            reads: 7_919_681,
            writes: 2_973_430,
            bytes_read: 5_905_908_945 * 1024 + 512 + 40 * 1024,
            bytes_written: 119_214_504 * 1024 + 8 * 1024 + 512,
        };
        assert_eq!(read_disk_io(text), expected);
        assert_eq!(read_disk_io(""), DiskIo::default());
    }
}
