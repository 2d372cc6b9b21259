//! The response policy zones of rDNS: which ones it is told of, the files that must be there before it starts, and
//! what they say. rDNS keeps one record a name over all zones, so what they say is made disjoint here: the whitelist
//! and overrides first, then custom blocks, then the lists in the order of their ids. Pure.

mod allow;
mod list;
mod records;

use std::path::PathBuf;

pub use allow::Allowed;
pub use list::{List, ListError, parse};
pub use records::{MOST_WILDCARDS, Source, records};

use super::File;
use super::dns::World;
use crate::config::Config;
use crate::config::dns::blocking;

/// One zone, as rdns.toml names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpzZone {
    /// Without the final dot: `rpz.custom`.
    pub name: String,
    /// Below `Places::config`.
    pub file: PathBuf,
}

fn zone(name: &str) -> RpzZone {
    RpzZone { name: format!("rpz.{name}"), file: path(name) }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("rpz/{name}.rpz"))
}

/// What a list's zone is called.
pub fn list_zone(id: u64) -> String {
    format!("blocklist-{id}")
}

/// A list's file, below `Places::config`.
pub fn list_file(id: u64) -> PathBuf {
    path(&list_zone(id))
}

/// The zones, in the order in which they are loaded. Every list has one, on or off: the daemon never learns of a zone
/// whose file was not there at its start.
pub fn zones(config: &Config) -> Vec<RpzZone> {
    let lists = blocking::sources(config).into_iter().map(|source| zone(&list_zone(source.id)));
    [zone("custom"), zone("hosts")].into_iter().chain(lists).collect()
}

/// A policy zone's file; the daemon reads it again as the user it has become.
pub fn file(name: &str, text: String) -> File {
    File { mode: 0o644, ..File::new(path(name), text) }
}

/// Files with a header and no rule, for lists, whose rules come later.
pub fn seeds(config: &Config) -> Vec<File> {
    let names = blocking::sources(config).into_iter().map(|source| list_zone(source.id));
    names.map(|name| file(&name, header(&name))).collect()
}

/// What each zone's file begins with. Its serial means nothing, and stays, so that equal rules are equal files.
pub fn header(name: &str) -> String {
    format!("$TTL 300\n@ IN SOA rpz.{name}. admin.rpz.{name}. 1 3600 900 604800 300\n  IN NS localhost.\n")
}

/// `custom.rpz`: what is let through whatever a list says, and custom blocks. Of wildcards the first one in the file
/// decides, so those that let through come before those that block, and the longer before the shorter.
pub fn custom(config: &Config, world: &World) -> File {
    let allowed = Allowed::of(config, world);
    let mut text = header("custom");
    let mut rules: Vec<(String, &str)> =
        allowed.let_through().map(|pattern| (pattern, "CNAME rpz-passthru.")).collect();
    let blocks = config.dns_custom_blocks.iter().map(|entry| entry.pattern.as_str());
    rules.extend(
        blocks.filter(|pattern| !allowed.covers(pattern)).map(|pattern| (pattern.to_owned(), "CNAME .")),
    );
    rules.sort_by_key(|(pattern, rule)| {
        let wild = pattern.starts_with("*.");
        (
            wild,
            wild && *rule == "CNAME .",
            std::cmp::Reverse(if wild { pattern.matches('.').count() } else { 0 }),
            pattern.clone(),
        )
    });
    for (pattern, rule) in rules {
        text.push_str(&format!("{pattern} {rule}\n"));
    }
    file("custom", text)
}
