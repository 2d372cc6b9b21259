//! From the engine's log to alerts, counters and blocked sources: one look. Called every second by the appliance.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alerts::Stored;
use super::{Ids, Tailer, blocks, eve, syslog};
use crate::compile::InterfaceFacts;
use crate::compile::services::ids::blocks_by_table;
use crate::config::ids::{RuleAction, seeds};
use crate::config::{Config, Id, Timestamp};

/// What a look has found.
#[derive(Debug, Default)]
pub struct Found {
    pub alerts: Vec<Arc<Stored>>,
    /// Sources that are blocked from now on; their states are to go.
    pub blocked: Vec<IpAddr>,
}

impl Ids {
    /// Reads what is new. `stored` says what is wanted (suppressions act at once), `applied` how the engine runs;
    /// `spared` are never blocked. Blocks; an error of reading is logged.
    pub fn pump(
        &self,
        tailer: &mut Tailer,
        stored: &Config,
        applied: &Config,
        interfaces: &[InterfaceFacts],
        spared: &BTreeSet<IpAddr>,
    ) -> Found {
        let lines = tailer.read().unwrap_or_else(|error| {
            log::warn!("eve.json: {error}");
            Vec::new()
        });
        if lines.is_empty() {
            return Found::default();
        }
        let now = Timestamp::now();
        let et_open = seeds().first().map(|ruleset| ruleset.id);
        let mut new = Vec::new();
        for line in &lines {
            let Some((key, mut alert)) = eve::alert(line, now, true) else { continue };
            let Some(sid) = alert.alert.signature_id else { continue };
            let (src, dst) = (alert.alert.src_ip, alert.alert.dst_ip);
            if stored.ids_suppressions.iter().any(|row| row.hides(sid, src, dst)) {
                continue;
            }
            let gid = gid_of(&alert);
            let ruleset: Option<Id> = self.rules.ruleset_of(stored, gid, sid);
            if ruleset.is_some() && ruleset == et_open {
                alert.alert.rule_source = "et_open".into();
            }
            if alert.alert.action == "alert"
                && blocks_by_table(applied)
                && let Some(action @ (RuleAction::Drop | RuleAction::Reject)) =
                    self.rules.action(applied, gid, sid)
                && blocks::may_block(src, applied, interfaces, spared)
            {
                alert.alert.action = action.as_str().into();
            }
            new.push((key, alert));
        }
        let alerts = self.alerts.add(new, &applied.ids);
        tailer.keep();
        self.rules.hit(alerts.iter().filter_map(|stored| {
            Some((format!("{}:{}", gid_of(stored), stored.alert.signature_id?), stored.alert.timestamp))
        }));
        if let Some(target) = &applied.ids.syslog_target {
            let plain: Vec<_> = alerts.iter().map(|stored| stored.alert.clone()).collect();
            syslog::send(target, applied.system.hostname.as_ref(), &plain);
        }
        let mut blocked = Vec::new();
        if blocks_by_table(applied) {
            let time = Duration::from_secs(applied.ids.ips_block_secs.into());
            for stored in
                alerts.iter().filter(|stored| matches!(stored.alert.action.as_str(), "drop" | "reject"))
            {
                let source = stored.alert.src_ip;
                if blocks::may_block(source, applied, interfaces, spared)
                    && self.blocks.add(source, time, Instant::now())
                {
                    blocked.push(source);
                }
            }
        }
        Found { alerts, blocked }
    }

    /// Alerts that are too old go; what was written stays. Called hourly. Blocks.
    pub fn tidy(&self, config: &Config) {
        let days = i64::from(config.ids.alert_retention_days) * 86_400;
        // There is one store: the shorter of both holds.
        let age = days.min(config.ids.alert_buffer_age_secs.into());
        if let Ok(before) = Timestamp::from_second(Timestamp::now().as_second() - age) {
            self.alerts.purge(Some(before));
        }
        self.alerts.sync();
    }
}

fn gid_of(stored: &Stored) -> u32 {
    let metadata = stored.alert.metadata.as_ref();
    metadata.and_then(|known| known.get("gid")).and_then(|gid| gid.parse().ok()).unwrap_or(1)
}
