//! The store on the disk: tables, opening, loading a snapshot, one write transaction per batch of commits.
//! The writer thread calls it; nothing else writes.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    TableError,
};
use serde::{Deserialize, Serialize};

use super::audit::{self, AUDIT, AuditEntry};
use super::journal::JOURNAL;
use super::seal::StoreKey;
use super::{Identity, Ledger, Snapshot, StoreError};
use crate::config::Config;
use crate::config::document::{Document, RowChange, encode};

/// The file, below the state directory.
pub const DATABASE_FILE: &str = "aifw.redb";
/// Number of the present arrangement of the tables; see [`super::migrate`].
pub(super) const SCHEMA: u32 = 2;

/// (kind, key) → row as JSON, secrets sealed.
type Rows = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;
pub(super) const OBJECTS: Rows = TableDefinition::new("objects");
pub(super) const APPLIED: Rows = TableDefinition::new("applied");
pub(super) const IDENTITY: Rows = TableDefinition::new("identity");
pub(super) const LEDGER: Rows = TableDefinition::new("ledger");
/// Name → JSON.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const META_SCHEMA: &str = "schema";
const META_HEAD: &str = "head";
const META_KEY_CHECK: &str = "key_check";
const KEY_CHECK: &str = "this store belongs to this key";
/// Rows are small and snapshots live in memory; the page cache serves writes, the audit log and the journal.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Where the store stands. Written with every transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    /// Counts the write transactions.
    pub writes: u64,
    pub revision: u64,
    pub sequence: u64,
    /// Number of the next audit entry.
    pub next_audit: u64,
}

/// What one write transaction does, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub objects: Vec<RowChange>,
    pub applied: Vec<RowChange>,
    pub identity: Vec<RowChange>,
    pub ledger: Vec<RowChange>,
    /// Sequence and entry.
    pub journal: Vec<(u64, Vec<u8>)>,
    pub audit: Vec<(u64, AuditEntry)>,
    /// Journal entries after the first and up to the second sequence become one.
    pub fold_journal: Option<(u64, u64)>,
    /// Journal entries up to this sequence are no longer needed.
    pub forget_journal_to: Option<u64>,
    /// Takes away what lies beyond these: sequence, audit number.
    pub cut_after: Option<(u64, u64)>,
}

impl Batch {
    /// Adds the rows in which two snapshots differ. Secrets must be sealed around this call.
    pub fn add_changes(&mut self, newer: &Snapshot, older: &Snapshot) {
        self.applied.extend(newer.applied.row_changes_since(&older.applied));
        self.identity.extend(newer.identity.row_changes_since(&older.identity));
        self.ledger.extend(newer.ledger.row_changes_since(&older.ledger));
    }
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.applied.is_empty()
            && self.identity.is_empty()
            && self.ledger.is_empty()
            && self.journal.is_empty()
            && self.audit.is_empty()
            && self.cut_after.is_none()
    }
}

/// Makes the database handle; tests put a failing disk here.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Opens the file in `dir`, readable by its owner only.
pub(super) fn file_opener(dir: &Path) -> Opener {
    let path = database_path(dir);
    Box::new(move || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path)?;
        redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(redb::backends::FileBackend::new(file)?)
    })
}

pub(super) fn database_path(dir: &Path) -> PathBuf {
    dir.join(DATABASE_FILE)
}

fn read_fault(error: impl Display) -> StoreError {
    StoreError::Read(error.to_string())
}
fn write_fault(error: impl Display) -> StoreError {
    StoreError::Write(error.to_string())
}

/// The schema number of an open database; `None` = it is empty.
pub(super) fn schema_of(database: &Database) -> Result<Option<u32>, StoreError> {
    let transaction = database.begin_read().map_err(read_fault)?;
    read_meta(&transaction, META_SCHEMA)
}

fn read_meta<T: serde::de::DeserializeOwned>(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(read_fault(error)),
    };
    let Some(value) = table.get(name).map_err(read_fault)? else { return Ok(None) };
    serde_json::from_slice(value.value())
        .map(Some)
        .map_err(|error| StoreError::Read(format!("meta {name}: {error}")))
}

/// Where the store stood when the transaction began.
pub(super) fn head_of(transaction: &ReadTransaction) -> Result<Head, StoreError> {
    Ok(read_meta(transaction, META_HEAD)?.unwrap_or_default())
}

/// Sets the schema number within a migration's transaction.
pub(super) fn set_schema(transaction: &redb::WriteTransaction, schema: u32) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(META_SCHEMA, encode(&schema).as_slice())?;
    Ok(())
}

/// Marks the database as belonging to this key.
pub(super) fn set_key_check(transaction: &redb::WriteTransaction, key: &StoreKey) -> Result<(), StoreError> {
    let check = key.sealing(|| encode(&crate::config::Secret::new(KEY_CHECK)))?;
    let mut meta = transaction.open_table(META).map_err(write_fault)?;
    meta.insert(META_KEY_CHECK, check.as_slice()).map_err(write_fault)?;
    Ok(())
}

/// Gives a new database its tables and numbers.
pub(super) fn initialise(database: &Database, key: &StoreKey) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(write_fault)?;
    set_key_check(&transaction, key)?;
    let work = || -> Result<(), redb::Error> {
        for table in [OBJECTS, APPLIED, IDENTITY, LEDGER] {
            transaction.open_table(table)?;
        }
        transaction.open_table(JOURNAL)?;
        transaction.open_table(AUDIT)?;
        transaction.open_table(META)?.insert(META_HEAD, encode(&Head::default()).as_slice())?;
        set_schema(&transaction, SCHEMA)
    };
    work().map_err(write_fault)?;
    transaction.commit().map_err(write_fault)
}

/// Reads everything back.
pub(super) fn load(database: &Database, key: &StoreKey) -> Result<(Head, Snapshot), StoreError> {
    let transaction = database.begin_read().map_err(read_fault)?;
    key.sealing(|| -> Result<(Head, Snapshot), StoreError> {
        if read_meta::<crate::config::Secret>(&transaction, META_KEY_CHECK).is_err() {
            return Err(StoreError::Open(
                "secret.key is not the key this database was written with; put the right one back".into(),
            ));
        }
        let head = head_of(&transaction)?;
        let mut config = Config::default();
        let rows = load_rows(&transaction, OBJECTS, &mut config)?;
        let snapshot = Snapshot {
            revision: head.revision,
            sequence: head.sequence,
            applied: load_applied(&transaction, &config, rows)?,
            config,
            identity: load_document::<Identity>(&transaction, IDENTITY)?,
            ledger: load_document::<Ledger>(&transaction, LEDGER)?,
        };
        Ok((head, snapshot))
    })?
}

type RowMap = HashMap<(String, String), Vec<u8>>;

fn load_rows<D: Document>(
    transaction: &ReadTransaction,
    table: Rows,
    into: &mut D,
) -> Result<RowMap, StoreError> {
    let mut rows = RowMap::new();
    for row in transaction.open_table(table).map_err(read_fault)?.iter().map_err(read_fault)? {
        let (name, value) = row.map_err(read_fault)?;
        let (kind, key) = name.value();
        into.put_row(kind, key, Some(value.value())).map_err(read_fault)?;
        rows.insert((kind.into(), key.into()), value.value().to_vec());
    }
    Ok(rows)
}

fn load_document<D: Document>(transaction: &ReadTransaction, table: Rows) -> Result<D, StoreError> {
    let mut document = D::default();
    for row in transaction.open_table(table).map_err(read_fault)?.iter().map_err(read_fault)? {
        let (name, value) = row.map_err(read_fault)?;
        let (kind, key) = name.value();
        document.put_row(kind, key, Some(value.value())).map_err(read_fault)?;
    }
    Ok(document)
}

/// The applied configuration, built from the stored one so that equal objects are shared: half the memory,
/// and comparing the two costs what differs.
fn load_applied(
    transaction: &ReadTransaction,
    config: &Config,
    mut stored: RowMap,
) -> Result<Config, StoreError> {
    let mut applied = config.clone();
    for row in transaction.open_table(APPLIED).map_err(read_fault)?.iter().map_err(read_fault)? {
        let (name, value) = row.map_err(read_fault)?;
        let (kind, key) = name.value();
        let same = stored.remove(&(kind.into(), key.into()));
        if same.as_deref() != Some(value.value()) {
            applied.put_row(kind, key, Some(value.value())).map_err(read_fault)?;
        }
    }
    for (kind, key) in stored.into_keys() {
        applied.put_row(&kind, &key, None).map_err(read_fault)?;
    }
    Ok(applied)
}

/// Writes a batch and the head that follows from it. Durable when it returns; on an error the database must
/// be opened anew.
pub(super) fn write(
    database: &Database,
    batch: &Batch,
    head: Head,
    audit_limit: u64,
) -> Result<(), StoreError> {
    let work = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        write_rows(&transaction, OBJECTS, &batch.objects)?;
        write_rows(&transaction, APPLIED, &batch.applied)?;
        write_rows(&transaction, IDENTITY, &batch.identity)?;
        write_rows(&transaction, LEDGER, &batch.ledger)?;
        let shortened = batch.forget_journal_to.is_some() || batch.fold_journal.is_some();
        if !batch.journal.is_empty() || batch.cut_after.is_some() || shortened {
            let mut journal = transaction.open_table(JOURNAL)?;
            if let Some((sequence, _)) = batch.cut_after {
                journal.retain_in(sequence + 1.., |_, _| false)?;
            }
            for (sequence, entry) in &batch.journal {
                journal.insert(sequence, entry.as_slice())?;
            }
            if let Some(sequence) = batch.forget_journal_to {
                journal.retain_in(..=sequence, |_, _| false)?;
            }
            if let Some((from, to)) = batch.fold_journal {
                super::journal::fold(&mut journal, from, to)?;
            }
        }
        if !batch.audit.is_empty() || batch.cut_after.is_some() {
            let mut table = transaction.open_table(AUDIT)?;
            if let Some((_, next_audit)) = batch.cut_after {
                table.retain_in(next_audit.., |_, _| false)?;
            }
            for (number, entry) in &batch.audit {
                audit::insert(&mut table, *number, entry)?;
            }
            audit::trim(&mut table, audit_limit)?;
        }
        transaction.open_table(META)?.insert(META_HEAD, encode(&head).as_slice())?;
        transaction.commit()?;
        Ok(())
    };
    work().map_err(write_fault)
}

fn write_rows(
    transaction: &redb::WriteTransaction,
    table: Rows,
    changes: &[RowChange],
) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for change in changes {
        let name = (change.kind, change.key.as_str());
        match &change.after {
            Some(row) => drop(table.insert(name, row.as_slice())?),
            None => drop(table.remove(name)?),
        }
    }
    Ok(())
}
