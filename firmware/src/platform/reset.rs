//! Factory reset: a marker in the state directory says that it is to be emptied at the next start, before anything
//! is opened. A power cut at any moment leaves either the old appliance or the marker, and the emptying is
//! repeated until it is complete. Asked for by the API, carried out by the appliance's start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MARKER: &str = "factory-reset";

fn marker(state_dir: &Path) -> PathBuf {
    state_dir.join(MARKER)
}

/// From now on the next start empties the directory.
pub fn request(state_dir: &Path) -> io::Result<()> {
    let mut file = File::create(marker(state_dir))?;
    file.write_all(b"everything here is removed at the next start\n")?;
    file.sync_all()?;
    File::open(state_dir)?.sync_all()
}

/// Takes [`request`] back.
pub fn withdraw(state_dir: &Path) -> io::Result<()> {
    fs::remove_file(marker(state_dir))
}

/// Empties the directory if that was asked for, the marker last; whether it was.
pub fn carry_out(state_dir: &Path) -> io::Result<bool> {
    if !marker(state_dir).exists() {
        return Ok(false);
    }
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    File::open(state_dir)?.sync_all()?;
    withdraw(state_dir)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_goes_and_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir_all(state.join("ssh")).unwrap();
        fs::write(state.join("aifw.redb"), "x").unwrap();
        fs::write(state.join("ssh/key"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), state.join("link")).unwrap();
        assert!(!carry_out(&state).unwrap());
        assert!(state.join("ssh/key").exists());
        request(&state).unwrap();
        // As after a power cut half-way.
        fs::remove_file(state.join("aifw.redb")).unwrap();
        assert!(carry_out(&state).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        assert!(dir.path().exists());
        request(&state).unwrap();
        withdraw(&state).unwrap();
        assert!(!carry_out(&state).unwrap());
    }
}
