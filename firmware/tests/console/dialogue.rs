//! Questions, answers, and what the appliance is afterwards.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::machine::Machine;
use crate::{MENU, QUESTIONS};

/// A document's rows of one collection.
fn rows<'v>(document: &'v Value, name: &str) -> &'v Vec<Value> {
    document["config"][name].as_array().unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

#[test]
fn b01_enter_everywhere_gives_a_router_with_dhcp_nat_and_the_standard_policy() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["console"]);
    for (prompt, text) in QUESTIONS {
        let text = if prompt == "Choice [1]: " { "" } else { text };
        // Key only, Enter twice: no user, no pasted key.
        if prompt.starts_with("Host name") {
            line.answer("GitHub user name (Enter = none): ", "")
                .answer("Public key, one line (Enter = none): ", "");
        }
        line.answer(prompt, text);
    }
    line.expect("[OK] The appliance is set up.").expect("Web UI: http://127.0.0.1:").expect("User:   admin");
    line.expect(MENU);
    // Nothing that was shown is wider than the screen, and no password was shown.
    // What a daemon says that does not come up is as long as it is.
    for text in line.seen.lines().filter(|text| !text.starts_with("[!] r")) {
        assert!(text.trim_end().chars().count() < 80, "{text:?}");
    }
    assert!(!line.seen.contains("Rootpass1") && !line.seen.contains("Abcdef12"), "{}", line.seen);
    assert!(line.seen.is_ascii());
    line.answer("", "0");
    assert!(line.end().success());

    let seen = machine.seen();
    let present = &seen["present"];
    assert_eq!(seen["configured"], true);
    assert_eq!((seen["wan_interface"].as_str(), seen["lan_interface"].as_str()), (Some("em0"), Some("em1")));
    assert_eq!(present["wan_ip"], Value::Null);
    assert_eq!(present["lan_ip"], "192.168.1.1/24");
    assert_eq!((present["api_listen"].as_str(), present["api_port"].as_u64()), (Some("0.0.0.0"), Some(8080)));
    assert_eq!(present["default_policy"], "standard");
    assert_eq!(present["root_password"], true);
    assert_eq!(machine.login("admin", "Abcdef12"), 200);
    assert_eq!(machine.login("admin", "Abcdef13"), 401);
    let (_, subnets) = machine.local("GET", "/dhcp/v4/subnets", Value::Null);
    let subnet = &subnets["data"][0];
    assert_eq!(
        (subnet["pool_start"].as_str(), subnet["pool_end"].as_str()),
        (Some("192.168.1.20"), Some("192.168.1.219"))
    );
    let (_, nat) = machine.local("GET", "/nat", Value::Null);
    assert_eq!(
        (
            nat["data"][0]["type"].as_str().or(nat["data"][0]["nat_type"].as_str()),
            nat["data"][0]["interface"].as_str()
        ),
        (Some("masquerade"), Some("em0"))
    );
    let (_, rules) = machine.local("GET", "/rules", Value::Null);
    assert!(rules["data"].as_array().unwrap().len() > 6);
}

#[test]
fn b02_five_passwords_for_root_that_do_not_do_and_the_question_is_passed_over() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    line.answer("New password: ", "short").expect("[ERROR] expected 8 characters or more");
    for _ in 0..4 {
        line.answer("New password: ", "Rootpass1")
            .answer("once more: ", "Rootpass2")
            .expect("[ERROR] the two differ");
    }
    line.expect("[!] No password for root is set.").expect("Step 2/11 - SSH access");
    line.answers(&QUESTIONS[2..21]).expect("Root password  not set");
}

#[test]
fn b03_passwords_of_the_administrator_are_refused_with_the_reason() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS[..12]);
    line.answer("User [admin]: ", "two words").expect("[ERROR] expected 1 to 32");
    line.answer("User [admin]: ", "chief");
    for (text, reason) in [
        ("abcdefg1", "expected an upper-case letter"),
        ("ABCDEFG1", "expected a lower-case letter"),
        ("Abcdefgh", "expected a digit"),
        ("Ab1", "expected 8 characters or more"),
    ] {
        line.answer("Password: ", text).expect(&format!("[ERROR] {reason}"));
    }
    line.answer("Password: ", "Abcdef12").answer("once more: ", "Abcdef13").expect("[ERROR] the two differ");
    line.answer("Password: ", "Abcdef12").answer("once more: ", "Abcdef12");
    line.answers(&QUESTIONS[15..]).expect("User:   chief");
    assert!(line.end().success());
    assert_eq!(machine.login("chief", "Abcdef12"), 200);
}

#[test]
fn b04_key_only_without_any_key_ends_as_password_and_says_so() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS[..2]).answer("Choice [1]: ", "1");
    line.answer("GitHub user name (Enter = none): ", "not a name").expect("[ERROR] expected 1 to 39 letters");
    line.answer("GitHub user name (Enter = none): ", "");
    line.answer("Public key, one line (Enter = none): ", "ssh-ed25519 AAAA")
        .expect("[!] expected a public key");
    line.expect("[!] There is no key: root signs in with its password over SSH.");
    line.answers(&QUESTIONS[3..21]).expect("SSH            password, for want of a key [!]");
    line.answer("Apply this configuration? [Y/n]: ", "").expect("SSH:    root, by password");
    assert_eq!(machine.seen()["present"]["ssh_password_auth"], true);
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me";
const FINGERPRINT: &str = "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA";

/// Serves `/octo.keys` and `/none.keys`; anything else is not found.
fn keys_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
                "/octo.keys" => ("200 OK", format!("{KEY}\nnonsense line\nssh-rsa AAAA\n")),
                "/none.keys" => ("200 OK", String::new()),
                _ => ("404 Not Found", String::new()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all((head + &body).as_bytes()).ok();
        }
    });
    url
}

#[test]
fn keys_of_a_github_user_are_shown_and_confirmed_and_others_can_be_pasted() {
    let url = keys_server();
    let machine = Machine::new(&["--keys-url", &url]);
    let github = "GitHub user name (Enter = none): ";
    let paste = "Public key, one line (Enter = none): ";
    let to_ssh = |user: &str| {
        let mut line = machine.line(&["setup"]);
        line.answers(&QUESTIONS[..2]).answer("Choice [1]: ", "").answer(github, user);
        line
    };
    to_ssh("none").expect("[!] none has published no key.").expect(paste);
    to_ssh("nobody").expect("[!] ").expect(paste);
    let mut line = to_ssh("octo");
    line.expect(&format!("  ssh-ed25519 {FINGERPRINT}")).answer("Let these sign in as root? [Y/n]: ", "n");
    // Pasted with everything that a terminal may do to it.
    line.answer(paste, &format!("  {KEY}  ")).expect(&format!("[OK] {FINGERPRINT}"));
    drop(line);
    let mut line = to_ssh("octo");
    line.answer("Let these sign in as root? [Y/n]: ", "y").answers(&QUESTIONS[3..21]);
    line.expect("SSH            keys only (1 of them)").answer("Apply this configuration? [Y/n]: ", "y");
    line.expect("SSH:    root, by key only");
    assert!(line.end().success());
    let present = machine.seen()["present"].clone();
    assert_eq!(
        (present["ssh_keys"].as_u64(), present["ssh_password_auth"].as_bool()),
        (Some(1), Some(false))
    );
}

#[test]
fn b05_what_is_not_valid_is_asked_again() {
    let machine = Machine::new(&["--interfaces", "em0,em1,em2"]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS[..2]);
    line.answer("Choice [1]: ", "0").expect("[ERROR] expected a number from 1 to 2");
    line.answer("Choice [1]: ", "two").expect("[ERROR] expected a number from 1 to 2");
    line.answer("Choice [1]: ", "2");
    let host = "Host name, with or without a domain [aifw]: ";
    for bad in ["a_b", "-fw", "fw..org", &"x".repeat(64)] {
        line.answer(host, bad).expect("[ERROR] expected labels of 1 to 63 letters, digits and -");
    }
    line.answer(host, "fw.example.org");
    let zone = "Time zone, such as Europe/Vienna [UTC]: ";
    line.answer(zone, "vienna").expect("[ERROR] there is no time zone").expect("Europe/Vienna");
    line.answer(zone, "Europe/Vienna");
    // Tuning, each way.
    line.answer("Choice [1]: ", "2");
    let toggle = "Numbers to turn on or off, or done [done]: ";
    line.answer(toggle, "99").expect("[ERROR] expected numbers from 1 to");
    line.answer(toggle, "1, 3")
        .expect(" 1 [ ] net.inet.ip.forwarding=1")
        .expect(" 3 [ ] net.inet.tcp.syncookies=1");
    line.answer(toggle, "1").expect(" 1 [x] net.inet.ip.forwarding=1").answer(toggle, "done");
    // Interfaces: WAN em1, LAN em2.
    line.answer("Choice [1]: ", "2").answer("Configure a LAN? [Y/n]: ", "yes").answer("Choice [1]: ", "2");
    line.answer("Choice [1]: ", "2");
    let wan = "Address with prefix, such as 203.0.113.2/24: ";
    for bad in ["10.0.0.1", "10.0.0.1/33", "10.0.0.0/24", "10.0.0.255/24", "fe80::/999", "dhcp"] {
        line.answer(wan, bad).expect("[ERROR] expected ");
    }
    line.answer(wan, "203.0.113.10/28");
    for bad in ["", "203.0.113.10", "203.0.113.16", "203.0.113.0", "203.0.113.15", "gateway"] {
        line.answer("Gateway: ", bad).expect("[ERROR] expected ");
    }
    line.answer("Gateway: ", "203.0.113.1");
    let lan = "Address with prefix [192.168.1.1/24]: ";
    for bad in [
        "192.168.1.1/33",
        "192.168.1.1",
        "192.168.1.0/24",
        "10.0.0.1/31",
        "10.0.0.1/7",
        "203.0.113.5/24",
        "fd00::1/64",
    ] {
        line.answer(lan, bad).expect("[ERROR] expected ");
    }
    line.answer(lan, "10.20.30.1/26").answer("Enable DHCP server? [Y/n]: ", "Y");
    line.answer("User [admin]: ", "").answer("Password: ", "Abcdef12").answer("once more: ", "Abcdef12");
    for bad in ["localhost", "1.2.3", "0.0.0.0/0"] {
        line.answer("Listen on address [0.0.0.0]: ", bad).expect("[ERROR] expected an IP address");
    }
    line.answer("Listen on address [0.0.0.0]: ", "");
    for bad in ["0", "65536", "-1", "http"] {
        line.answer("Port [8080]: ", bad).expect("[ERROR] expected a port from 1 to 65535");
    }
    line.answer("Port [8080]: ", "8443").answer("Enable web UI? [Y/n]: ", "no");
    let dns = "Servers, separated by commas [1.1.1.1,8.8.8.8]: ";
    for bad in ["1.1.1.1,foo", ",", "dns.example"] {
        line.answer(dns, bad).expect("[ERROR] expected ");
    }
    line.answer(dns, " 9.9.9.9 , 2620:fe::fe ");
    line.answer("Choice [1]: ", "4")
        .expect("[ERROR] expected a number from 1 to 3")
        .answer("Choice [1]: ", "2");
    // A pair, with every answer that is not taken.
    line.answer("Is this one part of an HA pair? [y/N]: ", "y").answer("Choice [1]: ", "2");
    line.answer("(pfsync) [em0]: ", "em9").expect("[ERROR] expected one of em0, em1, em2");
    line.answer("(pfsync) [em0]: ", "");
    for bad in ["", "0.0.0.0", "224.0.0.1", "127.0.0.1", "peer"] {
        line.answer("Address of the other node: ", bad)
            .expect("[ERROR] expected the address of the other node");
    }
    line.answer("Address of the other node: ", "10.20.30.2");
    for bad in ["short", "with blank", "quote\"quote", "dollar$dollar", "back\\slash"] {
        line.answer("CARP password: ", bad).expect("[ERROR] expected 8 characters or more");
    }
    line.answer("CARP password: ", "carpcarp").answer("once more: ", "carpcarp");
    line.answer("Add a CARP address on the WAN? [Y/n]: ", "").answer("Interface [em1]: ", "");
    line.answer("Shared address: ", "203.0.113.3/28").expect("[ERROR] expected an address without a prefix");
    line.answer("Shared address: ", "203.0.113.3")
        .answer("Prefix [24]: ", "33")
        .expect("[ERROR] expected a number from 1 to 32");
    line.answer("Prefix [24]: ", "28")
        .answer("VHID [1]: ", "256")
        .expect("[ERROR] expected a number from 1 to 255");
    line.answer("VHID [1]: ", "")
        .answer("Add a CARP address on the LAN? [Y/n]: ", "")
        .answer("Interface [em2]: ", "");
    line.answer("Shared address: ", "203.0.113.3").expect("[ERROR] expected another address");
    line.answer("Shared address: ", "10.20.30.3").answer("Prefix [24]: ", "26").answer("VHID [2]: ", "");
    for shown in [
        "Host name      fw.example.org",
        "WAN            em1, 203.0.113.10/28, gateway 203.0.113.1",
        "LAN            em2, 10.20.30.1/26",
        "API            0.0.0.0 port 8443",
        "Web UI         no",
        "DNS servers    9.9.9.9, 2620:fe::fe",
        "Policy         strict",
        "HA pair        secondary, peer 10.20.30.2 over em0",
        "CARP address   203.0.113.3/28 on em1, VHID 1",
        "CARP address   10.20.30.3/26 on em2, VHID 2",
    ] {
        line.expect(shown);
    }
    line.answer("Apply this configuration? [Y/n]: ", "y").expect("[OK] The appliance is set up.");
    assert!(line.end().success());
    assert!(!line.seen.contains("carpcarp"));
    let seen = machine.seen();
    assert_eq!((seen["hostname"].as_str(), seen["domain"].as_str()), (Some("fw"), Some("example.org")));
    assert_eq!(seen["ha"], "secondary");
    assert_eq!(seen["present"]["timezone"], "Europe/Vienna");
    assert_eq!(seen["present"]["wan_gateway"], "203.0.113.1");
}

#[test]
fn b06_one_card_is_a_filter_without_lan_and_nat_and_none_is_asked_for() {
    let machine = Machine::new(&["--interfaces", "vtnet0"]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS[..6]);
    line.expect("Step 5/11 - Interfaces").expect("vtnet0 is the WAN: filter only, no LAN, NAT off.");
    line.expect("Step 6/11 - WAN address").answer("Choice [1]: ", "");
    line.expect("Step 8/11").answers(&QUESTIONS[12..20]);
    line.answer("Is this one part of an HA pair? [y/N]: ", "y").expect("[!] A pair needs a LAN");
    line.expect("LAN            none: filter only").expect("NAT            no");
    line.expect("[!] SSH and the API can be reached on vtnet0 from anywhere");
    line.answer("Apply this configuration? [Y/n]: ", "").expect("[OK]");
    assert!(line.end().success());
    assert_eq!(machine.local("GET", "/nat", Value::Null).1["data"], serde_json::json!([]));
    assert_eq!(machine.seen()["lan_interface"], Value::Null);
}

#[test]
fn b11_a_second_setup_keeps_rules_offers_what_is_there_and_replaces_the_administrator() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS).expect("[OK]");
    assert!(line.end().success());
    let rule =
        serde_json::json!({ "action": "pass", "direction": "in", "protocol": "tcp", "dst_port_start": 4711 });
    assert_eq!(machine.local("POST", "/rules", rule).0, 201);
    let before = machine.local("GET", "/rules", Value::Null).1;
    let mut line = machine.line(&["setup"]);
    line.expect("[ERROR] the appliance is set up already; --reconfigure asks again");
    assert_eq!(line.end().code(), Some(1));
    let mut line = machine.line(&["setup", "--reconfigure"]);
    line.answer("Continue? [Y/n]: ", "n").expect("[OK] Nothing was changed.");
    assert_eq!(line.end().code(), Some(0));
    let mut line = machine.line(&["setup", "--reconfigure"]);
    line.answer("Continue? [Y/n]: ", "").answer("Keep the present one? [Y/n]: ", "");
    line.answer("Choice [2]: ", "")
        .answer("domain [aifw]: ", "gate")
        .answer("[UTC]: ", "")
        .answer("Choice [1]: ", "3");
    line.answers(&QUESTIONS[6..12]).answer("User [admin]: ", "second").answers(&QUESTIONS[13..22]);
    line.expect("User:   second");
    assert!(line.end().success());
    let ids = |rules: &Value| {
        let ids = rules["data"].as_array().unwrap().iter().map(|rule| rule["id"].to_string());
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&machine.local("GET", "/rules", Value::Null).1), ids(&before));
    assert_eq!(machine.seen()["hostname"], "gate");
    assert_eq!(machine.seen()["present"]["root_password"], true);
    assert_eq!((machine.login("second", "Abcdef12"), machine.login("admin", "Abcdef12")), (200, 401));
    assert!(rows(&machine.config(), "rules").len() > 6);
}

#[test]
fn typing_is_forgiving_and_keys_that_mean_nothing_do_nothing() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    // LF, CR LF and CR NUL (telnet) end a line once.
    line.expect("New password: ").send("Rootpass1\n").expect("once more: ").send("Rootpass1\r\n");
    line.expect("Choice [1]: ").send("2\r\0");
    let host = "domain [aifw]: ";
    line.expect(host);
    assert_eq!(line.modes(), (false, false));
    // Backspace (both of them), Ctrl-U, arrow keys, function keys, a character of two bytes.
    line.send("wrong\x15gax\x7ft\x08te\x1b[A\x1b[3~\x1bOP\u{fc}\x7f\r").expect("gax\x08 \x08t\x08 \x08te");
    line.answers(&QUESTIONS[4..21]).expect("Host name      gate");
    line.send("y\x15n\x04\r").expect("[OK] Nothing was changed.");
    assert_eq!(line.end().code(), Some(0));
}
