//! Switching the resolver: to what is stored, on, off, with a look at whether it answers, and a memory of how the
//! last switch ended (contract/dns.md §6). Called by the API; knows nothing of HTTP.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Applier;
use super::services::{ServiceApplyError, Wish};
use crate::compile::services::Places;
use crate::compile::services::dns::Probe;
use crate::config::dns::Backend;
use crate::config::{Config, ServiceKind, Timestamp};
use crate::services::rdns::probe_of;
use crate::services::rdns::query::{self, Transport};
use crate::services::{ServiceError, files};
use crate::store::{Author, CommitError, Draft, NewAudit, StoreError};

/// How a switch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Switched {
    /// What runs now: `rdns`, `unbound` or `none`.
    pub backend: &'static str,
    pub enabled: bool,
    /// Whether it answered over UDP and over TCP.
    pub probe_udp: bool,
    pub probe_tcp: bool,
    /// What was wanted did not come up, and what ran before runs again.
    pub rolled_back: bool,
    /// What ran before.
    pub previous: Option<&'static str>,
    pub message: String,
    /// What is configured but cannot be as its author expects.
    pub warnings: Vec<String>,
}

/// The last switch, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSwitch {
    pub at: Timestamp,
    /// `ok`, `ok_disabled`, `rolled_back: …` or `failed: …`.
    pub result: String,
    /// `rdns`, `unbound` or `none`.
    pub backend: String,
}

const MEMORY: &str = "switch.json";
const NONE: &str = "none";

/// The last switch; `None` when there was none.
pub fn last_switch(places: &Places) -> Option<LastSwitch> {
    serde_json::from_slice(&std::fs::read(places.data.join(MEMORY)).ok()?).ok()
}

/// Whether a resolver answers over UDP and over TCP, each asked once.
pub async fn listening(probe: &Probe, patience: Duration) -> (bool, bool) {
    let tcp = {
        let probe = probe.clone();
        smol::spawn(async move { query::works(&probe, Transport::Tcp, patience).await.is_ok() })
    };
    let udp = query::works(probe, Transport::Udp, patience).await.is_ok();
    (udp, tcp.await)
}

fn running(applied: &Config) -> Option<&'static str> {
    applied.dns_resolver.enabled.then(|| applied.dns_resolver.backend.word())
}

impl Applier {
    /// Makes the resolver as wished. Never fails: what went wrong is told in the answer, and remembered. `audit`
    /// names what was asked for.
    pub async fn switch_resolver(
        &self,
        author: &Author,
        wish: Wish,
        audit: NewAudit,
    ) -> Result<Switched, StoreError> {
        let runner = self.services().runner(ServiceKind::Dns).clone();
        let before = self.inner.store.snapshot();
        let previous = running(&before.applied);
        let (target, wanted) = (before.config.dns_resolver.backend, &before.config.dns_resolver);
        let enabled = match wish {
            Wish::AsConfigured => wanted.enabled,
            Wish::Run | Wish::Restart => true,
            Wish::Stop => false,
        };
        let done = self.service(author, ServiceKind::Dns, wish, Some(audit.clone())).await;
        if done.is_err() {
            // A change that was made says so itself.
            let audit = NewAudit { details: format!("{}: failed", audit.details), ..audit };
            self.note_failure(author, audit, &done, before.applied.dns_resolver.backend, target).await?;
        }
        let mut switched = Switched {
            backend: NONE,
            enabled,
            probe_udp: false,
            probe_tcp: false,
            rolled_back: false,
            previous,
            message: String::new(),
            warnings: Vec::new(),
        };
        let result = match done {
            Ok(report) if !enabled => {
                switched.message = "DNS resolver stopped".into();
                switched.warnings = report.warnings;
                "ok_disabled".to_owned()
            }
            Ok(report) => {
                switched.backend = target.word();
                switched.warnings = report.warnings;
                switched.message = format!("{} applied and healthy", target.word());
                "ok".to_owned()
            }
            Err(error) => self.tell_failure(&mut switched, error, previous, target),
        };
        if switched.backend != NONE {
            let places = runner.places();
            let probe = blocking::unblock(move || probe_of(&places)).await.filter(|probe| probe.enabled);
            (switched.probe_udp, switched.probe_tcp) = match probe {
                Some(probe) => listening(&probe, query::TRY).await,
                None => (runner.is_running(), runner.is_running()),
            };
        }
        if switched.backend == Backend::Rdns.word() {
            // Overridden names are kept out of the lists.
            self.follow_blocklists().await;
        }
        let memory = LastSwitch { at: Timestamp::now(), result, backend: switched.backend.into() };
        let path = runner.places().data.join(MEMORY);
        let text = serde_json::to_vec(&memory).unwrap_or_default();
        if let Err(error) = blocking::unblock(move || files::write(&path, &text, 0o644)).await {
            log::error!("the resolver's last switch is not remembered: {error}");
        }
        Ok(switched)
    }

    fn tell_failure(
        &self,
        switched: &mut Switched,
        error: ServiceApplyError,
        previous: Option<&'static str>,
        target: Backend,
    ) -> String {
        let before = previous.unwrap_or(NONE);
        let (result, backend) = match error {
            ServiceApplyError::Service(ServiceError::NotReady {
                reason, rolled_back, last_lines, ..
            }) => {
                // rDNS runs on when it cannot listen; what it said then tells more than its silence.
                let complaint =
                    last_lines.iter().find_map(|line| line.split_once(" ERROR ")).map(|(_, said)| said);
                let why = complaint.map(|said| format!("{reason}; {said}")).unwrap_or(reason);
                let (word, runs) = if rolled_back { ("rolled_back", before) } else { ("failed", NONE) };
                switched.rolled_back = rolled_back;
                (format!("{word}: {} did not come up: {why}", target.word()), runs)
            }
            // Nothing was touched: what ran still runs.
            ServiceApplyError::Service(ServiceError::Refused(reason)) => {
                (format!("failed: {reason}"), before)
            }
            ServiceApplyError::Service(error @ ServiceError::NotInstalled(_)) => {
                (format!("failed: {error}"), before)
            }
            ServiceApplyError::Service(error @ (ServiceError::Template(_) | ServiceError::Io { .. })) => {
                (format!("failed: config generation error: {error}"), before)
            }
            error => (format!("failed: {error}"), before),
        };
        switched.backend = backend;
        switched.message.clone_from(&result);
        result
    }

    /// One audit entry for what was asked for in vain. If it was another backend, the configured one is that which
    /// runs.
    async fn note_failure(
        &self,
        author: &Author,
        audit: NewAudit,
        done: &Result<crate::services::Report, ServiceApplyError>,
        applied: Backend,
        target: Backend,
    ) -> Result<(), StoreError> {
        let taken_back =
            matches!(done, Err(ServiceApplyError::Service(ServiceError::NotReady { rolled_back: true, .. })));
        let commit = self.inner.store.commit(author, move |draft: &mut Draft| {
            if taken_back && applied != target && draft.config.dns_resolver.backend == target {
                let settings = std::sync::Arc::make_mut(&mut draft.config.dns_resolver);
                settings.backend = applied;
            }
            draft.audit.push(audit);
            Ok::<(), StoreError>(())
        });
        commit.await.map_err(|error| match error {
            CommitError::Refused(error) | CommitError::Store(error) => error,
        })?;
        self.refresh_pending();
        Ok(())
    }
}
