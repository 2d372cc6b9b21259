//! The shapes that clients see: what a tick, a status answer and a history entry consist of
//! (contract/live.md §1, §2, §9.3). Filled by the sampler; the API serialises them as they are.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

/// The packet filter and the rules at a glance: `status` of a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    pub pf_running: bool,
    pub pf_states: u64,
    /// Filter rules of pf's main ruleset.
    pub pf_rules: u64,
    /// Stored filter rules.
    pub aifw_rules: u64,
    pub aifw_active_rules: u64,
    pub nat_rules: u64,
    /// Passed packets and bytes, all interfaces but `lo*` and `pflog*`.
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// Where memory is, in MiB where the name ends in `_mb`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct MemoryBreakdown {
    pub active_mb: f64,
    pub inactive_mb: f64,
    pub wired_mb: f64,
    pub cached_mb: f64,
    pub free_mb: f64,
    /// Resident size of this process.
    pub api_rss_mb: f64,
    /// Always 0: there is no second process.
    pub daemon_rss_mb: f64,
    pub ids_buffer_mb: f64,
    pub ids_buffer_max_mb: f64,
    pub ids_buffer_count: u64,
    pub metrics_history_count: u64,
    pub metrics_history_mb: f64,
    pub pf_states: u64,
    pub pf_states_max: u64,
    pub db_size_mb: f64,
    pub arc_mb: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct DiskUse {
    pub mount: String,
    pub filesystem: String,
    pub total: u64,
    pub used: u64,
    pub pct: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct DiskRates {
    pub reads_per_sec: f64,
    pub writes_per_sec: f64,
    pub read_kbps: f64,
    pub write_kbps: f64,
}

/// Vital signs: `system` of a tick.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct SystemView {
    /// Percent of all cores since the sample before.
    pub cpu_usage: f64,
    pub cpu_cores: u32,
    pub memory_total: u64,
    pub memory_used: u64,
    pub memory_pct: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_breakdown: Option<MemoryBreakdown>,
    /// `/` first.
    pub disks: Vec<DiskUse>,
    pub disk_io: DiskRates,
    pub uptime_secs: u64,
    pub hostname: String,
    pub os_version: String,
    pub dns_servers: Vec<IpAddr>,
    /// `""` if there is none.
    pub default_gateway: String,
    pub route_count: u64,
}

/// An interface with its cumulative counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InterfaceView {
    pub name: String,
    /// First IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its network: `10.0.0.0/24`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// As assigned: `WAN`, `LAN` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub packets_in: u64,
    pub packets_out: u64,
}

/// A daemon of the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceView {
    pub name: &'static str,
    pub running: bool,
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PeerView {
    pub public_key: String,
    pub endpoint: Option<String>,
    /// −1 = never.
    pub latest_handshake_secs_ago: i64,
    pub transfer_rx: u64,
    pub transfer_tx: u64,
}

/// A VPN tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TunnelView {
    pub id: String,
    pub name: String,
    pub interface_name: String,
    pub running: bool,
    pub peers: Vec<PeerView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AlertView {
    /// 1 to 4.
    pub severity: u8,
    pub signature_msg: String,
    pub src_ip: String,
    pub dst_ip: String,
    pub protocol: String,
    pub timestamp: String,
}

/// The intrusion detection system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct IdsView {
    pub running: bool,
    /// `ids`, `ips` or `disabled`.
    pub mode: String,
    pub loaded_rules: u64,
    pub alerts_total: u64,
    pub drops_total: u64,
    pub packets_inspected: u64,
    pub packets_per_sec: f64,
    pub bytes_per_sec: f64,
    pub active_flows: u64,
    /// At most 5, newest first.
    pub recent_alerts: Vec<AlertView>,
    /// New alerts since the tick before.
    pub alerts_delta: u64,
}

/// What a history entry keeps of [`IdsView`].
#[derive(Debug, Clone, Serialize)]
pub struct SlimIds {
    pub alerts_total: u64,
    pub drops_total: u64,
    pub packets_inspected: u64,
    pub packets_per_sec: f64,
    pub active_flows: u64,
    pub running: bool,
}

impl From<&IdsView> for SlimIds {
    fn from(ids: &IdsView) -> Self {
        Self {
            alerts_total: ids.alerts_total,
            drops_total: ids.drops_total,
            packets_inspected: ids.packets_inspected,
            packets_per_sec: ids.packets_per_sec,
            active_flows: ids.active_flows,
            running: ids.running,
        }
    }
}

/// How many states there are, by protocol, over the full table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConnectionSummary {
    pub total: u64,
    pub tcp: u64,
    pub udp: u64,
    /// `icmp` and `ipv6-icmp`.
    pub icmp: u64,
    pub other: u64,
}

/// A host that opened connections, and what they carried both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Talker {
    pub ip: IpAddr,
    pub bytes: u64,
    pub connections: u64,
}

/// A state of pf, the originator as source. In ticks without `iface` and `rtable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Connection<'a> {
    pub id: u64,
    pub protocol: &'a str,
    pub src_addr: IpAddr,
    pub src_port: u16,
    pub dst_addr: IpAddr,
    pub dst_port: u16,
    pub state: &'a str,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub age_secs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iface: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtable: Option<u32>,
}

/// A change in the cluster: `event` of a cluster frame (contract/live.md §9.5). The cluster area produces them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClusterEvent {
    RoleChanged {
        from: ClusterRole,
        to: ClusterRole,
        /// 0 = all.
        vhid: u8,
    },
    HealthChanged {
        check: String,
        healthy: bool,
        detail: Option<String>,
    },
    Metrics {
        pfsync_in: u64,
        pfsync_out: u64,
        state_count: u64,
        ts_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterRole {
    Primary,
    Secondary,
    Standalone,
    Unknown,
}

const MIB: f64 = 1024.0 * 1024.0;

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// `part` of `whole` in percent, 0 to 100; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 100.0 / whole as f64).clamp(0.0, 100.0) }
}
