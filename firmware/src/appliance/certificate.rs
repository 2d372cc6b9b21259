//! The appliance's own certificate: made at the first start, kept in the state directory, shown as long as the
//! administrator has given no other.

use std::io;
use std::path::Path;

use super::StartError;
use crate::api::server::{Pem, tls};
use crate::atomic;
use crate::config::Config;

/// Names under which everybody may find an appliance.
const USUAL: [&str; 4] = ["localhost", "127.0.0.1", "::1", "aifw.local"];

/// Names and addresses of an appliance with this configuration, the usual ones included.
pub fn names(config: &Config) -> Vec<String> {
    let system = &config.system;
    let own = [system.fqdn(), system.hostname.clone()].into_iter().filter(|name| !name.is_empty());
    let addresses = [system.lan_ip, system.wan_ip].into_iter().flatten().map(|net| net.addr().to_string());
    let mut names: Vec<String> = Vec::new();
    for name in own.chain(USUAL.map(str::to_owned)).chain(addresses) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The certificate of this state directory; made if there is none, for the usual names and these.
pub fn own(state: &Path, names: &[String]) -> Result<Pem, StartError> {
    let (cert, key) = (state.join("tls-cert.pem"), state.join("tls-key.pem"));
    if let (Ok(certificate), Ok(key)) = (std::fs::read_to_string(&cert), std::fs::read_to_string(&key)) {
        return Ok(Pem { certificate, key });
    }
    let usual = USUAL.map(str::to_owned);
    let pem = tls::self_signed(if names.is_empty() { &usual } else { names })
        .map_err(|error| StartError::Input { what: "certificate".into(), reason: error.to_string() })?;
    let write =
        |path: &Path, text: &str, mode: u32| -> io::Result<()> { atomic::write(path, text.as_bytes(), mode) };
    write(&key, &pem.key, 0o600)?;
    write(&cert, &pem.certificate, 0o644)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Timestamp;
    use crate::config::setup::Setup;

    #[test]
    fn it_is_made_once_for_the_names_of_the_appliance() {
        let file = r#"{"hostname": "fw", "domain": "example.org", "wan_interface": "em0", "lan_interface": "em1",
            "lan_ip": "10.9.8.1/24"}"#;
        let config = Setup::parse_without_admin(file.as_bytes(), Timestamp::UNIX_EPOCH).unwrap().config;
        let names = names(&config);
        assert_eq!(
            names,
            ["fw.example.org", "fw", "localhost", "127.0.0.1", "::1", "aifw.local", "10.9.8.1"]
        );
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path(), &names).unwrap();
        let again = own(dir.path(), &[]).unwrap();
        assert_eq!((&first.certificate, &first.key), (&again.certificate, &again.key));
        let mode = |name: &str| dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls-key.pem"), mode("tls-cert.pem")), (0o600, 0o644));
    }
}
