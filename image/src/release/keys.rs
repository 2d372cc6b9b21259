//! Ed25519 keys (RFC 8032). The signing key is kept as PKCS#8 in PEM (RFC 5958, 7468), as openssl(1) reads and writes
//! it; public keys stand one a line in base64, as the appliance's release.keys has them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Why a key is not made or not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} is there already; a signing key is never written over")]
    Exists(PathBuf),
    #[error("{0}: expected an Ed25519 signing key, PKCS#8 in PEM, as `cargo image keygen` makes it")]
    Private(PathBuf),
    #[error("{path}, line {line}: expected an Ed25519 public key, 32 bytes in base64")]
    Public { path: PathBuf, line: usize },
    #[error("the system gave no random numbers")]
    Random,
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// What comes before the 32 bytes of the key in the shortest PKCS#8 form, the one that `openssl genpkey` writes.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A key that signs releases.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let bad = || KeyError::Private(path.to_owned());
        let text =
            fs::read_to_string(path).map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        let (_, rest) = text.split_once(BEGIN).ok_or_else(bad)?;
        let (body, _) = rest.split_once(END).ok_or_else(bad)?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(body).map_err(|_| bad())?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map(Self).map_err(|_| bad())
    }

    /// 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// In base64.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }
}

/// Makes a key in `path`, which only the owner may read, and answers its public half in base64.
pub fn generate(path: &Path) -> Result<String, KeyError> {
    let mut seed = [0; 32];
    ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut seed).map_err(|_| KeyError::Random)?;
    let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode([&PKCS8[..], &seed].concat()));
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut out = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Io { path: path.to_owned(), source },
    })?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    written.map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    SigningKey::load(path).map(|key| key.public())
}

/// Public keys, as release.keys has them: one a line in base64; empty lines and those that begin with `#` count for
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<[u8; 32]>);

impl PublicKeys {
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text =
            fs::read_to_string(path).map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|line| KeyError::Public { path: path.to_owned(), line })
    }

    /// The number of the line that is none, in the error.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let lines = text.lines().map(str::trim).enumerate();
        let given = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = given
            .map(|(at, line)| STANDARD.decode(line).ok().and_then(|key| key.try_into().ok()).ok_or(at + 1));
        keys.collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In base64.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|key| STANDARD.encode(key))
    }

    /// Whether one of them made the signature.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// RFC 8032, 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_key_in_openssls_form_signs_as_the_rfc_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let der = [&PKCS8[..], &bytes(SEED)].concat();
        fs::write(&path, format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der))).unwrap();
        let key = SigningKey::load(&path).unwrap();
        assert_eq!(key.public(), STANDARD.encode(bytes(PUBLIC)));
        assert_eq!(key.sign(&[0x72]), bytes(SIGNATURE));
        let keys = PublicKeys::parse(&format!("# one\n\n{}\n", key.public())).unwrap();
        assert!(keys.verify(&[0x72], &bytes(SIGNATURE)));
        assert!(!keys.verify(&[0x73], &bytes(SIGNATURE)));
        assert!(!PublicKeys::default().verify(&[0x72], &bytes(SIGNATURE)));
    }

    #[test]
    fn a_made_key_is_its_owners_alone_and_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("release.pem");
        let public = generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().public(), public);
        assert!(matches!(generate(&path), Err(KeyError::Exists(_))));
        assert_eq!(SigningKey::load(&path).unwrap().public(), public);
    }

    #[test]
    fn bad_keys_are_named_by_their_line() {
        assert_eq!(PublicKeys::parse("# a\nAAAA\n"), Err(2));
        assert_eq!(PublicKeys::parse("not base64"), Err(1));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "ssh-ed25519 AAAA").unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Private(_))));
    }
}
