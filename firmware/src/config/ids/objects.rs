//! Rulesets, decisions about single rules, suppressions.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expected;
use crate::config::request::{Maybe, check_text};
use crate::config::value::{id_or_new, plain_object};
use crate::config::{Config, Id, Invalid, Object, Refusal, Timestamp};

/// The language of a ruleset. Only Suricata's is ever given to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleFormat {
    Suricata,
    Sigma,
    Yara,
}

/// A set of rules that is fetched from somewhere, or given as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdsRuleset {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub source_url: Option<String>,
    pub rule_format: RuleFormat,
    pub enabled: bool,
    pub auto_update: bool,
    /// 0 = never by itself.
    pub update_interval_hours: u32,
    pub created_at: Timestamp,
}
plain_object!(IdsRuleset);

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    Alert,
    Drop,
    Reject,
    Pass,
}

impl RuleAction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Pass => "pass",
        }
    }
}

/// What an administrator has decided about one rule; outlives every new version of its ruleset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdsOverride {
    /// `gid:sid`
    pub rule: String,
    /// `None`: as the ruleset says.
    pub enabled: Option<bool>,
    pub action: Option<RuleAction>,
}

impl Object for IdsOverride {
    type Key = String;
    fn key(&self) -> String {
        self.rule.clone()
    }
}

/// Which end of a connection a suppression looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SuppressType {
    Src,
    Dst,
    Both,
}

/// Alerts of a rule that are not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdsSuppression {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub sid: u32,
    pub suppress_type: SuppressType,
    /// `None`: whoever it is.
    pub ip_cidr: Option<String>,
    pub created_at: Timestamp,
}
plain_object!(IdsSuppression);

impl IdsSuppression {
    pub fn net(&self) -> Option<IpNet> {
        let text = self.ip_cidr.as_ref()?;
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?)))
    }
    /// Whether it hides an alert of this rule between these addresses.
    pub fn hides(&self, sid: u32, src: IpAddr, dst: IpAddr) -> bool {
        let Some(net) = self.net() else { return self.sid == sid };
        let meets = match self.suppress_type {
            SuppressType::Src => net.contains(&src),
            SuppressType::Dst => net.contains(&dst),
            SuppressType::Both => net.contains(&src) || net.contains(&dst),
        };
        self.sid == sid && meets
    }
}

/// Body of POST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RulesetRequest {
    name: String,
    rule_format: RuleFormat,
    #[serde(default)]
    source_url: Option<String>,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default = "yes")]
    auto_update: bool,
    #[serde(default = "daily")]
    update_interval_hours: u32,
}

/// Body of PUT: what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RulesetChange {
    name: Option<String>,
    rule_format: Option<RuleFormat>,
    source_url: Maybe<String>,
    enabled: Option<bool>,
    auto_update: Option<bool>,
    update_interval_hours: Option<u32>,
}

fn yes() -> bool {
    true
}
fn daily() -> u32 {
    24
}

impl RulesetRequest {
    pub fn ruleset(self, now: Timestamp, config: &Config) -> Result<IdsRuleset, Refusal> {
        let ruleset = IdsRuleset {
            id: Id::new_v4(),
            name: self.name.trim().to_owned(),
            source_url: self.source_url.map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()),
            rule_format: self.rule_format,
            enabled: self.enabled,
            auto_update: self.auto_update,
            update_interval_hours: self.update_interval_hours,
            created_at: now,
        };
        ruleset.check(config)?;
        Ok(ruleset)
    }
}

impl RulesetChange {
    pub fn change(self, stored: &IdsRuleset, config: &Config) -> Result<IdsRuleset, Refusal> {
        let ruleset = IdsRuleset {
            name: self.name.map_or(stored.name.clone(), |name| name.trim().to_owned()),
            rule_format: self.rule_format.unwrap_or(stored.rule_format),
            source_url: self
                .source_url
                .or_keep(stored.source_url.clone())
                .filter(|url| !url.trim().is_empty()),
            enabled: self.enabled.unwrap_or(stored.enabled),
            auto_update: self.auto_update.unwrap_or(stored.auto_update),
            update_interval_hours: self.update_interval_hours.unwrap_or(stored.update_interval_hours),
            ..stored.clone()
        };
        ruleset.check(config)?;
        Ok(ruleset)
    }
}

impl IdsRuleset {
    fn check(&self, config: &Config) -> Result<(), Refusal> {
        if self.name.is_empty() {
            return Err(expected("name", "a name").into());
        }
        check_text("name", &self.name, 128)?;
        if let Some(text) = &self.source_url {
            let fits = url::Url::parse(text).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.host_str().is_some_and(|host| !host.is_empty())
            });
            if !fits || text.len() > 2048 {
                return Err(expected("source_url", "an http or https URL").into());
            }
        }
        if self.update_interval_hours > 8760 {
            return Err(expected("update_interval_hours", "0 to 8760").into());
        }
        let taken = config.ids_rulesets.iter().any(|other| other.id != self.id && other.name == self.name);
        if taken {
            return Err(Refusal::Conflict(format!("name: there is a ruleset {:?} already", self.name)));
        }
        Ok(())
    }
}

/// Body of POST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SuppressionRequest {
    sid: i64,
    suppress_type: SuppressType,
    #[serde(default)]
    ip_cidr: Option<String>,
}

impl SuppressionRequest {
    pub fn suppression(self, now: Timestamp, config: &Config) -> Result<IdsSuppression, Refusal> {
        let suppression = IdsSuppression {
            id: Id::new_v4(),
            sid: u32::try_from(self.sid)
                .ok()
                .filter(|sid| *sid > 0)
                .ok_or_else(|| Invalid::new("sid", "expected 1 or more"))?,
            suppress_type: self.suppress_type,
            ip_cidr: self.ip_cidr.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            created_at: now,
        };
        if suppression.ip_cidr.is_some() && suppression.net().is_none() {
            return Err(expected("ip_cidr", "an IP address or a network").into());
        }
        let same = |other: &IdsSuppression| {
            (other.sid, other.suppress_type, other.net())
                == (suppression.sid, suppression.suppress_type, suppression.net())
        };
        if config.ids_suppressions.iter().any(|other| same(other)) {
            return Err(Refusal::Conflict(format!("sid: {} is suppressed so already", suppression.sid)));
        }
        Ok(suppression)
    }
}

/// What a fresh system knows of, disabled.
pub fn seeds() -> Vec<IdsRuleset> {
    [
        (
            1,
            "ET Open (Emerging Threats)",
            "https://rules.emergingthreats.net/open/suricata-7.0/emerging-all.rules",
        ),
        (2, "Abuse.ch SSLBL", "https://sslbl.abuse.ch/blacklist/sslblacklist.rules"),
    ]
    .map(|(number, name, url)| IdsRuleset {
        id: Id::from_u128(0xa000_0000_0000_0000_0000_0000_0000_0000 + number),
        name: name.into(),
        source_url: Some(url.into()),
        rule_format: RuleFormat::Suricata,
        enabled: false,
        auto_update: true,
        update_interval_hours: 24,
        created_at: Timestamp::UNIX_EPOCH,
    })
    .to_vec()
}
