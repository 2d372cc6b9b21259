//! Authentication through the API, in process: the behaviours of contract/auth.md, races, and sign-in through a real
//! identity provider on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod behaviours;
mod bench;
mod beyond;
mod oauth;
mod provider;
mod races;
