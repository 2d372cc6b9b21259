//! Settings of the time service.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{InterfaceName, Invalid};

/// Settings, as the API shows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeSettings {
    pub enabled: bool,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    /// Whether the clock of the machine is set and steered.
    pub clock_discipline: bool,
    /// An offset (milliseconds) above which the clock is set instead of steered.
    pub clock_step_threshold_ms: f64,
    /// An offset (milliseconds) above which a measurement is refused.
    pub clock_panic_threshold_ms: f64,
    /// Whether others are served; sources are asked in any case.
    pub ntp_enabled: bool,
    /// `address:port`.
    pub ntp_listen: String,
    /// Interfaces on which others are served; empty = all.
    pub ntp_interfaces: Vec<String>,
    /// Requests per second from one client.
    pub ntp_rate_limit: f64,
    pub ntp_rate_burst: u32,
    pub nts_enabled: bool,
    pub nts_ke_listen: String,
    pub nts_certificate: String,
    pub nts_private_key: String,
    pub ptp_enabled: bool,
    pub ptp_domain: u8,
    pub ptp_interface: String,
    pub ptp_transport: String,
    pub ptp_priority1: u8,
    pub ptp_priority2: u8,
    pub ptp_delay_mechanism: String,
    pub metrics_enabled: bool,
    pub metrics_listen: String,
    pub management_enabled: bool,
    pub management_listen: String,
}

impl Default for TimeSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            log_level: "info".into(),
            clock_discipline: true,
            clock_step_threshold_ms: 128.0,
            clock_panic_threshold_ms: 1_000_000.0,
            ntp_enabled: true,
            ntp_listen: "0.0.0.0:123".into(),
            ntp_interfaces: Vec::new(),
            ntp_rate_limit: 16.0,
            ntp_rate_burst: 32,
            nts_enabled: false,
            nts_ke_listen: "0.0.0.0:4460".into(),
            nts_certificate: String::new(),
            nts_private_key: String::new(),
            ptp_enabled: false,
            ptp_domain: 0,
            ptp_interface: "em0".into(),
            ptp_transport: "udp-ipv4".into(),
            ptp_priority1: 128,
            ptp_priority2: 128,
            ptp_delay_mechanism: "e2e".into(),
            metrics_enabled: true,
            metrics_listen: "127.0.0.1:9100".into(),
            management_enabled: true,
            management_listen: "127.0.0.1:9200".into(),
        }
    }
}

/// Settings to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeSettingsRequest {
    enabled: Option<bool>,
    log_level: Option<String>,
    clock_discipline: Option<bool>,
    clock_step_threshold_ms: Option<f64>,
    clock_panic_threshold_ms: Option<f64>,
    ntp_enabled: Option<bool>,
    ntp_listen: Option<String>,
    ntp_interfaces: Option<Vec<String>>,
    ntp_rate_limit: Option<f64>,
    ntp_rate_burst: Option<u32>,
    nts_enabled: Option<bool>,
    nts_ke_listen: Option<String>,
    nts_certificate: Option<String>,
    nts_private_key: Option<String>,
    ptp_enabled: Option<bool>,
    ptp_domain: Option<i64>,
    ptp_interface: Option<String>,
    ptp_transport: Option<String>,
    ptp_priority1: Option<i64>,
    ptp_priority2: Option<i64>,
    ptp_delay_mechanism: Option<String>,
    metrics_enabled: Option<bool>,
    metrics_listen: Option<String>,
    management_enabled: Option<bool>,
    management_listen: Option<String>,
}

impl TimeSettingsRequest {
    /// The settings with the changes, or which of them is wrong.
    pub fn change(self, stored: &TimeSettings) -> Result<TimeSettings, Invalid> {
        let byte = |field: &str, given: Option<i64>, stored: u8, most: u8| match given {
            None => Ok(stored),
            Some(number) => u8::try_from(number)
                .ok()
                .filter(|number| *number <= most)
                .ok_or_else(|| Invalid::new(field, format!("expected 0 to {most}"))),
        };
        let old = stored.clone();
        let settings = TimeSettings {
            enabled: self.enabled.unwrap_or(old.enabled),
            log_level: self.log_level.map_or(old.log_level, |level| level.to_ascii_lowercase()),
            clock_discipline: self.clock_discipline.unwrap_or(old.clock_discipline),
            clock_step_threshold_ms: self.clock_step_threshold_ms.unwrap_or(old.clock_step_threshold_ms),
            clock_panic_threshold_ms: self.clock_panic_threshold_ms.unwrap_or(old.clock_panic_threshold_ms),
            ntp_enabled: self.ntp_enabled.unwrap_or(old.ntp_enabled),
            ntp_listen: self.ntp_listen.unwrap_or(old.ntp_listen),
            ntp_interfaces: self.ntp_interfaces.unwrap_or(old.ntp_interfaces),
            ntp_rate_limit: self.ntp_rate_limit.unwrap_or(old.ntp_rate_limit),
            ntp_rate_burst: self.ntp_rate_burst.unwrap_or(old.ntp_rate_burst),
            nts_enabled: self.nts_enabled.unwrap_or(old.nts_enabled),
            nts_ke_listen: self.nts_ke_listen.unwrap_or(old.nts_ke_listen),
            nts_certificate: self.nts_certificate.unwrap_or(old.nts_certificate),
            nts_private_key: self.nts_private_key.unwrap_or(old.nts_private_key),
            ptp_enabled: self.ptp_enabled.unwrap_or(old.ptp_enabled),
            ptp_domain: byte("ptp_domain", self.ptp_domain, old.ptp_domain, 127)?,
            ptp_interface: self.ptp_interface.unwrap_or(old.ptp_interface),
            ptp_transport: self.ptp_transport.unwrap_or(old.ptp_transport),
            ptp_priority1: byte("ptp_priority1", self.ptp_priority1, old.ptp_priority1, 255)?,
            ptp_priority2: byte("ptp_priority2", self.ptp_priority2, old.ptp_priority2, 255)?,
            ptp_delay_mechanism: self.ptp_delay_mechanism.unwrap_or(old.ptp_delay_mechanism),
            metrics_enabled: self.metrics_enabled.unwrap_or(old.metrics_enabled),
            metrics_listen: self.metrics_listen.unwrap_or(old.metrics_listen),
            management_enabled: self.management_enabled.unwrap_or(old.management_enabled),
            management_listen: self.management_listen.unwrap_or(old.management_listen),
        };
        settings.check().map(|()| settings)
    }
}

impl TimeSettings {
    /// What must hold whatever the machine is like.
    pub fn check(&self) -> Result<(), Invalid> {
        one_of("log_level", &self.log_level, &["trace", "debug", "info", "warn", "error"])?;
        positive("clock_step_threshold_ms", self.clock_step_threshold_ms)?;
        positive("clock_panic_threshold_ms", self.clock_panic_threshold_ms)?;
        if self.clock_step_threshold_ms >= self.clock_panic_threshold_ms {
            return Err(Invalid::new(
                "clock_step_threshold_ms",
                "expected less than clock_panic_threshold_ms",
            ));
        }
        positive("ntp_rate_limit", self.ntp_rate_limit)?;
        if self.ntp_rate_burst == 0 {
            return Err(Invalid::new("ntp_rate_burst", "expected 1 or more"));
        }
        place("ntp_listen", &self.ntp_listen)?;
        for name in &self.ntp_interfaces {
            InterfaceName::new(name).map_err(|bad| bad.field("ntp_interfaces"))?;
        }
        place("nts_ke_listen", &self.nts_ke_listen)?;
        for (field, path) in
            [("nts_certificate", &self.nts_certificate), ("nts_private_key", &self.nts_private_key)]
        {
            if path.is_empty() && self.nts_enabled {
                return Err(Invalid::new(field, "expected the path of a file, since nts_enabled is set"));
            }
            let plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
            if !path.is_empty() && (!plain || path.chars().any(char::is_control)) {
                return Err(Invalid::new(field, "expected an absolute path without .."));
            }
        }
        InterfaceName::new(&self.ptp_interface).map_err(|bad| bad.field("ptp_interface"))?;
        one_of("ptp_transport", &self.ptp_transport, &["udp-ipv4"])?;
        one_of("ptp_delay_mechanism", &self.ptp_delay_mechanism, &["e2e", "p2p"])?;
        if self.metrics_enabled {
            place("metrics_listen", &self.metrics_listen)?;
        }
        if self.management_enabled {
            place("management_listen", &self.management_listen)?;
        }
        Ok(())
    }
}

fn one_of(field: &str, given: &str, known: &[&str]) -> Result<(), Invalid> {
    let fits = known.contains(&given);
    fits.then_some(()).ok_or_else(|| Invalid::new(field, format!("expected {}", known.join(", "))))
}

fn positive(field: &str, number: f64) -> Result<(), Invalid> {
    let fits = number.is_finite() && number > 0.0;
    fits.then_some(()).ok_or_else(|| Invalid::new(field, "expected a number above 0"))
}

fn place(field: &str, text: &str) -> Result<(), Invalid> {
    let parsed = text.parse::<SocketAddr>().ok().filter(|place| place.port() != 0);
    parsed.map(drop).ok_or_else(|| {
        Invalid::new(
            field,
            "expected an IP address and a port from 1 to 65535, such as 0.0.0.0:123 or [::]:123",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn change(json: &str) -> Result<TimeSettings, String> {
        let request: TimeSettingsRequest = serde_json::from_str(json).unwrap();
        request.change(&TimeSettings::default()).map_err(|invalid| invalid.field)
    }

    #[test]
    fn whole_numbers_are_taken_for_thresholds() {
        assert_eq!(change(r#"{"clock_step_threshold_ms":128}"#).unwrap(), TimeSettings::default());
        assert_eq!(change(r#"{"clock_step_threshold_ms":128.5}"#).unwrap().clock_step_threshold_ms, 128.5);
    }

    #[test]
    fn what_would_end_the_daemon_is_refused_by_name() {
        for (json, field) in [
            (r#"{"clock_step_threshold_ms":0}"#, "clock_step_threshold_ms"),
            (
                r#"{"clock_step_threshold_ms":2000,"clock_panic_threshold_ms":1000}"#,
                "clock_step_threshold_ms",
            ),
            (r#"{"ntp_rate_limit":-1}"#, "ntp_rate_limit"),
            (r#"{"ntp_rate_burst":0}"#, "ntp_rate_burst"),
            (r#"{"ntp_listen":"em0:123"}"#, "ntp_listen"),
            (r#"{"ntp_listen":"0.0.0.0"}"#, "ntp_listen"),
            (r#"{"ntp_listen":"1.2.3.4:70000"}"#, "ntp_listen"),
            (r#"{"ptp_domain":200}"#, "ptp_domain"),
            (r#"{"ptp_priority1":300}"#, "ptp_priority1"),
            (r#"{"log_level":"loud"}"#, "log_level"),
            (r#"{"nts_enabled":true}"#, "nts_certificate"),
            (r#"{"nts_certificate":"/etc/../x"}"#, "nts_certificate"),
            (r#"{"ptp_transport":"ethernet"}"#, "ptp_transport"),
            (r#"{"management_listen":"x"}"#, "management_listen"),
        ] {
            assert_eq!(change(json).unwrap_err(), field, "{json}");
        }
        assert!(change(r#"{"management_enabled":false,"management_listen":""}"#).is_ok());
    }
}
