//! The behaviours 9 to 17 and 20 of contract/security.md, each test with its number in its name, with the real Suricata:
//! what is stored in `stored`; the engine in `engine`, which reads replayed captures as the sandbox does. Lines about
//! FreeBSD's capture (bpf, divert(4), netmap(4)) are shown by what is compiled for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod engine;
mod link;
#[path = "../link/mod.rs"]
mod link_rig;
mod load;
#[path = "../process/mod.rs"]
mod process;
mod stored;
#[path = "../wire/mod.rs"]
mod wire;
