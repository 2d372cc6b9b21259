//! `GET /logs`: the audit log, packets that pf logged, and the system log, each alone or merged by time.

use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::Serialize;

use super::Rows;
use crate::api::{ApiError, Call, Reply};
use crate::config::{Id, Timestamp};
use crate::live::blocked::Logged;
use crate::live::sources::SystemLine;
use crate::store::{AuditEntry, AuditFilter};

/// Lines of the system log that are looked at.
const SYSTEM_LINES: usize = 5000;

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LogEntry {
    id: Id,
    #[schemars(with = "String")]
    timestamp: Timestamp,
    action: String,
    rule_id: Option<Id>,
    details: String,
    /// Part of the product, or program, that speaks.
    source: String,
}

/// Which logs are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audit,
    Pf,
    System,
    All,
}

/// What an entry must be like.
struct Wanted {
    action: Option<String>,
    text: Option<String>,
    /// Entries that a page may need: offset and limit together.
    most: usize,
}

impl Wanted {
    fn fits(&self, action: &str, details: &str) -> bool {
        self.action.as_deref().is_none_or(|wanted| wanted == action)
            && self.text.as_deref().is_none_or(|wanted| details.contains(wanted))
    }
}

pub async fn logs(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(100, 1000)?;
    let kind = match call.query("type") {
        None | Some("audit") => Kind::Audit,
        Some("pf") => Kind::Pf,
        Some("system") => Kind::System,
        Some("all") => Kind::All,
        Some(_) => return Err(ApiError::bad_request("type: expected audit, pf, system or all")),
    };
    let wanted = Wanted {
        action: call.query("action").map(str::to_owned),
        text: call.query("q").map(str::to_owned),
        most: page.offset.saturating_add(page.limit),
    };
    if kind == Kind::Audit {
        let (entries, total) = audit(&call, &wanted, page.offset, page.limit).await?;
        return Ok(Rows::reply(entries, total));
    }
    let mut entries = Vec::new();
    let mut total = 0;
    if kind == Kind::All {
        let (found, of_kind) = audit(&call, &wanted, 0, wanted.most).await?;
        entries.extend(found);
        total += of_kind;
    }
    if matches!(kind, Kind::Pf | Kind::All) {
        total += packets(&call, &wanted, &mut entries);
    }
    if matches!(kind, Kind::System | Kind::All) {
        total += system(&call, &wanted, &mut entries).await;
    }
    // Stable: entries of one log keep their order.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.timestamp));
    Ok(Rows::reply(page.of(entries), total))
}

async fn audit(
    call: &Call,
    wanted: &Wanted,
    offset: usize,
    limit: usize,
) -> Result<(Vec<LogEntry>, usize), ApiError> {
    let store = call.app.store.clone();
    let (action, text) = (wanted.action.clone(), wanted.text.clone());
    let filter = AuditFilter { action, text, offset, limit, ..AuditFilter::default() };
    let (entries, total) = blocking::unblock(move || store.audit(&filter)).await?;
    Ok((entries.into_iter().map(LogEntry::from).collect(), usize::try_from(total).unwrap_or(usize::MAX)))
}

fn packets(call: &Call, wanted: &Wanted, entries: &mut Vec<LogEntry>) -> usize {
    let mut total = 0;
    for packet in call.app.live.blocked().newest_first() {
        let action = if packet.passed { "pf_pass" } else { "pf_block" };
        if wanted.action.as_deref().is_some_and(|wanted| wanted != action) {
            continue;
        }
        let line = packet.line();
        if wanted.fits(action, &line) {
            if total < wanted.most {
                entries.push(packet_entry(packet, action, line));
            }
            total += 1;
        }
    }
    total
}

async fn system(call: &Call, wanted: &Wanted, entries: &mut Vec<LogEntry>) -> usize {
    let Some(log) = call.app.live.sources().system_log.clone() else { return 0 };
    let lines = blocking::unblock(move || log.tail(SYSTEM_LINES)).await;
    let fitting: Vec<SystemLine> =
        lines.into_iter().filter(|line| wanted.fits("system", &line.text)).collect();
    let total = fitting.len();
    entries.extend(fitting.into_iter().take(wanted.most).map(LogEntry::from));
    total
}

/// An id that is the same whenever the same entry is shown.
fn id_of(parts: &[&str]) -> Id {
    let hash = digest(&SHA256, parts.join("\0").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn packet_entry(packet: &Logged, action: &str, details: String) -> LogEntry {
    LogEntry {
        id: id_of(&[&packet.at.to_string(), action, &details]),
        timestamp: packet.at,
        action: action.into(),
        rule_id: None,
        details,
        source: "pf".into(),
    }
}

impl From<AuditEntry> for LogEntry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            timestamp: entry.at,
            action: entry.action,
            rule_id: entry.rule_id,
            details: entry.details,
            source: entry.source,
        }
    }
}

impl From<SystemLine> for LogEntry {
    fn from(line: SystemLine) -> Self {
        Self {
            id: id_of(&[&line.at.to_string(), &line.program, &line.text]),
            timestamp: line.at,
            action: "system".into(),
            rule_id: None,
            details: line.text,
            source: line.program,
        }
    }
}
