//! contract/live.md, "Behaviours to show": one test each, named after it. (17, `/dns/stream`, belongs to the area of
//! the resolver.) Seconds are the test's own wherever real time is not itself what is shown.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod beyond;
mod cost;
mod reading;
mod rig;
mod simulated;
mod stand_in;
mod streams;
