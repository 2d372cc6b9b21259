//! Where the updater keeps what must outlive a boot: a few files of the data partition, each replaced as a whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Files by name, below one directory. What was written is on the disk, whole, when the call returns; a power cut
/// before leaves what was there.
pub trait Place: Send + Sync {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Copies a file; `false` = there is none.
    fn copy(&self, from: &str, to: &str) -> io::Result<bool>;
}

/// A directory of the data partition.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Directory {
    fn commit(&self, new: &Path, path: &Path) -> io::Result<()> {
        File::open(new)?.sync_all()?;
        fs::rename(new, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
    fn prepare(&self, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        use std::os::unix::fs::DirBuilderExt;
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        Ok((path, new.into()))
    }
}

impl Place for Directory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = self.prepare(name)?;
        fs::write(&new, bytes)?;
        self.commit(&new, &path)
    }
    fn copy(&self, from: &str, to: &str) -> io::Result<bool> {
        let (path, new) = self.prepare(to)?;
        // Copies the permissions, too.
        match fs::copy(self.0.join(from), &new) {
            Ok(_) => self.commit(&new, &path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
