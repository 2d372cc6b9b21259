//! kill -9 at random moments under concurrent writers. A child process commits and names each answered commit
//! on a pipe; after its death every named commit must be in the store, and none may be half there.
//! `AIFW_CRASH_ROUNDS` sets the number of rounds (default 20); all rounds work on the same store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aifw::config::{Alias, AliasKind, Config, Id, TableName, Timestamp};
use aifw::store::{AuditFilter, Author, Moment, NewAudit, NewVersion, Store};
use smol::block_on;

const DIR: &str = "AIFW_CRASH_DIR";
const WRITERS: u64 = 4;
/// Objects that each commit adds; it also removes those of the commit `WINDOW` before.
const PARTS: u64 = 3;
const WINDOW: u64 = 8;

fn id(writer: u64, n: u64, part: u64) -> Id {
    Id::from_u64_pair(writer, n << 8 | part)
}

fn alias(writer: u64, n: u64, part: u64) -> Alias {
    Alias {
        id: id(writer, n, part),
        name: TableName::new(&format!("w{writer}-{n}-{part}")).unwrap(),
        alias_type: AliasKind::Host,
        entries: vec!["192.0.2.1".into(); 20],
        description: None,
        enabled: true,
        refresh_secs: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// Writer → its commits that are there → how many of their objects are.
fn found(config: &Config) -> BTreeMap<u64, BTreeMap<u64, u64>> {
    let mut found: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    for alias in config.aliases.iter() {
        let (writer, low) = alias.id.as_u64_pair();
        *found.entry(writer).or_default().entry(low >> 8).or_default() += 1;
    }
    found
}

fn newest(config: &Config, writer: u64) -> u64 {
    found(config).get(&writer).and_then(|commits| commits.keys().last().copied()).unwrap_or(0)
}

/// The child: not a test of its own, but what the test below starts.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    let start = store.snapshot();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                let author = Author::system("crash test");
                for n in newest(&start.config, writer) + 1.. {
                    let change = move |draft: &mut aifw::store::Draft| {
                        for part in 0..PARTS {
                            draft.config.aliases.insert(alias(writer, n, part));
                            if n > WINDOW {
                                draft.config.aliases.remove(&id(writer, n - WINDOW, part));
                            }
                        }
                        if n % 3 == 0 {
                            draft.applied = draft.config.clone();
                        }
                        draft.audit.push(NewAudit {
                            action: "crash_test",
                            source: "test",
                            details: format!("{writer} {n}"),
                            ..NewAudit::default()
                        });
                        draft.save_version(NewVersion {
                            moment: Moment::After,
                            created_by: "test".into(),
                            comment: Some(format!("{writer} {n}")),
                            hash: String::new(),
                            resource_count: PARTS,
                            activate: n % 5 == 0,
                        });
                        Ok::<_, Infallible>(())
                    };
                    block_on(store.commit(&author, change)).unwrap();
                    let line = format!("\nanswered {writer} {n}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// Runs the child, kills it after `life`, and gives back the newest answered commit of each writer.
fn run_and_kill(dir: &Path, life: Duration) -> BTreeMap<u64, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut answered = BTreeMap::new();
        let mut lines = output.split(b'\n').map(Result::unwrap).collect::<Vec<_>>();
        lines.pop();
        for line in lines {
            let line = String::from_utf8(line).unwrap();
            if let Some((writer, n)) = line.strip_prefix("answered ").and_then(|rest| rest.split_once(' '))
                && let (Ok(writer), Ok(n)) = (writer.parse(), n.parse())
            {
                answered.insert(writer, n);
            }
        }
        answered
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Checks the store after a death. Returns the newest commit of each writer.
fn check(store: &Store, answered: &BTreeMap<u64, u64>) -> u64 {
    let snapshot = store.snapshot();
    let found = found(&snapshot.config);
    let mut commits = 0;
    for writer in 0..WRITERS {
        let there = found.get(&writer).cloned().unwrap_or_default();
        let last = there.keys().last().copied().unwrap_or(0);
        let named = answered.get(&writer).copied().unwrap_or(0);
        assert!(last >= named, "writer {writer}: commit {named} was answered, the newest is {last}");
        let expected: BTreeMap<u64, u64> =
            (last.saturating_sub(WINDOW) + 1..=last).map(|n| (n, PARTS)).collect();
        assert_eq!(there, expected, "writer {writer}: every commit is whole");
        commits += last;
    }
    assert_eq!(snapshot.sequence, commits, "one journal sequence per commit");
    assert_eq!(snapshot.ledger.counters.last_version, commits, "one version per commit");
    let (entries, total) = store.audit(&AuditFilter { limit: 100, ..AuditFilter::default() }).unwrap();
    assert_eq!(total, commits.min(100_000), "one audit entry per commit");
    let named: BTreeSet<&str> = entries.iter().map(|entry| entry.details.as_str()).collect();
    assert_eq!(named.len(), entries.len());
    // Every version that is kept can be had back, and is whole, too.
    let versions = store.versions();
    for version in versions.iter().step_by(versions.len() / 4 + 1) {
        let config = store.config_at(version.version).unwrap().unwrap();
        let (writer, n) = version.comment.as_deref().unwrap().split_once(' ').unwrap();
        let (writer, n): (u64, u64) = (writer.parse().unwrap(), n.parse().unwrap());
        assert_eq!(newest(&config, writer), n);
        for commits in crate::found(&config).values() {
            assert!(commits.values().all(|parts| *parts == PARTS));
        }
    }
    commits
}

#[test]
fn every_answered_commit_survives_kill_9() {
    let rounds: u64 =
        std::env::var("AIFW_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let (mut commits, mut named) = (0, 0);
    for _ in 0..rounds {
        // From before the store is open until well into the writing.
        let life = Duration::from_micros(Id::new_v4().as_u64_pair().1 % 300_000);
        let answered = run_and_kill(dir.path(), life);
        named += u64::from(!answered.is_empty());
        let store = Store::open(dir.path()).unwrap();
        commits = check(&store, &answered);
    }
    println!("{rounds} rounds, {named} with answers, {commits} commits, {:?}", begin.elapsed());
    assert!(rounds < 10 || commits > 0, "the child wrote nothing");
}
