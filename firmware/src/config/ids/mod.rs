//! Intrusion detection and prevention (contract/security.md §3): settings here; rulesets, what an administrator has
//! decided about single rules, and suppressions in `objects`.

mod objects;

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::Maybe;
use super::{Config, InterfaceName, Invalid};
pub use objects::{
    IdsOverride, IdsRuleset, IdsSuppression, RuleAction, RuleFormat, RulesetChange, RulesetRequest,
    SuppressType, SuppressionRequest, seeds,
};

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

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Ids => "ids",
            Self::Ips => "ips",
        }
    }
}

/// How traffic is blocked in mode `ips`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpsMethod {
    /// [`IpsMethod::Table`].
    #[default]
    Auto,
    /// The source of an alert is put into a table of pf for a time: works everywhere, the first packets pass.
    Table,
    /// pf hands packets to the engine, which lets them through or not (divert(4)).
    Divert,
    /// The engine stands between a network card and the system (netmap(4)).
    Netmap,
}

/// Settings of the intrusion detection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IdsSettings {
    pub mode: Mode,
    /// IP addresses and networks, `!` for not.
    pub home_net: Vec<String>,
    pub external_net: Vec<String>,
    /// Empty: all but loopback and pf's own.
    pub interfaces: Vec<String>,
    pub alert_retention_days: u32,
    pub eve_log_enabled: bool,
    pub eve_log_path: Option<String>,
    /// `host:port`.
    pub syslog_target: Option<String>,
    pub worker_count: Option<u32>,
    pub flow_table_size: Option<u32>,
    /// Bytes; 0 = unlimited.
    pub stream_depth: Option<u64>,
    pub flow_stream_depth_kb: Option<u32>,
    pub flow_reassembly_budget_mb: Option<u32>,
    pub ips_method: IpsMethod,
    /// Seconds for which a source stays blocked.
    pub ips_block_secs: u32,
    /// Without the engine traffic passes.
    pub ips_fail_open: bool,
    /// Rules of this severity and more severe ones block in mode `ips`, whatever they say; 0 = none.
    pub ips_drop_severity: u8,
    /// MiB of alerts that are kept at most.
    pub alert_buffer_mb: u32,
    /// Seconds after which alerts leave the buffer.
    pub alert_buffer_age_secs: u32,
}

impl Default for IdsSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Disabled,
            home_net: ["192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12"].map(str::to_owned).to_vec(),
            external_net: vec!["!$HOME_NET".into()],
            interfaces: Vec::new(),
            alert_retention_days: 30,
            eve_log_enabled: false,
            eve_log_path: None,
            syslog_target: None,
            worker_count: None,
            flow_table_size: None,
            stream_depth: None,
            flow_stream_depth_kb: None,
            flow_reassembly_budget_mb: None,
            ips_method: IpsMethod::Auto,
            ips_block_secs: 3600,
            ips_fail_open: true,
            ips_drop_severity: 0,
            alert_buffer_mb: 64,
            alert_buffer_age_secs: 86_400,
        }
    }
}

/// Settings to change; what is left out stays, null resets.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IdsSettingsRequest {
    mode: Option<Mode>,
    home_net: Option<Vec<String>>,
    external_net: Option<Vec<String>>,
    interfaces: Option<Vec<String>>,
    alert_retention_days: Option<i64>,
    eve_log_enabled: Option<bool>,
    eve_log_path: Option<String>,
    syslog_target: Maybe<String>,
    worker_count: Maybe<u64>,
    flow_table_size: Maybe<u64>,
    stream_depth: Maybe<u64>,
    flow_stream_depth_kb: Maybe<u64>,
    flow_reassembly_budget_mb: Maybe<u64>,
    ips_method: Option<IpsMethod>,
    ips_block_secs: Option<u32>,
    ips_fail_open: Option<bool>,
    ips_drop_severity: Option<u8>,
}

const DEEPEST_STREAM: u64 = 16 << 20;

fn expected(field: &str, what: &str) -> Invalid {
    Invalid::new(field, format!("expected {what}"))
}

/// An address or a network, perhaps with `!` before it.
fn is_net(text: &str) -> bool {
    let bare = text.strip_prefix('!').unwrap_or(text);
    bare.parse::<IpNet>().is_ok() || bare.parse::<IpAddr>().is_ok()
}

impl IdsSettingsRequest {
    /// The settings with the changes, or which of them is wrong.
    pub fn change(self, stored: &IdsSettings) -> Result<IdsSettings, Invalid> {
        let old = stored.clone();
        let clamped = |given: Maybe<u64>, old: Option<u32>, most: u32| match given {
            Maybe::Absent => old,
            Maybe::Null => None,
            Maybe::Value(number) => Some(u32::try_from(number).unwrap_or(most).clamp(1, most)),
        };
        let days = self.alert_retention_days.unwrap_or(old.alert_retention_days.into());
        let settings = IdsSettings {
            mode: self.mode.unwrap_or(old.mode),
            home_net: self.home_net.unwrap_or(old.home_net),
            external_net: self.external_net.unwrap_or(old.external_net),
            interfaces: self.interfaces.unwrap_or(old.interfaces),
            alert_retention_days: u32::try_from(days)
                .ok()
                .filter(|days| (1..=3650).contains(days))
                .ok_or_else(|| expected("alert_retention_days", "1 to 3650"))?,
            eve_log_enabled: self.eve_log_enabled.unwrap_or(old.eve_log_enabled),
            eve_log_path: match self.eve_log_path {
                Some(path) => Some(path).filter(|path| !path.is_empty()),
                None => old.eve_log_path,
            },
            syslog_target: self.syslog_target.or_keep(old.syslog_target).filter(|target| !target.is_empty()),
            worker_count: clamped(self.worker_count, old.worker_count, 64),
            flow_table_size: clamped(self.flow_table_size, old.flow_table_size, 1_000_000),
            stream_depth: self.stream_depth.or_keep(old.stream_depth).map(|depth| depth.min(DEEPEST_STREAM)),
            flow_stream_depth_kb: clamped(self.flow_stream_depth_kb, old.flow_stream_depth_kb, 4096),
            flow_reassembly_budget_mb: clamped(
                self.flow_reassembly_budget_mb,
                old.flow_reassembly_budget_mb,
                4096,
            ),
            ips_method: self.ips_method.unwrap_or(old.ips_method),
            ips_block_secs: self.ips_block_secs.unwrap_or(old.ips_block_secs),
            ips_fail_open: self.ips_fail_open.unwrap_or(old.ips_fail_open),
            ips_drop_severity: self.ips_drop_severity.unwrap_or(old.ips_drop_severity),
            ..old
        };
        settings.check().map(|()| settings)
    }
}

impl IdsSettings {
    fn check(&self) -> Result<(), Invalid> {
        if self.home_net.is_empty() || !self.home_net.iter().all(|net| is_net(net)) {
            return Err(expected("home_net", "at least one IP address or network, such as 192.168.0.0/16"));
        }
        let external =
            |net: &String| ["any", "$HOME_NET", "!$HOME_NET"].contains(&net.as_str()) || is_net(net);
        if self.external_net.is_empty() || !self.external_net.iter().all(external) {
            return Err(expected("external_net", "IP addresses, networks, any, $HOME_NET or !$HOME_NET"));
        }
        for name in &self.interfaces {
            InterfaceName::new(name).map_err(|bad| bad.field("interfaces"))?;
        }
        if let Some(path) = &self.eve_log_path {
            super::proxy::check_path("eve_log_path", path, &["/var/log/"])?;
            if !path.ends_with(".json") {
                return Err(expected("eve_log_path", "a name that ends in .json"));
            }
        }
        if let Some(target) = &self.syslog_target {
            let fits = target.rsplit_once(':').is_some_and(|(host, port)| {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let known = host.parse::<IpAddr>().is_ok() || super::dhcp::names::is_domain(host);
                known && port.parse::<u16>().is_ok_and(|port| port != 0)
            });
            if !fits {
                return Err(expected("syslog_target", "host:port"));
            }
        }
        if !(60..=2_592_000).contains(&self.ips_block_secs) {
            return Err(expected("ips_block_secs", "60 to 2592000 seconds"));
        }
        if self.ips_drop_severity > 4 {
            return Err(expected("ips_drop_severity", "0 to 4"));
        }
        Ok(())
    }
}

/// Takes over the part of the configuration that is the intrusion detection's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.ids = from.ids.clone();
    into.ids_rulesets = from.ids_rulesets.clone();
    into.ids_overrides = from.ids_overrides.clone();
    into.ids_suppressions = from.ids_suppressions.clone();
}
