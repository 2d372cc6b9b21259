//! What gpart(8) printed on FreeBSD 15.1 is read; the plan is judged on tables in that form; and the argument vectors
//! that the tools get are recorded by stand-ins, scripts in their places.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::testing::shared;

const MIB: u64 = 1024 * 1024;

#[test]
fn the_table_of_15_1() {
    let Some(shared) = shared("freebsd-15.1") else { return };
    let read = |name: &str| fs::read_to_string(shared.join(name)).unwrap();
    let entry = |index: u32, label: &str, uuid: &str, end: u64, open: bool| Entry {
        name: format!("vtbd0p{index}"),
        index,
        label: label.into(),
        uuid: uuid.into(),
        end,
        open,
    };
    let expected = Table {
        disk: "vtbd0".into(),
        whole: true,
        last: 1_501_217,
        sector_bytes: 512,
        partitions: vec![
            entry(1, "esp", "b145122c-e786-11f1-0567-c7697351ff4a", 67_617, false),
            entry(2, "root", "b1451240-e786-11f1-18ec-29cdbaabf2fb", 1_501_217, true),
        ],
    };
    let tables = tables(&read("gpart-list.txt"));
    assert_eq!(tables, [expected]);
    assert_eq!(tables[0].free(), 0);
    for root in ["gpt/root", "vtbd0p2", "gptid/b1451240-e786-11f1-18ec-29cdbaabf2fb"] {
        assert!(tables[0].holds(root), "{root}");
    }
    // The label of a partition that nobody uses is that of another disk.
    assert!(!tables[0].holds("gpt/esp"));
    assert_eq!(mounted(&read("mount-p.txt")), None);
    assert_eq!(mounted("/dev/vtbd0p5\t\t/data\t\t\tufs\trw,noatime\t\t2 2\n").as_deref(), Some("ufs"));
}

/// The appliance's disk in the form of `gpart list`: four partitions up to sector 4,000,000, then `more`.
fn listing(disk: &str, state: &str, last: u64, more: &[(u32, &str, u64)]) -> String {
    let mut text = format!(
        "Geom name: {disk}\nmodified: false\nstate: {state}\nfwheads: 255\nfwsectors: 63\nlast: {last}\nfirst: 40\n\
         entries: 128\nscheme: GPT\nProviders:\n"
    );
    let fixed = [(1, "esp", 67_617), (2, "boot", 68_641), (3, "slot-a", 2_000_000), (4, "slot-b", 4_000_000)];
    for (index, label, end) in fixed.iter().chain(more) {
        let mode = if *label == "slot-a" { "r1w0e1" } else { "r0w0e0" };
        text += &format!(
            "{index}. Name: {disk}p{index}\n   Mediasize: 1 (1)\n   Sectorsize: 512\n   Mode: {mode}\n   rawuuid: x{index}\n   \
             label: {label}\n   type: freebsd-ufs\n   index: {index}\n   end: {end}\n   start: 40\n"
        );
    }
    text + &format!(
        "Consumers:\n1. Name: {disk}\n   Mediasize: 9 (9)\n   Sectorsize: 512\n   Mode: r1w0e1\n\n"
    )
}

fn seen(listing: &str) -> Seen {
    Seen { tables: tables(listing), root: "gpt/slot-a".into(), mounted: None }
}

fn words(seen: &Seen, blank: bool) -> Vec<String> {
    let steps = plan(seen, &|_| blank).unwrap();
    let command = |step: &Step| {
        let (tool, arguments, _) = step.command();
        format!("{} {}", tool.rsplit('/').next().unwrap(), arguments.join(" "))
    };
    steps.iter().map(command).collect()
}

#[test]
fn an_image_on_a_larger_disk_gets_its_table_in_order_and_a_data_partition() {
    let flashed = listing("vtbd0", "CORRUPT", 4_000_100, &[]);
    assert_eq!(words(&seen(&flashed), false), ["gpart recover vtbd0"]);
    let recovered = listing("vtbd0", "OK", 16_777_182, &[]);
    assert_eq!(words(&seen(&recovered), false), ["gpart add -t freebsd-ufs -l data-new -a 1m vtbd0"]);
    let added = listing("vtbd0", "OK", 16_777_182, &[(5, "data-new", 16_775_167)]);
    assert_eq!(
        words(&seen(&added), false),
        [
            "newfs -U -j /dev/vtbd0p5",
            "gpart modify -i 5 -l data vtbd0",
            "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data"
        ]
    );
}

#[test]
fn a_partition_that_is_there_is_checked_and_grown_and_never_made_anew() {
    let same = listing("vtbd0", "OK", 16_777_182, &[(5, "data", 16_775_167)]);
    let kept = [
        "fsck_ffs -p /dev/vtbd0p5",
        "growfs -y /dev/vtbd0p5",
        "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data",
    ];
    assert_eq!(words(&seen(&same), false), kept);
    let larger = listing("vtbd0", "OK", 33_554_398, &[(5, "data", 16_775_167)]);
    assert_eq!(words(&seen(&larger), false), [&["gpart resize -i 5 -a 1m vtbd0"], &kept[..]].concat());
    // What an installation has made and wiped; a power cut between label and file system repeats the making.
    assert_eq!(
        words(&seen(&larger), true),
        [
            "gpart resize -i 5 -a 1m vtbd0",
            "gpart modify -i 5 -l data-new vtbd0",
            "newfs -U -j /dev/vtbd0p5",
            "gpart modify -i 5 -l data vtbd0",
            "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data",
        ]
    );
    // Something lies behind it: it stays as it is.
    let between = listing("vtbd0", "OK", 33_554_398, &[(5, "data", 8_000_000), (6, "mine", 9_000_000)]);
    assert_eq!(words(&seen(&between), false), kept);
    let taken_over = Seen { mounted: Some("ufs".into()), ..seen(&same) };
    assert_eq!(words(&taken_over, false), Vec::<String>::new());
}

#[test]
fn the_disk_that_runs_is_meant_and_none_that_is_to_be_installed_to() {
    // A stick with the system, and a disk on which it was installed before: same labels, nothing of it in use.
    let idle = listing("nda0", "OK", 33_554_398, &[(5, "data", 16_775_167)]).replace("r1w0e1", "r0w0e0");
    let stick = listing("da0", "OK", 8_000_000, &[]);
    assert_eq!(
        words(&seen(&(idle.clone() + &stick)), false),
        ["gpart add -t freebsd-ufs -l data-new -a 1m da0"]
    );
    // A disk for data alone serves where the boot disk has none.
    let only_data = "Geom name: ada1\nstate: OK\nlast: 9000000\nscheme: GPT\nProviders:\n1. Name: ada1p1\n   Sectorsize: 512\n   \
                     Mode: r0w0e0\n   label: data\n   index: 1\n   end: 8999999\nConsumers:\n";
    assert_eq!(words(&seen(&(stick + only_data)), false)[0], "fsck_ffs -p /dev/ada1p1");
    let alone = Seen { root: "ufs/rescue".into(), ..seen(&idle) };
    let refused = plan(&alone, &|_| false).unwrap_err();
    assert_eq!(refused, "no disk with a GPT holds ufs/rescue, on which the system runs");
    let full = seen(&listing("da0", "OK", 4_000_100, &[]));
    let refused = plan(&full, &|_| false).unwrap_err();
    assert_eq!(
        refused,
        "da0 has no data partition, and 0 MiB behind the last partition are too little for one"
    );
    let memory = Seen { mounted: Some("tmpfs".into()), ..full };
    assert_eq!(plan(&memory, &|_| false).unwrap_err(), "/data is taken by a tmpfs file system");
}

/// Scripts in the tools' places record their arguments in `calls`; `gpart list` prints `list`, which `gpart recover`
/// and `gpart add` replace by `after-recover` and `after-add`; `mount -p` prints `mounts`. A file `TOOL-fails` makes a
/// tool fail with the file's text.
struct Machine {
    folder: tempfile::TempDir,
    freebsd: FreeBsd,
}

impl Machine {
    fn new(list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "#!/bin/sh\nhere=$(dirname \"$0\"); name=$(basename \"$0\")\n\
            case \"$name $*\" in 'gpart list') cat \"$here/list\"; exit;; 'mount -p') cat \"$here/mounts\"; exit;; esac\n\
            echo \"$name $*\" >>\"$here/calls\"\n\
            if [ -f \"$here/$name-fails\" ]; then cat \"$here/$name-fails\" >&2; exit 8; fi\n\
            if [ -f \"$here/after-$1\" ]; then mv \"$here/after-$1\" \"$here/list\"; fi\nexit 0\n";
        // The shell writes it, so that no thread of this process holds it open while another starts a program.
        let made = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$2\" >\"$1/gpart\" && chmod 755 \"$1/gpart\"", "sh"])
            .arg(folder.path())
            .arg(script)
            .status();
        assert!(made.unwrap().success());
        for tool in ["mount", "newfs", "fsck_ffs", "growfs"] {
            std::os::unix::fs::symlink("gpart", folder.path().join(tool)).unwrap();
        }
        assert!(folder.path().join("mount").metadata().unwrap().permissions().mode() & 0o111 != 0);
        let devices = folder.path().join("dev");
        fs::create_dir(&devices).unwrap();
        let freebsd = FreeBsd { devices, ..FreeBsd::with_tools(folder.path()) };
        let machine = Self { folder, freebsd };
        machine.file("list", list);
        machine.file("mounts", "/dev/gpt/slot-a\t/\tufs\tro\t1 1\ndevfs\t/dev\tdevfs\trw\t0 0\n");
        machine
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn prepare(&self) -> (Result<(), String>, Vec<String>) {
        let outcome = self.freebsd.prepare_data(&mut |_| {}).map_err(|error| error.to_string());
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        fs::remove_file(self.folder.path().join("calls")).ok();
        (outcome, calls.lines().map(str::to_owned).collect())
    }
}

#[test]
fn from_a_flashed_image_to_a_mounted_partition() {
    let machine = Machine::new(&listing("vtbd0", "CORRUPT", 4_000_100, &[]));
    machine.file("after-recover", listing("vtbd0", "OK", 16_777_182, &[]));
    machine.file("after-add", listing("vtbd0", "OK", 16_777_182, &[(5, "data-new", 16_775_167)]));
    // Old contents of the disk are no file system of ours.
    machine.file("dev/vtbd0p5", vec![0xa5; 2 * MIB as usize]);
    let (outcome, calls) = machine.prepare();
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        calls,
        [
            "gpart recover vtbd0",
            "gpart add -t freebsd-ufs -l data-new -a 1m vtbd0",
            "newfs -U -j /dev/vtbd0p5",
            "gpart modify -i 5 -l data vtbd0",
            "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data",
        ]
    );
    // A supervisor that starts again finds it mounted.
    machine.file("mounts", "/dev/gpt/slot-a / ufs ro 1 1\n/dev/vtbd0p5 /data ufs rw 2 2\n");
    assert_eq!(machine.prepare(), (Ok(()), Vec::new()));
}

#[test]
fn a_damaged_file_system_is_repaired_and_never_made_anew() {
    let machine = Machine::new(&listing("vtbd0", "OK", 16_777_182, &[(5, "data", 16_775_167)]));
    let mut file_system = vec![0; MIB as usize];
    file_system[65_536 + 1372..][..4].copy_from_slice(&0x1954_0119_u32.to_le_bytes());
    machine.file("dev/vtbd0p5", &file_system);
    machine
        .file("fsck_ffs-fails", "/dev/vtbd0p5: UNEXPECTED SOFT UPDATE INCONSISTENCY; RUN fsck MANUALLY.\n");
    let (outcome, calls) = machine.prepare();
    assert_eq!(
        outcome.unwrap_err(),
        "fsck_ffs failed: /dev/vtbd0p5: UNEXPECTED SOFT UPDATE INCONSISTENCY; RUN fsck MANUALLY."
    );
    let fsck = ["fsck_ffs -p /dev/vtbd0p5", "fsck_ffs -y /dev/vtbd0p5", "fsck_ffs -y /dev/vtbd0p5"];
    assert_eq!(calls, fsck);
    fs::remove_file(machine.folder.path().join("fsck_ffs-fails")).unwrap();
    // One that cannot grow is mounted as it is.
    machine.file("growfs-fails", "growfs: we are not growing (8->8)\n");
    let (outcome, calls) = machine.prepare();
    assert_eq!(outcome, Ok(()));
    assert_eq!(calls.last().unwrap(), "mount -t ufs -o rw,noatime,nosuid /dev/vtbd0p5 /data");
}

#[test]
fn a_table_that_stays_corrupt_is_not_asked_for_ever() {
    let machine = Machine::new(&listing("vtbd0", "CORRUPT", 4_000_100, &[]));
    let (outcome, calls) = machine.prepare();
    assert_eq!(outcome.unwrap_err(), "the partition table does not keep what it is told");
    assert_eq!(calls.len(), ROUNDS);
}
