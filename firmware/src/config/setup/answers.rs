//! Single answers, judged: what the first-boot dialogue asks for and what the setup file holds goes through the
//! same functions (contract/console.md §1). Each refusal says what was expected; the caller names the field.

use std::net::IpAddr;

use data_encoding::{BASE64, BASE64_NOPAD};
use ipnet::{IpNet, Ipv4Net};

use super::super::{InterfaceName, Invalid};

/// What a LAN gets unless somebody says otherwise.
pub const DEFAULT_LAN: &str = "192.168.1.1/24";

/// Whether text could be one host name label (RFC 1123 §2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A domain name of host name labels.
pub fn domain(text: &str) -> Result<String, Invalid> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("domain", "expected labels of 1 to 63 letters, digits and -"))
}

/// A host name, and the domain behind its first dot if there is one.
pub fn hostname(text: &str) -> Result<(String, Option<String>), Invalid> {
    let (host, rest) = match text.split_once('.') {
        Some((host, rest)) => (host, Some(rest)),
        None => (text, None),
    };
    if !is_label(host) || rest.is_some_and(|rest| domain(rest).is_err()) {
        return Err(Invalid::new("hostname", "expected labels of 1 to 63 letters, digits and -"));
    }
    Ok((host.to_owned(), rest.map(str::to_owned)))
}

/// A name of the tz database.
pub fn timezone(text: &str) -> Result<String, Invalid> {
    if text != "UTC" && jiff::tz::TimeZone::get(text).is_err() {
        return Err(Invalid::new("timezone", format!("there is no time zone {text:?}")));
    }
    Ok(text.to_owned())
}

/// Names of the tz database that hold the text, for somebody who guesses.
pub fn timezones_like(text: &str) -> Vec<String> {
    let sought = text.to_ascii_lowercase().replace(' ', "_");
    let mut names: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .filter(|name| !sought.is_empty() && name.to_ascii_lowercase().contains(&sought))
        .collect();
    names.sort();
    names
}

/// An interface by its name.
pub fn interface(field: &str, text: &str) -> Result<InterfaceName, Invalid> {
    InterfaceName::new(text).map_err(|bad| bad.field(field))
}

/// The WAN's own address with its prefix.
pub fn wan_address(text: &str) -> Result<IpNet, Invalid> {
    let expected = || Invalid::new("wan_ip", "expected an address with its prefix, such as 203.0.113.2/24");
    let address: IpNet = text.parse().map_err(|_| expected())?;
    let host = address.addr();
    if host.is_unspecified() || host.is_multicast() || host.is_loopback() || is_edge(&address, host) {
        return Err(Invalid::new("wan_ip", "expected the address of a host, not of the network"));
    }
    Ok(address)
}

/// Whether an address names an IPv4 network itself, or everybody in it.
fn is_edge(network: &IpNet, ip: IpAddr) -> bool {
    network.prefix_len() + 1 < network.max_prefix_len()
        && ip.is_ipv4()
        && (ip == network.network() || ip == network.broadcast())
}

/// Who leads out of the WAN's network.
pub fn wan_gateway(text: &str, own: &IpNet) -> Result<IpAddr, Invalid> {
    let gateway: IpAddr =
        text.parse().map_err(|_| Invalid::new("wan_gateway", "expected an address such as 203.0.113.1"))?;
    if !own.contains(&gateway) || gateway == own.addr() || is_edge(own, gateway) {
        return Err(Invalid::new("wan_gateway", format!("expected another host of {}", own.trunc())));
    }
    Ok(gateway)
}

/// The appliance's own address in the LAN.
pub fn lan_address(text: &str, wan: Option<IpNet>) -> Result<Ipv4Net, Invalid> {
    let refuse = |reason: String| Err(Invalid::new("lan_ip", reason));
    let Ok(address) = text.parse::<Ipv4Net>() else {
        return refuse("expected an IPv4 address with its prefix, such as 192.168.1.1/24".into());
    };
    if !(8..=30).contains(&address.prefix_len()) {
        return refuse("expected a prefix from /8 to /30".into());
    }
    let host = address.addr();
    if host == address.network()
        || host == address.broadcast()
        || host.is_loopback()
        || host.is_multicast()
        || host.is_unspecified()
    {
        return refuse("expected the address of a host, not of the network".into());
    }
    if let Some(IpNet::V4(wan)) = wan
        && (wan.contains(&address.network()) || address.contains(&wan.network()))
    {
        return refuse(format!("expected another network than the WAN's {}", wan.trunc()));
    }
    Ok(address)
}

/// Where the API listens.
pub fn listen(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| Invalid::new("api_listen", "expected an IP address, such as 0.0.0.0"))
}

/// A TCP port.
pub fn port(text: &str) -> Result<u16, Invalid> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Invalid::new("api_port", "expected a port from 1 to 65535"))
}

/// Name servers, comma separated.
pub fn dns_servers(text: &str) -> Result<Vec<IpAddr>, Invalid> {
    let servers = text.split(',').map(str::trim).filter(|server| !server.is_empty());
    let servers = servers
        .map(|server| {
            let bad = || Invalid::new("dns_servers", format!("expected IP addresses, not {server:?}"));
            server.parse().map_err(|_| bad())
        })
        .collect::<Result<Vec<IpAddr>, Invalid>>()?;
    if servers.is_empty() {
        return Err(Invalid::new("dns_servers", "expected at least one address"));
    }
    Ok(servers)
}

/// The name of the first administrator: what an account can be called (contract/auth.md), at most 32 characters.
pub fn admin_username(text: &str) -> Result<String, Invalid> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'-');
    if (1..=32).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("admin_username", "expected 1 to 32 of A-Z a-z 0-9 . _ @ -, without blanks"))
}

/// A password of the web UI: 8 characters or more, with upper and lower case and a digit.
pub fn password(field: &str, text: &str) -> Result<(), Invalid> {
    let lacks = if text.chars().count() < 8 {
        "expected 8 characters or more"
    } else if !text.chars().any(char::is_uppercase) {
        "expected an upper-case letter"
    } else if !text.chars().any(char::is_lowercase) {
        "expected a lower-case letter"
    } else if !text.bytes().any(|b| b.is_ascii_digit()) {
        "expected a digit"
    } else if text.len() > 1024 {
        "expected at most 1024 bytes"
    } else {
        return Ok(());
    };
    Err(Invalid::new(field, format!("{lacks} (8 or more, with upper case, lower case and a digit)")))
}

/// root's own password.
pub fn root_password(text: &str) -> Result<(), Invalid> {
    if text.chars().count() < 8 {
        return Err(Invalid::new("root_password", "expected 8 characters or more"));
    }
    if text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(Invalid::new("root_password", "expected at most 1024 bytes without control characters"));
    }
    Ok(())
}

/// A hash as master.passwd(5) holds it: crypt(3) with SHA-512, SHA-256 or Blowfish.
pub fn crypt_hash(text: &str) -> Result<(), Invalid> {
    let known = ["$6$", "$5$", "$2a$", "$2b$", "$2y$"].iter().any(|kind| text.starts_with(kind));
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b':' | b'!' | b'*'));
    if known && plain && (20..=256).contains(&text.len()) {
        return Ok(());
    }
    Err(Invalid::new("root_password_hash", "expected a crypt(3) hash: $6$, $5$ or $2b$"))
}

/// A user of GitHub.
pub fn github_user(text: &str) -> Result<String, Invalid> {
    if (1..=39).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("ssh_github_user", "expected 1 to 39 letters, digits and -"))
}

/// A line as authorized_keys has it: a key type, a base64 blob that names the same type, perhaps a comment
/// (sshd(8), AUTHORIZED_KEYS, without options).
pub fn public_key(line: &str) -> Result<String, Invalid> {
    let line = line.trim();
    if is_public_key(line) {
        return Ok(line.to_owned());
    }
    Err(Invalid::new("ssh_authorized_keys", "expected a public key: type and base64 data"))
}

fn is_public_key(line: &str) -> bool {
    let Some(blob) = blob_of(line) else { return false };
    let kind = line.split_ascii_whitespace().next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix));
    let Some((length, rest)) = blob.split_first_chunk::<4>() else { return false };
    known
        && rest.get(..u32::from_be_bytes(*length) as usize) == Some(kind.as_bytes())
        && !line.contains(['\n', '\r'])
}

fn blob_of(line: &str) -> Option<Vec<u8>> {
    BASE64.decode(line.split_ascii_whitespace().nth(1)?.as_bytes()).ok()
}

/// `SHA256:…` of a public key line, as ssh-keygen(1) -l shows it.
pub fn fingerprint(line: &str) -> Option<String> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &blob_of(line)?);
    Some(format!("SHA256:{}", BASE64_NOPAD.encode(digest.as_ref())))
}

/// The password that CARP neighbours share (carp(4)).
pub fn carp_password(text: &str) -> Result<(), Invalid> {
    let fine = |c: char| !matches!(c, '"' | '\'' | '`' | '$' | '\\') && !c.is_control() && !c.is_whitespace();
    if text.chars().count() >= 8 && text.len() <= 255 && text.chars().all(fine) {
        return Ok(());
    }
    Err(Invalid::new("cluster.password", "expected 8 characters or more, without blanks and \" ' ` $ \\"))
}

/// The other node of a pair.
pub fn peer(text: &str) -> Result<IpAddr, Invalid> {
    let peer: Option<IpAddr> = text.parse().ok();
    peer.filter(|ip| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback())
        .ok_or_else(|| Invalid::new("cluster.peer", "expected the address of the other node"))
}

/// A shared address.
pub fn virtual_ip(text: &str) -> Result<IpAddr, Invalid> {
    let ip: Option<IpAddr> = text.parse().ok();
    ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback())
        .ok_or_else(|| Invalid::new("virtual_ip", "expected an address without a prefix"))
}

/// The prefix of a shared address.
pub fn prefix(text: &str, of: IpAddr) -> Result<u8, Invalid> {
    let most = if of.is_ipv4() { 32 } else { 128 };
    let prefix = text.parse::<u8>().ok().filter(|prefix| (1..=most).contains(prefix));
    prefix.ok_or_else(|| Invalid::new("prefix", format!("expected a number from 1 to {most}")))
}

/// The number of a CARP group.
pub fn vhid(text: &str) -> Result<u8, Invalid> {
    let vhid = text.parse::<u8>().ok().filter(|vhid| *vhid > 0);
    vhid.ok_or_else(|| Invalid::new("vhid", "expected a number from 1 to 255"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me";

    #[test]
    fn public_keys() {
        assert!(public_key(KEY).is_ok());
        assert!(public_key(&KEY.replace("ssh-ed25519", "ssh-rsa")).is_err());
        assert!(public_key("ssh-ed25519 AAAA").is_err());
        // As `ssh-keygen -lf` prints it.
        assert_eq!(fingerprint(KEY).unwrap(), "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA");
    }

    #[test]
    fn behaviour_3_passwords_are_refused_with_the_reason() {
        for (text, reason) in [
            ("abcdefg1", "expected an upper-case letter"),
            ("ABCDEFG1", "expected a lower-case letter"),
            ("Abcdefgh", "expected a digit"),
            ("Ab1", "expected 8 characters or more"),
        ] {
            let error = password("admin_password", text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(password("admin_password", "Abcdef12").is_ok());
    }

    #[test]
    fn hashes_of_crypt() {
        assert!(crypt_hash("$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/").is_ok());
        for bad in ["", "*", "plain", "$1$salt$hash", "$6$a:b$aaaaaaaaaaaaaaaaaaaaaaaa", "$6$short"] {
            assert!(crypt_hash(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_zones_are_found_by_a_part() {
        assert!(timezones_like("vienna").contains(&"Europe/Vienna".to_owned()));
        assert!(timezones_like("").is_empty());
        assert!(timezone("Mars/Olympus").is_err());
    }
}
