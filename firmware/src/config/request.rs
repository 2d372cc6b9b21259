//! How requests are read: fields that may be absent, null or given; words that are forgiving about case; and
//! the one parser of JSON bodies, whose refusals name the field. Called by the subsystem files and the API.

use std::marker::PhantomData;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{BadValue, Invalid};

/// Why a request was not carried out, before anything was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is at fault (400).
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It clashes with what is there: a name in use, an object still needed (409).
    #[error("{0}")]
    Conflict(String),
}

/// A request field where leaving out and `null` mean different things. Use with `#[serde(default)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Maybe<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Maybe<T> {
    /// Absent keeps, null clears, a value sets.
    pub fn or_keep(self, stored: Option<T>) -> Option<T> {
        match self {
            Self::Absent => stored,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }
    pub fn value(self) -> Option<T> {
        self.or_keep(None)
    }
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(d)?.map_or(Self::Null, Self::Value))
    }
}

impl<T: JsonSchema> JsonSchema for Maybe<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Option::<T>::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Option::<T>::json_schema(generator)
    }
}

/// Text that `T`'s own parser reads: forgiving where `T::from_str` is, and refused in its words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Word<T>(pub T);

impl<'de, T: FromStr<Err = BadValue>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// For `deserialize_with`: text, `""` and `null` being none.
pub fn text_or_none<'de, D: Deserializer<'de>, T: FromStr<Err = E>, E: std::fmt::Display>(
    d: D,
) -> Result<Option<T>, D::Error> {
    match Option::<String>::deserialize(d)? {
        None => Ok(None),
        Some(text) if text.trim().is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// As [`text_or_none`], telling absent (with `#[serde(default)]`) from none.
pub fn text_or_null<'de, D: Deserializer<'de>, T: FromStr<Err = E>, E: std::fmt::Display>(
    d: D,
) -> Result<Maybe<T>, D::Error> {
    Ok(text_or_none(d)?.map_or(Maybe::Null, Maybe::Value))
}

/// A port number in a request: 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = u16;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a port number from 1 to 65535")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u16, E> {
                u16::try_from(number)
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
            }
        }
        d.deserialize_u64(Visitor).map(Self)
    }
}

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

/// A list given as an array of strings, or as one string with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor(PhantomData<()>);
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<String>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an array of strings, or one string with commas")
            }
            fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
                Ok(text.split(',').map(str::to_owned).collect())
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    list.push(text);
                }
                Ok(list)
            }
        }
        let raw = d.deserialize_any(Visitor(PhantomData))?;
        let trimmed = raw.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        Ok(Self(trimmed.map(str::to_owned).collect()))
    }
}

impl JsonSchema for List {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "List".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["array", "string"], "items": { "type": "string" } })
    }
}

/// Free text of at most `max` characters without control characters.
pub fn check_text(field: &str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.chars().count() > max {
        return Err(Invalid::new(field, format!("expected at most {max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "expected text without control characters or line breaks"));
    }
    Ok(())
}

/// Searching for the field at fault reads the body again; larger ones get the plain message.
const LARGEST_BODY_TO_SEARCH: usize = 1024 * 1024;

/// Reads a JSON body. What is refused is named by its path, such as `rules[3].protocol`.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Invalid> {
    // A struct would also be read from an array, field by field.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(Invalid::new("body", "expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let value = (error.is_data() && body.len() <= LARGEST_BODY_TO_SEARCH)
            .then(|| serde_json::from_slice::<Value>(body).ok())
            .flatten();
        match value {
            Some(value) => locate::<T>(value),
            None => Invalid::new("body", error.to_string()),
        }
    })
}

/// As [`parse`], for a value that is parsed already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Invalid> {
    T::deserialize(&value).map_err(|_| locate::<T>(value))
}

fn refusal<T: DeserializeOwned>(value: &Value) -> Option<String> {
    T::deserialize(value).err().map(|error| error.to_string())
}

/// Finds where in `value` the refusal comes from: at each level the shortest run of children that is refused
/// with the same words ends with the one at fault.
fn locate<T: DeserializeOwned>(mut root: Value) -> Invalid {
    let Some(reason) = refusal::<T>(&root) else { return Invalid::new("body", "not understood") };
    let mut path: Vec<Step> = Vec::new();
    loop {
        let children = children(&root, &path);
        let fails = |root: &Value, keep: usize| {
            let mut cut = root.clone();
            truncate(&mut cut, &path, keep);
            refusal::<T>(&cut).as_deref() == Some(reason.as_str())
        };
        if children.is_empty() || fails(&root, 0) || lacks::<T>(&root, &path, &reason) {
            break;
        }
        let (mut low, mut high) = (1, children.len());
        while low < high {
            let middle = low.midpoint(high);
            if fails(&root, middle) { high = middle } else { low = middle + 1 }
        }
        truncate(&mut root, &path, low);
        path.extend(children.into_iter().nth(low - 1));
    }
    let mut field = String::new();
    for step in &path {
        match step {
            Step::Key(key) if field.is_empty() => field.push_str(key),
            Step::Key(key) => field.push_str(&format!(".{key}")),
            Step::Index(index) => field.push_str(&format!("[{index}]")),
        }
    }
    Invalid::new(if field.is_empty() { "body".to_owned() } else { field }, reason)
}

/// Whether the refusal is about a field that is missing right here: giving it changes what is said.
fn lacks<T: DeserializeOwned>(root: &Value, path: &[Step], reason: &str) -> bool {
    let Some(name) = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) else {
        return false;
    };
    let mut given = root.clone();
    if let Some(Value::Object(map)) = at(&mut given, path) {
        map.insert(name.to_owned(), Value::Null);
    }
    // A place that knows no such field says so, and is not the one.
    refusal::<T>(&given).is_none_or(|said| said != reason && !said.starts_with("unknown field"))
}

enum Step {
    Key(String),
    Index(usize),
}

fn at<'a>(root: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(*index),
    })
}

fn children(root: &Value, path: &[Step]) -> Vec<Step> {
    let value = path.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(*index),
    });
    match value {
        Some(Value::Object(map)) => map.keys().cloned().map(Step::Key).collect(),
        Some(Value::Array(list)) => (0..list.len()).map(Step::Index).collect(),
        _ => Vec::new(),
    }
}

fn truncate(root: &mut Value, path: &[Step], keep: usize) {
    match at(root, path) {
        Some(Value::Object(map)) => {
            let gone: Vec<String> = map.keys().skip(keep).cloned().collect();
            gone.iter().for_each(|key| drop(map.remove(key)));
        }
        Some(Value::Array(list)) => list.truncate(keep),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        a: u8,
        b: String,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        #[serde(default)]
        port: Maybe<Port>,
        #[serde(default)]
        list: Vec<Inner>,
    }

    fn refused(body: &str) -> String {
        parse::<Outer>(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn refusals_name_the_field() {
        assert_eq!(refused(r#"{"name":5}"#), "name: invalid type: integer `5`, expected a string");
        assert_eq!(
            refused(r#"{"name":"x","port":70000,"list":[]}"#),
            "port: invalid value: integer `70000`, expected a port number from 1 to 65535"
        );
        assert_eq!(
            refused(r#"{"list":[{"a":1,"b":""},{"a":2,"b":""},{"a":1,"b":7},{"a":true}],"name":""}"#),
            "list[2].b: invalid type: integer `7`, expected a string"
        );
        assert_eq!(refused(r#"{"list":[{"a":1,"b":""},{"a":2}],"name":""}"#), "list[1]: missing field `b`");
        assert_eq!(refused("{}"), "body: missing field `name`");
        assert!(refused(r#"{"name":"","zzz":1}"#).starts_with("zzz: unknown field `zzz`"));
        assert!(refused("{").starts_with("body: EOF"));
        assert!(refused("[]").starts_with("body: expected"));
        assert!(refused("").starts_with("body: EOF"));
    }

    #[test]
    fn absent_null_and_value_differ() {
        let parsed = |text: &str| parse::<Outer>(text.as_bytes()).unwrap().port;
        assert_eq!(parsed(r#"{"name":""}"#), Maybe::Absent);
        assert_eq!(parsed(r#"{"name":"","port":null}"#), Maybe::Null);
        assert_eq!(parsed(r#"{"name":"","port":80}"#), Maybe::Value(Port(80)));
    }
}
