//! FreeBSD's own test files for pfctl(8): rules in, and what `pfctl -vn` prints. Read where they are present.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;

use aifw::pf::ast::{Item, Ruleset};
use aifw::pf::expand::expand;
use aifw::pf::parse::parse;
use aifw::pf::print::Loaded;
use ipnet::IpNet;

/// Files that use parts of pf the product does without; each is refused, and by the reason named.
const OUTSIDE: &[(&str, &str, &str)] = &[
    ("pf0038", "user", "a rule without user or group"),
    ("pf0104", "divert-to", "a rule without divert"),
    ("pf1004", "ALTQ", "a ruleset without ALTQ queues"),
    ("pf1006", "ALTQ", "a ruleset without ALTQ queues"),
    ("pf1008", "Ethernet rules", "a ruleset without Ethernet rules"),
    ("pf1014", "Ethernet rules", "a ruleset without Ethernet rules"),
    ("pf1016", "Ethernet rules", "a ruleset without Ethernet rules"),
];

#[path = "../src/testing.rs"]
mod testing;

use testing::shared;

/// What the machines have on which the expected files were made.
fn interfaces() -> BTreeMap<String, Vec<IpNet>> {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    BTreeMap::from([
        ("lo0".to_owned(), nets(&["::1/128", "fe80::1/64", "127.0.0.1/8"])),
        ("vlan1058".to_owned(), nets(&["203.0.113.5/24"])),
        ("vlan1062".to_owned(), nets(&["2001:db8::cb00:7105/64"])),
    ])
}

fn loaded(text: &str) -> Result<(Ruleset, String), String> {
    let ruleset = parse(text).map_err(|error| error.to_string())?;
    let expanded = expand(&ruleset, &interfaces()).map_err(|error| error.to_string())?;
    let printed = Loaded(&expanded).to_string();
    Ok((expanded, printed))
}

#[test]
fn every_file_of_the_corpus() {
    let Some(folder) = shared("pf-corpus") else { return };
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".in").map(str::to_owned)
        })
        .collect();
    names.sort();
    let (mut exact, mut refused, mut outside, mut wrong) = (0, 0, 0, Vec::new());
    for name in &names {
        let read = |kind: &str| fs::read_to_string(folder.join(format!("{name}.{kind}"))).ok();
        let result = loaded(&read("in").unwrap());
        if let Some((_, _, reason)) = OUTSIDE.iter().find(|(file, ..)| file == name) {
            match result {
                Err(error) if error.contains(reason) => outside += 1,
                other => wrong.push(format!("{name}: expected to be refused with {reason:?}: {other:?}")),
            }
        } else if read("fail").is_some() {
            match result {
                Err(_) => refused += 1,
                Ok((_, printed)) => wrong.push(format!("{name}: ought to be refused, but is\n{printed}")),
            }
        } else {
            let expected = read("ok").unwrap();
            match result {
                Ok((_, printed)) if printed == expected => exact += 1,
                Ok((_, printed)) => wrong.push(format!("{name}: expected\n{expected}got\n{printed}")),
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
    }
    println!(
        "{} files: {exact} printed as pfctl does, {refused} refused as they must be, {outside} outside",
        names.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(exact >= 60, "only {exact} files");
}

/// What pfctl prints is read, and prints as the same text again.
#[test]
fn printed_rules_are_read_back() {
    let Some(folder) = shared("pf-corpus") else { return };
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let skipped = OUTSIDE.iter().any(|(file, ..)| *file == name) || path.with_extension("fail").exists();
        if path.extension().is_none_or(|kind| kind != "ok") || skipped {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (expanded, printed) = loaded(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        assert_eq!(printed, text, "{name}");
        // Both ways of printing say the same.
        let again = expand(&parse(&expanded.to_string()).unwrap(), &interfaces()).unwrap();
        assert_eq!(again, expanded, "{name}: {expanded}");
        count += 1;
    }
    println!("{count} printed rulesets read back");
    assert!(count >= 60);
}

/// `pfctl -sr` and `-sn` of a running FreeBSD 15.1.
#[test]
fn live_rulesets_are_read_back() {
    let Some(folder) = shared("freebsd-15.1") else { return };
    let mut rules = 0;
    for file in [
        "pfctl-sr.txt",
        "pfctl-sn.txt",
        "pfctl-anchor-sn.txt",
        "pfctl-optimisation.txt",
        "pfctl-recursive.txt",
    ] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.starts_with("$ ") && !line.starts_with("[exit")).collect();
        let text = lines.join("\n") + "\n";
        let (expanded, printed) = loaded(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(printed, text, "{file}");
        rules += expanded.statements.iter().filter(|one| !matches!(one.item, Item::Set(_))).count();
    }
    println!("{rules} live rules read back");
    assert!(rules > 20);
}
