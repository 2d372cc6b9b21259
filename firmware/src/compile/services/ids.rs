//! What Suricata is given (contract/security.md §3.3): suricata.yaml, threshold.config and the one file of rules; and
//! the pf lines that block. Pure: rules are parsed and chosen by the caller.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::{Facts, File};
use crate::compile::Environment;
use crate::compile::template::{self, TemplateError};
use crate::config::ids::{IdsSuppression, IpsMethod, Mode, SuppressType};
use crate::config::{Config, TableName};
use crate::pf::ast::*;

const TEMPLATE: &str = include_str!("../../../../templates/suricata/suricata.yaml");

/// Where blocked sources are.
pub const BLOCK_TABLE: &str = "aifw_ids_block";

/// Where the packaged files of Suricata are looked for.
const PACKAGED: [&str; 2] = ["/usr/local/etc/suricata", "/etc/suricata"];

#[derive(Serialize)]
struct Values {
    home_net: String,
    external_net: String,
    log_dir: PathBuf,
    rule_dir: PathBuf,
    threshold_file: PathBuf,
    classification_file: PathBuf,
    reference_file: PathBuf,
    socket: PathBuf,
    inline: bool,
    eve_log: Option<PathBuf>,
    interfaces: Vec<String>,
    flow_memcap: u64,
    flow_hash_size: u32,
    stream_depth: u64,
    reassembly_memcap: u64,
    detect_thread_ratio: f64,
}

/// Traffic that the engine sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capture {
    /// Interfaces, by pcap(3).
    Live(Vec<String>),
    /// Files that are put into a directory, one after the other: the sandbox, whose interfaces are simulated.
    Files,
}

/// Interfaces that are captured on: those that are asked for and exist, or all but loopback and pf's own.
pub fn interfaces(config: &Config, facts: &Facts) -> (Vec<String>, Vec<String>) {
    let known: Vec<&str> = facts.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let mut warnings = Vec::new();
    let chosen = match config.ids.interfaces.is_empty() {
        true => {
            let own = ["lo", "pflog", "pfsync", "enc"];
            let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
            let skipped = |name: &str| own.iter().any(|own| name.strip_prefix(own).is_some_and(digits));
            known.iter().filter(|name| !skipped(name)).map(|name| (*name).to_owned()).collect()
        }
        false => config
            .ids
            .interfaces
            .iter()
            .filter(|name| {
                let there = known.contains(&name.as_str());
                if !there {
                    warnings.push(format!("interfaces: {name} does not exist now, and is not captured on"));
                }
                there
            })
            .cloned()
            .collect(),
    };
    (chosen, warnings)
}

/// `[a,b,!c]`
fn group(nets: &[String]) -> String {
    match nets {
        [one] => one.clone(),
        many => format!("[{}]", many.join(",")),
    }
}

/// The daemon's own file.
pub fn yaml(config: &Config, capture: &Capture, cpus: usize, facts: &Facts) -> Result<File, TemplateError> {
    const MIB: u64 = 1 << 20;
    let settings = &config.ids;
    let places = &facts.places;
    let packaged = |name: &str| {
        let mut found = PACKAGED.iter().map(|directory| PathBuf::from(directory).join(name));
        found.clone().find(|path| path.is_file()).or_else(|| found.next_back()).unwrap_or_default()
    };
    let flows = settings.flow_table_size.unwrap_or(65_536);
    let depth =
        settings.stream_depth.or(settings.flow_stream_depth_kb.map(|kb| u64::from(kb) * 1024)).unwrap_or(MIB);
    let values = Values {
        home_net: group(&settings.home_net),
        external_net: group(&settings.external_net),
        log_dir: places.log.clone(),
        rule_dir: places.config.join("rules"),
        threshold_file: places.config.join("threshold.config"),
        classification_file: packaged("classification.config"),
        reference_file: packaged("reference.config"),
        socket: places.run.join("command.sock"),
        inline: settings.mode == Mode::Ips
            && matches!(settings.ips_method, IpsMethod::Divert | IpsMethod::Netmap),
        eve_log: settings
            .eve_log_path
            .as_ref()
            .filter(|_| settings.eve_log_enabled)
            .map(|path| facts.path(path)),
        interfaces: match capture {
            Capture::Live(interfaces) => interfaces.clone(),
            Capture::Files => Vec::new(),
        },
        flow_memcap: (u64::from(flows) * 1024).max(32 * MIB),
        flow_hash_size: flows.next_power_of_two(),
        stream_depth: depth,
        reassembly_memcap: settings.flow_reassembly_budget_mb.map_or(256 * MIB, |mb| u64::from(mb) * MIB),
        detect_thread_ratio: settings
            .worker_count
            .map_or(1.0, |workers| f64::from(workers) / cpus.max(1) as f64),
    };
    Ok(File::new("suricata.yaml", template::render("suricata/suricata.yaml", TEMPLATE, values)?))
}

/// A line each; the row's network was checked when it was stored.
pub fn thresholds(config: &Config) -> File {
    let mut rows: Vec<&IdsSuppression> = config.ids_suppressions.iter().map(|row| &**row).collect();
    rows.sort_by_key(|row| (row.sid, row.id));
    let mut text = String::new();
    for row in rows {
        let track = match row.suppress_type {
            SuppressType::Src => "by_src",
            SuppressType::Dst => "by_dst",
            SuppressType::Both => "by_either",
        };
        let end = match &row.ip_cidr {
            Some(net) => format!(", track {track}, ip {net}"),
            None => String::new(),
        };
        // Writing into a string has no way to fail.
        let _ = writeln!(text, "suppress gen_id 1, sig_id {}{end}", row.sid);
    }
    File::new("threshold.config", text)
}

/// Whether sources are blocked by a table of pf.
pub fn blocks_by_table(config: &Config) -> bool {
    let method = config.ids.ips_method;
    config.ids.mode == Mode::Ips && matches!(method, IpsMethod::Auto | IpsMethod::Table)
}

/// Its lines of pf: nothing from a blocked source comes in, nothing goes to one.
pub fn rules(config: &Config, _: &Environment) -> Ruleset {
    let mut rules = Vec::new();
    if blocks_by_table(config)
        && let Ok(name) = TableName::new(BLOCK_TABLE)
        && let Ok(table) = Table::new(name.as_str())
    {
        let blocked = || Endpoint { hosts: vec![Host::Table(table.clone()).into()], ports: Vec::new() };
        for direction in [Direction::In, Direction::Out] {
            let mut rule = FilterRule::new(Action::Block(Block::Drop));
            rule.quick = true;
            rule.criteria.direction = Some(direction);
            let (from, to) = match direction {
                Direction::In => (blocked(), Endpoint::default()),
                _ => (Endpoint::default(), blocked()),
            };
            rule.criteria.between = FromTo::Between { from, to };
            rule.options.labels = vec![Text::nearest("ids-block", 63)];
            rules.push(rule);
        }
    }
    Ruleset { statements: rules.into_iter().map(|rule| Item::Filter(rule).into()).collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::config::{Id, Timestamp};

    #[test]
    fn suppressions_are_a_line_each() {
        let mut config = Config::default();
        for (number, (suppress_type, ip_cidr)) in [
            (SuppressType::Both, None),
            (SuppressType::Src, Some("10.0.0.0/8")),
            (SuppressType::Dst, Some("10.0.0.1")),
            (SuppressType::Both, Some("127.0.0.0/8")),
        ]
        .into_iter()
        .enumerate()
        {
            config.ids_suppressions.insert(IdsSuppression {
                id: Id::from_u128(number as u128),
                sid: 7 + number as u32,
                suppress_type,
                ip_cidr: ip_cidr.map(str::to_owned),
                created_at: Timestamp::UNIX_EPOCH,
            });
        }
        assert_eq!(
            String::from_utf8(thresholds(&config).bytes).unwrap(),
            "suppress gen_id 1, sig_id 7\n\
             suppress gen_id 1, sig_id 8, track by_src, ip 10.0.0.0/8\n\
             suppress gen_id 1, sig_id 9, track by_dst, ip 10.0.0.1\n\
             suppress gen_id 1, sig_id 10, track by_either, ip 127.0.0.0/8\n"
        );
    }

    #[test]
    fn blocked_sources_have_two_lines_in_prevention_only() {
        let mut config = Config::default();
        Arc::make_mut(&mut config.ids).mode = Mode::Ids;
        assert_eq!(rules(&config, &Environment::empty()).to_string(), "");
        Arc::make_mut(&mut config.ids).mode = Mode::Ips;
        assert_eq!(
            rules(&config, &Environment::empty()).to_string(),
            "block drop in quick from <aifw_ids_block> to any label \"ids-block\"\n\
             block drop out quick from any to <aifw_ids_block> label \"ids-block\"\n"
        );
    }
}
