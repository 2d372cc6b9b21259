//! What is refused, which argument vectors gpart gets, and that the partitions hold what was copied. Standing in
//! for FreeBSD: `gpart` and its fellows are scripts that record their arguments and print what gpart(8) lists;
//! the devices are files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::platform::Platform;

const MIB: u64 = 1024 * 1024;

fn part(disk: &str, index: u32, label: &str, kind: &str, bytes: u64) -> Partition {
    Partition {
        name: format!("{disk}p{index}"),
        disk: disk.into(),
        index,
        label: label.into(),
        kind: kind.into(),
        bytes,
        open: label == "slot-a" || label == "data",
    }
}

fn medium() -> Vec<Partition> {
    vec![
        part("da0", 1, "esp", "efi", MIB),
        part("da0", 2, "boot", "freebsd-boot", MIB / 2),
        part("da0", 3, "slot-a", "freebsd-ufs", 3 * MIB),
        part("da0", 4, "slot-b", "freebsd-ufs", 3 * MIB),
        part("da0", 5, "data", "freebsd-ufs", MIB),
    ]
}

fn disk(name: &str, bytes: u64) -> DiskDrive {
    DiskDrive { name: name.into(), bytes, ..DiskDrive::default() }
}

fn disks() -> Vec<DiskDrive> {
    vec![
        DiskDrive { in_use: true, boot: true, ..disk("da0", 8_000_000_000) },
        disk("nda0", 64_000_000_000),
        disk("ada0", 3_900_000_000),
        DiskDrive { in_use: true, ..disk("ada1", 64_000_000_000) },
    ]
}

#[test]
fn behaviour_17_what_must_not_be_written_is_refused() {
    let refused = |target: &str| plan(&medium(), &disks(), "/dev/gpt/slot-a", target).unwrap_err();
    assert_eq!(refused("da9"), r#"there is no disk "da9""#);
    assert_eq!(refused("da0"), "da0 is what this system was started from");
    assert_eq!(refused("ada0"), "ada0 has 3900 MB; 4 GB are needed");
    assert_eq!(refused("ada1"), "ada1 is in use");
    assert_eq!(refused("nda0; reboot"), r#"there is no disk "nda0; reboot""#);
    let elsewhere = plan(&medium(), &disks(), "/dev/ada9p2", "nda0").unwrap_err();
    assert_eq!(elsewhere, "ada9p2 is no slot of the appliance");
    let mut large = medium();
    large[2].bytes = 40_000_000_000;
    large[3].bytes = 40_000_000_000;
    let small = plan(&large, &disks(), "/dev/gpt/slot-a", "nda0").unwrap_err();
    assert!(small.starts_with("nda0 is too small: "), "{small}");
}

#[test]
fn the_slot_that_runs_is_copied_and_boots_last() {
    let mut parts = medium();
    parts[3].open = true;
    parts.push(part("nda0", 1, "old", "freebsd-zfs", MIB));
    let plan = plan(&parts, &disks(), "/dev/gpt/slot-b", "nda0").unwrap();
    let shown: Vec<String> = plan.prepare.iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        shown,
        [
            "destroy -F nda0",
            "create -s gpt nda0",
            "add -t efi -l esp -a 1m -s 1024k nda0",
            "add -t freebsd-boot -l boot -a 4k -s 512k nda0",
            "add -t freebsd-ufs -l slot-a -a 1m -s 3072k nda0",
            "add -t freebsd-ufs -l slot-b -a 1m -s 3072k nda0",
            "add -t freebsd-ufs -l data -a 1m nda0",
        ]
    );
    assert_eq!(plan.copies[1], ("da0p4".into(), "nda0p3".into(), 3 * MIB));
    assert_eq!(plan.wiped, ["nda0p4", "nda0p5"]);
    let last: Vec<String> = plan.finish.iter().map(|words| words.join(" ")).collect();
    assert_eq!(last, ["bootcode -b /boot/pmbr -p /boot/gptboot -i 2 nda0", "set -a bootme -i 3 nda0"]);
}

/// What `geom disk list` and `gpart list` print for [`medium`] and one empty disk.
fn listings() -> (String, String) {
    let disk = |name: &str, bytes: u64, mode: &str| {
        format!(
            "Geom name: {name}\nProviders:\n1. Name: {name}\n   Mediasize: {bytes} (8G)\n   Mode: {mode}\n   descr: Disk\n   rotationrate: 0\n\n"
        )
    };
    let geom = disk("da0", 8_000_000_000, "r1w1e3") + &disk("nda0", 64_000_000_000, "r0w0e0");
    let mut gpart = String::from("Geom name: da0\nscheme: GPT\nProviders:\n");
    for part in medium() {
        let mode = if part.open { "r1w0e1" } else { "r0w0e0" };
        gpart += &format!(
            "{}. Name: {}\n   Mediasize: {} (1M)\n   Mode: {mode}\n   label: {}\n   type: {}\n   index: {}\n",
            part.index, part.name, part.bytes, part.label, part.kind, part.index
        );
    }
    (geom, gpart + "Consumers:\n1. Name: da0\n   Mediasize: 8000000000 (8G)\n   Mode: r1w1e3\n")
}

/// A folder of stand-ins for the base system's tools, and one of devices.
fn stand_in(dir: &Path) -> FreeBsd {
    let (tools, devices) = (dir.join("tools"), dir.join("dev"));
    fs::create_dir_all(&tools).unwrap();
    fs::create_dir_all(&devices).unwrap();
    let (geom, gpart) = listings();
    fs::write(dir.join("geom.txt"), geom).unwrap();
    fs::write(dir.join("gpart.txt"), gpart).unwrap();
    let here = dir.display();
    let script = |name: &str, body: String| {
        let path = tools.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("geom", format!("cat {here}/geom.txt"));
    script("mount", "echo '/dev/gpt/slot-a / ufs ro 1 1'".into());
    script(
        "gpart",
        format!(
            "[ \"$1\" = list ] && exec cat {here}/gpart.txt\n\
             echo \"$@\" >> {here}/gpart.log\n\
             [ -e {here}/broken ] && [ \"$1\" = bootcode ] && {{ echo 'gpart: no space' >&2; exit 1; }}\n\
             exit 0"
        ),
    );
    for (part, fill) in medium().iter().zip(b'a'..) {
        fs::write(devices.join(&part.name), vec![fill; part.bytes as usize]).unwrap();
    }
    for index in 1..=5 {
        fs::write(devices.join(format!("nda0p{index}")), vec![b'?'; 4 * MIB as usize]).unwrap();
    }
    FreeBsd { devices, ..FreeBsd::with_tools(tools) }
}

#[test]
fn a_disk_is_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let machine = stand_in(dir.path());
    assert_eq!(machine.disks_present().unwrap().len(), 2);
    let mut steps = Vec::new();
    machine.install("nda0", &mut |progress| steps.push(progress)).unwrap();
    let log = fs::read_to_string(dir.path().join("gpart.log")).unwrap();
    assert!(log.starts_with("create -s gpt nda0\n") && log.ends_with("set -a bootme -i 3 nda0\n"), "{log}");
    let head = |name: &str, at: usize| fs::read(dir.path().join("dev").join(name)).unwrap()[at];
    assert_eq!((head("nda0p1", 0), head("nda0p3", 3 * MIB as usize - 1)), (b'a', b'c'));
    assert_eq!((head("nda0p3", 3 * MIB as usize), head("nda0p5", 0), head("nda0p4", 0)), (b'?', 0, 0));
    let last = steps.last().unwrap();
    assert_eq!((last.step.as_str(), last.done, last.total), ("done", 8 * MIB, 8 * MIB));
    assert!(steps.windows(2).all(|pair| pair[0].done <= pair[1].done));
}

#[test]
fn a_failure_leaves_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    let machine = stand_in(dir.path());
    fs::write(dir.path().join("broken"), "").unwrap();
    let error = machine.install("nda0", &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "gpart failed: gpart: no space");
    let log = fs::read_to_string(dir.path().join("gpart.log")).unwrap();
    assert!(log.ends_with("destroy -F nda0\n") && !log.contains("bootme"), "{log}");
    assert!(machine.install("da0", &mut |_| {}).unwrap_err().to_string().contains("started from"));
}
