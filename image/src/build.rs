//! `cargo image build`: FreeBSD's sets, the programs, overlay and boot files in; a disk image out. Needs no privileges
//! and mounts nothing. The same inputs give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::ValueEnum;
use ring::digest::{SHA256, digest};
use semver::Version;

use crate::components::pins::COMPONENTS;
use crate::cross::{self, Cross, sysroot};
use crate::disk::{self, MIB};
use crate::release::{PublicKeys, ReleaseError};
use crate::sets::{self, Sets};
use crate::slot::{self, Ingredients, SlotError};
use crate::tool::{Error, file, require, run};
use crate::{cargo, elf, progress};

/// Where FreeBSD publishes the release that the appliance is made of.
const MIRROR: &str = "https://download.freebsd.org/releases/amd64/15.1-RELEASE";

const QEMU_IMG: &str = "qemu-img";
const QEMU_PACKAGE: &str = "qemu-utils";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As it is written to a disk.
    Raw,
    /// QEMU, Proxmox
    Qcow2,
    /// VMware, VirtualBox
    Vmdk,
    /// Hyper-V, Azure (generation 1 and 2, fixed size)
    Vhd,
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory with FreeBSD's base.txz and kernel.txz (or base.tar, kernel.tar), and MANIFEST; nothing is downloaded
    #[arg(long, value_name = "DIR", conflicts_with = "mirror")]
    sets: Option<PathBuf>,
    /// Where the sets are downloaded from
    #[arg(long, value_name = "URL", default_value = MIRROR)]
    mirror: String,
    /// The image to write; its directory gets the other formats too
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A further format, made with qemu-img; may be given several times
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Vec<Format>,
    /// The version that the image carries
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: Version,
    /// File with the public keys of those whose updates the appliance takes (`cargo image keygen` prints them)
    #[arg(long, value_name = "FILE")]
    release_keys: Option<PathBuf>,
    /// MiB of each of the two slots; later versions have to fit
    #[arg(long, value_name = "MIB", default_value_t = 640)]
    slot_size: u64,
    /// Directory with FreeBSD packages (.pkg) to unpack: suricata and what it depends on
    #[arg(long, alias = "pkg", value_name = "DIR")]
    packages: Option<PathBuf>,
    /// One FreeBSD package, like --packages; may be given several times
    #[arg(long, value_name = "FILE.pkg")]
    suricata: Vec<PathBuf>,
    /// A firmware that is built already (for FreeBSD on amd64)
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// Directory with the daemons, built already; one that is not in it is left out
    #[arg(long, value_name = "DIR")]
    daemons: Option<PathBuf>,
    /// Where Rust's standard library for FreeBSD comes from
    #[arg(long, value_enum, default_value_t = cross::Choice::Auto)]
    toolchain: cross::Choice,
    /// Cargo profile of the firmware
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Where images are put.
pub fn output_directory() -> PathBuf {
    cargo::workspace().join("target/image")
}

/// The name of a version's image.
pub fn image_name(version: &Version) -> String {
    format!("aifw-{version}-amd64.img")
}

/// The command of that name.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    let began = Instant::now();
    require("makefs", "makefs")?;
    if arguments.format.iter().any(|format| *format != Format::Raw) {
        require(QEMU_IMG, QEMU_PACKAGE)?;
    }
    let slot_room = arguments.slot_size * MIB;
    let sets = match &arguments.sets {
        Some(directory) => sets::in_directory(directory)?,
        None => sets::from_mirror(&arguments.mirror)?,
    };
    let ingredients = Ingredients {
        programs: programs(arguments, &sets)?,
        packages: packages(arguments)?,
        version: arguments.version.to_string(),
        release_keys: release_keys(arguments)?,
        repository: cargo::workspace().to_owned(),
        sets,
    };
    let output =
        arguments.output.clone().unwrap_or_else(|| output_directory().join(image_name(&arguments.version)));
    let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(file(directory))?;
    let work = tempfile::Builder::new().prefix(".image-").tempdir_in(directory).map_err(file(directory))?;
    let slot = slot::make(&ingredients, work.path())?;
    if slot.size > slot_room {
        let needed = slot.size / MIB;
        return Err(SlotError::NoRoom { needed, room: arguments.slot_size }.into());
    }
    slot::print(&slot.report);
    let hash = progress::sha256(&slot.image)?;
    // Identifiers follow from the contents: the same image has the same, another one others.
    let seed = digest(&SHA256, format!("{hash} {slot_room}").as_bytes());
    let partial = work.path().join("disk.img");
    let contents = disk::Contents {
        pmbr: &slot.pmbr,
        gptboot: &slot.gptboot,
        gptboot_efi: &slot.gptboot_efi,
        slot: &slot.image,
        slot_size: slot_room,
        seed: seed.as_ref(),
    };
    disk::create(&partial, &contents)?;
    fs::rename(&partial, &output).map_err(file(&output))?;
    println!(
        "Slot: FreeBSD {}, AiFw {}, {} files, {} of {} MiB, SHA-256 {hash}",
        slot.release,
        arguments.version,
        slot.entries,
        slot::mebibytes(slot.size),
        arguments.slot_size
    );
    let size = fs::metadata(&output).map_err(file(&output))?.len();
    println!("{}: {}, after {} s", output.display(), slot::mebibytes(size), began.elapsed().as_secs());
    for format in &arguments.format {
        convert(&output, *format)?;
    }
    Ok(())
}

/// Our programs for FreeBSD and where they go: given, or built.
fn programs(arguments: &Arguments, sets: &Sets) -> Result<Vec<(PathBuf, String)>, Error> {
    let cross = if arguments.firmware.is_none() || arguments.daemons.is_none() {
        let folder = cross::folder();
        let sysroot = sysroot::of(&sets.base, &folder)?;
        Some(Cross::prepare(arguments.toolchain, &folder, Some(&sysroot))?)
    } else {
        None
    };
    let firmware = match (&arguments.firmware, &cross) {
        (Some(firmware), _) => Some(firmware.clone()),
        (None, Some(cross)) => Some(cross.firmware(&arguments.profile)?),
        (None, None) => None,
    };
    let daemons = match (&arguments.daemons, &cross) {
        (Some(directory), _) => given_daemons(directory)?,
        (None, Some(cross)) => cross.daemons()?,
        (None, None) => Vec::new(),
    };
    let mut programs = Vec::new();
    for program in
        firmware.into_iter().map(|path| (path, "aifw".to_owned())).chain(daemons.into_iter().map(named))
    {
        let (path, name) = program;
        let bytes = fs::read(&path).map_err(file(&path))?;
        elf::check(&bytes)
            .map_err(|reason| Error::NotFreeBsd { path: path.clone(), reason: reason.to_string() })?;
        programs.push((path, format!("usr/local/sbin/{name}")));
    }
    Ok(programs)
}

fn named(path: PathBuf) -> (PathBuf, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (path, name)
}

fn given_daemons(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::read_dir(directory).map_err(file(directory))?;
    let mut found = Vec::new();
    for program in COMPONENTS.iter().flat_map(|component| component.programs) {
        let path = directory.join(program);
        if path.is_file() {
            found.push(path);
        } else {
            eprintln!(
                "{}: {program} is not there; the appliance will say that it is not installed",
                directory.display()
            );
        }
    }
    Ok(found)
}

fn packages(arguments: &Arguments) -> Result<Vec<PathBuf>, Error> {
    let mut packages = arguments.suricata.clone();
    if let Some(directory) = &arguments.packages {
        for entry in fs::read_dir(directory).map_err(file(directory))? {
            let path = entry.map_err(file(directory))?.path();
            if path.extension().is_some_and(|extension| extension == "pkg") {
                packages.push(path);
            }
        }
    }
    packages.sort();
    if packages.is_empty() {
        eprintln!(
            "No package of Suricata was given (--packages): the appliance will say that it is not installed"
        );
    }
    Ok(packages)
}

fn release_keys(arguments: &Arguments) -> Result<String, Error> {
    let Some(path) = &arguments.release_keys else {
        eprintln!("No public keys were given (--release-keys): the appliance will take no update");
        return Ok("# Updates must be signed by one of these keys; there is none, so none is taken.\n".into());
    };
    if PublicKeys::load(path)?.is_empty() {
        return Err(ReleaseError::Form(format!("{}: no public key is in it", path.display())).into());
    }
    fs::read_to_string(path).map_err(file(path))
}

/// qemu-img(1) makes the other formats.
fn convert(image: &Path, format: Format) -> Result<(), Error> {
    let (name, extension, options): (&str, &str, &[&str]) = match format {
        Format::Raw => return Ok(()),
        Format::Qcow2 => ("qcow2", "qcow2", &["-c"]),
        Format::Vmdk => ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        Format::Vhd => ("vpc", "vhd", &["-o", "subformat=fixed,force_size=on"]),
    };
    let output = image.with_extension(extension);
    run(Command::new(require(QEMU_IMG, QEMU_PACKAGE)?)
        .args(["convert", "-f", "raw", "-O", name])
        .args(options)
        .arg(image)
        .arg(&output))?;
    let size = fs::metadata(&output).map_err(file(&output))?.len();
    println!("{}: {}", output.display(), slot::mebibytes(size));
    Ok(())
}
