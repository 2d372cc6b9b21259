//! The resolver that serves the networks behind the appliance (contract/dns.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// Settings of the resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DnsResolver {
    pub enabled: bool,
}

/// Takes over the part of the configuration that is the resolver's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.dns_resolver = from.dns_resolver.clone();
}
