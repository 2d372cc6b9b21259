//! Certificates and keys as files, looked at before the daemon does: one that it cannot use makes it serve plain HTTP.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Whether both files can be read and the key is that of the certificate.
pub fn check_pair(certificate: &Path, key: &Path) -> Result<(), String> {
    let fault = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| fault(certificate, &error))?;
    if chain.is_empty() {
        return Err(fault(certificate, &"holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
    match CertifiedKey::from_der(chain, private, &default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(format!("{} is not the key of {}", key.display(), certificate.display()))
        }
        Err(error) => Err(fault(certificate, &error)),
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
        check_pair(&cert, &key).unwrap();
        assert!(check_pair(&cert, &other).unwrap_err().contains("is not the key of"));
        assert!(check_pair(&key, &key).unwrap_err().contains("no certificate"));
        assert!(check_pair(&dir.path().join("none"), &key).unwrap_err().contains("none"));
    }
}
