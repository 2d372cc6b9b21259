//! Intrusion detection and prevention (contract/security.md §3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// What is done with traffic that a rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Disabled,
    /// It is reported.
    Ids,
    /// It is reported, and blocked where the rule says `drop` or `reject`.
    Ips,
}

/// Settings of the intrusion detection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IdsSettings {
    pub mode: Mode,
}

/// Takes over the part of the configuration that is the intrusion detection's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.ids = from.ids.clone();
}
