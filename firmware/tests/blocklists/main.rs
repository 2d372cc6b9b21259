//! Blocklists, custom blocks and the whitelist with the real rDNS and `dig` (contract/dns.md §3, §4 and "Behaviours to
//! show").

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lists;
mod load;
// What both use, and what only the resolver's own tests do.
#[allow(dead_code)]
#[path = "../dns/rig.rs"]
mod rig;
