//! Blocklists: fetching them, what is known of each, and the policy zones made of the last good copies. A copy that
//! cannot be read, or that has lost nearly all its names, leaves everything as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_lock::{Mutex as AsyncMutex, MutexGuard as Turn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LeaseNames;
use crate::compile::services::dns::World;
use crate::compile::services::rpz::{self, Allowed, Source};
use crate::config::dns::blocking::{self, BlocklistSource, Format};
use crate::config::{Config, Timestamp};
use crate::platform::fetch::{Fetched, Limits, Validators, fetch_as};
use crate::services::{Runner, ServiceError, files};

const USER_AGENT: &str = "AiFw-Blocklist-Updater/1.0";
const LIMIT_BYTES: u64 = 50 * 1024 * 1024;
const LIMIT_TIME: Duration = Duration::from_secs(30);
/// A list of at least so many names that comes back with less than a tenth of them is taken for a fault.
const SHRINKS_FROM: u64 = 20;

/// What is known of a list. Lies beside its copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Unix seconds of the last good or unchanged fetch.
    pub last_updated: Option<i64>,
    /// Hexadecimal, of the document as it was fetched.
    pub last_sha256: Option<String>,
    pub rule_count: u64,
    pub last_error: Option<String>,
    validators: Validators,
    /// What the copy was fetched from, and read as.
    #[serde(default)]
    made_of: Option<(String, Format)>,
}

/// What a refresh came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefreshOutcome {
    pub source_id: u64,
    pub ok: bool,
    pub rule_count: u64,
    /// Fetched.
    pub bytes: u64,
    /// Empty if there is none.
    pub sha256: String,
    pub error: Option<String>,
}

impl RefreshOutcome {
    pub fn failed(source_id: u64, error: impl std::fmt::Display) -> Self {
        let error = Some(error.to_string());
        Self { source_id, ok: false, rule_count: 0, bytes: 0, sha256: String::new(), error }
    }
}

/// The copies of all lists.
pub struct Blocklists {
    runner: Arc<Runner>,
    leases: Arc<dyn LeaseNames>,
    inside_allowed: bool,
    states: Mutex<BTreeMap<u64, State>>,
    /// Held while a list is fetched: by one at a time.
    fetching: Mutex<BTreeMap<u64, Arc<AsyncMutex<()>>>>,
    /// Held while the zones' files are made and the daemon reads them; whether it has still to be told of some.
    turn: AsyncMutex<bool>,
}

impl Blocklists {
    /// `inside_allowed`: private and loopback servers may be asked.
    pub fn new(runner: Arc<Runner>, leases: Arc<dyn LeaseNames>, inside_allowed: bool) -> Self {
        let (states, fetching, turn) = (Mutex::default(), Mutex::default(), AsyncMutex::default());
        Self { runner, leases, inside_allowed, states, fetching, turn }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<u64, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: u64, ending: &str) -> PathBuf {
        self.runner.places().data.join("blocklists").join(format!("{id}.{ending}"))
    }

    /// What is known of a list.
    pub fn state(&self, id: u64) -> State {
        let mut states = self.states();
        let read = || {
            let text = std::fs::read(self.path(id, "json")).unwrap_or_default();
            serde_json::from_slice(&text).unwrap_or_default()
        };
        states.entry(id).or_insert_with(read).clone()
    }

    fn remember(&self, id: u64, state: State) -> Result<(), ServiceError> {
        // A struct of plain fields: serialising it has no way to fail.
        let text = serde_json::to_vec(&state).unwrap_or_default();
        files::write(&self.path(id, "json"), &text, 0o600)?;
        self.states().insert(id, state);
        Ok(())
    }

    /// What was fetched is to be looked at again, whatever its server says.
    pub fn forget_copy(&self, id: u64) -> Result<(), ServiceError> {
        let state = self.state(id);
        let validators = Validators::default();
        self.remember(id, State { last_sha256: None, validators, made_of: None, ..state })
    }

    /// A list that is gone leaves nothing.
    pub fn forget(&self, id: u64) {
        self.states().remove(&id);
        let zone = self.runner.places().config.join(rpz::list_file(id));
        for path in [self.path(id, "json"), self.path(id, "list"), zone] {
            std::fs::remove_file(path).ok();
        }
    }

    /// Fetches a list; its rules are in force after [`Blocklists::rebuild`]. Whoever wants the same list waits, and
    /// then asks its server whether there is a newer one.
    pub async fn refresh(self: &Arc<Self>, source: Arc<BlocklistSource>) -> RefreshOutcome {
        let alone = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.entry(source.id).or_default().clone()
        };
        let _alone = alone.lock().await;
        let this = self.clone();
        ::blocking::unblock(move || this.refresh_now(&source)).await
    }

    fn refresh_now(&self, source: &BlocklistSource) -> RefreshOutcome {
        let before = self.state(source.id);
        match self.fetch(source, &before) {
            Ok((state, bytes)) => {
                let outcome = RefreshOutcome {
                    source_id: source.id,
                    ok: true,
                    rule_count: state.rule_count,
                    bytes,
                    sha256: state.last_sha256.clone().unwrap_or_default(),
                    error: None,
                };
                match self.remember(source.id, state) {
                    Ok(()) => outcome,
                    Err(error) => RefreshOutcome::failed(source.id, error),
                }
            }
            Err(reason) => {
                log::warn!("blocklist {:?}: {reason}", source.name);
                let state = State { last_error: Some(reason.to_string()), ..before };
                self.remember(source.id, state).unwrap_or_else(|error| log::warn!("{error}"));
                RefreshOutcome::failed(source.id, reason)
            }
        }
    }

    /// The new state and how many bytes were fetched; the copy is kept only if it is good.
    fn fetch(&self, source: &BlocklistSource, before: &State) -> Result<(State, u64), FetchFailure> {
        let limits = Limits { bytes: LIMIT_BYTES, time: LIMIT_TIME, inside_allowed: self.inside_allowed };
        let copy = self.path(source.id, "list");
        let made_of = Some((source.url.clone(), source.format));
        // A copy of what was at another address, or read otherwise, says nothing of this one.
        let comparable = before.last_sha256.is_some() && before.made_of == made_of;
        let known = match copy.is_file() && comparable {
            true => before.validators.clone(),
            false => Validators::default(),
        };
        let now = Some(Timestamp::now().as_second());
        let unchanged = State { last_updated: now, last_error: None, ..before.clone() };
        let (body, validators) = match fetch_as(USER_AGENT, &source.url, &known, limits)? {
            Fetched::NotModified => return Ok((unchanged, 0)),
            Fetched::Document { body, validators } => (body, validators),
        };
        let bytes = body.len() as u64;
        let digest = ring::digest::digest(&ring::digest::SHA256, &body);
        let sha256 = data_encoding::HEXLOWER.encode(digest.as_ref());
        if copy.is_file() && comparable && before.last_sha256.as_ref() == Some(&sha256) {
            return Ok((State { validators, ..unchanged }, bytes));
        }
        let text = lower(body);
        let names = rpz::parse(source.format, &text)?.entries.len() as u64;
        let shrunk = before.rule_count >= SHRINKS_FROM && names.saturating_mul(10) < before.rule_count;
        if shrunk && comparable {
            return Err(FetchFailure::Shrunk { before: before.rule_count, now: names });
        }
        files::write(&copy, text.as_bytes(), 0o600)?;
        let state = State {
            last_updated: now,
            last_sha256: Some(sha256),
            rule_count: names,
            last_error: None,
            validators,
            made_of,
        };
        Ok((state, bytes))
    }

    /// Whether the daemon was told of every zone that there is now; only a start tells it.
    pub async fn knows_zones(&self, config: &Config) -> bool {
        let file = self.runner.places().config.join("rdns.toml");
        let text = ::blocking::unblock(move || std::fs::read_to_string(file)).await.unwrap_or_default();
        rpz::zones(config).iter().all(|zone| text.contains(&format!("\"{}\"", zone.name)))
    }

    /// Whoever makes the zones' files does so alone; the value says whether the daemon has still to read some.
    pub async fn turn(&self) -> Turn<'_, bool> {
        self.turn.lock().await
    }

    /// Makes the zones' files of the copies that there are, for lists that are on while blocking is; all others are
    /// emptied. Returns whether one has changed. The daemon is not told. Only for who has the [`Blocklists::turn`].
    pub async fn rebuild(self: &Arc<Self>, config: &Config) -> Result<bool, ServiceError> {
        let (this, config) = (self.clone(), config.clone());
        ::blocking::unblock(move || this.rebuild_now(&config)).await
    }

    fn rebuild_now(&self, config: &Config) -> Result<bool, ServiceError> {
        let facts = self.runner.facts();
        let sources = blocking::sources(config);
        let mut copies = Vec::new();
        for source in sources.iter().filter(|source| config.dns_blocking.enabled && source.enabled) {
            if let Ok(text) = std::fs::read_to_string(self.path(source.id, "list")) {
                copies.push((source, text));
            }
        }
        let mut lists = Vec::new();
        for (source, text) in &copies {
            match rpz::parse(source.format, text) {
                Ok(list) => lists.push(Source { source, list }),
                // Its format was changed: it is fetched anew.
                Err(error) => log::warn!("blocklist {:?}: {error}", source.name),
            }
        }
        let world = World { leases: self.leases.leases(config), ..World::default() };
        let allowed = Allowed::of(config, &world);
        let texts = rpz::records(config, &allowed, &lists);
        let mut made: BTreeMap<u64, String> = lists.iter().map(|list| list.source.id).zip(texts).collect();
        let custom = rpz::custom(config, &world);
        let mut changed = replace(&facts.places.config.join(&custom.path), &custom.bytes)?;
        for source in &sources {
            let zone = rpz::list_zone(source.id);
            let text = made.remove(&source.id).unwrap_or_else(|| rpz::header(&zone));
            let path = facts.places.config.join(rpz::list_file(source.id));
            changed |= replace(&path, text.as_bytes())?;
        }
        Ok(changed)
    }
}

/// Why a list was not taken.
#[derive(Debug, thiserror::Error)]
enum FetchFailure {
    #[error(transparent)]
    Fetch(#[from] crate::platform::fetch::FetchError),
    #[error(transparent)]
    List(#[from] rpz::ListError),
    #[error("the list has shrunk from {before} to {now} names; the one before is kept")]
    Shrunk { before: u64, now: u64 },
    #[error(transparent)]
    Keep(#[from] ServiceError),
}

/// Writes a policy zone's file; `false` if it says so already. The daemon reads it as the user it has become.
fn replace(path: &Path, bytes: &[u8]) -> Result<bool, ServiceError> {
    let same = std::fs::read(path).is_ok_and(|before| before == bytes);
    if !same {
        files::write(path, bytes, 0o644)?;
    }
    Ok(!same)
}

/// As text in lower case, in place: whatever a document holds, it takes no more memory than it came with. Bytes
/// beyond ASCII, which no name has, become a control character.
fn lower(mut body: Vec<u8>) -> String {
    for byte in &mut body {
        *byte = if byte.is_ascii() { byte.to_ascii_lowercase() } else { 1 };
    }
    // All of it is ASCII now.
    String::from_utf8(body).unwrap_or_default()
}
