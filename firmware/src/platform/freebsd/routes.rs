//! The routing table: `netstat --libxo json -rn`.

use std::net::IpAddr;

use serde::Deserialize;

use crate::platform::KernelRoute;

/// What the vital signs say of IPv4 routes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    pub gateway: Option<IpAddr>,
    pub count: u64,
}

#[derive(Debug, Deserialize)]
pub struct Table {
    statistics: Statistics,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Statistics {
    route_information: Information,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Information {
    route_table: Families,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Families {
    #[serde(default)]
    rt_family: Vec<Family>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Family {
    address_family: String,
    #[serde(default)]
    rt_entry: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    destination: String,
    #[serde(default)]
    gateway: String,
    #[serde(default)]
    flags: String,
    #[serde(default, rename = "interface-name")]
    interface: String,
}

impl Table {
    /// Every line, IPv4 before IPv6.
    pub fn lines(self) -> Vec<KernelRoute> {
        let families = self.statistics.route_information.route_table.rt_family.into_iter();
        let mut lines: Vec<KernelRoute> = families
            .flat_map(|family| {
                let inet6 = family.address_family == "Internet6";
                family.rt_entry.into_iter().map(move |entry| KernelRoute {
                    destination: entry.destination,
                    gateway: entry.gateway,
                    flags: entry.flags,
                    interface: entry.interface,
                    inet6,
                })
            })
            .collect();
        lines.sort_by_key(|line| line.inet6);
        lines
    }

    /// IPv4 routes; a default route through a link has no gateway address.
    pub fn inet(&self) -> Routes {
        let families = self.statistics.route_information.route_table.rt_family.iter();
        let mut routes = Routes::default();
        for entry in
            families.filter(|family| family.address_family == "Internet").flat_map(|family| &family.rt_entry)
        {
            routes.count += 1;
            if entry.destination == "default" {
                routes.gateway = routes.gateway.or_else(|| entry.gateway.parse().ok());
            }
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn routes_of_ipv4_alone() {
        let json = r#"{"statistics": {"route-information": {"route-table": {"rt-family": [
            {"address-family": "Internet", "rt-entry": [
                {"destination": "default", "gateway": "10.0.2.2", "flags": "UGS", "flags_pretty": ["up", "gateway", "static"],
                 "weight": 1, "nhop-kidx": 4, "interface-name": "vtnet0"},
                {"destination": "10.0.2.0/24", "gateway": "link#1", "flags": "U", "interface-name": "vtnet0"}]},
            {"address-family": "Internet6", "rt-entry": [
                {"destination": "default", "gateway": "fe80::1%vtnet0", "flags": "UGS"}]}
        ]}}}}"#;
        let table: Table = serde_json::from_str(json).unwrap();
        assert_eq!(table.inet(), Routes { gateway: Some("10.0.2.2".parse().unwrap()), count: 2 });
    }

    #[test]
    fn a_machine_without_routes() {
        let table: Table =
            serde_json::from_str(r#"{"statistics": {"route-information": {"route-table": {}}}}"#).unwrap();
        assert_eq!(table.inet(), Routes::default());
    }
}
