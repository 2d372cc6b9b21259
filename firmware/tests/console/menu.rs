//! The entries of the menu.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::machine::{Machine, file};
use crate::process::soon;
use crate::terminal::Line;
use crate::{MENU, QUESTIONS};

fn set_up(options: &[&str]) -> (Machine, Line) {
    let machine = Machine::new(options);
    let mut line = machine.line(&["console"]);
    line.answers(&QUESTIONS).expect("[OK] The appliance is set up.");
    (machine, line)
}

#[test]
fn b14_what_is_no_entry_is_said_and_the_end_of_the_input_logs_out() {
    let (_machine, mut line) = set_up(&[]);
    for bad in ["99", "", "x", "-1", "14", "1 2"] {
        line.answer(MENU, bad).expect("[ERROR] expected one of the numbers above");
    }
    line.expect(MENU).send("\x03").expect("^C");
    line.expect(MENU).send("half\x15\x04");
    assert!(line.end().success());
}

#[test]
fn entry_1_gives_wan_and_lan_to_other_cards_and_rules_follow() {
    let (machine, mut line) = set_up(&["--interfaces", "em0,em1,em2"]);
    let on = |name: &str| {
        let rules = machine.local("GET", "/rules", Value::Null).1["data"].clone();
        rules.as_array().unwrap().iter().filter(|rule| rule["interface"] == name).count()
    };
    let (wan, lan) = (on("em0"), on("em1"));
    assert!(wan > 0 && lan > 3);
    line.answer(MENU, "1").answer("WAN [em0]: ", "em9").expect(r#"[ERROR] there is no interface "em9""#);
    line.answer("WAN [em0]: ", "em1").answer("LAN, or none [none]: ", "em1");
    line.expect("[ERROR] expected another interface than the WAN's");
    line.answer("LAN, or none [none]: ", "em0").answer("Continue? [Y/n]: ", "");
    line.expect("[OK] WAN is em1, LAN is em0").expect(MENU);
    assert_eq!((on("em1"), on("em0")), (wan, lan));
    let (_, output) = machine.local("GET", "/nat/pf-output", Value::Null);
    assert!(output.to_string().contains("em1"), "{output}");
    assert_eq!(machine.seen()["pending"], false);
    line.answer("", "0");
}

#[test]
fn b15_entry_2_sets_an_address_that_a_restart_keeps_and_everything_follows() {
    let (mut machine, mut line) = set_up(&[]);
    line.answer(MENU, "2").answer("Choice [2]: ", "");
    line.answer("Address with prefix [192.168.1.1/24]: ", "10.9.0.1/33").expect("[ERROR] expected");
    line.answer("Address with prefix [192.168.1.1/24]: ", "10.9.0.1/16").answer("DHCP server? [Y/n]: ", "y");
    line.answer("Lease the usual range? [Y/n]: ", "n")
        .answer("From: ", "10.8.0.1")
        .expect("[ERROR] expected");
    line.answer("From: ", "10.9.1.0").answer("To: ", "10.9.2.0").answer("Continue? [Y/n]: ", "");
    line.expect("[OK] the address of em1 is 10.9.0.1/16").expect(MENU);
    let subnets = machine.local("GET", "/dhcp/v4/subnets", Value::Null).1["data"].clone();
    assert_eq!(subnets.as_array().unwrap().len(), 1);
    assert_eq!((&subnets[0]["pool_start"], &subnets[0]["gateway"]), (&json!("10.9.1.0"), &json!("10.9.0.1")));
    let (_, output) = machine.local("GET", "/nat/pf-output", Value::Null);
    assert!(output.to_string().contains("10.9.0.0/16"), "{output}");
    // The WAN: an address of its own, and back.
    line.answer("", "2").answer("Choice [2]: ", "1").answer("Choice [1]: ", "2");
    line.answer("Address with prefix: ", "10.9.7.7/16")
        .answer("Gateway: ", "10.9.7.1")
        .answer("Continue? [Y/n]: ", "");
    line.expect("[ERROR] address: expected another network than the LAN's 10.9.0.0/16");
    line.answer(MENU, "2").answer("Choice [2]: ", "1").answer("Choice [1]: ", "2");
    line.answer("Address with prefix: ", "198.51.100.2/24").answer("Gateway: ", "198.51.100.1");
    line.answer("Continue? [Y/n]: ", "").expect("[OK] the address of em0 is 198.51.100.2/24").expect(MENU);
    machine.restart();
    let present = machine.seen()["present"].clone();
    assert_eq!((&present["lan_ip"], &present["wan_ip"]), (&json!("10.9.0.1/16"), &json!("198.51.100.2/24")));
    line.answer("", "2")
        .answer("Choice [2]: ", "1")
        .answer("Choice [2]: ", "1")
        .answer("Continue? [Y/n]: ", "");
    line.expect("[OK] the address of em0 is asked for (DHCP)");
    assert_eq!(machine.seen()["present"]["wan_ip"], Value::Null);
}

#[test]
fn entry_3_lets_somebody_in_again_who_has_lost_password_and_second_factor() {
    let (machine, mut line) = set_up(&[]);
    line.answer(MENU, "3").answer("Choice [1]: ", "2").answer("User [admin]: ", "nobody");
    line.answer("New password: ", "Newpass12").answer("once more: ", "Newpass12");
    line.answer("away? [y/N]: ", "").expect("[ERROR] user not found");
    line.answer(MENU, "3").answer("Choice [1]: ", "2").answer("User [admin]: ", "");
    line.answer("New password: ", "weak").expect("[ERROR] expected 8 characters");
    line.answer("New password: ", "Newpass12")
        .answer("once more: ", "Newpass12")
        .answer("away? [y/N]: ", "y");
    line.expect("[OK] admin can sign in with the new password");
    assert_eq!((machine.login("admin", "Newpass12"), machine.login("admin", "Abcdef12")), (200, 401));
    line.answer(MENU, "3").answer("Choice [1]: ", "").answer("New password for root: ", "short");
    line.expect("[ERROR] expected 8 characters or more");
    line.answer("New password for root: ", "Otherroot1").answer("once more: ", "Otherroot1");
    line.expect("[OK] root's password is set");
    let (_, audit) = machine.local("GET", "/logs?limit=50", Value::Null);
    let audit = audit.to_string();
    assert!(
        audit.contains("root's password was set on the console") && !audit.contains("Otherroot1"),
        "{audit}"
    );
}

#[test]
fn b16_a_factory_reset_takes_the_word_and_leaves_an_appliance_that_asks() {
    let (machine, mut line) = set_up(&[]);
    line.answer(MENU, "4")
        .answer("[y/N]: ", "")
        .answer("Type RESET to go on: ", "reset")
        .expect("[OK] Nothing was changed.");
    line.answer(MENU, "4").answer("[y/N]: ", "y").expect("\"schema_version\"");
    line.answer("Type RESET to go on: ", "").expect("[OK] Nothing was changed.");
    assert_eq!(machine.login("admin", "Abcdef12"), 200);
    line.answer(MENU, "4")
        .answer("[y/N]: ", "")
        .answer("Type RESET to go on: ", "RESET")
        .expect("[OK] everything is forgotten");
    assert!(line.end().success());
    soon("it comes up again", || machine.log().matches("not set up;").count() == 2);
    assert!(!machine.is_configured());
    let mut line = machine.line(&["console"]);
    line.expect("Step 1/11");
    // Another administrator: the old one is gone.
    line.answers(&QUESTIONS[..12])
        .answer("User [admin]: ", "new")
        .answers(&QUESTIONS[13..])
        .expect("User:   new");
    assert_eq!((machine.login("admin", "Abcdef12"), machine.login("new", "Abcdef12")), (401, 200));
}

#[test]
fn entries_5_and_6_ask_before_the_power_switch() {
    let (mut machine, mut line) = set_up(&[]);
    let log = machine.dir.path().join("state/power.log");
    line.answer(MENU, "5").answer("Power off now? [y/N]: ", "").expect(MENU);
    line.answer("", "6").answer("Reboot now? [y/N]: ", "n").expect(MENU);
    assert!(!log.exists());
    // One that is to come later is no reason to wait for it.
    assert_eq!(machine.local("POST", "/updates/reboot", json!({})).0, 200);
    assert!(std::fs::read_to_string(&log).unwrap().contains("reboot +1"));
    line.answer("", "6").answer("Reboot now? [y/N]: ", "y").expect("[OK] reboot");
    line.expect(MENU);
    assert!(std::fs::read_to_string(&log).unwrap().contains("reboot now"));
    // A sandbox does what a machine does: it goes down, and comes up as it was; or it stays off.
    soon("it has come up again", || machine.log().matches("(pf is simulated) on").count() == 2);
    assert!(machine.is_configured());
    line.answer("", "5").answer("Power off now? [y/N]: ", "yes").expect("[OK] power off");
    assert!(machine.ended().success());
    assert!(std::fs::read_to_string(&log).unwrap().contains("power off now"));
}

#[test]
fn entry_7_pings_what_is_a_host_and_nothing_else() {
    let machine = Machine::new(&[]);
    // Stands in for ping(8), which is not on every host: it says what it was given, and takes Ctrl-C.
    let ping = file(machine.dir.path(), "ping", "#!/bin/sh\necho \"ping got: $*\"\nexec sleep 60\n");
    std::fs::set_permissions(&ping, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aifw"));
    command.arg("console").arg("--socket").arg(machine.socket());
    command.env("PATH", format!("{}:/bin:/usr/bin", machine.dir.path().display()));
    let mut line = Line::run(command);
    line.expect("Step 1/11").send("\x03");
    line.answer(MENU, "7");
    for bad in ["", "-f 1.1.1.1", "1.1.1.1; reboot", "a b", "$(id)"] {
        line.answer("Host name or address: ", bad).expect("[ERROR] expected a host name or an address");
    }
    line.answer("Host name or address: ", "192.0.2.1").expect("ping got: -c 4 192.0.2.1").send("\x03");
    line.answer(MENU, "7")
        .answer("Host name or address: ", "www.example.org")
        .expect("ping got: -c 4 www.example.org");
    line.send("\x03").answer(MENU, "0");
    assert!(line.end().success());
}

#[test]
fn entry_8_is_a_shell_with_a_terminal_as_it_was_and_the_menu_comes_back() {
    let (_machine, mut line) = set_up(&[]);
    line.answer(MENU, "8").expect("exit leads back to the menu.").expect("sh> ");
    line.send("stty -a | tr ' ' '\\n' | grep -x icanon; echo $((40+2))\r").expect("\nicanon").expect("42");
    assert_eq!(line.modes(), (true, true));
    // Ctrl-C is the shell's.
    line.send("sh -c 'echo ready$((1+1)); exec sleep 300'\r")
        .expect("ready2")
        .send("\x03")
        .expect("^C")
        .send("echo $((50+2))\r")
        .expect("52")
        .send("exit\r");
    line.answer(MENU, "99").expect("[ERROR] expected one of the numbers above");
    // One that is killed does not take the menu with it.
    line.answer(MENU, "8").expect("exit leads back").expect("sh> ").send("kill -9 $$\r").answer(MENU, "0");
    assert!(line.end().success());
}

#[test]
fn entries_9_and_10_show_states_and_packets_until_a_key() {
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/office.pcap");
    let (_machine, mut line) = set_up(&["--replay", capture, "--speed", "0"]);
    line.answer(MENU, "9").expect("states; the largest:").expect("PROTO FROM");
    // It is shown again by itself.
    line.expect("states; the largest:").send("q");
    line.answer(MENU, "10").expect("Ctrl-C leads back to the menu.").send("\x03");
    line.answer(MENU, "0");
    assert!(line.end().success());
}

#[test]
fn entry_11_loads_the_rules_and_restarts_what_is_on() {
    let (_machine, mut line) = set_up(&[]);
    line.answer(MENU, "11").answer("[Y/n]: ", "n").expect(MENU);
    line.answer("", "11").answer("[Y/n]: ", "").expect("[OK] packet filter: rules loaded again");
    line.expect("rDNS: ").expect("rDHCP: ").expect(MENU);
}

#[test]
fn entry_13_reconfigures_what_is_set_up() {
    let (_machine, mut line) = set_up(&[]);
    line.answer(MENU, "13").expect("[!] The appliance is set up already").answer("Continue? [Y/n]: ", "n");
    line.expect("[OK] Nothing was changed.").answer(MENU, "13").answer("Continue? [Y/n]: ", "").send("\x03");
    line.expect("[!] Setup was left").expect(MENU);
}

#[test]
fn b17_installing_is_offered_only_to_a_new_appliance_and_a_sandbox_has_no_disk_for_it() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["console"]);
    line.expect("Step 1/11").send("\x03").answer(MENU, "14").expect("[ERROR] there is no disk to install to");
    let refused = |body: Value| machine.local("POST", "/console/install", body);
    assert_eq!(refused(json!({ "disk": "da0", "confirm": "da1" })).0, 400);
    let (status, body) = refused(json!({ "disk": "da0", "confirm": "da0" }));
    assert_eq!(status, 409, "{body}");
    line.answer(MENU, "13").answers(&QUESTIONS).expect("[OK] The appliance is set up.");
    line.answer(MENU, "14").expect("[ERROR] expected one of the numbers above");
    let (status, body) = refused(json!({ "disk": "da0", "confirm": "da0" }));
    assert_eq!((status, body["message"].as_str().unwrap().contains("not set up")), (409, true), "{body}");
}
