//! The behaviours of contract/system.md §2 to §4 and of contract/network.md §4, each test with its number in its name
//! (`n14` is 14 of network.md), with real servers: BIND, Redis, an SMTP server; DNS providers that cannot be had on a
//! test host are stood in for by servers that speak their documented protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ai;
mod host;
mod mail;
#[path = "../named/mod.rs"]
mod named;
mod pages;
#[path = "../process/mod.rs"]
mod process;
mod providers;
mod records;
mod rig;
mod secrets;
mod stand_in;
mod tls;
mod valkey;
#[path = "../wire/mod.rs"]
mod wire;
