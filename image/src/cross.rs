//! `cargo image cross`: the firmware compiled and linked for FreeBSD on a Linux host. The C compiler and linker
//! is zig, which PyPI carries as `ziglang` with FreeBSD's C library inside. Rust's part is one of two: rustup's
//! ready-made standard library where its server can be reached, else Debian's `rustc-web` with the standard
//! library compiled from `rust-web-src`. Each has its own folder under target/freebsd, and what is there already
//! is used again. With FreeBSD's base.txz, programs are fully static: the image has only such.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

mod link;
pub mod sysroot;

use crate::components::pins::COMPONENTS;
use crate::tool::{self, Error, file, find, require, run};
use crate::{cargo, components, elf, sets};

/// Rust's name of the target.
const TARGET: &str = "x86_64-unknown-freebsd";
const ZIG_VERSION: &str = "0.17.1";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// rustup downloads some 30 MB; where its server cannot be reached it tries on for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// What is installed, else what can be installed.
    Auto,
    /// The toolchain at hand, with the standard library that rustup has for FreeBSD.
    Rustup,
    /// Debian's rustc-web, with the standard library built from source.
    Debian,
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where Rust's standard library for FreeBSD comes from
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    toolchain: Choice,
    /// Cargo profile; `cross` is the quickest to compile
    #[arg(long, default_value = "cross")]
    profile: String,
    /// Directory with FreeBSD's base.txz and kernel.txz; the program is fully static then
    #[arg(long, value_name = "DIR")]
    sets: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toolchain {
    Rustup,
    Debian,
}

/// Everything that is needed to build for FreeBSD.
#[derive(Debug)]
pub struct Cross {
    toolchain: Toolchain,
    folder: PathBuf,
    compiler: PathBuf,
    archiver: PathBuf,
    linker: PathBuf,
    sysroot: Option<PathBuf>,
}

impl Cross {
    /// Finds or installs what is needed. With a sysroot (usr/lib of FreeBSD's base.txz) programs are fully static;
    /// without, they are linked for FreeBSD's shared C library.
    pub fn prepare(choice: Choice, folder: &Path, sysroot: Option<&Path>) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file(folder))?;
        let toolchain = toolchain(choice, folder)?;
        let zig = zig(folder)?;
        let compiler = folder.join("cc");
        write_program(&compiler, &link::compiler_script(&zig))?;
        let archiver = folder.join("ar");
        write_program(&archiver, &link::archiver_script(&zig))?;
        let linker = match sysroot {
            Some(sysroot) => {
                let linker = folder.join("ld-static");
                write_program(&linker, &link::static_linker_script(&zig, sysroot))?;
                linker
            }
            None => compiler.clone(),
        };
        let sysroot = sysroot.map(Path::to_owned);
        Ok(Self { toolchain, folder: folder.to_owned(), compiler, archiver, linker, sysroot })
    }

    /// `cargo SUBCOMMAND` for the target.
    fn cargo(&self, subcommand: &str) -> Command {
        let linkage = if self.sysroot.is_some() { "-static" } else { "" };
        let mut command = match self.toolchain {
            Toolchain::Rustup => {
                let mut command = Command::new("cargo");
                command.arg(subcommand).env("CARGO_TARGET_DIR", self.folder.join(format!("rustup{linkage}")));
                command
            }
            Toolchain::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                command
                    .args([subcommand, "-Zbuild-std=std,panic_abort"])
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_DIR", self.folder.join(format!("debian{linkage}")))
                    // This program itself runs under rustup's cargo, whose libraries are not Debian's.
                    .env_remove("LD_LIBRARY_PATH")
                    .env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        };
        command
            .args(["--locked", "--target", TARGET])
            .env("CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER", &self.linker)
            .env("CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_RUSTFLAGS", self.flags())
            .env("CC_x86_64_unknown_freebsd", &self.compiler)
            .env("CXX_x86_64_unknown_freebsd", &self.compiler)
            .env("AR_x86_64_unknown_freebsd", &self.archiver)
            .env("ZIG_GLOBAL_CACHE_DIR", self.folder.join("zig-cache"))
            .env("ZIG_LOCAL_CACHE_DIR", self.folder.join("zig-cache"));
        command
    }

    /// Static programs lie at fixed addresses. Directories of this machine do not get into a program.
    fn flags(&self) -> String {
        let mut flags = String::new();
        if self.sysroot.is_some() {
            flags += "-Clinker-flavor=ld.lld -Crelocation-model=static -Cstrip=symbols ";
        }
        let home = |name: &str, below: &str| {
            let set = env::var_os(name).map(PathBuf::from);
            set.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(below)))
        };
        let named = [
            (Some(cargo::workspace().to_owned()), "/aifw"),
            (home("CARGO_HOME", ".cargo"), "/cargo"),
            (home("RUSTUP_HOME", ".rustup"), "/rustup"),
        ];
        for (from, to) in named {
            if let Some(from) = from {
                flags += &format!("--remap-path-prefix={}={to} ", from.display());
            }
        }
        flags.trim_end().to_owned()
    }

    /// Builds `aifw`.
    pub fn firmware(&self, profile: &str) -> Result<PathBuf, Error> {
        let began = Instant::now();
        let mut command = self.cargo("build");
        command.args(["--profile", profile, "--package", "aifw", "--bin", "aifw"]);
        let built = cargo::build(&mut command, "aifw")?;
        self.check(&built, began)?;
        Ok(built)
    }

    /// Builds the daemons in their pinned versions; those that are there already are used again.
    pub fn daemons(&self) -> Result<Vec<PathBuf>, Error> {
        let home = self.folder.join(if self.sysroot.is_some() { "daemons-static" } else { "daemons" });
        let mut programs = Vec::new();
        for component in COMPONENTS {
            let root = home.join(component.directory());
            let paths: Vec<_> = component.programs.iter().map(|name| root.join("bin").join(name)).collect();
            if !paths.iter().all(|path| tool::is_executable(path)) {
                let began = Instant::now();
                eprintln!("Building {} {} for FreeBSD", component.package, component.version);
                let mut command = self.cargo("install");
                command
                    .args(["--no-track", "--force", "--root"])
                    .arg(&root)
                    .arg(format!("{}@={}", component.package, component.version))
                    .envs(components::PROFILE)
                    .env("PATH", components::path_with(&root.join("bin"))?);
                run(&mut command)?;
                for path in &paths {
                    self.check(path, began)?;
                }
            }
            programs.extend(paths);
        }
        Ok(programs)
    }

    /// Whether a program is what was asked for.
    fn check(&self, program: &Path, began: Instant) -> Result<(), Error> {
        let bytes = fs::read(program).map_err(file(program))?;
        let refuse = |reason: String| Error::NotFreeBsd { path: program.to_owned(), reason };
        let found = elf::check(&bytes).map_err(|reason| refuse(reason.to_string()))?;
        if let (Some(_), Some(interpreter)) = (&self.sysroot, &found.interpreter) {
            return Err(refuse(format!("it is not static but needs {interpreter}")));
        }
        println!(
            "{}: FreeBSD {} (amd64), {}, {} MiB, after {} s",
            program.display(),
            found.version,
            found.interpreter.as_deref().unwrap_or("static"),
            bytes.len() >> 20,
            began.elapsed().as_secs()
        );
        Ok(())
    }
}

/// Where this tool keeps what it builds for FreeBSD.
pub fn folder() -> PathBuf {
    cargo::workspace().join("target/freebsd")
}

/// The command of that name.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    let folder = folder();
    let sysroot = match &arguments.sets {
        Some(sets) => Some(sysroot::of(&sets::in_directory(sets)?.base, &folder)?),
        None => None,
    };
    Cross::prepare(arguments.toolchain, &folder, sysroot.as_deref())?.firmware(&arguments.profile).map(drop)
}

/// Finds a toolchain for FreeBSD, or installs one.
fn toolchain(choice: Choice, folder: &Path) -> Result<Toolchain, Error> {
    let rustup = choice != Choice::Debian && find("rustup").is_some();
    let debian = choice != Choice::Rustup;
    if rustup && rustup_has_target() {
        return Ok(Toolchain::Rustup);
    }
    if debian && has_packages(&DEBIAN_PACKAGES) {
        return Ok(Toolchain::Debian);
    }
    if rustup {
        eprintln!("Adding {TARGET} to the Rust toolchain (rustup target add)");
        let mut add = Command::new("rustup");
        add.args(["target", "add", TARGET]);
        match tool::run_within(&mut add, RUSTUP_LIMIT, &folder.join("rustup.log")) {
            Ok(()) => return Ok(Toolchain::Rustup),
            Err(error) if choice == Choice::Rustup => return Err(error),
            Err(error) => eprintln!("{error}\nFalling back on Debian's {}", DEBIAN_PACKAGES.join(", ")),
        }
    }
    if debian && find("apt-get").is_some() {
        install_packages(&DEBIAN_PACKAGES)?;
        return Ok(Toolchain::Debian);
    }
    Err(Error::NoToolchain(format!(
        "`rustup target add {TARGET}` is needed, or Debian's packages {}",
        DEBIAN_PACKAGES.join(", ")
    )))
}

/// Whether the toolchain at hand has FreeBSD's standard library.
fn rustup_has_target() -> bool {
    Command::new("rustup")
        .args(["target", "list", "--installed"])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == TARGET))
}

/// Whether dpkg(1) has all of these installed.
fn has_packages(packages: &[&str]) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| {
            let states = String::from_utf8_lossy(&output.stdout);
            states.lines().filter(|state| *state == "installed").count() == packages.len()
        })
}

/// apt-get(8), as root or through sudo without a question.
fn install_packages(packages: &[&str]) -> Result<(), Error> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let apt = |arguments: &[&str]| {
        let mut command = if root {
            Command::new("apt-get")
        } else {
            require("sudo", "sudo")?;
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "apt-get"]);
            sudo
        };
        run(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// The zig program, from PyPI's `ziglang` if it is not there yet.
fn zig(folder: &Path) -> Result<PathBuf, Error> {
    let home = folder.join(format!("zig-{ZIG_VERSION}"));
    let zig = home.join("ziglang/zig");
    if tool::is_executable(&zig) {
        return Ok(zig);
    }
    require("python3", "python3")?;
    let has_pip =
        Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|o| o.status.success());
    if !has_pip {
        install_packages(&["python3-pip"])?;
    }
    eprintln!("Installing ziglang {ZIG_VERSION} from PyPI");
    // Moved into place as a whole, so that an interrupted installation is not taken for a finished one.
    let partial = folder.join("zig-partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(file(&partial))?;
    }
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--target"])
        .arg(&partial)
        .arg(format!("ziglang=={ZIG_VERSION}")))?;
    fs::rename(&partial, &home).map_err(file(&home))?;
    Ok(zig)
}

/// Writes an executable script; an unchanged one is left alone.
fn write_program(path: &Path, text: &str) -> Result<(), Error> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) && tool::is_executable(path) {
        return Ok(());
    }
    fs::write(path, text).map_err(file(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_package_is_not_installed() {
        assert!(!has_packages(&["no-such-package-of-any-distribution"]));
    }
}
