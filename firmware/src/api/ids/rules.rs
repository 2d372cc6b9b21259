//! Rules: searched, switched off and on, given another action.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KIND, READ, WRITE, missing};
use crate::api::resource::{Data, ListOf, Message};
use crate::api::services_common::audit;
use crate::api::{ApiError, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::config::ids::{IdsOverride, RuleAction};
use crate::config::request::Maybe;
use crate::config::{Config, Id, Timestamp};
use crate::services::ids::rules::{Hits, Rule};

const MOST: usize = 1000;
const QUERY: &[(&str, &str)] = &[
    ("ruleset_id", "of this ruleset only"),
    ("enabled", "true: in force; false: switched off"),
    ("search", "digits: the beginning of a sid; else text in message or rule"),
    ("q", "as search"),
    ("limit", "50 unless given, 1000 at most"),
    ("offset", "rules to leave out at the start"),
];

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/ids/rules", READ, "Rules, by sid", list)
            .answers::<ListOf<RuleView>>(200)
            .with_query(QUERY),
        Route::new("GET", "/ids/rules/search", READ, "Rules that hold a text, by sid", list)
            .answers::<ListOf<RuleView>>(200)
            .with_query(QUERY),
        Route::new("GET", "/ids/rules/{id}", READ, "A rule, by its id or its sid", get)
            .answers::<Data<RuleView>>(200),
        Route::new("PUT", "/ids/rules/{id}", WRITE, "Decide about a rule", decide)
            .takes::<Decision>()
            .answers::<Message>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RuleView {
    id: Id,
    ruleset_id: Id,
    sid: Option<u32>,
    rule_text: String,
    msg: Option<String>,
    severity: u8,
    enabled: bool,
    action_override: Option<RuleAction>,
    hit_count: u64,
    last_hit: Option<Timestamp>,
    created_at: Timestamp,
}

fn is_enabled(config: &Config, rule: &Rule) -> bool {
    let decided = config.ids_overrides.get(&rule.key());
    decided.and_then(|decided| decided.enabled).unwrap_or(rule.enabled)
}

fn view(config: &Config, rule: &Rule, hits: Hits) -> RuleView {
    let created_at =
        config.ids_rulesets.get(&rule.ruleset).map_or(Timestamp::UNIX_EPOCH, |set| set.created_at);
    RuleView {
        id: rule.id,
        ruleset_id: rule.ruleset,
        sid: Some(rule.sid),
        rule_text: rule.text.to_string(),
        msg: (!rule.msg.is_empty()).then(|| rule.msg.clone()),
        severity: rule.severity,
        enabled: is_enabled(config, rule),
        action_override: config.ids_overrides.get(&rule.key()).and_then(|decided| decided.action),
        hit_count: hits.count,
        last_hit: hits.last,
        created_at,
    }
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(50, MOST)?;
    let ruleset: Option<Id> = call.query_as("ruleset_id", "a UUID")?;
    let enabled: Option<bool> = call.query_as("enabled", "true or false")?;
    let text = call.query("search").or(call.query("q")).unwrap_or_default().trim().to_lowercase();
    let config = call.app.store.snapshot().config.clone();
    let ids = call.app.services.ids().clone();
    let (rows, total) = blocking::unblock(move || {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let matches = |rule: &Rule| match (text.is_empty(), digits) {
            (true, _) => true,
            (_, true) => rule.sid.to_string().starts_with(&text),
            _ => rule.msg.to_lowercase().contains(&text) || rule.text.to_lowercase().contains(&text),
        };
        let mut found: Vec<Rule> = Vec::new();
        for (set, rules) in ids.rules.all(&config) {
            if ruleset.is_some_and(|wanted| wanted != set.id) {
                continue;
            }
            let fits = |rule: &&Rule| {
                let on = is_enabled(&config, rule);
                let state = match enabled {
                    None => true,
                    Some(true) => on && set.enabled,
                    Some(false) => !on,
                };
                state && matches(rule)
            };
            found.extend(rules.iter().filter(fits).cloned());
        }
        found.sort_by_key(|rule| (rule.sid, rule.gid, rule.ruleset));
        let total = found.len();
        let rows: Vec<RuleView> =
            page.of(found).iter().map(|rule| view(&config, rule, ids.rules.hits(&rule.key()))).collect();
        (rows, total)
    })
    .await;
    Ok(Reply::page(&rows, total))
}

async fn find(call: &Call) -> Result<Rule, ApiError> {
    let wanted = call.param("id").to_owned();
    let config = call.app.store.snapshot().config.clone();
    let ids = call.app.services.ids().clone();
    let name = wanted.clone();
    let found = blocking::unblock(move || ids.rules.find(&config, &wanted)).await;
    found.ok_or_else(|| missing("rule", name))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let rule = find(&call).await?;
    let hits = call.app.services.ids().rules.hits(&rule.key());
    Ok(Reply::data(&view(&call.app.store.snapshot().config, &rule, hits)))
}

/// What is decided; what is left out stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
pub struct Decision {
    enabled: Option<bool>,
    /// `alert`, `drop`, `reject` or `pass`; `""` and null: as the ruleset says.
    #[serde(deserialize_with = "action")]
    action_override: Maybe<RuleAction>,
}

fn action<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Maybe<RuleAction>, D::Error> {
    match Option::<String>::deserialize(d)?.as_deref() {
        None | Some("") => Ok(Maybe::Null),
        Some("alert") => Ok(Maybe::Value(RuleAction::Alert)),
        Some("drop") => Ok(Maybe::Value(RuleAction::Drop)),
        Some("reject") => Ok(Maybe::Value(RuleAction::Reject)),
        Some("pass") => Ok(Maybe::Value(RuleAction::Pass)),
        Some(_) => Err(serde::de::Error::custom("expected alert, drop, reject or pass")),
    }
}

async fn decide(call: Call) -> Result<Reply, ApiError> {
    let rule = find(&call).await?;
    let decision: Decision = call.json()?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let key = rule.key();
            let stored = draft.config.ids_overrides.get(&key).map(|stored| (**stored).clone());
            let old = stored.unwrap_or(IdsOverride { rule: key.clone(), enabled: None, action: None });
            // What the ruleset says anyway need not be decided.
            let enabled =
                decision.enabled.map_or(old.enabled, Some).filter(|enabled| *enabled != rule.enabled);
            let decided = IdsOverride {
                rule: key.clone(),
                enabled,
                action: decision.action_override.or_keep(old.action),
            };
            draft.audit.push(audit("ids", &by, format!("rule {key} updated")));
            if decided.enabled.is_none() && decided.action.is_none() {
                draft.config.ids_overrides.remove(&key);
            } else {
                draft.config.ids_overrides.insert(decided);
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    call.app.applier.service_soon(&author, KIND, Wish::AsConfigured);
    Ok(Reply::message("rule updated"))
}
