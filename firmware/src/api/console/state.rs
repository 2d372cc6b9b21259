//! What the local operations remember between calls: where the appliance is reached, an installation that runs,
//! and how to have the appliance started anew. Made by the appliance, held by [`crate::api::App`].

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::platform::hardware::Progress;

/// Where keys of a GitHub user are fetched: `<this>/<user>.keys`.
pub const KEYS_OF: &str = "https://github.com";

/// Where the API answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub tls: bool,
    pub address: std::net::SocketAddr,
}

/// An installation, running or over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Installation {
    pub disk: String,
    pub running: bool,
    pub progress: Progress,
    /// Why it failed.
    pub error: Option<String>,
}

/// Held by the application.
pub struct LocalState {
    pub state_dir: PathBuf,
    pub keys_url: String,
    /// Keys may be fetched from loopback (a sandbox).
    pub inside_allowed: bool,
    /// A setup is followed by listening: its answer waits for that, to say where.
    pub listens_once_set_up: bool,
    /// Folders in which `ssh_host_*_key.pub` may lie.
    pub host_keys: Vec<PathBuf>,
    /// One setup, or one reset, at a time.
    pub(super) turn: async_lock::Mutex<()>,
    reached: Mutex<Option<Reached>>,
    certificate: Mutex<Option<[u8; 32]>>,
    /// Told when it is reached somewhere; waited for by a setup, after which it is.
    listening: (async_channel::Sender<()>, async_channel::Receiver<()>),
    installation: Mutex<Option<Installation>>,
    restart: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalState {
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        Self {
            host_keys: vec![state_dir.join("ssh")],
            state_dir,
            keys_url: KEYS_OF.into(),
            inside_allowed: false,
            listens_once_set_up: false,
            turn: async_lock::Mutex::new(()),
            reached: Mutex::default(),
            certificate: Mutex::default(),
            listening: async_channel::bounded(1),
            installation: Mutex::default(),
            restart: async_channel::bounded(1),
        }
    }

    /// Told by whoever listens.
    pub fn set_reached(&self, reached: Reached) {
        *locked(&self.reached) = Some(reached);
        // One message is enough.
        let _ = self.listening.0.try_send(());
    }

    /// Waits until it is known where the appliance is reached, but no longer than `limit`.
    pub(super) async fn wait_until_reached(&self, limit: std::time::Duration) {
        if self.reached().is_some() {
            return;
        }
        let told = async {
            // The sender lives as long as this does.
            let _ = self.listening.1.recv().await;
        };
        let late = async {
            async_io::Timer::after(limit).await;
        };
        futures_lite::future::or(told, late).await;
    }

    /// Told by whoever chooses the certificate: SHA-256 of its DER.
    pub fn set_certificate(&self, digest: Option<[u8; 32]>) {
        *locked(&self.certificate) = digest;
    }

    /// SHA-256 of the certificate that is shown, in DER; `None` while none is.
    pub fn certificate(&self) -> Option<[u8; 32]> {
        *locked(&self.certificate)
    }

    pub fn reached(&self) -> Option<Reached> {
        locked(&self.reached).clone()
    }

    pub fn installation(&self) -> Option<Installation> {
        locked(&self.installation).clone()
    }

    pub(super) fn set_installation(&self, now: Installation) {
        *locked(&self.installation) = Some(now);
    }

    /// Wishes for a restart of the whole appliance (after a factory reset): a reboot, or in a sandbox the program.
    pub fn restart_wanted(&self) -> async_channel::Receiver<()> {
        self.restart.1.clone()
    }

    pub(super) fn want_restart(&self) {
        // One wish is enough.
        let _ = self.restart.0.try_send(());
    }
}
