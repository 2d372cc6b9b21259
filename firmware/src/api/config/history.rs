//! Saved versions: list, read, compare, save, and how many are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diff::{self, Sections};
use super::{Derived, Fingerprint, MAX_COMMENT, load_version, note};
use crate::api::{ApiError, Call, Reply};
use crate::config::backup::ConfigDocument;
use crate::config::{HistorySettings, Timestamp};
use crate::store::{Draft, Moment, Snapshot, Version};

const DEFAULT_LIMIT: usize = 50;
const LIMITS: std::ops::RangeInclusive<usize> = 1..=10_000;
const RETENTION: std::ops::RangeInclusive<u32> = 5..=10_000;

/// A version as the history shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HistoryRow {
    version: u64,
    hash: String,
    /// The active version; at most one.
    applied: bool,
    applied_at: Option<Timestamp>,
    rolled_back: bool,
    created_by: String,
    created_at: Timestamp,
    comment: Option<String>,
    resource_count: u64,
}

/// For the schema of `{"data": [...]}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HistoryAnswer {
    data: Vec<HistoryRow>,
    /// All versions that are kept.
    total: usize,
}

impl From<Version> for HistoryRow {
    fn from(version: Version) -> Self {
        Self {
            version: version.version,
            hash: version.hash,
            applied: version.applied,
            applied_at: version.applied_at,
            rolled_back: version.rolled_back,
            created_by: version.created_by,
            created_at: version.created_at,
            comment: version.comment,
            resource_count: version.resource_count,
        }
    }
}

pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let expected = "an integer from 1 to 10000";
    let limit = call.query_as::<usize>("limit", expected)?.unwrap_or(DEFAULT_LIMIT);
    if !LIMITS.contains(&limit) {
        return Err(ApiError::bad_request(format!("limit: expected {expected}")));
    }
    let offset = call.page(DEFAULT_LIMIT, *LIMITS.end())?.offset;
    let versions = call.app.store.versions();
    let total = versions.len();
    let rows = versions.into_iter().skip(offset).take(limit).map(HistoryRow::from);
    let reply = Reply::json(&HistoryAnswer { data: rows.collect(), total });
    Ok(reply.with_header("X-Total-Count", total.to_string()))
}

pub async fn version(call: Call) -> Result<Reply, ApiError> {
    let number = match call.query_as::<u64>("version", "a version number")? {
        Some(number) => number,
        None => {
            let snapshot = call.app.store.snapshot();
            let version = snapshot.ledger.active_version().or(snapshot.ledger.newest_version());
            version.ok_or_else(|| ApiError::not_found("a saved version"))?.version
        }
    };
    let (_, config) = load_version(&call.app, number).await?;
    let reply = blocking::unblock(move || Reply::json(&ConfigDocument::from_config(&config))).await;
    Ok(reply.with_header("X-Config-Version", number.to_string()))
}

/// Objects of one kind that differ between two versions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Counts {
    /// Ids that only the second has.
    added: usize,
    /// Ids that only the first has.
    removed: usize,
    /// In both, but not equal.
    changed: usize,
    v1_count: usize,
    v2_count: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Diff {
    v1: u64,
    v2: u64,
    v1_hash: String,
    v2_hash: String,
    rules_diff: Counts,
    nat_diff: Counts,
    /// Resource counts.
    total_v1: u64,
    total_v2: u64,
    identical: bool,
    /// Every section that differs: ids added, removed, changed with their fields. A secret that differs is
    /// named without its value.
    sections: Sections,
    v1_json: Value,
    v2_json: Value,
}

/// For the schema of `{"data": {...}}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DiffAnswer {
    data: Diff,
}

pub async fn diff(call: Call) -> Result<Reply, ApiError> {
    let number = |name: &str| {
        let expected = "a version number";
        let number = call.query_as::<u64>(name, expected)?;
        number.ok_or_else(|| ApiError::bad_request(format!("{name}: expected {expected}")))
    };
    let (v1, v2) = (number("v1")?, number("v2")?);
    let (one, config1) = load_version(&call.app, v1).await?;
    let (two, config2) = load_version(&call.app, v2).await?;
    let diff = blocking::unblock(move || {
        let (doc1, doc2) = (ConfigDocument::from_config(&config1), ConfigDocument::from_config(&config2));
        let (v1_json, v2_json) = (diff::shown(&doc1), diff::shown(&doc2));
        let sections = diff::sections(&doc1, &doc2);
        let counts = |section: &str, v1_count, v2_count| {
            let section = sections.get(section);
            Counts {
                added: section.map_or(0, |section| section.added.len()),
                removed: section.map_or(0, |section| section.removed.len()),
                changed: section.map_or(0, |section| section.changed.len()),
                v1_count,
                v2_count,
            }
        };
        Diff {
            v1,
            v2,
            rules_diff: counts("rules", doc1.rules.len(), doc2.rules.len()),
            nat_diff: counts("nat", doc1.nat.len(), doc2.nat.len()),
            total_v1: one.resource_count,
            total_v2: two.resource_count,
            identical: one.hash == two.hash,
            v1_hash: one.hash,
            v2_hash: two.hash,
            sections,
            v1_json,
            v2_json,
        }
    })
    .await;
    Ok(Reply::json(&DiffAnswer { data: diff }))
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SaveRequest {
    /// At most 500 characters.
    comment: Option<String>,
}

pub async fn save(call: Call) -> Result<Reply, ApiError> {
    let request: SaveRequest = call.json_or_default()?;
    let comment = request.comment.filter(|comment| !comment.is_empty());
    if comment.as_ref().is_some_and(|comment| comment.chars().count() > MAX_COMMENT) {
        return Err(ApiError::bad_request(format!("comment: expected at most {MAX_COMMENT} characters")));
    }
    let author = call.author();
    let name = author.name.clone();
    let snapshot = call.app.store.snapshot();
    let live = Derived::new(&snapshot, Fingerprint::of_snapshot(&snapshot).await);
    let number = call
        .app
        .store
        .commit(&author, move |draft: &mut Draft| {
            let live = live.for_draft(draft, |config| Ok::<_, ApiError>(Fingerprint::of(config)))?;
            let number = draft.save_version(live.version(Moment::Before, &name, comment, true));
            draft.audit.push(note(format!("saved version {number}")));
            Ok::<u64, ApiError>(number)
        })
        .await?;
    Ok(Reply::message(format!("Config saved as version {number}")))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Retention {
    max_versions: u32,
    current_count: usize,
}

impl Retention {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            max_versions: snapshot.config.history.max_versions,
            current_count: snapshot.ledger.versions.len(),
        }
    }
}

pub async fn retention(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&Retention::of(&call.app.store.snapshot())))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct RetentionRequest {
    /// 5 to 10,000.
    max_versions: i64,
}

pub async fn set_retention(call: Call) -> Result<Reply, ApiError> {
    let request: RetentionRequest = call.json()?;
    let max_versions = u32::try_from(request.max_versions)
        .ok()
        .filter(|number| RETENTION.contains(number))
        .ok_or_else(|| ApiError::bad_request("retention must be between 5 and 10000"))?;
    call.app
        .store
        .commit(&call.author(), move |draft: &mut Draft| {
            // In force at once: nothing of it reaches the machine.
            for config in [&mut draft.config, &mut draft.applied] {
                config.history = HistorySettings { max_versions }.into();
            }
            draft.audit.push(note(format!("retention set to {max_versions} versions")));
            Ok::<(), ApiError>(())
        })
        .await?;
    retention(call).await
}
