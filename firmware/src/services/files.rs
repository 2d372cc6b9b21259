//! Files of daemons: written whole or not at all, and the way back to what was there before.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ServiceError;
use crate::atomic;
use crate::compile::services::File;

/// Makes a directory, and those above it that are missing.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), ServiceError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| ServiceError::io(path, error))
}

/// Replaces a file as a whole: see [`atomic::write`].
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ServiceError> {
    atomic::write(path, bytes, mode).map_err(|error| ServiceError::io(path, error))
}

/// Content and permission bits of a file.
type Held = (Vec<u8>, u32);

/// What files held before they were replaced. Dropped without [`Replaced::undo`], the new ones stay.
#[derive(Debug, Default)]
pub struct Replaced {
    root: PathBuf,
    /// Path below the root, and what it held; `None` = it was not there.
    before: Vec<(PathBuf, Option<Held>)>,
}

impl Replaced {
    /// The files that differ from what was there.
    pub fn changed(&self) -> Vec<PathBuf> {
        self.before.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Puts back what was there.
    pub fn undo(&self) -> Result<(), ServiceError> {
        for (path, before) in self.before.iter().rev() {
            let path = self.root.join(path);
            match before {
                Some((bytes, mode)) => write(&path, bytes, *mode)?,
                None => match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(ServiceError::io(&path, error));
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

/// Writes those files below `root` that differ from what is there, all or none, and removes those of `gone`.
pub fn replace(root: &Path, files: &[File], gone: &[PathBuf]) -> Result<Replaced, ServiceError> {
    let mut replaced = Replaced { root: root.to_owned(), before: Vec::new() };
    let outcome = replace_into(&mut replaced, files, gone);
    if outcome.is_err() {
        replaced.undo()?;
    }
    outcome.map(|()| replaced)
}

fn replace_into(replaced: &mut Replaced, files: &[File], gone: &[PathBuf]) -> Result<(), ServiceError> {
    let wanted = files.iter().map(|file| (&file.path, Some(file)));
    for (name, file) in wanted.chain(gone.iter().map(|name| (name, None))) {
        let path = replaced.root.join(name);
        let before = match present(&path) {
            Ok(before) => before,
            Err(error) => return Err(ServiceError::io(&path, error)),
        };
        let same = match (&before, file) {
            (Some((bytes, mode)), Some(file)) => *bytes == file.bytes && *mode == file.mode,
            (None, None) => true,
            _ => false,
        };
        if same {
            continue;
        }
        match file {
            Some(file) => write(&path, &file.bytes, file.mode)?,
            None => fs::remove_file(&path).map_err(|error| ServiceError::io(&path, error))?,
        }
        replaced.before.push((name.clone(), before));
    }
    Ok(())
}

/// Writes those files that are not there yet.
pub fn seed(root: &Path, files: &[File]) -> Result<(), ServiceError> {
    files
        .iter()
        .filter(|file| !root.join(&file.path).exists())
        .try_for_each(|file| write(&root.join(&file.path), &file.bytes, file.mode))
}

fn present(path: &Path) -> io::Result<Option<Held>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some((bytes, fs::metadata(path)?.permissions().mode() & 0o7777))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_all_of_it_can_be_undone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let first = [File::new("a.toml", "a = 1\n"), File::new("zones/b.zone", "b")];
        assert_eq!(replace(root, &first, &[]).unwrap().changed().len(), 2);
        assert!(replace(root, &first, &[]).unwrap().changed().is_empty());
        let second = [File::new("a.toml", "a = 2\n"), File::new("zones/c.zone", "c")];
        let replaced = replace(root, &second, &["zones/b.zone".into()]).unwrap();
        let names: Vec<_> = replaced.changed().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["a.toml", "zones/c.zone", "zones/b.zone"]);
        replaced.undo().unwrap();
        assert_eq!(fs::read_to_string(root.join("a.toml")).unwrap(), "a = 1\n");
        assert_eq!(fs::read_to_string(root.join("zones/b.zone")).unwrap(), "b");
        assert!(!root.join("zones/c.zone").exists());
        assert_eq!(fs::metadata(root.join("a.toml")).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_cannot_be_written_leaves_all_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        replace(root, &[File::new("a.toml", "a = 1\n")], &[]).unwrap();
        fs::create_dir(root.join("b.toml")).unwrap();
        let error = replace(root, &[File::new("a.toml", "a = 2\n"), File::new("b.toml", "b")], &[]);
        assert!(error.unwrap_err().to_string().contains("b.toml"));
        assert_eq!(fs::read_to_string(root.join("a.toml")).unwrap(), "a = 1\n");
        assert_eq!(fs::read_dir(root).unwrap().count(), 2);
    }
}
