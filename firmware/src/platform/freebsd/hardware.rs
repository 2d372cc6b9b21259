//! The parts of the machine, from sysctl(8), geom(8), gpart(8) and ifconfig(8). Readers are pure.

use std::collections::HashMap;

use super::sysctl::Values;
use crate::platform::hardware::{DiskDrive, Hardware, Nic};

/// One call for all of them; `-i` passes over what this kernel does not have.
pub const QUESTION: &[&str] = &[
    "-i",
    "hw.model",
    "hw.machine_arch",
    "hw.physmem",
    "kern.smp.cores",
    "kern.smp.threads_per_core",
    "dev.aesni.0.%desc",
    "dev.armv8crypto.0.%desc",
    "dev.qat.0.%desc",
];

/// Mediasize and mode of a partition as gpart(8) `list` tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    pub name: String,
    pub disk: String,
    pub index: u32,
    pub label: String,
    pub kind: String,
    pub bytes: u64,
    /// Somebody holds it open.
    pub open: bool,
}

/// Processor and memory.
pub fn machine(sysctl: &str) -> Hardware {
    let values = Values::read(sysctl);
    let number = |name: &str| u32::try_from(values.number(name)).unwrap_or(0);
    let crypto = ["aesni", "armv8crypto", "qat"];
    Hardware {
        cpu: values.text("hw.model").into(),
        architecture: values.text("hw.machine_arch").into(),
        cores: number("kern.smp.cores"),
        threads_per_core: number("kern.smp.threads_per_core"),
        ram_mb: values.number("hw.physmem") / (1024 * 1024),
        crypto: crypto
            .into_iter()
            .filter(|name| !values.text(&format!("dev.{name}.0.%desc")).is_empty())
            .map(str::to_owned)
            .collect(),
        ..Hardware::default()
    }
}

/// Network cards, from `ifconfig -a`: name, address, carrier.
pub fn nics(ifconfig: &str) -> Vec<Nic> {
    let mut nics: Vec<Nic> = Vec::new();
    let mut counts = false;
    for line in ifconfig.lines() {
        if !line.starts_with(char::is_whitespace) {
            let name = line.split_once(": flags=").map(|(name, _)| name);
            counts = name.is_some_and(|name| !Nic::is_virtual(name));
            nics.extend(name.filter(|_| counts).map(Nic::named));
        } else if let Some(nic) = nics.last_mut().filter(|_| counts) {
            let line = line.trim();
            if let Some(mac) = line.strip_prefix("ether ") {
                nic.mac = Some(mac.trim().into());
            } else if let Some(status) = line.strip_prefix("status: ") {
                nic.link = Some(status == "active" || status == "associated");
            }
        }
    }
    nics
}

/// `key: value` lines below a numbered provider; what geom(8) prints for each class.
pub(super) fn providers(text: &str) -> Vec<(String, HashMap<&str, &str>)> {
    let mut all: Vec<(String, HashMap<&str, &str>)> = Vec::new();
    let (mut geom, mut inside) = ("", false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Geom name: ") {
            (geom, inside) = (name.trim(), false);
        } else if line.starts_with("Consumers:") {
            inside = false;
        } else if line.starts_with("Providers:") {
            inside = true;
        } else if inside {
            let numbered = line.split_once(". Name: ").filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()));
            if let Some((_, name)) = numbered {
                all.push((geom.to_owned(), HashMap::from([("Name", name.trim())])));
            } else if let (Some((key, value)), Some((_, last))) =
                (line.trim().split_once(':'), all.last_mut())
            {
                last.insert(key, value.trim());
            }
        }
    }
    all
}

fn bytes(values: &HashMap<&str, &str>) -> u64 {
    let text = values.get("Mediasize").and_then(|text| text.split(' ').next());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn is_open(values: &HashMap<&str, &str>) -> bool {
    values.get("Mode").is_some_and(|mode| *mode != "r0w0e0")
}

/// Partitions, from `gpart list`.
pub fn partitions(gpart: &str) -> Vec<Partition> {
    let text =
        |values: &HashMap<&str, &str>, key: &str| values.get(key).copied().unwrap_or_default().to_owned();
    providers(gpart)
        .into_iter()
        // What carries a table inside a partition (a boot sector that looks like one) is no disk.
        .filter(|(geom, _)| !geom.contains('/'))
        .map(|(disk, values)| Partition {
            name: text(&values, "Name"),
            index: text(&values, "index").parse().unwrap_or(0),
            label: text(&values, "label"),
            kind: text(&values, "type"),
            bytes: bytes(&values),
            open: is_open(&values),
            disk,
        })
        .collect()
}

/// Disks, from `geom disk list`, without what is no hard disk; which of them the system runs from is told by the
/// device that is mounted on `/`.
pub fn disks(geom: &str, partitions: &[Partition], root: &str) -> Vec<DiskDrive> {
    let root = root.trim_start_matches("/dev/");
    let is_root = |partition: &&Partition| {
        partition.name == root
            || (partition.open && Some(partition.label.as_str()) == root.strip_prefix("gpt/"))
    };
    let boot = partitions.iter().find(is_root).map(|partition| partition.disk.clone());
    let named = |name: &str| !["cd", "fd", "md"].iter().any(|kind| name.starts_with(kind));
    providers(geom)
        .into_iter()
        .filter(|(name, values)| named(name) && bytes(values) > 0)
        .map(|(name, values)| DiskDrive {
            bytes: bytes(&values),
            model: values.get("descr").copied().unwrap_or_default().to_owned(),
            kind: match values.get("rotationrate").copied() {
                Some("0") => "SSD".into(),
                Some(rate) if rate.parse::<u32>().is_ok() => "HDD".into(),
                _ => "disk".into(),
            },
            in_use: is_open(&values),
            boot: boot.as_deref() == Some(&name),
            name,
        })
        .collect()
}

/// The device on `/`, from `mount -p`.
pub fn root_device(mounts: &str) -> &str {
    let on_root = |line: &&str| line.split_whitespace().nth(1) == Some("/");
    mounts.lines().find(on_root).and_then(|line| line.split_whitespace().next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::shared;

    fn sample(name: &str) -> Option<String> {
        Some(std::fs::read_to_string(shared("freebsd-15.1")?.join(name)).unwrap())
    }

    #[test]
    fn processor_and_memory() {
        let text = "hw.model: QEMU TCG CPU version 2.5+\nhw.machine_arch: amd64\nhw.physmem: 1027629056\n\
                    kern.smp.cores: 2\nkern.smp.threads_per_core: 1\ndev.aesni.0.%desc: AES-CBC,AES-CCM\n";
        let found = machine(text);
        assert_eq!((found.cpu.as_str(), found.architecture.as_str()), ("QEMU TCG CPU version 2.5+", "amd64"));
        assert_eq!((found.cores, found.threads_per_core, found.ram_mb), (2, 1, 980));
        assert_eq!(found.crypto, ["aesni"]);
    }

    #[test]
    fn network_cards() {
        let Some(text) = sample("ifconfig-a.txt") else { return };
        let shown: Vec<_> = nics(&text)
            .into_iter()
            .map(|nic| {
                format!("{} {} {:?} {:?}", nic.name, nic.driver, nic.mac.unwrap_or_default(), nic.link)
            })
            .collect();
        assert_eq!(
            shown[..2],
            [
                r#"vtnet0 vtnet "52:54:00:12:34:56" Some(true)"#,
                r#"vtnet1 vtnet "52:54:00:12:34:57" Some(true)"#
            ]
        );
        assert!(shown.iter().all(|nic| nic.starts_with("vtnet")), "{shown:?}");
    }

    #[test]
    fn disks_and_what_is_on_them() {
        let (Some(geom), Some(gpart), Some(mounts)) =
            (sample("geom-disk-list.txt"), sample("gpart-list.txt"), sample("mount-p.txt"))
        else {
            return;
        };
        assert_eq!(root_device(&mounts), "/dev/gpt/root");
        let partitions = partitions(&gpart);
        let shown: Vec<_> = partitions
            .iter()
            .map(|p| format!("{} {} {} {} {} {}", p.disk, p.index, p.label, p.kind, p.bytes, p.open))
            .collect();
        assert_eq!(shown, ["vtbd0 1 esp efi 34603008 false", "vtbd0 2 root freebsd-ufs 734003200 true"]);
        let disks = disks(&geom, &partitions, root_device(&mounts));
        let shown: Vec<_> =
            disks.iter().map(|d| format!("{} {} {} {}", d.name, d.bytes, d.in_use, d.boot)).collect();
        assert_eq!(shown, ["vtbd0 768640512 true true", "vtbd1 67108864 false false"]);
    }
}
