//! The records of all lists together: each name once, in the first list that has it.

use std::collections::HashSet;
use std::net::IpAddr;

use super::allow::{Allowed, blocked, parents};
use super::list::{Entry, List, Record};
use super::{header, list_zone};
use crate::config::Config;
use crate::config::dns::blocking::{BlockAction, BlocklistSource};

/// The daemon looks through wildcards one by one for each question: more would be felt.
pub const MOST_WILDCARDS: usize = 5000;

/// A list that blocks, as it was read.
pub struct Source<'a> {
    pub source: &'a BlocklistSource,
    pub list: List<'a>,
}

/// The text of each source's file, in the order of `sources`.
pub fn records(config: &Config, allowed: &Allowed, sources: &[Source<'_>]) -> Vec<String> {
    let budgets = budgets(sources);
    let (own_names, own_domains) = blocked(config.dns_custom_blocks.iter().map(|entry| &**entry));
    let exceptions: HashSet<&str> =
        sources.iter().flat_map(|source| source.list.exceptions.iter().copied()).collect();
    let total = sources.iter().map(|source| source.list.entries.len()).sum();
    let mut seen: HashSet<&str> = HashSet::with_capacity(total);
    let mut seen_below: HashSet<&str> = HashSet::new();
    // `www.` names are made here and so have no text to borrow; where a list has one itself, it is sorted out by this.
    let mut seen_www: HashSet<&str> = HashSet::new();
    let mut texts = Vec::with_capacity(sources.len());
    for (source, budget) in sources.iter().zip(budgets) {
        let mut text = header(&list_zone(source.source.id));
        text.reserve(source.list.entries.len() * 32);
        let mut wildcards = 0;
        let mut owner = String::new();
        for entry in &source.list.entries {
            let excepted = |name: &str| {
                let within =
                    |name: &str| exceptions.contains(name) || parents(name).any(|up| exceptions.contains(up));
                !exceptions.is_empty() && within(name)
            };
            let custom = |name: &str| {
                own_names.contains(name)
                    || (!own_domains.is_empty() && parents(name).any(|up| own_domains.contains(up)))
            };
            let name = entry.name;
            let www_taken = || name.strip_prefix("www.").is_some_and(|rest| seen_www.contains(rest));
            if entry.itself
                && !allowed.keeps_out(name)
                && !excepted(name)
                && !custom(name)
                && !www_taken()
                && seen.insert(name)
            {
                push(&mut text, name, entry, source.source);
            }
            if !entry.below {
                continue;
            }
            let may = wildcards < budget;
            wildcards += 1;
            owner.clear();
            owner.push_str(if may { "*." } else { "www." });
            owner.push_str(name);
            let kept_out =
                allowed.keeps_out(&owner) || excepted(name) || own_domains.contains(name) || custom(&owner);
            if may && !kept_out && seen_below.insert(name) {
                push(&mut text, &owner, entry, source.source);
            }
            if !may && !kept_out && !seen.contains(owner.as_str()) && seen_www.insert(name) {
                let listed = source.list.entries.binary_search_by(|other| other.name.cmp(&owner)).is_ok();
                if !listed {
                    push(&mut text, &owner, entry, source.source);
                }
            }
        }
        texts.push(text);
    }
    texts
}

/// How many wildcards each list may have: the smallest are served first.
fn budgets(sources: &[Source<'_>]) -> Vec<usize> {
    let wanted: Vec<usize> =
        sources.iter().map(|source| source.list.entries.iter().filter(|entry| entry.below).count()).collect();
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|at| wanted.get(*at).copied());
    let mut left = MOST_WILDCARDS;
    let mut budgets = vec![0; sources.len()];
    for at in order {
        if let (Some(budget), Some(wanted)) = (budgets.get_mut(at), wanted.get(at)) {
            *budget = left.min(*wanted);
            left -= *budget;
        }
    }
    budgets
}

fn push(text: &mut String, owner: &str, entry: &Entry<'_>, source: &BlocklistSource) {
    let address = |ip: IpAddr| format!("{} {ip}", if ip.is_ipv4() { "A" } else { "AAAA" });
    let record = entry.record.unwrap_or(match (source.action, source.redirect_ip) {
        (BlockAction::Nodata, _) => Record::Nodata,
        (BlockAction::Drop, _) => Record::Drop,
        (BlockAction::Redirect, Some(ip)) => Record::Address(ip),
        _ => Record::Nxdomain,
    });
    text.push_str(owner);
    text.push(' ');
    match record {
        Record::Nxdomain => text.push_str("CNAME ."),
        Record::Nodata => text.push_str("CNAME *."),
        Record::Passthru => text.push_str("CNAME rpz-passthru."),
        Record::Drop => text.push_str("CNAME rpz-drop."),
        Record::Address(ip) => text.push_str(&address(ip)),
        Record::Alias(target) => {
            text.push_str("CNAME ");
            text.push_str(target);
            text.push('.');
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::parse;
    use super::*;
    use crate::compile::services::dns::World;
    use crate::config::dns::PatternEntry;
    use crate::config::dns::blocking::{Format, sources};

    fn rules(text: &str) -> Vec<&str> {
        text.lines().skip(3).collect()
    }

    fn entry(id: u64, pattern: &str) -> PatternEntry {
        PatternEntry { id, pattern: pattern.parse().unwrap(), note: None }
    }

    fn made(config: &Config, lists: &[(Format, &str)]) -> Vec<String> {
        let all = sources(config);
        let sources: Vec<Source<'_>> = lists
            .iter()
            .zip(&all)
            .map(|((format, text), source)| Source { source, list: parse(*format, text).unwrap() })
            .collect();
        records(config, &Allowed::of(config, &World::default()), &sources)
    }

    #[test]
    fn a_name_has_one_record_in_the_first_list_that_has_it() {
        let texts = made(
            &Config::default(),
            &[(Format::Hosts, "b.test\na.test\n"), (Format::Domains, "a.test\n*.c.test\n")],
        );
        assert_eq!(rules(&texts[0]), ["a.test CNAME .", "b.test CNAME ."]);
        assert_eq!(rules(&texts[1]), ["c.test CNAME .", "*.c.test CNAME ."]);
    }

    #[test]
    fn what_is_let_through_or_blocked_otherwise_is_taken_out() {
        let config = Config {
            dns_whitelist: [entry(1, "a.test"), entry(2, "*.b.test"), entry(3, "*.d.e.test")]
                .into_iter()
                .collect(),
            dns_custom_blocks: [entry(4, "c.test"), entry(5, "*.f.test")].into_iter().collect(),
            ..Config::default()
        };
        let list = "a.test\nx.a.test\nb.test\nx.b.test\nc.test\n*.e.test\nx.f.test\n";
        let texts = made(&config, &[(Format::Domains, list)]);
        // `*.e.test` could come before the whitelist's `*.d.e.test`.
        assert_eq!(rules(&texts[0]), ["b.test CNAME .", "e.test CNAME .", "x.a.test CNAME ."]);
        let custom = super::super::custom(&config, &World::default());
        let text = String::from_utf8(custom.bytes).unwrap();
        assert_eq!(
            rules(&text),
            [
                "a.test CNAME rpz-passthru.",
                "c.test CNAME .",
                "*.d.e.test CNAME rpz-passthru.",
                "*.b.test CNAME rpz-passthru.",
                "*.f.test CNAME ."
            ]
        );
    }

    #[test]
    fn wildcards_have_a_limit_and_small_lists_go_first() {
        let many: String = (0..MOST_WILDCARDS).map(|n| format!("*.n{n:05}.test\n")).collect();
        let texts =
            made(&Config::default(), &[(Format::Domains, &many), (Format::Adblock, "||small.test^\n")]);
        let wild = |text: &str| text.lines().filter(|line| line.starts_with("*.")).count();
        assert_eq!((wild(&texts[0]), wild(&texts[1])), (MOST_WILDCARDS - 1, 1));
        assert!(texts[0].ends_with("n04999.test CNAME .\nwww.n04999.test CNAME .\n"));
    }

    #[test]
    fn every_owner_is_unique_over_all_zones() {
        let config =
            Config { dns_whitelist: [entry(1, "www.n1.test")].into_iter().collect(), ..Config::default() };
        let mut list = String::new();
        for n in 0..MOST_WILDCARDS + 50 {
            list.push_str(&format!("*.n{n}.test\nwww.n{n}.test\n"));
        }
        let texts =
            made(&config, &[(Format::Domains, &list), (Format::Domains, &list), (Format::Hosts, &list)]);
        let owners: Vec<&str> =
            texts.iter().flat_map(|text| rules(text)).map(|line| line.split(' ').next().unwrap()).collect();
        let unique: HashSet<&str> = owners.iter().copied().collect();
        assert_eq!(owners.len(), unique.len());
        assert!(!unique.contains("www.n1.test"));
    }
}
