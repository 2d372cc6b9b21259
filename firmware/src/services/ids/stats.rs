//! Counters of the engine, asked for at most every two seconds.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::CommandSocket;

const FRESH: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);

/// What the engine tells of itself; zeros while it does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStats {
    pub answers: bool,
    pub packets: u64,
    pub bytes: u64,
    pub dropped: u64,
    pub alerts: u64,
    /// Packets that were blocked or rejected inline.
    pub blocked: u64,
    pub active_flows: u64,
    pub reassembly_bytes: u64,
    pub rules_loaded: u64,
    pub rules_failed: u64,
    pub uptime_secs: u64,
    pub version: Option<String>,
    pub packets_per_sec: f64,
    pub bytes_per_sec: f64,
}

/// The last answer.
#[derive(Debug, Default)]
pub struct Stats {
    last: Mutex<Option<(Instant, EngineStats)>>,
}

impl Stats {
    /// The engine's counters, not older than two seconds. Blocks for 5 s at most.
    pub fn get(&self, socket: &Path) -> EngineStats {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, stats)) = &*last
            && at.elapsed() < FRESH
        {
            return stats.clone();
        }
        let mut now = ask(socket).unwrap_or_default();
        if let Some((at, before)) = &*last
            && now.uptime_secs >= before.uptime_secs
            && before.answers
        {
            let seconds = at.elapsed().as_secs_f64();
            now.packets_per_sec = now.packets.saturating_sub(before.packets) as f64 / seconds;
            now.bytes_per_sec = now.bytes.saturating_sub(before.bytes) as f64 / seconds;
        }
        *last = Some((Instant::now(), now.clone()));
        now
    }
}

fn ask(path: &Path) -> Option<EngineStats> {
    let mut socket = CommandSocket::connect(path, PATIENCE).ok()?;
    let counters = socket.command("dump-counters", None).unwrap_or_default();
    let count = |path: &str| counters.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let rules = socket.ruleset_stats().unwrap_or_default();
    let version = socket.command("version", None).ok()?;
    Some(EngineStats {
        answers: true,
        packets: count("/decoder/pkts"),
        bytes: count("/decoder/bytes"),
        dropped: count("/capture/kernel_drops"),
        alerts: count("/detect/alert"),
        blocked: count("/ips/blocked") + count("/ips/rejected"),
        active_flows: count("/flow/active"),
        reassembly_bytes: count("/tcp/reassembly_memuse"),
        rules_loaded: rules.loaded,
        rules_failed: rules.failed,
        uptime_secs: count("/uptime"),
        version: version.as_str().and_then(|text| text.split_whitespace().next()).map(str::to_owned),
        ..EngineStats::default()
    })
}
