//! Vital signs that sysctl(8) tells, as `name: value` lines, and ps(1)'s size of this process.

use std::collections::HashMap;

use crate::platform::Memory;

/// One call for all of them; `-i` passes over what this kernel does not have (ZFS's cache without ZFS).
pub const QUESTION: &[&str] = &[
    "-i",
    "kern.hostname",
    "kern.ostype",
    "kern.osrelease",
    "kern.boottime",
    "kern.cp_time",
    "hw.ncpu",
    "hw.physmem",
    "hw.pagesize",
    "vm.stats.vm.v_active_count",
    "vm.stats.vm.v_inactive_count",
    "vm.stats.vm.v_laundry_count",
    "vm.stats.vm.v_wire_count",
    "vm.stats.vm.v_cache_count",
    "vm.stats.vm.v_free_count",
    "kstat.zfs.misc.arcstats.size",
];

/// Values by name.
#[derive(Debug)]
pub struct Values<'a>(HashMap<&'a str, &'a str>);

/// Ticks since boot, over all CPUs.
#[derive(Debug, PartialEq)]
pub struct Cpu {
    pub busy: u64,
    pub total: u64,
}

impl<'a> Values<'a> {
    pub fn read(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(": ")).collect())
    }

    /// Empty where it is not known.
    pub fn text(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// 0 where it is not known.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// `kern.cp_time`: user, nice, system, interrupt, idle.
    pub fn cpu(&self) -> Cpu {
        let ticks: Vec<u64> =
            self.text("kern.cp_time").split_whitespace().map_while(|word| word.parse().ok()).collect();
        let total = ticks.iter().sum();
        Cpu { busy: total - ticks.get(4).copied().unwrap_or(0), total }
    }

    /// Without this process's own size.
    pub fn memory(&self) -> Memory {
        let page = self.number("hw.pagesize");
        let pages = |queue: &str| self.number(&format!("vm.stats.vm.v_{queue}_count")) * page;
        Memory {
            total: self.number("hw.physmem"),
            active: pages("active"),
            // Pages to be written out soon belong with those that are not used.
            inactive: pages("inactive") + pages("laundry"),
            wired: pages("wire"),
            cached: pages("cache"),
            free: pages("free"),
            resident: 0,
            arc: self.number("kstat.zfs.misc.arcstats.size"),
        }
    }

    /// `kern.boottime`: `{ sec = 1795470118, usec = 341497 } Mon Nov 23 21:41:58 2026`, in Unix seconds.
    pub fn boot_time(&self) -> Option<u64> {
        let (_, rest) = self.text("kern.boottime").split_once("sec = ")?;
        rest.split(',').next()?.parse().ok()
    }
}

/// `ps -o rss=`: KiB, as bytes.
pub fn read_resident(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
kern.hostname: probe
kern.osrelease: 15.1-RELEASE-p1
kern.ostype: FreeBSD
kern.boottime: { sec = 1795470118, usec = 341497 } Mon Nov 23 21:41:58 2026
kern.cp_time: 2726 0 1529 16 7409
hw.ncpu: 2
hw.physmem: 1027629056
hw.pagesize: 4096
vm.stats.vm.v_free_count: 220368
vm.stats.vm.v_active_count: 1482
vm.stats.vm.v_inactive_count: 509
vm.stats.vm.v_wire_count: 22400
";

    #[test]
    fn numbers_and_texts() {
        let values = Values::read(TEXT);
        assert_eq!(values.cpu(), Cpu { busy: 4271, total: 11680 });
        let expected = Memory {
            total: 1_027_629_056,
            active: 1482 * 4096,
            inactive: 509 * 4096,
            wired: 22400 * 4096,
            cached: 0,
            free: 220_368 * 4096,
            resident: 0,
            arc: 0,
        };
        assert_eq!(values.memory(), expected);
        assert_eq!((values.boot_time(), values.number("hw.ncpu")), (Some(1_795_470_118), 2));
        assert_eq!(values.text("kern.osrelease"), "15.1-RELEASE-p1");
    }

    #[test]
    fn nothing_is_known_of_an_empty_answer() {
        let values = Values::read("");
        assert_eq!((values.cpu(), values.memory()), (Cpu { busy: 0, total: 0 }, Memory::default()));
        assert_eq!((values.boot_time(), values.text("kern.hostname")), (None, ""));
    }

    #[test]
    fn resident_size_in_bytes() {
        assert_eq!((read_resident("  756\n"), read_resident("")), (Some(756 * 1024), None));
    }
}
