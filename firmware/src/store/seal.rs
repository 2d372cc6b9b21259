//! The key that secrets are sealed with: `secret.key`, 32 random bytes beside the database, readable by the
//! owner alone. A copy of the database without that file gives no secret away. Used by the store only.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use data_encoding::BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::StoreError;
use crate::config::secret::{self, Sealer};

pub const KEY_FILE: &str = "secret.key";
const KEY_LEN: usize = 32;
/// Bound into every seal, so that text sealed for something else is not taken for a stored secret.
const CONTEXT: &[u8] = b"aifw store secret 1";

/// The store's key. Clones share it.
#[derive(Clone)]
pub struct StoreKey(Arc<LessSafeKey>);

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

impl StoreKey {
    /// Reads `secret.key` in `dir`; makes it where there is none and `may_create` allows. A new key beside an
    /// old database would leave every secret in it unreadable, so that is refused.
    pub fn load(dir: &Path, may_create: bool) -> Result<Self, StoreError> {
        let path = dir.join(KEY_FILE);
        let fault = |what: &str, error: &dyn std::fmt::Display| {
            StoreError::Open(format!("{}: {what}: {error}", path.display()))
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LEN));
        match File::open(&path) {
            Ok(file) => {
                file.take(KEY_LEN as u64 + 1).read_to_end(&mut bytes).map_err(|e| fault("read", &e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                bytes.resize(KEY_LEN, 0);
                SystemRandom::new()
                    .fill(&mut bytes)
                    .map_err(|_| fault("create", &"the system gave no random bytes"))?;
                create(dir, &bytes).map_err(|e| fault("create", &e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = "it is missing, and the secrets of the database beside it cannot be read \
                              without it; put it back";
                return Err(fault("read", &reason));
            }
            Err(error) => return Err(fault("read", &error)),
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| fault("read", &format!("expected {KEY_LEN} bytes, found {}", bytes.len())))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|e| fault("chmod", &e))?;
        Ok(Self(Arc::new(LessSafeKey::new(key))))
    }

    /// Runs `f` with secrets sealed when written and opened when read. An error if the system had no random
    /// bytes for a nonce; what `f` made must then not be stored.
    pub fn sealing<T>(&self, f: impl FnOnce() -> T) -> Result<T, StoreError> {
        let sealer = Rc::new(KeySealer { key: self.0.clone(), failed: Cell::new(false) });
        let value = secret::sealing(sealer.clone(), f);
        if sealer.failed.get() {
            return Err(StoreError::Write("the system gave no random bytes to seal secrets with".into()));
        }
        Ok(value)
    }
}

fn create(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join("secret.key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(KEY_FILE))?;
    File::open(dir)?.sync_all()
}

struct KeySealer {
    key: Arc<LessSafeKey>,
    failed: Cell<bool>,
}

impl KeySealer {
    fn try_seal(&self, plain: &str) -> Result<String, ring::error::Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        let mut body = plain.as_bytes().to_vec();
        self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(CONTEXT),
            &mut body,
        )?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut body);
        Ok(BASE64.encode(&sealed))
    }
}

impl Sealer for KeySealer {
    fn seal(&self, plain: &str) -> String {
        self.try_seal(plain).unwrap_or_else(|_| {
            self.failed.set(true);
            String::new()
        })
    }
    fn open(&self, sealed: &str) -> Option<String> {
        let mut bytes = Zeroizing::new(BASE64.decode(sealed.as_bytes()).ok()?);
        let (nonce, body) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(CONTEXT), body).ok()?;
        std::str::from_utf8(plain).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Secret;

    fn sealed(key: &StoreKey, text: &str) -> String {
        key.sealing(|| serde_json::to_string(&Secret::new(text)).unwrap()).unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_with_its_own_key_only() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = StoreKey::load(one.path(), true).unwrap();
        let other = StoreKey::load(two.path(), true).unwrap();
        let text = sealed(&key, "hunter2");
        assert!(!text.contains("hunter2"));
        assert_ne!(text, sealed(&key, "hunter2"), "every seal has its own nonce");
        let again = StoreKey::load(one.path(), false).unwrap();
        let open = |key: &StoreKey| key.sealing(|| serde_json::from_str::<Secret>(&text)).unwrap();
        assert_eq!(open(&again).unwrap().expose(), "hunter2");
        assert!(open(&other).is_err());
        let mode = fs::metadata(one.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_or_short_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = StoreKey::load(dir.path(), false).unwrap_err().to_string();
        assert!(missing.contains("secret.key") && missing.contains("missing"), "{missing}");
        fs::write(dir.path().join(KEY_FILE), b"short").unwrap();
        let short = StoreKey::load(dir.path(), true).unwrap_err().to_string();
        assert!(short.contains("expected 32 bytes, found 5"), "{short}");
    }
}
