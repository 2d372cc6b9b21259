//! Passwords: what is accepted, and Argon2id (RFC 9106) with PHC strings. Hashing costs 19 MiB and tens of
//! milliseconds, so it runs on the blocking pool, a few at a time, with a bounded queue before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use async_lock::Semaphore;
use zeroize::Zeroizing;

use super::{AuthError, random};
use crate::config::{Invalid, Secret};

/// Memory in KiB, passes, lanes of new hashes (OWASP's second recommendation).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Largest memory that a stored hash may ask for.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 64;
pub const MAX_BYTES: usize = 1024;
/// Sign-ins that may wait for the hasher; one more is told to come again.
const MAX_WAITING: usize = 512;

/// Whether a password may be set: length in characters, three kinds of them.
pub fn check(password: &str, min_length: u32) -> Result<(), Invalid> {
    let refuse = |reason: String| Err(Invalid::new("password", reason));
    if password.len() > MAX_BYTES {
        return refuse(format!("expected at most {MAX_BYTES} bytes"));
    }
    if password.chars().count() < min_length as usize {
        return refuse(format!("expected at least {min_length} characters"));
    }
    if !password.chars().any(char::is_uppercase) {
        return refuse("expected at least one upper-case letter".into());
    }
    if !password.chars().any(char::is_lowercase) {
        return refuse("expected at least one lower-case letter".into());
    }
    if !password.bytes().any(|b| b.is_ascii_digit()) {
        return refuse("expected at least one digit".into());
    }
    Ok(())
}

/// Whether a hash made elsewhere can be used: Argon2 with bearable parameters.
pub fn check_hash(phc: &str) -> Result<(), Invalid> {
    let refuse = |reason: &str| Invalid::new("password_hash", reason);
    let hash = PasswordHash::new(phc).map_err(|_| refuse("expected a PHC string"))?;
    Algorithm::try_from(hash.algorithm).map_err(|_| refuse("expected Argon2"))?;
    let params = Params::try_from(&hash).map_err(|_| refuse("bad Argon2 parameters"))?;
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES || hash.hash.is_none() {
        return Err(refuse("expected an Argon2 hash of at most 256 MiB and 64 passes"));
    }
    Ok(())
}

/// Passes of SHA-512 for a password of the operating system: some tens of milliseconds.
const CRYPT_ROUNDS: u32 = 50_000;

/// crypt(3) with SHA-512, as master.passwd(5) takes it. Blocks for a moment.
pub fn crypt(password: &Secret) -> Result<Secret, AuthError> {
    use sha_crypt::{CustomizedPasswordHasher, Params, ShaCrypt};
    let params = Params::new(CRYPT_ROUNDS).map_err(|error| AuthError::Internal(error.to_string()))?;
    // 12 bytes are 16 characters, the longest salt that crypt(3) reads.
    let salt = random::bytes::<12>()?;
    ShaCrypt::default()
        .hash_password_customized(password.expose().as_bytes(), &salt, None, None, params)
        .map(|hash| Secret::new(hash.to_string()))
        .map_err(|error| AuthError::Internal(error.to_string()))
}

/// Hashes and verifies.
#[derive(Debug)]
pub struct Hasher {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// What an unknown name is verified against, so that it costs what a known one does. No password is known to give it,
/// and it would not help: the answer is "no" all the same.
const DUMMY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

struct Waiting<'a>(&'a AtomicUsize);
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Hasher {
    fn default() -> Self {
        let at_once = std::thread::available_parallelism().map_or(2, |n| n.get()).clamp(1, 4);
        Self { permits: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0) }
    }
}

impl Hasher {
    /// A PHC string for a new password.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let password = Zeroizing::new(password.to_owned());
        self.run(move || hash_now(&password)).await?
    }

    /// Whether the password is the hash's. Without a hash: the same work, and no.
    pub async fn verify(&self, password: &str, phc: Option<&str>) -> Result<bool, AuthError> {
        if password.len() > MAX_BYTES {
            return Ok(false);
        }
        let known = phc.is_some();
        let phc = Zeroizing::new(phc.unwrap_or(DUMMY).to_owned());
        let password = Zeroizing::new(password.to_owned());
        Ok(self.run(move || verify_now(&password, &phc)).await? && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(AuthError::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        // The permit goes along: a hash whose caller has gone away still takes its memory until it is done.
        let permit = self.permits.acquire_arc().await;
        let work = move || {
            let _permit = permit;
            work()
        };
        Ok(blocking::unblock(work).await)
    }
}

fn argon2() -> Result<Argon2<'static>, AuthError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| AuthError::Internal(format!("argon2: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &str) -> Result<String, AuthError> {
    let internal = |error: argon2::password_hash::Error| AuthError::Internal(format!("argon2: {error}"));
    let salt = SaltString::encode_b64(&random::bytes::<16>()?).map_err(internal)?;
    Ok(argon2()?.hash_password(password.as_bytes(), &salt).map_err(internal)?.to_string())
}

fn verify_now(password: &str, phc: &str) -> bool {
    if check_hash(phc).is_err() {
        return false;
    }
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    // The parameters are those of the hash; the instance only lends the algorithm.
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_that_are_refused_and_why() {
        let reason = |text| check(text, 8).unwrap_err().to_string();
        assert_eq!(reason("Ab1"), "password: expected at least 8 characters");
        assert_eq!(reason("testpass123"), "password: expected at least one upper-case letter");
        assert_eq!(reason("TESTPASS123"), "password: expected at least one lower-case letter");
        assert_eq!(reason("TestPasswd"), "password: expected at least one digit");
        assert_eq!(reason(&"aB3".repeat(400)), "password: expected at most 1024 bytes");
        assert!(check("GoodPass1", 8).is_ok());
        assert!(check("GoodPass1", 10).is_err());
    }

    #[test]
    fn hashes_are_argon2id_with_our_parameters_and_verify() {
        smol::block_on(async {
            let hasher = Hasher::default();
            let phc = hasher.hash("GoodPass1").await.unwrap();
            assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
            assert!(hasher.verify("GoodPass1", Some(&phc)).await.unwrap());
            assert!(!hasher.verify("GoodPass2", Some(&phc)).await.unwrap());
            assert!(!hasher.verify("GoodPass1", None).await.unwrap());
            assert!(!hasher.verify("", Some("")).await.unwrap());
            assert!(check_hash(DUMMY).is_ok());
        });
    }

    /// Parameters are read from the hash (argon2 reference implementation: `echo -n password | argon2 somesalt
    /// -id -t 2 -m 16 -p 1`, from its README's test vectors).
    #[test]
    fn a_hash_of_other_parameters_verifies() {
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(check_hash(phc).is_ok());
        assert!(verify_now("password", phc));
        assert!(!verify_now("passwore", phc));
    }

    #[test]
    fn hashes_that_would_eat_the_machine_are_refused() {
        assert!(
            check_hash("$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8")
                .is_err()
        );
        assert!(check_hash("$2b$12$abcdefghijklmnopqrstuv").is_err());
        assert!(check_hash("GoodPass1").is_err());
    }
}
