//! Names that no list may block: the whitelist, and the overrides of the resolver, which answer them itself.

use std::collections::{BTreeSet, HashSet};

use crate::compile::services::dns::{World, zones};
use crate::config::Config;
use crate::config::dns::PatternEntry;

/// A set of names, and of domains all names below which are in it.
#[derive(Debug, Default)]
pub struct Allowed {
    names: HashSet<String>,
    below: HashSet<String>,
    /// Domains above one of `below`: a list's wildcard there would come before ours or after it, by chance.
    above: HashSet<String>,
    /// Names that `hosts.rpz` rewrites; a name has one record.
    rewritten: HashSet<String>,
}

impl Allowed {
    pub fn of(config: &Config, world: &World) -> Self {
        let mut allowed = Self::default();
        for entry in config.dns_whitelist.iter() {
            allowed.add(&entry.pattern.to_string());
        }
        for (name, hosts) in zones::overrides(config) {
            if hosts.iter().any(|host| host.hostname.is_apex()) {
                allowed.rewritten.insert(name.clone());
            }
            allowed.add(&name);
        }
        for row in config.dns_domains.iter().filter(|row| row.enabled) {
            let domain = row.domain.plain();
            allowed.add(&format!("*.{domain}"));
            allowed.add(&domain);
        }
        for named in zones::dhcp_names(config, world) {
            allowed.rewritten.insert(named.name.clone());
            allowed.add(&named.name);
        }
        allowed
    }

    fn add(&mut self, pattern: &str) {
        match pattern.strip_prefix("*.") {
            Some(domain) => {
                self.above.extend(parents(domain).map(str::to_owned));
                self.below.insert(domain.to_owned());
            }
            None => drop(self.names.insert(pattern.to_owned())),
        }
    }

    /// Whether a record for this owner would block what is let through.
    pub fn covers(&self, owner: &str) -> bool {
        match owner.strip_prefix("*.") {
            Some(domain) => self.below.contains(domain) || self.is_below(domain),
            None => self.names.contains(owner) || self.is_below(owner),
        }
    }

    /// As [`Allowed::covers`], of a record in a zone of a list, whose place among the zones is not known.
    pub fn keeps_out(&self, owner: &str) -> bool {
        self.covers(owner) || owner.strip_prefix("*.").is_some_and(|domain| self.above.contains(domain))
    }

    fn is_below(&self, name: &str) -> bool {
        !self.below.is_empty() && parents(name).any(|domain| self.below.contains(domain))
    }

    /// What needs a record that lets it through.
    pub fn let_through(&self) -> impl Iterator<Item = String> {
        let names = self.names.iter().filter(|name| !self.rewritten.contains(*name)).cloned();
        names.chain(self.below.iter().map(|domain| format!("*.{domain}")))
    }
}

/// The domains that a name lies in, the nearest first.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest)).skip(1)
}

/// Custom blocks as names and domains, which no list needs to block again.
pub fn blocked<'a>(
    entries: impl Iterator<Item = &'a PatternEntry>,
) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
    let (mut names, mut below) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let (name, wild) = entry.pattern.parts();
        if wild {
            below.insert(name)
        } else {
            names.insert(name)
        };
    }
    (names, below)
}
