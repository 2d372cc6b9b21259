//! `cargo image components`: the daemons that the sandbox appliance and the tests run, built once from Cargo's
//! registry and kept in the user's cache directory, where every clone and CI find them. `cargo appliance` and
//! tests/run call it. The appliance's own image does not use these: it needs FreeBSD's.
//!
//! The directory, `<cache>/aifw/components` or `$AIFW_COMPONENTS`:
//!
//! - `<package>-<version>/`: one component, as `cargo install --root` leaves it; moved into place as a whole
//! - `bin/<program>`: links to the programs of the pinned versions; the firmware looks here
//! - `partial/`: what is being built; of no use to anyone after an interruption
//! - `target/`: compiled dependencies, shared by the components; goes when all are there
//! - `lock`: held by the one that builds

pub mod pins;
mod record;
mod store;
mod suricata;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use pins::{COMPONENTS, Component};
pub use record::Unproven;
use store::Store;
pub use store::cache;

use crate::tool::{self, Error, require};

/// The daemons' own release profiles link everything in one piece, for speed; here the time that a build takes
/// counts. Their dependencies in common are compiled once (those of a daemon that aborts on panic apart).
pub const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_INCREMENTAL", "0"),
];

#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// A component that could not be had.
#[derive(Debug)]
pub struct Failure {
    pub component: Component,
    pub error: Error,
}

/// The command of that name: all of them, or an error.
pub fn run_command(_: &Arguments) -> Result<(), Error> {
    let failures = ensure()?;
    let store = Store::of_this_user()?;
    for component in COMPONENTS {
        let failure = failures.iter().find(|failure| failure.component == component);
        let state = failure.map_or_else(|| "ready".to_owned(), |failure| failure.error.to_string());
        println!("{} {}: {state}", component.package, component.version);
    }
    println!("{}", suricata::report());
    println!("programs are in {}", store.programs().display());
    let failed: Vec<_> = failures.iter().map(|failure| failure.component.package).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::NotBuilt(failed.join(", "))) }
}

/// Builds what is missing, or says what runs without it; for `cargo appliance`.
pub fn prepare() {
    match ensure() {
        Ok(failures) => {
            for Failure { component, error } in failures {
                eprintln!("warning: {} {}: {error}", component.package, component.version);
                eprintln!("The appliance runs without {}: not installed.", component.programs.join(", "));
            }
        }
        Err(error) => eprintln!("warning: {error}\nThe appliance runs with the daemons that are there."),
    }
    if !suricata::is_there() {
        eprintln!("{}", suricata::report());
    }
}

/// Builds what is missing. What is there and proven is not touched, so a second run only looks.
fn ensure() -> Result<Vec<Failure>, Error> {
    let store = Store::of_this_user()?;
    if store.missing().is_empty() {
        return Ok(Vec::new());
    }
    let _lock = store.lock()?;
    // Another run may have built them while this one waited.
    let missing = store.missing();
    let total = missing.len();
    if total > 0 {
        eprintln!(
            "Building {total} of the {} daemons, once; they are kept in {}",
            COMPONENTS.len(),
            store.programs().display()
        );
    }
    let mut failures = Vec::new();
    for (place, component) in missing.into_iter().enumerate() {
        let Component { package, version, .. } = component;
        eprintln!("[{}/{total}] {package} {version}", place + 1);
        let began = Instant::now();
        match store.obtain(&component, |root, target| install(&component, root, target)) {
            Ok(()) => {
                eprintln!("[{}/{total}] {package} {version} after {} s", place + 1, began.elapsed().as_secs())
            }
            Err(error) => failures.push(Failure { component, error }),
        }
    }
    if failures.is_empty() {
        store.forget_intermediates()?;
    }
    Ok(failures)
}

/// Has cargo build one component from the registry, with the versions that its author locked.
fn install(component: &Component, root: &Path, target: &Path) -> Result<(), Error> {
    require("cargo", "cargo")?;
    // ring and aws-lc compile C and assembler.
    require("cc", "gcc")?;
    let mut command = Command::new("cargo");
    command
        .args(["install", "--locked", "--root"])
        .arg(root)
        .arg(format!("{}@={}", component.package, component.version))
        .envs(PROFILE)
        .env("CARGO_TARGET_DIR", target)
        // Else cargo asks for its directory to be put on PATH, where no one needs it.
        .env("PATH", path_with(&root.join("bin"))?)
        .env_remove("CARGO_BUILD_TARGET");
    tool::run(&mut command)
}

/// `PATH`, and one directory more.
pub fn path_with(directory: &Path) -> Result<OsString, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain([directory.to_owned()]);
    env::join_paths(directories).map_err(|_| Error::BadPath(directory.to_owned()))
}
