//! Archives as FreeBSD publishes them: tar(5), plain or compressed with xz or zstd. Sets are the former, packages
//! (pkg-create(8)) either.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use liblzma::read::XzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// What an entry of an archive is; others (devices, FIFOs) are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    Directory,
    File,
    /// A further name of a file that came before.
    HardLink(String),
    Link(String),
}

/// The header of an entry.
#[derive(Debug, Clone)]
pub struct Header {
    /// Relative to the root, without a leading slash.
    pub path: String,
    pub member: Member,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub time: u64,
    pub size: u64,
}

/// Opens an archive of any of these forms; `watch` learns how many bytes of the file have been read.
pub fn open(path: &Path, watch: impl Fn(u64) + 'static) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let reader = BufReader::with_capacity(128 * 1024, Watched { file, read: 0, watch });
    if magic.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        return Ok(Box::new(XzDecoder::new_multi_decoder(reader)));
    }
    if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = StreamingDecoder::new(reader).map_err(io::Error::other)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

struct Watched<F> {
    file: File,
    read: u64,
    watch: F,
}

impl<F: Fn(u64)> Read for Watched<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        (self.watch)(self.read);
        Ok(count)
    }
}

/// Goes through an archive's entries.
pub fn each<E: From<io::Error>>(
    archive: Box<dyn Read>,
    mut found: impl FnMut(Header, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if let Some(header) = header(&entry)? {
            found(header, &mut entry)?;
        }
    }
    Ok(())
}

/// `None` for the root itself.
fn header(entry: &tar::Entry<'_, Box<dyn Read>>) -> io::Result<Option<Header>> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let path = relative(&name)?;
    if path.is_empty() {
        return Ok(None);
    }
    let target = || entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let kind = entry.header().entry_type();
    let member = match kind {
        tar::EntryType::Directory => Member::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => Member::File,
        tar::EntryType::Link => Member::HardLink(relative(&target().unwrap_or_default())?),
        tar::EntryType::Symlink => Member::Link(target().unwrap_or_default()),
        other => return Err(io::Error::other(format!("{name}: no file, directory or link but {other:?}"))),
    };
    let number =
        |value: u64| u32::try_from(value).map_err(|_| io::Error::other(format!("{name}: bad owner")));
    Ok(Some(Header {
        path,
        member,
        mode: entry.header().mode()? & 0o7777,
        uid: number(entry.header().uid()?)?,
        gid: number(entry.header().gid()?)?,
        time: entry.header().mtime()?,
        size: entry.size(),
    }))
}

/// A path within the root; one that leads out of it is refused.
fn relative(name: &str) -> io::Result<String> {
    let names: Vec<&str> = name.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        return Err(io::Error::other(format!("{name}: leads out of the archive")));
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_relative_to_the_root_and_stay_in_it() {
        assert_eq!(relative("./bin/sh").unwrap(), "bin/sh");
        assert_eq!(relative("/usr/local/bin/").unwrap(), "usr/local/bin");
        assert_eq!(relative("./").unwrap(), "");
        assert!(relative("a/../../etc/passwd").is_err());
    }
}
