//! The behaviours of contract/reverse-proxy.md §8, each test with its number in its name, with the real TrafficCop:
//! objects in `objects`, the daemon in `daemon`, what clients and servers on both sides see in `traffic`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon;
mod objects;
mod rig;
mod traffic;
