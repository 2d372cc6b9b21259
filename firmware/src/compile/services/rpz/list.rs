//! Reading a blocklist in one of four forms. What is no valid name is left out, line by line; a list with no name at
//! all is none.

use std::net::IpAddr;

use crate::config::dns::blocking::{Format, is_name};

/// What a line of an RPZ list says of a name; other lists leave it to their source's action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    Nxdomain,
    Nodata,
    Passthru,
    Drop,
    Address(IpAddr),
    Alias(&'a str),
}

/// A name of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub itself: bool,
    /// The names below it.
    pub below: bool,
    pub record: Option<Record<'a>>,
}

/// A list that was read: each name once, sorted.
#[derive(Debug, Default)]
pub struct List<'a> {
    pub entries: Vec<Entry<'a>>,
    /// Names that the list itself lets through, with those below them.
    pub exceptions: Vec<&'a str>,
}

/// Why a document is no blocklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("the document holds no name in this format")]
    NoName,
    #[error("the document holds more than {MOST_NAMES} names")]
    TooMany,
}

/// Names that a list may have: what the daemon holds in memory has an end.
pub const MOST_NAMES: usize = 3_000_000;

/// Lines longer than any that means something.
const LONGEST_LINE: usize = 4096;

/// Names that hosts files have for this host.
fn is_own(name: &str) -> bool {
    matches!(name, "localhost.localdomain" | "localhost" | "local" | "broadcasthost")
}

/// Reads a document, which must be in lower case.
pub fn parse(format: Format, text: &str) -> Result<List<'_>, ListError> {
    let mut list = List::default();
    for line in text.lines().filter(|line| line.len() <= LONGEST_LINE) {
        match format {
            Format::Hosts => hosts(line, &mut list),
            Format::Domains => domains(line, &mut list),
            Format::Adblock => adblock(line.trim(), &mut list),
            Format::Rpz => rpz(line, &mut list),
        }
        if list.entries.len() > MOST_NAMES {
            return Err(ListError::TooMany);
        }
    }
    list.entries.sort_by(|a, b| (a.name, !a.itself).cmp(&(b.name, !b.itself)));
    list.entries.dedup_by(|next, first| {
        let same = next.name == first.name && (next.record == first.record || next.itself == first.itself);
        if same && next.record == first.record {
            (first.itself, first.below) = (first.itself | next.itself, first.below | next.below);
        }
        same
    });
    match list.entries.is_empty() {
        true => Err(ListError::NoName),
        false => Ok(list),
    }
}

/// A name that can be blocked, without its final dot.
fn name(word: &str) -> Option<&str> {
    let word = word.strip_suffix('.').unwrap_or(word);
    (!is_own(word) && is_name(word, false) && word.parse::<IpAddr>().is_err()).then_some(word)
}

fn add<'a>(list: &mut List<'a>, word: &'a str) {
    let (word, below) = word.strip_prefix("*.").map_or((word, false), |word| (word, true));
    if let Some(name) = name(word) {
        list.entries.push(Entry { name, itself: true, below, record: None });
    }
}

fn without_comment(line: &str) -> &str {
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.starts_with(['!', '[', ';']) { "" } else { line }
}

fn hosts<'a>(line: &'a str, list: &mut List<'a>) {
    let mut words = without_comment(line).split_whitespace();
    match words.next() {
        Some("0.0.0.0" | "127.0.0.1" | "::" | "::1") => words.for_each(|word| add(list, word)),
        Some(first) => add(list, first),
        None => {}
    }
}

fn domains<'a>(line: &'a str, list: &mut List<'a>) {
    if let Some(first) = without_comment(line).split_whitespace().next() {
        add(list, first);
    }
}

/// `||name^`, and `@@||name^` for what is to stay; options other than `$important` narrow a rule to what is not a name.
fn adblock<'a>(line: &'a str, list: &mut List<'a>) {
    let (rule, exception) = line.strip_prefix("@@").map_or((line, false), |rule| (rule, true));
    let Some(rule) = rule.strip_prefix("||") else { return };
    let (rule, options) = rule.split_once('$').unwrap_or((rule, "important"));
    if options != "important" {
        return;
    }
    let word = rule.split(['^', '/', '*']).next().unwrap_or_default();
    match name(word) {
        Some(name) if exception => list.exceptions.push(name),
        Some(name) => list.entries.push(Entry { name, itself: true, below: true, record: None }),
        None => {}
    }
}

/// Records with an owner, in the forms that the daemon knows; class and TTL may be given.
fn rpz<'a>(line: &'a str, list: &mut List<'a>) {
    let line = line.split(';').next().unwrap_or_default();
    // A line that begins with a blank belongs to the owner before it: the zone itself.
    if line.starts_with([' ', '\t', '$', '@']) {
        return;
    }
    let mut words = line.split_whitespace();
    let Some(owner) = words.next() else { return };
    let kind = words.find(|word| *word != "in" && !word.bytes().all(|b| b.is_ascii_digit()));
    let (Some(kind), Some(data), None) = (kind, words.next(), words.next()) else { return };
    let record = match (kind, data) {
        ("cname", ".") => Some(Record::Nxdomain),
        ("cname", "*.") => Some(Record::Nodata),
        ("cname", "rpz-passthru.") => Some(Record::Passthru),
        ("cname", "rpz-drop.") => Some(Record::Drop),
        ("cname", target) => name(target).map(Record::Alias),
        ("a", ip) => ip.parse().ok().filter(IpAddr::is_ipv4).map(Record::Address),
        ("aaaa", ip) => ip.parse().ok().filter(IpAddr::is_ipv6).map(Record::Address),
        _ => None,
    };
    let (owner, below) = owner.strip_prefix("*.").map_or((owner, false), |owner| (owner, true));
    if let (Some(name), Some(record)) = (name(owner), record) {
        list.entries.push(Entry { name, itself: !below, below, record: Some(record) });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Owners: `name`, `*.name` or `+name` for both.
    fn read(format: Format, text: &str) -> Vec<String> {
        let list = parse(format, text).unwrap();
        let owner = |entry: &Entry| match (entry.itself, entry.below) {
            (true, true) => format!("+{}", entry.name),
            (false, _) => format!("*.{}", entry.name),
            _ => entry.name.to_owned(),
        };
        list.entries.iter().map(owner).collect()
    }

    #[test]
    fn hosts_files() {
        let text = "# x\n0.0.0.0 b.test a.test. # c\n127.0.0.1\tlocalhost\n:: c.test\nd.test\n0.0.0.0 0.0.0.0\n\
                    0.0.0.0 bad..name\n0.0.0.0 -x.test\n0.0.0.0 nodot\n0.0.0.0 a.test\n255.255.255.255 broadcasthost\n";
        assert_eq!(read(Format::Hosts, text), ["a.test", "b.test", "c.test", "d.test"]);
    }

    #[test]
    fn lists_of_domains() {
        let text = "! x\n[Adblock]\n*.a.test\nb.test extra\na.test\n_dmarc.c.test\n1.2.3.4\n#z.test\n";
        assert_eq!(read(Format::Domains, text), ["_dmarc.c.test", "+a.test", "b.test"]);
    }

    #[test]
    fn adblock_rules() {
        let text = "||a.test^\n||b.test/ads\n||c.test^$third-party\n||d.test^$important\n@@||e.test^\n##.banner\n|x\n||*.y^\n";
        assert_eq!(read(Format::Adblock, text), ["+a.test", "+b.test", "+d.test"]);
        assert_eq!(parse(Format::Adblock, text).unwrap().exceptions, ["e.test"]);
    }

    #[test]
    fn policy_zones_line_by_line() {
        let text = "$ttl 300\n@ in soa a. b. 1 2 3 4 5\n in ns localhost.\na.test cname .\n*.a.test 60 in cname .\n\
                    b.test in cname *.\nc.test a 10.0.0.1\nd.test aaaa 10.0.0.1\ne.test txt x\nf.test cname rpz-drop. ; x\n\
                    g.test cname walled.test.\nrm -rf /\n";
        assert_eq!(read(Format::Rpz, text), ["+a.test", "b.test", "c.test", "f.test", "g.test"]);
        let list = parse(Format::Rpz, text).unwrap();
        assert_eq!(list.entries[2].record, Some(Record::Address("10.0.0.1".parse().unwrap())));
        assert_eq!(list.entries[4].record, Some(Record::Alias("walled.test")));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_document_holds_what_comes_out_is_a_valid_name_once(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000),
            lines in proptest::collection::vec("[ -~]{0,40}|(@@)?[|]{0,2}[a-c*._-]{1,9}(\\^|/x|[$]important)?|[*a-b.-]{1,9} (60 )?(cname|a|aaaa) [a-z0-9.*:-]{1,9}", 0..40),
        ) {
            let noise: String = bytes.iter().map(|byte| char::from(*byte & 0x7f).to_ascii_lowercase()).collect();
            for text in [noise, lines.join("\n").to_ascii_lowercase()] {
                for format in [Format::Hosts, Format::Domains, Format::Adblock, Format::Rpz] {
                    let Ok(list) = parse(format, &text) else { continue };
                    let mut seen = std::collections::HashSet::new();
                    for entry in &list.entries {
                        proptest::prop_assert!(is_name(entry.name, false), "{:?}", entry.name);
                        proptest::prop_assert!(entry.itself || entry.below);
                        proptest::prop_assert!(!entry.itself || seen.insert((entry.name, true)));
                        proptest::prop_assert!(!entry.below || seen.insert((entry.name, false)));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "<html><body>not found</body></html>", "\u{0}\u{1}\u{fffd}", "a b c"] {
            assert_eq!(parse(Format::Hosts, text).unwrap_err(), ListError::NoName, "{text}");
        }
    }
}
