//! TLS 1.2 and 1.3 (rustls with ring): the certificate, which can be replaced while connections go on, and a
//! self-signed one for a machine that has none yet.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate is not readable PEM: {0}")]
    Certificate(String),
    #[error("the private key is not readable PEM: {0}")]
    Key(String),
    #[error("certificate and private key cannot be used: {0}")]
    Rejected(#[from] rustls::Error),
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{0:?} cannot be in a certificate's subject alternative names")]
    Name(String),
}

/// Certificate chain and private key in PEM.
#[derive(Clone)]
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    Tls12,
    Tls13,
}

impl Pem {
    /// SHA-256 of the first certificate's DER form: what browsers show as its fingerprint.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?;
        ring::digest::digest(&ring::digest::SHA256, &der).as_ref().try_into().ok()
    }
}

/// The server's side of TLS. Clones share the certificate and the oldest version.
#[derive(Clone)]
pub struct Tls {
    current: Arc<Current>,
    config: Arc<ArcSwap<rustls::ServerConfig>>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    pub fn new(pem: &Pem) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(certified(pem)?)));
        let config = server_config(&current, MinVersion::Tls12)?;
        Ok(Self { current, config: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// New connections are held to this version; those that are open go on.
    pub fn set_min_version(&self, least: MinVersion) -> Result<(), TlsError> {
        self.config.store(Arc::new(server_config(&self.current, least)?));
        Ok(())
    }

    /// New connections get this certificate; those that are open go on. A bad one changes nothing.
    pub fn replace(&self, pem: &Pem) -> Result<(), TlsError> {
        self.current.0.store(Arc::new(certified(pem)?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> futures_rustls::TlsAcceptor {
        futures_rustls::TlsAcceptor::from(self.config.load_full())
    }
}

fn server_config(current: &Arc<Current>, least: MinVersion) -> Result<rustls::ServerConfig, TlsError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match least {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether a certificate and its key can be used.
pub fn check(pem: &Pem) -> Result<(), TlsError> {
    certified(pem).map(drop)
}

fn certified(pem: &Pem) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("no CERTIFICATE section".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
        .map_err(|error| TlsError::Key(error.to_string()))?;
    Ok(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?)
}

/// A self-signed certificate with a new EC P-256 key, good for 3650 days from yesterday (clocks differ).
/// `names` are DNS names and addresses; the first one is also the common name.
pub fn self_signed(names: &[String]) -> Result<Pem, TlsError> {
    let mut params = CertificateParams::default();
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.clone().try_into().map_err(|_| TlsError::Name(name.clone()))?),
        });
    }
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, names.first().map_or("aifw", String::as_str));
    subject.push(DnType::OrganizationName, "AiFw");
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |offset: i64| {
        let date = today.saturating_add(jiff::Span::new().days(offset));
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(3649);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn self_signed_certificates_are_usable_and_replaceable() {
        let first = self_signed(&["fw.example".into(), "192.0.2.1".into(), "2001:db8::1".into()]).unwrap();
        let second = self_signed(&["other.example".into()]).unwrap();
        let tls = Tls::new(&first).unwrap();
        tls.replace(&second).unwrap();
        let mixed = Pem { certificate: first.certificate, key: second.key };
        assert!(matches!(tls.replace(&mixed), Err(TlsError::Rejected(_))));
        let empty = Pem { certificate: String::new(), key: mixed.key };
        assert!(matches!(tls.replace(&empty), Err(TlsError::Certificate(_))));
        assert!(matches!(self_signed(&["not a name\u{e9}".into()]), Err(TlsError::Name(_))));
    }
}
