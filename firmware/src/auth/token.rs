//! Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256, under a key that lives in a file of its own,
//! outside the store.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{AuthError, random};
use crate::config::Id;

/// Longest token that is looked at.
const MAX_BYTES: usize = 4096;
const KEY_FILE: &str = "jwt.key";
/// Development: a signing secret that stays the same wherever the state is.
pub const SECRET_VARIABLE: &str = "AIFW_JWT_SECRET";

/// What an access token says. `perm` and `role` are for the user interface; what counts is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub sub: Id,
    pub username: String,
    /// Unix seconds.
    pub iat: i64,
    pub exp: i64,
    pub jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perm: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The sign-in (refresh family) this token belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<Id>,
    /// Good for enrolling a second factor only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enrol: bool,
}

/// Signs and verifies.
pub struct Signer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Signer {
    /// The key is the override, else the file's, which is made if it is not there.
    pub fn open(state_dir: &Path, secret: Option<&str>) -> Result<Self, AuthError> {
        match secret {
            Some(text) if text.len() < 32 => {
                Err(AuthError::Internal(format!("{SECRET_VARIABLE}: expected at least 32 characters")))
            }
            Some(text) => Ok(Self::new(text.as_bytes())),
            None => Ok(Self::new(read_or_make(&state_dir.join(KEY_FILE))?.as_bytes())),
        }
    }

    fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The time is judged by our own clock, below.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims::<&str>(&[]);
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
        }
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, AuthError> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .map_err(|error| AuthError::Internal(format!("signing a token: {error}")))
    }

    /// The claims, if the signature holds and `alg` is HS256. The caller judges the time.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > MAX_BYTES {
            return None;
        }
        Some(jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims)
    }
}

/// 64 hexadecimal characters in a file of mode 0600.
fn read_or_make(path: &Path) -> Result<Zeroizing<String>, AuthError> {
    let failed = |error: std::io::Error| AuthError::Internal(format!("{}: {error}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
            }
            let key = text.trim();
            if key.len() != 64 || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
                let expected = format!("{}: expected 64 hexadecimal characters", path.display());
                return Err(AuthError::Internal(expected));
            }
            Ok(Zeroizing::new(key.to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Zeroizing::new(random::hex::<32>()?);
            // Written beside and moved into place: after a power cut there is a whole key or none.
            let fresh = path.with_extension("key.new");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)
                .map_err(failed)?;
            file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::rename(&fresh, path).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use data_encoding::BASE64URL_NOPAD;
    use proptest::prelude::*;

    fn claims() -> Claims {
        Claims {
            sub: Id::from_u128(7),
            username: "admin".into(),
            iat: 1_700_000_000,
            exp: 1_700_028_800,
            jti: Id::from_u128(8).to_string(),
            perm: Some(137_438_953_471),
            role: Some("admin".into()),
            sid: None,
            enrol: false,
        }
    }

    fn signer() -> Signer {
        Signer::new(b"0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn the_token_has_the_claims_of_the_contract() {
        let token = signer().sign(&claims()).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let text = |part: &str| String::from_utf8(BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap();
        assert_eq!(text(parts[0]), r#"{"typ":"JWT","alg":"HS256"}"#);
        assert_eq!(
            text(parts[1]),
            r#"{"sub":"00000000-0000-0000-0000-000000000007","username":"admin","iat":1700000000,"exp":1700028800,"jti":"00000000-0000-0000-0000-000000000008","perm":137438953471,"role":"admin"}"#
        );
        assert_eq!(signer().verify(&token), Some(claims()));
    }

    #[test]
    fn other_algorithms_and_other_keys_are_refused() {
        let token = signer().sign(&claims()).unwrap();
        let payload = token.split('.').nth(1).unwrap();
        for header in [
            r#"{"typ":"JWT","alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"typ":"JWT"}"#,
        ] {
            let header = BASE64URL_NOPAD.encode(header.as_bytes());
            let signature = token.rsplit('.').next().unwrap();
            assert_eq!(signer().verify(&format!("{header}.{payload}.")), None);
            assert_eq!(signer().verify(&format!("{header}.{payload}.{signature}")), None);
        }
        let other = Signer::new(b"another key of at least 32 bytes").sign(&claims()).unwrap();
        assert_eq!(signer().verify(&other), None);
        let hs384 = jsonwebtoken::encode(
            &Header::new(Algorithm::HS384),
            &claims(),
            &EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef"),
        );
        assert_eq!(signer().verify(&hs384.unwrap()), None);
    }

    #[test]
    fn perm_and_role_may_be_absent() {
        let bare = Claims { perm: None, role: None, ..claims() };
        let token = signer().sign(&bare).unwrap();
        assert_eq!(signer().verify(&token), Some(bare));
    }

    proptest! {
        #[test]
        fn a_token_with_any_flipped_byte_is_refused(at in 0usize..1000, flip in 1u8..=255) {
            let token = signer().sign(&claims()).unwrap();
            let mut bytes = token.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert_eq!(signer().verify(&text), None);
            }
        }
    }

    #[test]
    fn every_single_bit_of_the_token_matters() {
        let token = signer().sign(&claims()).unwrap();
        for at in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let text = String::from_utf8(bytes).unwrap();
                assert_eq!(signer().verify(&text), None, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn the_key_file_is_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let token = Signer::open(dir.path(), None).unwrap().sign(&claims()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 64);
        assert!(Signer::open(dir.path(), None).unwrap().verify(&token).is_some());
        std::fs::write(&path, "short").unwrap();
        assert!(Signer::open(dir.path(), None).is_err());
        assert!(Signer::open(dir.path(), Some("short")).is_err());
    }
}
