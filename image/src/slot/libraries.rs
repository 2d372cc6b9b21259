//! Shared libraries: of those that base.toml marks `needed`, only what a program or library that stays asks for
//! (DT_NEEDED, elf(5)) is kept.

use std::collections::BTreeSet;

use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, elf};

use crate::sets::Report;
use crate::tool::Error;
use crate::tree::{Kind, Tree};

/// Where rtld(1) looks in a slot.
const DIRECTORIES: [&str; 3] = ["lib", "usr/lib", "usr/local/lib"];

/// Removes the optional libraries that nothing needs; says which needed ones are not there.
pub fn keep_needed(tree: &mut Tree, report: &mut Report) -> Result<(), Error> {
    let mut open: Vec<String> = tree
        .entries()
        .filter(|(path, entry)| {
            // A kernel asks for no library, whatever its headers say.
            matches!(entry.kind, Kind::File { .. })
                && !path.starts_with("boot/")
                && !report.optional.contains(*path)
        })
        .map(|(path, _)| path.to_owned())
        .collect();
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    while let Some(path) = open.pop() {
        let Some(Kind::File { blob, .. }) = tree.get(&path).map(|entry| entry.kind.clone()) else { continue };
        if !tree.starts_with(blob, b"\x7fELF")? {
            continue;
        }
        let bytes = tree.read(&path)?.unwrap_or_default();
        for name in needed(&bytes) {
            if !asked.insert(name.clone()) {
                continue;
            }
            let found = locate(tree, &name);
            if found.is_empty() {
                eprintln!("/{path} needs {name}, which the sets do not have");
            }
            for library in found {
                if kept.insert(library.clone()) {
                    open.push(library);
                }
            }
        }
    }
    for path in std::mem::take(&mut report.optional) {
        let is_file = tree.get(&path).is_some_and(|entry| entry.kind != Kind::Directory);
        if is_file && !kept.contains(&path) {
            let removed = tree.remove(&path);
            if let Some(Kind::File { size, .. }) = removed.map(|entry| entry.kind) {
                move_to_dropped(report, size);
            }
        }
    }
    Ok(())
}

/// A library's file by its name, and the links on the way to it.
fn locate(tree: &Tree, name: &str) -> Vec<String> {
    for directory in DIRECTORIES {
        let mut path = format!("{directory}/{name}");
        let mut found = Vec::new();
        while let Some(entry) = tree.get(&path) {
            found.push(path.clone());
            match &entry.kind {
                // No chain of links is as long as this; a circle is.
                Kind::Link(to) if found.len() < 8 => path = target(&path, to),
                Kind::File { .. } => return found,
                _ => break,
            }
        }
    }
    Vec::new()
}

/// The path that a link leads to.
fn target(link: &str, to: &str) -> String {
    let mut names: Vec<&str> = if to.starts_with('/') { Vec::new() } else { link.split('/').collect() };
    names.pop();
    for name in to.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." {
            names.pop();
        } else {
            names.push(name);
        }
    }
    names.join("/")
}

/// The names in an object's DT_NEEDED entries; none for a static one or one that cannot be read.
fn needed(bytes: &[u8]) -> Vec<String> {
    read(bytes).unwrap_or_default()
}

fn read(bytes: &[u8]) -> object::Result<Vec<String>> {
    let header = elf::FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((entries, link)) = sections.dynamic(endian, bytes)? else { return Ok(Vec::new()) };
    let strings = sections.strings(endian, bytes, link)?;
    let names = entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED);
    names.map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned())).collect()
}

fn move_to_dropped(report: &mut Report, size: u64) {
    const REASON: &str = "shared libraries of the programs above";
    if let Some(sum) = report.kept.get_mut(REASON) {
        *sum = sum.saturating_sub(size);
    }
    *report.dropped.entry("shared libraries that nothing here needs".into()).or_default() += size;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::Entry;

    #[test]
    fn links_lead_from_their_own_directory() {
        assert_eq!(target("usr/lib/libcrypt.so", "../../lib/libcrypt.so.5"), "lib/libcrypt.so.5");
        assert_eq!(target("usr/lib/a", "b"), "usr/lib/b");
        assert_eq!(target("usr/lib/a", "/lib/b"), "lib/b");
    }

    #[test]
    fn a_library_is_found_with_the_links_on_the_way_and_a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(folder.path()).unwrap();
        let link = |to: &str| Entry { kind: Kind::Link(to.into()), mode: 0o755, uid: 0, gid: 0, time: 1 };
        tree.put_file("lib/libz.so.6", b"x", 0o444, 1).unwrap();
        tree.put("usr/lib/libz.so", link("../../lib/libz.so.6"));
        tree.put("lib/libloop.so", link("libloop.so"));
        assert_eq!(locate(&tree, "libz.so"), ["usr/lib/libz.so", "lib/libz.so.6"]);
        assert_eq!(locate(&tree, "libloop.so"), Vec::<String>::new());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_needed_libraries_of_a_real_program_are_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needed(&own).iter().any(|name| name.starts_with("libc.so")), "{:?}", needed(&own));
        assert_eq!(needed(b"#!/bin/sh\n"), Vec::<String>::new());
    }
}
