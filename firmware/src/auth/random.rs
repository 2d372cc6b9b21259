//! Unguessable text, and the digests under which it is kept.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::AuthError;

/// Bytes from the system's generator.
pub fn bytes<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AuthError::Internal("the system's random generator failed".into()))?;
    Ok(bytes)
}

/// `N` random bytes in lower-case hexadecimal: `2 N` characters.
pub fn hex<const N: usize>() -> Result<String, AuthError> {
    Ok(HEXLOWER.encode(&bytes::<N>()?))
}

/// 32 random bytes as 43 characters that may stand in a URL (RFC 4648 §5).
pub fn url_text() -> Result<String, AuthError> {
    Ok(BASE64URL_NOPAD.encode(&bytes::<32>()?))
}

pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, data).as_ref());
    out
}

/// SHA-256 in lower-case hexadecimal. Enough for text of full entropy: there is nothing to guess.
pub fn sha256_hex(data: &[u8]) -> String {
    HEXLOWER.encode(&sha256(data))
}
