//! `cargo image cross`: the firmware compiled and linked for FreeBSD on a Linux host. The C compiler and linker
//! is zig, which PyPI carries as `ziglang` with FreeBSD's C library inside. Rust's part is one of two: rustup's
//! ready-made standard library where its server can be reached, else Debian's `rustc-web` with the standard
//! library compiled from `rust-web-src`. Each has its own folder under target/freebsd, and what is there already
//! is used again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::tool::{self, Error, file, find, require, run};
use crate::{cargo, elf};

/// Rust's name of the target.
const TARGET: &str = "x86_64-unknown-freebsd";
/// Zig's name of the same, with the FreeBSD version to link for.
const ZIG_TARGET: &str = "x86_64-freebsd.15.0-none";
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toolchain {
    Rustup,
    Debian,
}

/// Builds `aifw` for FreeBSD and checks what came out.
pub fn run_cross(arguments: &Arguments, folder: &Path) -> Result<PathBuf, Error> {
    let began = Instant::now();
    fs::create_dir_all(folder).map_err(file(folder))?;
    let toolchain = toolchain(arguments.toolchain, folder)?;
    let zig = zig(folder)?;
    let compiler = folder.join("cc");
    write_program(&compiler, &compiler_script(&zig))?;
    let archiver = folder.join("ar");
    write_program(&archiver, &format!("#!/bin/sh\nexec '{}' ar \"$@\"\n", zig.display()))?;

    let mut command = match toolchain {
        Toolchain::Rustup => {
            let mut command = Command::new("cargo");
            command.arg("build").env("CARGO_TARGET_DIR", folder.join("rustup"));
            command
        }
        Toolchain::Debian => {
            let mut command = Command::new("/usr/bin/cargo");
            command
                .args(["build", "-Zbuild-std=std,panic_abort"])
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_DIR", folder.join("debian"))
                // This program itself runs under rustup's cargo, whose libraries are not Debian's.
                .env_remove("LD_LIBRARY_PATH")
                .env_remove("RUSTUP_TOOLCHAIN");
            command
        }
    };
    command
        .args(["--locked", "--target", TARGET, "--profile", &arguments.profile])
        .args(["--package", "aifw", "--bin", "aifw"])
        .env("CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER", &compiler)
        .env("CC_x86_64_unknown_freebsd", &compiler)
        .env("AR_x86_64_unknown_freebsd", &archiver)
        .env("ZIG_GLOBAL_CACHE_DIR", folder.join("zig-cache"))
        .env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"));
    let built = cargo::build(&mut command, "aifw")?;
    let bytes = fs::read(&built).map_err(file(&built))?;
    let program = elf::check(&bytes)
        .map_err(|reason| Error::NotFreeBsd { path: built.clone(), reason: reason.to_string() })?;
    println!(
        "{}: FreeBSD {} (amd64), {}, {} MiB, after {} s",
        built.display(),
        program.version,
        program.interpreter.as_deref().unwrap_or("static"),
        bytes.len() >> 20,
        began.elapsed().as_secs()
    );
    Ok(built)
}

/// The command of that name.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    run_cross(arguments, &cargo::workspace().join("target/freebsd")).map(drop)
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

/// Calls zig as a C compiler and linker. Rust asks for libraries that only FreeBSD's own base system has, and
/// that nothing in the firmware calls; rustc's and the cc crate's `--target` names the target in a way that zig
/// does not know.
fn compiler_script(zig: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         for argument do\n\
         \tshift\n\
         \tcase $argument in\n\
         \t-lkvm|-lmemstat|-lprocstat|-ldevstat|--target=*) ;;\n\
         \t*) set -- \"$@\" \"$argument\" ;;\n\
         \tesac\n\
         done\n\
         exec '{}' cc -target {ZIG_TARGET} \"$@\"\n",
        zig.display()
    )
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_linker_drops_what_zig_has_not_and_keeps_the_rest() {
        // A stand-in for zig that prints the arguments it is given, one a line.
        let folder = tempfile::tempdir().unwrap();
        let zig = folder.path().join("zig");
        write_program(&zig, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
        let cc = folder.path().join("cc");
        write_program(&cc, &compiler_script(&zig)).unwrap();
        let given = [
            "--target=x86_64-unknown-freebsd",
            "-lc",
            "-lkvm",
            "-o",
            "a file",
            "-lmemstat",
            "-lprocstat",
            "-ldevstat",
            "",
        ];
        let output = Command::new(&cc).args(given).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "cc\n-target\nx86_64-freebsd.15.0-none\n-lc\n-o\na file\n\n"
        );
    }

    #[test]
    fn a_missing_package_is_not_installed() {
        assert!(!has_packages(&["no-such-package-of-any-distribution"]));
    }
}
