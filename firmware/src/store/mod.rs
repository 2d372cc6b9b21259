//! The store: the configuration and the identities on disk (redb), every change journaled, and an immutable
//! snapshot in memory for readers. A write is durable when `commit` has returned. Knows nothing of HTTP or
//! processes. Opened by one process only.
//!
//! `disk` holds the tables, `writer` the one thread that writes, `journal` the way back to earlier states,
//! `ledger` versions and the commit-confirm window, `audit` who did what, `seal` the key for secrets,
//! `migrate` the way from older schemas.

mod audit;
mod disk;
pub mod identity;
mod journal;
mod ledger;
mod migrate;
mod seal;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use redb::ReadableDatabase;

use crate::config::{Config, Timestamp};
pub use audit::{AuditEntry, AuditFilter, NewAudit};
pub use disk::DATABASE_FILE;
pub use identity::Identity;
pub use ledger::{ConfirmWindow, Ledger, Moment, NewVersion, Version};
use writer::{Answer, Job, Shared, Writer};

/// What is stored, at one moment. Readers hold it as long as they like; it never changes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts the commits that changed anything below; equal numbers mean equal snapshots.
    pub revision: u64,
    /// Counts the commits that changed `config`: the journal's sequence number.
    pub sequence: u64,
    /// What is wanted.
    pub config: Config,
    /// What the machine was last made to match. Differs from `config` where changes are pending.
    pub applied: Config,
    pub identity: Identity,
    /// Saved versions and the commit-confirm window.
    pub ledger: Ledger,
}

/// What a commit may change. Dropping out with an error leaves everything as it was.
#[derive(Debug)]
pub struct Draft {
    pub config: Config,
    pub applied: Config,
    pub identity: Identity,
    /// Saved versions and the commit-confirm window; see [`Draft::save_version`], [`Draft::open_window`].
    pub ledger: Ledger,
    /// Entries written in the same transaction.
    pub audit: Vec<NewAudit>,
    /// The time of the commit.
    pub now: Timestamp,
    /// Kept in the journal beside the change.
    pub comment: Option<String>,
    /// The state this commit starts from.
    base: Arc<Snapshot>,
}

impl Draft {
    fn of(snapshot: &Arc<Snapshot>, now: Timestamp) -> Self {
        Self {
            config: snapshot.config.clone(),
            applied: snapshot.applied.clone(),
            identity: snapshot.identity.clone(),
            ledger: snapshot.ledger.clone(),
            audit: Vec::new(),
            now,
            comment: None,
            base: snapshot.clone(),
        }
    }
    /// The state this commit starts from.
    pub fn base(&self) -> &Arc<Snapshot> {
        &self.base
    }
}

/// Who makes a change.
#[derive(Debug, Clone)]
pub struct Author {
    /// User id, or a word such as `system`, `setup`, `anonymous`.
    pub actor_id: String,
    /// User name, `key:<name>` for an API key, or the same word.
    pub name: String,
    pub ip: Option<IpAddr>,
}

impl Author {
    pub fn system(name: &str) -> Self {
        Self { actor_id: name.into(), name: name.into(), ip: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store cannot be opened: {0}")]
    Open(String),
    #[error("the store in {0} is in use by another process; a running appliance is reached through its API")]
    InUse(String),
    #[error(
        "the store has schema {found}, this firmware knows up to {known}; start the firmware that wrote it, or \
         put back the copy that was kept before its update"
    )]
    Newer { found: u32, known: u32 },
    #[error("the store could not write: {0}")]
    Write(String),
    #[error("the store could not read: {0}")]
    Read(String),
    #[error("the change broke off; nothing was stored")]
    Aborted,
    #[error("the store is closed")]
    Closed,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<E> {
    /// The caller's own closure refused.
    #[error("{0}")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may be chosen when a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// How many audit entries are kept; the oldest go first.
    pub audit_limit: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { audit_limit: 100_000 }
    }
}

/// The open store. Clones share it. It is closed when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    jobs: async_channel::Sender<Job>,
    /// The writer, and the lock that is held as long as it runs.
    running: Mutex<Option<(JoinHandle<()>, File)>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "revision {}", self.shared.snapshot.load().revision)
    }
}

impl Inner {
    /// Waits for the writer to end what it has taken on.
    fn close(&self) {
        self.jobs.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((thread, _lock)) = running
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the store's writer ended with a panic");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Opens (or creates) the store in `dir`: `aifw.redb` and `secret.key` (mode 0600). Runs migrations.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, StoreOptions::default())
    }

    /// As [`Store::open`], with options.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let lock = lock(dir)?;
        Self::start(dir, options, lock, disk::file_opener(dir))
    }

    fn start(dir: &Path, options: StoreOptions, lock: File, open: disk::Opener) -> Result<Self, StoreError> {
        let (database, key) = migrate::open(dir, &open)?;
        let (head, snapshot) = disk::load(&database, &key)?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            database: RwLock::new(Some(Arc::new(database))),
            watchers: Mutex::default(),
            key,
        });
        let (jobs, queue) = async_channel::unbounded();
        let writer = Writer {
            shared: shared.clone(),
            jobs: queue,
            open,
            head,
            audit_limit: options.audit_limit,
            broken: false,
            folded_to: 0,
            cleaned_at: Timestamp::UNIX_EPOCH,
        };
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Open(format!("thread: {error}")))?;
        Ok(Self { inner: Arc::new(Inner { shared, jobs, running: Mutex::new(Some((thread, lock))) }) })
    }

    /// Ends the store for all clones: commits that wait are made, later ones are refused with
    /// [`StoreError::Closed`], the file is free for another process. Snapshots stay readable. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }

    /// The state now: no lock, no disk.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.shared.snapshot.load_full()
    }

    /// Receives the number of each new revision; a slow reader gets the newest only.
    pub fn watch(&self) -> async_channel::Receiver<u64> {
        let (sender, receiver) = async_channel::bounded(1);
        self.inner.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Runs `change` on a draft of the newest state, and makes it durable. Commits are serialised; those that
    /// wait together share one write to the disk. Configuration changes are journaled with before and after.
    /// `change` runs on the store's thread and must not wait for anything. A commit whose future is dropped
    /// may still happen.
    pub fn commit<T, E, F>(
        &self,
        author: &Author,
        change: F,
    ) -> impl Future<Output = Result<T, CommitError<E>>> + Send + 'static + use<T, E, F>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&mut Draft) -> Result<T, E> + Send + 'static,
    {
        let (sender, receiver) = async_channel::bounded(1);
        let run = move |draft: &mut Draft| -> Option<Answer> {
            match change(draft) {
                Ok(value) => Some(Box::new(move |outcome: Result<(), StoreError>| {
                    let answer = outcome.map(|()| value).map_err(CommitError::Store);
                    let _caller_is_gone = sender.try_send(answer);
                })),
                Err(refusal) => {
                    let _caller_is_gone = sender.try_send(Err(CommitError::Refused(refusal)));
                    None
                }
            }
        };
        let job = Job { author: author.clone(), run: Box::new(run) };
        let jobs = self.inner.jobs.clone();
        async move {
            jobs.send(job).await.map_err(|_| StoreError::Closed)?;
            receiver.recv().await.unwrap_or(Err(CommitError::Store(StoreError::Aborted)))
        }
    }

    /// Audit entries that match, and how many match in all. Reads the disk.
    pub fn audit(&self, filter: &AuditFilter) -> Result<(Vec<AuditEntry>, u64), StoreError> {
        audit::query(&self.read()?, filter)
    }

    /// Saved versions, newest first.
    pub fn versions(&self) -> Vec<Version> {
        let snapshot = self.snapshot();
        let mut versions: Vec<Version> = snapshot.ledger.versions.iter().map(|v| Version::clone(v)).collect();
        versions.reverse();
        versions
    }

    /// The configuration as it was at a version; `None` = no such version. Reads the disk.
    pub fn config_at(&self, version: u64) -> Result<Option<Config>, StoreError> {
        self.undo(|ledger| ledger.versions.get(&version).map(|version| version.sequence))
    }

    /// The configuration as it was at a journal sequence; `None` = the journal no longer reaches that far.
    /// Reads the disk.
    pub fn config_at_sequence(&self, sequence: u64) -> Result<Option<Config>, StoreError> {
        self.undo(|_| Some(sequence))
    }

    /// What a revert of the open commit-confirm window goes back to: what was stored and what was in force when
    /// it opened. `None` when no window is open. Reads the disk.
    pub fn window_target(&self) -> Result<Option<(Config, Config)>, StoreError> {
        let snapshot = self.snapshot();
        let Some(window) = &snapshot.ledger.confirm.window else { return Ok(None) };
        let Some(stored) = self.undo(|_| Some(window.target))? else { return Ok(None) };
        let applied = window.applied_target(&stored).map_err(|error| StoreError::Read(error.to_string()))?;
        Ok(Some((stored, applied)))
    }

    fn undo(&self, target: impl Fn(&Ledger) -> Option<u64>) -> Result<Option<Config>, StoreError> {
        // The journal must be read at the very moment of the snapshot. A commit is on the disk shortly before
        // readers see it, so the two can differ for an instant.
        for _ in 0..1000 {
            let transaction = self.read()?;
            let snapshot = self.snapshot();
            if disk::head_of(&transaction)?.sequence != snapshot.sequence {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let Some(target) = target(&snapshot.ledger) else { return Ok(None) };
            return self
                .inner
                .shared
                .key
                .sealing(|| journal::undo(&transaction, &snapshot.config, snapshot.sequence, target))?;
        }
        Err(StoreError::Read("the journal does not stay still".into()))
    }

    fn read(&self) -> Result<redb::ReadTransaction, StoreError> {
        let database = self.inner.shared.database().ok_or(StoreError::Closed)?;
        database.begin_read().map_err(|error| StoreError::Read(error.to_string()))
    }
}

/// Makes sure that no other process has the store; `dir` is made if it is not there (mode 0700).
fn lock(dir: &Path) -> Result<File, StoreError> {
    let fault = |error: std::io::Error| StoreError::Open(format!("{}: {error}", dir.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fault)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = options.open(dir.join("aifw.lock")).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(dir.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(fault(error)),
    }
}
