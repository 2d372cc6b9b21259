//! The reverse proxy (contract/reverse-proxy.md): settings as a whole here, the eleven kinds of objects in `rows`,
//! the language of routing rules in `rule`. Object texts (`config_json` and the like) stay as they were given, byte
//! for byte: clients parse them themselves.

pub mod rows;
pub mod rule;
mod secrets;

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, Invalid};
pub use rows::{
    CertResolver, EntryPoint, HttpRouter, HttpService, Middleware, Row, RowBody, RowRequest, TcpRouter,
    TcpService, TlsCert, TlsOption, UdpRouter, UdpService, names,
};
pub use secrets::ConfigText;

/// Settings of the reverse proxy as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxySettings {
    pub enabled: bool,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    pub access_log_enabled: bool,
    /// Below `/var/log/`.
    pub access_log_path: String,
    /// `json`, `clf`, `combined` or `common`; the daemon writes JSON whatever it says.
    pub access_log_format: String,
    pub metrics_enabled: bool,
    /// `address:port` or `:port`.
    pub metrics_address: String,
    pub api_dashboard: bool,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            enabled: false,
            log_level: "info".into(),
            access_log_enabled: true,
            access_log_path: "/var/log/trafficcop/access.log".into(),
            access_log_format: "json".into(),
            metrics_enabled: false,
            metrics_address: "127.0.0.1:8082".into(),
            api_dashboard: false,
        }
    }
}

/// Settings to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxySettingsRequest {
    enabled: Option<bool>,
    log_level: Option<String>,
    access_log_enabled: Option<bool>,
    access_log_path: Option<String>,
    access_log_format: Option<String>,
    metrics_enabled: Option<bool>,
    metrics_address: Option<String>,
    api_dashboard: Option<bool>,
}

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
const FORMATS: [&str; 4] = ["json", "clf", "combined", "common"];

impl ProxySettingsRequest {
    /// The settings with the changes, or which of them is wrong.
    pub fn change(self, stored: &ProxySettings) -> Result<ProxySettings, Invalid> {
        let word = |field: &str, given: String, known: &[&str]| {
            let lower = given.to_ascii_lowercase();
            let fits = known.contains(&lower.as_str());
            fits.then_some(lower)
                .ok_or_else(|| Invalid::new(field, format!("expected one of {}", known.join(", "))))
        };
        let settings = ProxySettings {
            enabled: self.enabled.unwrap_or(stored.enabled),
            log_level: match self.log_level {
                Some(level) => word("log_level", level, &LEVELS)?,
                None => stored.log_level.clone(),
            },
            access_log_enabled: self.access_log_enabled.unwrap_or(stored.access_log_enabled),
            access_log_path: self.access_log_path.unwrap_or_else(|| stored.access_log_path.clone()),
            access_log_format: match self.access_log_format {
                Some(format) => word("access_log_format", format, &FORMATS)?,
                None => stored.access_log_format.clone(),
            },
            metrics_enabled: self.metrics_enabled.unwrap_or(stored.metrics_enabled),
            metrics_address: self.metrics_address.unwrap_or_else(|| stored.metrics_address.clone()),
            api_dashboard: self.api_dashboard.unwrap_or(stored.api_dashboard),
        };
        check_path("access_log_path", &settings.access_log_path, &["/var/log/"])?;
        listen_address("metrics_address", &settings.metrics_address)?;
        Ok(settings)
    }
}

/// An absolute path without `..` below one of these directories, naming a file.
pub(crate) fn check_path(field: &str, path: &str, below: &[&str]) -> Result<(), Invalid> {
    let plain =
        !path.split('/').any(|part| part == ".." || part == ".") && !path.chars().any(char::is_control);
    let inside = below.iter().any(|directory| path.len() > directory.len() && path.starts_with(directory));
    (plain && inside && !path.ends_with('/') && path.len() <= 1024)
        .then_some(())
        .ok_or_else(|| Invalid::new(field, format!("expected a file below {}", below.join(" or "))))
}

/// `:port`, `ipv4:port` or `[ipv6]:port`, the port not being 0. A port alone means every IPv4 address.
pub fn listen_address(field: &str, text: &str) -> Result<SocketAddr, Invalid> {
    let any = IpAddr::from([0, 0, 0, 0]);
    let parsed = match text.trim().strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port: u16| SocketAddr::new(any, port)),
        None => text.trim().parse().ok(),
    };
    parsed
        .filter(|address| address.port() != 0)
        .ok_or_else(|| Invalid::new(field, "expected address:port or :port, the port being 1 to 65535"))
}

/// Takes over the part of the configuration that is the reverse proxy's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.proxy = from.proxy.clone();
    into.proxy_entry_points = from.proxy_entry_points.clone();
    into.proxy_http_routers = from.proxy_http_routers.clone();
    into.proxy_http_services = from.proxy_http_services.clone();
    into.proxy_middlewares = from.proxy_middlewares.clone();
    into.proxy_tcp_routers = from.proxy_tcp_routers.clone();
    into.proxy_tcp_services = from.proxy_tcp_services.clone();
    into.proxy_udp_routers = from.proxy_udp_routers.clone();
    into.proxy_udp_services = from.proxy_udp_services.clone();
    into.proxy_tls_certs = from.proxy_tls_certs.clone();
    into.proxy_tls_options = from.proxy_tls_options.clone();
    into.proxy_cert_resolvers = from.proxy_cert_resolvers.clone();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn change(json: &str) -> Result<ProxySettings, String> {
        let request: ProxySettingsRequest = serde_json::from_str(json).unwrap();
        request.change(&ProxySettings::default()).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_is_left_out_stays_and_what_is_wrong_is_named() {
        let changed = change(r#"{"log_level":"DEBUG","metrics_address":":9100"}"#).unwrap();
        assert_eq!(
            changed,
            ProxySettings {
                log_level: "debug".into(),
                metrics_address: ":9100".into(),
                ..ProxySettings::default()
            }
        );
        assert!(change(r#"{"log_level":"loud"}"#).unwrap_err().starts_with("log_level: expected one of"));
        for path in ["/etc/passwd", "/var/log/../etc/x", "/var/log/", "var/log/x", "/var/log/a/"] {
            let refused = change(&format!(r#"{{"access_log_path":"{path}"}}"#)).unwrap_err();
            assert!(refused.starts_with("access_log_path:"), "{path}: {refused}");
        }
        for address in ["8082", "nonsense", ":0", "1.2.3.4:70000", "host:80"] {
            assert!(change(&format!(r#"{{"metrics_address":"{address}"}}"#)).is_err(), "{address}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        let at = |text: &str| listen_address("address", text).map(|address| address.to_string());
        assert_eq!(at(":80").unwrap(), "0.0.0.0:80");
        assert_eq!(at("[::1]:8443").unwrap(), "[::1]:8443");
        assert_eq!(at("nonsense").unwrap_err().to_string().split(':').next(), Some("address"));
    }
}
