//! The version that follows a write (contract/config.md §4): made in the background, a burst of writes merged
//! into one, nothing made if the document is as it was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future;

use super::Fingerprint;
use crate::api::app::AfterWrite;
use crate::store::{Author, CommitError, Draft, Moment, Store};

/// Writes that follow each other faster than this make one version …
const QUIET: Duration = Duration::from_millis(150);
/// … but no write waits longer than this for its version.
const LATEST: Duration = Duration::from_millis(800);
/// Author of these versions.
const AUTHOR: &str = "auto";

/// Paths whose writes change nothing that a document holds, or that save versions themselves.
const EXEMPT: [&str; 11] = [
    "/config/",
    "/auth/login",
    "/auth/refresh",
    "/auth/logout",
    "/auth/register",
    "/auth/totp/login",
    "/auth/oauth/",
    "/dns/stream",
    "/updates/",
    "/reload",
    "/metrics",
];

/// The hook that the API layer calls after each successful write. What it starts ends with the hook.
pub fn auto_snapshot(store: Store) -> AfterWrite {
    let seen = AtomicU64::new(store.snapshot().sequence);
    let (sender, receiver) = async_channel::unbounded();
    smol::spawn(work(store.clone(), receiver)).detach();
    Box::new(move |route, path, _caller| {
        let below = path.strip_prefix("/api/v1").unwrap_or(path);
        let sequence = store.snapshot().sequence;
        // The same sequence is the same configuration.
        if seen.swap(sequence, Ordering::Relaxed) == sequence
            || EXEMPT.iter().any(|exempt| below.starts_with(exempt))
        {
            return;
        }
        // Fails only when the worker is gone, and the appliance with it.
        let _ = sender.try_send(format!("{} {path}", route.method));
    })
}

/// Makes the versions; ends when the hook is dropped.
async fn work(store: Store, writes: async_channel::Receiver<String>) {
    while let Ok(first) = writes.recv().await {
        let mut comment = first;
        let begin = Instant::now();
        while begin.elapsed() < LATEST {
            let next = async { writes.recv().await.ok() };
            let quiet = async {
                Timer::after(QUIET).await;
                None
            };
            match future::or(next, quiet).await {
                Some(newer) => comment = newer,
                None => break,
            }
        }
        if let Err(error) = save(&store, comment).await {
            log::error!("automatic version: {error}");
        }
    }
}

/// The configuration was changed while its fingerprint was taken.
#[derive(Debug, thiserror::Error)]
#[error("the configuration keeps changing")]
struct Moved;

/// Saves the live configuration unless the newest version is the same.
async fn save(store: &Store, comment: String) -> Result<(), CommitError<Moved>> {
    let mut outcome = Ok(());
    for _ in 0..20 {
        let snapshot = store.snapshot();
        let live = Fingerprint::of_snapshot(&snapshot).await;
        let newest = snapshot.ledger.newest_version();
        if newest.is_some_and(|version| version.hash == live.hash) {
            return Ok(());
        }
        let version = live.version(Moment::Before, AUTHOR, Some(comment.clone()), false);
        let sequence = snapshot.sequence;
        outcome = store
            .commit(&Author::system(AUTHOR), move |draft: &mut Draft| {
                if draft.base().sequence != sequence {
                    return Err(Moved);
                }
                // Somebody may have saved the same state meanwhile.
                let newest = draft.ledger.newest_version();
                if newest.is_none_or(|newest| newest.hash != version.hash) {
                    draft.save_version(version);
                }
                Ok(())
            })
            .await;
        if !matches!(outcome, Err(CommitError::Refused(Moved))) {
            break;
        }
    }
    outcome
}
