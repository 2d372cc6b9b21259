//! What is allowed in TLS connections that pass, as the configuration document has it (contract/config.md §2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::id_or_new;
use super::{GeoIpAction, Id};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsPolicy {
    pub min_version: String,
    pub block_self_signed: bool,
    pub block_expired: bool,
    pub block_weak_keys: bool,
    /// JA3 fingerprints of clients that are refused.
    pub blocked_ja3: Vec<String>,
    pub sni_rules: Vec<SniRule>,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self {
            min_version: "tls12".into(),
            block_self_signed: false,
            block_expired: true,
            block_weak_keys: true,
            blocked_ja3: Vec::new(),
            sni_rules: Vec::new(),
        }
    }
}

/// A rule by server name (RFC 6066 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SniRule {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub pattern: String,
    pub action: GeoIpAction,
    pub label: Option<String>,
}
