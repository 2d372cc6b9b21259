//! What differs between two configuration documents, section by section: objects by id, fields by name. Works
//! on the documents' JSON, so that a new section needs nothing here. Pure.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::backup::ConfigDocument;
use crate::config::secret;

/// Section (`rules`, `vpn.wireguard`, `system` …) → what differs in it.
pub type Sections = BTreeMap<String, Section>;

#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Section {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Changed>,
    /// Of a section that is one object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Changed {
    pub id: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Field {
    /// Name, with dots where it is nested.
    pub field: String,
    /// `null` where it is absent, and for secrets.
    pub before: Value,
    pub after: Value,
}

/// A document as it is shown: without secrets.
pub fn shown(document: &ConfigDocument) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// A document with its secrets, never to be shown.
fn revealed(document: &ConfigDocument) -> Value {
    secret::revealing(|| serde_json::to_value(document).unwrap_or_default())
}

/// Everything that differs between two documents.
pub fn sections(one: &ConfigDocument, two: &ConfigDocument) -> Sections {
    let before = Pair { shown: &shown(one), full: &revealed(one) };
    let after = Pair { shown: &shown(two), full: &revealed(two) };
    let mut sections = Sections::new();
    for name in names(before.full, after.full) {
        compare_section(&name, before.get(&name), after.get(&name), &mut sections);
    }
    sections.retain(|_, section| *section != Section::default());
    sections
}

/// The same value without and with secrets: compared by the second, shown by the first.
#[derive(Clone, Copy)]
struct Pair<'a> {
    shown: &'a Value,
    full: &'a Value,
}

const NULL: Pair<'static> = Pair { shown: &Value::Null, full: &Value::Null };

impl<'a> Pair<'a> {
    fn get(self, name: &str) -> Self {
        match self.full.get(name) {
            Some(full) => Self { shown: self.shown.get(name).unwrap_or(&Value::Null), full },
            None => NULL,
        }
    }
    /// The objects of an array by their id.
    fn objects(self) -> BTreeMap<String, Pair<'a>> {
        let list = |value: &'a Value| value.as_array().map_or(&[] as &[Value], Vec::as_slice);
        let (shown, full) = (list(self.shown), list(self.full));
        full.iter()
            .enumerate()
            .filter_map(|(index, full)| {
                Some((id_of(full)?, Pair { shown: shown.get(index).unwrap_or(&Value::Null), full }))
            })
            .collect()
    }
}

/// What names an object in an array: its `id`, or the `key` of a tuning entry.
fn id_of(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    object.get("id").or_else(|| object.get("key"))?.as_str().map(str::to_owned)
}

fn is_objects(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(|entry| id_of(entry).is_some()))
}

fn names(one: &Value, two: &Value) -> BTreeSet<String> {
    let keys =
        |value: &Value| value.as_object().map(Map::keys).into_iter().flatten().cloned().collect::<Vec<_>>();
    keys(one).into_iter().chain(keys(two)).collect()
}

fn compare_section(path: &str, before: Pair<'_>, after: Pair<'_>, sections: &mut Sections) {
    if before.full == after.full {
        return;
    }
    if is_objects(before.full) || is_objects(after.full) {
        let (old, new) = (before.objects(), after.objects());
        let section = sections.entry(path.to_owned()).or_default();
        section.added.extend(new.keys().filter(|id| !old.contains_key(*id)).cloned());
        section.removed.extend(old.keys().filter(|id| !new.contains_key(*id)).cloned());
        for (id, before) in &old {
            let Some(after) = new.get(id) else { continue };
            let mut fields = Vec::new();
            compare_fields("", *before, *after, &mut fields);
            if !fields.is_empty() {
                section.changed.push(Changed { id: id.clone(), fields });
            }
        }
        return;
    }
    if before.full.is_object() || after.full.is_object() {
        for name in names(before.full, after.full) {
            let (before, after) = (before.get(&name), after.get(&name));
            let nested = [before.full, after.full].iter().any(|value| value.is_object() || is_objects(value));
            if nested {
                compare_section(&format!("{path}.{name}"), before, after, sections);
            } else {
                let fields = &mut sections.entry(path.to_owned()).or_default().fields;
                compare_fields(&name, before, after, fields);
            }
        }
        return;
    }
    let fields = &mut sections.entry(path.to_owned()).or_default().fields;
    compare_fields("", before, after, fields);
}

fn compare_fields(path: &str, before: Pair<'_>, after: Pair<'_>, fields: &mut Vec<Field>) {
    if before.full == after.full {
        return;
    }
    if before.full.is_object() && after.full.is_object() {
        for name in names(before.full, after.full) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare_fields(&path, before.get(&name), after.get(&name), fields);
        }
        return;
    }
    fields.push(Field { field: path.into(), before: before.shown.clone(), after: after.shown.clone() });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn compare(before: &Value, after: &Value) -> Value {
        let mut sections = Sections::new();
        for name in names(before, after) {
            let (one, two) = (Pair { shown: before, full: before }, Pair { shown: after, full: after });
            compare_section(&name, one.get(&name), two.get(&name), &mut sections);
        }
        sections.retain(|_, section| *section != Section::default());
        serde_json::to_value(sections).unwrap()
    }

    #[test]
    fn objects_are_told_apart_by_id_and_fields_by_name() {
        let before = json!({
            "schema_version": 1,
            "system": {"hostname": "one", "ssh": {"port": 22}},
            "rules": [{"id": "a", "priority": 1}, {"id": "b", "state": {"tracking": "none", "policy": null}}],
            "vpn": {"wireguard": [], "ipsec": [{"id": "t", "mode": "tunnel"}]},
            "tuning": [{"key": "pf.max_states", "value": "1000"}],
        });
        let after = json!({
            "schema_version": 1,
            "system": {"hostname": "two", "ssh": {"port": 2222}},
            "rules": [{"id": "c", "priority": 1}, {"id": "b", "state": {"tracking": "keep", "policy": null}}],
            "vpn": {"wireguard": [{"id": "w"}], "ipsec": [{"id": "t", "mode": "tunnel"}]},
            "tuning": [{"key": "pf.max_states", "value": "2000"}],
        });
        assert_eq!(
            compare(&before, &after),
            json!({
                "system": {"fields": [{"field": "hostname", "before": "one", "after": "two"}]},
                "system.ssh": {"fields": [{"field": "port", "before": 22, "after": 2222}]},
                "rules": {
                    "added": ["c"],
                    "removed": ["a"],
                    "changed": [{"id": "b", "fields": [
                        {"field": "state.tracking", "before": "none", "after": "keep"},
                    ]}],
                },
                "vpn.wireguard": {"added": ["w"]},
                "tuning": {"changed": [{"id": "pf.max_states", "fields": [
                    {"field": "value", "before": "1000", "after": "2000"},
                ]}]},
            })
        );
        assert_eq!(compare(&after, &after), json!({}));
    }

    #[test]
    fn a_secret_that_differs_is_named_without_its_value() {
        let shown = json!({"id": "w", "private_key": null});
        let (old, new) = (json!({"id": "w", "private_key": "old"}), json!({"id": "w", "private_key": "new"}));
        let mut fields = Vec::new();
        compare_fields(
            "",
            Pair { shown: &shown, full: &old },
            Pair { shown: &shown, full: &new },
            &mut fields,
        );
        assert_eq!(fields, [Field { field: "private_key".into(), before: Value::Null, after: Value::Null }]);
    }
}
