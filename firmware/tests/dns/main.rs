//! The resolver with the real rDNS, asked by the real `dig` (contract/dns.md, "Behaviours to show").

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod rig;
mod stored;
mod streams;
mod switching;
mod unbound;
mod under_load;
