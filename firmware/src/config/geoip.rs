//! Rules by country (contract/firewall.md §7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::Status;
use super::value::string_value;
use super::{BadValue, Id, Label, Object, Timestamp};
use std::fmt;
use std::str::FromStr;

fn check_country(text: &str) -> Result<(), BadValue> {
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        Ok(())
    } else {
        Err(BadValue::new("expected a two-letter country code (ISO 3166-1 alpha-2)"))
    }
}

string_value!(
    /// Country code, ISO 3166-1 alpha-2, upper case.
    Country, check_country
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeoIpAction {
    Allow,
    Block,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoIpRule {
    pub id: Id,
    pub country: Country,
    pub action: GeoIpAction,
    pub label: Option<Label>,
    pub status: Status,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for GeoIpRule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
}
