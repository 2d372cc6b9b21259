//! `aifw sandbox` as a process: what it prints and how it ends, the unattended setup file, the address file, and what
//! is still there after it was killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod process;
mod wire;

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use process::{PASSWORD, Sandbox, command, refused, soon, text};
use serde_json::{Value, json};
use wire::Wire;

fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn port_rule(port: u16) -> Value {
    json!({ "action": "pass", "direction": "in", "protocol": "tcp", "dst_port_start": port })
}

#[test]
fn a_setup_file_makes_the_administrator_the_interfaces_and_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let setup = json!({
        "hostname": "fw-a", "admin_username": "chief", "admin_password": PASSWORD, "default_policy": "strict",
        "wan_interface": "vtnet0", "lan_interface": "vtnet1", "lan_ip": "10.9.8.1/22", "nat_enabled": true,
    });
    let path = file(dir.path(), "setup.json", setup.to_string());
    let options = ["--setup", path.to_str().unwrap()];
    let sandbox = Sandbox::start(&state, &options);
    let refused =
        sandbox.call("POST", "/auth/register", "", json!({ "username": "x", "password": PASSWORD }));
    assert_eq!(refused.status, 403, "there is an administrator already");
    let login = sandbox.post("/auth/login", "", json!({ "username": "chief", "password": PASSWORD }));
    let token = text(&login["access_token"]);
    let exported = sandbox.get("/config/export", token);
    let config = &exported["config"];
    assert_eq!(config["system"]["hostname"], "fw-a");
    let labels: Vec<&str> =
        config["rules"].as_array().unwrap().iter().map(|rule| text(&rule["label"])).collect();
    assert_eq!(labels, ["Allow SSH", "Allow web UI and API", "Default block all"]);
    assert_eq!(
        (&config["nat"][0]["interface"], &config["nat"][0]["src_addr"]),
        (&"vtnet0".into(), &"10.9.8.0/22".into())
    );
    // What is set up is in force, and the first answer already counts what pf holds.
    assert_eq!(sandbox.get("/pending", token), json!({ "firewall": false, "nat": false, "dns": false }));
    assert!(sandbox.get("/status", token)["pf_rules"].as_u64().unwrap() > 0);
    let (status, _) = sandbox.terminate();
    assert!(status.success());
    // The file is for the first start.
    let again = Sandbox::start(&state, &options);
    assert_eq!(again.get("/config/export", token)["config"], *config);
    let (_, printed) = again.terminate();
    assert!(printed.contains("setup.json: not used"), "{printed}");
}

#[test]
fn bad_input_is_named_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let packet = include_bytes!("../captures/office.pcap");
    let path = |name: &str, content: &[u8]| file(dir.path(), name, content).to_str().unwrap().to_owned();
    let missing = dir.path().join("missing/file").to_str().unwrap().to_owned();
    let setup = |name: &str, content: Value| path(name, content.to_string().as_bytes());
    let cases: Vec<(i32, &str, String, &str)> = vec![
        (2, "--nope", String::new(), "--nope"),
        (2, "--listen", "8080".into(), "--listen"),
        (3, "--listen", "0.0.0.0:0".into(), "plain HTTP there must be allowed explicitly"),
        (2, "--speed", "NaN".into(), "expected a number, 0 or more"),
        (2, "--speed=-1", String::new(), "expected a number, 0 or more"),
        (2, "--cors", "https://a.example/ui".into(), "expected an origin as https://host[:port]"),
        (3, "--ui", missing.clone(), "expected a directory with an index.html"),
        (3, "--address-file", missing.clone(), "expected a file in a directory that exists"),
        (3, "--replay", missing.clone(), "missing/file: No such file"),
        (
            3,
            "--replay",
            path("garbage.pcap", b"this is no capture at all"),
            "garbage.pcap: no capture in pcap or pcapng format",
        ),
        (3, "--replay", path("empty.pcap", b""), "empty.pcap: the capture ends in the middle"),
        (
            3,
            "--replay",
            path("cut.pcap", &packet[..packet.len() / 2 + 1]),
            "cut.pcap: the capture ends in the middle",
        ),
        (3, "--replay", path("header.pcap", &packet[..24]), "header.pcap: the capture holds no IP packets"),
        (3, "--setup", missing, "missing/file: No such file"),
        (3, "--setup", path("broken.json", b"{"), "broken.json: body:"),
        (3, "--setup", setup("nobody.json", json!({})), "nobody.json: admin_password: expected"),
        (
            3,
            "--setup",
            setup("weak.json", json!({ "admin_password": "weak" })),
            "weak.json: admin_password: expected 8",
        ),
        (
            3,
            "--setup",
            setup("policy.json", json!({ "admin_password": PASSWORD, "default_policy": "lax" })),
            "default_policy: unknown variant `lax`",
        ),
        (
            3,
            "--setup",
            setup(
                "cidr.json",
                json!({ "admin_password": PASSWORD, "lan_interface": "em1", "lan_ip": "10.0.0.1/33" }),
            ),
            "lan_ip: expected",
        ),
    ];
    for (code, option, value, expected) in cases {
        let mut options = vec![option];
        if !value.is_empty() {
            options.push(&value);
        }
        let mut command = command(&state, &options);
        if option == "--listen" {
            command = Command::new(env!("CARGO_BIN_EXE_aifw"));
            command.arg("sandbox").arg("--state").arg(&state).args(&options);
        }
        let (status, printed) = refused(command);
        assert_eq!(status, code, "{options:?}: {printed}");
        assert!(printed.contains(expected), "{options:?}: {printed}");
        assert!(!printed.contains(PASSWORD), "{options:?}: {printed}");
        assert!(!state.exists(), "{options:?} left a state directory");
    }
    let mut short = command(&state, &[]);
    let (status, printed) =
        refused(std::mem::replace(short.env("AIFW_JWT_SECRET", "short"), Command::new("true")));
    assert_eq!((status, printed.contains("AIFW_JWT_SECRET: expected at least 32")), (3, true), "{printed}");
}

#[test]
fn a_place_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = TcpListener::bind(taken).unwrap();
    let mut busy = Command::new(env!("CARGO_BIN_EXE_aifw"));
    busy.arg("sandbox").arg("--state").arg(dir.path().join("a")).args(["--listen", &taken.to_string()]);
    let (status, printed) = refused(busy);
    assert_eq!(status, 3);
    assert!(printed.contains(&format!("cannot listen on {taken}")), "{printed}");
    drop(held);
    let not_a_directory = file(dir.path(), "file", "x");
    for state in [not_a_directory.clone(), not_a_directory.join("below")] {
        let (status, printed) = refused(command(&state, &[]));
        assert_eq!(status, 3);
        assert!(printed.contains(state.to_str().unwrap()), "{printed}");
    }
    // A store that is no store any more is not overwritten.
    let broken = dir.path().join("broken");
    Sandbox::start(&broken, &[]).terminate();
    file(&broken, "aifw.redb", [0; 4096]);
    let (status, printed) = refused(command(&broken, &[]));
    assert_eq!((status, printed.contains("the store cannot be opened")), (3, true), "{printed}");
    assert_eq!(std::fs::read(broken.join("aifw.redb")).unwrap(), [0; 4096]);
}

#[test]
fn the_address_file_names_this_process_while_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (state, path) = (dir.path().join("state"), dir.path().join("address"));
    let options = ["--address-file", path.to_str().unwrap()];
    let first = Sandbox::start(&state, &options);
    soon("the address is written", || path.exists());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", first.address));
    // A second one on the same state is refused and does not touch the file of the first.
    let (status, printed) = refused(command(&state, &options));
    assert_eq!((status, printed.contains("in use by another process")), (3, true), "{printed}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", first.address));
    // Killed, it leaves the file; the next start replaces it, and takes it away when it is stopped.
    first.kill();
    file(dir.path(), "address", "127.0.0.1:1\n");
    let second = Sandbox::start(&state, &options);
    soon("the new address is written", || {
        std::fs::read_to_string(&path).is_ok_and(|line| line == format!("{}\n", second.address))
    });
    let (status, printed) = second.terminate();
    assert_eq!((status.code(), printed.contains("[OK] stopping")), (Some(0), true), "{printed}");
    assert!(!path.exists());
}

#[test]
fn killed_at_any_moment_it_comes_back_with_rules_pending_changes_and_sign_ins() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(dir.path(), &[]);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let applied = text(&sandbox.post("/rules", token, port_rule(4001))["data"]["id"]).to_owned();
    sandbox.post("/reload", token, Value::Null);
    let pending = text(&sandbox.post("/rules", token, port_rule(4002))["data"]["id"]).to_owned();
    let (rules, versions) = (sandbox.rule_ids(token), sandbox.get("/pending", token));
    assert_eq!(versions["firewall"], true);
    sandbox.post("/config/save", token, json!({ "comment": "before" }));
    let states = sandbox.get("/config/history", token);
    sandbox.kill();

    let sandbox = Sandbox::start(dir.path(), &[]);
    assert_eq!(sandbox.rule_ids(token), rules);
    assert_eq!(sandbox.get("/pending", token), versions, "what was not applied is still to be applied");
    assert_eq!(sandbox.get("/config/history", token)["data"][0], states["data"][0]);
    assert!(sandbox.get("/status", token)["pf_rules"].as_u64().unwrap() > 0);
    let verdict = |port: u16| {
        let packet = json!({
            "interface": "em0", "direction": "in", "protocol": "tcp", "src": "198.51.100.9",
            "src_port": 50000, "dst": "203.0.113.2", "dst_port": port,
        });
        sandbox.post("/rules/explain", token, packet)
    };
    let (in_force, not_yet) = (verdict(4001).to_string(), verdict(4002).to_string());
    assert!(in_force.contains(&applied), "{in_force}");
    assert!(!not_yet.contains(&pending), "{not_yet}");
    let pair = sandbox.post("/auth/refresh", "", json!({ "refresh_token": login["refresh_token"] }));
    assert!(pair["refresh_token"].is_string());
    // A token that was used is remembered as used.
    sandbox.kill();
    let sandbox = Sandbox::start(dir.path(), &[]);
    let reused = json!({ "refresh_token": login["refresh_token"] });
    assert_eq!(sandbox.call("POST", "/auth/refresh", "", reused).status, 401);
}

#[test]
fn a_logout_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(dir.path(), &[]);
    let login = sandbox.admin();
    sandbox.post("/auth/logout", text(&login["access_token"]), Value::Null);
    sandbox.kill();
    let sandbox = Sandbox::start(dir.path(), &[]);
    assert_eq!(sandbox.call("GET", "/auth/me", text(&login["access_token"]), Value::Null).status, 401);
}

/// The window ends while nothing runs: the revert happens at the start, before anything is answered.
#[test]
fn commit_confirm_that_expires_while_down_reverts_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(dir.path(), &[]);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let before = sandbox.rule_ids(token);
    sandbox.post("/config/commit-confirm", token, json!({ "timeout_secs": 10, "description": "risky" }));
    let opened = Instant::now();
    sandbox.call("DELETE", &format!("/rules/{}", before[0]), token, Value::Null);
    sandbox.post("/rules", token, port_rule(4003));
    sandbox.post("/reload", token, Value::Null);
    assert_ne!(sandbox.rule_ids(token), before);
    sandbox.kill();
    std::thread::sleep(Duration::from_millis(10_200).saturating_sub(opened.elapsed()));

    let sandbox = Sandbox::start(dir.path(), &[]);
    assert_eq!(sandbox.rule_ids(token), before);
    assert_eq!(sandbox.get("/pending", token), json!({ "firewall": false, "nat": false, "dns": false }));
    assert_eq!(
        sandbox.get("/config/commit-confirm/status", token),
        json!({ "active": false, "expires_at": "", "seconds_remaining": 0, "description": "" })
    );
    let newest = &sandbox.get("/config/history", token)["data"][0];
    assert_eq!((&newest["comment"], &newest["applied"]), (&"auto-revert: risky".into(), &true.into()));
    let rules = sandbox.get("/rules", token);
    assert!(rules["data"].as_array().unwrap().iter().all(|rule| rule["in_effect"] == true), "{rules}");
}

/// The window is still open after the start: it goes on, and can be confirmed.
#[test]
fn commit_confirm_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(dir.path(), &[]);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    sandbox.post("/config/commit-confirm", token, json!({ "timeout_secs": 600, "description": "slow" }));
    sandbox.post("/rules", token, port_rule(4004));
    let (status, rules) = (sandbox.get("/config/commit-confirm/status", token), sandbox.rule_ids(token));
    sandbox.kill();
    let sandbox = Sandbox::start(dir.path(), &[]);
    let resumed = sandbox.get("/config/commit-confirm/status", token);
    assert_eq!((&resumed["active"], &resumed["expires_at"]), (&true.into(), &status["expires_at"]));
    assert_eq!(sandbox.call("POST", "/config/commit-confirm", token, Value::Null).status, 409);
    let confirmed = sandbox.post("/config/commit-confirm/confirm", token, Value::Null);
    assert_eq!(confirmed["message"], "Configuration confirmed and accepted permanently.");
    assert_eq!(sandbox.rule_ids(token), rules);
}

#[test]
fn tls_keeps_its_certificate_and_the_socket_serves_its_owner_without_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let (state, socket) = (dir.path().join("state"), dir.path().join("aifw.sock"));
    let options = ["--tls", "--socket", socket.to_str().unwrap()];
    let sandbox = Sandbox::start(&state, &options);
    let me = Wire::over(UnixStream::connect(&socket).unwrap()).request("GET", "/api/v1/auth/me", &[], b"");
    assert_eq!((me.status, &me.json()["username"]), (200, &"root".into()));
    let certificate = std::fs::read(state.join("tls-cert.pem")).unwrap();
    // Killed, it leaves the socket's file; the next start takes the place over.
    sandbox.kill();
    let sandbox = Sandbox::start(&state, &options);
    assert_eq!(std::fs::read(state.join("tls-cert.pem")).unwrap(), certificate);
    let save =
        Wire::over(UnixStream::connect(&socket).unwrap()).request("POST", "/api/v1/config/save", &[], b"");
    assert_eq!(save.json()["message"], "Config saved as version 1");
    sandbox.terminate();
    assert!(!socket.exists());
}

/// Everything that is secret is planted; then nothing of it may be in what is printed with the most talkative log, nor
/// in any answer that is not the one that hands it out.
#[test]
fn no_secret_is_printed_or_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut talkative = command(dir.path(), &[]);
    talkative.env("RUST_LOG", "trace");
    let sandbox = Sandbox::run(talkative);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let key = sandbox.post("/auth/api-keys", token, json!({ "name": "monitor" }));
    let ticket = sandbox.post("/auth/ws-ticket", token, Value::Null);
    let totp = sandbox.post("/auth/totp/setup", token, Value::Null);
    let google = json!({ "name": "g", "provider_type": "google", "client_id": "id", "client_secret": "PlantedClientSecret" });
    sandbox.post("/auth/oauth/providers", token, google);
    sandbox.post("/auth/users", token, json!({ "username": "other", "password": "PlantedOther1" }));
    // Secrets in the wrong place: refusals must not repeat them.
    let mut answers = vec![
        sandbox
            .call("POST", "/auth/login", "", json!({ "username": "admin", "password": "PlantedWrong1" }))
            .text(),
        sandbox.call("POST", "/auth/login", "", json!({ "password": [PASSWORD] })).text(),
        sandbox.call("POST", "/auth/refresh", "", json!({ "refresh_token": "rfx_planted" })).text(),
        sandbox.call("POST", "/auth/totp/verify", token, json!({ "code": "PlantedCode" })).text(),
        sandbox.call("GET", "/status?token=PlantedQuery", "", Value::Null).text(),
    ];
    for path in [
        "/auth/me",
        "/auth/users",
        "/auth/roles",
        "/auth/api-keys",
        "/auth/settings",
        "/auth/audit",
        "/auth/oauth/providers",
        "/logs?type=all",
        "/about",
        "/status",
        "/config/export",
        "/config/history",
        "/config/check",
    ] {
        answers.push(sandbox.get(path, token).to_string());
    }
    let secret_file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let signing = secret_file("jwt.key").trim().to_owned();
    assert_eq!(signing.len(), 64);
    let recovery = totp["recovery_codes"].as_array().unwrap().iter().map(text);
    let planted: Vec<&str> = [
        PASSWORD,
        "PlantedOther1",
        "PlantedWrong1",
        "PlantedClientSecret",
        "PlantedCode",
        "rfx_planted",
        "PlantedQuery",
        "$argon2",
        &signing,
        token,
        text(&login["refresh_token"]),
        text(&key["key"]),
        text(&ticket["ticket"]),
        text(&totp["secret"]),
    ]
    .into_iter()
    .chain(recovery)
    .collect();
    let (_, printed) = sandbox.terminate();
    for secret in planted {
        assert!(!printed.contains(secret), "{secret} is printed");
        let answered = answers.iter().find(|answer| answer.contains(secret));
        assert!(answered.is_none(), "{secret} is answered: {answered:?}");
    }
}
