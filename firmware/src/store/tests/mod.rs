//! What the store promises, attacked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod model;

use std::convert::Infallible;
use std::path::Path;

use smol::block_on;

use super::*;
use crate::config::rule::{Action, Direction, Endpoint, IpVersion, Protocol, StateOptions};
use crate::config::{Id, Rule, Secret, Status};

pub(super) fn rule(id: u128, priority: u16, description: &str) -> Rule {
    Rule {
        id: Id::from_u128(id),
        priority,
        action: Action::Pass,
        direction: Direction::In,
        ip_version: IpVersion::Both,
        interface: None,
        protocol: Protocol::Any,
        src: Endpoint::default(),
        dst: Endpoint::default(),
        log: false,
        quick: true,
        label: None,
        description: Some(description.into()),
        gateway: None,
        state: StateOptions::default(),
        status: Status::Active,
        schedule_id: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

pub(super) fn author() -> Author {
    Author { actor_id: "1".into(), name: "alice".into(), ip: Some([192, 0, 2, 1].into()) }
}

pub(super) fn commit<T: Send + 'static>(
    store: &Store,
    change: impl FnOnce(&mut Draft) -> T + Send + 'static,
) -> T {
    block_on(store.commit(&author(), |draft| Ok::<T, Infallible>(change(draft)))).unwrap()
}

pub(super) fn version(comment: &str) -> NewVersion {
    NewVersion {
        moment: Moment::After,
        created_by: "alice".into(),
        comment: Some(comment.into()),
        hash: "0".repeat(64),
        resource_count: 0,
        activate: false,
    }
}

fn audit(action: &'static str, source: &'static str, details: &str) -> NewAudit {
    NewAudit { action, source, details: details.into(), ..NewAudit::default() }
}

fn same(one: &Snapshot, two: &Snapshot) {
    assert_eq!(one.revision, two.revision);
    assert_eq!(one.sequence, two.sequence);
    assert_eq!(one.config, two.config);
    assert_eq!(one.applied, two.applied);
    assert_eq!(one.identity, two.identity);
    assert_eq!(one.ledger, two.ledger);
}

fn reopen(store: Store, dir: &Path) -> Store {
    drop(store);
    Store::open(dir).unwrap()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| {
        draft.config.rules.insert(rule(1, 10, "one"));
        draft.config.rules.insert(rule(2, 20, "two"));
        draft.applied = draft.config.clone();
    });
    commit(&store, |draft| {
        draft.config.rules.remove(&Id::from_u128(1));
        draft.config.rules.insert(rule(2, 20, "two, changed"));
        draft.config.rules.insert(rule(3, 30, "three"));
    });
    let before = store.snapshot();
    assert_eq!((before.revision, before.sequence), (2, 2));
    let store = reopen(store, dir.path());
    same(&before, &store.snapshot());
    assert!(store.snapshot().applied.rules.contains(&Id::from_u128(1)));
    assert!(!store.snapshot().applied.rules.contains(&Id::from_u128(3)));
}

#[test]
fn a_refused_or_panicking_change_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let refused: Result<(), CommitError<&str>> = block_on(store.commit(&author(), |draft| {
        draft.config.rules.insert(rule(1, 1, "no"));
        draft.audit.push(audit("rule_added", "engine", "no"));
        Err("no")
    }));
    assert!(matches!(refused, Err(CommitError::Refused("no"))));
    let panicked: Result<(), CommitError<Infallible>> = block_on(store.commit(&author(), |draft| {
        draft.config.rules.insert(rule(1, 1, "no"));
        panic!("this panic belongs to the test");
    }));
    assert!(matches!(panicked, Err(CommitError::Store(StoreError::Aborted))));
    assert_eq!(store.snapshot().revision, 0);
    assert_eq!(store.audit(&AuditFilter { limit: 9, ..Default::default() }).unwrap().1, 0);
    commit(&store, |draft| draft.config.rules.insert(rule(1, 1, "yes")));
    assert_eq!(store.snapshot().revision, 1);
}

#[test]
fn a_commit_that_changes_nothing_makes_no_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| draft.config.rules.insert(rule(1, 1, "one")));
    commit(&store, |draft| draft.config.rules.insert(rule(1, 1, "one")));
    commit(&store, |draft| draft.audit.push(audit("login_success", "auth", "alice")));
    assert_eq!(store.snapshot().revision, 1);
    assert_eq!(store.audit(&AuditFilter { limit: 9, ..Default::default() }).unwrap().1, 1);
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(dir.path()).unwrap();
    let second = Store::open(dir.path()).unwrap_err();
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
}

#[test]
fn watchers_get_the_newest_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (store.watch(), store.watch());
    for n in 1..=3 {
        commit(&store, move |draft| draft.config.rules.insert(rule(n, 1, "x")));
    }
    assert_eq!(one.recv_blocking(), Ok(3));
    assert_eq!(two.recv_blocking(), Ok(3));
    assert!(one.is_empty());
    drop(store);
    assert!(one.recv_blocking().is_err(), "the end of the store ends the watch");
}

#[test]
fn audit_is_newest_first_filtered_paged_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path(), StoreOptions { audit_limit: 5 }).unwrap();
    let user = Id::from_u128(7);
    for n in 0..8 {
        commit(&store, move |draft| {
            let source = if n % 2 == 0 { "engine" } else { "auth" };
            let mut entry = audit("rule_added", source, &format!("entry {n}"));
            entry.user_id = (n == 7).then_some(user);
            draft.audit.push(entry);
        });
    }
    let details = |filter: AuditFilter| {
        let (rows, total) = store.audit(&filter).unwrap();
        (rows.into_iter().map(|row| row.details).collect::<Vec<_>>(), total)
    };
    let all = AuditFilter { limit: 10, ..Default::default() };
    assert_eq!(
        details(all.clone()),
        (["entry 7", "entry 6", "entry 5", "entry 4", "entry 3"].map(String::from).to_vec(), 5)
    );
    assert_eq!(
        details(AuditFilter { offset: 1, limit: 2, ..Default::default() }),
        (vec!["entry 6".into(), "entry 5".into()], 5)
    );
    let engine = AuditFilter { source: Some("engine".into()), limit: 1, ..Default::default() };
    assert_eq!(details(engine), (vec!["entry 6".into()], 2));
    assert_eq!(details(AuditFilter { user_id: Some(user), ..all.clone() }), (vec!["entry 7".into()], 1));
    assert_eq!(details(AuditFilter { text: Some("y 4".into()), ..all.clone() }), (vec!["entry 4".into()], 1));
    assert_eq!(details(AuditFilter { action: Some("none".into()), ..all.clone() }), (vec![], 0));
    assert_eq!(details(AuditFilter { limit: 0, ..Default::default() }), (vec![], 5));
    let (rows, _) = store.audit(&all).unwrap();
    assert_eq!(rows[0].actor_id, "1");
    assert_eq!(rows[0].ip, Some([192, 0, 2, 1].into()));
    assert_eq!(rows[0].user_id, Some(user));
    let key = Author { name: "key:backup".into(), ..author() };
    block_on(store.commit(&key, |draft| {
        draft.audit.push(audit("config_changed", "config", "saved"));
        Ok::<_, Infallible>(())
    }))
    .unwrap();
    assert_eq!(store.audit(&all).unwrap().0[0].details, "saved via key backup");
}

#[test]
fn secrets_are_sealed_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let marked = "marked-secret-5f0c2b";
    let user = identity::User {
        id: Id::from_u128(1),
        username: "findable-user".into(),
        password_hash: Secret::new(marked),
        role_id: "builtin-admin".into(),
        enabled: true,
        auth_provider: "local".into(),
        totp: None,
        tokens_valid_from: 0,
        tokens_except_jti: None,
        created_at: Timestamp::UNIX_EPOCH,
    };
    commit(&store, move |draft| draft.identity.users.insert(user));
    let store = reopen(store, dir.path());
    let read = store.snapshot().identity.users.get(&Id::from_u128(1)).unwrap().clone();
    assert_eq!(read.password_hash.expose(), marked);
    drop(store);
    let file = std::fs::read(dir.path().join(disk::DATABASE_FILE)).unwrap();
    let holds = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("findable-user"), "the search works");
    assert!(!holds(marked));
    std::fs::remove_file(dir.path().join("secret.key")).unwrap();
    let lost = Store::open(dir.path()).unwrap_err().to_string();
    assert!(lost.contains("secret.key") && lost.contains("missing"), "{lost}");
    std::fs::write(dir.path().join("secret.key"), [7; 32]).unwrap();
    let wrong = Store::open(dir.path()).unwrap_err().to_string();
    assert!(wrong.contains("not the key"), "{wrong}");
}

#[test]
fn versions_name_states_and_retention_prunes_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| {
        let mut history = (*draft.config.history).clone();
        history.max_versions = 5;
        draft.config.history = history.into();
    });
    let mut states = Vec::new();
    for n in 1..=8_u64 {
        let number = commit(&store, move |draft| {
            draft.config.rules.insert(rule(u128::from(n), 1, "x"));
            draft.config.rules.insert(rule(99, n as u16, "changes each time"));
            draft.save_version(NewVersion { activate: n == 2, ..version(&format!("v{n}")) })
        });
        assert_eq!(number, n);
        states.push(store.snapshot().config.clone());
    }
    let store = reopen(store, dir.path());
    let kept: Vec<u64> = store.versions().iter().map(|version| version.version).collect();
    assert_eq!(kept, [8, 7, 6, 5, 4, 2], "the newest five and the active one");
    for number in kept {
        assert_eq!(store.config_at(number).unwrap().unwrap(), states[number as usize - 1]);
    }
    assert_eq!(store.config_at(3).unwrap(), None);
    assert_eq!(store.config_at(99).unwrap(), None);
    let former = commit(&store, |draft| draft.activate_version(8));
    assert_eq!(former, Some(2));
    let number = commit(&store, |draft| draft.save_version(version("v9")));
    assert_eq!(number, 9, "numbers go on rising");
    assert_eq!(store.versions().len(), 5);
    assert_eq!(store.config_at(9).unwrap().unwrap(), store.snapshot().config);
}

#[test]
fn a_commit_can_save_the_state_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| draft.config.rules.insert(rule(1, 1, "old")));
    let old = store.snapshot().config.clone();
    let (before, after) = commit(&store, |draft| {
        draft.config.rules.clear();
        draft.config.rules.insert(rule(2, 2, "new"));
        let before = draft.save_version(NewVersion { moment: Moment::Before, ..version("before import") });
        (before, draft.save_version(NewVersion { activate: true, ..version("import") }))
    });
    assert_eq!(store.config_at(before).unwrap().unwrap(), old);
    assert_eq!(store.config_at(after).unwrap().unwrap(), store.snapshot().config);
}

#[test]
fn the_commit_confirm_window_survives_and_keeps_its_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| draft.config.rules.insert(rule(1, 1, "good")));
    let good = store.snapshot().config.clone();
    assert!(commit(&store, |draft| draft.open_window(draft.now, "trial", "1", "alice")));
    assert!(!commit(&store, |draft| draft.open_window(draft.now, "second", "1", "alice")));
    for n in 0..4 {
        commit(&store, move |draft| {
            draft.config.rules.insert(rule(1, n, "bad"));
            draft.save_version(version("later"))
        });
    }
    let store = reopen(store, dir.path());
    let window = store.snapshot().ledger.confirm.window.clone().unwrap();
    assert_eq!(window.description, "trial");
    assert_eq!(store.config_at_sequence(window.target).unwrap().unwrap(), good);
    assert_eq!(commit(&store, |draft| draft.close_window()), Some(window));
    assert_eq!(commit(&store, |draft| draft.close_window()), None);
    assert_eq!(store.config_at_sequence(0).unwrap(), None, "what nothing refers to is forgotten");
}

#[test]
fn the_way_back_of_a_window_has_both_what_was_stored_and_what_was_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let (stored, in_force) = (Id::new_v4(), Id::new_v4());
    {
        let store = Store::open(dir.path()).unwrap();
        smol::block_on(store.commit(&Author::system("test"), move |draft: &mut Draft| {
            draft.config.schedules.insert(schedule(stored, "stored"));
            draft.applied.schedules.insert(schedule(in_force, "in force"));
            Ok::<(), StoreError>(())
        }))
        .unwrap();
        smol::block_on(store.commit(&Author::system("test"), |draft: &mut Draft| {
            assert!(draft.open_window(draft.now, "try", "id", "name"));
            Ok::<(), StoreError>(())
        }))
        .unwrap();
        smol::block_on(store.commit(&Author::system("test"), |draft: &mut Draft| {
            draft.config.schedules.clear();
            draft.applied.schedules.clear();
            Ok::<(), StoreError>(())
        }))
        .unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let (config, applied) = store.window_target().unwrap().unwrap();
    let names = |config: &Config| config.schedules.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&config), ["stored"]);
    assert_eq!(names(&applied), ["in force"]);
}

fn schedule(id: Id, name: &str) -> crate::config::Schedule {
    crate::config::Schedule {
        id,
        name: name.into(),
        description: None,
        time_ranges: vec!["08:00-12:00".into()],
        days_of_week: vec!["Mon".into()],
        enabled: true,
        created_at: crate::config::Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn tokens_that_have_run_out_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| {
        for (jti, days) in [("old", -1_i64), ("live", 1)] {
            let expires_at = draft.now + jiff::SignedDuration::from_hours(24 * days);
            draft.identity.revoked_tokens.insert(identity::RevokedToken { jti: jti.into(), expires_at });
        }
    });
    let left = |store: &Store| {
        store.snapshot().identity.revoked_tokens.iter().map(|token| token.jti.clone()).collect::<Vec<_>>()
    };
    assert_eq!(left(&store), ["live"], "the first commit cleans");
    assert_eq!(left(&reopen(store, dir.path())), ["live"]);
}

#[test]
fn a_closed_store_refuses_commits_and_frees_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let clone = store.clone();
    commit(&store, |draft| draft.config.rules.insert(rule(1, 1, "one")));
    store.close();
    let refused = block_on(clone.commit(&author(), |_| Ok::<_, Infallible>(())));
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Closed))));
    assert!(matches!(clone.audit(&AuditFilter::default()), Err(StoreError::Closed)));
    assert_eq!(clone.snapshot().config.rules.len(), 1);
    assert_eq!(Store::open(dir.path()).unwrap().snapshot().config.rules.len(), 1);
}
