//! Static routes (contract/network.md §3), as the configuration document has them (contract/config.md §2
//! `static_routes`), and what a request may say of one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Refusal, check_text, text_or_none};
use super::value::{epoch, id_or_new, plain_object, yes};
use super::{Config, Id, InterfaceName, Invalid, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaticRoute {
    #[serde(default = "Id::new_v4", deserialize_with = "id_or_new")]
    pub id: Id,
    pub destination: String,
    pub gateway: String,
    pub interface: Option<InterfaceName>,
    #[serde(default)]
    pub metric: i32,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub description: Option<String>,
    /// Routing table (setfib(1)).
    #[serde(default)]
    pub fib: u32,
    #[serde(default = "epoch")]
    pub created_at: Timestamp,
}
plain_object!(StaticRoute);

const EVERYWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
const EVERYWHERE6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);

/// Where a route leads, its host bits masked off; `default` is 0.0.0.0/0 or ::/0, as its gateway's family says.
pub fn destination(text: &str, gateway: IpAddr) -> Result<IpNet, Invalid> {
    let bad = || Invalid::new("destination", "expected default, an address, or a network such as 10.0.0.0/8");
    let text = text.trim();
    let net = match text {
        "default" if gateway.is_ipv4() => EVERYWHERE.into(),
        "default" => EVERYWHERE6.into(),
        _ if text.contains('/') => text.parse::<IpNet>().map_err(|_| bad())?,
        _ => text.parse::<IpAddr>().map_err(|_| bad())?.into(),
    };
    if net.addr().is_ipv4() != gateway.is_ipv4() {
        let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(Invalid::new("gateway", format!("expected an {family} address, as the destination")));
    }
    Ok(net.trunc())
}

/// As an administrator writes it: `default`, a host without its prefix length, or a network.
pub fn destination_text(net: &IpNet) -> String {
    match net {
        _ if net.prefix_len() == 0 => "default".into(),
        _ if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        _ => net.to_string(),
    }
}

impl StaticRoute {
    /// Destination and gateway as values; `Err` for one that was imported and is none.
    pub fn path(&self) -> Result<(IpNet, IpAddr), Invalid> {
        let gateway: IpAddr =
            self.gateway.trim().parse().map_err(|_| Invalid::new("gateway", "expected an IP address"))?;
        Ok((destination(&self.destination, gateway)?, gateway))
    }

    /// Refuses a route that is there under another id.
    pub fn refuse_twice(&self, config: &Config) -> Result<(), Refusal> {
        let Ok(path) = self.path() else { return Ok(()) };
        let twice = config
            .static_routes
            .iter()
            .any(|other| other.id != self.id && other.fib == self.fib && other.path() == Ok(path));
        match twice {
            true => Err(Refusal::Conflict(format!(
                "there is a route to {} through {} in FIB {} already",
                self.destination, self.gateway, self.fib
            ))),
            false => Ok(()),
        }
    }

    /// Place in lists, and in the order of installing.
    pub fn order(&self) -> (u32, i32, Timestamp, Id) {
        (self.fib, self.metric, self.created_at, self.id)
    }
}

/// Body of `POST /routes` and `PUT /routes/{id}`, a whole replacement.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RouteRequest {
    /// `default`, an address or a network.
    pub destination: String,
    /// An address of the same family.
    pub gateway: String,
    /// Through this interface.
    #[serde(default, deserialize_with = "text_or_none")]
    pub interface: Option<InterfaceName>,
    /// Of several routes to the same destination the lowest is installed.
    #[serde(default)]
    pub metric: i32,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub fib: u32,
}

impl RouteRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<StaticRoute, Refusal> {
        self.route(Id::new_v4(), now, config)
    }

    pub fn replace(self, stored: &StaticRoute, config: &Config) -> Result<StaticRoute, Refusal> {
        self.route(stored.id, stored.created_at, config)
    }

    fn route(self, id: Id, created_at: Timestamp, config: &Config) -> Result<StaticRoute, Refusal> {
        let gateway: IpAddr =
            self.gateway.trim().parse().map_err(|_| Invalid::new("gateway", "expected an IP address"))?;
        if gateway.is_unspecified() || gateway.is_multicast() {
            return Err(Invalid::new("gateway", "expected the address of a host").into());
        }
        let net = destination(&self.destination, gateway)?;
        let description = self.description.as_deref().map(str::trim).filter(|text| !text.is_empty());
        if let Some(text) = description {
            check_text("description", text, 255)?;
        }
        let route = StaticRoute {
            id,
            destination: destination_text(&net),
            gateway: gateway.to_string(),
            interface: self.interface,
            metric: self.metric,
            enabled: self.enabled,
            description: description.map(str::to_owned),
            fib: self.fib,
            created_at,
        };
        route.refuse_twice(config)?;
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn route(body: serde_json::Value, config: &Config) -> Result<StaticRoute, Refusal> {
        let request: RouteRequest = crate::config::request::parse(body.to_string().as_bytes())?;
        request.create(Timestamp::UNIX_EPOCH, config)
    }

    #[test]
    fn destinations_are_brought_to_one_form() {
        let config = Config::default();
        for (given, through, stored) in [
            ("default", "192.0.2.1", "default"),
            ("0.0.0.0/0", "192.0.2.1", "default"),
            ("::/0", "2001:db8::1", "default"),
            ("10.1.2.3/8", "192.0.2.1", "10.0.0.0/8"),
            ("10.1.2.3", "192.0.2.1", "10.1.2.3"),
            ("10.1.2.3/32", "192.0.2.1", "10.1.2.3"),
            ("2001:db8:1::5/48", "fe80::1", "2001:db8:1::/48"),
        ] {
            let made = route(json!({"destination": given, "gateway": through}), &config).unwrap();
            assert_eq!(
                (made.destination.as_str(), made.metric, made.fib, made.enabled),
                (stored, 0, 0, true)
            );
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        let mut config = Config::default();
        let there = route(json!({"destination": "10.0.0.0/8", "gateway": "192.0.2.1"}), &config).unwrap();
        config.static_routes.insert(there);
        for (body, expected) in [
            (json!({"destination": "not-an-ip", "gateway": "192.0.2.1"}), "destination: expected default"),
            (json!({"destination": "10.0.0.0/33", "gateway": "192.0.2.1"}), "destination: expected default"),
            (json!({"destination": "10.0.0.0/8", "gateway": "not-an-ip"}), "gateway: expected an IP address"),
            (
                json!({"destination": "10.0.0.0/8", "gateway": "192.0.2.0/24"}),
                "gateway: expected an IP address",
            ),
            (json!({"destination": "10.0.0.0/8", "gateway": "fe80::1"}), "gateway: expected an IPv4 address"),
            (json!({"destination": "2001:db8::/32", "gateway": "10.0.0.1"}), "gateway: expected an IPv6"),
            (json!({"gateway": "10.0.0.1"}), "body: missing field `destination`"),
            (json!({"destination": "10.9.9.9/8", "gateway": "192.0.2.1"}), "there is a route to 10.0.0.0/8"),
            (
                json!({"destination": "10.0.0.0/8", "gateway": "192.0.2.7", "interface": "em 0"}),
                "interface: ",
            ),
        ] {
            let said = route(body.clone(), &config).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{body}: {said}");
        }
        let other_table = json!({"destination": "10.0.0.0/8", "gateway": "192.0.2.1", "fib": 1});
        assert!(route(other_table, &config).is_ok());
    }
}
