//! The journal: every change of the configuration, with before and after, so that any saved moment can be
//! had back by undoing what came later.

use std::collections::HashMap;
use std::net::IpAddr;

use redb::{ReadTransaction, TableDefinition, TableError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Author, StoreError};
use crate::config::document::{Document, RowChange};
use crate::config::{Config, Timestamp};

/// Journal sequence → [`Entry`] as JSON.
pub(super) const JOURNAL: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");

/// The changes of one commit, or of several that were folded into one.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub at: Timestamp,
    pub actor_id: String,
    pub author: String,
    pub ip: Option<IpAddr>,
    pub comment: Option<String>,
    /// The sequence before this entry: one less than its own unless it was folded.
    pub after: u64,
    pub changes: Vec<Change>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Change {
    pub kind: String,
    pub key: String,
    /// The row as it was, secrets sealed; `None` = there was none.
    pub before: Option<Box<RawValue>>,
    /// The row as it is.
    pub after: Option<Box<RawValue>>,
}

impl Entry {
    pub fn new(
        author: &Author,
        at: Timestamp,
        comment: Option<String>,
        after: u64,
        rows: &[RowChange],
    ) -> Result<Self, StoreError> {
        let raw = |row: &Option<Vec<u8>>| -> Result<Option<Box<RawValue>>, StoreError> {
            row.as_deref()
                .map(serde_json::from_slice)
                .transpose()
                .map_err(|error| StoreError::Write(format!("journal: {error}")))
        };
        let changes = rows
            .iter()
            .map(|row| {
                Ok(Change {
                    kind: row.kind.into(),
                    key: row.key.clone(),
                    before: raw(&row.before)?,
                    after: raw(&row.after)?,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            at,
            actor_id: author.actor_id.clone(),
            author: author.name.clone(),
            ip: author.ip,
            comment,
            after,
            changes,
        })
    }
}

fn fault(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Read(format!("journal: {error}"))
}

/// Takes `config`, which is the state at sequence `now`, back to its state at `target`. `None` if the journal
/// no longer reaches that far. Secrets must be open to reading (see [`super::seal`]).
pub(super) fn undo(
    transaction: &ReadTransaction,
    config: &Config,
    now: u64,
    target: u64,
) -> Result<Option<Config>, StoreError> {
    if target > now {
        return Ok(None);
    }
    let mut config = config.clone();
    if target == now {
        return Ok(Some(config));
    }
    let table = match transaction.open_table(JOURNAL) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(fault(&error)),
    };
    // The first change after the target holds what was there at the target; later ones do not matter.
    let mut first: HashMap<(String, String), Option<Box<RawValue>>> = HashMap::new();
    let mut reached = target;
    for row in table.range(target + 1..=now).map_err(|e| fault(&e))? {
        let (sequence, entry) = row.map_err(|e| fault(&e))?;
        let entry: Entry = serde_json::from_slice(entry.value()).map_err(|e| fault(&e))?;
        if entry.after != reached {
            return Ok(None);
        }
        reached = sequence.value();
        for change in entry.changes {
            first.entry((change.kind, change.key)).or_insert(change.before);
        }
    }
    if reached != now {
        return Ok(None);
    }
    for ((kind, key), row) in first {
        config.put_row(&kind, &key, row.as_ref().map(|row| row.get().as_bytes())).map_err(|e| fault(&e))?;
    }
    Ok(Some(config))
}
