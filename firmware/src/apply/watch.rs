//! pf is watched like the daemons are: on, our anchors there, the rules as they were applied. What somebody
//! flushed or changed by hand is loaded again, counted and told.

use std::sync::PoisonError;
use std::time::Duration;

use serde::Serialize;

use super::Applier;
use super::machine::Machine;
use crate::config::Timestamp;

const INTERVAL: Duration = Duration::from_secs(10);

/// Whether pf filters as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PfState {
    Running,
    /// It is off, or does not hold the applied rules, and loading them again did not help yet.
    Failed,
}

/// The packet filter under watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct PfStatus {
    pub state: PfState,
    /// Since when it has been in this state.
    pub since: Timestamp,
    /// How often the applied rules had to be loaded again since the start.
    pub restarts: u64,
    /// What was found the last time something was wrong.
    pub reason: Option<String>,
}

impl Default for PfStatus {
    fn default() -> Self {
        Self { state: PfState::Running, since: Timestamp::now(), restarts: 0, reason: None }
    }
}

impl Applier {
    /// What the last look at pf showed; looked at every 10 s.
    pub fn packet_filter(&self) -> PfStatus {
        self.inner.pf_status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn run_pf_watch(&self) {
        loop {
            async_io::Timer::after(INTERVAL).await;
            self.watch_pf().await;
        }
    }

    /// One look. Loads the applied configuration again when pf no longer holds it.
    pub async fn watch_pf(&self) {
        let _turn = self.inner.turn.lock().await;
        let Err(found) = self.on_machine(Machine::intact).await else {
            return self.pf_is(PfState::Running, None);
        };
        log::warn!("pf: {found}; loading the applied rules again");
        if let Err(error) = self.on_machine(|machine| machine.pf.set_enabled(true)).await {
            log::error!("pf: {error}");
        }
        self.on_machine(Machine::forget).await;
        match self.load_applied().await {
            Ok(_) => self.pf_is(PfState::Running, Some(found)),
            Err(error) => {
                log::error!("loading the applied rules again: {error}");
                self.pf_is(PfState::Failed, Some(format!("{found}; {error}")));
            }
        }
    }

    fn pf_is(&self, state: PfState, found: Option<String>) {
        let mut status = self.inner.pf_status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.state != state {
            (status.state, status.since) = (state, Timestamp::now());
        }
        if let Some(found) = found {
            status.restarts += u64::from(state == PfState::Running);
            status.reason = Some(found);
        }
    }
}
