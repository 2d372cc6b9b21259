//! Export of metrics to a Valkey or Redis server: the newest first in one list, as long as the history of the
//! dashboard, for as long as the retention says. Without a server nothing is lost: the appliance's own rings serve.
//! Blocks.

mod resp;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

pub use resp::{Connection, RespError};

use crate::config::valkey::Valkey;

/// The list.
pub const HISTORY: &str = "aifw:metrics:history";
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValkeyStatus {
    Connected,
    Disabled,
    Disconnected,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// What the connection was made for.
    settings: Option<Valkey>,
    not_before: Option<Instant>,
    pause: Duration,
    error: Option<String>,
}

/// Exports metrics.
#[derive(Default)]
pub struct Exporter {
    state: Mutex<State>,
    extra_roots: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn same_server(&self, settings: &Valkey) -> bool {
        self.settings.as_ref().is_some_and(|known| {
            (&known.url, &known.password, known.enabled)
                == (&settings.url, &settings.password, settings.enabled)
        })
    }

    fn lost(&mut self, error: &RespError, settings: &Valkey) {
        let text = crate::config::secret::without(&error.to_string(), [&settings.password]);
        if self.error.as_ref() != Some(&text) {
            log::info!("metrics export: {text}");
        }
        self.connection = None;
        self.error = Some(text);
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.not_before = Some(Instant::now() + self.pause);
    }
}

impl Exporter {
    /// Additional certificate authorities, in PEM: for tests.
    #[doc(hidden)]
    pub fn set_roots(&self, roots: Vec<String>) {
        *lock(&self.extra_roots) = roots;
    }

    /// How it stands. Does not wait for what is under way.
    pub fn status(&self, settings: &Valkey) -> ValkeyStatus {
        match self.state.try_lock() {
            Ok(state) if state.connection.is_some() && state.same_server(settings) => ValkeyStatus::Connected,
            _ if !settings.enabled => ValkeyStatus::Disabled,
            _ => ValkeyStatus::Disconnected,
        }
    }

    /// Why there is no connection, as far as it is known.
    pub fn last_error(&self) -> Option<String> {
        self.state.try_lock().ok().and_then(|state| state.error.clone())
    }

    /// Connects anew with changed settings, at once. Blocks, for about 3 s at most.
    pub fn reconnect(&self, settings: &Valkey) -> ValkeyStatus {
        let mut state = lock(&self.state);
        if !state.same_server(settings) {
            *state = State::default();
        }
        state.not_before = None;
        self.connect(&mut state, settings);
        drop(state);
        self.status(settings)
    }

    fn connect(&self, state: &mut State, settings: &Valkey) {
        if !state.same_server(settings) {
            *state = State { settings: Some(settings.clone()), ..State::default() };
        }
        state.settings = Some(settings.clone());
        let waits = state.not_before.is_some_and(|until| until > Instant::now());
        if !settings.enabled || state.connection.is_some() || waits {
            return;
        }
        match Connection::open(settings, &lock(&self.extra_roots).clone()) {
            Ok(connection) => {
                log::info!("metrics export: connected");
                (state.connection, state.error, state.pause) = (Some(connection), None, Duration::ZERO);
            }
            Err(error) => state.lost(&error, settings),
        }
    }

    /// Exports one entry; `most` is the history's length. `false` = there is no connection. Blocks.
    pub fn push(&self, settings: &Valkey, most: u32, entry: &[u8]) -> bool {
        let mut state = lock(&self.state);
        self.connect(&mut state, settings);
        let Some(connection) = &mut state.connection else { return false };
        let seconds = settings.retention_minutes.saturating_mul(60);
        let last = most.min(seconds).saturating_sub(1).to_string();
        let seconds = seconds.to_string();
        let commands: [&[&[u8]]; 3] = [
            &[b"LPUSH", HISTORY.as_bytes(), entry],
            &[b"LTRIM", HISTORY.as_bytes(), b"0", last.as_bytes()],
            &[b"EXPIRE", HISTORY.as_bytes(), seconds.as_bytes()],
        ];
        match connection.run(&commands) {
            Ok(_) => true,
            Err(error) => {
                state.lost(&error, settings);
                false
            }
        }
    }
}
