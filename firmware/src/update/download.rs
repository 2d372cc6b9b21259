//! Getting a release's package onto the data partition: with progress, gone on with after a break (in this run or a
//! later one), compared with its checksum. What it holds is judged by [`super::package`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::release::{self, USER_AGENT};
use crate::atomic;
use crate::platform::fetch::{self, FetchError, Fetched, Limits, Part, Patience, Validators};
use crate::platform::usage;

const PATIENCE: Patience = Patience { connect: Duration::from_secs(10), idle: Duration::from_secs(60) };
const SIDE_FILE: Limits = Limits { bytes: 64 * 1024, time: Duration::from_secs(60), inside_allowed: true };
/// Breaks in which nothing at all arrived, one after the other, before it is given up.
const MOST_BREAKS: u32 = 3;
/// Left free on the data partition.
const RESERVE: u64 = 16 * 1024 * 1024;
const BUFFER: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url}: {size} bytes, more than a package can have ({most})")]
    TooLarge { url: String, size: u64, most: u64 },
    #[error("{url}: expected a SHA-256 checksum")]
    NoChecksum { url: String },
    #[error("checksum mismatch: {url} has SHA-256 {found}, its checksum file says {expected}")]
    Checksum { url: String, found: String, expected: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("the data partition has {free} bytes left, {needed} are needed")]
    Full { free: u64, needed: u64 },
    #[error("cancelled")]
    Cancelled,
}

/// What a part of a file is a part of.
#[derive(Serialize, Deserialize, PartialEq)]
struct Origin {
    url: String,
    etag: String,
}

/// Where packages are kept while they are checked. Nobody else may look in.
pub fn folder(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = state_dir.join("update/packages");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Whether the file system of `folder` takes so many bytes more.
pub fn check_room(folder: &Path, needed: u64) -> Result<(), DownloadError> {
    match usage::available(folder) {
        Some(free) if free < needed.saturating_add(RESERVE) => Err(DownloadError::Full { free, needed }),
        _ => Ok(()),
    }
}

/// The checksum that a side file holds.
pub fn checksum(url: &str) -> Result<String, DownloadError> {
    let Fetched::Document { body, .. } = fetch::fetch_as(USER_AGENT, url, &Validators::default(), SIDE_FILE)?
    else {
        return Err(DownloadError::NoChecksum { url: url.into() });
    };
    release::checksum(&String::from_utf8_lossy(&body))
        .ok_or_else(|| DownloadError::NoChecksum { url: url.into() })
}

/// Gets `url` into `path`, unless it lies there complete already, and compares its SHA-256. `progress` is told bytes
/// had and, if known, of how many; it ends the download by saying `false`. What was had of it stays for the next time.
pub fn get(
    url: &str,
    path: &Path,
    sha256: &str,
    most: u64,
    progress: &mut dyn FnMut(u64, Option<u64>) -> bool,
) -> Result<(), DownloadError> {
    let io_error = |path: &Path| {
        let path = path.display().to_string();
        move |source| DownloadError::Io { path, source }
    };
    if path.exists() {
        if hash(path).map_err(io_error(path))? == sha256 {
            return Ok(());
        }
        fs::remove_file(path).map_err(io_error(path))?;
    }
    let (part, note) = (path.with_extension("part"), path.with_extension("origin"));
    let mut breaks = 0;
    loop {
        let before = fs::metadata(&part).map_or(0, |known| known.len());
        match go_on(url, &part, &note, most, progress) {
            Ok(()) => break,
            Err(DownloadError::Fetch(error @ FetchError::Failed { .. })) => {
                let after = fs::metadata(&part).map_or(0, |known| known.len());
                breaks = if after > before { 0 } else { breaks + 1 };
                if breaks >= MOST_BREAKS {
                    return Err(error.into());
                }
                log::warn!("{error}; going on at {after} bytes");
            }
            Err(error) => return Err(error),
        }
    }
    let found = hash(&part).map_err(io_error(&part))?;
    if found != sha256 {
        fs::remove_file(&part).ok();
        fs::remove_file(&note).ok();
        return Err(DownloadError::Checksum { url: url.into(), found, expected: sha256.into() });
    }
    fs::rename(&part, path).map_err(io_error(path))?;
    fs::remove_file(&note).ok();
    Ok(())
}

/// One request, to its end or its break.
fn go_on(
    url: &str,
    part: &Path,
    note: &Path,
    most: u64,
    progress: &mut dyn FnMut(u64, Option<u64>) -> bool,
) -> Result<(), DownloadError> {
    let io_error = |source| DownloadError::Io { path: part.display().to_string(), source };
    let origin: Option<Origin> = fs::read(note).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let bytes = fs::metadata(part).map_or(0, |known| known.len());
    let origin = origin.filter(|origin| origin.url == url && bytes > 0);
    let had = origin.as_ref().map(|origin| Part { bytes, etag: &origin.etag });
    let mut stream = match fetch::stream(USER_AGENT, url, had, PATIENCE, true) {
        // All of it was there, or it has become shorter: anew.
        Err(FetchError::Status { status: 416, .. }) => fetch::stream(USER_AGENT, url, None, PATIENCE, true)?,
        other => other?,
    };
    let mut done = stream.from;
    if let Some(size) = stream.total {
        if size > most {
            return Err(DownloadError::TooLarge { url: url.into(), size, most });
        }
        check_room(part.parent().unwrap_or(part), size - done.min(size))?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    let mut file = match done {
        0 => options.truncate(true).open(part),
        _ => options.append(true).open(part),
    }
    .map_err(io_error)?;
    if done == 0 {
        match &stream.etag {
            Some(etag) => {
                let origin = Origin { url: url.into(), etag: etag.clone() };
                let text = serde_json::to_vec(&origin).unwrap_or_default();
                atomic::write(note, &text, 0o600).map_err(io_error)?;
            }
            None => drop(fs::remove_file(note)),
        }
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        if !progress(done, stream.total) {
            return Err(DownloadError::Cancelled);
        }
        let broken = |reason: String| FetchError::Failed { url: url.to_owned(), reason };
        let count = stream.body.read(&mut buffer).map_err(|error| broken(error.to_string()))?;
        if count == 0 {
            if stream.total.is_some_and(|total| done < total) {
                return Err(broken("the connection ended in the middle".into()).into());
            }
            return file.sync_all().map_err(io_error);
        }
        done += count as u64;
        if done > most {
            return Err(DownloadError::TooLarge { url: url.into(), size: done, most });
        }
        file.write_all(&buffer[..count]).map_err(io_error)?;
    }
}

/// Lower-case hexadecimal SHA-256 of a file.
pub fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(data_encoding::HEXLOWER.encode(context.finish().as_ref())),
            count => context.update(&buffer[..count]),
        }
    }
}

/// Removes what earlier downloads and uploads have left, but not what can be gone on with (`keep`).
pub fn tidy(folder: &Path, keep: Option<&str>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let wanted = keep.is_some_and(|keep| name.to_string_lossy().starts_with(keep));
        if !wanted {
            fs::remove_file(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_full_data_partition_is_seen_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_room(dir.path(), 1).is_ok());
        assert!(matches!(check_room(dir.path(), u64::MAX / 2), Err(DownloadError::Full { .. })));
        // What is left of an earlier attempt goes, but for what can be gone on with.
        let folder = folder(dir.path()).unwrap();
        for name in ["upload-1.tar.xz", "aifw-update-1.0.0.tar.part", "aifw-update-0.9.0.tar.part"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        tidy(&folder, Some("aifw-update-1.0.0"));
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["aifw-update-1.0.0.tar.part"]);
    }
}
