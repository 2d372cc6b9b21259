//! The policy of TLS, and the certificate that the API shows. The listener follows what is stored without dropping a
//! connection (see [`certificate`] and [`MinVersion`]).

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{READ, WRITE, at_once, changes};
use crate::api::resource::Message;
use crate::api::server::tls::{MinVersion, check};
use crate::api::server::{Pem, TlsError};
use crate::api::{ApiError, App, Call, Reply, Route};
use crate::config::tls::{CERTIFICATES, TlsPolicy, TlsPolicyRequest};
use crate::config::{Config, Invalid, ServiceKind, Timestamp};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/settings/tls", READ, "The policy of TLS, and the API's certificate", get)
            .answers::<View>(200),
        Route::new("PUT", "/settings/tls", WRITE, "Change them; new connections follow at once", put)
            .takes::<TlsPolicyRequest>()
            .answers::<Message>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    min_version: String,
    block_expired: bool,
    block_weak_keys: bool,
    cert_path: String,
    key_path: String,
    /// Of the certificate in `cert_path`; null as long as there is none.
    cert_subject: Option<String>,
    cert_not_after: Option<Timestamp>,
}

/// The oldest version that the API's listener takes: 1.2 whatever the policy says below it.
pub fn min_version(policy: &TlsPolicy) -> MinVersion {
    if policy.min_version == "tls13" { MinVersion::Tls13 } else { MinVersion::Tls12 }
}

/// Where a file of the configuration is on this host.
fn place(app: &App, path: &str) -> PathBuf {
    app.services.runner(ServiceKind::Proxy).facts().path(path)
}

/// Reads a file that is none but itself: a link could lead to any other.
fn read(app: &App, field: &str, path: &str) -> Result<String, Invalid> {
    let base = CERTIFICATES.into_iter().find(|base| path.starts_with(base)).unwrap_or("/");
    let mut here = place(app, base);
    let below = Path::new(path.strip_prefix(base).unwrap_or(path));
    for part in below.components() {
        here.push(part);
        if std::fs::symlink_metadata(&here).is_ok_and(|found| found.is_symlink()) {
            return Err(Invalid::new(field, "expected a file, not a link"));
        }
    }
    std::fs::read_to_string(&here).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".into(),
            _ => format!("the file cannot be read: {error}"),
        };
        Invalid::new(field, reason)
    })
}

/// Certificate and key of a policy, which belong together. Blocks.
pub fn certificate(app: &App, policy: &TlsPolicy) -> Result<Pem, Invalid> {
    let pem = Pem {
        certificate: read(app, "cert_path", &policy.cert_path)?,
        key: read(app, "key_path", &policy.key_path)?,
    };
    check(&pem).map_err(|error| {
        let field = if matches!(error, TlsError::Certificate(_)) { "cert_path" } else { "key_path" };
        Invalid::new(field, error.to_string())
    })?;
    Ok(pem)
}

/// Subject and end of the first certificate of a PEM text.
fn told(pem: &str) -> Option<(String, Timestamp)> {
    let der = CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let end = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    Some((certificate.subject().to_string(), end))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let policy = call.app.store.snapshot().config.tls.clone();
    let (app, path) = (call.app.clone(), policy.cert_path.clone());
    let found =
        blocking::unblock(move || read(&app, "cert_path", &path).ok().and_then(|pem| told(&pem))).await;
    let (cert_subject, cert_not_after) = found.unzip();
    Ok(Reply::json(&View {
        min_version: policy.min_version.clone(),
        block_expired: policy.block_expired,
        block_weak_keys: policy.block_weak_keys,
        cert_path: policy.cert_path.clone(),
        key_path: policy.key_path.clone(),
        cert_subject,
        cert_not_after,
    }))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: TlsPolicyRequest = call.json()?;
    let stored = call.app.store.snapshot().config.tls.clone();
    let paths = |policy: &TlsPolicy| (policy.cert_path.clone(), policy.key_path.clone());
    let wanted = request.clone().change(&stored)?;
    // The paths that are there by default need not lead to anything.
    if paths(&wanted) != paths(&stored) && paths(&wanted) != paths(&TlsPolicy::default()) {
        let app = call.app.clone();
        blocking::unblock(move || certificate(&app, &wanted).map(drop)).await?;
    }
    let change = move |config: &mut Config| {
        let changed = request.change(&config.tls)?;
        let what = changes("TLS policy", &*config.tls, &changed);
        config.tls = changed.into();
        Ok(((), what))
    };
    at_once(&call, "settings", change, |from, into| into.tls = from.tls.clone()).await?;
    Ok(Reply::message("TLS settings saved; new connections follow"))
}
