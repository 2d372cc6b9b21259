//! The update package as a file: written with fixed times and owners, so that the same image gives the same bytes;
//! read as a stream, with nothing of it becoming a path of this machine.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use liblzma::write::XzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use super::{Manifest, PublicKeys, ReleaseError, SigningKey};
use crate::progress;
use crate::sets::archive;
use crate::tool::{Error, file};

/// xz(1)'s default: its decompressor needs 9 MiB of memory, which the smallest appliance has.
const LEVEL: u32 = 6;

/// The name of a version's package.
pub fn name(version: &str) -> String {
    format!("{}.tar.xz", directory(version))
}

fn directory(version: &str) -> String {
    format!("aifw-update-{version}-amd64")
}

/// Whether a file's name is a package's.
pub fn is_package(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".tar.xz"))
}

/// Writes a package and the file with its hash beside it; answers that hash.
pub fn write(path: &Path, manifest: &Manifest, key: &SigningKey, slot: &Path) -> Result<String, Error> {
    let partial = path.with_extension("partial");
    let out = BufWriter::new(File::create(&partial).map_err(file(&partial))?);
    let mut archive = Builder::new(XzEncoder::new(out, LEVEL));
    let directory = directory(&manifest.version);
    let json = manifest.to_json()?;
    let signature = key.sign(&json);
    let failed = |source| Error::File { path: partial.clone(), source };
    archive.append(&header(&format!("{directory}/"), EntryType::Directory, 0)?, &[][..]).map_err(failed)?;
    for (name, bytes) in [("manifest.json", &json), ("manifest.sig", &signature)] {
        let header = header(&format!("{directory}/{name}"), EntryType::Regular, bytes.len() as u64)?;
        archive.append(&header, bytes.as_slice()).map_err(failed)?;
    }
    let bar = progress::bytes(Some(manifest.slot.size), "compressing");
    let image = File::open(slot).map_err(file(slot))?;
    let header = header(&format!("{directory}/slot.img"), EntryType::Regular, manifest.slot.size)?;
    archive.append(&header, bar.wrap_read(image.take(manifest.slot.size))).map_err(failed)?;
    let encoder = archive.into_inner().map_err(failed)?;
    encoder.finish().and_then(|mut out| out.flush()).map_err(failed)?;
    bar.finish_and_clear();
    let hash = progress::sha256(&partial)?;
    let beside = beside(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::write(&beside, format!("SHA256 ({name}) = {hash}\n")).map_err(file(&beside))?;
    fs::rename(&partial, path).map_err(file(path))?;
    Ok(hash)
}

fn header(path: &str, kind: EntryType, size: u64) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// What a package was found to hold.
#[derive(Debug)]
pub struct Contents {
    pub manifest: Manifest,
    /// Whether one of the keys made the signature; `None` = no keys were given.
    pub signed: Option<bool>,
}

/// Reads a package whole: its form, the signature, the image's size and hash, and the hash in the file beside it if
/// there is one.
pub fn read(path: &Path, keys: Option<&PublicKeys>) -> Result<Contents, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let form = |what: &str| Error::from(ReleaseError::Form(what.to_owned()));
    let bar = progress::bar(path, "reading")?;
    let mut archive = Archive::new(archive::open(path, progress::to(&bar)).map_err(failed)?);
    let mut entries = archive.entries().map_err(failed)?;
    let mut next = |kind: EntryType, name: &str| {
        let entry = entries.next().ok_or_else(|| form(&format!("it ends before {name}")))?.map_err(failed)?;
        let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != kind || !found.ends_with(name) || found.matches('/').count() != 1 {
            return Err(form(&format!("{found} is in the place of {name}")));
        }
        Ok((found, entry))
    };
    let (top, _) = next(EntryType::Directory, "/")?;
    let mut small = |name: &str| {
        let (found, entry) = next(EntryType::Regular, name)?;
        let mut bytes = Vec::new();
        entry.take(64 * 1024).read_to_end(&mut bytes).map_err(failed)?;
        if found != format!("{top}{name}") {
            return Err(form(&format!("{found} is not in {top}")));
        }
        Ok(bytes)
    };
    let json = small("manifest.json")?;
    let signature = small("manifest.sig")?;
    if signature.len() != 64 {
        return Err(form("manifest.sig: expected 64 bytes"));
    }
    let manifest = Manifest::parse(&json)?;
    if top != format!("{}/", directory(&manifest.version)) {
        return Err(form(&format!("its directory is {top}, its version {}", manifest.version)));
    }
    let (_, mut image) = next(EntryType::Regular, "slot.img")?;
    if image.size() != manifest.slot.size {
        let told = format!("{} bytes, not {}", image.size(), manifest.slot.size);
        return Err(ReleaseError::Slot(told).into());
    }
    let found = progress::hash(&mut image, &|_| {}).map_err(failed)?;
    if found != manifest.slot.sha256 {
        return Err(ReleaseError::Slot(format!("its SHA-256 is {found}")).into());
    }
    if entries.next().is_some() {
        return Err(form("something follows slot.img"));
    }
    bar.finish_and_clear();
    check_beside(path)?;
    Ok(Contents { manifest, signed: keys.map(|keys| keys.verify(&json, &signature)) })
}

fn check_beside(path: &Path) -> Result<(), Error> {
    let beside = beside(path);
    let Ok(text) = fs::read_to_string(&beside) else { return Ok(()) };
    let found = progress::sha256(path)?;
    if text.trim_end().ends_with(&format!("= {found}")) {
        return Ok(());
    }
    Err(ReleaseError::Beside { file: beside, found }.into())
}
