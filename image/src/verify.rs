//! `cargo image verify`: whether an image is one that boots into the appliance, as far as its bytes tell; whether an
//! update package is whole and signed. Each thing looked at is one line; any that is not right makes it fail.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::accounts;
use crate::disk::{self, PartKind, attribute};
use crate::inspect::Opened;
use crate::release::{self, PublicKeys, ReleaseError};
use crate::slot::BOOT_FILES;
use crate::tool::{Error, file};
use crate::ufs::{FileKind, Ufs};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A raw image, or an update package (.tar.xz)
    #[arg(value_name = "FILE")]
    subject: PathBuf,
    /// File with public keys; a package must be signed by one of them, an image must have the same
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

/// Lines of what was found.
#[derive(Debug, Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn note(&mut self, right: bool, what: &str) {
        if !right {
            self.wrong += 1;
        }
        println!("{} {what}", if right { "[OK]   " } else { "[WRONG]" });
    }
}

/// The command of that name.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    let keys = arguments.keys.as_deref().map(PublicKeys::load).transpose()?;
    if release::is_package(&arguments.subject) {
        return verify_package(arguments, keys.as_ref());
    }
    let opened = Opened::image(&arguments.subject)?;
    let mut findings = Findings::default();
    verify_table(&opened, &mut findings);
    verify_boot(&opened, &mut findings)?;
    verify_slot(&opened, keys.as_ref(), &mut findings)?;
    match findings.wrong {
        0 => Ok(()),
        wrong => Err(Error::NotRight { path: arguments.subject.clone(), wrong }),
    }
}

fn verify_package(arguments: &Arguments, keys: Option<&PublicKeys>) -> Result<(), Error> {
    let contents = release::read(&arguments.subject, keys)?;
    println!("[OK]    form, size and hash: AiFw {}", contents.manifest.version);
    match contents.signed {
        Some(true) => println!("[OK]    signature"),
        Some(false) => return Err(ReleaseError::Signature.into()),
        None => println!("[!]     signature not looked at: no --keys"),
    }
    Ok(())
}

/// The partitions that the firmware looks for, in their order.
const LAYOUT: [(&str, PartKind); 5] = [
    ("esp", PartKind::Efi),
    ("boot", PartKind::FreeBsdBoot),
    ("slot-a", PartKind::FreeBsdUfs),
    ("slot-b", PartKind::FreeBsdUfs),
    ("data", PartKind::FreeBsdUfs),
];

fn verify_table(opened: &Opened, findings: &mut Findings) {
    let parts = &opened.table.parts;
    let found: Vec<_> = parts.iter().map(|part| (part.label.as_str(), &part.kind)).collect();
    let wanted: Vec<_> = LAYOUT.iter().map(|(label, kind)| (*label, kind)).collect();
    let numbered = parts.iter().zip(1..).all(|(part, number)| part.number == number);
    findings.note(found == wanted && numbered, "partitions esp, boot, slot-a, slot-b, data");
    findings.note(opened.table.has_backup, "the partition table's copy at the disk's end");
    let bootable: Vec<_> = parts.iter().filter(|part| part.attributes & attribute::BOOTME != 0).collect();
    let one = bootable.len() == 1 && bootable.iter().all(|part| part.label == "slot-a");
    let others = attribute::BOOTONCE | attribute::BOOTFAILED;
    findings.note(
        one && parts.iter().all(|part| part.attributes & others == 0),
        "slot A, and only it, is to be booted",
    );
    let size = |label: &str| parts.iter().find(|part| part.label == label).map(disk::Part::size);
    findings.note(size("slot-a").is_some() && size("slot-a") == size("slot-b"), "both slots have one size");
}

/// The boot programs outside the slots are the slot's own.
fn verify_boot(opened: &Opened, findings: &mut Findings) -> Result<(), Error> {
    let system = opened.system("slot-a")?;
    let mut files = Vec::new();
    for path in BOOT_FILES {
        files.push(system.read(path).map_err(|source| opened.on("slot-a", source))?);
    }
    let (program, marked) = disk::boot_sector(&opened.file).map_err(file(&opened.path))?;
    let same = files[0].get(..440) == Some(&program[..]);
    findings.note(marked && same, "the boot sector has the slot's pmbr");
    let boot = region(opened, "boot")?;
    findings.note(
        !files[1].is_empty() && boot.starts_with(&files[1]),
        "the boot partition has the slot's gptboot",
    );
    let mut esp = region(opened, "esp")?;
    let program = disk::esp::read(&mut esp).unwrap_or_default();
    let what = format!("{} has the slot's gptboot.efi", disk::esp::PROGRAM);
    findings.note(!program.is_empty() && program == files[2], &what);
    Ok(())
}

fn region(opened: &Opened, label: &str) -> Result<Vec<u8>, Error> {
    let part = opened.part(label)?;
    let mut image = opened.file.try_clone().map_err(file(&opened.path))?;
    let mut bytes = vec![0; part.size() as usize];
    image.seek(SeekFrom::Start(part.offset())).map_err(file(&opened.path))?;
    image.read_exact(&mut bytes).map_err(file(&opened.path))?;
    Ok(bytes)
}

fn verify_slot(opened: &Opened, keys: Option<&PublicKeys>, findings: &mut Findings) -> Result<(), Error> {
    let system = opened.system("slot-a")?;
    let part = opened.part("slot-a")?;
    findings.note(system.size() <= part.size(), "the file system of slot A is within its partition");
    let on = |source| opened.on("slot-a", source);
    let files = system.walk().map_err(on)?;
    let mut bytes = 0;
    for (_, inode) in files.iter().filter(|(_, inode)| inode.kind == FileKind::File) {
        bytes += system.contents(inode).map_err(on)?.len();
    }
    findings.note(
        bytes > 0,
        &format!("every file of slot A is readable: {} entries, {} MiB", files.len(), bytes >> 20),
    );
    let loose = files.iter().find(|(path, inode)| {
        let is_shared = inode.mode & 0o1000 != 0 && inode.kind == FileKind::Directory;
        inode.kind != FileKind::Link && inode.mode & 0o002 != 0 && !is_shared && !path.is_empty()
    });
    let told = loose.map_or_else(String::new, |(path, _)| format!(" (but /{path})"));
    findings.note(loose.is_none(), &format!("nothing may be written by everybody{told}"));
    for (path, mode) in [("etc/master.passwd", 0o600), ("etc/spwd.db", 0o600), ("usr/local/sbin/aifw", 0o755)]
    {
        let right = system.find(path).is_ok_and(|inode| inode.mode == mode && inode.uid == 0);
        findings.note(right, &format!("/{path} is root's, mode {mode:04o}"));
    }
    findings.note(is_locked(&system), "no account has a password");
    let text = |path: &str| system.read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let ttys = text("etc/ttys").unwrap_or_default();
    let supervised =
        ttys.lines().any(|line| line.starts_with("aifw") && line.contains("/usr/local/sbin/aifw supervise"));
    findings.note(supervised, "init(8) starts the supervisor");
    findings.note(system.find("etc/diskless").is_ok(), "/etc, /root and /var are copied into memory at boot");
    let held = PublicKeys::parse(&text(crate::slot::RELEASE_KEYS).unwrap_or_default()).unwrap_or_default();
    match keys {
        Some(keys) => findings.note(*keys == held, "it takes updates signed by the given keys"),
        None => findings.note(!held.is_empty(), "it takes signed updates"),
    }
    Ok(())
}

fn is_locked(system: &Ufs<'_>) -> bool {
    let Ok(bytes) = system.read("etc/master.passwd") else { return false };
    let Ok(accounts) = accounts::parse(&String::from_utf8_lossy(&bytes)) else { return false };
    let databases = accounts::database(&accounts, true)
        .is_ok_and(|wanted| system.read("etc/spwd.db").is_ok_and(|found| found == wanted));
    databases
        && accounts.iter().any(|account| account.uid == 0)
        && accounts.iter().all(|account| account.password == "*")
}
