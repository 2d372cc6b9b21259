//! `/config/*` (contract/config.md): history, versions and their differences, export and import, restore,
//! retention, commit-confirm. Versions lie in the store; what becomes of the machine is `apply`'s.
//!
//! `history` reads and saves versions, `transfer` brings documents in and out, `confirm` is the commit-confirm
//! window and the check, `auto` the version that follows a write, `diff` and `sealed` are pure.

pub mod auto;
mod confirm;
mod diff;
mod history;
mod sealed;
mod transfer;

pub use auto::auto_snapshot;
pub use transfer::Safety;

use std::sync::Arc;

use super::{Access, ApiError, App, Call, Route};
use crate::apply::{AdminConnection, ApplyError, ReplaceError};
use crate::config::Permission::{BackupRead, BackupWrite};
use crate::config::{Config, backup};
use crate::store::{Author, Draft, Moment, NewAudit, NewVersion, Snapshot, Version};

/// Longest comment of a version, in characters.
const MAX_COMMENT: usize = 500;

pub fn routes() -> Vec<Route> {
    let read = Access::Needs(BackupRead);
    let write = Access::Needs(BackupWrite);
    let no_snapshot = |route: Route| route.without_snapshot();
    let routes = vec![
        Route::new("GET", "/config/history", read, "Saved versions, newest first", history::list)
            .answers::<history::HistoryAnswer>(200)
            .with_query(&[("limit", "1 to 10000, default 50"), ("offset", "rows passed over")]),
        Route::new("GET", "/config/version", read, "The document of a version", history::version)
            .answers::<backup::ConfigDocument>(200)
            .with_query(&[("version", "default: the active version, else the newest")]),
        Route::new("GET", "/config/diff", read, "What differs between two versions", history::diff)
            .answers::<history::DiffAnswer>(200)
            .with_query(&[("v1", "a version"), ("v2", "a version")]),
        Route::new("GET", "/config/check", read, "Checks the live configuration", confirm::check)
            .answers::<confirm::CheckAnswer>(200),
        Route::new(
            "GET",
            "/config/export",
            read,
            "The live configuration as a backup file",
            transfer::export,
        )
        .answers::<transfer::Export>(200),
        Route::new(
            "POST",
            "/config/import",
            write,
            "Replaces the configuration by a document",
            transfer::import,
        )
        .takes::<transfer::ImportRequest>(),
        Route::new(
            "POST",
            "/config/import-preview",
            read,
            "What an import would meet",
            transfer::import_preview,
        )
        .takes::<transfer::ImportRequest>()
        .answers::<transfer::Preview>(200),
        Route::new("POST", "/config/save", write, "Saves the live configuration as a version", history::save)
            .takes::<history::SaveRequest>(),
        Route::new("POST", "/config/restore", write, "Goes back to a version", transfer::restore)
            .takes::<transfer::RestoreRequest>(),
        Route::new(
            "POST",
            "/config/restore-preview",
            read,
            "What a restore would meet",
            transfer::restore_preview,
        )
        .takes::<transfer::PreviewRequest>()
        .answers::<transfer::Preview>(200)
        .with_query(&[("version", "a version, if the body does not name it")]),
        Route::new(
            "GET",
            "/config/restore-preview",
            read,
            "What a restore would meet",
            transfer::restore_preview,
        )
        .answers::<transfer::Preview>(200)
        .with_query(&[("version", "a version")]),
        Route::new("GET", "/config/retention", read, "How many versions are kept", history::retention)
            .answers::<history::Retention>(200),
        Route::new(
            "PUT",
            "/config/retention",
            write,
            "Sets how many versions are kept",
            history::set_retention,
        )
        .takes::<history::RetentionRequest>()
        .answers::<history::Retention>(200),
        Route::new(
            "POST",
            "/config/commit-confirm",
            write,
            "Opens the commit-confirm window",
            confirm::start,
        )
        .takes::<confirm::StartRequest>(),
        Route::new(
            "POST",
            "/config/commit-confirm/confirm",
            write,
            "Keeps what was changed",
            confirm::accept,
        ),
        Route::new(
            "GET",
            "/config/commit-confirm/status",
            read,
            "The commit-confirm window",
            confirm::status,
        )
        .answers::<crate::apply::confirm::ConfirmStatus>(200),
    ];
    routes.into_iter().map(no_snapshot).collect()
}

/// Hash and number of resources of a configuration, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    hash: String,
    resource_count: u64,
}

impl Fingerprint {
    fn of(config: &Config) -> Self {
        let (hash, resource_count) = backup::fingerprint(config);
        Self { hash, resource_count }
    }
    /// Off the executor: a large configuration takes milliseconds.
    async fn of_snapshot(snapshot: &Arc<Snapshot>) -> Self {
        let snapshot = snapshot.clone();
        blocking::unblock(move || Self::of(&snapshot.config)).await
    }
    fn version(
        self,
        moment: Moment,
        created_by: &str,
        comment: Option<String>,
        activate: bool,
    ) -> NewVersion {
        NewVersion {
            moment,
            created_by: created_by.into(),
            comment,
            hash: self.hash,
            resource_count: self.resource_count,
            activate,
        }
    }
}

/// What was derived from a snapshot outside the commit, good as long as the configuration is still the same.
struct Derived<T> {
    sequence: u64,
    value: T,
}

impl<T> Derived<T> {
    fn new(snapshot: &Snapshot, value: T) -> Self {
        Self { sequence: snapshot.sequence, value }
    }
    /// The value, derived anew if somebody has changed the configuration meanwhile.
    fn for_draft<E>(self, draft: &Draft, anew: impl FnOnce(&Config) -> Result<T, E>) -> Result<T, E> {
        let base = draft.base();
        if base.sequence == self.sequence { Ok(self.value) } else { anew(&base.config) }
    }
}

/// One audit entry of this area.
fn note(details: String) -> NewAudit {
    NewAudit { action: "config_changed", source: "config", details, ..NewAudit::default() }
}

/// Writes down that an operation failed; the refusal itself goes to the caller.
async fn note_failure(app: &App, author: &Author, what: &str, error: &ApiError) {
    let details = format!("{what} failed: {}", error.message);
    let written = app.store.commit(author, move |draft: &mut Draft| {
        draft.audit.push(note(details));
        Ok::<(), std::convert::Infallible>(())
    });
    if let Err(error) = written.await {
        log::error!("audit: {error}");
    }
}

fn admin(call: &Call, confirmed: bool) -> Option<AdminConnection> {
    call.ip.map(|client| AdminConnection { client, server: call.local_addr, confirmed })
}

fn replace_error(error: ReplaceError<ApiError>) -> ApiError {
    match error {
        ReplaceError::Refused(refusal) => refusal,
        ReplaceError::Apply(error @ ApplyError::LockOut { .. }) => ApiError::conflict(error.to_string()),
        ReplaceError::Apply(ApplyError::Store(error)) => error.into(),
        ReplaceError::Apply(error @ ApplyError::Step { .. }) => {
            ApiError::new(500, format!("nothing was changed: {error}"))
        }
    }
}

fn unknown_version(number: u64) -> ApiError {
    ApiError::not_found(format!("version {number}"))
}

/// A saved version and its configuration; unknown → 404.
async fn load_version(app: &Arc<App>, number: u64) -> Result<(Version, Config), ApiError> {
    let app = app.clone();
    blocking::unblock(move || {
        let version = app.store.snapshot().ledger.versions.get(&number).cloned();
        let config = app.store.config_at(number)?;
        match (version, config) {
            (Some(version), Some(config)) => Ok((Version::clone(&version), config)),
            _ => Err(unknown_version(number)),
        }
    })
    .await
}
