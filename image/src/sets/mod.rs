//! FreeBSD's distribution sets: found in a directory or downloaded, checked against MANIFEST, and read into a tree
//! as far as the list of what is kept says. `slot` calls this.

pub mod archive;
mod download;
mod manifest;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub use download::{DownloadError, cache, fetch};
pub use rules::{Rules, Verdict};

use self::archive::Member;
use crate::progress;
use crate::tool::{Error, file};
use crate::tree::{Entry, Kind, Tree};

/// Why sets are not used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("{directory}: neither {name}.txz nor {name}.tar is there")]
    Missing { directory: PathBuf, name: &'static str },
    #[error("{path}: its SHA-256 is {found}, but MANIFEST has {expected}: a broken or different download")]
    Hash { path: PathBuf, found: String, expected: String },
    #[error("{path}: MANIFEST has no line for {name}")]
    NotListed { path: PathBuf, name: String },
    #[error("{path}: {source}")]
    Archive { path: PathBuf, source: io::Error },
    #[error("image/base.toml: {0}")]
    Rules(#[from] toml::de::Error),
    #[error("{path} is a hard link of {target}, which did not come before it")]
    Dangling { path: String, target: String },
}

impl From<SetError> for Error {
    fn from(error: SetError) -> Self {
        Self::Sets(Box::new(error))
    }
}

/// The two sets that a slot is made of.
#[derive(Debug)]
pub struct Sets {
    pub base: PathBuf,
    pub kernel: PathBuf,
}

/// Both sets in a directory, checked against the MANIFEST beside them if there is one.
pub fn in_directory(directory: &Path) -> Result<Sets, Error> {
    let find = |name: &'static str| {
        let candidates = [format!("{name}.txz"), format!("{name}.tar")].map(|name| directory.join(name));
        let found = candidates.into_iter().find(|path| path.is_file());
        found.ok_or_else(|| SetError::Missing { directory: directory.to_owned(), name })
    };
    let sets = Sets { base: find("base")?, kernel: find("kernel")? };
    let list = directory.join("MANIFEST");
    if !list.is_file() {
        eprintln!("{}: no MANIFEST; the sets are taken as they are", directory.display());
        return Ok(sets);
    }
    let text = std::fs::read_to_string(&list).map_err(file(&list))?;
    for path in [&sets.base, &sets.kernel] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(expected) = manifest::hash_of(&text, &name) else {
            return Err(SetError::NotListed { path: list, name }.into());
        };
        let found = progress::sha256(path)?;
        if found != expected {
            return Err(SetError::Hash { path: path.clone(), found, expected }.into());
        }
    }
    Ok(sets)
}

/// Both sets of a release, from its directory on a mirror; kept in the user's cache.
pub fn from_mirror(url: &str) -> Result<Sets, Error> {
    let directory = cache(url)?;
    let list = fetch(url, "MANIFEST", &directory, None)?;
    let text = std::fs::read_to_string(&list).map_err(file(&list))?;
    let get = |name: &str| {
        let expected = manifest::hash_of(&text, name)
            .ok_or_else(|| SetError::NotListed { path: list.clone(), name: name.to_owned() })?;
        fetch(url, name, &directory, Some(&expected))
    };
    Ok(Sets { base: get("base.txz")?, kernel: get("kernel.txz")? })
}

/// What of a package the appliance has no use for.
const PACKAGE_EXTRAS: [&str; 8] = [
    "usr/local/include/",
    "usr/local/libdata/pkgconfig/",
    "usr/local/man/",
    "usr/local/share/doc/",
    "usr/local/share/examples/",
    "usr/local/share/licenses/",
    "usr/local/share/locale/",
    "usr/local/share/man/",
];

/// Reads a FreeBSD package (pkg-create(8)) into a tree: what it has below /usr/local, without manuals and headers.
/// Its metadata (names that begin with `+`) is left out; a `.sample` is put in force, as pkg(8) does.
pub fn read_package(package: &Path, tree: &mut Tree) -> Result<(), Error> {
    let failed = |source| SetError::Archive { path: package.to_owned(), source };
    let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bar = progress::bar(package, &name)?;
    let mut contents: BTreeMap<String, Kind> = BTreeMap::new();
    archive::each(archive::open(package, progress::to(&bar)).map_err(failed)?, |header, bytes| {
        let archive::Header { path, member, mode, uid, gid, time, .. } = header;
        let is_extra = |path: &str| {
            PACKAGE_EXTRAS.iter().any(|extra| path.starts_with(extra))
                || path.ends_with(".a")
                || path.ends_with(".la")
        };
        if !path.starts_with("usr/local/") || is_extra(&path) {
            return Ok(());
        }
        let kind = match member {
            Member::File => tree.store(bytes)?,
            Member::Directory => Kind::Directory,
            Member::Link(target) => Kind::Link(target),
            Member::HardLink(target) => match contents.get(&target) {
                Some(kind) => kind.clone(),
                None => return Err(SetError::Dangling { path, target }.into()),
            },
        };
        contents.insert(path.clone(), kind.clone());
        let entry = Entry { kind, mode, uid, gid, time };
        if let Some(in_force) = path.strip_suffix(".sample") {
            tree.put(in_force, entry.clone());
        }
        tree.put(&path, entry);
        Ok::<_, Error>(())
    })
    .map_err(|error| match error {
        Error::Unnamed(source) => failed(source).into(),
        other => other,
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// What was kept and what was not: bytes by reason.
#[derive(Debug, Default)]
pub struct Report {
    pub kept: BTreeMap<String, u64>,
    pub dropped: BTreeMap<String, u64>,
    /// Libraries that are there only if something needs them.
    pub optional: BTreeSet<String>,
    /// The newest time in the sets, seconds since 1970.
    pub newest: u64,
}

/// Reads what the rules keep of a set into a tree. Goes through the archive twice: a file may be left out under
/// its first name and kept under a second.
pub fn read(set: &Path, rules: &Rules, tree: &mut Tree, report: &mut Report) -> Result<(), Error> {
    let failed = |source| SetError::Archive { path: set.to_owned(), source };
    let name = set.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut wanted = BTreeSet::new();
    let bar = progress::bar(set, &format!("{name}: looking"))?;
    archive::each(archive::open(set, progress::to(&bar)).map_err(failed)?, |header, _| {
        if let Member::HardLink(target) = header.member
            && rules.judge(&header.path).0 != Verdict::Drop
        {
            wanted.insert(target);
        }
        Ok::<_, io::Error>(())
    })
    .map_err(failed)?;
    bar.finish_and_clear();
    let bar = progress::bar(set, &format!("{name}: reading"))?;
    let mut contents: BTreeMap<String, Kind> = BTreeMap::new();
    archive::each(archive::open(set, progress::to(&bar)).map_err(failed)?, |header, bytes| {
        let archive::Header { path, member, mode, uid, gid, time, size } = header;
        let (verdict, reason) = rules.judge(&path);
        let sum = if verdict == Verdict::Drop { &mut report.dropped } else { &mut report.kept };
        *sum.entry(reason.to_owned()).or_default() += size;
        report.newest = report.newest.max(time);
        let kind = match member {
            Member::File if verdict != Verdict::Drop || wanted.contains(&path) => {
                let kind = tree.store(bytes)?;
                if wanted.contains(&path) {
                    contents.insert(path.clone(), kind.clone());
                }
                kind
            }
            _ if verdict == Verdict::Drop => return Ok(()),
            Member::HardLink(target) => match contents.get(&target) {
                Some(kind) => kind.clone(),
                None => return Err(SetError::Dangling { path, target }.into()),
            },
            Member::Link(target) => Kind::Link(target),
            Member::Directory | Member::File => Kind::Directory,
        };
        if verdict == Verdict::Drop {
            return Ok(());
        }
        if verdict == Verdict::IfNeeded && kind != Kind::Directory {
            report.optional.insert(path.clone());
        }
        tree.put(&path, Entry { kind, mode, uid, gid, time });
        Ok::<_, Error>(())
    })
    .map_err(|error| match error {
        // What the archive itself could not give.
        Error::Unnamed(source) => failed(source).into(),
        other => other,
    })?;
    bar.finish_and_clear();
    Ok(())
}
