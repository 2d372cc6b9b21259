//! Files replaced as a whole: readers see the old one or the new one, also after a power cut. Used by every room that
//! writes files others read; it knows no room.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// Paths that a thread of this process is replacing: one that comes later waits, or both would write the same
/// temporary file.
static BUSY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static FREED: Condvar = Condvar::new();

/// The sole right to replace a path, until it is dropped.
struct Turn(PathBuf);

impl Turn {
    fn at(path: &Path) -> Self {
        let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = FREED
            .wait_while(busy, |busy| busy.iter().any(|held| held == path))
            .unwrap_or_else(PoisonError::into_inner);
        busy.push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.lock().unwrap_or_else(PoisonError::into_inner).retain(|held| *held != self.0);
        FREED.notify_all();
    }
}

/// The name under which a file is written first, in the same directory.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// The name, too, must be on the disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| DirBuilder::new().recursive(true).mode(0o755).create(parent))
}

/// Writes a file with these permission bits; directories above it that are missing are made. What could not be
/// written leaves nothing behind.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fill(path, mode, |file| file.write_all(bytes))
}

/// As [`write`], with what another file holds.
pub fn copy(from: &Path, path: &Path, mode: u32) -> io::Result<()> {
    let mut source = File::open(from)?;
    fill(path, mode, |file| io::copy(&mut source, file).map(drop))
}

fn fill(path: &Path, mode: u32, put: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    make_parent(path)?;
    let _turn = Turn::at(path);
    let temporary = beside(path);
    let written = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        put(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(path)
    };
    written().inspect_err(|_| {
        fs::remove_file(&temporary).ok();
    })
}

/// As [`write`], unless the file holds just that already, with those permission bits. Whether it was written.
pub fn write_if_different(path: &Path, bytes: &[u8], mode: u32) -> io::Result<bool> {
    let same = fs::read(path).is_ok_and(|held| held == bytes)
        && fs::metadata(path).is_ok_and(|known| known.permissions().mode() & 0o7777 == mode);
    if !same {
        write(path, bytes, mode)?;
    }
    Ok(!same)
}

/// Makes `path` a symbolic link to `target`, whatever file or link was there. Whether anything changed.
pub fn link(path: &Path, target: &Path) -> io::Result<bool> {
    if fs::read_link(path).is_ok_and(|known| known == target) {
        return Ok(false);
    }
    make_parent(path)?;
    let _turn = Turn::at(path);
    let temporary = beside(path);
    fs::remove_file(&temporary).ok();
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, path).inspect_err(|_| {
        fs::remove_file(&temporary).ok();
    })?;
    sync_directory(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_written_when_bytes_or_mode_differ() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/hosts");
        assert!(write_if_different(&path, b"a", 0o644).unwrap());
        assert!(!write_if_different(&path, b"a", 0o644).unwrap());
        assert!(write_if_different(&path, b"a", 0o600).unwrap());
        assert!(write_if_different(&path, b"b", 0o600).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn many_at_once_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.key");
        std::thread::scope(|scope| {
            for letter in b'a'..b'i' {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..8 {
                        write(path, &[letter; 4096], 0o600).unwrap();
                    }
                });
            }
        });
        let held = fs::read(&path).unwrap();
        assert!(held.len() == 4096 && held.iter().all(|byte| *byte == held[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_takes_the_place_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("localtime");
        fs::write(&path, "TZif").unwrap();
        assert!(link(&path, Path::new("/usr/share/zoneinfo/UTC")).unwrap());
        assert!(!link(&path, Path::new("/usr/share/zoneinfo/UTC")).unwrap());
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/usr/share/zoneinfo/UTC"));
    }
}
