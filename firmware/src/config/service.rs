//! The daemons that the appliance runs, and which parts of the configuration are each one's. Called by `apply/`
//! (what an apply of one service takes over), by `services/` and the API.

use super::{Config, dhcp, dns, ids, proxy, time};

/// A daemon of the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKind {
    Dns,
    Dhcp,
    Time,
    Proxy,
    Ids,
}

impl ServiceKind {
    pub const ALL: [Self; 5] = [Self::Dns, Self::Dhcp, Self::Time, Self::Proxy, Self::Ids];

    /// The program's name, which is also its name under supervision and that of its directory.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Dns => "rdns",
            Self::Dhcp => "rdhcpd",
            Self::Time => "rtime",
            Self::Proxy => "trafficcop",
            Self::Ids => "suricata",
        }
    }

    /// As people call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dns => "rDNS",
            Self::Dhcp => "rDHCP",
            Self::Time => "rTIME",
            Self::Proxy => "TrafficCop",
            Self::Ids => "Suricata",
        }
    }

    /// Makes this service's part of `into` that of `from`; the rest of `into` stays.
    pub fn adopt(self, from: &Config, into: &mut Config) {
        match self {
            Self::Dns => dns::adopt(from, into),
            Self::Dhcp => dhcp::adopt(from, into),
            Self::Time => time::adopt(from, into),
            Self::Proxy => proxy::adopt(from, into),
            Self::Ids => ids::adopt(from, into),
        }
    }

    /// Whether it is to run.
    pub fn is_enabled(self, config: &Config) -> bool {
        match self {
            Self::Dns => config.dns_resolver.enabled,
            Self::Dhcp => config.dhcp.enabled,
            Self::Time => config.time.enabled,
            Self::Proxy => config.proxy.enabled,
            Self::Ids => config.ids.mode != ids::Mode::Disabled,
        }
    }

    /// Says whether it is to run. A service that is switched by a mode takes its plainest one.
    pub fn set_enabled(self, config: &mut Config, enabled: bool) {
        use std::sync::Arc;
        match self {
            Self::Dns => Arc::make_mut(&mut config.dns_resolver).enabled = enabled,
            Self::Dhcp => Arc::make_mut(&mut config.dhcp).enabled = enabled,
            Self::Time => Arc::make_mut(&mut config.time).enabled = enabled,
            Self::Proxy => Arc::make_mut(&mut config.proxy).enabled = enabled,
            Self::Ids => {
                let mode = &mut Arc::make_mut(&mut config.ids).mode;
                match (enabled, *mode) {
                    (false, _) => *mode = ids::Mode::Disabled,
                    (true, ids::Mode::Disabled) => *mode = ids::Mode::Ids,
                    (true, _) => {}
                }
            }
        }
    }
}
