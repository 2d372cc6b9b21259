//! What a request says of an interface, and what an interface has after it (contract/network.md §1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Addressing, Inet, Inet6, RoleName};
use crate::config::request::{Word, check_text};
use crate::config::value::words;
use crate::config::{Config, Invalid, Refusal};

/// Bytes that an MTU may be: the kernel takes no less than 72 (IF_MINMTU).
pub const MTU: std::ops::RangeInclusive<u32> = 72..=9000;
/// IPv6 needs this much (RFC 8200 §5).
const MTU_OF_INET6: u32 = 1280;
/// `net.ifdescr_maxlen` less the NUL.
const DESCRIPTION: usize = 1023;

/// Words for a mode; which of them fit is the field's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ModeWord {
    None,
    Static,
    Dhcp,
    Slaac,
}
words!(ModeWord, "none, static, dhcp or slaac",
    "none" => Self::None, "static" => Self::Static, "dhcp" => Self::Dhcp, "slaac" => Self::Slaac);

/// Body of `PUT /interfaces/{name}/role`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RoleRequest {
    /// `WAN`, `LAN`, or another label.
    pub role: String,
}

impl RoleRequest {
    pub fn role(&self) -> Result<RoleName, Invalid> {
        RoleName::normal(&self.role).map_err(|bad| bad.field("role"))
    }
}

/// Body of `PUT /interfaces/config/{name}`; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InterfaceRequest {
    /// `dhcp`, `static` or `none`.
    #[schemars(with = "Option<ModeWord>")]
    pub ipv4_mode: Option<Word<ModeWord>>,
    /// With its prefix length, such as `192.168.1.1/24`; required with `static`.
    pub ipv4_address: Option<String>,
    /// `""` takes it away.
    pub gateway: Option<String>,
    /// `static`, `slaac` or `none`.
    #[schemars(with = "Option<ModeWord>")]
    pub ipv6_mode: Option<Word<ModeWord>>,
    /// Without a prefix length it is 64; `""` takes it away.
    pub ipv6_address: Option<String>,
    /// `""` takes it away; may be link-local.
    pub ipv6_gateway: Option<String>,
    pub mtu: Option<u32>,
    pub enabled: Option<bool>,
    /// `""` takes it away.
    pub description: Option<String>,
    /// Apply even if the caller's own connection is cut by it.
    pub confirm: bool,
    /// Open a commit-confirm window with the change: it is undone unless it is confirmed in time.
    pub commit_confirm: bool,
    /// Seconds of that window: 10 to 86,400, default 300.
    pub confirm_timeout: Option<u64>,
}

/// An MTU that an interface can be given.
pub(super) fn check_mtu(mtu: u32) -> Result<u16, Invalid> {
    let bad = || Invalid::new("mtu", format!("expected {} to {} bytes", MTU.start(), MTU.end()));
    u16::try_from(mtu).ok().filter(|_| MTU.contains(&mtu)).ok_or_else(bad)
}

/// An IPv4 address with its prefix, that a host can have.
pub(super) fn inet_address(field: &str, text: &str) -> Result<Ipv4Net, Invalid> {
    let own: Ipv4Net = text.trim().parse().map_err(|_| {
        Invalid::new(field, "expected an IPv4 address with its prefix length, such as 192.168.1.1/24")
    })?;
    let ip = own.addr();
    let edge = own.prefix_len() < 31 && (ip == own.network() || ip == own.broadcast());
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_loopback() || edge {
        return Err(Invalid::new(field, format!("expected the address of a host, not {ip}")));
    }
    Ok(own)
}

/// An IPv6 address that a host can have; `prefix` counts when none is told.
pub(super) fn inet6_address(field: &str, text: &str, prefix: u8) -> Result<Ipv6Net, Invalid> {
    let bad = || Invalid::new(field, "expected an IPv6 address, with or without a prefix length up to 128");
    let text = text.trim();
    let own: Ipv6Net = match text.contains('/') {
        true => text.parse().map_err(|_| bad())?,
        false => Ipv6Net::new(text.parse().map_err(|_| bad())?, prefix).map_err(|_| bad())?,
    };
    let ip = own.addr();
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err(Invalid::new(field, format!("expected the address of a host, not {ip}")));
    }
    if ip.is_unicast_link_local() {
        return Err(Invalid::new(field, "expected no link-local address: each interface has its own"));
    }
    Ok(own)
}

/// A gateway in the network of an interface, or `None` for `""`.
pub(super) fn inet_gateway(
    field: &str,
    text: &str,
    own: Option<Ipv4Net>,
) -> Result<Option<Ipv4Addr>, Invalid> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let gateway: Ipv4Addr =
        text.trim().parse().map_err(|_| Invalid::new(field, "expected an IPv4 address"))?;
    let Some(own) = own else {
        return Err(Invalid::new(field, "expected only with a static address"));
    };
    let edge = own.prefix_len() < 31 && (gateway == own.network() || gateway == own.broadcast());
    if !own.contains(&gateway) || gateway == own.addr() || edge {
        return Err(Invalid::new(field, format!("expected another host of {}", own.trunc())));
    }
    Ok(Some(gateway))
}

/// As [`inet_gateway`], for IPv6.
pub(super) fn inet6_gateway(
    field: &str,
    text: &str,
    own: Option<Ipv6Net>,
) -> Result<Option<Ipv6Addr>, Invalid> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let gateway: Ipv6Addr =
        text.trim().parse().map_err(|_| Invalid::new(field, "expected an IPv6 address"))?;
    if gateway.is_unicast_link_local() {
        return Ok(Some(gateway));
    }
    match own {
        Some(own) if own.contains(&gateway) && gateway != own.addr() => Ok(Some(gateway)),
        Some(own) => Err(Invalid::new(field, format!("expected another host of {}", own.trunc()))),
        None => Err(Invalid::new(field, "expected a link-local address, or one of a static network")),
    }
}

/// IPv4 and its gateway as a request wants them; `stored` is what was there.
pub(super) fn inet(
    mode: Option<ModeWord>,
    address: Option<&str>,
    gateway: Option<&str>,
    stored: (Inet, Option<Ipv4Addr>),
) -> Result<(Inet, Option<Ipv4Addr>), Invalid> {
    let given = address.map(str::trim).filter(|text| !text.is_empty());
    let wanted = match (mode, stored.0) {
        (Some(ModeWord::Dhcp), _) => Inet::Dhcp,
        (Some(ModeWord::None), _) => Inet::None,
        (Some(ModeWord::Slaac), _) => {
            return Err(Invalid::new("ipv4_mode", "expected dhcp, static or none"));
        }
        (Some(ModeWord::Static), _) => match given {
            Some(text) => Inet::Static(inet_address("ipv4_address", text)?),
            None => return Err(Invalid::new("ipv4_address", "expected, since ipv4_mode is static")),
        },
        (None, Inet::Static(own)) => match given {
            Some(text) => Inet::Static(inet_address("ipv4_address", text)?),
            None => Inet::Static(own),
        },
        (None, _) if given.is_some() => {
            return Err(Invalid::new("ipv4_address", "expected only with ipv4_mode static"));
        }
        (None, stored) => stored,
    };
    let own = if let Inet::Static(own) = wanted { Some(own) } else { None };
    let gateway = match (gateway, own) {
        // Who gives the address gives the gateway.
        (_, None) if mode.is_some() => None,
        (Some(text), own) => inet_gateway("gateway", text, own)?,
        (None, Some(own)) => stored.1.filter(|gateway| own.contains(gateway) && *gateway != own.addr()),
        (None, None) => None,
    };
    Ok((wanted, gateway))
}

/// IPv6 and its gateway as a request wants them; `present` are the addresses that the interface has now, one of which
/// may come back from a form as it was read.
pub(super) fn inet6(
    mode: Option<ModeWord>,
    address: Option<&str>,
    gateway: Option<&str>,
    stored: (Inet6, Option<Ipv6Addr>),
    present: &[IpNet],
) -> Result<(Inet6, Option<Ipv6Addr>), Invalid> {
    let told = |text: &str| {
        let bare = text.trim().parse::<IpAddr>().ok();
        let known = bare.and_then(|ip| present.iter().find(|own| own.addr() == ip));
        inet6_address("ipv6_address", text, known.map_or(64, IpNet::prefix_len))
    };
    let given = address.map(str::trim);
    let wanted = match (mode, given) {
        (Some(ModeWord::Dhcp), _) => {
            return Err(Invalid::new(
                "ipv6_mode",
                "expected static, slaac or none: FreeBSD's base system has no DHCPv6 client",
            ));
        }
        (Some(ModeWord::None), _) => Inet6::None,
        (Some(ModeWord::Slaac), _) => Inet6::Slaac,
        (Some(ModeWord::Static), Some(text)) if !text.is_empty() => Inet6::Static(told(text)?),
        (Some(ModeWord::Static), _) => {
            return Err(Invalid::new("ipv6_address", "expected, since ipv6_mode is static"));
        }
        (None, None) => stored.0,
        (None, Some("")) => {
            if stored.0 == Inet6::Slaac {
                Inet6::Slaac
            } else {
                Inet6::None
            }
        }
        (None, Some(text)) => {
            let own = told(text)?;
            let same = !text.contains('/') && present.iter().any(|held| held.addr() == own.addr());
            if same && stored.0 != Inet6::None { stored.0 } else { Inet6::Static(own) }
        }
    };
    let own = if let Inet6::Static(own) = wanted { Some(own) } else { None };
    let gateway = match gateway {
        Some(text) => inet6_gateway("ipv6_gateway", text, own)?,
        None => stored.1.filter(|gateway| {
            wanted != Inet6::None
                && (gateway.is_unicast_link_local() || own.is_some_and(|own| own.contains(gateway)))
        }),
    };
    Ok((wanted, gateway))
}

pub(super) fn description(text: &str) -> Result<Option<String>, Invalid> {
    let text = text.trim();
    check_text("description", text, DESCRIPTION)?;
    if text.len() > DESCRIPTION {
        return Err(Invalid::new("description", format!("expected at most {DESCRIPTION} bytes")));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

impl Addressing {
    /// What must hold whoever says it.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(mtu) = self.mtu {
            check_mtu(mtu.into())?;
            if self.inet6 != Inet6::None && u32::from(mtu) < MTU_OF_INET6 {
                return Err(Invalid::new("mtu", format!("expected {MTU_OF_INET6} bytes or more with IPv6")));
            }
        }
        if let Inet::Static(own) = self.inet {
            inet_address("ipv4_address", &own.to_string())?;
        }
        if let Inet6::Static(own) = self.inet6 {
            inet6_address("ipv6_address", &own.to_string(), 64)?;
        }
        self.description.as_deref().map_or(Ok(None), description).map(|_| ())
    }

    /// Refuses an address that another interface is given, too.
    pub fn check_against(&self, config: &Config, name: &str) -> Result<(), Refusal> {
        let others =
            super::interfaces(config).into_iter().map(|row| (row.name.clone(), row.addressing.clone()));
        let vlans = config.vlans.iter().map(|vlan| (vlan.device.clone(), vlan.addressing.clone()));
        for (other, theirs) in others.chain(vlans).filter(|(other, _)| other.as_str() != name) {
            let same = theirs.addresses().find(|held| self.addresses().any(|own| own.addr() == held.addr()));
            if let Some(address) = same {
                return Err(Refusal::Conflict(format!("{} is the address of {other}", address.addr())));
            }
        }
        Ok(())
    }
}

impl InterfaceRequest {
    /// What the interface is to have. `stored` is what it is to have without this; `present` are its addresses now.
    pub fn addressing(&self, stored: &Addressing, present: &[IpNet]) -> Result<Addressing, Invalid> {
        let (inet, gateway) = inet(
            self.ipv4_mode.map(|word| word.0),
            self.ipv4_address.as_deref(),
            self.gateway.as_deref(),
            (stored.inet, stored.gateway),
        )?;
        let (inet6, gateway6) = inet6(
            self.ipv6_mode.map(|word| word.0),
            self.ipv6_address.as_deref(),
            self.ipv6_gateway.as_deref(),
            (stored.inet6, stored.gateway6),
            present,
        )?;
        let wanted = Addressing {
            enabled: self.enabled.unwrap_or(stored.enabled),
            mtu: self.mtu.map(check_mtu).transpose()?.or(stored.mtu),
            inet,
            inet6,
            gateway,
            gateway6,
            description: match &self.description {
                Some(text) => description(text)?,
                None => stored.description.clone(),
            },
        };
        wanted.check()?;
        Ok(wanted)
    }
}
