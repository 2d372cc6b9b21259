//! Updating the firmware: two slots of which one runs, release documents, signed packages, boot attempts.
//!
//! A package is checked as a whole before anything is touched, written to the slot that does not run, read back,
//! and booted **once** (`gptboot(8)`); only when the new firmware is healthy does its slot become the permanent
//! choice. A power cut at any instant leaves a slot that boots, the old one or a completely verified new one.
//!
//! [`manifest`] and [`package`] read what is delivered, [`slots`] is the boot medium (gpart(8), or a disk image in
//! the sandbox), [`gpt`] its table, [`boot`] what gptboot chooses. [`machine`] is the order in which things are
//! written, [`state`] what is remembered between boots, [`place`] where. [`release`] and [`download`] ask the
//! release server, [`health`] judges a new firmware, [`history`] remembers, [`window`] is the weekly maintenance.
//! [`Updater`] puts them together for the API, the background and the boot. Knows nothing of HTTP requests.

pub mod boot;
pub mod download;
pub mod gpt;
pub mod health;
pub mod history;
pub mod job;
pub mod machine;
pub mod manifest;
#[cfg(test)]
mod model;
pub mod package;
pub mod place;
pub mod release;
pub mod slots;
pub mod state;
#[doc(hidden)]
pub mod testing;
mod trial;
mod updater;
pub mod window;

pub use updater::{Info, Installed, Options, Status, Switched, UpdateError, Updater};

/// In a slot: the version of what is in it, one line.
const VERSION_FILE: &str = "usr/local/share/aifw/version";

/// The version of this program.
pub fn this_version() -> semver::Version {
    semver::Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or(semver::Version::new(0, 0, 0))
}

/// The version that runs: the slot's below `root`, which is what was delivered as a whole; where there is no slot
/// (sandbox), this program's.
pub fn running_version(root: &std::path::Path) -> semver::Version {
    let slot = std::fs::read_to_string(root.join(VERSION_FILE)).ok();
    slot.and_then(|line| semver::Version::parse(line.trim()).ok()).unwrap_or_else(this_version)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_slots_version_runs_where_there_is_a_slot() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(running_version(root.path()), this_version());
        let file = root.path().join(VERSION_FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "9.8.7-rc.1\n").unwrap();
        assert_eq!(running_version(root.path()).to_string(), "9.8.7-rc.1");
        std::fs::write(&file, "no version\n").unwrap();
        assert_eq!(running_version(root.path()), this_version());
    }
}
