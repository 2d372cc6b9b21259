//! Reading an update package, `aifw-update-VERSION-ARCH.tar.xz`, as a stream: one top directory with
//! `manifest.json`, `manifest.sig` and `slot.img`, in this order and nothing else. The signature is checked before
//! the first byte of the image is looked at; sizes and numbers of entries are limited before and while they are
//! read, and nothing of the archive ever becomes a path of this machine.

use std::io::{self, BufRead, Read};

use ring::digest::{Context, SHA256};

use super::manifest::{Keys, Manifest, Policy, Refused};

/// Memory that the decompressor may use: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 * 1024 * 1024;
const LARGEST_MANIFEST: u64 = 64 * 1024;
const SIGNATURE: u64 = 64;
/// Beside the image: headers, manifest, signature, padding.
const OVERHEAD: u64 = 256 * 1024;
const MOST_ENTRIES: usize = 4;
/// The image is handed on in pieces of so many bytes; the last may be smaller.
pub const PIECE: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("not an AiFw update package: {0}")]
    Form(String),
    #[error("the package is refused: {0}")]
    Refused(#[from] Refused),
    #[error("the package is cut off or damaged: {0}")]
    Damaged(io::Error),
    #[error("the image in the package is not the one that was signed (SHA-256 differs)")]
    Hash,
    #[error("{0}")]
    Sink(#[source] io::Error),
}

/// Takes what is in a package.
pub trait Sink {
    /// The manifest has been found good.
    fn begin(&mut self, manifest: &Manifest) -> io::Result<()>;
    /// The next piece of the image.
    fn write(&mut self, piece: &[u8]) -> io::Result<()>;
}

/// Takes a package to check it.
pub struct Check<'a> {
    /// Bytes of the image read so far, and all of them.
    pub progress: &'a dyn Fn(u64, u64),
    done: u64,
    size: u64,
}

impl<'a> Check<'a> {
    pub fn new(progress: &'a dyn Fn(u64, u64)) -> Self {
        Self { progress, done: 0, size: 0 }
    }
}

impl Sink for Check<'_> {
    fn begin(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.size = manifest.slot.size;
        Ok(())
    }
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.done += piece.len() as u64;
        (self.progress)(self.done, self.size);
        Ok(())
    }
}

/// Reads a package to its end. `sink` has had all of the image when this is `Ok`; before, it has had bytes that
/// nobody vouches for.
pub fn read(
    source: impl BufRead,
    keys: &Keys,
    policy: &Policy,
    sink: &mut dyn Sink,
) -> Result<Manifest, PackageError> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)
        .map_err(|error| PackageError::Damaged(error.into()))?;
    let decoder = liblzma::bufread::XzDecoder::new_stream(source, stream);
    let mut limited = Limited { inner: decoder, left: OVERHEAD + policy.capacity };
    let manifest = entries(&mut limited, keys, policy, sink)?;
    // What is left is padding; the end of the xz stream vouches for the whole.
    let mut rest = [0; 8192];
    loop {
        match limited.read(&mut rest).map_err(damaged)? {
            0 => break,
            count if rest[..count].iter().all(|byte| *byte == 0) => {}
            _ => return Err(form("bytes follow the end of the archive")),
        }
    }
    match limited.inner.into_inner().read(&mut rest[..1]) {
        Ok(0) => Ok(manifest),
        Ok(_) => Err(form("bytes follow the end of the compressed archive")),
        Err(error) => Err(PackageError::Damaged(error)),
    }
}

fn form(what: impl Into<String>) -> PackageError {
    PackageError::Form(what.into())
}

/// A file that is no xz at all is another fault than one that breaks off.
fn damaged(error: io::Error) -> PackageError {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => PackageError::Form(error.to_string()),
        _ if error.to_string().contains("format") => {
            PackageError::Form("it is not compressed with xz".into())
        }
        _ => PackageError::Damaged(error),
    }
}

fn entries(
    stream: &mut dyn Read,
    keys: &Keys,
    policy: &Policy,
    sink: &mut dyn Sink,
) -> Result<Manifest, PackageError> {
    let mut archive = tar::Archive::new(stream);
    let mut top = String::new();
    let mut wanted = ["manifest.json", "manifest.sig", "slot.img"].into_iter();
    let (mut text, mut manifest): (Vec<u8>, Option<Manifest>) = (Vec::new(), None);
    let mut whole = false;
    // Raw: long names, sparse files and the like are entries of their own kind, which are refused.
    for (number, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if number >= MOST_ENTRIES {
            return Err(form(format!("it has more than {MOST_ENTRIES} entries")));
        }
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| form("the name of an entry is no text"))?;
        let kind = entry.header().entry_type();
        let folder = check_name(&name, &mut top)?;
        match kind {
            tar::EntryType::Directory if number == 0 && folder.is_empty() => continue,
            tar::EntryType::Regular => {}
            _ => return Err(form(format!("{name:?} is no regular file"))),
        }
        let expected = wanted.next().ok_or_else(|| form(format!("{name:?} has no place in it")))?;
        if folder != expected {
            return Err(form(format!("expected {expected}, found {name:?}")));
        }
        match expected {
            "manifest.json" => text = small(&mut entry, expected, 1..=LARGEST_MANIFEST)?,
            "manifest.sig" => {
                let signature = small(&mut entry, expected, SIGNATURE..=SIGNATURE)?;
                let read = keys.read(&text, &signature)?;
                policy.check(&read)?;
                if top != read.top() {
                    return Err(form(format!(
                        "its directory is {top:?}, its manifest says {:?}",
                        read.top()
                    )));
                }
                sink.begin(&read).map_err(PackageError::Sink)?;
                manifest = Some(read);
            }
            _ => {
                let signed = manifest.as_ref().ok_or_else(|| form("it has no manifest"))?;
                if entry.size() != signed.slot.size {
                    return Err(form(format!(
                        "its image has {} bytes, its manifest says {}",
                        entry.size(),
                        signed.slot.size
                    )));
                }
                copy_image(&mut entry, signed, sink)?;
                whole = true;
            }
        }
    }
    match (manifest, wanted.next()) {
        (Some(manifest), None) if whole => Ok(manifest),
        (_, missing) => Err(form(format!("it has no {}", missing.unwrap_or("entries")))),
    }
}

/// The name below the top directory, which all entries share. `top` is empty before the first.
fn check_name<'a>(name: &'a str, top: &mut String) -> Result<&'a str, PackageError> {
    let outside = || form(format!("{name:?} does not lie in its directory"));
    let bad = |part: &str| part == ".." || part == "." || part.contains('\0') || part.contains('\\');
    if name.starts_with('/') || name.split('/').any(bad) {
        return Err(outside());
    }
    let (folder, rest) = name.split_once('/').ok_or_else(outside)?;
    if rest.contains('/') {
        return Err(form(format!("{name:?} has no place in it")));
    }
    if top.is_empty() {
        if !folder.starts_with("aifw-update-") {
            return Err(form(format!("its directory is {folder:?}, expected aifw-update-VERSION-ARCH")));
        }
        *top = folder.to_owned();
    }
    if top == folder { Ok(rest) } else { Err(outside()) }
}

/// A small entry as a whole.
fn small(
    entry: &mut impl Read,
    name: &str,
    sizes: std::ops::RangeInclusive<u64>,
) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::new();
    entry.take(sizes.end() + 1).read_to_end(&mut bytes).map_err(damaged)?;
    match sizes.contains(&(bytes.len() as u64)) {
        true => Ok(bytes),
        false => Err(form(format!("{name}: expected {} to {} bytes", sizes.start(), sizes.end()))),
    }
}

fn copy_image(entry: &mut impl Read, manifest: &Manifest, sink: &mut dyn Sink) -> Result<(), PackageError> {
    let mut hash = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    let mut left = manifest.slot.size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        entry.read_exact(&mut piece[..length]).map_err(damaged)?;
        hash.update(&piece[..length]);
        sink.write(&piece[..length]).map_err(PackageError::Sink)?;
        left -= length as u64;
    }
    match data_encoding::HEXLOWER.encode(hash.finish().as_ref()) == manifest.slot.sha256.to_ascii_lowercase()
    {
        true => Ok(()),
        false => Err(PackageError::Hash),
    }
}

/// A stream that may become so long and no longer, whatever it was compressed to.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "it unpacks to more than a slot can hold")
        })?;
        Ok(count)
    }
}
