//! Where the updater keeps what must outlive a boot: a few files of the data partition, each replaced as a whole.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::atomic;

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

impl Place for Directory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        atomic::write(&self.0.join(name), bytes, 0o600)
    }
    fn copy(&self, from: &str, to: &str) -> io::Result<bool> {
        match atomic::copy(&self.0.join(from), &self.0.join(to), 0o600) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }
}
