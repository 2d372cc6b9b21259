//! Secrets inside the texts of middlewares and certificate resolvers: hidden from those who may only read and from
//! documents without secrets, sealed in the store, and put back when a hidden one returns. Texts without secrets stay
//! byte for byte.

use std::fmt;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Id, Invalid, Secret, secret};

/// The text of a JSON object that may have secrets in it. `Debug` and `Serialize` show them as little as those of a
/// [`Secret`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigText(String);

impl Deref for ConfigText {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for ConfigText {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self))
    }
}

impl Serialize for ConfigText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let masked = masked(self);
        match masked == self.0 || secret::are_hidden() {
            true => s.serialize_str(&masked),
            false => Secret::new(self.0.as_str()).serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for ConfigText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Secret::deserialize(d).map(|text| Self(text.expose().to_owned()))
    }
}

impl JsonSchema for ConfigText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        String::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

impl ConfigText {
    /// With the secrets of `stored` where it has a mask.
    pub fn unmasked(&self, stored: Option<&Self>) -> Result<Self, Invalid> {
        unmasked(self, stored.map(|stored| &**stored)).map(Self)
    }

    /// With the secrets of `stored` where it has a mask; with ones that nobody knows where nothing is stored, so that
    /// what a document without secrets has brought lets nobody in.
    pub fn imported(&self, stored: Option<&Self>) -> Self {
        self.unmasked(stored).unwrap_or_else(|_| {
            let unknown = format!("{}{}", Id::new_v4(), Id::new_v4());
            Self(filled(self, &unknown))
        })
    }
}

/// The text with `unknown` at every mask.
fn filled(text: &str, unknown: &str) -> String {
    let mut config: Value = serde_json::from_str(text).unwrap_or_default();
    for field in FIELDS {
        if let Some(secret) = config.pointer_mut(field).filter(|secret| *secret == MASK) {
            *secret = unknown.into();
        }
    }
    if let Some(Value::Array(users)) = config.pointer_mut(USERS) {
        for entry in users.iter_mut() {
            let Some((name, MASK)) = entry.as_str().map(user) else { continue };
            *entry = format!("{name}:{unknown}").into();
        }
    }
    config.to_string()
}

/// Stands for a secret.
const MASK: &str = "***";
/// Where secrets are: of `jwt`, and of an ACME account's external binding (RFC 8555 §7.3.4).
const FIELDS: [&str; 2] = ["/secret", "/acme/eab/hmacEncoded"];
/// Of `basicAuth` and `digestAuth`: what follows the first colon of each.
const USERS: &str = "/users";

/// A user's name and the rest.
fn user(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, ""))
}

/// The text without its secrets.
fn masked(text: &str) -> String {
    let mut config: Value = serde_json::from_str(text).unwrap_or_default();
    let mut hidden = false;
    for field in FIELDS {
        if let Some(secret) = config.pointer_mut(field).filter(|secret| secret.is_string()) {
            *secret = MASK.into();
            hidden = true;
        }
    }
    if let Some(Value::Array(users)) = config.pointer_mut(USERS) {
        for entry in users.iter_mut() {
            if let Some(text) = entry.as_str() {
                *entry = format!("{}:{MASK}", user(text).0).into();
                hidden = true;
            }
        }
    }
    if hidden { config.to_string() } else { text.to_owned() }
}

/// The text with the secrets of `stored` where it has [`MASK`]. One for which nothing is stored is refused: it would
/// be the secret itself.
fn unmasked(text: &str, stored: Option<&str>) -> Result<String, Invalid> {
    let mut config: Value = serde_json::from_str(text).unwrap_or_default();
    let stored: Value = stored.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let unknown = |what: &str| {
        Invalid::new(
            "config_json",
            format!("expected a secret at {what}; {MASK} stands for none that is stored"),
        )
    };
    let mut found = false;
    for field in FIELDS {
        if let Some(secret) = config.pointer_mut(field).filter(|secret| *secret == MASK) {
            let known = stored.pointer(field).filter(|known| known.is_string());
            *secret = known.cloned().ok_or_else(|| unknown(&field[1..]))?;
            found = true;
        }
    }
    let known: Vec<&str> = match stored.pointer(USERS) {
        Some(Value::Array(users)) => users.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if let Some(Value::Array(users)) = config.pointer_mut(USERS) {
        for (at, entry) in users.iter_mut().enumerate() {
            let Some((name, MASK)) = entry.as_str().map(user) else { continue };
            // A name may be there twice, with another realm.
            let same = known.iter().skip(at).take(1).chain(&known).find(|known| user(known).0 == name);
            let secret = same.ok_or_else(|| unknown(&format!("users, {name}")))?;
            *entry = (*secret).into();
            found = true;
        }
    }
    Ok(if found { config.to_string() } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_reader_does_not_see_secrets() {
        let shown = masked(r#"{"secret":"s3","users":["ann:$apr1$x"],"realm":"r"}"#);
        assert_eq!(json(&shown), json(r#"{"secret":"***","users":["ann:***"],"realm":"r"}"#));
        let shown = masked(r#"{"acme":{"email":"a@a.test","eab":{"kid":"k","hmacEncoded":"s4"}}}"#);
        assert_eq!(
            json(&shown),
            json(r#"{"acme":{"email":"a@a.test","eab":{"kid":"k","hmacEncoded":"***"}}}"#)
        );
        assert_eq!(masked("{ }"), "{ }");
    }

    #[test]
    fn a_text_with_secrets_is_written_in_clear_only_on_purpose() {
        let text = ConfigText::from(r#"{"secret":"s3","users":["ann:x"]}"#);
        let hidden = serde_json::to_string(&text).unwrap();
        assert!(!hidden.contains("s3") && !format!("{text:?}").contains("s3"), "{hidden}");
        let full = secret::revealing(|| serde_json::to_string(&text).unwrap());
        assert_eq!(serde_json::from_str::<ConfigText>(&full).unwrap(), text);
        let plain = ConfigText::from("{ }");
        assert_eq!(serde_json::to_string(&plain).unwrap(), "\"{ }\"");
        // A document without secrets: the stored ones, or such as nobody knows.
        let brought: ConfigText = serde_json::from_str(&hidden).unwrap();
        assert_eq!(json(&brought.imported(Some(&text))), json(&text));
        let closed = brought.imported(None);
        assert!(!closed.contains(MASK) && !closed.contains("s3"), "{}", &*closed);
    }

    #[test]
    fn a_mask_that_comes_back_does_not_overwrite_the_secret() {
        for stored in [
            r#"{"secret":"s3","users":["ann:one:x1","ann:two:x2","bob:$apr1$x"]}"#,
            r#"{"acme":{"eab":{"kid":"k","hmacEncoded":"s4"}}}"#,
        ] {
            assert_eq!(json(&unmasked(&masked(stored), Some(stored)).unwrap()), json(stored));
            let refused = unmasked(&masked(stored), None).unwrap_err().to_string();
            assert!(refused.starts_with("config_json: expected a secret at"), "{refused}");
        }
        assert_eq!(
            unmasked(r#"{ "secret" : "new" }"#, Some(r#"{"secret":"old"}"#)).unwrap(),
            r#"{ "secret" : "new" }"#
        );
    }
}
