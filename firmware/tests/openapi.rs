//! The checked-in OpenAPI document is the one that is served, and it is sound.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use aifw::api;
use serde_json::Value;

/// After a change of the API: `AIFW_UPDATE_OPENAPI=1 cargo test --test openapi`.
#[test]
fn the_checked_in_copy_is_what_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let document = api::openapi::document(&api::routes());
    if std::env::var_os("AIFW_UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&document).unwrap() + "\n").unwrap();
    }
    let checked_in: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let paths = |document: &Value| -> BTreeSet<String> {
        document["paths"].as_object().unwrap().keys().cloned().collect()
    };
    let (old, new) = (paths(&checked_in), paths(&document));
    let hint =
        "the API has changed; look at the difference and run AIFW_UPDATE_OPENAPI=1 cargo test --test openapi";
    let [gone, added] = [old.difference(&new), new.difference(&old)].map(|them| them.collect::<Vec<_>>());
    assert!(old == new, "{hint}\ngone: {gone:?}\nnew: {added:?}");
    for path in &new {
        assert!(document["paths"][path] == checked_in["paths"][path], "{hint}\nchanged: {path}");
    }
    assert!(document == checked_in, "{hint}");
}

#[test]
fn the_document_is_the_same_every_time() {
    assert!(api::openapi::document(&api::routes()) == api::openapi::document(&api::routes()));
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
    let document = api::openapi::document(&api::routes());
    let mut references = Vec::new();
    collect(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} stands twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path} has no summary");
        }
    }
    let shown = api::routes().iter().filter(|route| route.access != api::Access::Local).count();
    assert_eq!(names.len(), shown, "an operation stands twice in the table");
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str().filter(|_| key == "$ref") {
                    Some(reference) => references.push(reference.to_owned()),
                    None => collect(member, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
