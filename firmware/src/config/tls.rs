//! What is allowed in TLS connections that pass, as the configuration document has it (contract/config.md §2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::id_or_new;
use super::{GeoIpAction, Id, Invalid};

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
    /// What the API shows to those who connect: PEM files. As long as they are not there it is one that the
    /// appliance has signed itself.
    pub cert_path: String,
    pub key_path: String,
}

/// Where certificates may lie that the API is to use.
pub const CERTIFICATES: [&str; 1] = ["/usr/local/etc/aifw/"];
const CERT_PATH: &str = "/usr/local/etc/aifw/tls/cert.pem";
const KEY_PATH: &str = "/usr/local/etc/aifw/tls/key.pem";

/// Versions of TLS, oldest first.
pub const VERSIONS: [&str; 5] = ["ssl30", "tls10", "tls11", "tls12", "tls13"];

/// What is absent stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsPolicyRequest {
    /// `ssl30`, `tls10`, `tls11` (all served as 1.2), `tls12` or `tls13`.
    min_version: Option<String>,
    block_expired: Option<bool>,
    block_weak_keys: Option<bool>,
    pub cert_path: Option<String>,
    pub key_path: Option<String>,
}

impl TlsPolicyRequest {
    /// The policy with the changes. Whether the files are a certificate and its key is looked at by those who can.
    pub fn change(self, stored: &TlsPolicy) -> Result<TlsPolicy, Invalid> {
        let mut policy = stored.clone();
        if let Some(version) = self.min_version {
            if !VERSIONS.contains(&version.as_str()) {
                return Err(Invalid::new("min_version", format!("expected {}", VERSIONS.join(", "))));
            }
            policy.min_version = version;
        }
        policy.block_expired = self.block_expired.unwrap_or(policy.block_expired);
        policy.block_weak_keys = self.block_weak_keys.unwrap_or(policy.block_weak_keys);
        for (field, given, kept) in [
            ("cert_path", self.cert_path, &mut policy.cert_path),
            ("key_path", self.key_path, &mut policy.key_path),
        ] {
            if let Some(path) = given {
                super::proxy::check_path(field, &path, &CERTIFICATES)?;
                *kept = path;
            }
        }
        Ok(policy)
    }
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
            cert_path: CERT_PATH.into(),
            key_path: KEY_PATH.into(),
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
