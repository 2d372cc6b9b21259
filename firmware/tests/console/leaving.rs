//! Setup is atomic: whoever leaves, is cut off or loses power finds an appliance that asks again.

use std::time::Duration;

use serde_json::Value;

use crate::machine::Machine;
use crate::process::soon;
use crate::{MENU, QUESTIONS};

/// Nothing is stored: nobody can sign in, nothing listens.
fn untouched(machine: &Machine) {
    let seen = machine.seen();
    assert_eq!(
        (seen["configured"].as_bool(), &seen["url"], &seen["present"]),
        (Some(false), &Value::Null, &Value::Null)
    );
    let (_, users) = machine.local("GET", "/auth/users", Value::Null);
    assert_eq!(users["data"], serde_json::json!([]), "{users}");
    assert_eq!(machine.local("GET", "/rules", Value::Null).1["data"], serde_json::json!([]));
}

#[test]
fn b07_a_summary_that_is_declined_leaves_nothing() {
    let machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS[..21]).answer("Apply this configuration? [Y/n]: ", "n");
    line.expect("[OK] Nothing was changed.");
    assert_eq!(line.end().code(), Some(0));
    untouched(&machine);
}

#[test]
fn at_every_question_ctrl_c_ctrl_d_and_hanging_up_change_nothing() {
    let machine = Machine::new(&[]);
    for (place, (prompt, _)) in QUESTIONS.iter().enumerate() {
        let at_question = || {
            let mut line = machine.line(&["setup"]);
            line.answers(&QUESTIONS[..place]).expect(prompt);
            line
        };
        let mut line = at_question();
        line.send("half an ans\x03").expect("^C").expect("[!] Setup was left; nothing was changed.");
        assert_eq!(line.end().code(), Some(1), "{prompt}");
        if place % 3 == 0 {
            let mut line = at_question();
            line.send("\x04").expect("[!] Setup was left; nothing was changed.");
            assert_eq!(line.end().code(), Some(1), "{prompt}");
        }
        let mut line = at_question();
        line.send("half an ans");
        assert!(!line.hang_up().success(), "{prompt}");
        assert!(!machine.is_configured(), "{prompt}");
    }
    untouched(&machine);
    // And it still asks.
    machine.line(&["console"]).expect("Step 1/11");
}

#[test]
fn a_power_cut_at_any_moment_leaves_all_of_it_or_nothing() {
    let mut machine = Machine::new(&[]);
    let mut line = machine.line(&["setup"]);
    line.answers(&QUESTIONS[..9]).expect(QUESTIONS[9].0);
    machine.kill();
    machine.start();
    untouched(&machine);
    // The line is still there: what it sends to an appliance that has restarted is taken as any other.
    line.send("\r").answers(&QUESTIONS[10..21]).expect("Apply this configuration?");
    machine.kill();
    line.send("\r").expect("[ERROR] the appliance does not answer");
    assert_eq!(line.end().code(), Some(1));
    machine.start();
    untouched(&machine);
    let (mut nothing, mut everything) = (0, 0);
    for round in 0..8 {
        let mut line = machine.line(&["setup"]);
        line.answers(&QUESTIONS[..21]).expect("Apply this configuration? [Y/n]: ").send("\r");
        line.expect("Applying ...");
        std::thread::sleep(Duration::from_millis(round * 60));
        machine.kill();
        line.end();
        machine.start();
        if machine.is_configured() {
            everything += 1;
            soon("the API listens", || machine.seen()["url"].is_string());
            assert_eq!(machine.login("admin", "Abcdef12"), 200);
            let present = machine.seen()["present"].clone();
            assert_eq!(
                (present["root_password"].as_bool(), present["dhcp_enabled"].as_bool()),
                (Some(true), Some(true))
            );
            assert!(machine.local("GET", "/rules", Value::Null).1["data"].as_array().unwrap().len() > 6);
            machine = Machine::new(&[]);
        } else {
            nothing += 1;
            untouched(&machine);
        }
    }
    println!("{nothing} times nothing, {everything} times everything");
}

#[test]
fn two_terminals_do_not_ask_at_once() {
    let machine = Machine::new(&[]);
    let mut first = machine.line(&["console"]);
    first.expect("New password: ");
    let mut second = machine.line(&["console"]);
    // Both ask; it goes on where somebody answers.
    second.expect("New password: ");
    first.send("Abcdef12\r").expect("once more: ").send("Abcdef12\r").expect("Step 2/11");
    second.send("Abcdef12\r").expect("once more: ").send("Abcdef12\r");
    second.expect("[!] Setup is under way on another terminal.").expect("[!] not configured").expect(MENU);
    // Left on the first, it can be answered on the second.
    first.hang_up();
    second.send("13\r").answers(&QUESTIONS).expect("[OK] The appliance is set up.").expect(MENU);
}

#[test]
fn sessions_without_a_password_end_when_setup_has_ended_elsewhere() {
    let machine = Machine::new(&[]);
    let mut menu = machine.line(&["console"]);
    menu.expect("New password: ").send("\x03").expect(MENU);
    let mut shell = machine.line(&["console"]);
    shell.expect("New password: ").send("\x03").answer(MENU, "8").expect("exit leads back");
    let mut here = machine.line(&["console"]);
    here.answers(&QUESTIONS).expect("[OK] The appliance is set up.").expect(MENU);
    for line in [&mut menu, &mut shell] {
        line.expect("[!] The appliance has been set up on another terminal: log in.");
        assert!(!line.end().success());
    }
    // Where it was set up, somebody sits.
    here.answer("", "99").expect("[ERROR] expected one of the numbers above");
}

#[test]
fn b13_an_appliance_that_is_new_asks_and_one_that_is_set_up_shows_its_menu() {
    let mut machine = Machine::new(&[]);
    let mut line = machine.line(&["console"]);
    line.expect("Step 1/11").send("\x03").expect("[!] Setup was left").expect("[!] not configured");
    line.expect("14) Install to disk").expect(MENU).send("\x03").expect("^C").expect(MENU).send("\x04");
    assert!(line.end().success());
    machine.line(&["console"]).answers(&QUESTIONS).expect("[OK] The appliance is set up.").expect(MENU);
    machine.restart();
    let mut line = machine.line(&["console"]);
    line.expect("em1      LAN  192.168.1.1/24").expect("Web UI: http").expect(MENU);
    assert!(
        !line.seen.contains("Step 1/11")
            && !line.seen.contains("not configured")
            && !line.seen.contains("14)")
    );
}

#[test]
fn without_the_appliance_the_menu_still_gives_a_shell() {
    let mut machine = Machine::new(&[]);
    machine.kill();
    let mut line = machine.line(&["console"]);
    line.expect("Waiting for the appliance to start; Enter leads to the menu.").send("\r");
    line.expect("[ERROR] the appliance does not answer at")
        .answer(MENU, "1")
        .expect("[ERROR] the appliance does not answer");
    line.answer(MENU, "8")
        .expect("exit leads back")
        .expect("sh> ")
        .send("echo $((40+2))\r")
        .expect("42")
        .send("exit\r");
    // It comes, and the menu shows it.
    machine.start();
    line.answer(MENU, "13").expect("Step 1/11").send("\x03");
    line.answer(MENU, "0");
    assert!(line.end().success());
}
