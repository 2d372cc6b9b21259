//! How often addresses are looked at, and who tells the public one.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::config::Invalid;
use crate::config::reach::is_public;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DdnsSettings {
    /// 60 to 86400.
    pub poll_interval_secs: u32,
    /// Answers with the address that it is asked from.
    pub ip_echo_url_v4: String,
    pub ip_echo_url_v6: String,
    /// The greatest numbers that were given: one is never given again.
    #[schemars(skip)]
    pub last_provider: u64,
    #[schemars(skip)]
    pub last_record: u64,
}

impl Default for DdnsSettings {
    fn default() -> Self {
        Self {
            poll_interval_secs: 300,
            ip_echo_url_v4: "https://api.ipify.org".into(),
            ip_echo_url_v6: "https://api6.ipify.org".into(),
            last_provider: 0,
            last_record: 0,
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DdnsSettingsRequest {
    poll_interval_secs: u32,
    ip_echo_url_v4: String,
    ip_echo_url_v6: String,
}

/// An echo service's address: https, and not a literal address of the inside. Names are resolved, and looked at, when
/// they are used.
fn check_echo(field: &str, text: &str) -> Result<String, Invalid> {
    let refuse = |what: &str| Invalid::new(field, format!("expected an https URL {what}"));
    let text = text.trim();
    let url = Url::parse(text).map_err(|_| refuse("of a public server"))?;
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("without user and password"));
    }
    let inside = match url.host() {
        None => true,
        Some(Host::Domain(name)) => name.is_empty() || name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => !is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => !is_public(IpAddr::V6(ip)),
    };
    if inside { Err(refuse("of a public server")) } else { Ok(text.to_owned()) }
}

impl DdnsSettingsRequest {
    pub fn settings(self, stored: &DdnsSettings) -> Result<DdnsSettings, Invalid> {
        if !(60..=86_400).contains(&self.poll_interval_secs) {
            return Err(Invalid::new("poll_interval_secs", "expected 60 to 86400"));
        }
        Ok(DdnsSettings {
            poll_interval_secs: self.poll_interval_secs,
            ip_echo_url_v4: check_echo("ip_echo_url_v4", &self.ip_echo_url_v4)?,
            ip_echo_url_v6: check_echo("ip_echo_url_v6", &self.ip_echo_url_v6)?,
            ..stored.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_services_are_https_and_public() {
        for good in ["https://api.ipify.org", "https://echo.example/ip?x=1", "https://[2600::1]/"] {
            assert!(check_echo("f", good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.ipify.org",
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]/",
            "https://localhost/",
            "https://u:p@echo.example/",
            "echo.example",
            "",
        ] {
            assert!(check_echo("f", bad).is_err(), "{bad}");
        }
    }
}
