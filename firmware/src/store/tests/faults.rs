//! A disk that fails, and a power cut: the store's file behind a backend that does what a test says.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::*;

/// A file in memory that knows what has been synced, and can be full.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<DiskState>);

#[derive(Debug, Default)]
struct DiskState {
    /// What programs see, and what would be left after a power cut.
    content: Mutex<(Vec<u8>, Vec<u8>)>,
    full: AtomicBool,
    /// Only syncing fails.
    sync_fails: AtomicBool,
}

impl Disk {
    fn cut_power(&self) {
        let mut content = self.0.content.lock().unwrap();
        content.0 = content.1.clone();
    }
    fn space(&self) -> io::Result<()> {
        if self.0.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn opener(&self) -> disk::Opener {
        let disk = self.clone();
        Box::new(move || redb::Builder::new().create_with_backend(disk.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.content.lock().unwrap().0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.0.content.lock().unwrap();
        let start = offset as usize;
        let part = content.0.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.space()?;
        self.0.content.lock().unwrap().0.resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.space()?;
        if self.0.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("sync failed"));
        }
        let mut content = self.0.content.lock().unwrap();
        content.1 = content.0.clone();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.space()?;
        let mut content = self.0.content.lock().unwrap();
        let start = offset as usize;
        content.0[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn open(dir: &Path, disk: &Disk) -> Store {
    Store::start(dir, StoreOptions::default(), lock(dir).unwrap(), disk.opener()).unwrap()
}

fn try_commit(store: &Store, id: u128) -> Result<(), CommitError<Infallible>> {
    block_on(store.commit(&author(), move |draft| {
        draft.config.rules.insert(rule(id, 1, "x"));
        draft.audit.push(audit("rule_added", "engine", "x"));
        draft.save_version(version("x"));
        Ok(())
    }))
}

fn audit_count(store: &Store) -> u64 {
    store.audit(&AuditFilter::default()).unwrap().1
}

#[test]
fn a_full_disk_refuses_commits_and_the_store_goes_on_when_there_is_room() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = open(dir.path(), &disk);
    try_commit(&store, 1).unwrap();
    let before = store.snapshot();
    disk.0.full.store(true, Ordering::SeqCst);
    for id in 2..5 {
        assert!(matches!(try_commit(&store, id), Err(CommitError::Store(StoreError::Write(_)))));
        same(&before, &store.snapshot());
    }
    disk.0.full.store(false, Ordering::SeqCst);
    try_commit(&store, 9).unwrap();
    let after = store.snapshot();
    assert_eq!(after.config.rules.iter().map(|rule| rule.id.as_u128()).collect::<Vec<_>>(), [1, 9]);
    assert_eq!(audit_count(&store), 2);
    assert_eq!(store.config_at(1).unwrap().unwrap(), before.config);
    drop(store);
    same(&after, &open(dir.path(), &disk).snapshot());
}

#[test]
fn a_commit_refused_after_it_reached_the_disk_stays_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = open(dir.path(), &disk);
    try_commit(&store, 1).unwrap();
    let before = store.snapshot();
    // Everything is written, only the last word of the disk is missing.
    disk.0.sync_fails.store(true, Ordering::SeqCst);
    assert!(try_commit(&store, 2).is_err());
    disk.0.sync_fails.store(false, Ordering::SeqCst);
    same(&before, &store.snapshot());
    try_commit(&store, 3).unwrap();
    let after = store.snapshot();
    assert!(!after.config.rules.contains(&Id::from_u128(2)));
    assert_eq!(after.ledger.versions.len(), 2);
    assert_eq!(audit_count(&store), 2);
    assert_eq!(store.config_at(1).unwrap().unwrap(), before.config);
    drop(store);
    let store = open(dir.path(), &disk);
    same(&after, &store.snapshot());
    assert_eq!(audit_count(&store), 2);
    assert_eq!(store.config_at(1).unwrap().unwrap(), before.config);
}

#[test]
fn an_answered_commit_survives_a_power_cut() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut store = open(dir.path(), &disk);
    for id in 1..=20 {
        try_commit(&store, id).unwrap();
        let before = store.snapshot();
        if id % 5 == 0 {
            // The process is gone with the power: nothing is written when it ends.
            disk.cut_power();
            let left = disk.0.content.lock().unwrap().1.clone();
            drop(store);
            *disk.0.content.lock().unwrap() = (left.clone(), left);
            store = open(dir.path(), &disk);
            same(&before, &store.snapshot());
            assert_eq!(audit_count(&store), id as u64);
            assert_eq!(store.config_at(1).unwrap().unwrap().rules.len(), 1);
        }
    }
}
