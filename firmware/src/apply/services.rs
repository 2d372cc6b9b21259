//! Applying one service: its part of the stored configuration is taken over into the applied one once the daemon
//! runs with it (or is stopped, as it says), and pf gets the lines that follow from it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Applier, ApplyError};
use crate::config::{Config, ServiceKind};
use crate::services::{How, Report, ServiceError, Services};
use crate::store::{Author, CommitError, Draft, NewAudit, StoreError};

/// From the last write of a burst to its apply.
const SOON: Duration = Duration::from_secs(1);

/// What is wanted of a service. Whether it is enabled in the *applied* configuration is what survives a restart
/// of the appliance; the stored setting is the administrator's and stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// As stored: running or stopped.
    AsConfigured,
    /// As stored, and running, whatever the stored setting says.
    Run,
    /// As [`Wish::Run`], started anew even if nothing has changed.
    Restart,
    /// Stopped. Nothing else that is stored is taken over.
    Stop,
}

/// Why a service is not as wished. The applied configuration is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ServiceApplyError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The daemon is as wished, but not all of pf is.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Applier {
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Makes a service as wished, and remembers it as applied. `audit` is written with it.
    pub async fn service(
        &self,
        author: &Author,
        kind: ServiceKind,
        wish: Wish,
        audit: Option<NewAudit>,
    ) -> Result<Report, ServiceApplyError> {
        let _turn = self.inner.service_turns[kind as usize].lock().await;
        let snapshot = self.inner.store.snapshot();
        let mut target = snapshot.applied.clone();
        match wish {
            Wish::AsConfigured => kind.adopt(&snapshot.config, &mut target),
            Wish::Run | Wish::Restart => {
                kind.adopt(&snapshot.config, &mut target);
                kind.set_enabled(&mut target, true);
            }
            Wish::Stop => kind.set_enabled(&mut target, false),
        }
        let how = if wish == Wish::Restart { How::Restart } else { How::Change };
        let runner = self.inner.services.runner(kind);
        let mut report = runner.apply(&target, how).await?;
        let before = self.inner.store.snapshot().applied.clone();
        let commit = self.inner.store.commit(author, move |draft: &mut Draft| {
            kind.adopt(&target, &mut draft.applied);
            draft.audit.extend(audit);
            Ok::<(), StoreError>(())
        });
        commit.await.map_err(|error| match error {
            CommitError::Refused(error) | CommitError::Store(error) => error,
        })?;
        self.note_soon(kind, None);
        report.warnings.extend(self.load_service_lines(&before).await?);
        self.refresh_pending();
        Ok(report)
    }

    /// Compiles what a service runs with again, since something beside the configuration has changed: names resolve
    /// to other addresses, say. The daemon notices only if its files differ now.
    pub async fn refresh_service(&self, kind: ServiceKind) -> Result<Report, ServiceError> {
        let _turn = self.inner.service_turns[kind as usize].lock().await;
        let applied = self.inner.store.snapshot().applied.clone();
        self.inner.services.runner(kind).apply(&applied, How::Change).await
    }

    /// As [`Applier::service`], a second from now, for areas that act by themselves on each write: a burst of writes
    /// is one apply. What goes wrong is logged, and told by [`Applier::last_soon_error`]. A restart that is wished for
    /// in a burst is made whatever the later wishes are; what does not run then is not started for it.
    pub fn service_soon(&self, author: &Author, kind: ServiceKind, wish: Wish) {
        let soon = &self.inner.soon[kind as usize];
        let mine = soon.fetch_add(1, Ordering::Relaxed) + 1;
        if wish == Wish::Restart {
            self.inner.restart_soon[kind as usize].store(true, Ordering::Relaxed);
        }
        let (applier, author) = (self.clone(), author.clone());
        smol::spawn(async move {
            async_io::Timer::after(SOON).await;
            if applier.inner.soon[kind as usize].load(Ordering::Relaxed) != mine {
                return;
            }
            let restart = applier.inner.restart_soon[kind as usize].swap(false, Ordering::Relaxed);
            let running = applier.inner.services.runner(kind).is_running();
            let stays = wish != Wish::AsConfigured || kind.is_enabled(&applier.inner.store.snapshot().config);
            let wish = match (restart, running) {
                (true, true) if stays => Wish::Restart,
                (true, false) if wish == Wish::Restart => return,
                _ => wish,
            };
            if let Err(error) = applier.service(&author, kind, wish, None).await {
                log::error!("{}: {error}", kind.label());
                applier.note_soon(kind, Some(error.to_string()));
            }
        })
        .detach();
    }

    fn note_soon(&self, kind: ServiceKind, error: Option<String>) {
        *self.inner.soon_error[kind as usize].lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why the last [`Applier::service_soon`] failed; `None` when it did not, or the service was applied since.
    pub fn last_soon_error(&self, kind: ServiceKind) -> Option<String> {
        self.inner.soon_error[kind as usize].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compiles a service's part of a configuration and has the daemon's checker look at it; returns warnings.
    pub async fn rehearse_service(
        &self,
        kind: ServiceKind,
        config: &Config,
    ) -> Result<Vec<String>, ServiceError> {
        self.inner.services.runner(kind).rehearse(config).await
    }

    /// pf's rules again, if those of the services have changed since `before` was applied.
    async fn load_service_lines(&self, before: &Config) -> Result<Vec<String>, ApplyError> {
        let applied = self.inner.store.snapshot().applied.clone();
        let lines = |config: &Config| {
            let environment = self.inner.machine.environment(config, crate::config::Timestamp::now());
            crate::compile::service_anchors(config, &environment)
        };
        if lines(before) == lines(&applied) {
            return Ok(Vec::new());
        }
        let _turn = self.inner.turn.lock().await;
        Ok(self.load_applied().await?.warnings)
    }

    /// At start-up: every service as it was applied last, side by side; what does not come up is tried again by
    /// its supervisor.
    pub async fn start_services(&self) {
        let applied = self.inner.store.snapshot().applied.clone();
        self.each_service(&ServiceKind::ALL, &applied, How::Boot).await;
    }

    /// After the applied configuration was replaced as a whole: the daemons whose part has changed follow. What
    /// one does not take is told, and it runs as before.
    pub(super) async fn follow_with_services(&self, before: &Config, after: &Config) -> Vec<String> {
        let part = |kind: ServiceKind, config: &Config| {
            let mut part = Config::default();
            kind.adopt(config, &mut part);
            part
        };
        let changed: Vec<ServiceKind> =
            ServiceKind::ALL.into_iter().filter(|kind| part(*kind, before) != part(*kind, after)).collect();
        self.each_service(&changed, after, How::Change).await
    }

    async fn each_service(&self, kinds: &[ServiceKind], applied: &Config, how: How) -> Vec<String> {
        let tasks: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let (runner, applied) = (self.inner.services.runner(*kind).clone(), applied.clone());
                (kind, smol::spawn(async move { runner.apply(&applied, how).await }))
            })
            .collect();
        let mut warnings = Vec::new();
        for (kind, task) in tasks {
            if let Err(error) = task.await {
                log::error!("{}: {error}", kind.label());
                warnings.push(format!("{}: {error}", kind.label()));
            }
        }
        warnings
    }
}
