//! The reverse proxy (contract/reverse-proxy.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// Settings of the reverse proxy as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxySettings {
    pub enabled: bool,
}

/// Takes over the part of the configuration that is the reverse proxy's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.proxy = from.proxy.clone();
}
