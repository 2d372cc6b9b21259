//! The host itself made as configured: name, time zone, banners, console, kernel settings, sshd. These settings act as
//! soon as they are stored; a step that fails is told, and is done again at the next start (contract/system.md §0).

use std::sync::Arc;

use super::{Applier, ReplaceError};
use crate::compile::os::host::{host_settings, ssh_settings};
use crate::config::{Config, System};
use crate::platform::HostStep;
use crate::store::{Author, Draft, NewAudit};

/// What became of the steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Steps that were as wanted or are so now.
    pub done: usize,
    /// `step: reason` of each that was not done.
    pub failed: Vec<String>,
}

impl HostReport {
    fn add(&mut self, step: &str, error: Option<String>) {
        match error {
            None => self.done += 1,
            Some(reason) => {
                log::error!("{step}: {reason}");
                self.failed.push(format!("{step}: {reason}"));
            }
        }
    }

    /// All warnings in one text; `None` when there are none.
    pub fn warning(&self) -> Option<String> {
        (!self.failed.is_empty()).then(|| self.failed.join("; "))
    }
}

impl Applier {
    /// The host as it was applied last.
    pub async fn apply_host(&self) -> HostReport {
        let applied = self.inner.store.snapshot().applied.clone();
        self.make_host(&applied).await
    }

    /// At start-up, before anybody can sign in: all of the host but sshd, which may need a while for its keys.
    pub async fn apply_host_settings(&self) -> HostReport {
        let applied = self.inner.store.snapshot().applied.clone();
        let mut report = HostReport::default();
        self.make_settings(&applied, &mut report).await;
        report
    }

    /// At start-up: sshd as it was applied last.
    pub async fn apply_sshd(&self) -> HostReport {
        let applied = self.inner.store.snapshot().applied.clone();
        let mut report = HostReport::default();
        self.make_sshd(&applied, &mut report).await;
        report
    }

    async fn make_host(&self, config: &Config) -> HostReport {
        let mut report = HostReport::default();
        self.make_settings(config, &mut report).await;
        self.make_sshd(config, &mut report).await;
        report
    }

    async fn make_settings(&self, config: &Config, report: &mut HostReport) {
        let (settings, platform) = (host_settings(config), self.inner.machine.platform.clone());
        let steps: Vec<HostStep> = blocking::unblock(move || platform.configure_host(&settings)).await;
        steps.into_iter().for_each(|step| report.add(step.step, step.error));
    }

    async fn make_sshd(&self, config: &Config, report: &mut HostReport) {
        let sshd = self.inner.services.sshd();
        let wanted = ssh_settings(config, sshd.places());
        let outcome = sshd.apply(&wanted).await;
        report.add("sshd", outcome.err().map(|error| error.to_string()));
    }

    /// After the applied configuration was replaced: the host follows, if its part has changed.
    pub(super) async fn follow_with_host(&self, before: &Config, after: &Config) -> Vec<String> {
        let places = self.inner.services.sshd().places();
        let same = host_settings(before) == host_settings(after)
            && ssh_settings(before, places) == ssh_settings(after, places);
        if same { Vec::new() } else { self.make_host(after).await.failed }
    }

    /// Changes settings of the host in what is stored and in what is applied, and makes the host follow. pf is loaded
    /// again only when its rules depend on the change (the port of SSH). `change` is run on both configurations, and
    /// may refuse by the stored one.
    pub async fn set_host<E, F>(
        &self,
        author: &Author,
        audit: NewAudit,
        change: F,
    ) -> Result<HostReport, ReplaceError<E>>
    where
        E: Send + 'static,
        F: Fn(&mut System) -> Result<(), E> + Send + 'static,
    {
        let turn = self.inner.turn.lock().await;
        let commit = self.inner.store.commit(author, move |draft: &mut Draft| {
            let port = draft.applied.system.ssh_port;
            change(Arc::make_mut(&mut draft.config.system)).map_err(ReplaceError::Refused)?;
            change(Arc::make_mut(&mut draft.applied.system)).map_err(ReplaceError::Refused)?;
            draft.audit.push(audit);
            Ok::<_, ReplaceError<E>>(draft.applied.system.ssh_port != port)
        });
        let rules_differ = commit.await?;
        let mut report = self.apply_host().await;
        if rules_differ {
            let outcome = self.load_applied().await;
            report.add("pf", outcome.err().map(|error| error.to_string()));
        }
        drop(turn);
        self.refresh_pending();
        Ok(report)
    }
}
