//! What the operating system is given: pure functions from a configuration to values that a platform puts in force.
//! Called by `apply/`; no effects.

pub mod block;
pub mod host;
pub mod network;
