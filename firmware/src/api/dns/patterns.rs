//! `/dns/customblocks` and `/dns/whitelist`: names that are blocked, or let through, whatever lists say. One
//! implementation; a write acts at once.

use super::{READ, WRITE, audit};
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::dns::blocking::{PatternEntry, PatternRequest};
use crate::config::{Collection, Config};
use crate::store::Draft;

/// One of the two.
#[derive(Debug, Clone, Copy)]
enum Which {
    CustomBlocks,
    Whitelist,
}

impl Which {
    fn noun(self) -> &'static str {
        match self {
            Self::CustomBlocks => "custom block",
            Self::Whitelist => "whitelist entry",
        }
    }
    fn entries(self, config: &Config) -> &Collection<PatternEntry> {
        match self {
            Self::CustomBlocks => &config.dns_custom_blocks,
            Self::Whitelist => &config.dns_whitelist,
        }
    }
    fn entries_mut(self, config: &mut Config) -> &mut Collection<PatternEntry> {
        match self {
            Self::CustomBlocks => &mut config.dns_custom_blocks,
            Self::Whitelist => &mut config.dns_whitelist,
        }
    }
}

pub fn routes() -> Vec<Route> {
    let of = |which: Which,
              [all, one]: [&'static str; 2],
              [on_list, on_add, on_delete]: [&'static str; 3]| {
        vec![
            Route::new("GET", all, READ, on_list, move |call| list(call, which))
                .answers::<Vec<PatternEntry>>(200),
            Route::new("POST", all, WRITE, on_add, move |call| create(call, which))
                .takes::<PatternRequest>()
                .answers::<PatternEntry>(200),
            Route::new("DELETE", one, WRITE, on_delete, move |call| delete(call, which)).answers::<()>(204),
        ]
    };
    [
        of(
            Which::CustomBlocks,
            ["/dns/customblocks", "/dns/customblocks/{id}"],
            [
                "Names that are blocked whatever lists say",
                "Block a name, or all names below it",
                "Delete a custom block",
            ],
        ),
        of(
            Which::Whitelist,
            ["/dns/whitelist", "/dns/whitelist/{id}"],
            [
                "Names that no list blocks",
                "Let a name through, or all names below it",
                "Delete an entry of the whitelist",
            ],
        ),
    ]
    .concat()
}

async fn list(call: Call, which: Which) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut entries: Vec<&PatternEntry> =
        which.entries(&snapshot.config).iter().map(|entry| &**entry).collect();
    entries.sort_by_key(|entry| &entry.pattern);
    Ok(Reply::json(&entries))
}

async fn create(call: Call, which: Which) -> Result<Reply, ApiError> {
    let request: PatternRequest = call.json()?;
    request.check()?;
    let author = call.author();
    let by = author.clone();
    let entry = call
        .app
        .store
        .commit(&author, move |draft: &mut Draft| {
            let noun = which.noun();
            if which.entries(&draft.config).find(request.pattern.as_str()).next().is_some() {
                return Err(ApiError::conflict(format!(
                    "pattern: there is already a {noun} for {}",
                    request.pattern
                )));
            }
            let settings = std::sync::Arc::make_mut(&mut draft.config.dns_blocking);
            let entry =
                PatternEntry { id: settings.next_entry, pattern: request.pattern, note: request.note };
            settings.next_entry += 1;
            draft.audit.push(audit(&by, format!("{noun} {} added", entry.pattern)));
            which.entries_mut(&mut draft.config).insert(entry.clone());
            act(which, draft);
            Ok(entry)
        })
        .await?;
    call.app.applier.follow_blocklists().await;
    Ok(Reply::json(&entry))
}

/// What is stored is applied with it.
fn act(which: Which, draft: &mut Draft) {
    draft.applied.dns_blocking = draft.config.dns_blocking.clone();
    *which.entries_mut(&mut draft.applied) = which.entries(&draft.config).clone();
}

async fn delete(call: Call, which: Which) -> Result<Reply, ApiError> {
    let id: u64 = call.param("id").parse().map_err(|_| ApiError::bad_request("id: expected an integer"))?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft: &mut Draft| {
            let noun = which.noun();
            let gone = which.entries_mut(&mut draft.config).remove(&id);
            let entry = gone.ok_or_else(|| ApiError::not_found(format!("{noun} {id}")))?;
            draft.audit.push(audit(&by, format!("{noun} {} deleted", entry.pattern)));
            act(which, draft);
            Ok::<_, ApiError>(())
        })
        .await?;
    call.app.applier.follow_blocklists().await;
    Ok(Reply::empty(204))
}
