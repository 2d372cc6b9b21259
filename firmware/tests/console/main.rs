//! The first-boot dialogue and the console menu, driven through a pseudo-terminal against a real `aifw sandbox` that
//! nobody has set up: every question with good answers and bad ones, leaving and being cut off at each, the menu's
//! entries (contract/console.md, "Behaviours to show").

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../process/mod.rs"]
mod process;
#[path = "../terminal/mod.rs"]
mod terminal;
#[path = "../wire/mod.rs"]
mod wire;

mod dialogue;
mod files;
mod leaving;
mod machine;
mod menu;

/// Questions and good answers of a machine with two cards, up to the one before the summary.
pub const QUESTIONS: [(&str, &str); 22] = [
    ("New password: ", "Rootpass1"),
    ("The same once more: ", "Rootpass1"),
    ("Choice [1]: ", "2"),
    ("Host name, with or without a domain [aifw]: ", ""),
    ("Time zone, such as Europe/Vienna [UTC]: ", ""),
    ("Choice [1]: ", ""),
    ("Choice [1]: ", ""),
    ("Configure a LAN? [Y/n]: ", ""),
    ("Choice [1]: ", ""),
    ("Choice [1]: ", ""),
    ("Address with prefix [192.168.1.1/24]: ", ""),
    ("Enable DHCP server? [Y/n]: ", ""),
    ("User [admin]: ", ""),
    ("Password: ", "Abcdef12"),
    ("The same once more: ", "Abcdef12"),
    ("Listen on address [0.0.0.0]: ", ""),
    ("Port [8080]: ", ""),
    ("Enable web UI? [Y/n]: ", ""),
    ("Servers, separated by commas [1.1.1.1,8.8.8.8]: ", ""),
    ("Choice [1]: ", ""),
    ("Is this one part of an HA pair? [y/N]: ", ""),
    ("Apply this configuration? [Y/n]: ", ""),
];

pub const MENU: &str = "Enter a number: ";
