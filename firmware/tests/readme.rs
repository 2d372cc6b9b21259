//! README's walk, typed as it stands there into a shell, against a sandbox appliance; the answers must be those
//! that are printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
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

/// A sandbox as `cargo appliance` runs it, on free ports; its address.
fn sandbox(state: &Path, port_offset: u16) -> (Sandbox, String) {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut child = Command::new(env!("CARGO_BIN_EXE_aifw"))
        .args([
            "sandbox",
            "--listen",
            "127.0.0.1:0",
            "--loop",
            "--port-offset",
            &port_offset.to_string(),
            "--state",
        ])
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

/// Types commands into a shell; each must print what is said.
fn types(typed: &[Typed], places: &[(&str, String)]) {
    let mut script = String::new();
    for one in typed {
        let mut command = one.command.clone();
        for (printed, real) in places {
            command = command.replace(printed, real);
        }
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
        let mut expected = one.expected.clone();
        for (printed, real) in places {
            expected.iter_mut().for_each(|line| *line = line.replace(printed, real));
        }
        let same = expected.len() == answer.len()
            && expected.iter().zip(answer).all(|(pattern, line)| fits(pattern, line));
        assert!(same, "$ {}\nexpected {expected:#?}\ngot {answer:#?}\nstderr: {errors}", one.command);
    }
    assert!(answers.len() > typed.len(), "it ended early: {errors}");
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
}

/// A port of loopback that was free for UDP and TCP a moment ago.
fn free_port(least: u16) -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port > least && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn the_walk_works_as_printed() {
    let typed = walk(&readme(), "\n## A walk\n");
    assert!(typed.len() > 20, "found only {} commands", typed.len());
    let state = tempfile::tempdir().unwrap();
    let (_sandbox, address) = sandbox(state.path(), free_port(10_000) - 53);
    types(&typed, &[("127.0.0.1:8080", address)]);
}

#[test]
fn the_services_work_as_printed() {
    let services = walk(&readme(), "\n## Services\n");
    assert!(services.len() > 20, "found only {} commands", services.len());
    // The same shell: who is signed in stands at the beginning of the walk.
    let mut typed: Vec<Typed> = walk(&readme(), "\n## A walk\n").into_iter().take(4).collect();
    // Ports that are this test's own, where the daemons have usual ones.
    let local = || format!("127.0.0.1:{}", free_port(1024));
    for (path, body) in [
        ("/dhcp/v4/config", format!("{{\"api_port\":{}}}", free_port(1024))),
        (
            "/time/config",
            format!("{{\"metrics_listen\":\"{}\",\"management_listen\":\"{}\"}}", local(), local()),
        ),
    ] {
        typed.push(Typed { command: format!("api PUT {path} '{body}' > /dev/null"), expected: Vec::new() });
    }
    let up = "while [ \"$(api GET /dhcp/status | jq -r .version)\" != 0.16.2 ]; do sleep 0.1; done";
    typed.push(Typed { command: format!("api POST /dhcp/v4/apply > /dev/null; {up}"), expected: Vec::new() });
    let resolver = "while ! api GET /services | jq -e '.services[0].state == \"running\"' > /dev/null; do sleep 0.1; done";
    typed.push(Typed { command: resolver.into(), expected: Vec::new() });
    typed.extend(services);
    let state = tempfile::tempdir().unwrap();
    let offset = free_port(10_053) - 53;
    let (_sandbox, address) = sandbox(state.path(), offset);
    let dns = (offset + 53).to_string();
    let places = [("127.0.0.1:8080", address), ("10053", dns), ("8081", free_port(1024).to_string())];
    types(&typed, &places);
}

#[test]
fn the_machine_works_as_printed() {
    let mut typed: Vec<Typed> = walk(&readme(), "\n## A walk\n").into_iter().take(4).collect();
    typed.extend(walk(&readme(), "\n## The machine\n"));
    assert!(typed.len() > 9, "found only {} commands", typed.len());
    let state = tempfile::tempdir().unwrap();
    let (_sandbox, address) = sandbox(state.path(), free_port(10_053) - 53);
    types(&typed, &[("127.0.0.1:8080", address)]);
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
