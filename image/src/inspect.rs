//! `cargo image inspect`: what is in an image or an update package, read from its bytes without mounting anything.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::disk::{self, Part, PartKind, Table, attribute};
use crate::release::{self, PublicKeys};
use crate::slot::{RELEASE_KEYS, VERSION, mebibytes};
use crate::tool::{Error, file};
use crate::ufs::{FileKind, Inode, Ufs, UfsError};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A raw image, a disk, or an update package (.tar.xz)
    #[arg(value_name = "FILE")]
    subject: PathBuf,
    /// List the files of a slot: mode, owner, size, path
    #[arg(long, value_name = "slot-a|slot-b", num_args = 0..=1, default_missing_value = "slot-a")]
    list: Option<String>,
    /// Print a file of slot A
    #[arg(long, value_name = "PATH", conflicts_with = "list")]
    cat: Option<String>,
}

/// An image that was opened, and its partition table.
#[derive(Debug)]
pub struct Opened {
    pub path: PathBuf,
    pub file: File,
    pub table: Table,
}

/// What a slot says of itself.
#[derive(Debug)]
pub struct Facts {
    pub part: Part,
    /// Bytes of the file system, up to the next whole MiB.
    pub size: u64,
    pub version: String,
    pub freebsd: String,
    pub keys: String,
}

impl Opened {
    pub fn image(path: &Path) -> Result<Self, Error> {
        let opened = File::open(path).map_err(file(path))?;
        let table = disk::read(&opened).map_err(|source| disk::on(path, source))?;
        Ok(Self { path: path.to_owned(), file: opened, table })
    }

    /// The partition of a label.
    pub fn part(&self, label: &str) -> Result<&Part, Error> {
        let found = self.table.parts.iter().find(|part| part.label == label);
        found.ok_or_else(|| {
            disk::on(&self.path, disk::DiskError::Layout(format!("it has no partition {label}")))
        })
    }

    /// The file system of a slot.
    pub fn system(&self, label: &str) -> Result<Ufs<'_>, Error> {
        let part = self.part(label)?;
        Ufs::open(&self.file, part.offset()).map_err(|source| self.on(label, source))
    }

    pub fn facts(&self, label: &str) -> Result<Facts, Error> {
        let system = self.system(label)?;
        let read = |path: &str| system.read(path).map_err(|source| self.on(label, source));
        let text = |path: &str| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let script = text("bin/freebsd-version")?;
        let release =
            script.lines().find_map(|line| line.strip_prefix("USERLAND_VERSION=")).unwrap_or("\"unknown\"");
        Ok(Facts {
            part: self.part(label)?.clone(),
            size: system.size().next_multiple_of(disk::MIB),
            version: text(VERSION)?.trim().to_owned(),
            freebsd: release.trim_matches('"').to_owned(),
            keys: text(RELEASE_KEYS)?,
        })
    }

    /// An error about a slot's file system, with its place.
    pub fn on(&self, label: &str, source: UfsError) -> Error {
        Error::Ufs { path: format!("{}: {label}", self.path.display()).into(), source: Box::new(source) }
    }
}

/// The command of that name.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    if release::is_package(&arguments.subject) {
        return print_package(&arguments.subject);
    }
    let opened = Opened::image(&arguments.subject)?;
    if let Some(path) = &arguments.cat {
        let system = opened.system("slot-a")?;
        let bytes =
            system.read(path.trim_start_matches('/')).map_err(|source| opened.on("slot-a", source))?;
        return Ok(std::io::Write::write_all(&mut std::io::stdout(), &bytes)?);
    }
    match &arguments.list {
        Some(label) => list(&opened, label),
        None => print_image(&opened),
    }
}

fn print_image(opened: &Opened) -> Result<(), Error> {
    println!(
        "GPT {}{}",
        opened.table.guid,
        if opened.table.has_backup { "" } else { " (its copy is missing)" }
    );
    for part in &opened.table.parts {
        let attributes = attribute::names(part.attributes);
        println!(
            "{:>2}  {:<8} {:<13} {:>11}  at {:>9}  {}",
            part.number,
            part.label,
            part.kind.name(),
            mebibytes(part.size()),
            mebibytes(part.offset()),
            attributes.join(",")
        );
    }
    for part in opened
        .table
        .parts
        .iter()
        .filter(|part| part.kind == PartKind::FreeBsdUfs && part.label.starts_with("slot-"))
    {
        match opened.facts(&part.label) {
            Ok(facts) => {
                let keys = PublicKeys::parse(&facts.keys).unwrap_or_default();
                println!(
                    "{}: AiFw {}, FreeBSD {}, {} used",
                    part.label,
                    facts.version,
                    facts.freebsd,
                    mebibytes(facts.size)
                );
                for key in keys.texts() {
                    println!("{}: takes updates signed by {key}", part.label);
                }
                if keys.is_empty() {
                    println!("{}: takes no updates (no release key)", part.label);
                }
            }
            Err(Error::Ufs { .. }) => println!("{}: empty", part.label),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn list(opened: &Opened, label: &str) -> Result<(), Error> {
    let system = opened.system(label)?;
    let on = |source| opened.on(label, source);
    for (path, inode) in system.walk().map_err(on)? {
        println!("{}", line(&system, &path, &inode).map_err(on)?);
    }
    Ok(())
}

/// `-0644 0 0 1234 etc/rc`: kind and mode, owner, group, size, path.
fn line(system: &Ufs<'_>, path: &str, inode: &Inode) -> Result<String, UfsError> {
    let kind = match inode.kind {
        FileKind::Directory => 'd',
        FileKind::File => '-',
        FileKind::Link => 'l',
        FileKind::Other => '?',
    };
    let to =
        if inode.kind == FileKind::Link { format!(" -> {}", system.link(inode)?) } else { String::new() };
    Ok(format!("{kind}{:04o} {} {} {} {path}{to}", inode.mode, inode.uid, inode.gid, inode.size))
}

fn print_package(path: &Path) -> Result<(), Error> {
    let contents = release::read(path, None)?;
    let manifest = contents.manifest;
    println!("AiFw {} for {}, FreeBSD {}", manifest.version, manifest.arch, manifest.freebsd);
    println!("updates from {} and later", manifest.updates_from);
    println!("slot.img: {}, SHA-256 {}", mebibytes(manifest.slot.size), manifest.slot.sha256);
    if !manifest.notes.is_empty() {
        println!("{}", manifest.notes);
    }
    println!(
        "Its form and its image's hash are right; whose signature it has is told by `cargo image verify --keys FILE`."
    );
    Ok(())
}
