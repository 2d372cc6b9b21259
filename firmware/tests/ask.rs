//! `aifw compile` and `aifw explain`, as they are typed.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn aifw(words: &[&str], file: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aifw")).args(words).arg(file).args(more).output().unwrap()
}

fn setup(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("setup.json");
    let text = r#"{"wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24",
        "wan_gateway": "203.0.113.1", "lan_interface": "em1", "lan_ip": "192.168.1.1/24", "nat_enabled": true}"#;
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn compile_prints_what_pf_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let output = aifw(&["compile"], &setup(dir.path()), &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "# main ruleset",
        "block drop in log all label \"default-deny-in\"",
        "# anchor \"aifw-nat\"",
        "nat on em0 inet from 192.168.1.0/24 to any -> (em0:0)",
        "# anchor \"aifw\"",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\nin\n{text}");
    }
    let (_, network) = text.split_once("\n# network\n").unwrap();
    let network: serde_json::Value = serde_json::from_str(network).unwrap();
    assert_eq!(network["interfaces"][0]["inet"], "203.0.113.2/24");
    assert_eq!(network["routes"][0]["gateway"], "203.0.113.1");
}

#[test]
fn explain_decides_and_its_exit_status_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let file = setup(dir.path());
    let from_wan =
        ["--interface", "em0", "--src", "198.51.100.7", "--dst", "203.0.113.2", "--dst-port", "22"];
    let blocked = aifw(&["explain"], &file, &from_wan);
    assert_eq!(blocked.status.code(), Some(1), "{blocked:?}");
    let text = String::from_utf8(blocked.stdout).unwrap();
    assert!(text.starts_with("block\n") && text.contains("label \"Default block inbound\""), "{text}");
    let from_lan = [
        "--interface",
        "em1",
        "--src",
        "192.168.1.7",
        "--dst",
        "198.51.100.2",
        "--dst-port",
        "443",
        "--json",
    ];
    let passed = aifw(&["explain"], &file, &from_lan);
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    let told: serde_json::Value = serde_json::from_slice(&passed.stdout).unwrap();
    assert_eq!((&told["verdict"], &told["legs"][1]["interface"]), (&"pass".into(), &"em0".into()));
    assert_eq!(told["legs"][1]["translation"]["after"]["src"], "203.0.113.2");
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = setup(dir.path());
    let sideways = [
        "--interface",
        "em1",
        "--src",
        "192.168.1.7",
        "--dst",
        "198.51.100.2",
        "--dst-port",
        "1",
        "--direction",
        "up",
    ];
    let cases: [(Output, &str); 3] = [
        (aifw(&["compile"], &dir.path().join("nowhere.json"), &[]), "nowhere.json"),
        (aifw(&["explain"], &file, &sideways), "direction: expected in or out"),
        (aifw(&["explain"], &file, &sideways[..6]), "dst_port: expected a port"),
    ];
    for (output, expected) in cases {
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(expected), "{expected} not in {errors}");
    }
}
