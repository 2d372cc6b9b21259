//! From older schemas to the present one. Migrations are numbered and run once, each in one transaction that
//! also sets the number. Before the first, the database is copied to `aifw.redb.schema-N`. That copy stays:
//! it is what the firmware of the other slot needs after a roll back. A newer schema is refused.
//!
//! | from | to | what changed |
//! |---|---|---|
//! | 1 | 2 | audit entries in columns, so that filtering decodes nothing; a check that key and database belong together |

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, TableDefinition, TableHandle, WriteTransaction};

use super::StoreError;
use super::audit::{self, AUDIT, AuditEntry};
use super::disk::{self, SCHEMA};
use super::seal::StoreKey;

type Migration = fn(&WriteTransaction, &StoreKey) -> Result<(), Fault>;

/// `MIGRATIONS[n]` leads from schema n + 1 to schema n + 2.
const MIGRATIONS: [Migration; SCHEMA as usize - 1] = [audit_columns_and_key_check];

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Database(#[from] redb::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Row(#[from] serde_json::Error),
}

macro_rules! through_redb_error {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}
through_redb_error!(redb::TableError, redb::StorageError, redb::TransactionError, redb::CommitError);

/// Opens the database in `dir` at the present [`SCHEMA`]: made if there is none, migrated if it is older.
pub(super) fn open(dir: &Path, opener: &disk::Opener) -> Result<(Database, StoreKey), StoreError> {
    let open = || opener().map_err(|error| StoreError::Open(error.to_string()));
    let database = open()?;
    let schema = disk::schema_of(&database)?;
    let key = StoreKey::load(dir, schema.is_none())?;
    let Some(found) = schema else {
        disk::initialise(&database, &key)?;
        return Ok((database, key));
    };
    if found > SCHEMA || found == 0 {
        return Err(StoreError::Newer { found, known: SCHEMA });
    }
    if found == SCHEMA {
        return Ok((database, key));
    }
    drop(database);
    let kept = keep_copy(dir, found)?;
    let database = open()?;
    for from in found..SCHEMA {
        step(&database, &key, from).map_err(|fault| {
            let kept = kept.display();
            StoreError::Open(format!(
                "migration from schema {from} to {}: {fault}; the old file is kept as {kept}",
                from + 1
            ))
        })?;
        log::info!("store: migrated from schema {from} to {}", from + 1);
    }
    Ok((database, key))
}

fn step(database: &Database, key: &StoreKey, from: u32) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    if let Some(migration) = MIGRATIONS.get(from as usize - 1) {
        migration(&transaction, key)?;
    }
    disk::set_schema(&transaction, from + 1)?;
    transaction.commit()?;
    Ok(())
}

/// Where the database lay before it was migrated from `schema`.
fn kept_path(dir: &Path, schema: u32) -> PathBuf {
    dir.join(format!("{}.schema-{schema}", disk::DATABASE_FILE))
}

/// Copies the closed database; the copy is whole, or not there under its name.
fn keep_copy(dir: &Path, schema: u32) -> Result<PathBuf, StoreError> {
    let kept = kept_path(dir, schema);
    let new = kept.with_extension("new");
    let work = || -> std::io::Result<()> {
        // Copies the permissions, too.
        fs::copy(disk::database_path(dir), &new)?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &kept)?;
        File::open(dir)?.sync_all()
    };
    work().map_err(|error| StoreError::Open(format!("copy to {}: {error}", kept.display())))?;
    Ok(kept)
}

/// 1 → 2.
fn audit_columns_and_key_check(transaction: &WriteTransaction, key: &StoreKey) -> Result<(), Fault> {
    const OLD: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");
    const ASIDE: TableDefinition<u64, &[u8]> = TableDefinition::new("audit_schema_1");
    if transaction.list_tables()?.any(|table| table.name() == "audit") {
        transaction.rename_table(OLD, ASIDE)?;
        {
            let old = transaction.open_table(ASIDE)?;
            let mut new = transaction.open_table(AUDIT)?;
            for row in old.iter()? {
                let (number, entry) = row?;
                let entry: AuditEntry = serde_json::from_slice(entry.value())?;
                audit::insert(&mut new, number.value(), &entry)?;
            }
        }
        transaction.delete_table(ASIDE)?;
    }
    disk::set_key_check(transaction, key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::encode;
    use crate::config::{Id, Secret, Timestamp};
    use crate::store::tests::{commit, rule, version};
    use crate::store::{AuditFilter, Ledger, Store, Version, identity};

    /// Writes a database as schema 1 had it, with one object of every table.
    fn write_schema_1(dir: &Path) {
        let key = StoreKey::load(dir, true).unwrap();
        let database = Database::create(disk::database_path(dir)).unwrap();
        let transaction = database.begin_write().unwrap();
        let put = |table, kind: &str, name: &str, row: Vec<u8>| {
            let mut table = transaction.open_table(table).unwrap();
            table.insert((kind, name), row.as_slice()).unwrap();
        };
        let old_rule = rule(1, 10, "from schema 1");
        put(disk::OBJECTS, "rule", &old_rule.id.to_string(), encode(&old_rule));
        transaction.open_table(disk::APPLIED).unwrap();
        let provider = identity::OAuthProvider {
            id: Id::from_u128(5),
            name: "corp".into(),
            provider_type: "oidc".into(),
            client_id: "aifw".into(),
            client_secret: Secret::new("old secret"),
            auth_url: String::new(),
            token_url: String::new(),
            userinfo_url: String::new(),
            scopes: String::new(),
            enabled: true,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let row = key.sealing(|| encode(&provider)).unwrap();
        put(disk::IDENTITY, "oauth_provider", &provider.id.to_string(), row);
        let saved = Version {
            version: 1,
            hash: "0".repeat(64),
            applied: true,
            applied_at: None,
            rolled_back: false,
            created_by: "alice".into(),
            created_at: Timestamp::UNIX_EPOCH,
            comment: None,
            resource_count: 1,
            sequence: 1,
        };
        put(disk::LEDGER, "version", "1", encode(&saved));
        put(disk::LEDGER, "counters", "-", br#"{"last_version":1}"#.to_vec());
        {
            let mut table = transaction.open_table(TableDefinition::<u64, &[u8]>::new("audit")).unwrap();
            for number in 0..3_u64 {
                let entry = serde_json::json!({
                    "id": Id::from_u128(number.into()), "at": "2026-01-02T03:04:05Z", "action": "rule_added",
                    "source": "engine", "details": format!("entry {number}"), "rule_id": null,
                    "user_id": null, "actor_id": "alice", "ip": "192.0.2.1",
                });
                table.insert(number, entry.to_string().as_bytes()).unwrap();
            }
            transaction.open_table(super::super::journal::JOURNAL).unwrap();
            let mut meta = transaction.open_table(disk::META).unwrap();
            meta.insert("schema", b"1".as_slice()).unwrap();
            let head = br#"{"writes":3,"revision":2,"sequence":1,"next_audit":3}"#;
            meta.insert("head", head.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn schema(path: PathBuf) -> Option<u32> {
        disk::schema_of(&Database::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_store_of_schema_1_opens_and_the_old_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        write_schema_1(dir.path());
        let store = Store::open(dir.path()).unwrap();
        let snapshot = store.snapshot();
        assert_eq!((snapshot.revision, snapshot.sequence), (2, 1));
        assert_eq!(**snapshot.config.rules.get(&Id::from_u128(1)).unwrap(), rule(1, 10, "from schema 1"));
        let provider = snapshot.identity.oauth_providers.get(&Id::from_u128(5)).unwrap();
        assert_eq!(provider.client_secret.expose(), "old secret");
        assert_eq!(snapshot.ledger.active_version().unwrap().version, 1);
        let (rows, total) = store.audit(&AuditFilter { limit: 2, ..Default::default() }).unwrap();
        assert_eq!(total, 3);
        assert_eq!(rows[0].details, "entry 2");
        assert_eq!(rows[0].at.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(rows[1].ip, Some([192, 0, 2, 1].into()));
        // It is a store like any other from now on.
        let number = commit(&store, |draft| {
            draft.config.rules.insert(rule(2, 20, "new"));
            draft.save_version(version("after"))
        });
        assert_eq!(number, 2);
        assert_eq!(store.config_at(1).unwrap().unwrap(), snapshot.config);
        drop(store);
        assert_eq!(schema(disk::database_path(dir.path())), Some(SCHEMA));
        assert_eq!(schema(kept_path(dir.path(), 1)), Some(1));
        // Run once: a second opening makes no second copy.
        fs::remove_file(kept_path(dir.path(), 1)).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.snapshot().config.rules.len(), 2);
        assert!(!kept_path(dir.path(), 1).exists());
    }

    #[test]
    fn a_migration_that_fails_changes_nothing_and_names_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        write_schema_1(dir.path());
        let database = Database::open(disk::database_path(dir.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        let bad = TableDefinition::<u64, &[u8]>::new("audit");
        transaction.open_table(bad).unwrap().insert(9, b"not JSON".as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = Store::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("schema 1 to 2") && error.contains("aifw.redb.schema-1"), "{error}");
        assert_eq!(schema(disk::database_path(dir.path())), Some(1));
    }

    #[test]
    fn a_newer_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let database = Database::open(disk::database_path(dir.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        disk::set_schema(&transaction, SCHEMA + 1).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = Store::open(dir.path()).unwrap_err();
        assert_eq!(error, StoreError::Newer { found: SCHEMA + 1, known: SCHEMA });
        assert_eq!(schema(disk::database_path(dir.path())), Some(SCHEMA + 1));
    }

    #[test]
    fn an_empty_ledger_has_no_versions() {
        assert_eq!(Ledger::default().newest_version(), None);
    }
}
