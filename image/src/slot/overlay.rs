//! Files of the repository that go into a slot as they are: those below `overlay/` at the root, those below `boot/`
//! in /boot. A file that its owner may execute is executable in the slot; everything is root's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::tool::{Error, file};
use crate::tree::{Entry, Kind, Tree};

/// Adds a directory's contents below `to` (empty = the root).
pub fn add(from: &Path, to: &str, time: u64, tree: &mut Tree) -> Result<(), Error> {
    let mut entries: Vec<_> =
        fs::read_dir(from).map_err(file(from))?.collect::<Result<_, _>>().map_err(file(from))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let source = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == ".gitkeep" {
            continue;
        }
        let path = if to.is_empty() { name } else { format!("{to}/{name}") };
        let data = fs::symlink_metadata(&source).map_err(file(&source))?;
        if data.is_dir() {
            tree.put_directory(&path, 0o755, time);
            add(&source, &path, time, tree)?;
            continue;
        }
        let (kind, mode) = if data.is_symlink() {
            (Kind::Link(fs::read_link(&source).map_err(file(&source))?.to_string_lossy().into_owned()), 0o755)
        } else {
            let mode = if data.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            (tree.store(&mut fs::File::open(&source).map_err(file(&source))?)?, mode)
        };
        tree.put(&path, Entry { kind, mode, uid: 0, gid: 0, time });
    }
    Ok(())
}
