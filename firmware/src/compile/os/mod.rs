//! Pure functions from a configuration to what the operating system is to be like.

pub mod network;
