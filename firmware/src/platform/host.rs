//! Vital signs of the development host that a sandbox runs on. Linux tells them under /proc (proc(5)); other
//! hosts answer what POSIX offers and zeros for the rest. Readers are pure functions of the files' text.
//! Called by `sandbox` alone; never used on the appliance.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::hardware::Hardware;
use super::usage::usage;
use super::{Disk, DiskIo, HostFacts, Memory, Vitals, resolv};

/// What the host tells now. What it does not tell is 0 or empty; nothing here fails.
/// `state_dir` picks the second disk entry, where it lies on another file system than `/`.
pub fn vitals(state_dir: &Path) -> Vitals {
    let cpu = cpu(&read("/proc/stat"));
    let mut memory = memory(&read("/proc/meminfo"));
    memory.resident = resident(&read("/proc/self/status"));
    let routes = routes(&read("/proc/net/route"));
    Vitals {
        cpu_busy: cpu.busy,
        cpu_total: cpu.total,
        cpu_cores: match cpu.cores {
            0 => std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
            cores => cores,
        },
        memory,
        disks: disks(state_dir),
        disk_io: disk_io(&read("/proc/diskstats"), is_whole_disk),
        uptime_secs: uptime(&read("/proc/uptime")),
        hostname: hostname(),
        os_version: os_version(),
        dns_servers: resolv::name_servers(&read("/etc/resolv.conf")),
        default_gateway: routes.gateway,
        route_count: routes.count,
    }
}

/// Processor and memory of the host.
pub fn hardware() -> Hardware {
    let text = read("/proc/cpuinfo");
    let line = |key: &str| {
        let found = text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key);
        found.map(|(_, value)| value.trim().to_owned())
    };
    let number = |key: &str| line(key).and_then(|text| text.parse::<u32>().ok()).filter(|n| *n > 0);
    let cores = number("cpu cores").or_else(|| number("siblings")).unwrap_or(1);
    Hardware {
        cpu: line("model name").unwrap_or_else(|| "unknown processor".into()),
        architecture: std::env::consts::ARCH.into(),
        cores,
        threads_per_core: (number("siblings").unwrap_or(cores) / cores).max(1),
        ram_mb: memory(&read("/proc/meminfo")).total / (1024 * 1024),
        crypto: line("flags")
            .filter(|flags| flags.split(' ').any(|flag| flag == "aes"))
            .map(|_| "aesni".into())
            .into_iter()
            .collect(),
        ..Hardware::default()
    }
}

/// What the hardware is, as far as Linux tells (proc_cpuinfo(5)).
pub fn facts() -> HostFacts {
    let text = read("/proc/cpuinfo");
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    let number = |name: &str| field(name).parse::<u32>().unwrap_or(0);
    HostFacts {
        kernel: nix::sys::utsname::uname()
            .map(|names| names.version().to_string_lossy().into_owned())
            .unwrap_or_default(),
        cpu_model: match field("model name") {
            name if name.is_empty() => std::env::consts::ARCH.to_owned(),
            name => name,
        },
        threads: number("siblings") > number("cpu cores"),
        temperatures: Vec::new(),
    }
}

/// A file's text, empty where there is none.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// `Linux 6.12.0`, `Darwin 24.1.0` …
fn os_version() -> String {
    nix::sys::utsname::uname()
        .map(|names| format!("{} {}", names.sysname().to_string_lossy(), names.release().to_string_lossy()))
        .unwrap_or_default()
}

/// A device of /proc/diskstats that is a disk of its own: no partition, and none of the layers on top of
/// disks (loop, ram, device mapper, md), whose traffic would count twice.
fn is_whole_disk(name: &str) -> bool {
    let layered = ["loop", "ram", "zram", "dm-", "md"].iter().any(|prefix| name.starts_with(prefix));
    !layered && Path::new("/sys/block").join(name).exists()
}

fn disks(state_dir: &Path) -> Vec<Disk> {
    let mounts = read("/proc/self/mounts");
    let state_dir = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_path_buf());
    let mut found: Vec<Disk> = Vec::new();
    for path in [Path::new("/"), &state_dir] {
        let (mount, filesystem) = mount_of(&mounts, path).unwrap_or_else(|| ("/".into(), String::new()));
        if found.iter().all(|disk| disk.mount != mount) {
            found.extend(usage(&mount, &filesystem));
        }
    }
    found
}

/// The mount point and type of the file system that holds `path`: the longest mount point that leads to it.
fn mount_of(mounts: &str, path: &Path) -> Option<(String, String)> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let mount = words.next()?.replace("\\040", " ");
            let kind = words.next()?;
            path.starts_with(&mount).then(|| (mount, kind.to_owned()))
        })
        .max_by_key(|(mount, _)| mount.len())
}

#[derive(Debug, Default, PartialEq)]
struct Cpu {
    busy: u64,
    total: u64,
    cores: u32,
}

/// /proc/stat: ticks since boot over all CPUs. Guest time is part of user time already; waiting for a disk
/// is idle time.
fn cpu(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    for line in text.lines().filter(|line| line.starts_with("cpu")) {
        let mut words = line.split_whitespace();
        if words.next() != Some("cpu") {
            cpu.cores += 1;
            continue;
        }
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        cpu.total = ticks.iter().sum();
        cpu.busy = cpu.total.saturating_sub(idle);
    }
    cpu
}

/// /proc/meminfo, sorted into FreeBSD's disjoint queues: `active` and `inactive` are the LRU lists, `wired` is
/// what the kernel cannot give back (unreclaimable slab, stacks, page tables, unevictable pages), `cached` is
/// slab that it can. The page cache lies on the LRU lists, so counting `Cached` too would count it twice.
fn memory(text: &str) -> Memory {
    let field = |name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    };
    Memory {
        total: field("MemTotal"),
        active: field("Active"),
        inactive: field("Inactive"),
        wired: field("SUnreclaim") + field("KernelStack") + field("PageTables") + field("Unevictable"),
        cached: field("SReclaimable"),
        free: field("MemFree"),
        resident: 0,
        arc: 0,
    }
}

/// `VmRSS` of /proc/self/status, in bytes.
fn resident(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// /proc/diskstats (kernel documentation, iostats): reads and sectors read, writes and sectors written; a
/// sector is 512 bytes there whatever the disk says.
fn disk_io(text: &str, whole: impl Fn(&str) -> bool) -> DiskIo {
    let mut sum = DiskIo::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.get(2).is_some_and(|name| whole(name)) {
            continue;
        }
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        sum.reads += number(3);
        sum.bytes_read += number(5) * 512;
        sum.writes += number(7);
        sum.bytes_written += number(9) * 512;
    }
    sum
}

/// /proc/uptime: whole seconds since boot.
fn uptime(text: &str) -> u64 {
    text.split('.').next().and_then(|secs| secs.trim().parse().ok()).unwrap_or(0)
}

#[derive(Debug, Default, PartialEq)]
struct Routes {
    count: u64,
    gateway: Option<IpAddr>,
}

/// /proc/net/route: IPv4 routes of the main table. Addresses are hexadecimal in the host's byte order; of
/// several default routes the one with the lowest metric counts.
fn routes(text: &str) -> Routes {
    const RTF_GATEWAY: u32 = 2;
    let mut routes = Routes::default();
    let mut best = u64::MAX;
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| words.get(at).and_then(|word| u32::from_str_radix(word, 16).ok());
        let (Some(destination), Some(gateway), Some(flags), Some(mask)) = (hex(1), hex(2), hex(3), hex(7))
        else {
            continue;
        };
        routes.count += 1;
        let metric = words.get(6).and_then(|word| word.parse().ok()).unwrap_or(0);
        if destination == 0 && mask == 0 && flags & RTF_GATEWAY != 0 && metric < best {
            best = metric;
            routes.gateway = Some(IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())));
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_leave_out_idle_and_guest() {
        let text = "cpu  100 5 40 800 20 1 2 3 50 4\ncpu0 50 2 20 400 10 0 1 1 25 2\ncpu1 50 3 20 400 10 1 1 2 25 2\n\
                    intr 1 2 3\nctxt 9\n";
        assert_eq!(cpu(text), Cpu { busy: 151, total: 971, cores: 2 });
        assert_eq!(cpu(""), Cpu::default());
    }

    #[test]
    fn memory_queues_are_disjoint() {
        let text = "MemTotal:       24576000 kB\nMemFree:        10000 kB\nCached:  900 kB\nActive:  300 kB\n\
                    Inactive:  200 kB\nActive(anon):  1 kB\nUnevictable:  4 kB\nSReclaimable:  50 kB\n\
                    SUnreclaim:  30 kB\nKernelStack:  2 kB\nPageTables:  1 kB\n";
        let kib = |n: u64| n * 1024;
        let expected = Memory {
            total: kib(24_576_000),
            active: kib(300),
            inactive: kib(200),
            wired: kib(37),
            cached: kib(50),
            free: kib(10_000),
            resident: 0,
            arc: 0,
        };
        assert_eq!(memory(text), expected);
    }

    #[test]
    fn resident_memory_in_bytes() {
        assert_eq!(resident("Name:\taifw\nVmHWM:\t  9000 kB\nVmRSS:\t   8192 kB\n"), 8192 * 1024);
        assert_eq!(resident(""), 0);
    }

    #[test]
    fn disks_are_summed_without_partitions() {
        let text = "   7       0 loop0 9 0 9 0 9 0 9 0 0 0 0\n 254       0 vda 100 7 2048 30 50 2 1024 40 0 60 70\n \
                    254       1 vda1 99 7 2000 30 49 2 1000 40 0 60 70\n 254      16 vdb 1 0 2 0 3 0 4 0 0 0 0\n";
        let whole = |name: &str| matches!(name, "vda" | "vdb");
        let expected = DiskIo { reads: 101, writes: 53, bytes_read: 2050 * 512, bytes_written: 1028 * 512 };
        assert_eq!(disk_io(text, whole), expected);
    }

    #[test]
    fn uptime_in_whole_seconds() {
        assert_eq!(uptime("3601.97 7000.12\n"), 3601);
        assert_eq!(uptime(""), 0);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_lowest_metric_counts() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                    eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(routes(text), Routes { count: 3, gateway: Some(IpAddr::from([192, 0, 2, 1])) });
        assert_eq!(routes(""), Routes::default());
    }

    #[test]
    fn the_longest_mount_point_holds_the_path() {
        let text =
            "/dev/vda / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\n/dev/vdb /srv/my\\040disk xfs rw 0 0\n";
        assert_eq!(mount_of(text, Path::new("/")), Some(("/".into(), "ext4".into())));
        assert_eq!(
            mount_of(text, Path::new("/srv/my disk/state")),
            Some(("/srv/my disk".into(), "xfs".into()))
        );
        assert_eq!(mount_of(text, Path::new("/srv/my diskette")), Some(("/".into(), "ext4".into())));
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_host_tells_its_vital_signs() {
        let vitals = vitals(&std::env::temp_dir());
        assert!(vitals.cpu_total > vitals.cpu_busy && vitals.cpu_busy > 0, "{vitals:?}");
        assert!(vitals.memory.total > vitals.memory.free && vitals.memory.resident > 0, "{vitals:?}");
        assert!(vitals.os_version.starts_with("Linux ") && !vitals.hostname.is_empty(), "{vitals:?}");
        assert_eq!(vitals.disks.first().map(|disk| disk.mount.as_str()), Some("/"));
        assert!(vitals.disks[0].total >= vitals.disks[0].used && vitals.disks[0].used > 0, "{vitals:?}");
    }
}
