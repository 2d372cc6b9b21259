//! `aifw setup --config`, `--pf-only`, and the console as a login shell.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::machine::{Machine, file};
use crate::terminal::Line;

fn ran(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn aifw() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aifw"))
}

#[test]
fn b09_a_file_at_fault_is_refused_with_status_2_and_nothing_is_written() {
    let machine = Machine::new(&[]);
    let run = |content: &str, options: &[&str]| {
        let path = file(machine.dir.path(), "setup.json", content);
        let mut command = aifw();
        command.arg("setup").arg("--socket").arg(machine.socket()).arg("--config").arg(path).args(options);
        ran(command)
    };
    let base = json!({ "admin_password": "Abcdef12", "wan_interface": "em0", "lan_interface": "em1" });
    for (key, value, told) in [
        ("default_policy", json!("lenient"), "default_policy"),
        ("lan_ip", json!("192.168.1.1/33"), "lan_ip"),
        ("wan_interface", json!("em7"), "wan_interface: there is no interface em7"),
        ("wan_mode", json!("pppoe"), "wan_mode: PPPoE is not supported"),
        ("admin_password", Value::Null, "admin_password"),
        ("api_port", json!(0), "api_port"),
        ("timezone", json!("Mars/Olympus"), "timezone"),
        ("dns_servers", json!(["foo"]), "dns_servers"),
    ] {
        let mut broken = base.clone();
        broken[key] = value;
        let (status, out, _) = run(&broken.to_string(), &[]);
        assert_eq!(status, 2, "{key}: {out}");
        assert!(out.contains("[ERROR]") && out.contains(told), "{key}: {out}");
        assert!(!machine.is_configured());
    }
    for (content, told) in [("{", "no JSON"), ("[]", "expected a JSON object")] {
        let (status, out, _) = run(content, &[]);
        assert_eq!((status, out.contains(told)), (2, true), "{out}");
    }
    let mut command = aifw();
    command.arg("setup").arg("--socket").arg(machine.socket()).args(["--config", "/nowhere.json"]);
    assert_eq!(ran(command).0, 2);
    // A good one, once; and again only when that is what is meant.
    let (status, out, _) = run(&base.to_string(), &[]);
    assert_eq!(status, 0, "{out}");
    assert!(
        out.contains("[OK] The appliance is set up.") && out.contains("[!] ssh_authorized_keys"),
        "{out}"
    );
    assert_eq!(machine.login("admin", "Abcdef12"), 200);
    let (status, out, _) = run(&base.to_string(), &[]);
    assert_eq!((status, out.contains("set up already")), (1, true), "{out}");
    let (status, out, _) = run(&base.to_string(), &["--reconfigure"]);
    assert_eq!(status, 0, "{out}");
    // Nobody listens there.
    let mut command = aifw();
    command.args(["setup", "--socket", "/nowhere/s"]);
    let (status, out, _) = ran(command);
    assert_eq!((status, out.contains("does not answer at /nowhere/s")), (1, true), "{out}");
}

#[test]
fn b08_rulesets_for_each_policy_nat_dhcp_and_prefix_parse_and_are_never_if_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    for policy in ["standard", "strict", "permissive"] {
        for nat in [true, false] {
            for dhcp in [true, false] {
                for prefix in [24, 16, 26] {
                    let setup = json!({
                        "wan_interface": "em0", "lan_interface": "em1", "lan_ip": format!("10.1.2.1/{prefix}"),
                        "nat_enabled": nat, "dhcp_enabled": dhcp, "default_policy": policy,
                    });
                    let path = file(dir.path(), "f.json", setup.to_string());
                    let mut command = aifw();
                    command.args(["setup", "--pf-only", "--config"]).arg(&path);
                    let (status, out, errors) = ran(command);
                    assert_eq!(status, 0, "{errors}");
                    assert!(!out.contains("if-bound"), "{out}");
                    let parsed = aifw::pf::parse::parse(&out);
                    assert!(parsed.is_ok(), "{:?}\n{out}", parsed.err());
                    assert_eq!(out.contains("nat on"), nat, "{out}");
                    count += 1;
                }
            }
        }
    }
    assert_eq!(count, 36);
    let path = file(dir.path(), "f.json", r#"{"default_policy":"lenient"}"#);
    let mut command = aifw();
    command.args(["setup", "--pf-only", "--config"]).arg(&path);
    let (status, out, errors) = ran(command);
    assert_eq!((status, out.as_str()), (2, ""), "{errors}");
}

#[test]
fn b14_a_login_shell_runs_commands_without_a_menu_whatever_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let linked = dir.path().join("aifw-console");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_aifw"), &linked).unwrap();
    let mut plain = aifw();
    plain.args(["console", "-c", "uname; exit 7"]);
    // As sshd(8) runs it: through the path in passwd(5), as `aifw-console -c command`.
    let mut login = Command::new(&linked);
    login.args(["-c", "uname; exit 7"]);
    // With what sh(1) passes on.
    let mut with_more = Command::new(&linked);
    with_more.args(["-c", "uname; echo $0 $1; exit 7", "name", "-x"]);
    for (command, expected) in [(plain, "Linux\n"), (login, "Linux\n"), (with_more, "Linux\nname -x\n")] {
        let (status, out, errors) = ran(command);
        assert_eq!((status, out.as_str()), (7, expected), "{errors}");
    }
    // As login(1) runs it: `-aifw-console`, and with arguments that mean nothing.
    use std::os::unix::process::CommandExt;
    let machine = Machine::new(&[]);
    for words in [&[][..], &["ttyu0"], &["-l"]] {
        let mut login = Command::new(&linked);
        login.arg0("-aifw-console").arg("--socket").arg(machine.socket()).args(words);
        let mut line = Line::run(login);
        line.expect("Step 1/11 - Root password").send("\x04");
        assert!(line.end().success(), "{words:?}: {}", line.seen);
    }
    // No terminal at all, and nothing comes: it ends.
    let mut command = aifw();
    command.args(["console", "--socket"]).arg(machine.socket());
    let (status, out, _) = ran(command);
    assert_eq!((status, out.contains("Step 1/11")), (0, true), "{out}");
}
