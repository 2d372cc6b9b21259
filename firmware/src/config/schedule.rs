//! Schedules: when a rule is in force (contract/firewall.md §4).

use serde::{Deserialize, Serialize};

use super::{Id, Object, Timestamp};

/// A schedule, in stored form: `time_ranges` as `HH:MM-HH:MM` and `days_of_week`, spelled as sent, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub id: Id,
    pub name: String,
    pub description: Option<String>,
    pub time_ranges: Vec<String>,
    pub days_of_week: Vec<String>,
    pub enabled: bool,
    pub created_at: Timestamp,
}

impl Object for Schedule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
}
