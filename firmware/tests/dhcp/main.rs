//! The behaviours of contract/dhcp.md, each test with its number in its name, with the real rDHCP: what is stored in
//! `stored`, the daemon with a client that speaks by hand in `daemon`, names in a real BIND in `names`, and a real
//! client on a link of its own in `link`. Lines about rc flags are FreeBSD's: here the applied configuration says
//! whether the daemon is started again; pf's lines are shown as they are compiled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod daemon;
mod link;
#[path = "../link/mod.rs"]
mod link_rig;
#[path = "../named/mod.rs"]
mod named;
mod names;
mod rig;
mod stored;
#[path = "../wire/mod.rs"]
mod wire;
