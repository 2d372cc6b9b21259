//! A slot: the root file system of the appliance. Gathered from FreeBSD's sets as far as base.toml keeps them, packages,
//! the overlay, the boot files and the programs; then made a UFS1 image by makefs(8). Called by `build`.

mod libraries;
mod overlay;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sets::{self, Report, Rules, Sets};
use crate::tool::{Error, file, require, run};
use crate::tree::{Entry, Tree};
use crate::ufs::{self, Ufs, UfsError};
use crate::{accounts, disk};

/// Why no slot could be made.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error("/{0} is not in the sets, and no machine boots without it")]
    Required(&'static str),
    #[error("/bin/freebsd-version of the sets does not say USERLAND_VERSION")]
    NoRelease,
    #[error("the slot needs {needed} MiB, but only {room} MiB were given to it; --slot-size makes room")]
    NoRoom { needed: u64, room: u64 },
}

impl From<SlotError> for Error {
    fn from(error: SlotError) -> Self {
        Self::Slot(Box::new(error))
    }
}

/// What a slot is made of.
#[derive(Debug)]
pub struct Ingredients {
    pub sets: Sets,
    /// FreeBSD packages (pkg-create(8)) that are unpacked over the base.
    pub packages: Vec<PathBuf>,
    /// Programs of ours and where they go, without a leading slash.
    pub programs: Vec<(PathBuf, String)>,
    /// The version's line in `/usr/local/share/aifw/version`.
    pub version: String,
    /// The text of `/usr/local/share/aifw/release.keys`.
    pub release_keys: String,
    /// The repository, with `overlay` and `boot` in it.
    pub repository: PathBuf,
}

/// A finished slot.
#[derive(Debug)]
pub struct Slot {
    pub image: PathBuf,
    pub size: u64,
    /// As `/bin/freebsd-version -u` prints it.
    pub release: String,
    pub pmbr: Vec<u8>,
    pub gptboot: Vec<u8>,
    pub gptboot_efi: Vec<u8>,
    pub report: Report,
    /// Files, directories and links.
    pub entries: usize,
}

/// Where the version stands in a slot.
pub const VERSION: &str = "usr/local/share/aifw/version";
/// The public keys that updates must be signed with.
pub const RELEASE_KEYS: &str = "usr/local/share/aifw/release.keys";
/// The boot sector's program, and the programs of the boot and EFI partitions.
pub const BOOT_FILES: [&str; 3] = ["boot/pmbr", "boot/gptboot", "boot/gptboot.efi"];

/// What no machine of ours starts without.
const REQUIRED: [&str; 15] = [
    "boot/pmbr",
    "boot/gptboot",
    "boot/gptboot.efi",
    "boot/loader",
    "boot/loader.efi",
    "boot/kernel/kernel",
    "boot/defaults/loader.conf",
    "libexec/ld-elf.so.1",
    "sbin/init",
    "bin/sh",
    "etc/rc",
    "etc/rc.initdiskless",
    "etc/ttys",
    "sbin/pfctl",
    "usr/libexec/getty",
];

/// Directories that are copied into memory at boot by rc.initdiskless, with the most MiB that each may take.
const IN_MEMORY: [(&str, u32); 3] = [("etc", 64), ("root", 32), ("var", 512)];

/// Directories that things are mounted on or put into, with their modes.
const DIRECTORIES: [(&str, u32); 9] = [
    ("boot/loader.conf.d", 0o755),
    ("data", 0o755),
    ("dev", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("tmp", 0o1777),
    ("usr/local/etc", 0o755),
    ("var/db", 0o755),
    ("var/run", 0o755),
];

/// Makes the slot's file system in a directory for intermediate files.
pub fn make(ingredients: &Ingredients, work: &Path) -> Result<Slot, Error> {
    let makefs = require("makefs", "makefs")?;
    let rules = Rules::of_the_appliance().map_err(sets::SetError::Rules)?;
    let (mut tree, mut report) = (Tree::new(&work.join("blobs"))?, Report::default());
    sets::read(&ingredients.sets.base, &rules, &mut tree, &mut report)?;
    sets::read(&ingredients.sets.kernel, &rules, &mut tree, &mut report)?;
    let time = report.newest;
    for package in &ingredients.packages {
        sets::read_package(package, &mut tree)?;
    }
    for (path, mode) in DIRECTORIES {
        tree.put_directory(path, mode, time);
    }
    overlay::add(&ingredients.repository.join("overlay"), "", time, &mut tree)?;
    overlay::add(&ingredients.repository.join("boot"), "boot", time, &mut tree)?;
    // gptboot looks for its settings in the root directory.
    if let Some(config) = tree.remove("boot/boot.config") {
        tree.put("boot.config", config);
    }
    for (program, path) in &ingredients.programs {
        let mut opened = File::open(program).map_err(file(program))?;
        let kind = tree.store(&mut opened)?;
        tree.put(path, Entry { kind, mode: 0o755, uid: 0, gid: 0, time });
    }
    tree.put_file(VERSION, format!("{}\n", ingredients.version).as_bytes(), 0o644, time)?;
    tree.put_file(RELEASE_KEYS, ingredients.release_keys.as_bytes(), 0o644, time)?;
    put_accounts(&mut tree, time)?;
    libraries::keep_needed(&mut tree, &mut report)?;
    if let Some(path) = REQUIRED.into_iter().find(|path| tree.get(path).is_none()) {
        return Err(SlotError::Required(path).into());
    }
    let release = release(&tree)?;
    keep_in_memory(&mut tree, time)?;
    let [pmbr, gptboot, gptboot_efi] =
        BOOT_FILES.map(|path| Ok::<_, Error>(tree.read(path)?.unwrap_or_default()));
    let entries = tree.entries().count();
    let (image, size) = make_file_system(&makefs, &tree, time, work)?;
    Ok(Slot {
        image,
        size,
        release,
        pmbr: pmbr?,
        gptboot: gptboot?,
        gptboot_efi: gptboot_efi?,
        report,
        entries,
    })
}

/// The databases of the accounts in the overlay's master.passwd.
fn put_accounts(tree: &mut Tree, time: u64) -> Result<(), Error> {
    const SOURCE: &str = "etc/master.passwd";
    let text = tree.read(SOURCE)?.ok_or(SlotError::Required(SOURCE))?;
    let accounts = accounts::parse(&String::from_utf8_lossy(&text))?;
    tree.put_file(SOURCE, &text, 0o600, time)?;
    tree.put_file("etc/passwd", accounts::passwd(&accounts).as_bytes(), 0o644, time)?;
    tree.put_file("etc/pwd.db", &accounts::database(&accounts, false)?, 0o644, time)?;
    tree.put_file("etc/spwd.db", &accounts::database(&accounts, true)?, 0o600, time)
}

/// The line `USERLAND_VERSION="15.1-RELEASE"` of a script.
fn release(tree: &Tree) -> Result<String, Error> {
    let script = tree.read("bin/freebsd-version")?.unwrap_or_default();
    let script = String::from_utf8_lossy(&script);
    let value = script.lines().find_map(|line| line.strip_prefix("USERLAND_VERSION="));
    let value = value.map(|value| value.trim().trim_matches('"')).filter(|value| !value.is_empty());
    Ok(value.ok_or(SlotError::NoRelease)?.to_owned())
}

/// What rc.initdiskless finds in /conf/base it copies into memory file systems. The files are listed a second time
/// there, as hard links.
fn keep_in_memory(tree: &mut Tree, time: u64) -> Result<(), Error> {
    tree.put_file("etc/diskless", b"", 0o644, time)?;
    for (directory, most) in IN_MEMORY {
        // In blocks of 512 bytes.
        let blocks = u64::from(most) * disk::MIB / 512;
        let copy = format!("conf/base/{directory}");
        tree.mirror(directory, &copy);
        tree.put_file(&format!("{copy}/md_size"), format!("{blocks}\n").as_bytes(), 0o644, time)?;
        tree.put_file(&format!("{copy}.remove"), b"md_size\n", 0o644, time)?;
    }
    Ok(())
}

/// Bytes of the file system's blocks and fragments: newfs(8)'s own.
const BLOCK: u64 = 32 * 1024;
const FRAGMENT: u64 = 4 * 1024;

/// makefs(8) makes an empty file system; the files are put into it in the order of their names.
fn make_file_system(makefs: &Path, tree: &Tree, time: u64, work: &Path) -> Result<(PathBuf, u64), Error> {
    let (root, specification, image) = (work.join("root"), work.join("mtree"), work.join("slot.img"));
    fs::create_dir(&root).map_err(file(&root))?;
    let line = format!("#mtree\n. type=dir uid=0 gid=0 mode=0755 time={time}.0\n");
    fs::write(&specification, line).map_err(file(&specification))?;
    let size = tree.room(BLOCK, FRAGMENT).next_multiple_of(disk::MIB);
    eprintln!(
        "Making a file system of {} MiB for {} MiB in files",
        size / disk::MIB,
        tree.size() / disk::MIB
    );
    run(Command::new(makefs)
        .args(["-t", "ffs", "-B", "le", "-s", &size.to_string(), "-o"])
        .arg(format!("version=1,bsize={BLOCK},fsize={FRAGMENT},minfree=0,optimization=space"))
        .args(["-f", &(tree.entries().count() + 64).to_string()])
        .args(["-x", "-T", &time.to_string(), "-F"])
        .arg(&specification)
        .arg(&image)
        .arg(&root)
        .stdout(std::process::Stdio::null()))?;
    let opened = File::options().read(true).write(true).open(&image).map_err(file(&image))?;
    let on = |source: UfsError| Error::Ufs { path: image.clone(), source: Box::new(source) };
    let system = Ufs::open(&opened, 0).map_err(on)?;
    system.forget_pointers().map_err(on)?;
    ufs::fill(&system, tree, time).map_err(on)?;
    opened.set_len(size).map_err(file(&image))?;
    Ok((image, size))
}

/// Prints what was kept and left out, by reason.
pub fn print(report: &Report) {
    let total: u64 = report.kept.values().sum();
    println!("Kept of FreeBSD's sets: {}", mebibytes(total));
    for (reason, bytes) in &report.kept {
        println!("  {:>11}  {reason}", mebibytes(*bytes));
    }
    println!("Left out: {}", mebibytes(report.dropped.values().sum()));
    for (reason, bytes) in &report.dropped {
        println!("  {:>11}  {reason}", mebibytes(*bytes));
    }
}

/// A size in MiB with one decimal.
pub fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / disk::MIB;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
