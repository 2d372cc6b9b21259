//! The API's certificate and the oldest version of TLS, followed by the listener of a running appliance.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aifw::api::server::tls::{Pem, self_signed};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use smol::block_on;

use crate::process::{Sandbox, command, soon, text};
use crate::rig::Rig;
use crate::wire::Wire;

type Stream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Connects, trusting this certificate alone and speaking these versions.
fn connect(
    address: std::net::SocketAddr,
    trusted: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Wire<Stream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let session =
        rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = rustls::StreamOwned::new(session, socket);
    stream.flush()?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Wire::over(stream))
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

fn pair(root: &Path, name: &str) -> (Pem, Value) {
    let pem = self_signed(&["localhost".into(), "fw.example.org".into()]).unwrap();
    let dir = root.join("usr/local/etc/aifw/tls");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), &pem.certificate).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), &pem.key).unwrap();
    let base = format!("/usr/local/etc/aifw/tls/{name}");
    (pem, json!({ "cert_path": format!("{base}.pem"), "key_path": format!("{base}.key") }))
}

/// The policy, and paths that are refused, each with its field.
#[test]
fn what_is_no_certificate_of_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let path = "/settings/tls";
        let fresh = rig.get(path).await;
        let expected = json!({ "min_version": "tls12", "block_expired": true, "block_weak_keys": true,
            "cert_path": "/usr/local/etc/aifw/tls/cert.pem", "key_path": "/usr/local/etc/aifw/tls/key.pem",
            "cert_subject": null, "cert_not_after": null });
        assert_eq!(fresh, expected);
        let root = dir.path().join("root");
        let (_, one) = pair(&root, "one");
        let (_, other) = pair(&root, "other");
        std::os::unix::fs::symlink("one.pem", root.join("usr/local/etc/aifw/tls/link.pem")).unwrap();
        std::os::unix::fs::symlink("tls", root.join("usr/local/etc/aifw/elsewhere")).unwrap();
        std::fs::write(root.join("usr/local/etc/aifw/tls/text.pem"), "marked-text").unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "marked-text").unwrap();
        let key = &one["key_path"];
        for (body, field) in [
            (json!({ "min_version": "tls14" }), "min_version"),
            (json!({ "block_expired": "yes" }), "block_expired"),
            (json!({ "cert_path": "/etc/passwd", "key_path": key }), "cert_path"),
            (
                json!({ "cert_path": "/usr/local/etc/aifw/../../../../etc/passwd", "key_path": key }),
                "cert_path",
            ),
            (json!({ "cert_path": "tls/one.pem", "key_path": key }), "cert_path"),
            (json!({ "cert_path": "/usr/local/etc/aifw/tls/none.pem", "key_path": key }), "cert_path"),
            (json!({ "cert_path": "/usr/local/etc/aifw/tls/link.pem", "key_path": key }), "cert_path"),
            (json!({ "cert_path": "/usr/local/etc/aifw/elsewhere/one.pem", "key_path": key }), "cert_path"),
            (json!({ "cert_path": "/usr/local/etc/aifw/tls/text.pem", "key_path": key }), "cert_path"),
            (json!({ "cert_path": one["cert_path"], "key_path": other["key_path"] }), "key_path"),
            (json!({ "cert_path": one["cert_path"] }), "key_path"),
        ] {
            let told = rig.refused(400, "PUT", path, body.clone()).await;
            assert!(told.starts_with(&format!("{field}: ")), "{body}: {told}");
            assert!(!told.contains("marked-text"), "{told}");
        }
        assert_eq!(rig.get(path).await, expected);
        rig.ok("PUT", path, one.clone()).await;
        let shown = rig.get(path).await;
        assert!(
            shown["cert_subject"].is_string() && text(&shown["cert_not_after"]).ends_with('Z'),
            "{shown}"
        );
        // Old versions are stored; they are served as 1.2.
        rig.ok("PUT", path, json!({ "min_version": "tls10", "block_weak_keys": false })).await;
        let shown = rig.get(path).await;
        assert_eq!(
            (&shown["min_version"], &shown["block_weak_keys"], &shown["block_expired"]),
            (&"tls10".into(), &false.into(), &true.into())
        );
    });
}

#[test]
fn the_listener_follows_certificate_and_version_without_dropping_connections() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let socket = dir.path().join("s");
    let sandbox = Sandbox::run(command(&state, &["--tls", "--socket", socket.to_str().unwrap()]));
    let own = std::fs::read_to_string(state.join("tls-cert.pem")).unwrap();
    let local = |method: &str, path: &str, body: Value| {
        let stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = Wire::over(stream).request(method, &format!("/api/v1{path}"), &[], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let mut open = connect(sandbox.address, &own, OLD).unwrap();
    assert_eq!(open.request("GET", "/api/v1/openapi.json", &[], b"").status, 200);

    let (first, paths) = pair(&state.join("root"), "first");
    // What the console tells people to compare with.
    let told = || local("GET", "/setup", Value::Null)["certificate_sha256"].clone();
    let digest = |certificate: &str| {
        let pem = Pem { certificate: certificate.to_owned(), key: String::new() };
        let bytes = pem.digest().unwrap();
        Value::from(bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
    };
    assert_eq!(told(), digest(&own));
    local("PUT", "/settings/tls", paths);
    soon("the certificate is shown", || connect(sandbox.address, &first.certificate, BOTH).is_ok());
    assert!(connect(sandbox.address, &own, BOTH).is_err());
    assert_eq!(told(), digest(&first.certificate));
    local("PUT", "/settings/tls", json!({ "min_version": "tls13" }));
    soon("TLS 1.2 is refused", || connect(sandbox.address, &first.certificate, OLD).is_err());
    assert!(connect(sandbox.address, &first.certificate, BOTH).is_ok());
    // The connection that was open goes on, with its version and certificate.
    assert_eq!(open.request("GET", "/api/v1/openapi.json", &[], b"").status, 200);
    sandbox.terminate();

    // After a start it is as before, from the first connection on; with the files gone, the appliance shows its own again.
    let sandbox = Sandbox::run(command(&state, &["--tls", "--socket", socket.to_str().unwrap()]));
    assert!(connect(sandbox.address, &first.certificate, BOTH).is_ok());
    assert_eq!(told(), digest(&first.certificate));
    assert!(connect(sandbox.address, &first.certificate, OLD).is_err());
    sandbox.terminate();
    std::fs::remove_dir_all(state.join("root/usr/local/etc/aifw/tls")).unwrap();
    let sandbox = Sandbox::run(command(&state, &["--tls", "--socket", socket.to_str().unwrap()]));
    assert!(connect(sandbox.address, &own, BOTH).is_ok());
    let (_, printed) = sandbox.terminate();
    assert!(printed.contains("cert_path"), "{printed}");
}
