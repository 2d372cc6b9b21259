//! Dynamic DNS: keeps records at DNS providers at the appliance's addresses. [`DynamicDns`] is asked by the API (one
//! record now) and by a task of the appliance (all that are due); what became of each record is kept in a file, so
//! that a restart asks no provider again. Blocks.

mod cloudflare;
mod detect;
mod digitalocean;
mod rfc2136;
mod route53;
mod zone;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use detect::Family;
pub use zone::{Endpoints, Zone, ZoneError, open};

use crate::config::dynamic_dns::{DdnsRecord, DnsProvider, ProviderKind};
use crate::config::{Config, Timestamp};
use crate::platform::Platform;
use crate::services::files;

/// Published anew after this time also when nothing has changed: somebody may have changed the zone.
const AGAIN: Duration = Duration::from_secs(24 * 3600);
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    Updated,
    Unchanged,
    Error,
}

/// What became of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRun {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    /// When it was last looked at.
    pub at: Option<Timestamp>,
    pub status: Option<RunStatus>,
    pub error: Option<String>,
    /// What was published: another record, or another zone, is a new one.
    subject: String,
    /// When the provider last took each family.
    published_v4: Option<Timestamp>,
    published_v6: Option<Timestamp>,
    #[serde(skip)]
    failures: u32,
    #[serde(skip)]
    not_before: Option<Instant>,
}

/// The end of a forced run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Outcome {
    pub ok: bool,
    pub message: String,
}

/// Keeps records up to date.
pub struct DynamicDns {
    path: PathBuf,
    platform: Arc<dyn Platform>,
    endpoints: Mutex<Endpoints>,
    /// By number of the record; `None` until it was read from the disk.
    runs: Mutex<Option<BTreeMap<u64, LastRun>>>,
    /// One run at a time.
    turn: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn subject(record: &DdnsRecord, provider: &DnsProvider) -> String {
    let DnsProvider { id, kind, zone, extra, .. } = provider;
    let extra: String = extra.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let (name, record_type) = (&record.hostname, record.record_type.name());
    format!("{id} {} {zone} {name} {record_type} {}{extra}", kind.name(), record.ttl)
}

fn since(at: Option<Timestamp>, now: Timestamp) -> Duration {
    at.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or(Duration::MAX)
}

impl DynamicDns {
    /// What was published is kept in `path`.
    pub fn new(path: PathBuf, platform: Arc<dyn Platform>) -> Self {
        Self { path, platform, endpoints: Mutex::default(), runs: Mutex::default(), turn: Mutex::default() }
    }

    /// Other places than the providers' own: for tests.
    #[doc(hidden)]
    pub fn set_endpoints(&self, endpoints: Endpoints) {
        *lock(&self.endpoints) = endpoints;
    }

    /// A provider's zone. Blocks.
    pub fn zone(&self, provider: &DnsProvider) -> Result<Box<dyn Zone>, ZoneError> {
        open(provider, &lock(&self.endpoints).clone())
    }

    fn runs<T>(&self, f: impl FnOnce(&mut BTreeMap<u64, LastRun>) -> T) -> T {
        let mut runs = lock(&self.runs);
        let read = || std::fs::read(&self.path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        f(runs.get_or_insert_with(|| read().unwrap_or_default()))
    }

    /// What became of a record the last time; of one that is new, nothing.
    pub fn last(&self, id: u64) -> LastRun {
        self.runs(|runs| runs.get(&id).cloned().unwrap_or_default())
    }

    /// One record now, also when an earlier failure says to wait. `None` = there is no such record.
    pub fn update(&self, config: &Config, id: u64) -> Option<Outcome> {
        let record = config.ddns_records.get(&id)?;
        if !record.enabled {
            return Some(Outcome { ok: true, message: format!("{} is disabled", record.hostname) });
        }
        let _turn = lock(&self.turn);
        Some(self.run(config, record))
    }

    /// Whether a record that failed is due again.
    pub fn is_retry_due(&self, config: &Config) -> bool {
        let now = Instant::now();
        let enabled = |id: &u64| config.ddns_records.get(id).is_some_and(|record| record.enabled);
        let due = |run: &LastRun| run.not_before.is_some_and(|until| until <= now);
        self.runs(|runs| runs.iter().any(|(id, run)| due(run) && enabled(id)))
    }

    /// What was changed about these records, or their account, may have put right what failed.
    pub fn retry_soon(&self, records: impl Iterator<Item = u64>) {
        self.runs(|runs| {
            for id in records {
                if let Some(run) = runs.get_mut(&id).filter(|run| run.failures > 0) {
                    run.not_before = Some(Instant::now());
                }
            }
        });
    }

    /// All enabled records, or with `failed` those alone that failed; those left out whose last failure is not long
    /// ago.
    pub fn sweep(&self, config: &Config, failed: bool) {
        let _turn = lock(&self.turn);
        let gone = |id: &u64| !config.ddns_records.contains(id);
        let forgotten = self.runs(|runs| {
            let before = runs.len();
            runs.retain(|id, _| !gone(id));
            before != runs.len()
        });
        if forgotten {
            self.keep();
        }
        for record in config.ddns_records.iter().filter(|record| record.enabled) {
            let last = self.last(record.id);
            let waits = last.not_before.is_some_and(|until| until > Instant::now());
            if !waits && (!failed || last.failures > 0) {
                self.run(config, record);
            }
        }
    }

    fn keep(&self) {
        let text = self.runs(|runs| serde_json::to_vec_pretty(runs).unwrap_or_default());
        if let Err(error) = files::write(&self.path, &text, 0o600) {
            log::warn!("dynamic DNS: {error}");
        }
    }

    fn run(&self, config: &Config, record: &DdnsRecord) -> Outcome {
        let mut run = self.last(record.id);
        let now = Timestamp::now();
        let (mut done, mut errors) = (Vec::new(), Vec::new());
        match config.dns_providers.get(&record.provider_id) {
            None => errors.push(format!("DNS provider {} is gone", record.provider_id)),
            Some(provider) => {
                let subject = subject(record, provider);
                if run.subject != subject {
                    run = LastRun { subject, ..LastRun::default() };
                }
                self.publish(config, record, provider, &mut run, now, &mut done, &mut errors);
            }
        }
        run.at = Some(now);
        let message = if errors.is_empty() {
            (run.failures, run.not_before, run.error) = (0, None, None);
            run.status = Some(if done.is_empty() { RunStatus::Unchanged } else { RunStatus::Updated });
            match done.is_empty() {
                true => format!("{} is unchanged", record.hostname),
                false => done.join("; "),
            }
        } else {
            let error = errors.join("; ");
            if run.error.as_ref() != Some(&error) {
                log::warn!("dynamic DNS: {}: {error}", record.hostname);
            }
            run.failures = run.failures.saturating_add(1);
            let pause = FIRST_PAUSE.saturating_mul(1 << (run.failures - 1).min(10)).min(LONGEST_PAUSE);
            run.not_before = Some(Instant::now() + pause);
            run.status = Some(RunStatus::Error);
            run.error = Some(error.clone());
            error
        };
        self.runs(|runs| runs.insert(record.id, run));
        self.keep();
        Outcome { ok: errors.is_empty(), message }
    }

    #[allow(clippy::too_many_arguments)]
    fn publish(
        &self,
        config: &Config,
        record: &DdnsRecord,
        provider: &DnsProvider,
        run: &mut LastRun,
        now: Timestamp,
        done: &mut Vec<String>,
        errors: &mut Vec<String>,
    ) {
        let endpoints = lock(&self.endpoints).clone();
        let mut zone = None;
        let families = [(Family::V4, record.record_type.has_v4()), (Family::V6, record.record_type.has_v6())];
        for (family, _) in families.into_iter().filter(|(_, wanted)| *wanted) {
            let interfaces = || self.platform.interfaces().map_err(|error| error.to_string());
            let found = detect::detect(record, family, &config.ddns, &endpoints, interfaces);
            let address = match found {
                Ok(address) => address,
                Err(error) => {
                    errors.push(format!("detect {}: {error}", family.word()));
                    continue;
                }
            };
            let (held, published) = match family {
                Family::V4 => (&mut run.ipv4, &mut run.published_v4),
                Family::V6 => (&mut run.ipv6, &mut run.published_v6),
            };
            if *held == Some(address) && since(*published, now) < AGAIN {
                continue;
            }
            let outcome = match &mut zone {
                Some(zone) => Ok(zone),
                empty => open(provider, &endpoints).map(|opened| empty.insert(opened)),
            };
            let outcome = outcome.and_then(|zone| zone.set_address(&record.hostname, address, record.ttl));
            match outcome {
                Ok(()) => {
                    (*held, *published) = (Some(address), Some(now));
                    done.push(format!("{} is {address}", record.hostname));
                }
                Err(error) => errors.push(format!("{}: {error}", family.word())),
            }
        }
    }

    /// Adds a TXT record and removes it again. Blocks.
    pub fn test(&self, provider: &DnsProvider) -> Outcome {
        let failed = |message: String| Outcome { ok: false, message };
        if provider.kind == ProviderKind::Manual {
            return failed("a manual provider changes nothing: there is nothing to test".into());
        }
        let zone = match self.zone(provider) {
            Ok(zone) => zone,
            Err(error) => return failed(error.to_string()),
        };
        let name = format!("_acme-aifw-test.{}", provider.zone);
        let value = format!("aifw-test-{}", Timestamp::now().as_second());
        if let Err(error) = zone.add_txt(&name, &value) {
            return failed(format!("add_txt: {error}"));
        }
        match zone.remove_txt(&name, &value) {
            Ok(()) => Outcome { ok: true, message: "TXT add+remove OK".into() },
            Err(error) => failed(format!("add ok, remove failed: {error}")),
        }
    }
}
