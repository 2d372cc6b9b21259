//! Settings that exist once: authentication, firewall, history, dashboard.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// contract/auth.md §9.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuthSettings {
    pub access_token_expiry_mins: u32,
    pub refresh_token_expiry_days: u32,
    pub require_totp: bool,
    pub require_totp_for_oauth: bool,
    pub auto_create_oauth_users: bool,
    pub max_login_attempts: u32,
    pub lockout_duration_secs: u32,
    pub allow_registration: bool,
    pub password_min_length: u32,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            access_token_expiry_mins: 480,
            refresh_token_expiry_days: 30,
            require_totp: false,
            require_totp_for_oauth: false,
            auto_create_oauth_users: true,
            max_login_attempts: 5,
            lockout_duration_secs: 300,
            allow_registration: false,
            password_min_length: 8,
        }
    }
}

/// What happens to packets that no rule decides (contract/firewall.md §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultPolicy {
    #[default]
    Standard,
    Strict,
    Permissive,
}

/// Settings of the main ruleset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FirewallSettings {
    pub default_policy: DefaultPolicy,
    pub block_logging: bool,
    pub anti_lockout: bool,
    /// Source NAT from LAN to WAN after the administrator's own NAT rules.
    pub automatic_nat: bool,
    /// `set limit states`: 1,000 to 4,000,000.
    pub max_states: u32,
    /// `set limit table-entries`.
    pub max_table_entries: u32,
    /// `set limit src-nodes` and `set limit frags`; `None` = pf's own.
    pub max_src_nodes: Option<u32>,
    pub max_frags: Option<u32>,
    /// `set timeout`, by pf's names: seconds, of `adaptive.*` states; those that are not here are pf's own.
    pub timeouts: BTreeMap<String, u32>,
}

impl Default for FirewallSettings {
    fn default() -> Self {
        Self {
            default_policy: DefaultPolicy::Standard,
            block_logging: true,
            anti_lockout: true,
            automatic_nat: true,
            max_states: 100_000,
            max_table_entries: 1_000_000,
            max_src_nodes: None,
            max_frags: None,
            timeouts: BTreeMap::new(),
        }
    }
}

/// How many versions the history keeps (contract/config.md, `/config/retention`): 5 to 10,000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HistorySettings {
    pub max_versions: u32,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self { max_versions: 200 }
    }
}

/// By what the dashboard's past is limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HistoryMode {
    #[default]
    Duration,
    Ram,
}

/// How much of the past the dashboard keeps (contract/system.md §3.7): 300 to 2,592,000 s, one entry a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DashboardSettings {
    /// What holds; follows from `ram_limit_mb` in that mode.
    pub history_seconds: u32,
    pub mode: HistoryMode,
    /// 0 = never set.
    pub ram_limit_mb: u32,
}

impl Default for DashboardSettings {
    fn default() -> Self {
        Self { history_seconds: 1800, mode: HistoryMode::Duration, ram_limit_mb: 0 }
    }
}

/// A value of the machine that the administrator has set (contract/config.md §2 `tuning`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TuningEntry {
    pub key: String,
    pub value: String,
    /// `sysctl`, `loader` …
    pub target: String,
    pub reason: String,
    pub enabled: bool,
}

/// All but `pf.max_states`, which is [`FirewallSettings::max_states`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tuning {
    pub entries: Vec<TuningEntry>,
}
