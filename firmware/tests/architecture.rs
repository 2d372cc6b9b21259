//! The direction of the arrows: a room uses only rooms above it in DESIGN's list, and nothing of HTTP below `api`.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// From the ground up.
const ROOMS: [&str; 14] = [
    "config",
    "store",
    "pf",
    "compile",
    "platform",
    "supervisor",
    "services",
    "apply",
    "live",
    "auth",
    "update",
    "api",
    "console",
    "appliance",
];

/// "knows nothing of": rooms that may not be used although they stand above.
const UNKNOWN_TO: [(&str, &[&str]); 4] = [
    ("pf", &["store"]),
    ("platform", &["store"]),
    ("auth", &["pf", "services"]),
    ("console", &["store", "pf"]),
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Rooms that a source text names as `crate::room`, also inside `use crate::{a, b}`.
fn rooms_used(text: &str) -> Vec<&'static str> {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            let word =
                name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            used.extend(ROOMS.iter().find(|room| **room == word));
        }
    }
    used
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for (place, room) in ROOMS.iter().enumerate() {
        let forbidden = UNKNOWN_TO.iter().find(|(name, _)| name == room).map_or(&[][..], |(_, rooms)| rooms);
        for file in rust_files(&source.join(room)) {
            looked_at += 1;
            for used in rooms_used(&std::fs::read_to_string(&file).unwrap()) {
                let used_place = ROOMS.iter().position(|name| *name == used).unwrap();
                if used_place > place || forbidden.contains(&used) {
                    wrong.push(format!("{} uses {used}", file.strip_prefix(&source).unwrap().display()));
                }
            }
        }
    }
    assert!(looked_at > 20, "found only {looked_at} files");
    assert!(wrong.is_empty(), "arrows that point down:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_api_knows_http() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in ROOMS.iter().take_while(|room| **room != "api") {
        for file in rust_files(&source.join(room)) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("tide::") && !text.contains("http_types"),
                "{} knows HTTP",
                file.display()
            );
        }
    }
}

#[test]
fn uses_are_found() {
    let text =
        "use crate::config::Id;\nuse crate::{pf, store::Store};\n// crate::api\nlet x = crate::live::now();";
    assert_eq!(rooms_used(text), ["config", "pf", "store", "live"]);
}
