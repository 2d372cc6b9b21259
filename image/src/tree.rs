//! The files of a slot before they are a file system: path, mode, owner and contents, gathered from sets, packages,
//! overlay and programs, later ones over earlier ones. Needs no privileges: owners and modes live here, and from here
//! go into the file system. `slot` gathers it, `ufs` writes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::tool::{Error, file};

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Permission bits with set-user-ID, set-group-ID and sticky: 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub time: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// Contents, by their number among the blobs. Two entries of one number are hard links of one file.
    File {
        blob: usize,
        size: u64,
    },
    /// A symbolic link.
    Link(String),
}

/// Paths are relative to the root, without a leading slash; the root itself is not listed.
#[derive(Debug)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
    blobs: PathBuf,
    count: usize,
}

impl Tree {
    /// An empty tree that keeps file contents in a directory.
    pub fn new(blobs: &Path) -> Result<Self, Error> {
        fs::create_dir_all(blobs).map_err(file(blobs))?;
        Ok(Self { entries: BTreeMap::new(), blobs: blobs.to_owned(), count: 0 })
    }

    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Bytes of all files, hard links counted once.
    pub fn size(&self) -> u64 {
        let sizes: BTreeMap<usize, u64> = self.files().collect();
        sizes.values().sum()
    }

    /// Bytes that a UFS1 of such blocks and fragments needs for all this, with a little to spare: makefs(8)'s own
    /// guess is too small for trees with hard links.
    pub fn room(&self, block: u64, fragment: u64) -> u64 {
        const DIRECT: u64 = 12;
        const INODE: u64 = 128;
        let files: BTreeMap<usize, u64> = self.files().collect();
        let mut bytes: u64 = files
            .values()
            .map(|size| match size.div_ceil(block) {
                few if few <= DIRECT => size.next_multiple_of(fragment),
                blocks => (blocks + (blocks - DIRECT).div_ceil(block / 4) + 2) * block,
            })
            .sum();
        // Names in directories, and a fragment for each directory or long link.
        for (path, entry) in &self.entries {
            bytes += 8 + path.rsplit('/').next().unwrap_or(path).len() as u64 + 4 + INODE;
            if !matches!(entry.kind, Kind::File { .. }) {
                bytes += fragment;
            }
        }
        bytes + bytes / 32 + 64 * block
    }

    fn files(&self) -> impl Iterator<Item = (usize, u64)> {
        let file = |entry: &Entry| {
            if let Kind::File { blob, size } = entry.kind { Some((blob, size)) } else { None }
        };
        self.entries.values().filter_map(file)
    }

    /// Stores contents; what comes back goes into an entry.
    pub fn store(&mut self, contents: &mut dyn Read) -> Result<Kind, Error> {
        let blob = self.count;
        let path = self.blob(blob);
        let mut out = File::create(&path).map_err(file(&path))?;
        let size = io::copy(contents, &mut out).map_err(file(&path))?;
        self.count += 1;
        Ok(Kind::File { blob, size })
    }

    /// Puts an entry, in place of what is there; directories above it that are missing are made.
    pub fn put(&mut self, path: &str, entry: Entry) {
        if !matches!(entry.kind, Kind::Directory) {
            self.remove_below(path);
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            let is_directory = self.entries.get(parent).is_some_and(|entry| entry.kind == Kind::Directory);
            if !is_directory {
                let directory =
                    Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, time: entry.time };
                self.entries.insert(parent.to_owned(), directory);
            }
            above = parent;
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// A file of root's with these contents.
    pub fn put_file(&mut self, path: &str, contents: &[u8], mode: u32, time: u64) -> Result<(), Error> {
        let kind = self.store(&mut &contents[..])?;
        self.put(path, Entry { kind, mode, uid: 0, gid: 0, time });
        Ok(())
    }

    /// A directory of root's, if it is not there.
    pub fn put_directory(&mut self, path: &str, mode: u32, time: u64) {
        if self.entries.get(path).is_none_or(|entry| entry.kind != Kind::Directory) {
            self.put(path, Entry { kind: Kind::Directory, mode, uid: 0, gid: 0, time });
        }
    }

    pub fn remove(&mut self, path: &str) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// Removes what is below a directory, not the directory itself.
    pub fn remove_below(&mut self, directory: &str) {
        let prefix = format!("{directory}/");
        self.entries.retain(|path, _| !path.starts_with(&prefix));
    }

    /// Lists a directory and all below it a second time, below another one: files become hard links.
    pub fn mirror(&mut self, from: &str, to: &str) {
        let prefix = format!("{from}/");
        let copies: Vec<_> = self
            .entries
            .iter()
            .filter(|(path, _)| *path == from || path.starts_with(&prefix))
            .map(|(path, entry)| (format!("{to}{}", &path[from.len()..]), entry.clone()))
            .collect();
        for (path, entry) in copies {
            self.put(&path, entry);
        }
    }

    /// The contents of a file.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(Entry { kind: Kind::File { blob, .. }, .. }) = self.entries.get(path) else {
            return Ok(None);
        };
        let path = self.blob(*blob);
        fs::read(&path).map(Some).map_err(file(path))
    }

    /// The first bytes of a file: enough to tell what it is.
    pub fn starts_with(&self, blob: usize, magic: &[u8]) -> Result<bool, Error> {
        let path = self.blob(blob);
        let mut start = Vec::new();
        let opened = File::open(&path).map_err(file(&path))?;
        opened.take(magic.len() as u64).read_to_end(&mut start).map_err(file(&path))?;
        Ok(start == magic)
    }

    /// The contents of a file, by their number.
    pub fn open(&self, blob: usize) -> io::Result<File> {
        File::open(self.blob(blob))
    }

    fn blob(&self, number: usize) -> PathBuf {
        self.blobs.join(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(kind: Kind, mode: u32) -> Entry {
        Entry { kind, mode, uid: 1, gid: 2, time: 50 }
    }

    #[test]
    fn later_entries_replace_earlier_ones_whatever_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(folder.path()).unwrap();
        tree.put_file("a/b/c", b"one", 0o644, 5).unwrap();
        assert_eq!(tree.get("a/b").unwrap().kind, Kind::Directory);
        tree.put("a/b", of(Kind::Link("elsewhere".into()), 0o777));
        assert_eq!(tree.entries().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "a/b"]);
        tree.put_file("a/b/d", b"two", 0o644, 5).unwrap();
        assert_eq!(tree.get("a/b").unwrap().kind, Kind::Directory);
        assert_eq!(tree.read("a/b/d").unwrap().unwrap(), b"two");
    }

    #[test]
    fn a_directory_that_is_listed_twice_shares_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(folder.path()).unwrap();
        tree.put_file("bin/su", b"x", 0o4555, 99).unwrap();
        tree.put("bin/s", of(Kind::Link("su".into()), 0o755));
        tree.mirror("bin", "conf/bin");
        assert_eq!(tree.get("bin/su"), tree.get("conf/bin/su"));
        assert_eq!(tree.get("conf/bin/s").unwrap().kind, Kind::Link("su".into()));
        assert_eq!(tree.size(), 1);
    }
}
