//! Sources of live data that other areas fill in: intrusion detection, VPN, the daemons, countries. Until an
//! area gives one, its part of a tick is absent and its series are empty.

use std::net::IpAddr;
use std::sync::Arc;

use super::view::{AlertView, IdsView, ServiceView, TunnelView};
use crate::config::ServiceKind;
use crate::platform::geoip::GeoIp;
use crate::services::Services;
use crate::store::Store;

/// What the intrusion detection system tells. Counters are cumulative.
#[derive(Debug, Clone, Default)]
pub struct IdsSample {
    pub view: IdsView,
    /// Its ring of alerts: bytes used, bytes at most, alerts in it.
    pub buffer_bytes: u64,
    pub buffer_max_bytes: u64,
    pub buffer_count: u64,
    /// Alerts by kind.
    pub port_scans: u64,
    pub floods: u64,
    pub brute_force: u64,
}

/// The intrusion detection system. May block; asked every 5 s.
pub trait IdsSource: Send + Sync {
    /// `None` while it does not answer.
    fn sample(&self) -> Option<IdsSample>;
}

/// The VPN tunnels. May block; asked every 10 s.
pub trait VpnSource: Send + Sync {
    fn tunnels(&self) -> Vec<TunnelView>;
}

/// The daemons. May block; asked every 10 s. Exactly those of [`ServiceView::KINDS`], in that order.
pub trait ServiceSource: Send + Sync {
    fn services(&self) -> Vec<ServiceView>;
}

/// Which country an address belongs to. May block.
pub trait CountrySource: Send + Sync {
    /// ISO 3166-1 alpha-2.
    fn country(&self, ip: IpAddr) -> Option<String>;
}

impl CountrySource for GeoIp {
    fn country(&self, ip: IpAddr) -> Option<String> {
        self.database().locate(ip).country_code
    }
}

/// A line of the system log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemLine {
    pub at: crate::config::Timestamp,
    /// The program that wrote it.
    pub program: String,
    pub text: String,
}

/// The system log. May block; read when somebody asks for it.
pub trait SystemLog: Send + Sync {
    /// The newest `most` lines, newest first.
    fn tail(&self, most: usize) -> Vec<SystemLine>;
}

/// The intrusion detection as its engine and its alerts tell of it.
pub struct Intrusions {
    pub services: Services,
    pub store: Store,
    /// Alerts that were there at the last sample.
    pub before: std::sync::atomic::AtomicU64,
}

impl IdsSource for Intrusions {
    fn sample(&self) -> Option<IdsSample> {
        use std::sync::atomic::Ordering;
        let runner = self.services.runner(ServiceKind::Ids);
        if !runner.is_running() {
            return None;
        }
        let ids = self.services.ids();
        let engine = ids.stats.get(&runner.places().run.join("command.sock"));
        let settings = self.store.snapshot().applied.ids.clone();
        let usage = ids.alerts.usage();
        let newest = ids.alerts.newest_first();
        let kind = |words: &[&str]| {
            let names = |text: &str| words.iter().any(|word| text.contains(word));
            newest.iter().filter(|stored| names(&stored.alert.signature_msg.to_lowercase())).count() as u64
        };
        let recent = newest.iter().take(5).map(|stored| AlertView {
            severity: stored.alert.severity,
            signature_msg: stored.alert.signature_msg.clone(),
            src_ip: stored.alert.src_ip.to_string(),
            dst_ip: stored.alert.dst_ip.to_string(),
            protocol: stored.alert.protocol.clone(),
            timestamp: stored.alert.timestamp.to_string(),
        });
        Some(IdsSample {
            view: IdsView {
                running: engine.answers,
                mode: settings.mode.as_str().into(),
                loaded_rules: engine.rules_loaded,
                alerts_total: usage.total,
                drops_total: engine.blocked + ids.blocks.made(),
                packets_inspected: engine.packets,
                packets_per_sec: engine.packets_per_sec,
                bytes_per_sec: engine.bytes_per_sec,
                active_flows: engine.active_flows,
                recent_alerts: recent.collect(),
                alerts_delta: usage.total.saturating_sub(self.before.swap(usage.total, Ordering::Relaxed)),
            },
            buffer_bytes: usage.bytes,
            buffer_max_bytes: u64::from(settings.alert_buffer_mb) << 20,
            buffer_count: usage.count as u64,
            port_scans: kind(&["scan"]),
            floods: kind(&["dos ", "flood"]),
            brute_force: kind(&["brute"]),
        })
    }
}

/// The daemons as their supervisor and the applied configuration know them.
pub struct DaemonViews {
    pub services: Services,
    pub store: Store,
}

impl ServiceSource for DaemonViews {
    fn services(&self) -> Vec<ServiceView> {
        let applied = self.store.snapshot().applied.clone();
        ServiceView::KINDS
            .into_iter()
            .map(|kind| ServiceView {
                name: kind.label(),
                running: self.services.runner(kind).is_running(),
                enabled: kind.is_enabled(&applied),
            })
            .collect()
    }
}

/// The sources that are there.
#[derive(Clone, Default)]
pub struct Sources {
    pub ids: Option<Arc<dyn IdsSource>>,
    pub vpn: Option<Arc<dyn VpnSource>>,
    pub services: Option<Arc<dyn ServiceSource>>,
    pub countries: Option<Arc<dyn CountrySource>>,
    pub system_log: Option<Arc<dyn SystemLog>>,
}

impl ServiceView {
    /// The daemons of the appliance, as clients know them.
    pub const KINDS: [ServiceKind; 4] =
        [ServiceKind::Dns, ServiceKind::Dhcp, ServiceKind::Time, ServiceKind::Proxy];

    /// What is true while nothing starts them.
    pub fn none_installed() -> Vec<Self> {
        Self::KINDS.map(|kind| Self { name: kind.label(), running: false, enabled: false }).to_vec()
    }
}
