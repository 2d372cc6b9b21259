//! The console menu's entry for updates (contract/console.md, entry 12), on a pseudo-terminal.

use std::process::Command;

use serde_json::Value;

use crate::process::{Sandbox, text};
use crate::rig::{own, schedule};
use crate::sandbox::{Machine, until};
use crate::server::{Document, Server};
use crate::terminal::Line;

const MENU: &str = "Enter a number: ";

#[test]
fn entry_12_shows_asks_installs_and_reboots() {
    let machine = Machine::new();
    let server = Server::start();
    let socket = machine.dir.path().join("s");
    let sandbox =
        Sandbox::start(&machine.state(), &["--slot-mib", "8", "--socket", socket.to_str().unwrap()]);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let stored = sandbox.call("PUT", "/updates/schedule", token, schedule(&server));
    assert_eq!(stored.status, 200, "{}", stored.text());

    let mut command = Command::new(env!("CARGO_BIN_EXE_aifw"));
    command.arg("console").arg("--socket").arg(&socket);
    let mut line = Line::run(command);
    // A server without a release is said, and the menu is there.
    line.answer(MENU, "12").expect("[ERROR] ").expect("404").expect(MENU);

    server.release("9.9.9", "notes", "aifw-update-9.9.9-amd64.tar.xz", &machine.package("9.9.9", 1, 1 << 20));
    line.answer("", "12").expect(&format!("This version: {}", own())).expect("Latest:       9.9.9");
    line.answer("Install it, with its FreeBSD? [y/N]: ", "").expect("[OK] Nothing was changed.").expect(MENU);
    let status =
        |name: &str| sandbox.call("GET", "/updates/aifw/status", token, Value::Null).json()[name].clone();
    assert_eq!((status("restart_pending"), server.asked(".tar.xz").len()), (false.into(), 0));

    line.answer("", "12")
        .answer("Install it, with its FreeBSD? [y/N]: ", "y")
        .expect("Downloading and verifying ...");
    line.expect("[OK] AiFw updated from").answer("Reboot now? [y/N]: ", "n").expect(MENU);
    assert_eq!((status("restart_pending"), status("running_version")), (true.into(), own().into()));
    line.answer("", "6").answer("Reboot now? [y/N]: ", "y").expect("[OK] reboot");
    until(&sandbox, token, "9.9.9 is confirmed", |info| {
        info["running_version"] == "9.9.9" && info["trying"] == false
    });

    // A package that is not what the release says changes nothing.
    server.release("9.9.10", "", "aifw-update-9.9.10-amd64.tar.xz", &machine.package("9.9.10", 2, 1 << 20));
    let spoilt = |document: &mut Document| document.body[1000] ^= 1;
    server.change("/files/aifw-update-9.9.10-amd64.tar.xz", spoilt);
    line.expect(MENU)
        .answer("", "12")
        .answer("Install it, with its FreeBSD? [y/N]: ", "y")
        .expect("[ERROR] ")
        .expect(MENU);
    assert_eq!((status("restart_pending"), status("running_version")), (false.into(), "9.9.9".into()));
    // And when there is nothing newer, it says so.
    server.release("9.9.9", "", "aifw-update-9.9.9-amd64.tar.xz", &machine.package("9.9.9", 1, 1 << 20));
    line.answer("", "12").expect("Latest:       9.9.9").expect("[OK] ").expect(MENU);
    assert!(!line.seen[line.seen.rfind("Latest:").unwrap()..].contains("Install it"), "{}", line.seen);
}
