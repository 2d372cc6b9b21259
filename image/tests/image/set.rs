//! A small set of the same form as FreeBSD's: base.txz, kernel.txz and MANIFEST, with the files that the image cannot
//! do without and a few that must not get into it. Programs are the smallest ELF files that say they are FreeBSD's.

use std::fs::{self, File};
use std::path::Path;

use liblzma::write::XzEncoder;
use ring::digest::{SHA256, digest};
use tar::{Builder, EntryType, Header};

/// A time in the sets: 2026-06-01.
pub const TIME: u64 = 1_780_272_000;

/// One entry: path, mode, owner, group, contents.
pub struct Member {
    pub path: &'static str,
    pub mode: u32,
    pub owner: (u64, u64),
    pub what: What,
}

pub enum What {
    Directory,
    File(Vec<u8>),
    Link(&'static str),
    HardLink(&'static str),
    Device,
}

pub fn file(path: &'static str, mode: u32, contents: impl Into<Vec<u8>>) -> Member {
    Member { path, mode, owner: (0, 0), what: What::File(contents.into()) }
}

pub fn directory(path: &'static str, mode: u32) -> Member {
    Member { path, mode, owner: (0, 0), what: What::Directory }
}

fn link(path: &'static str, to: &'static str) -> Member {
    Member { path, mode: 0o755, owner: (0, 0), what: What::Link(to) }
}

/// Bytes that are not all alike.
pub fn noise(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8 ^ seed)).collect()
}

pub fn pmbr() -> Vec<u8> {
    let mut sector = noise(512, 1);
    sector[440..510].fill(0);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

pub fn gptboot() -> Vec<u8> {
    noise(54_321, 2)
}

pub fn gptboot_efi() -> Vec<u8> {
    noise(180_000, 3)
}

/// The base set.
pub fn base() -> Vec<Member> {
    let mut members = vec![
        directory("./", 0o755),
        directory("./etc/", 0o755),
        directory("./var/empty/", 0o555),
        directory("./var/run/", 0o755),
        file("./bin/sh", 0o555, program(&["libc.so.7"])),
        file("./bin/freebsd-version", 0o555, "#!/bin/sh\nUSERLAND_VERSION=\"15.1-RELEASE\"\n"),
        file("./sbin/init", 0o500, program(&[])),
        file("./sbin/pfctl", 0o555, program(&["libutil.so.10"])),
        file("./usr/bin/su", 0o4555, program(&["libpam.so.6"])),
        file("./usr/bin/login", 0o4555, program(&["libpam.so.6"])),
        file("./usr/bin/cc", 0o555, program(&["libclang.so.1"])),
        file("./usr/libexec/getty", 0o555, program(&[])),
        file("./libexec/ld-elf.so.1", 0o555, program(&[])),
        file("./lib/libc.so.7", 0o444, program(&["libsys.so.7"])),
        file("./lib/libsys.so.7", 0o444, program(&[])),
        file("./lib/libutil.so.10", 0o444, program(&[])),
        file("./usr/lib/libpam.so.6", 0o444, program(&[])),
        file("./lib/libunused.so.1", 0o444, program(&[])),
        file("./usr/lib/libc.a", 0o444, "!<arch>\n"),
        file("./usr/include/stdio.h", 0o444, "int printf(const char *, ...);\n"),
        file("./etc/rc", 0o644, "#!/bin/sh\n"),
        file("./etc/rc.subr", 0o644, "# subr\n"),
        file("./etc/rc.initdiskless", 0o755, "#!/bin/sh\n"),
        file("./etc/rc.d/netif", 0o555, "#!/bin/sh\n"),
        file("./etc/rc.d/sshd", 0o555, "#!/bin/sh\n"),
        file("./etc/rc.d/gptboot", 0o555, "#!/bin/sh\n"),
        file("./etc/ttys", 0o644, "ttyv0 \"/usr/libexec/getty Pc\" xterm on secure\n"),
        file("./etc/master.passwd", 0o600, "root::0:0::0:0:Charlie &:/root:/bin/sh\n"),
        file("./etc/spwd.db", 0o600, "a database in which root needs no password"),
        file("./boot/defaults/loader.conf", 0o444, "kernel=\"kernel\"\n"),
        file("./boot/device.hints", 0o444, "hint.uart.0.flags=\"0x10\"\n"),
        file("./boot/loader", 0o444, noise(300_000, 4)),
        file("./boot/loader.efi", 0o444, noise(400_000, 5)),
        file("./boot/lua/loader.lua", 0o444, "require(\"cli\")\n"),
        file("./boot/pmbr", 0o444, pmbr()),
        file("./boot/gptboot", 0o444, gptboot()),
        file("./boot/gptboot.efi", 0o444, gptboot_efi()),
        // Its first name is left out; the second is the one that stays.
        file("./rescue/tar", 0o555, "both names of one file"),
        Member { path: "./usr/bin/bsdtar", mode: 0o555, owner: (0, 0), what: What::HardLink("./rescue/tar") },
        link("./usr/bin/tar", "bsdtar"),
        link("./usr/lib/libutil.so", "../../lib/libutil.so.10"),
        file("./usr/share/zoneinfo/Europe/Berlin", 0o444, "TZif2"),
        file("./usr/share/man/man1/ls.1.gz", 0o444, "manual"),
    ];
    members.push(Member { path: "./var/spool/lock/", mode: 0o775, owner: (66, 68), what: What::Directory });
    members
}

/// The kernel set.
pub fn kernel() -> Vec<Member> {
    vec![
        directory("./boot/kernel/", 0o755),
        file("./boot/kernel/kernel", 0o555, noise(2_000_000, 6)),
        file("./boot/kernel/pf.ko", 0o555, noise(90_000, 7)),
        file("./boot/kernel/if_iwm.ko", 0o555, noise(90_000, 8)),
    ]
}

/// Writes both sets and MANIFEST into a directory.
pub fn write(directory: &Path, base: &[Member], kernel: &[Member]) {
    let mut manifest = String::new();
    for (name, members) in [("base.txz", base), ("kernel.txz", kernel)] {
        let path = directory.join(name);
        let encoder = XzEncoder::new(File::create(&path).unwrap(), 1);
        tar(encoder, members).finish().unwrap();
        let hash = digest(&SHA256, &fs::read(&path).unwrap());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let short = name.trim_end_matches(".txz");
        manifest += &format!("{name}\t{hash}\t{}\t{short}\t\"{short}\"\ton\n", members.len());
    }
    fs::write(directory.join("MANIFEST"), manifest).unwrap();
}

/// The same sets, not compressed and without MANIFEST.
pub fn write_plain(directory: &Path, base: &[Member], kernel: &[Member]) {
    for (name, members) in [("base.tar", base), ("kernel.tar", kernel)] {
        tar(File::create(directory.join(name)).unwrap(), members);
    }
}

fn tar<W: std::io::Write>(out: W, members: &[Member]) -> W {
    let mut archive = Builder::new(out);
    for member in members {
        let mut header = Header::new_ustar();
        // Not through `set_path`, which refuses what a hostile archive has.
        header.as_old_mut().name[..member.path.len()].copy_from_slice(member.path.as_bytes());
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(TIME);
        let contents: &[u8] = match &member.what {
            What::Directory => {
                header.set_entry_type(EntryType::Directory);
                &[]
            }
            What::File(contents) => {
                header.set_entry_type(EntryType::Regular);
                contents
            }
            What::Link(to) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_link_name(to).unwrap();
                &[]
            }
            What::HardLink(to) => {
                header.set_entry_type(EntryType::Link);
                header.set_link_name(to).unwrap();
                &[]
            }
            What::Device => {
                header.set_entry_type(EntryType::Char);
                &[]
            }
        };
        header.set_size(contents.len() as u64);
        header.set_cksum();
        archive.append(&header, contents).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An ELF file for FreeBSD on amd64 that needs these shared libraries; static if there are none.
pub fn program(needed: &[&str]) -> Vec<u8> {
    const HEADER: usize = 64;
    let mut strings = vec![0u8];
    let mut dynamic = Vec::new();
    for name in needed {
        dynamic.extend(1u64.to_le_bytes());
        dynamic.extend((strings.len() as u64).to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    dynamic.extend([0u8; 16]);
    let mut note = Vec::new();
    for word in [8u32, 4, 1] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"FreeBSD\0");
    note.extend(1_501_000u32.to_le_bytes());
    let note_at = HEADER + 56;
    let dynamic_at = note_at + note.len();
    let strings_at = dynamic_at + dynamic.len();
    let sections_at = (strings_at + strings.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01\x09".to_vec();
    file.resize(16, 0);
    for half in [2u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for word in [0u64, HEADER as u64, sections_at as u64] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 3, 2] {
        file.extend(half.to_le_bytes());
    }
    // PT_NOTE
    for half in [4u32, 4] {
        file.extend(half.to_le_bytes());
    }
    for word in [note_at as u64, note_at as u64, note_at as u64, note.len() as u64, note.len() as u64, 4] {
        file.extend(word.to_le_bytes());
    }
    file.extend(note);
    file.extend(&dynamic);
    file.extend(&strings);
    file.resize(sections_at, 0);
    file.extend([0; 64]);
    // SHT_DYNAMIC with its strings in section 2, SHT_STRTAB
    for (kind, at, length, link, each) in
        [(6u32, dynamic_at, dynamic.len(), 2u32, 16u64), (3, strings_at, strings.len(), 0, 0)]
    {
        for word in [0u32, kind] {
            file.extend(word.to_le_bytes());
        }
        for word in [0u64, 0, at as u64, length as u64] {
            file.extend(word.to_le_bytes());
        }
        for word in [link, 0] {
            file.extend(word.to_le_bytes());
        }
        for word in [8u64, each] {
            file.extend(word.to_le_bytes());
        }
    }
    file
}
