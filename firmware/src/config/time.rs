//! The time service (contract/time.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// Settings of the time service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeSettings {
    pub enabled: bool,
}

/// Takes over the part of the configuration that is the time service's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.time = from.time.clone();
}
