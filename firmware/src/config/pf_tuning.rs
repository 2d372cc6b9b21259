//! Limits and time-outs of pf (contract/system.md §3.3), part of the firewall's settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FirewallSettings, Invalid};

pub const MIN: u32 = 1_000;
pub const MAX: u32 = 4_000_000;
/// pf's own limits of what is not set (pf.conf(5), `set limit`).
pub const SRC_NODES: u32 = 10_000;
pub const FRAGS: u32 = 5_000;
/// Seconds at most; a year.
const LONGEST: u32 = 31_536_000;

/// pf's time-outs and what they are unless set (pf.conf(5), `set timeout`). `adaptive.*` follow the limit of states.
pub const TIMEOUTS: [(&str, u32); 25] = [
    ("tcp.first", 120),
    ("tcp.opening", 30),
    ("tcp.established", 86_400),
    ("tcp.closing", 900),
    ("tcp.finwait", 45),
    ("tcp.closed", 90),
    ("tcp.tsdiff", 30),
    ("sctp.first", 120),
    ("sctp.opening", 30),
    ("sctp.established", 86_400),
    ("sctp.closing", 900),
    ("sctp.closed", 90),
    ("udp.first", 60),
    ("udp.single", 30),
    ("udp.multiple", 60),
    ("icmp.first", 20),
    ("icmp.error", 10),
    ("other.first", 60),
    ("other.single", 30),
    ("other.multiple", 60),
    ("frag", 60),
    ("interval", 10),
    ("adaptive.start", 60_000),
    ("adaptive.end", 120_000),
    ("src.track", 0),
];

/// What pf has of its own for a limit of states.
pub fn usual_timeout(name: &str, max_states: u32) -> Option<u32> {
    match name {
        "adaptive.start" => Some(max_states / 10 * 6),
        "adaptive.end" => Some(max_states / 10 * 12),
        name => TIMEOUTS.iter().find(|(known, _)| *known == name).map(|(_, seconds)| *seconds),
    }
}

/// What is absent stays; null goes back to pf's own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PfTuningRequest {
    /// 1000 to 4000000.
    max_states: Option<i64>,
    /// `src-nodes`, `frags`, `table-entries`: 1000 to 4000000.
    limits: BTreeMap<String, Option<i64>>,
    /// By pf's names.
    timeouts: BTreeMap<String, Option<i64>>,
}

fn bounded(field: &str, number: i64) -> Result<u32, Invalid> {
    let fits = u32::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
    fits.ok_or_else(|| Invalid::new(field, format!("expected {MIN} to {MAX}")))
}

impl PfTuningRequest {
    pub fn change(self, stored: &FirewallSettings) -> Result<FirewallSettings, Invalid> {
        let mut settings = stored.clone();
        if self.max_states.is_none() && self.limits.is_empty() && self.timeouts.is_empty() {
            return Err(Invalid::new("max_states", format!("expected {MIN} to {MAX}")));
        }
        if let Some(states) = self.max_states {
            settings.max_states = bounded("max_states", states)?;
        }
        for (name, value) in self.limits {
            let field = format!("limits.{name}");
            let value = value.map(|number| bounded(&field, number)).transpose()?;
            match name.as_str() {
                "src-nodes" => settings.max_src_nodes = value,
                "frags" => settings.max_frags = value,
                "table-entries" => {
                    let usual = FirewallSettings::default().max_table_entries;
                    settings.max_table_entries = value.unwrap_or(usual);
                }
                _ => return Err(Invalid::new(field, "expected src-nodes, frags or table-entries")),
            }
        }
        for (name, value) in self.timeouts {
            let field = format!("timeouts.{name}");
            if usual_timeout(&name, 0).is_none() {
                return Err(Invalid::new(field, "expected the name of a time-out of pf"));
            }
            let Some(value) = value else {
                settings.timeouts.remove(&name);
                continue;
            };
            let may_be_off = name.starts_with("adaptive.") || name == "src.track";
            let bounds = if may_be_off { 0..=LONGEST } else { 1..=LONGEST };
            let fits = u32::try_from(value).ok().filter(|number| bounds.contains(number));
            let number = fits.ok_or_else(|| {
                Invalid::new(field, format!("expected {} to {}", bounds.start(), bounds.end()))
            })?;
            settings.timeouts.insert(name, number);
        }
        let adaptive = |name: &str| {
            let usual = || usual_timeout(name, settings.max_states).unwrap_or(0);
            settings.timeouts.get(name).copied().unwrap_or_else(usual)
        };
        let (start, end) = (adaptive("adaptive.start"), adaptive("adaptive.end"));
        if start > 0 && end <= start {
            return Err(Invalid::new(
                "timeouts.adaptive.end",
                format!("expected more states than adaptive.start, which is {start}"),
            ));
        }
        Ok(settings)
    }
}

impl FirewallSettings {
    /// Takes over limits and time-outs of another; the rest stays.
    pub fn adopt_tuning(&mut self, from: &Self) {
        self.max_states = from.max_states;
        self.max_table_entries = from.max_table_entries;
        self.max_src_nodes = from.max_src_nodes;
        self.max_frags = from.max_frags;
        self.timeouts = from.timeouts.clone();
    }

    /// What of a document's limits and time-outs is out of bounds.
    pub fn check_tuning(&self) -> Result<(), Invalid> {
        let limits = [
            ("max_states", Some(self.max_states)),
            ("max_table_entries", Some(self.max_table_entries)),
            ("max_src_nodes", self.max_src_nodes),
            ("max_frags", self.max_frags),
        ];
        for (field, limit) in limits {
            if let Some(limit) = limit {
                bounded(&format!("firewall.{field}"), limit.into())?;
            }
        }
        let timeouts = self.timeouts.iter().map(|(name, value)| (name.clone(), Some(i64::from(*value))));
        let request = PfTuningRequest {
            max_states: Some(self.max_states.into()),
            limits: BTreeMap::new(),
            timeouts: timeouts.collect(),
        };
        let within = |invalid: Invalid| Invalid { field: format!("firewall.{}", invalid.field), ..invalid };
        request.change(self).map(drop).map_err(within)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::request;

    fn put(body: &str) -> Result<FirewallSettings, Invalid> {
        request::parse::<PfTuningRequest>(body.as_bytes())?.change(&FirewallSettings::default())
    }

    #[test]
    fn bounds() {
        for (body, field) in [
            ("{}", "max_states"),
            (r#"{"max_states":999}"#, "max_states"),
            (r#"{"max_states":4000001}"#, "max_states"),
            (r#"{"max_states":-1}"#, "max_states"),
            (r#"{"limits":{"frags":1}}"#, "limits.frags"),
            (r#"{"limits":{"anchors":5000}}"#, "limits.anchors"),
            (r#"{"timeouts":{"tcp.first":0}}"#, "timeouts.tcp.first"),
            (r#"{"timeouts":{"tcp.last":5}}"#, "timeouts.tcp.last"),
            (r#"{"timeouts":{"adaptive.start":200000}}"#, "timeouts.adaptive.end"),
        ] {
            assert_eq!(put(body).unwrap_err().field, field, "{body}");
        }
        assert_eq!(put(r#"{"max_states":999}"#).unwrap_err().reason, "expected 1000 to 4000000");
        let tuned = put(
            r#"{"max_states":250000,"limits":{"src-nodes":20000},"timeouts":{"src.track":0,"udp.first":90}}"#,
        );
        let tuned = tuned.unwrap();
        assert_eq!(
            (tuned.max_states, tuned.max_src_nodes, tuned.timeouts["udp.first"]),
            (250_000, Some(20_000), 90)
        );
        assert!(tuned.check_tuning().is_ok());
    }
}
