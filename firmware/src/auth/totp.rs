//! The second factor: time-based one-time passwords (RFC 6238: SHA-1, 6 digits, 30 s, one step either way) and
//! recovery codes. Pure functions over [`Totp`]; whoever calls them commits the changed value, so that a code
//! or a time step is spent once.

use data_encoding::{BASE32_NOPAD, HEXUPPER};
use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, TOTP};

use super::{AuthError, random};
use crate::config::{Invalid, Secret};
use crate::store::identity::Totp;

const STEP_SECONDS: u64 = 30;
const RECOVERY_CODES: usize = 8;
const SECRET_BYTES: usize = 20;

/// What the user is shown once.
pub struct Setup {
    pub secret: String,
    pub recovery_codes: Vec<String>,
}

/// Which factor a code was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    Code,
    RecoveryCode,
}

/// A fresh secret and recovery codes, not yet switched on.
pub fn begin() -> Result<(Totp, Setup), AuthError> {
    let secret = BASE32_NOPAD.encode(&random::bytes::<SECRET_BYTES>()?);
    let recovery_codes = (0..RECOVERY_CODES).map(|_| recovery_code()).collect::<Result<Vec<_>, _>>()?;
    let totp = existing(&secret, &recovery_codes, false)?;
    Ok((totp, Setup { secret, recovery_codes }))
}

/// A secret and codes that were made elsewhere (the setup file).
pub fn existing(secret: &str, recovery_codes: &[String], enabled: bool) -> Result<Totp, Invalid> {
    if decode(secret).is_none() {
        return Err(Invalid::new("totp_secret", "expected base32 of at least 10 bytes"));
    }
    Ok(Totp {
        secret: Secret::new(secret),
        enabled,
        last_step: 0,
        recovery_hashes: recovery_codes.iter().map(|code| recovery_hash(code)).collect(),
    })
}

/// Tries a 6-digit code or a recovery code; a match is spent in `totp`.
pub fn spend(totp: &mut Totp, code: &str, unix_seconds: i64) -> Option<Factor> {
    if spend_code(totp, code, unix_seconds) {
        return Some(Factor::Code);
    }
    let wanted = recovery_hash(code);
    let index = totp.recovery_hashes.iter().position(|hash| equal(hash.expose(), wanted.expose()))?;
    totp.recovery_hashes.remove(index);
    Some(Factor::RecoveryCode)
}

/// Tries a 6-digit code only. A step that was used, or one before it, is refused (RFC 6238 §5.2).
pub fn spend_code(totp: &mut Totp, code: &str, unix_seconds: i64) -> bool {
    if code.len() != 6 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let Some(secret) = decode(totp.secret.expose()) else { return false };
    let generator = TOTP::new_unchecked(Algorithm::SHA1, 6, 0, STEP_SECONDS, secret);
    let now = u64::try_from(unix_seconds).unwrap_or(0) / STEP_SECONDS;
    let step = (now.saturating_sub(1)..=now + 1)
        .filter(|step| *step > totp.last_step)
        .find(|step| equal(&generator.generate(step * STEP_SECONDS), code));
    match step {
        Some(step) => {
            totp.last_step = step;
            true
        }
        None => false,
    }
}

/// The URI that authenticator programs read from a QR code. `username` is of the letters users may have.
pub fn provisioning_uri(username: &str, secret: &str) -> String {
    let name = username.replace('@', "%40");
    format!("otpauth://totp/AiFw:{name}?secret={secret}&issuer=AiFw&digits=6&period={STEP_SECONDS}")
}

fn decode(secret: &str) -> Option<Vec<u8>> {
    let text: String =
        secret.chars().filter(|c| !matches!(c, ' ' | '=' | '-')).map(|c| c.to_ascii_uppercase()).collect();
    BASE32_NOPAD.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() >= 10)
}

/// `XXXX-XXXX-XXXX`. Its hash is sealed with the store's key as well, since 48 bits alone could be searched.
fn recovery_code() -> Result<String, AuthError> {
    let hex = HEXUPPER.encode(&random::bytes::<6>()?);
    Ok(format!("{}-{}-{}", &hex[..4], &hex[4..8], &hex[8..]))
}

fn recovery_hash(code: &str) -> Secret {
    Secret::new(random::sha256_hex(code.trim().to_ascii_uppercase().as_bytes()))
}

fn equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The secret of RFC 6238 appendix B, "12345678901234567890".
    const RFC_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn enrolled() -> Totp {
        existing(RFC_SECRET, &["AAAA-BBBB-CCCC".into(), "1111-2222-3333".into()], true).unwrap()
    }

    /// RFC 6238 appendix B, the last six of its eight digits.
    #[test]
    fn codes_of_the_standard() {
        for (at, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            assert!(spend_code(&mut enrolled(), code, at), "{code} at {at}");
        }
    }

    #[test]
    fn one_step_either_way_and_each_once() {
        assert!(spend_code(&mut enrolled(), "287082", 59 + 30));
        assert!(spend_code(&mut enrolled(), "287082", 29));
        assert!(!spend_code(&mut enrolled(), "287082", 59 + 61));
        let mut totp = enrolled();
        assert_eq!(spend(&mut totp, "287082", 59), Some(Factor::Code));
        assert_eq!(spend(&mut totp, "287082", 59), None);
        assert_eq!(spend(&mut totp, "287082", 80), None);
    }

    #[test]
    fn only_six_digits_are_a_code() {
        for text in ["28708", "2870820", " 287082", "28708a", "", "٢٨٧٠٨٢"] {
            assert!(!spend_code(&mut enrolled(), text, 59), "{text:?}");
        }
    }

    #[test]
    fn a_recovery_code_burns() {
        let mut totp = enrolled();
        assert_eq!(spend(&mut totp, " aaaa-bbbb-cccc ", 59), Some(Factor::RecoveryCode));
        assert_eq!(spend(&mut totp, "AAAA-BBBB-CCCC", 59), None);
        assert_eq!(totp.recovery_hashes.len(), 1);
    }

    #[test]
    fn a_setup_has_the_shape_of_the_contract() {
        let (totp, setup) = begin().unwrap();
        assert!(!totp.enabled);
        assert_eq!(setup.secret.len(), 32);
        assert_eq!(setup.recovery_codes.len(), 8);
        for code in &setup.recovery_codes {
            let parts: Vec<_> = code.split('-').collect();
            assert_eq!(parts.len(), 3);
            assert!(parts.iter().all(|part| part.len() == 4
                && part.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))));
        }
        assert_eq!(
            provisioning_uri("a@b", "ABC"),
            "otpauth://totp/AiFw:a%40b?secret=ABC&issuer=AiFw&digits=6&period=30"
        );
    }
}
