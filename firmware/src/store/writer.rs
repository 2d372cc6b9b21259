//! The thread that writes. It takes the commits that wait, runs each on a draft of the state that the one
//! before left, puts what they changed into one durable transaction, and only then lets readers see it and
//! answers. What is in memory is never ahead of what is on the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use jiff::SignedDuration;
use redb::Database;

use super::disk::{self, Batch, Head, Opener};
use super::journal;
use super::seal::StoreKey;
use super::{Author, Draft, Snapshot, StoreError};
use crate::config::Timestamp;
use crate::config::document::{Document, encode};

/// How many commits share a transaction at most.
const BATCH_LIMIT: usize = 256;
/// How many journal entries stay when no version refers to any.
const JOURNAL_WITHOUT_VERSIONS: u64 = 10_000;

/// How many journal entries may lie between the oldest version and the next before they are made one: an
/// active version that is much older than all others would keep every change since.
pub(super) const FOLD_AFTER: u64 = 256;

/// How often tokens that have run out are dropped.
const CLEAN_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// Tells the caller of a commit how it ended.
pub(super) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Makes a change, or answers the refusal itself and returns `None`.
type Change = Box<dyn FnOnce(&mut Draft) -> Option<Answer> + Send>;

/// A commit that waits.
pub(super) struct Job {
    pub author: Author,
    pub run: Change,
}

/// What the writer shares with readers.
pub(super) struct Shared {
    pub snapshot: ArcSwap<Snapshot>,
    /// `None` while the database is being opened anew after a fault, and after the end.
    pub database: RwLock<Option<Arc<Database>>>,
    pub watchers: Mutex<Vec<async_channel::Sender<u64>>>,
    pub key: StoreKey,
}

impl Shared {
    pub fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn set_database(&self, database: Option<Database>) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database.map(Arc::new);
    }
    fn publish(&self, snapshot: Arc<Snapshot>) {
        let revision = snapshot.revision;
        self.snapshot.store(snapshot);
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.force_send(revision).is_ok());
    }
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub jobs: async_channel::Receiver<Job>,
    pub open: Opener,
    pub head: Head,
    pub audit_limit: u64,
    /// A write failed; what the disk holds is not known until it was opened anew.
    pub broken: bool,
    /// Up to where the journal before the oldest version but one was folded.
    pub folded_to: u64,
    /// When tokens that have run out were dropped last.
    pub cleaned_at: Timestamp,
}

impl Writer {
    /// Works until every [`super::Store`] is gone.
    pub fn run(mut self) {
        while let Ok(first) = self.jobs.recv_blocking() {
            let mut jobs = vec![first];
            while jobs.len() < BATCH_LIMIT
                && let Ok(job) = self.jobs.try_recv()
            {
                jobs.push(job);
            }
            self.commit(jobs);
        }
        self.shared.set_database(None);
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let before = self.shared.snapshot.load_full();
        let mut work = Work {
            state: before.clone(),
            head: self.head,
            batch: Batch::default(),
            answers: Vec::new(),
            clean: false,
        };
        let now = Timestamp::now();
        if now.duration_since(self.cleaned_at) > CLEAN_EVERY {
            work.clean = true;
            self.cleaned_at = now;
        }
        for job in jobs {
            work.take(job, &self.shared.key);
        }
        let Work { state, mut head, mut batch, answers, .. } = work;
        if answers.is_empty() {
            return;
        }
        if batch.is_empty() {
            answers.into_iter().for_each(|answer| answer(Ok(())));
            return;
        }
        head.writes += 1;
        batch.forget_journal_to = forgettable(&state, &before);
        batch.fold_journal =
            state.ledger.oldest_span().filter(|(from, to)| to - self.folded_to.max(*from) > FOLD_AFTER);
        let outcome = self.write(&batch, head);
        if outcome.is_ok() {
            if let Some((_, to)) = batch.fold_journal {
                self.folded_to = to;
            }
            self.head = head;
            if state.revision != before.revision {
                self.shared.publish(state);
            }
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    fn write(&mut self, batch: &Batch, head: Head) -> Result<(), StoreError> {
        if self.broken {
            self.recover()?;
        }
        let Some(database) = self.shared.database() else { return Err(StoreError::Closed) };
        disk::write(&database, batch, head, self.audit_limit).inspect_err(|error| {
            log::error!("{error}; the change was refused");
            self.broken = true;
        })
    }

    /// Opens the database anew after a failed write. Should the disk hold the commits that were refused, they
    /// are taken back: refused stays refused.
    fn recover(&mut self) -> Result<(), StoreError> {
        self.shared.set_database(None);
        let database = (self.open)().map_err(|error| StoreError::Write(error.to_string()))?;
        let (on_disk, found) = disk::load(&database, &self.shared.key)?;
        if on_disk != self.head {
            let truth = self.shared.snapshot.load_full();
            let mut batch =
                Batch { cut_after: Some((self.head.sequence, self.head.next_audit)), ..Batch::default() };
            self.shared.key.sealing(|| {
                batch.objects = truth.config.row_changes_since(&found.config);
                batch.add_changes(&truth, &found);
            })?;
            disk::write(&database, &batch, self.head, self.audit_limit)?;
        }
        self.shared.set_database(Some(database));
        self.broken = false;
        log::warn!("the store writes again");
        Ok(())
    }
}

/// A batch in the making.
struct Work {
    state: Arc<Snapshot>,
    head: Head,
    batch: Batch,
    answers: Vec<Answer>,
    /// Drop tokens that have run out with the next accepted commit.
    clean: bool,
}

impl Work {
    fn take(&mut self, job: Job, key: &StoreKey) {
        let Job { author, run } = job;
        let mut draft = Draft::of(&self.state, Timestamp::now());
        // A change that panics is dropped with its draft; its caller sees the answer channel close.
        let Ok(Some(answer)) = catch_unwind(AssertUnwindSafe(|| run(&mut draft))) else { return };
        if std::mem::take(&mut self.clean) {
            draft.identity.forget_expired(draft.now);
        }
        match self.add(draft, &author, key) {
            Ok(()) => self.answers.push(answer),
            Err(error) => answer(Err(error)),
        }
    }

    fn add(&mut self, draft: Draft, author: &Author, key: &StoreKey) -> Result<(), StoreError> {
        let Draft { config, applied, identity, mut ledger, audit, now, comment, base: older } = draft;
        let objects = key.sealing(|| config.row_changes_since(&older.config))?;
        let sequence = older.sequence + u64::from(!objects.is_empty());
        ledger.settle(older.ledger.counters.last_version, sequence);
        ledger.prune(config.history.max_versions as usize);
        let mut newer = Snapshot { revision: older.revision, sequence, config, applied, identity, ledger };
        let mut rows = Batch::default();
        key.sealing(|| rows.add_changes(&newer, &older))?;
        if !objects.is_empty() {
            let entry = journal::Entry::new(author, now, comment, older.sequence, &objects)?;
            rows.journal.push((sequence, encode(&entry)));
        }
        rows.objects = objects;
        let changed = !rows.is_empty();
        // Nothing can fail from here on.
        self.batch.objects.append(&mut rows.objects);
        self.batch.applied.append(&mut rows.applied);
        self.batch.identity.append(&mut rows.identity);
        self.batch.ledger.append(&mut rows.ledger);
        self.batch.journal.append(&mut rows.journal);
        for entry in audit {
            self.batch.audit.push((self.head.next_audit, entry.written_by(author, now)));
            self.head.next_audit += 1;
        }
        if changed {
            newer.revision += 1;
            self.head.revision = newer.revision;
            self.head.sequence = newer.sequence;
            self.state = Arc::new(newer);
        }
        Ok(())
    }
}

/// Up to which sequence the journal is no longer needed, if that has moved.
fn forgettable(state: &Snapshot, before: &Snapshot) -> Option<u64> {
    let oldest = |snapshot: &Snapshot| match snapshot.ledger.oldest_sequence() {
        Some(sequence) => sequence,
        None => snapshot.sequence.saturating_sub(JOURNAL_WITHOUT_VERSIONS),
    };
    let now = oldest(state);
    (now > oldest(before)).then_some(now)
}
