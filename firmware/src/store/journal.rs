//! The journal: every change of the configuration, with before and after, so that any saved moment can be
//! had back by undoing what came later.

use std::collections::HashMap;
use std::net::IpAddr;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Author, StoreError};
use crate::config::document::{Document, RowChange, encode};
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

impl Entry {
    /// The same without changes.
    fn head(&self) -> Self {
        Self {
            at: self.at,
            actor_id: self.actor_id.clone(),
            author: self.author.clone(),
            ip: self.ip,
            comment: self.comment.clone(),
            after: self.after,
            changes: Vec::new(),
        }
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

/// Makes one entry of those after sequence `from` and up to `to`. Nothing may refer to a state in between.
/// What the entries cannot be read for stays as it is.
pub(super) fn fold(
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    from: u64,
    to: u64,
) -> Result<(), redb::StorageError> {
    let mut folded: Option<Entry> = None;
    let mut place: HashMap<(String, String), usize> = HashMap::new();
    for row in table.range(from + 1..=to)? {
        let (_, entry) = row?;
        let Ok(entry) = serde_json::from_slice::<Entry>(entry.value()) else { return Ok(()) };
        let into = folded.get_or_insert_with(|| Entry { after: from, changes: Vec::new(), ..entry.head() });
        for change in entry.changes {
            match place.get(&(change.kind.clone(), change.key.clone())) {
                Some(&index) => {
                    if let Some(earlier) = into.changes.get_mut(index) {
                        earlier.after = change.after;
                    }
                }
                None => {
                    place.insert((change.kind.clone(), change.key.clone()), into.changes.len());
                    into.changes.push(change);
                }
            }
        }
    }
    let Some(mut folded) = folded else { return Ok(()) };
    folded.changes.retain(|change| change.before.is_some() || change.after.is_some());
    table.retain_in(from + 1..=to, |_, _| false)?;
    table.insert(to, encode(&folded).as_slice())?;
    Ok(())
}
