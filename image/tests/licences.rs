//! Every crate that is linked into anything here has a licence that deny.toml allows, and comes from the
//! registry. `cargo deny` says more where it is installed; this runs everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn deny() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

fn allowed() -> Vec<Licensee> {
    let table = deny();
    let allow = table["licenses"]["allow"].as_array().expect("licenses.allow is a list");
    allow.iter().map(|text| Licensee::parse(text.as_str().unwrap()).expect("an SPDX licence")).collect()
}

/// Whether an SPDX expression (or `MIT/Apache-2.0`, as older crates write) can be met with allowed licences.
fn is_allowed(expression: &str, allowed: &[Licensee]) -> bool {
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|parsed| {
        parsed.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)))
    })
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let (metadata, allowed) = (metadata(), allowed());
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "cargo metadata lists {} packages", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or(""), &allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "licences that deny.toml does not allow:\n{}", refused.join("\n"));
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let metadata = metadata();
    let strange: Vec<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["source"].as_str())
        .filter(|source| !source.starts_with("registry+") && !source.starts_with("sparse+"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn no_denied_crate_is_used() {
    let (metadata, deny) = (metadata(), deny());
    let denied: Vec<&str> = deny["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["crate"].as_str().unwrap())
        .collect();
    let used: Vec<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["name"].as_str())
        .filter(|name| denied.contains(name))
        .collect();
    assert!(used.is_empty(), "{used:?}");
}

#[test]
fn other_licences_are_refused() {
    let allowed = allowed();
    assert!(is_allowed("MIT/Apache-2.0", &allowed) && is_allowed("GPL-3.0-only OR ISC", &allowed));
    for expression in ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "SSPL-1.0", "", "no licence"] {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}
