//! Reservations: which client always gets which address.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DhcpReservation, DhcpSubnet, names};
use crate::config::{Config, Id, Invalid, Refusal, Timestamp};

/// Body of POST and PUT. PUT replaces all of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ReservationRequest {
    mac_address: String,
    ip_address: String,
    #[serde(default)]
    subnet_id: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    description: Option<String>,
}

fn text(given: Option<String>) -> Option<String> {
    given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn expected(field: &str, what: impl std::fmt::Display) -> Invalid {
    Invalid::new(field, format!("expected {what}"))
}

impl DhcpReservation {
    /// The subnet that it belongs to: the one it names, else the enabled one that contains its address.
    pub fn subnet<'a>(&self, config: &'a Config) -> Option<&'a Arc<DhcpSubnet>> {
        match self.subnet_id.as_ref().filter(|id| !id.is_empty()) {
            Some(id) => id.parse::<Id>().ok().and_then(|id| config.dhcp_subnets.get(&id)),
            None => {
                let ip: IpAddr = self.ip_address.parse().ok()?;
                let holds = |subnet: &&Arc<DhcpSubnet>| {
                    subnet.enabled && subnet.net().is_some_and(|network| network.contains(&ip))
                };
                config.dhcp_subnets.iter().find(holds)
            }
        }
    }
}

impl ReservationRequest {
    /// The reservation that this makes; `stored` is the one that it replaces.
    pub fn reservation(
        self,
        stored: Option<&DhcpReservation>,
        now: Timestamp,
        config: &Config,
    ) -> Result<DhcpReservation, Refusal> {
        let client_id = text(self.client_id)
            .map(|id| {
                names::client_id(&id)
                    .ok_or_else(|| expected("client_id", "an even number of hexadecimal digits"))
            })
            .transpose()?;
        let given = self.mac_address.trim();
        let mac_address = match given.is_empty() && client_id.is_some() {
            true => String::new(),
            false => names::mac(given)
                .ok_or_else(|| expected("mac_address", "six hexadecimal octets such as 00:11:22:33:44:55"))?,
        };
        let ip: IpAddr =
            self.ip_address.trim().parse().map_err(|_| expected("ip_address", "an IP address"))?;
        let hostname = text(self.hostname);
        if hostname.as_deref().is_some_and(|name| !names::is_host(name)) {
            return Err(expected("hostname", "one label of letters, digits and hyphens").into());
        }
        let description = text(self.description);
        if let Some(description) = &description {
            crate::config::request::check_text("description", description, 255)?;
        }
        let reservation = DhcpReservation {
            id: stored.map_or_else(Id::new_v4, |reservation| reservation.id),
            subnet_id: text(self.subnet_id),
            mac_address,
            ip_address: ip.to_string(),
            hostname,
            client_id,
            description,
            created_at: stored.map_or(now, |reservation| reservation.created_at),
        };
        let subnet = reservation.subnet(config);
        if reservation.subnet_id.is_some() && subnet.is_none() {
            return Err(expected("subnet_id", "the id of a subnet").into());
        }
        if let Some(subnet) = subnet {
            if subnet.net().is_some_and(|network| !network.contains(&ip)) {
                return Err(expected("ip_address", format!("an address in {}", subnet.network)).into());
            }
            if subnet.gateway.parse() == Ok(ip) {
                return Err(expected("ip_address", "an address that is not the gateway's").into());
            }
        }
        let same_subnet = |other: &DhcpReservation| {
            other.subnet(config).map(|subnet| subnet.id) == subnet.map(|subnet| subnet.id)
        };
        for other in config.dhcp_reservations.iter().filter(|other| other.id != reservation.id) {
            let clash = if other.ip_address.parse() == Ok(ip) {
                Some(format!("ip_address: {ip}"))
            } else if !same_subnet(other) {
                None
            } else if !reservation.mac_address.is_empty() && other.mac_address == reservation.mac_address {
                Some(format!("mac_address: {}", reservation.mac_address))
            } else if reservation.client_id.is_some() && other.client_id == reservation.client_id {
                reservation.client_id.as_ref().map(|id| format!("client_id: {id}"))
            } else {
                None
            };
            if let Some(clash) = clash {
                return Err(Refusal::Conflict(format!("{clash} is reserved already")));
            }
        }
        Ok(reservation)
    }
}
