//! Which address a record is to have now.

use std::net::IpAddr;
use std::time::Duration;

use super::zone::Endpoints;
use crate::config::dynamic_dns::{AddressSource, DdnsRecord, DdnsSettings};
use crate::platform::{Interface, fetch};

/// Why no address was found.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error("{interface} has no usable {family} address")]
    Interface { interface: String, family: &'static str },
    #[error("interfaces cannot be read: {0}")]
    Platform(String),
    #[error("no {0} address is given")]
    Explicit(&'static str),
    #[error("{0}")]
    Echo(String),
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn word(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// Not loopback, link-local or unique local.
fn usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            !v6.is_loopback()
                && !v6.is_unspecified()
                && (first & 0xffc0) != 0xfe80
                && (first & 0xfe00) != 0xfc00
        }
    }
}

/// The first usable address of an interface.
pub fn of_interface(interfaces: &[Interface], name: &str, family: Family) -> Option<IpAddr> {
    let own = interfaces.iter().find(|interface| interface.name == name)?;
    let mut addresses = own.addresses.iter().map(ipnet::IpNet::addr);
    addresses.find(|address| family.has(*address) && usable(*address))
}

/// The address that a server sees us come from, as it answers: text, nothing else.
fn echoed(url: &str, family: Family, endpoints: &Endpoints) -> Result<IpAddr, DetectError> {
    let family_only = match family {
        Family::V4 => ureq::config::IpFamily::Ipv4Only,
        Family::V6 => ureq::config::IpFamily::Ipv6Only,
    };
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .ip_family(family_only)
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("aifw/", env!("CARGO_PKG_VERSION")))
        .build();
    let failed = |reason: String| DetectError::Echo(format!("{url}: {reason}"));
    let mut response =
        fetch::agent(config, endpoints.reach).get(url).call().map_err(|error| failed(error.to_string()))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(failed(format!("status {status}")));
    }
    let text = response.body_mut().with_config().limit(1024).read_to_string();
    let text = text.map_err(|error| failed(error.to_string()))?;
    let address = text.trim().parse::<IpAddr>().ok().filter(|address| family.has(*address));
    address.ok_or_else(|| failed(format!("the answer is no {} address", family.name())))
}

/// The address of a record in a family. Blocks.
pub fn detect(
    record: &DdnsRecord,
    family: Family,
    settings: &DdnsSettings,
    endpoints: &Endpoints,
    interfaces: impl FnOnce() -> Result<Vec<Interface>, String>,
) -> Result<IpAddr, DetectError> {
    match record.source {
        AddressSource::Explicit => {
            let given = record.explicit_ip.filter(|address| family.has(*address));
            given.ok_or(DetectError::Explicit(family.name()))
        }
        AddressSource::Interface => {
            let name = record.interface.as_ref().map(ToString::to_string).unwrap_or_default();
            let found = of_interface(&interfaces().map_err(DetectError::Platform)?, &name, family);
            found.ok_or_else(|| DetectError::Interface { interface: name, family: family.name() })
        }
        AddressSource::AutoPublic => {
            let (configured, other) = match family {
                Family::V4 => (&settings.ip_echo_url_v4, &endpoints.echo_v4),
                Family::V6 => (&settings.ip_echo_url_v6, &endpoints.echo_v6),
            };
            echoed(other.as_ref().unwrap_or(configured), family, endpoints)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_usable_address_of_an_interface() {
        let interface = Interface {
            name: "em0".into(),
            addresses: [
                "127.0.0.9/8",
                "169.254.3.1/16",
                "10.0.0.1/24",
                "10.0.0.2/24",
                "fe80::1/64",
                "fd00::1/64",
                "2600::7/64",
            ]
            .map(|text| text.parse().unwrap())
            .to_vec(),
            ..Interface::default()
        };
        let of = |name: &str, family| of_interface(std::slice::from_ref(&interface), name, family);
        assert_eq!(of("em0", Family::V4), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(of("em0", Family::V6), Some("2600::7".parse().unwrap()));
        assert_eq!(of("em1", Family::V4), None);
    }

    #[test]
    fn an_echo_service_on_the_inside_is_not_asked() {
        let settings =
            DdnsSettings { ip_echo_url_v4: "http://127.0.0.1:9/".into(), ..DdnsSettings::default() };
        let refused = echoed(&settings.ip_echo_url_v4, Family::V4, &Endpoints::default()).unwrap_err();
        assert!(refused.to_string().contains("is not a public address"), "{refused}");
    }
}
