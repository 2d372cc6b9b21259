//! The one producer: once a second it looks at the packet filter, the machine, the store and the request
//! counters, and makes of it one sample, one row of the series, one history entry and, while somebody listens,
//! one tick. Slow sources are asked at the pace noted at each, and none is waited for longer than
//! [`PATIENCE`](super::source::PATIENCE).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future::zip;

use super::Inner;
use super::rates::{Gauge, Meter, Threats};
use super::series::{Name, Values};
use super::source::{PATIENCE, Source};
use super::sources::IdsSample;
use super::states::StateTable;
use super::tick::{BLOCKED, Sample, Tick};
use super::view::{
    DiskRates, DiskUse, InterfaceView, MemoryBreakdown, ServiceView, Status, SystemView, TunnelView, mib,
    percent,
};
use crate::config::System;
use crate::pf::{InterfaceCounters, Pf, PfInfo};
use crate::platform::{Interface, Vitals};
use crate::store::Snapshot;

/// The pace of each source, in ticks.
mod pace {
    pub const RULES: u64 = 10;
    pub const STATE_LIMIT: u64 = 30;
    /// The state table while nobody listens; every tick otherwise.
    pub const STATES_IDLE: u64 = 10;
    pub const IDS: u64 = 5;
    pub const VPN: u64 = 10;
    pub const SERVICES: u64 = 10;
    pub const MEMORY: u64 = 10;
}

/// When a tick is: the wall clock as Unix milliseconds, and the clock that intervals are measured with.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub unix_ms: i64,
    pub at: Instant,
}

impl Moment {
    /// The moment that was due at `deadline`, as the wall clock has it.
    pub fn due_at(deadline: Instant) -> Self {
        let at = Instant::now();
        let late = at.saturating_duration_since(deadline).as_millis() as i64;
        Self { unix_ms: jiff::Timestamp::now().as_millisecond() - late, at }
    }
}

/// What pf tells every second.
struct PfSample {
    info: PfInfo,
    interfaces: Vec<InterfaceCounters>,
}

/// Answers that may fail are kept as `None`: the reason is of no use to a chart.
pub struct Sampler {
    inner: Arc<Inner>,
    number: u64,
    last_second: Option<u32>,
    revision: Option<u64>,
    pf: Source<Option<PfSample>>,
    rules: Source<Option<u64>>,
    state_limit: Source<Option<u64>>,
    states: Source<Option<Arc<StateTable>>>,
    vitals: Source<Option<Vitals>>,
    interfaces: Source<Option<Vec<Interface>>>,
    ids: Source<Option<IdsSample>>,
    vpn: Source<Vec<TunnelView>>,
    services: Source<Vec<ServiceView>>,
    db_size: Source<u64>,
    memory: MemoryBreakdown,
    traffic: Meter<4>,
    new_states: Meter<1>,
    requests: Meter<2>,
    disk: Meter<4>,
    threats: Threats,
    cpu: Gauge,
    alerts_seen: Option<u64>,
}

impl Sampler {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            number: 0,
            last_second: None,
            revision: None,
            pf: Source::default(),
            rules: Source::default(),
            state_limit: Source::default(),
            states: Source::default(),
            vitals: Source::default(),
            interfaces: Source::default(),
            ids: Source::default(),
            vpn: Source::default(),
            services: Source::default(),
            db_size: Source::default(),
            memory: MemoryBreakdown::default(),
            traffic: Meter::default(),
            new_states: Meter::default(),
            requests: Meter::default(),
            disk: Meter::default(),
            threats: Threats::default(),
            cpu: Gauge::default(),
            alerts_seen: None,
        }
    }

    /// One second: exactly one sample, series row, history entry, and tick.
    pub async fn tick(&mut self, now: Moment) {
        let snapshot = self.inner.store.snapshot();
        let listened = self.inner.fanout.listening() > 0;
        let fresh = self.ask_all(listened, &snapshot).await;
        let mut values = Values::default();
        let sample = Arc::new(self.sample(now, &snapshot, &fresh, &mut values));
        let second = self.second(now.unix_ms);
        self.inner.record(second, &values, &sample, snapshot.config.dashboard.history_seconds as usize);
        if listened {
            let states = self.inner.newest_states();
            let blocked = self.inner.blocked().newest_blocked(BLOCKED);
            self.inner.publish(Arc::new(Tick::new(sample, states, blocked)));
        }
        self.number += 1;
    }

    /// Asks every source that is due, all at once.
    async fn ask_all(&mut self, listened: bool, snapshot: &Snapshot) -> Fresh {
        let tick = self.number;
        let direct = self.inner.pf.is_simulated();
        let changed = self.revision.replace(snapshot.revision) != Some(snapshot.revision);
        let (pf, platform) = (&self.inner.pf, &self.inner.platform);

        let pf_now = {
            let pf = pf.clone();
            self.pf.ask(tick, direct, PATIENCE, move || read_pf(&*pf))
        };
        let rules = ask_if(changed || self.rules.is_due(tick, pace::RULES), async {
            let pf = pf.clone();
            let count = move || pf.rules(None).ok().map(|(_, filter)| filter.len() as u64);
            self.rules.ask(tick, direct, PATIENCE, count).await
        });
        let limit = ask_if(self.state_limit.is_due(tick, pace::STATE_LIMIT), async {
            let pf = pf.clone();
            self.state_limit.ask(tick, direct, PATIENCE, move || pf.state_limit().ok()).await
        });
        let every = if listened { 1 } else { pace::STATES_IDLE };
        let states = ask_if(self.states.is_due(tick, every), async {
            let pf = pf.clone();
            let read = move || {
                let table = StateTable::new(Instant::now(), pf.states().ok()?);
                // While nobody looks at the entries, only what was counted is kept of them.
                Some(Arc::new(if listened { table } else { table.without_entries() }))
            };
            // Sorting a long table takes a while: never on the executor's thread.
            self.states.ask(tick, false, PATIENCE, read).await
        });
        let vitals = {
            let platform = platform.clone();
            self.vitals.ask(tick, false, PATIENCE, move || platform.vitals().ok())
        };
        let interfaces = {
            let platform = platform.clone();
            self.interfaces.ask(tick, false, PATIENCE, move || platform.interfaces().ok())
        };
        let ids = ask_if(self.ids.is_due(tick, pace::IDS), async {
            let Some(source) = self.inner.sources.ids.clone() else { return false };
            self.ids.ask(tick, false, PATIENCE, move || source.sample()).await
        });
        let vpn = ask_if(self.vpn.is_due(tick, pace::VPN), async {
            let Some(source) = self.inner.sources.vpn.clone() else { return false };
            self.vpn.ask(tick, false, PATIENCE, move || source.tunnels()).await
        });
        let services = ask_if(self.services.is_due(tick, pace::SERVICES), async {
            let Some(source) = self.inner.sources.services.clone() else { return false };
            self.services.ask(tick, false, PATIENCE, move || source.services()).await
        });
        let db_size = ask_if(self.db_size.is_due(tick, pace::MEMORY), async {
            let Some(path) = self.inner.state_dir.as_ref().map(|dir| dir.join("aifw.redb")) else {
                return false;
            };
            self.db_size.ask(tick, false, PATIENCE, move || file_size(path)).await
        });
        let ((pf, states), (vitals, _)) =
            zip(zip(pf_now, states), zip(vitals, zip(interfaces, zip(rules, limit)))).await;
        let (ids, _) = zip(ids, zip(vpn, zip(services, db_size))).await;
        match self.states.last() {
            Some(Some(table)) if states && listened => self.inner.keep_states(table.clone()),
            _ if !listened => self.inner.forget_states(),
            _ => {}
        }
        Fresh { pf, vitals, ids }
    }

    fn sample(&mut self, now: Moment, snapshot: &Snapshot, fresh: &Fresh, values: &mut Values) -> Sample {
        let status = self.status(snapshot);
        self.traffic_values(now, fresh, values);
        self.other_values(now, &status, values);
        values.set(Name::SystemQueues, snapshot.config.queues.len() as f64);
        values.set(Name::SystemRateLimits, snapshot.config.rate_limits.len() as f64);
        let ids = self.ids.last().and_then(Option::as_ref).map(|ids| {
            let total = ids.view.alerts_total;
            let new = total.saturating_sub(self.alerts_seen.replace(total).unwrap_or(total));
            let mut view = ids.view.clone();
            view.alerts_delta = new;
            view.recent_alerts.truncate(5);
            view
        });
        if fresh.ids
            && let Some(Some(ids)) = self.ids.last()
        {
            self.threats.read(now.at, ids);
        }
        self.threats.values(ids.is_some(), values);
        if self.number.is_multiple_of(pace::MEMORY) {
            self.memory = self.memory_breakdown(&status);
        }
        Sample {
            number: self.number,
            ts: now.unix_ms,
            taken: now.at,
            status,
            system: self.system_view(now, fresh),
            memory: self.memory,
            interfaces: self.interface_views(&snapshot.config.system),
            services: self.services.last().cloned().unwrap_or_else(ServiceView::none_installed),
            vpn: self.vpn.last().cloned(),
            ids,
        }
    }

    fn status(&self, snapshot: &Snapshot) -> Status {
        let counts = self.inner.rule_counts(snapshot);
        let pf = self.pf.last().and_then(Option::as_ref);
        let sum = |of: fn(&InterfaceCounters) -> u64| {
            let counted = pf.into_iter().flat_map(|pf| &pf.interfaces);
            counted.filter(|interface| is_counted(&interface.name)).map(of).sum()
        };
        Status {
            pf_running: pf.is_some_and(|pf| pf.info.enabled),
            pf_states: pf.map_or(0, |pf| pf.info.states),
            pf_rules: self.rules.last().copied().flatten().filter(|_| pf.is_some()).unwrap_or(0),
            aifw_rules: counts.rules,
            aifw_active_rules: counts.active_rules,
            nat_rules: counts.nat_rules,
            packets_in: sum(|counters| counters.packets_in),
            packets_out: sum(|counters| counters.packets_out),
            bytes_in: sum(|counters| counters.bytes_in),
            bytes_out: sum(|counters| counters.bytes_out),
        }
    }

    fn traffic_values(&mut self, now: Moment, fresh: &Fresh, values: &mut Values) {
        let Some(pf) = self.pf.last().map(Option::as_ref) else { return };
        values.set(Name::PfRunning, f64::from(u8::from(pf.is_some_and(|pf| pf.info.enabled))));
        let Some(pf) = pf else {
            (self.traffic, self.new_states) = (Meter::default(), Meter::default());
            return;
        };
        let mut sums = [0u64; 4];
        for interface in pf.interfaces.iter().filter(|interface| is_counted(&interface.name)) {
            sums[0] += interface.bytes_in;
            sums[1] += interface.bytes_out;
            sums[2] += interface.packets_in;
            sums[3] += interface.packets_out;
        }
        if fresh.pf {
            self.traffic.read(now.at, sums);
            self.new_states.read(now.at, [pf.info.inserts]);
        }
        let [bytes_in, bytes_out, packets_in, packets_out] = self.traffic.per_second();
        for (name, value) in [
            (Name::PfStates, pf.info.states as f64),
            (Name::PfBytesIn, sums[0] as f64),
            (Name::PfBytesOut, sums[1] as f64),
            (Name::PfPacketsIn, sums[2] as f64),
            (Name::PfPacketsOut, sums[3] as f64),
            (Name::TrafficBpsIn, bytes_in * 8.0),
            (Name::TrafficBpsOut, bytes_out * 8.0),
            (Name::TrafficPpsIn, packets_in),
            (Name::TrafficPpsOut, packets_out),
            (Name::ConnNewRate, self.new_states.per_second()[0]),
        ] {
            values.set(name, value);
        }
        if let Some(Some(rules)) = self.rules.last() {
            values.set(Name::PfRulesCount, *rules as f64);
        }
        if let Some(Some(table)) = self.states.last() {
            values.set(Name::ConnTotal, table.summary.total as f64);
            values.set(Name::ConnTcp, table.summary.tcp as f64);
            values.set(Name::ConnUdp, table.summary.udp as f64);
            values.set(Name::ConnIcmp, table.summary.icmp as f64);
        }
    }

    fn other_values(&mut self, now: Moment, status: &Status, values: &mut Values) {
        let counters = &self.inner.counters;
        self.requests.read(now.at, [counters.requests(), counters.errors()]);
        let [requests, errors] = self.requests.per_second();
        values.set(Name::ApiRequests, requests);
        values.set(Name::ApiErrors, errors);
        values.set(Name::SystemRulesActive, status.aifw_active_rules as f64);
        values.set(Name::SystemNatRules, status.nat_rules as f64);
    }

    fn memory_breakdown(&self, status: &Status) -> MemoryBreakdown {
        let memory =
            self.vitals.last().and_then(Option::as_ref).map(|vitals| vitals.memory).unwrap_or_default();
        let ids = self.ids.last().and_then(Option::as_ref);
        let (count, bytes) = self.inner.history_size();
        MemoryBreakdown {
            active_mb: mib(memory.active),
            inactive_mb: mib(memory.inactive),
            wired_mb: mib(memory.wired),
            cached_mb: mib(memory.cached),
            free_mb: mib(memory.free),
            api_rss_mb: mib(memory.resident),
            daemon_rss_mb: 0.0,
            ids_buffer_mb: mib(ids.map_or(0, |ids| ids.buffer_bytes)),
            ids_buffer_max_mb: mib(ids.map_or(0, |ids| ids.buffer_max_bytes)),
            ids_buffer_count: ids.map_or(0, |ids| ids.buffer_count),
            metrics_history_count: count as u64,
            metrics_history_mb: mib(bytes as u64),
            pf_states: status.pf_states,
            pf_states_max: self.state_limit.last().copied().flatten().unwrap_or(100_000),
            db_size_mb: mib(self.db_size.last().copied().unwrap_or(0)),
            arc_mb: mib(memory.arc),
        }
    }

    fn system_view(&mut self, now: Moment, fresh: &Fresh) -> SystemView {
        let vitals = self.vitals.last().and_then(Option::as_ref).cloned().unwrap_or_default();
        if fresh.vitals {
            self.cpu.read(vitals.cpu_busy, vitals.cpu_total);
            let io = vitals.disk_io;
            self.disk.read(now.at, [io.reads, io.writes, io.bytes_read, io.bytes_written]);
        }
        let [reads, writes, read, written] = self.disk.per_second();
        let memory = vitals.memory;
        let used = memory.used();
        let mut disks: Vec<DiskUse> = vitals
            .disks
            .into_iter()
            .map(|disk| DiskUse {
                pct: percent(disk.used, disk.total),
                mount: disk.mount,
                filesystem: disk.filesystem,
                total: disk.total,
                used: disk.used,
            })
            .collect();
        disks.sort_by_key(|disk| disk.mount != "/");
        let or = |text: String, fallback: &str| if text.is_empty() { fallback.into() } else { text };
        SystemView {
            cpu_usage: self.cpu.percent(),
            cpu_cores: vitals.cpu_cores,
            memory_total: memory.total,
            memory_used: used,
            memory_pct: percent(used, memory.total),
            memory_breakdown: Some(self.memory),
            disks,
            disk_io: DiskRates {
                reads_per_sec: reads,
                writes_per_sec: writes,
                read_kbps: read / 1024.0,
                write_kbps: written / 1024.0,
            },
            uptime_secs: vitals.uptime_secs,
            hostname: or(vitals.hostname, "aifw"),
            os_version: or(vitals.os_version, "FreeBSD"),
            dns_servers: vitals.dns_servers,
            default_gateway: vitals.default_gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            route_count: vitals.route_count,
        }
    }

    fn interface_views(&self, system: &System) -> Vec<InterfaceView> {
        let interfaces = self.interfaces.last().and_then(Option::as_ref);
        interfaces
            .into_iter()
            .flatten()
            .filter(|found| is_shown(&found.name))
            .map(|found| view(found, system))
            .collect()
    }

    /// The second that a tick stands for: the one after the last, unless the clock says clearly otherwise.
    fn second(&mut self, unix_ms: i64) -> u32 {
        let by_clock = u32::try_from((unix_ms + 500).div_euclid(1000)).unwrap_or(0);
        let second = match self.last_second {
            Some(last) if (unix_ms - (i64::from(last) + 1) * 1000).abs() < 1000 => last + 1,
            _ => by_clock,
        };
        self.last_second = Some(second);
        second
    }
}

/// Which sources gave a new value at this tick.
struct Fresh {
    pf: bool,
    vitals: bool,
    ids: bool,
}

async fn ask_if(due: bool, ask: impl Future<Output = bool>) -> bool {
    due && ask.await
}

fn read_pf(pf: &dyn Pf) -> Option<PfSample> {
    Some(PfSample { info: pf.info().ok()?, interfaces: pf.interfaces().ok()? })
}

fn file_size(path: PathBuf) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Interfaces whose counters make the traffic sums.
fn is_counted(name: &str) -> bool {
    name != "all" && !name.starts_with("lo") && !name.starts_with("pflog")
}

/// Interfaces that clients see.
fn is_shown(name: &str) -> bool {
    !["lo", "pflog", "enc", "pfsync"]
        .iter()
        .any(|hidden| name.strip_prefix(hidden).is_some_and(|unit| unit.bytes().all(|b| b.is_ascii_digit())))
}

fn view(interface: &Interface, system: &System) -> InterfaceView {
    let four = interface.addresses.iter().find(|address| address.addr().is_ipv4());
    let is = |role: &Option<crate::config::InterfaceName>| {
        role.as_ref().is_some_and(|name| name.as_str() == interface.name)
    };
    let role = match () {
        () if is(&system.wan_interface) => Some("WAN"),
        () if is(&system.lan_interface) => Some("LAN"),
        () => None,
    };
    InterfaceView {
        name: interface.name.clone(),
        address: four.map(|address| address.addr().to_string()),
        subnet: four.map(|address| address.trunc().to_string()),
        role,
        bytes_in: interface.bytes_in,
        bytes_out: interface.bytes_out,
        packets_in: interface.packets_in,
        packets_out: interface.packets_out,
    }
}
