//! The behaviours of contract/firewall.md §9 that the API shows by itself; each test has the number of the
//! behaviour in its name. What needs rules in pf is in `loaded.rs`, what
//! packets show in `packets.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod loaded;
mod objects;
mod packets;
mod properties;
mod rig;
mod rules;
mod url_tables;
mod watched;
mod written;
