//! What was done about updates, newest last: a file of the data partition. Not in the store, which goes back with the
//! firmware while what has happened does not.

use std::io;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::config::{Id, Timestamp};

/// Name of the file, below the state directory.
const FILE: &str = "update/history.json";
/// Rows that are kept.
pub const KEPT: usize = 500;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Check,
    Install,
    Schedule,
    AifwCheck,
    AifwInstall,
    AifwRollback,
    AifwRestart,
    AifwReboot,
    InstallLocal,
    Reboot,
    Shutdown,
    /// A new firmware was found healthy, or was gone back from.
    Boot,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Failed,
    Configured,
    Started,
    Scheduled,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub id: Id,
    pub action: Action,
    /// In words, with the user's name.
    pub details: String,
    pub status: Outcome,
    pub created_at: Timestamp,
}

/// All rows, oldest first. A file that cannot be read counts as none: the appliance goes on.
pub fn load(place: &dyn Place) -> Vec<Row> {
    match place.read(FILE) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            log::error!("{FILE} cannot be read: {error}");
            Vec::new()
        }),
        Ok(None) => Vec::new(),
        Err(error) => {
            log::error!("{FILE}: {error}");
            Vec::new()
        }
    }
}

/// Adds a row; of more than [`KEPT`] the oldest go.
pub fn add(place: &dyn Place, action: Action, status: Outcome, details: impl Into<String>) -> io::Result<()> {
    let mut rows = load(place);
    rows.push(Row {
        id: Id::new_v4(),
        action,
        details: details.into(),
        status,
        created_at: Timestamp::now(),
    });
    let surplus = rows.len().saturating_sub(KEPT);
    rows.drain(..surplus);
    place.write(FILE, &serde_json::to_vec(&rows)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::update::place::Directory;

    #[test]
    fn the_oldest_rows_go() {
        let dir = tempfile::tempdir().unwrap();
        let place = Directory(dir.path().to_owned());
        for number in 0..KEPT + 3 {
            add(&place, Action::AifwCheck, Outcome::Completed, number.to_string()).unwrap();
        }
        let rows = load(&place);
        assert_eq!((rows.len(), rows[0].details.as_str()), (KEPT, "3"));
        let shown = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!((&shown["action"], &shown["status"]), (&"aifw_check".into(), &"completed".into()));
        place.write(FILE, b"[{").unwrap();
        assert_eq!(load(&place), []);
    }
}
