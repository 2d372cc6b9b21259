//! Tables of the main ruleset: replacing the content in one step, and listing.

use super::rules::read_refusal;
use super::{Ended, PfError, TableName, unreachable};

pub const SHOW_NAMES: &[&str] = &["-s", "Tables"];

/// Makes the table hold exactly what standard input lists; a table that does not exist is made.
pub fn replace(name: &TableName) -> [&str; 6] {
    ["-t", name.as_str(), "-T", "replace", "-f", "-"]
}

pub fn show(name: &TableName) -> [&str; 4] {
    ["-t", name.as_str(), "-T", "show"]
}

/// Entries as pfctl reads them: one a line.
pub fn lines(entries: &[String]) -> String {
    let mut text = String::with_capacity(entries.iter().map(|entry| entry.len() + 1).sum());
    for entry in entries {
        text.push_str(entry);
        text.push('\n');
    }
    text
}

/// Table names; flags stand in front of them in verbose lists (`-pa-r--<tab>name`).
pub fn read_names(text: &str) -> Vec<String> {
    let names = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['\t', ' ']));
    names.map(|line| line.rsplit('\t').next().unwrap_or(line).trim().to_owned()).collect()
}

/// Entries of a table. Statistics of verbose lists stand behind a tab and are passed over.
pub fn read_entries(text: &str) -> Vec<String> {
    let entries = text.lines().filter(|line| line.starts_with(' '));
    entries.map(|line| line.trim().to_owned()).filter(|entry| !entry.is_empty()).collect()
}

/// What a table command's failure means.
pub fn refusal(name: &TableName, ended: &Ended) -> PfError {
    if ended.stderr.contains("Table does not exist") {
        return PfError::NoTable(name.to_string());
    }
    match read_refusal(&ended.stderr) {
        Some(message) => PfError::Refused { anchor: format!("table <{name}>"), message },
        None => unreachable(ended),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_plain_and_verbose() {
        assert_eq!(read_names("bruteforce\nhosts\nlan\n"), ["bruteforce", "hosts", "lan"]);
        let verbose = "-pa-r--\tbruteforce\n\tAddresses:   2\n\tCleared:     Thu Jan  1 00:00:00 1970\nc-a-r--\tlan\n\tAddresses:   1\n";
        assert_eq!(read_names(verbose), ["bruteforce", "lan"]);
    }

    #[test]
    fn entries_plain_and_verbose() {
        let expected = ["198.51.100.0/24", "203.0.113.9"];
        assert_eq!(read_entries("   198.51.100.0/24\n   203.0.113.9\n"), expected);
        let verbose = "   198.51.100.0/24\n\tCleared:     Mon Nov 23 21:42:23 2026\n   203.0.113.9\n\tCleared:     Mon Nov 23 21:42:23 2026\n";
        assert_eq!(read_entries(verbose), expected);
        assert_eq!(read_entries("  !10.1.0.0/16\n"), ["!10.1.0.0/16"]);
    }

    #[test]
    fn failures_are_told_apart() {
        let name = TableName::new("lan").unwrap();
        let failed = |stderr: &str| {
            refusal(&name, &Ended { code: Some(1), stdout: String::new(), stderr: stderr.into() })
        };
        assert!(matches!(failed("pfctl: Table does not exist.\n"), PfError::NoTable(name) if name == "lan"));
        assert_eq!(
            failed("no IP address found for bogus\npfctl: cannot load -: No error: 0\n").to_string(),
            "table <lan>: no IP address found for bogus"
        );
        assert!(matches!(failed("pfctl: /dev/pf: No such file or directory\n"), PfError::Unreachable(_)));
    }
}
