//! Aliases: named addresses (pf tables) and named ports (contract/firewall.md §5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Id, Object, TableName, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AliasKind {
    Host,
    Network,
    Port,
    UrlTable,
}

/// An alias, in stored form; entries are valid for the kind and trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub id: Id,
    pub name: TableName,
    pub alias_type: AliasKind,
    pub entries: Vec<String>,
    pub description: Option<String>,
    pub enabled: bool,
    /// URL tables only: seconds between fetches, 10 or more; `None` = 24 hours.
    #[serde(default)]
    pub refresh_secs: Option<u32>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for Alias {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
}
