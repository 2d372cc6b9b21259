//! README's walk, typed as it stands there into a shell, against a sandbox appliance; the answers must be those
//! that are printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// One command and the lines it is said to print.
#[derive(Debug)]
struct Typed {
    command: String,
    expected: Vec<String>,
}

/// The `console` blocks under a heading.
fn walk(readme: &str, heading: &str) -> Vec<Typed> {
    let section = readme.split(heading).nth(1).expect("the section").split("\n## ").next().unwrap();
    let mut typed: Vec<Typed> = Vec::new();
    let mut inside = false;
    for line in section.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", true) => inside = false,
            (line, true) => match line.strip_prefix("$ ") {
                Some(command) => typed.push(Typed { command: command.into(), expected: Vec::new() }),
                None => typed.last_mut().expect("a command first").expected.push(line.into()),
            },
            _ => {}
        }
    }
    typed
}

/// `…` stands for any text within the line.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        let last = number + 1 == parts.len();
        let at = if last && !part.is_empty() { rest.rfind(part) } else { rest.find(part) };
        match at {
            Some(at) if !last => rest = &rest[at + part.len()..],
            Some(at) => return part.is_empty() || at + part.len() == rest.len(),
            None => return false,
        }
    }
    rest.is_empty()
}

struct Sandbox(Child);

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A sandbox as `cargo appliance` runs it, on a free port; its address.
fn sandbox(state: &Path) -> (Sandbox, String) {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut child = Command::new(env!("CARGO_BIN_EXE_aifw"))
        .args(["sandbox", "--listen", "127.0.0.1:0", "--loop", "--state"])
        .arg(state)
        .arg("--replay")
        .arg(captures.join("office.pcap"))
        .arg("--replay")
        .arg(captures.join("scans.pcap"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .find_map(|line| line.unwrap().split_once("http://").map(|(_, address)| address.to_owned()))
        .expect("the sandbox tells its address");
    // The pipe stays open for what it says later.
    std::thread::spawn(move || lines.for_each(drop));
    (Sandbox(child), address)
}

#[test]
fn the_walk_works_as_printed() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let typed = walk(&readme, "\n## A walk\n");
    assert!(typed.len() > 20, "found only {} commands", typed.len());
    let state = tempfile::tempdir().unwrap();
    let (_sandbox, address) = sandbox(state.path());
    let mut script = String::new();
    for one in &typed {
        let command = one.command.replace("127.0.0.1:8080", &address);
        script.push_str(&format!("{command}\nprintf '\\n@@end\\n'\n"));
    }
    let run = Command::new("bash").arg("-c").arg(script).output().expect("bash");
    let output = String::from_utf8(run.stdout).unwrap();
    let answers: Vec<Vec<&str>> = output
        .split("\n@@end\n")
        .map(|answer| answer.lines().filter(|line| !line.is_empty()).collect())
        .collect();
    let errors = String::from_utf8_lossy(&run.stderr);
    for (one, answer) in typed.iter().zip(&answers) {
        let same = one.expected.len() == answer.len()
            && one.expected.iter().zip(answer).all(|(pattern, line)| fits(pattern, line));
        assert!(same, "$ {}\nexpected {:#?}\ngot {answer:#?}\nstderr: {errors}", one.command, one.expected);
    }
    assert!(answers.len() > typed.len(), "the walk ended early: {errors}");
}

#[test]
fn patterns() {
    assert!(fits("Rule … deleted", "Rule 1234 deleted"));
    assert!(fits("a…", "abc"));
    assert!(fits("same", "same"));
    assert!(!fits("same", "same "));
    assert!(!fits("Rule … deleted", "Rule 1234 kept"));
    assert!(!fits("…x…y", "xz"));
}
