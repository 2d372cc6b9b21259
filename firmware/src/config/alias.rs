//! Aliases: named addresses (pf tables) and named ports (contract/firewall.md §5).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Refusal, Word, check_text, text_or_none};
use super::rule::Endpoint;
use super::value::words;
use super::{Address, Config, Id, Invalid, NatRule, Object, PortRange, Rule, TableName, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AliasKind {
    Host,
    Network,
    Port,
    UrlTable,
}

words!(AliasKind, "host, network, port or url_table",
    "host" => Self::Host, "network" => Self::Network, "port" => Self::Port,
    "url_table" | "urltable" | "url" => Self::UrlTable);

impl AliasKind {
    /// Whether it is a pf table, and not a list of ports.
    pub fn is_table(self) -> bool {
        self != Self::Port
    }
}

/// An alias, in stored form; entries are valid for the kind and trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub id: Id,
    pub name: TableName,
    pub alias_type: AliasKind,
    pub entries: Vec<String>,
    pub description: Option<String>,
    pub enabled: bool,
    /// URL tables only: seconds between fetches, 10 or more; `None` = 24 hours.
    #[serde(default)]
    pub refresh_secs: Option<u32>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for Alias {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.name.shared()]
    }
}

/// Most entries of one alias.
pub const MAX_ENTRIES: usize = 10_000;
/// Tables that the product fills itself.
pub const SYSTEM_TABLES: [&str; 2] = ["bruteforce", "ai_blocked"];
/// Prefix of the tables that hold a country's networks.
pub const COUNTRY_TABLE_PREFIX: &str = "geoip_";

/// Words of pf.conf(5)'s grammar, which pf does not take as a table name.
const PF_WORDS: &str = "af-to all allow-opts allow-related anchor antispoof any bandwidth binat binat-anchor \
    binat-to bitmask block block-policy bridge-to buckets cbq code codelq debug divert-reply divert-to dnpipe \
    dnqueue drop dscp dup-to endpi ether fail-policy fairq fastroute file fingerprints flags floating flowid \
    flush for fragment from global group hfsc hogs hostid icmp-type icmp6-type if-bound in include inet inet6 \
    interval keep keepcounters l3 label limit linkshare load log loginterface map-e-portset match matches max \
    max-mss max-pkt-rate max-pkt-size max-src-conn max-src-conn-rate max-src-nodes max-src-states min-ttl \
    modulate nat nat-anchor nat-to no no-df no-route no-sync on once optimization os out overload pass pflow \
    port prefer-ipv6-nexthop prio priority priq probe proto qlimit queue quick random random-id rdr rdr-anchor \
    rdr-to realtime reassemble received-on reply-to require-order return return-icmp return-icmp6 return-rst \
    ridentifier round-robin route route-to rtable rule ruleset-optimization scrub self set set-tos skip sloppy \
    source-hash source-track state state-defaults state-policy static-port sticky-address suppress-data \
    syncookies synproxy table tag tagged target tbrsize timeout to tos ttl upperlimit urpf-failed user \
    unknown yes";

fn check_name(name: &TableName) -> Result<(), Invalid> {
    let text = name.as_str();
    let lower = text.to_ascii_lowercase();
    if text.starts_with('-') {
        return Err(Invalid::new("name", "expected a name that does not start with -"));
    }
    if SYSTEM_TABLES.contains(&lower.as_str()) || lower.starts_with(COUNTRY_TABLE_PREFIX) {
        return Err(Invalid::new("name", format!("{text} is reserved for a table of the firewall")));
    }
    if PF_WORDS.split(' ').any(|word| word == lower) {
        return Err(Invalid::new("name", format!("{text} is a word of the pf language")));
    }
    Ok(())
}

/// Reads one entry of a port alias: `80`, `8000-8080` or `8000:8080`.
pub fn parse_port_entry(entry: &str) -> Option<PortRange> {
    let (start, end) = entry.split_once(['-', ':']).unwrap_or((entry, entry));
    let number = |text: &str| {
        let text = text.trim();
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    PortRange::new(number(start)?, number(end)?).ok()
}

fn check_entry(kind: AliasKind, entry: &str) -> Result<(), &'static str> {
    let address = entry.strip_prefix('!').map_or(entry, str::trim_start);
    let fits = match kind {
        AliasKind::Host => address.parse::<IpAddr>().is_ok(),
        AliasKind::Network => address.parse::<IpAddr>().is_ok() || address.parse::<IpNet>().is_ok(),
        AliasKind::Port => parse_port_entry(entry).is_some(),
        AliasKind::UrlTable => url::Url::parse(entry)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some()),
    };
    let expected = match kind {
        AliasKind::Host => "expected an IP address",
        AliasKind::Network => "expected a network such as 10.0.0.0/8, or an IP address",
        AliasKind::Port => "expected a port from 1 to 65535, or a range such as 8000-8080",
        AliasKind::UrlTable => "expected an http or https URL",
    };
    if fits { Ok(()) } else { Err(expected) }
}

impl Alias {
    /// Checks what must hold within one alias.
    pub fn check(&self) -> Result<(), Invalid> {
        check_name(&self.name)?;
        if self.entries.len() > MAX_ENTRIES {
            return Err(Invalid::new("entries", format!("expected at most {MAX_ENTRIES} entries")));
        }
        for (number, entry) in self.entries.iter().enumerate() {
            check_entry(self.alias_type, entry)
                .map_err(|expected| Invalid::new(format!("entries[{number}]"), expected))?;
        }
        if let Some(description) = &self.description {
            check_text("description", description, 255)?;
        }
        match self.refresh_secs {
            Some(_) if self.alias_type != AliasKind::UrlTable => {
                Err(Invalid::new("refresh_secs", "expected only with url_table"))
            }
            Some(0..10) => Err(Invalid::new("refresh_secs", "expected at least 10 seconds")),
            _ => Ok(()),
        }
    }

    /// Whether a rule or NAT rule of `config` names it.
    pub fn is_used(&self, config: &Config) -> bool {
        let name = self.name.as_str();
        config.rules.find(name).next().is_some() || config.nat.find(name).next().is_some()
    }
}

/// Body of POST and PUT (contract/firewall.md §5); PUT replaces as a whole.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AliasRequest {
    pub name: TableName,
    pub alias_type: Word<AliasKind>,
    pub entries: Vec<String>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub description: Option<String>,
    pub enabled: Option<bool>,
    /// url_table only: seconds between fetches, 10 or more; null = 24 hours.
    pub refresh_secs: Option<u32>,
}

impl AliasRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<Alias, Refusal> {
        let alias = self.alias(Id::new_v4(), now, now)?;
        check_name_is_free(config, &alias)?;
        Ok(alias)
    }

    /// `stored` as it will be; follow with [`rename_uses`] if the name differs.
    pub fn replace(self, stored: &Alias, now: Timestamp, config: &Config) -> Result<Alias, Refusal> {
        let alias = self.alias(stored.id, stored.created_at, stored.updated_at)?;
        check_name_is_free(config, &alias)?;
        if alias.alias_type.is_table() != stored.alias_type.is_table() && stored.is_used(config) {
            return Err(Refusal::Conflict(format!(
                "alias_type: rules use {}; it cannot change between addresses and ports",
                stored.name
            )));
        }
        Ok(if alias == *stored { alias } else { Alias { updated_at: now, ..alias } })
    }

    fn alias(self, id: Id, created_at: Timestamp, updated_at: Timestamp) -> Result<Alias, Invalid> {
        let entries = self.entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
        let alias = Alias {
            id,
            name: self.name,
            alias_type: self.alias_type.0,
            entries: entries.map(str::to_owned).collect(),
            description: self.description,
            enabled: self.enabled.unwrap_or(true),
            refresh_secs: self.refresh_secs,
            created_at,
            updated_at,
        };
        alias.check()?;
        Ok(alias)
    }
}

fn check_name_is_free(config: &Config, alias: &Alias) -> Result<(), Refusal> {
    match config.aliases.find(alias.name.as_str()).find(|other| other.id != alias.id) {
        Some(_) => Err(Refusal::Conflict(format!("name: there is already an alias {}", alias.name))),
        None => Ok(()),
    }
}

/// Refuses to delete what rules need.
pub fn check_unused(config: &Config, alias: &Alias) -> Result<(), Refusal> {
    let name = alias.name.as_str();
    let (rules, nat) = (config.rules.find(name).count(), config.nat.find(name).count());
    if rules + nat == 0 {
        return Ok(());
    }
    Err(Refusal::Conflict(format!("alias {name} is used by {rules} rules and {nat} NAT rules")))
}

/// Writes the new name into every rule and NAT rule that has the old one. Their own times stay.
pub fn rename_uses(config: &mut Config, old: &TableName, new: &TableName) {
    let renamed = |address: &mut Address| {
        if address.table() == Some(old) {
            *address = Address::Table(new.clone());
        }
    };
    let side = |end: &mut Endpoint| {
        renamed(&mut end.addr);
        if end.port_alias.as_ref() == Some(old) {
            end.port_alias = Some(new.clone());
        }
    };
    let rules: Vec<Rule> = config.rules.find(old.as_str()).map(|rule| (**rule).clone()).collect();
    for mut rule in rules {
        side(&mut rule.src);
        side(&mut rule.dst);
        config.rules.insert(rule);
    }
    let nat: Vec<NatRule> = config.nat.find(old.as_str()).map(|rule| (**rule).clone()).collect();
    for mut rule in nat {
        renamed(&mut rule.src_addr);
        renamed(&mut rule.dst_addr);
        renamed(&mut rule.redirect.address);
        config.nat.insert(rule);
    }
}

/// Refuses a table that neither the product nor an alias provides.
pub(super) fn check_table(config: &Config, field: &str, table: &TableName) -> Result<(), Invalid> {
    let name = table.as_str();
    let country = name
        .strip_prefix(COUNTRY_TABLE_PREFIX)
        .is_some_and(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_lowercase()));
    if SYSTEM_TABLES.contains(&name) || country {
        return Ok(());
    }
    match config.aliases.find(name).next() {
        Some(alias) if alias.alias_type.is_table() => Ok(()),
        Some(_) => {
            Err(Invalid::new(field, format!("{name} is a port alias; expected an alias of addresses")))
        }
        None => Err(Invalid::new(field, format!("there is no alias {name}"))),
    }
}

/// Refuses a name that is no port alias.
pub(super) fn check_port_alias(config: &Config, field: &str, name: &TableName) -> Result<(), Invalid> {
    match config.aliases.find(name.as_str()).next() {
        Some(alias) if alias.alias_type == AliasKind::Port => Ok(()),
        Some(_) => Err(Invalid::new(field, format!("{name} is no port alias"))),
        None => Err(Invalid::new(field, format!("there is no port alias {name}"))),
    }
}

#[cfg(test)]
#[path = "alias_tests.rs"]
mod tests;
