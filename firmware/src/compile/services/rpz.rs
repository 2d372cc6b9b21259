//! The response policy zones of rDNS: which ones it is told of, and the files that must be there before it
//! starts.

use std::path::PathBuf;

use super::File;
use crate::config::Config;

/// One zone, as rdns.toml names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpzZone {
    /// Without the final dot: `rpz.custom`.
    pub name: String,
    /// Below `Places::config`.
    pub file: PathBuf,
}

fn zone(name: &str) -> RpzZone {
    RpzZone { name: format!("rpz.{name}"), file: PathBuf::from(format!("rpz/{name}.rpz")) }
}

/// The zones, in the order in which they are loaded.
pub fn zones(_: &Config) -> Vec<RpzZone> {
    vec![zone("custom"), zone("hosts")]
}

/// Files with a header and no rule, for zones whose rules come later.
pub fn seeds(_: &Config) -> Vec<File> {
    vec![File { mode: 0o644, ..File::new("rpz/custom.rpz", header("custom")) }]
}

/// What each zone's file begins with.
pub fn header(name: &str) -> String {
    format!("$TTL 300\n@ IN SOA rpz.{name}. admin.rpz.{name}. 1 3600 900 604800 300\n  IN NS localhost.\n")
}
