//! What programs are linked against: the start files and archives in /usr/lib of FreeBSD's base.txz, unpacked once for
//! each base.txz.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::progress;
use crate::sets::SetError;
use crate::sets::archive::{self, Member};
use crate::tool::{Error, file};

/// Without these nothing can be linked.
const REQUIRED: [&str; 5] = ["crt1.o", "crti.o", "crtbeginT.o", "libc.a", "libgcc_eh.a"];

/// The sysroot that belongs to a base.txz.
pub fn of(base: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let hash = progress::sha256(base)?;
    let sysroot = folder.join(format!("sysroot-{}", &hash[..16]));
    if !sysroot.is_dir() {
        // Moved into place as a whole, so that an interrupted unpacking is not taken for a finished one.
        let partial = folder.join("sysroot-partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(file(&partial))?;
        }
        unpack(base, &partial)?;
        fs::rename(&partial, &sysroot).map_err(file(&sysroot))?;
    }
    let missing = REQUIRED.into_iter().find(|name| !sysroot.join("usr/lib").join(name).is_file());
    match missing {
        Some(name) => Err(Error::NoToolchain(format!("{} has no /usr/lib/{name}", base.display()))),
        None => Ok(sysroot),
    }
}

fn unpack(base: &Path, sysroot: &Path) -> Result<(), Error> {
    let failed = |source| SetError::Archive { path: base.to_owned(), source };
    let libraries = sysroot.join("usr/lib");
    fs::create_dir_all(&libraries).map_err(file(&libraries))?;
    let bar = progress::bar(base, "libraries to link with")?;
    archive::each(archive::open(base, progress::to(&bar)).map_err(failed)?, |header, bytes| {
        let Some(name) = header.path.strip_prefix("usr/lib/") else { return Ok(()) };
        if name.contains('/') || !(name.ends_with(".a") || name.ends_with(".o")) {
            return Ok(());
        }
        let path = libraries.join(name);
        match header.member {
            Member::File => {
                let mut out = fs::File::create(&path)?;
                io::copy(bytes, &mut out)?;
                out.flush()
            }
            Member::Link(target) if !target.contains('/') => symlink(target, &path),
            Member::HardLink(target) => {
                match target.strip_prefix("usr/lib/").filter(|name| !name.contains('/')) {
                    Some(first) => fs::hard_link(libraries.join(first), &path),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    })
    .map_err(failed)?;
    bar.finish_and_clear();
    Ok(())
}
