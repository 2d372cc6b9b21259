//! Rules by country → anchor `aifw-geoip` (contract/firewall.md §8.3). The tables stand in the same text as the
//! rules, so that both change at once; their networks are in files.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::country_of;
use super::{COUNTRY_DIRECTORY, Context, Output};
use crate::config::{GeoIpAction, GeoIpRule, Status, TableName};
use crate::pf::ast::*;

/// Always let through by an allow-list: private (RFC 1918, RFC 4193), shared (RFC 6598), loopback, link-local
/// and multicast networks.
const ALWAYS_ALLOWED: [&str; 11] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "::1",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

fn file_of(name: &str) -> String {
    format!("{COUNTRY_DIRECTORY}/{name}.txt")
}

fn table(name: &str, path: &str) -> Option<Statement> {
    let definition = TableDefinition {
        name: Table::new(name).ok()?,
        persist: true,
        constant: false,
        counters: false,
        contents: vec![TableContents::File(Text::new(path).ok()?)],
    };
    Some(Item::Table(definition).into())
}

fn lines(networks: &[IpNet]) -> impl Iterator<Item = String> + '_ {
    networks.iter().map(ToString::to_string)
}

/// Tables of countries that rules of another anchor name, defined there; each once.
pub(super) fn tables<'a>(
    context: &Context<'_>,
    named: impl IntoIterator<Item = &'a TableName>,
    output: &mut Output,
) -> Vec<Statement> {
    let countries: BTreeSet<(String, &str)> =
        named.into_iter().filter_map(|name| Some((country_of(name)?, name.as_str()))).collect();
    let define = |(code, name): (String, &str)| {
        let path = file_of(&code.to_ascii_lowercase());
        let networks = (context.environment.countries)(&code);
        output.files.entry(path.clone()).or_insert_with(|| lines(&networks).collect());
        table(name, &path)
    };
    countries.into_iter().filter_map(define).collect()
}

/// The whole anchor.
pub(super) fn ruleset(context: &Context<'_>, output: &mut Output) -> Ruleset {
    let active = context.config.geoip.iter().filter(|rule| rule.status == Status::Active);
    let mut rules: Vec<&Arc<GeoIpRule>> = active.collect();
    rules.sort_by_key(|rule| (rule.country.clone(), rule.id));
    let (mut tables, mut blocks, mut allowed) = (Vec::new(), Vec::new(), Vec::new());
    let mut allow = false;
    for rule in rules {
        let networks = (context.environment.countries)(rule.country.as_str());
        if networks.is_empty() {
            output.warn(rule.id, format!("left out: no networks are known for country {}", rule.country));
            continue;
        }
        if rule.action == GeoIpAction::Allow {
            allow = true;
            allowed.extend(lines(&networks));
            continue;
        }
        let name = rule.country.table_name();
        let path = file_of(&rule.country.as_str().to_ascii_lowercase());
        tables.extend(table(&name, &path));
        output.files.entry(path).or_insert_with(|| lines(&networks).collect());
        blocks.extend(lines_of(context, rule));
    }
    if allow && context.roles.wan.is_empty() {
        output.warnings.push(super::Warning {
            rule: None,
            text: "countries are allowed, but no interface is the WAN: nothing is blocked by them".into(),
        });
    } else if allow {
        allowed.extend(ALWAYS_ALLOWED.map(str::to_owned));
        let path = file_of("allow");
        tables.extend(table("geoip_allow", &path));
        output.files.insert(path, allowed);
        blocks.extend(unless_allowed(context));
    }
    let rules = blocks.into_iter().map(|rule| Item::Filter(rule).into());
    Ruleset { statements: tables.into_iter().chain(rules).collect() }
}

/// The lines of one rule, whatever its status, without the tables they name.
pub(super) fn lines_of(context: &Context<'_>, rule: &GeoIpRule) -> Vec<FilterRule> {
    if rule.action == GeoIpAction::Allow {
        return unless_allowed(context).collect();
    }
    let default = format!("geoip-block-{}", rule.country);
    let label = rule.label.as_ref().map_or(default.as_str(), |label| label.as_str());
    let labels = [label, &format!("geoip:{}", rule.id)];
    block(context, &rule.country.table_name(), false, None, &labels).into_iter().collect()
}

/// The lines of all rules that allow, together.
fn unless_allowed(context: &Context<'_>) -> impl Iterator<Item = FilterRule> {
    let wans = context.roles.wan.iter();
    wans.filter_map(|wan| block(context, "geoip_allow", true, Some(wan.into()), &["geoip-not-allowed"]))
}

fn block(
    context: &Context<'_>,
    table: &str,
    negate: bool,
    on: Option<InterfaceMatch>,
    labels: &[&str],
) -> Option<FilterRule> {
    let mut rule = FilterRule::new(Action::Block(Block::Drop));
    rule.log = context.config.firewall.block_logging.then(Log::default);
    rule.quick = true;
    let host = Host::Table(Table::new(table).ok()?);
    let from = Endpoint { hosts: vec![HostItem { negate, host }], ports: Vec::new() };
    rule.criteria = Criteria {
        direction: Some(Direction::In),
        on: on.into_iter().collect(),
        between: FromTo::Between { from, to: Endpoint::default() },
        ..Criteria::default()
    };
    rule.options.labels = labels.iter().map(|label| Text::nearest(label, 63)).collect();
    Some(rule)
}
