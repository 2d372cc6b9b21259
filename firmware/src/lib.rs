//! AiFw: the firmware of a firewall appliance. Configuration is a value; everything else is a function of it
//! or an effect of applying it. The rooms, from the ground up; each uses only rooms above it in this list.

pub mod api;
pub mod appliance;
pub mod apply;
pub mod atomic;
pub mod auth;
pub mod compile;
pub mod config;
pub mod console;
pub mod live;
pub mod pf;
pub mod platform;
pub mod services;
pub mod store;
pub mod supervisor;
#[cfg(test)]
mod testing;
pub mod tool;
pub mod update;
