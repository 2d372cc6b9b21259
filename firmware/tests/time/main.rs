//! The behaviours of contract/time.md, each test with its number in its name, with the real rTIME: what is stored in
//! `stored`, the daemon in `daemon`. Lines about rc flags and ntpd are FreeBSD's: here the applied configuration
//! says whether it is started again, and no ntpd exists on the appliance. The interfaces of behaviour 16 are
//! pf's: what it is given is compiled and evaluated by the simulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon;
mod faults;
mod packets;
mod rig;
mod stored;
