//! Names of DHCP clients, as the appliance's own rDHCP tells them.

use std::sync::{Mutex, PoisonError};

use super::world::LeaseNames;
use crate::compile::services::Places;
use crate::compile::services::dns::zones::Named;
use crate::config::Config;
use crate::services::ServiceError;
use crate::services::rdhcpd::{Client, Lease};

/// Asks the DHCP server whose directories these are.
pub struct FromRdhcpd {
    places: Places,
    /// What it told last: a server that is being restarted has not forgotten its clients.
    last: Mutex<Vec<Named>>,
}

impl FromRdhcpd {
    pub fn new(places: Places) -> Self {
        Self { places, last: Mutex::default() }
    }
}

/// Names and addresses of the leases in force.
pub fn ask(config: &Config, places: &Places) -> Result<Vec<Named>, ServiceError> {
    if !config.dhcp.enabled || !config.dns_resolver.register_dhcp {
        return Ok(Vec::new());
    }
    Ok(names(Client::new(config, places)?.leases(Some("bound"))?))
}

impl LeaseNames for FromRdhcpd {
    fn leases(&self, config: &Config) -> Vec<Named> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match ask(config, &self.places) {
            Ok(leases) => *last = leases,
            Err(error) => log::info!("names of DHCP clients: {error}"),
        }
        last.clone()
    }
}

/// In order of addresses, so that of two clients with one name the same one always has it.
fn names(leases: Vec<Lease>) -> Vec<Named> {
    let mut named: Vec<Named> = leases
        .into_iter()
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
    fn leases_with_a_name_count_in_order_of_addresses() {
        let lease = |ip: &str, name: &str| {
            format!(
                r#"{{"ip":"{ip}","hostname":"{name}","lease_time":60,"state":"bound","start_time":1,"expire_time":2,"subnet":"10.0.0.0/24"}}"#
            )
        };
        let told =
            format!("[{},{},{}]", lease("10.0.0.9", "pc9"), lease("10.0.0.2", "pc2"), lease("10.0.0.3", ""));
        let names: Vec<String> =
            names(serde_json::from_str(&told).unwrap()).into_iter().map(|n| n.name).collect();
        assert_eq!(names, ["pc2", "pc9"]);
    }
}
