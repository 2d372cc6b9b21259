//! The disk around the slots: partition table, boot sector, boot and EFI partitions; the same bytes each time.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use fatfs::{FileSystem, FsOptions};
use gpt::disk::LogicalBlockSize;
use gpt::{GptConfig, partition_types};

use crate::bench::{Bench, errors, text};
use crate::set;

#[test]
fn the_partitions_are_those_that_the_firmware_looks_for() {
    let bench = Bench::new();
    let image = bench.image();
    let disk = GptConfig::new().logical_block_size(LogicalBlockSize::Lb512).open(&image).unwrap();
    let found: Vec<_> = disk
        .partitions()
        .iter()
        .filter(|(_, part)| part.is_used())
        .map(|(number, part)| (*number, part.name.as_str(), part.part_type_guid.guid, part.flags))
        .collect();
    let (bootme, ufs) = (1 << 59, partition_types::FREEBSD_UFS.guid);
    assert_eq!(
        found,
        [
            (1, "esp", partition_types::EFI.guid, 0),
            (2, "boot", partition_types::FREEBSD_BOOT.guid, 0),
            (3, "slot-a", ufs, bootme),
            (4, "slot-b", ufs, 0),
            (5, "data", ufs, 0),
        ]
    );
    assert!(disk.backup_header().is_ok());
    let sizes: Vec<u64> = disk
        .partitions()
        .values()
        .filter(|part| part.is_used())
        .map(|part| (part.last_lba + 1 - part.first_lba) / 2048)
        .collect();
    assert_eq!(sizes, [40, 0, 40, 40, 64], "MiB; the second has half a one");
    assert!(disk.partitions().values().filter(|part| part.is_used()).all(|part| part.first_lba % 2048 == 0));
    let length = fs::metadata(&image).unwrap().len();
    assert_eq!(disk.header().backup_lba, length / 512 - 1, "the copy is in the last sector");
}

#[test]
fn the_boot_programs_are_in_their_places() {
    let bench = Bench::new();
    let image = File::open(bench.image()).unwrap();
    let mut sector = [0; 512];
    image.read_exact_at(&mut sector, 0).unwrap();
    assert_eq!(sector[..440], set::pmbr()[..440]);
    assert_eq!(sector[446 + 4], 0xee, "a protective entry");
    assert_eq!(sector[510..], [0x55, 0xaa]);

    let disk = GptConfig::new().logical_block_size(LogicalBlockSize::Lb512).open_from_device(image).unwrap();
    let region = |number: u32| {
        let part = &disk.partitions()[&number];
        let mut bytes = vec![0; ((part.last_lba + 1 - part.first_lba) * 512) as usize];
        let mut image = disk.device_ref().try_clone().unwrap();
        image.seek(SeekFrom::Start(part.first_lba * 512)).unwrap();
        image.read_exact(&mut bytes).unwrap();
        bytes
    };
    let boot = region(2);
    assert!(boot.starts_with(&set::gptboot()));
    assert!(boot[set::gptboot().len()..].iter().all(|byte| *byte == 0));

    let system = FileSystem::new(Cursor::new(region(1)), FsOptions::new()).unwrap();
    let mut program = Vec::new();
    system.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").unwrap().read_to_end(&mut program).unwrap();
    assert_eq!(program, set::gptboot_efi());

    assert!(region(4).iter().all(|byte| *byte == 0), "slot B is empty");
    assert!(region(5).iter().all(|byte| *byte == 0), "the data partition is empty");
}

#[test]
fn two_builds_give_the_same_bytes() {
    let bench = Bench::new();
    let sets = bench.name("sets");
    for directory in ["one", "another/deeper"] {
        let output = bench.build(&format!("{directory}/a.img"), &["--sets", &sets]);
        assert!(output.status.success(), "{}", errors(&output));
    }
    let (one, other) =
        (fs::read(bench.path("one/a.img")).unwrap(), fs::read(bench.path("another/deeper/a.img")).unwrap());
    assert!(one == other);
    let left: Vec<_> =
        fs::read_dir(bench.path("one")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.img"], "nothing is left beside it");

    // Another version is another image, with other identifiers.
    let output = bench.build("third.img", &["--sets", &sets, "--version", "0.9.0"]);
    assert!(output.status.success(), "{}", errors(&output));
    let guid = |name: &str| {
        let image = File::open(bench.path(name)).unwrap();
        *GptConfig::new().logical_block_size(LogicalBlockSize::Lb512).open_from_device(image).unwrap().guid()
    };
    assert_eq!(guid("one/a.img"), guid("another/deeper/a.img"));
    assert_ne!(guid("one/a.img"), guid("third.img"));
}

#[test]
fn a_damaged_image_is_found_out_and_the_damage_is_named() {
    let bench = Bench::new();
    let image = bench.image();
    let name = image.display().to_string();
    let good = bench.run(&["verify", &name, "--keys", &bench.name("release.keys")]);
    assert!(good.status.success(), "{}{}", text(&good), errors(&good));
    assert!(!text(&good).contains("[WRONG]"));

    let whole = fs::read(&image).unwrap();
    // After the EFI partition's 40 MiB.
    let boot = 41 << 20;
    assert!(whole[boot..].starts_with(&set::gptboot()));
    let last = whole.len() - 512;
    for (at, told) in
        [(100, "boot sector"), (boot + 40_000, "gptboot"), (last + 16, "copy at the disk's end")]
    {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&image, &bytes).unwrap();
        let output = bench.run(&["verify", &name]);
        assert!(!output.status.success(), "byte {at}");
        let wrong: Vec<_> =
            text(&output).lines().filter(|line| line.starts_with("[WRONG]")).map(str::to_owned).collect();
        assert!(wrong.len() == 1 && wrong[0].contains(told), "byte {at}: {wrong:?}");
    }
    fs::write(&image, &whole).unwrap();
    fs::write(bench.path("other.keys"), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let output = bench.run(&["verify", &name, "--keys", &bench.name("other.keys")]);
    assert!(
        !output.status.success()
            && text(&output).contains("[WRONG] it takes updates signed by the given keys")
    );
}

#[test]
fn what_is_no_image_is_refused_in_a_sentence() {
    let bench = Bench::new();
    fs::write(bench.path("no.img"), vec![7; 1 << 20]).unwrap();
    for command in ["inspect", "verify"] {
        let output = bench.run(&[command, &bench.name("no.img")]);
        assert!(!output.status.success());
        assert!(errors(&output).contains("no GUID partition table"), "{}", errors(&output));
    }
}

#[test]
fn other_formats_are_made_or_the_missing_tool_is_named() {
    let bench = Bench::new();
    let sets = bench.name("sets");
    let formats = ["--format", "qcow2", "--format", "vmdk", "--format", "vhd"];
    let output = bench.build("a.img", &[&["--sets", sets.as_str()][..], &formats].concat());
    let has_qemu =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|path| path.join("qemu-img").is_file());
    if !has_qemu {
        assert!(
            errors(&output)
                .contains("qemu-img is not installed; Debian and Ubuntu: apt-get install qemu-utils")
        );
        return;
    }
    assert!(output.status.success(), "{}", errors(&output));
    let starts = |name: &str, magic: &[u8]| fs::read(bench.path(name)).unwrap().starts_with(magic);
    assert!(starts("a.qcow2", b"QFI\xfb"));
    assert!(starts("a.vmdk", b"KDMV"));
    let vhd = fs::read(bench.path("a.vhd")).unwrap();
    assert_eq!(&vhd[vhd.len() - 512..vhd.len() - 504], b"conectix");
    assert_eq!(vhd.len() as u64, fs::metadata(bench.path("a.img")).unwrap().len() + 512);
}
