//! Settings by section and name that pages keep for themselves (contract/system.md §3.9): text, no secrets. The
//! password of an address is kept apart and never shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::valkey::{MASK, masked, take_password};
use super::{Invalid, Secret};

/// A section of settings. `api` is another name of `api_server`.
pub fn section(name: &str) -> Option<&'static str> {
    match name {
        "metrics" => Some("metrics"),
        "api" | "api_server" => Some("api_server"),
        _ => None,
    }
}

const MOST_KEYS: usize = 50;
const LONGEST_VALUE: usize = 4096;
/// Never stored: it is the key store's.
const NEVER: &str = "jwt_secret";

/// One value, an address without its password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preference {
    pub text: String,
    #[serde(default)]
    pub password: Secret,
}

/// By section, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Preferences {
    pub sections: BTreeMap<String, BTreeMap<String, Preference>>,
}

impl Preference {
    fn new(name: &str, text: &str, stored: Option<&Self>) -> Result<Self, Invalid> {
        let Some(url) = Url::parse(text).ok().filter(|url| url.password().is_some()) else {
            return Ok(Self { text: text.to_owned(), password: Secret::default() });
        };
        let (bare, mut password) = take_password(&url);
        if password.expose() == MASK {
            let known = stored.filter(|stored| stored.text == bare).map(|stored| stored.password.clone());
            password = known
                .ok_or_else(|| Invalid::new(name, "expected a password: none is stored for this address"))?;
        }
        Ok(Self { text: bare, password })
    }

    /// As it may be shown.
    pub fn shown(&self) -> String {
        masked(&self.text, &self.password)
    }
}

impl Preferences {
    /// Names and values of a section.
    pub fn shown(&self, section: &str) -> BTreeMap<String, String> {
        let values = self.sections.get(section).into_iter().flatten();
        values.map(|(name, value)| (name.clone(), value.shown())).collect()
    }

    /// Sets the values that are given; others of the section stay.
    pub fn change(&self, section: &str, values: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut changed = self.clone();
        let entries = changed.sections.entry(section.to_owned()).or_default();
        for (name, value) in values {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
                let shown: String = name.chars().take(64).collect();
                return Err(Invalid::new(shown, "expected a name of a-z, 0-9 and _, 64 characters at most"));
            }
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if text.len() > LONGEST_VALUE {
                return Err(Invalid::new(name, format!("expected at most {LONGEST_VALUE} bytes")));
            }
            if name != NEVER {
                let value = Preference::new(name, &text, entries.get(name))?;
                entries.insert(name.clone(), value);
            }
        }
        if entries.len() > MOST_KEYS {
            return Err(Invalid::new("body", format!("expected at most {MOST_KEYS} names in a section")));
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_text_and_passwords_stay_inside() {
        let put = |held: &Preferences, values: Value| held.change("metrics", values.as_object().unwrap());
        let body = json!({ "retention_days": 30, "on": true, "jwt_secret": "marked", "postgres_url": "postgres://u:marked@db/x" });
        let held = put(&Preferences::default(), body).unwrap();
        let shown = held.shown("metrics");
        assert_eq!(shown["retention_days"], "30");
        assert_eq!(shown["postgres_url"], "postgres://u:***@db/x");
        assert!(!shown.contains_key("jwt_secret") && !format!("{held:?}").contains("marked"));
        let back = put(&held, json!(shown)).unwrap();
        assert_eq!(back, held);
        assert!(put(&held, json!({ "postgres_url": "postgres://u:***@evil/x" })).is_err());
        assert!(put(&held, json!({ "Upper": "x" })).is_err());
        assert!(put(&held, json!({ "long": "x".repeat(4097) })).is_err());
        let many: Map<String, Value> = (0..51).map(|n| (format!("k{n}"), json!(n))).collect();
        assert!(Preferences::default().change("metrics", &many).is_err());
    }
}
