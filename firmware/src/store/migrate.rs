//! From older schemas to the present one. Migrations are numbered and run once, each in one transaction that
//! also sets the number. Before the first, the database is copied to `aifw.redb.schema-N`, which stays: it is
//! what the firmware of the other slot needs after a roll back. A newer schema is refused.

use std::path::Path;

use super::StoreError;
use super::disk::{self, SCHEMA};

/// Brings the database in `dir` to [`SCHEMA`]. Does nothing where there is none.
pub(super) fn run(dir: &Path) -> Result<(), StoreError> {
    if !disk::database_path(dir).exists() {
        return Ok(());
    }
    let database = disk::file_opener(dir)().map_err(|error| StoreError::Open(error.to_string()))?;
    match disk::schema_of(&database)? {
        Some(found) if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        _ => Ok(()),
    }
}
