//! Names of DHCP clients, as rDHCP tells them over its HTTP API on loopback.

use std::time::Duration;

use serde::Deserialize;

use super::world::LeaseNames;
use crate::compile::services::dns::zones::Named;
use crate::config::Config;

/// Asks the DHCP server of this appliance.
#[derive(Debug, Clone, Copy, Default)]
pub struct FromRdhcpd;

/// As much of a lease as counts here.
#[derive(Debug, Deserialize)]
struct Lease {
    ip: std::net::IpAddr,
    hostname: Option<String>,
    state: String,
}

const PATIENCE: Duration = Duration::from_secs(1);
/// The most that it gives at once.
const MOST: u32 = 5000;

impl LeaseNames for FromRdhcpd {
    fn leases(&self, config: &Config) -> Vec<Named> {
        if !config.dhcp.enabled || !config.dns_resolver.register_dhcp {
            return Vec::new();
        }
        let url = format!("http://127.0.0.1:{}/api/v1/leases?limit={MOST}", config.dhcp.api_port);
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let told = agent.get(&url).call().and_then(|mut answer| answer.body_mut().read_json::<Vec<Lease>>());
        match told {
            Ok(leases) => names(leases),
            Err(error) => {
                log::info!("names of DHCP clients: {error}");
                Vec::new()
            }
        }
    }
}

/// In order of addresses, so that of two clients with one name the same one always has it.
fn names(leases: Vec<Lease>) -> Vec<Named> {
    let bound = leases.into_iter().filter(|lease| lease.state.eq_ignore_ascii_case("bound"));
    let mut named: Vec<Named> = bound
        .filter_map(|lease| {
            Some(Named { name: lease.hostname.filter(|name| !name.is_empty())?, ip: lease.ip })
        })
        .collect();
    named.sort_by(|a, b| (a.ip, &a.name).cmp(&(b.ip, &b.name)));
    named
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn leases_in_force_with_a_name_count() {
        let told = r#"[
            {"ip":"10.0.0.9","hostname":"pc9","state":"Bound","lease_time":60},
            {"ip":"10.0.0.2","hostname":"pc2","state":"bound"},
            {"ip":"10.0.0.3","hostname":"gone","state":"Expired"},
            {"ip":"10.0.0.4","state":"Bound"}
        ]"#;
        let names: Vec<String> =
            names(serde_json::from_str(told).unwrap()).into_iter().map(|n| n.name).collect();
        assert_eq!(names, ["pc2", "pc9"]);
    }
}
