//! Blocklists in force: fetched one by one or all together, and the resolver told. What is stored of them acts at once;
//! a resolver that is down gets it when it starts.

use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use async_lock::Semaphore;

use super::Applier;
use crate::config::ServiceKind;
use crate::config::dns::Backend;
use crate::config::dns::blocking::{self, BlocklistSource};
use crate::services::rdns::blocklists::RefreshOutcome;
use crate::services::rdns::control::Control;
use crate::services::{How, ServiceError};

/// How often, and after how long, a daemon that was just started is asked again.
const TRIES: u32 = 40;
const AGAIN: Duration = Duration::from_millis(50);

impl Applier {
    /// Makes the policy zones as they are stored, and the resolver read them. When it returns, what was stored before
    /// it was called is in force, if the resolver runs.
    pub async fn follow_blocklists(&self) {
        let lists = self.services().blocklists();
        let mut untold = lists.turn().await;
        // Looked at in turn: of two that come at once, the later one has the later state.
        let snapshot = self.store().snapshot();
        let applied = snapshot.applied.clone();
        // Overrides let their names through before an apply makes them answer.
        let mut wanted = applied.clone();
        wanted.dns_hosts = snapshot.config.dns_hosts.clone();
        wanted.dns_domains = snapshot.config.dns_domains.clone();
        match lists.rebuild(&wanted).await {
            Ok(changed) => *untold |= changed,
            Err(error) => return log::error!("blocklists: {error}"),
        }
        let runner = self.services().runner(ServiceKind::Dns).clone();
        if applied.dns_resolver.backend != Backend::Rdns || !runner.is_running() {
            return;
        }
        if !lists.knows_zones(&applied).await {
            // It has made the policy zones as they are applied.
            let made = runner.apply(&applied, How::Change).await.map(drop);
            let changed = match made {
                Ok(()) => lists.rebuild(&wanted).await,
                Err(error) => Err(error),
            };
            match changed {
                Ok(changed) => *untold = changed,
                Err(error) => return log::warn!("blocklists: {error}"),
            }
        }
        if *untold {
            match reload(&Control::of(&runner.places())).await {
                Ok(()) => *untold = false,
                // The next one tells it.
                Err(error) => log::warn!("blocklists: {error}"),
            }
        }
    }

    /// Fetches one list and puts it in force. `None`: there is none with this id.
    pub async fn refresh_blocklist(&self, id: u64) -> Option<RefreshOutcome> {
        let applied = self.store().snapshot().applied.clone();
        let source = blocking::source(&applied, id)?;
        if !applied.dns_blocking.enabled {
            return Some(RefreshOutcome::failed(id, "blocklisting is globally disabled"));
        }
        let outcome = if source.enabled {
            self.services().blocklists().refresh(source).await
        } else {
            RefreshOutcome { ok: true, error: None, ..RefreshOutcome::failed(id, "") }
        };
        if outcome.ok {
            self.follow_blocklists().await;
        }
        Some(outcome)
    }

    /// Fetches every list that is on and puts them in force together; none while blocking is off.
    pub async fn refresh_blocklists(&self) -> Vec<RefreshOutcome> {
        let applied = self.store().snapshot().applied.clone();
        if !applied.dns_blocking.enabled {
            return Vec::new();
        }
        let at_a_time = Arc::new(Semaphore::new(applied.dns_blocking.concurrency.into()));
        let fetch = |source: Arc<BlocklistSource>| {
            let (lists, at_a_time) = (self.services().blocklists().clone(), at_a_time.clone());
            smol::spawn(async move {
                let _permit = at_a_time.acquire().await;
                lists.refresh(source).await
            })
        };
        let sources = blocking::sources(&applied).into_iter().filter(|source| source.enabled);
        let tasks: Vec<_> = sources.map(fetch).collect();
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await);
        }
        self.follow_blocklists().await;
        outcomes
    }
}

/// The daemon opens its control socket a moment after it answers questions.
async fn reload(control: &Control) -> Result<(), ServiceError> {
    for _ in 0..TRIES {
        match control.ask("ping").await {
            Ok(_) => break,
            Err(_) => Timer::after(AGAIN).await,
        };
    }
    control.reload_rpz().await.map(drop)
}
