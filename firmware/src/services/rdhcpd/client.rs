//! The daemon's own HTTP API, on loopback and with its key. Blocking.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::services::{Places, dhcp};
use crate::config::{Config, ServiceKind, Timestamp};
use crate::services::{ServiceError, api_key};

/// Leases in one answer at most.
const PAGE: usize = 5000;

/// A client of the running daemon.
pub struct Client {
    agent: ureq::Agent,
    base: String,
    key: String,
}

/// A lease, as the daemon tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Lease {
    pub ip: IpAddr,
    #[serde(default)]
    pub mac: Option<String>,
    #[serde(default)]
    pub client_id: Option<String>,
    #[serde(default)]
    pub hostname: Option<String>,
    /// Seconds.
    pub lease_time: u32,
    /// `offered`, `bound`, `expired`, `released` or `declined`.
    pub state: String,
    /// Unix seconds; 0 = none.
    pub start_time: i64,
    pub expire_time: i64,
    pub subnet: String,
}

impl Lease {
    pub fn starts(&self) -> Option<Timestamp> {
        moment(self.start_time)
    }
    pub fn expires(&self) -> Option<Timestamp> {
        moment(self.expire_time)
    }
}

fn moment(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok().filter(|_| seconds != 0)
}

/// How full a subnet is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolStats {
    pub subnet: String,
    pub total: u64,
    pub allocated: u64,
    pub available: u64,
    /// Percent.
    pub utilization: f64,
}

/// `/health` of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Health {
    pub version: String,
    /// What no other program's `/health` tells.
    pub ha_mode: String,
}

impl Client {
    /// For a daemon that runs with this configuration.
    pub fn new(config: &Config, places: &Places) -> Result<Self, ServiceError> {
        Ok(Self::at(dhcp::api(config), api_key(places)?, Duration::from_secs(3)))
    }

    pub(super) fn at(place: SocketAddr, key: String, patience: Duration) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            .build()
            .into();
        Self { agent, base: format!("http://{place}"), key }
    }

    fn unreachable(reason: impl std::fmt::Display) -> ServiceError {
        ServiceError::Unreachable { service: ServiceKind::Dhcp.label(), reason: reason.to_string() }
    }

    fn text(&self, path: &str) -> Result<String, ServiceError> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("X-API-Key", &self.key);
        let mut answer = request.call().map_err(Self::unreachable)?;
        let status = answer.status();
        let body =
            answer.body_mut().with_config().limit(64 << 20).read_to_string().map_err(Self::unreachable)?;
        if status.is_success() { Ok(body) } else { Err(Self::unreachable(format!("{path}: {status}"))) }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        serde_json::from_str(&self.text(path)?).map_err(Self::unreachable)
    }

    pub fn health(&self) -> Result<Health, ServiceError> {
        self.json("/health")
    }

    /// Prometheus' text format.
    pub fn metrics(&self) -> Result<String, ServiceError> {
        self.text("/metrics")
    }

    /// Sorted by network.
    pub fn pool_stats(&self) -> Result<Vec<PoolStats>, ServiceError> {
        let mut stats: Vec<PoolStats> = self.json("/api/v1/leases/stats")?;
        let network = |stats: &PoolStats| {
            let net: Option<ipnet::IpNet> = stats.subnet.parse().ok();
            (net.map(|net| (net.addr(), net.prefix_len())), stats.subnet.clone())
        };
        stats.sort_by_key(network);
        Ok(stats)
    }

    /// All leases in one state, or in any; the daemon gives them in parts.
    pub fn leases(&self, state: Option<&str>) -> Result<Vec<Lease>, ServiceError> {
        let filter = state.map(|state| format!("&state={state}")).unwrap_or_default();
        let mut all = Vec::new();
        // Leases come and go between two parts, so that one may stand in both.
        let mut seen = std::collections::HashSet::new();
        let mut offset = 0;
        loop {
            let part: Vec<Lease> =
                self.json(&format!("/api/v1/leases?limit={PAGE}&offset={offset}{filter}"))?;
            let last = part.len() < PAGE;
            offset += part.len();
            all.extend(part.into_iter().filter(|lease| seen.insert(lease.ip)));
            if last {
                return Ok(all);
            }
        }
    }

    /// Forgets a lease; `false` = there is none of this address.
    pub fn release(&self, ip: IpAddr) -> Result<bool, ServiceError> {
        let url = format!("{}/api/v1/leases/{ip}", self.base);
        let answer =
            self.agent.delete(url).header("X-API-Key", &self.key).call().map_err(Self::unreachable)?;
        match answer.status().as_u16() {
            404 => Ok(false),
            200..=299 => Ok(true),
            status => Err(Self::unreachable(format!("{ip}: {status}"))),
        }
    }
}
