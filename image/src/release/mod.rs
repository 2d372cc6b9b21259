//! What is published: the signing key, and the update package that an appliance takes. `keygen` and `tarball` make
//! them, `verify` and `inspect` read them.
//!
//! A package is `aifw-update-VERSION-amd64.tar.xz` with one directory of that name, in it, in this order:
//! `manifest.json`, `manifest.sig` (64 bytes: Ed25519 over the bytes of the former, RFC 8032), `slot.img`.

mod keys;
mod manifest;
mod package;

pub use keys::{KeyError, PublicKeys, SigningKey, generate};
pub use manifest::{Manifest, SlotImage};
pub use package::{is_package, name, read, write};

use crate::tool::Error;

/// Why a package is not made, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("not an AiFw update package: {0}")]
    Form(String),
    #[error("manifest.json: {0}")]
    Manifest(String),
    #[error("the signature is not one of the given keys'")]
    Signature,
    #[error("slot.img is not the one that was signed: {0}")]
    Slot(String),
    #[error("{0}: no semantic version (like 0.2.0)")]
    Version(String),
    #[error("it updates from {from}, which is newer than itself, {version}")]
    Order { from: String, version: String },
    #[error("the file beside it, {file}, says another SHA-256 than {found}")]
    Beside { file: std::path::PathBuf, found: String },
}

impl From<ReleaseError> for Error {
    fn from(error: ReleaseError) -> Self {
        Self::Release(Box::new(error))
    }
}
