//! The behaviours of contract/updates.md, each test with its number in its name, and what must hold when things go
//! wrong: hostile packages in `hostile`, breaks of a download in `network`, a killed process in `crash`, the whole way
//! of an update with a real sandbox in `sandbox`, the console's entry for it in `console`. What the contract says of files that are copied one by one holds
//! here for the slot image that they are part of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod behaviours;
mod console;
mod crash;
mod hostile;
mod network;
#[path = "../process/mod.rs"]
mod process;
mod rig;
mod sandbox;
mod server;
#[path = "../terminal/mod.rs"]
mod terminal;
#[path = "../wire/mod.rs"]
mod wire;
