//! `cargo image build`, `tarball`, `keygen`, `inspect` and `verify` as processes, on an image that is made from a small
//! set of the same form as FreeBSD's. What is written is read back with other eyes where there are any: the `gpt` and
//! `fatfs` crates, tar and ring directly. Needs makefs(8) on the host.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod consoles;
mod disk;
mod mirror;
mod package;
mod set;
mod slot;
