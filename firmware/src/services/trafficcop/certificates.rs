//! Certificates and keys as files, looked at before the daemon does: one that it cannot use makes it serve plain HTTP.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Why a pair is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BadPair {
    #[error("{path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path}: expected {expected} in PEM form")]
    NotPem { path: String, expected: &'static str },
    #[error("{key} is not the key of {certificate}")]
    NoPair { certificate: String, key: String },
    #[error("{path}: {source}")]
    Unusable { path: String, source: rustls::Error },
}

/// The bytes of both files, if they can be read and the key is that of the certificate.
pub fn read_pair(certificate: &Path, key: &Path) -> Result<[Vec<u8>; 2], BadPair> {
    let name = |path: &Path| path.display().to_string();
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| BadPair::Unreadable { path: name(path), source });
    let (pem, key_pem) = (read(certificate)?, read(key)?);
    let no_certificate = || BadPair::NotPem { path: name(certificate), expected: "a certificate" };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    let private = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| BadPair::NotPem { path: name(key), expected: "a private key" })?;
    match CertifiedKey::from_der(chain, private, &default_provider()) {
        Ok(_) => Ok([pem, key_pem]),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(BadPair::NoPair { certificate: name(certificate), key: name(key) })
        }
        Err(source) => Err(BadPair::Unusable { path: name(certificate), source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pairs_that_fit_and_pairs_that_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
            let (cert, key) =
                (dir.path().join(format!("{name}.pem")), dir.path().join(format!("{name}.key")));
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            (cert, key)
        };
        let ((cert, key), (_, other)) = (make("a"), make("b"));
        let refused = |cert: &Path, key: &Path| read_pair(cert, key).unwrap_err().to_string();
        assert_eq!(read_pair(&cert, &key).unwrap()[1], std::fs::read(&key).unwrap());
        assert!(refused(&cert, &other).contains("is not the key of"));
        assert!(refused(&key, &key).contains("expected a certificate"));
        assert!(refused(&cert, &cert).contains("expected a private key"));
        assert!(refused(&dir.path().join("none"), &key).contains("none"));
    }
}
