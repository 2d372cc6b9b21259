//! Random operations against a model made of plain maps, with reopening in between.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::{Alias, AliasKind, TableName};

#[derive(Debug, Clone)]
enum Op {
    Put { id: u8, text: u8 },
    Remove { id: u8 },
    PutAlias { id: u8, text: u8 },
    Clear,
    Hostname(u8),
    Apply,
    Replace(Vec<u8>),
    Save { before: bool, activate: bool },
    Activate(u8),
    Window,
    CloseWindow,
    Refused { id: u8 },
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let id = 0..12_u8;
    let op = prop_oneof![
        8 => (id.clone(), any::<u8>()).prop_map(|(id, text)| Op::Put { id, text }),
        4 => id.clone().prop_map(|id| Op::Remove { id }),
        3 => (id.clone(), any::<u8>()).prop_map(|(id, text)| Op::PutAlias { id, text }),
        1 => Just(Op::Clear),
        2 => any::<u8>().prop_map(Op::Hostname),
        2 => Just(Op::Apply),
        1 => proptest::collection::vec(id.clone(), 0..8).prop_map(Op::Replace),
        6 => (any::<bool>(), any::<bool>()).prop_map(|(before, activate)| Op::Save { before, activate }),
        2 => (1..12_u8).prop_map(Op::Activate),
        1 => Just(Op::Window),
        1 => Just(Op::CloseWindow),
        2 => id.prop_map(|id| Op::Refused { id }),
        2 => Just(Op::Reopen),
    ];
    proptest::collection::vec(op, 1..60)
}

/// A configuration as plain maps: rules, aliases, host name.
#[derive(Debug, Clone, PartialEq, Default)]
struct Plain {
    rules: BTreeMap<u128, String>,
    aliases: BTreeMap<u128, String>,
    hostname: String,
}

impl Plain {
    fn of(config: &Config) -> Self {
        Self {
            rules: config
                .rules
                .iter()
                .map(|rule| (rule.id.as_u128(), rule.description.clone().unwrap()))
                .collect(),
            aliases: config
                .aliases
                .iter()
                .map(|alias| (alias.id.as_u128(), alias.description.clone().unwrap()))
                .collect(),
            hostname: config.system.hostname.clone(),
        }
    }
}

const KEEP: usize = 5;

#[derive(Debug, Clone)]
struct Model {
    config: Plain,
    applied: Plain,
    /// Version → its configuration and whether it is active.
    versions: BTreeMap<u64, (Plain, bool)>,
    last_version: u64,
    window: Option<Plain>,
    audit: u64,
}

impl Model {
    fn activate(&mut self, number: u64) {
        if self.versions.contains_key(&number) {
            self.versions.values_mut().for_each(|version| version.1 = false);
            self.versions.entry(number).and_modify(|version| version.1 = true);
        }
    }
    fn prune(&mut self) {
        let newest: Vec<u64> = self.versions.keys().rev().take(KEEP).copied().collect();
        self.versions.retain(|number, (_, active)| *active || newest.contains(number));
    }
}

fn alias(id: u8, text: u8) -> Alias {
    Alias {
        id: Id::from_u128(id.into()),
        name: TableName::new(&format!("t{id}")).unwrap(),
        alias_type: AliasKind::Host,
        refresh_secs: None,
        entries: vec!["192.0.2.1".into()],
        description: Some(text.to_string()),
        enabled: true,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn step(store: &Store, model: &mut Model, op: Op) {
    let before = model.config.clone();
    model.audit += 1;
    let note = |draft: &mut Draft| draft.audit.push(audit("config_changed", "test", "step"));
    match op {
        Op::Put { id, text } => {
            model.config.rules.insert(id.into(), text.to_string());
            commit(store, move |draft| {
                note(draft);
                draft.config.rules.insert(rule(id.into(), 1, &text.to_string()));
            });
        }
        Op::Remove { id } => {
            model.config.rules.remove(&id.into());
            commit(store, move |draft| {
                note(draft);
                draft.config.rules.remove(&Id::from_u128(id.into()));
            });
        }
        Op::PutAlias { id, text } => {
            model.config.aliases.insert(id.into(), text.to_string());
            commit(store, move |draft| {
                note(draft);
                draft.config.aliases.insert(alias(id, text));
            });
        }
        Op::Clear => {
            model.config = Plain { hostname: "aifw".into(), ..Plain::default() };
            commit(store, move |draft| {
                note(draft);
                let history = draft.config.history.clone();
                draft.config = Config { history, ..Config::default() };
            });
        }
        Op::Hostname(text) => {
            model.config.hostname = text.to_string();
            commit(store, move |draft| {
                note(draft);
                let system = (*draft.config.system).clone();
                draft.config.system = crate::config::System { hostname: text.to_string(), ..system }.into();
            });
        }
        Op::Apply => {
            model.applied = model.config.clone();
            commit(store, move |draft| {
                note(draft);
                draft.applied = draft.config.clone();
            });
        }
        Op::Replace(ids) => {
            model.config.rules = ids.iter().map(|id| (u128::from(*id), "replaced".into())).collect();
            model.applied = model.config.clone();
            commit(store, move |draft| {
                note(draft);
                draft.config.rules = ids.iter().map(|id| rule((*id).into(), 2, "replaced")).collect();
                draft.applied = draft.config.clone();
            });
        }
        Op::Save { before: of_before, activate } => {
            // The same commit also changes something, so that before and after differ.
            model.config.hostname = format!("h{}", model.last_version);
            model.last_version += 1;
            let state = if of_before { before } else { model.config.clone() };
            model.versions.insert(model.last_version, (state, false));
            if activate {
                model.activate(model.last_version);
            }
            let hostname = model.config.hostname.clone();
            let number = commit(store, move |draft| {
                note(draft);
                let system = (*draft.config.system).clone();
                draft.config.system = crate::config::System { hostname, ..system }.into();
                let moment = if of_before { Moment::Before } else { Moment::After };
                draft.save_version(NewVersion { moment, activate, ..version("x") })
            });
            assert_eq!(number, model.last_version);
        }
        Op::Activate(number) => {
            model.activate(number.into());
            commit(store, move |draft| {
                note(draft);
                draft.activate_version(number.into());
            });
        }
        Op::Window => {
            model.window.get_or_insert(before);
            commit(store, move |draft| {
                note(draft);
                draft.open_window(draft.now, "trial", "1", "alice")
            });
        }
        Op::CloseWindow => {
            model.window = None;
            commit(store, move |draft| {
                note(draft);
                draft.close_window()
            });
        }
        Op::Refused { id } => {
            model.audit -= 1;
            let refused = block_on(store.commit(&author(), move |draft| {
                note(draft);
                draft.config.rules.insert(rule(id.into(), 1, "refused"));
                draft.save_version(version("refused"));
                Err::<(), _>("no")
            }));
            assert!(refused.is_err());
        }
        Op::Reopen => model.audit -= 1,
    }
    model.prune();
}

fn check(store: &Store, model: &Model) {
    let snapshot = store.snapshot();
    assert_eq!(Plain::of(&snapshot.config), model.config);
    assert_eq!(Plain::of(&snapshot.applied), model.applied);
    let numbers: Vec<u64> = snapshot.ledger.versions.iter().map(|version| version.version).collect();
    assert_eq!(numbers, model.versions.keys().copied().collect::<Vec<_>>());
    for (number, (plain, active)) in &model.versions {
        assert_eq!(&Plain::of(&store.config_at(*number).unwrap().unwrap()), plain, "version {number}");
        assert_eq!(snapshot.ledger.versions.get(number).unwrap().applied, *active);
    }
    let window = snapshot.ledger.confirm.window.as_ref();
    let target = window.map(|window| store.config_at_sequence(window.target).unwrap().unwrap());
    assert_eq!(target.as_ref().map(Plain::of), model.window);
    assert_eq!(store.audit(&AuditFilter::default()).unwrap().1, model.audit);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_plain_maps_do(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        commit(&store, |draft| {
            draft.config.history = crate::config::HistorySettings { max_versions: KEEP as u32 }.into();
        });
        let start = Plain { hostname: "aifw".into(), ..Plain::default() };
        let mut model = Model {
            config: start.clone(),
            applied: start,
            versions: BTreeMap::new(),
            last_version: 0,
            window: None,
            audit: 0,
        };
        for op in ops {
            if matches!(op, Op::Reopen) {
                let before = store.snapshot();
                store = reopen(store, dir.path());
                same(&before, &store.snapshot());
            }
            step(&store, &mut model, op);
            check(&store, &model);
        }
    }
}

#[test]
fn an_old_active_version_does_not_keep_every_change_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, |draft| {
        draft.config.history = crate::config::HistorySettings { max_versions: 5 }.into();
        draft.config.rules.insert(rule(1, 1, "at the beginning"));
        draft.save_version(NewVersion { activate: true, ..version("active") })
    });
    let first = store.snapshot().config.clone();
    let changes = 2 * writer::FOLD_AFTER;
    let mut last = Vec::new();
    for n in 0..changes {
        commit(&store, move |draft| {
            draft.config.rules.insert(rule(u128::from(n % 7), n as u16, "x"));
            draft.save_version(version("auto"))
        });
        last.push(store.snapshot().config.clone());
    }
    let entries = || {
        let transaction = store.read().unwrap();
        redb::ReadableTableMetadata::len(&transaction.open_table(journal::JOURNAL).unwrap()).unwrap()
    };
    assert!(entries() < writer::FOLD_AFTER + 20, "{} entries after {changes} changes", entries());
    assert_eq!(store.config_at(1).unwrap().unwrap(), first);
    for version in &store.versions()[..5] {
        let index = version.version as usize - 2;
        assert_eq!(store.config_at(version.version).unwrap().unwrap(), last[index]);
    }
}
