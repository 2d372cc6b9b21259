//! Values made of objects: persistent collections that are cheap to copy and to compare, and the macro that
//! declares such a value once and derives from it how it is stored, journaled and compared.

use std::fmt::{Debug, Display};
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Something stored under a key in a [`Collection`].
pub trait Object: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static {
    type Key: Ord + Clone + Display + FromStr + Send + Sync + 'static;
    fn key(&self) -> Self::Key;
    /// What else the object can be found by in its collection: its name, what it refers to. One set of words
    /// per type; [`Collection::find`] and [`Collection::last_word`] read them at the cost of a map access.
    fn words(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
}

/// Objects by key. A copy costs nothing and shares what is equal, so a whole configuration is a value.
#[derive(Debug)]
pub struct Collection<T: Object> {
    map: OrdMap<T::Key, Arc<T>>,
    /// Which objects have a word.
    words: OrdMap<Arc<str>, Holders<T::Key>>,
}

/// Keys of the objects that have a word: mostly one.
#[derive(Debug, Clone)]
enum Holders<K: Ord + Clone> {
    One(K),
    Many(OrdSet<K>),
}

impl<T: Object> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), words: self.words.clone() }
    }
}
impl<T: Object> Default for Collection<T> {
    fn default() -> Self {
        Self { map: OrdMap::new(), words: OrdMap::new() }
    }
}
impl<T: Object> PartialEq for Collection<T> {
    fn eq(&self, other: &Self) -> bool {
        self.map.ptr_eq(&other.map)
            || (self.len() == other.len() && self.changes_since(other).next().is_none())
    }
}
impl<T: Object> FromIterator<T> for Collection<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut collection = Self::default();
        iter.into_iter().for_each(|object| collection.insert(object));
        collection
    }
}

/// One object that differs between two states of a collection.
#[derive(Debug, Clone)]
pub struct ObjectChange<T: Object> {
    pub key: T::Key,
    pub before: Option<Arc<T>>,
    pub after: Option<Arc<T>>,
}

impl<T: Object> Collection<T> {
    pub fn len(&self) -> usize {
        self.map.len()
    }
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
    pub fn get(&self, key: &T::Key) -> Option<&Arc<T>> {
        self.map.get(key)
    }
    pub fn contains(&self, key: &T::Key) -> bool {
        self.map.contains_key(key)
    }
    /// Adds the object, or replaces the one with the same key.
    pub fn insert(&mut self, object: T) {
        let (key, words) = (object.key(), object.words());
        if let Some(before) = self.map.insert(key.clone(), Arc::new(object)) {
            let gone = before.words();
            if gone == words {
                return;
            }
            gone.iter().for_each(|word| self.forget(word, &key));
        }
        for word in words {
            let holders = match self.words.remove(&word) {
                None => Holders::One(key.clone()),
                Some(Holders::One(other)) => Holders::Many(OrdSet::from_iter([other, key.clone()])),
                Some(Holders::Many(keys)) => Holders::Many(keys.update(key.clone())),
            };
            self.words.insert(word, holders);
        }
    }
    fn forget(&mut self, word: &Arc<str>, key: &T::Key) {
        match self.words.get_mut(word) {
            Some(Holders::Many(keys)) if keys.len() > 1 => drop(keys.remove(key)),
            _ => drop(self.words.remove(word)),
        }
    }
    pub fn remove(&mut self, key: &T::Key) -> Option<Arc<T>> {
        let gone = self.map.remove(key)?;
        gone.words().iter().for_each(|word| self.forget(word, key));
        Some(gone)
    }
    pub fn clear(&mut self) {
        *self = Self::default();
    }
    /// The objects that have this word (see [`Object::words`]), in key order.
    pub fn find(&self, word: &str) -> impl Iterator<Item = &Arc<T>> {
        let (one, many) = match self.words.get(word) {
            None => (None, None),
            Some(Holders::One(key)) => (Some(key), None),
            Some(Holders::Many(keys)) => (None, Some(keys)),
        };
        one.into_iter().chain(many.into_iter().flatten()).filter_map(|key| self.map.get(key))
    }
    /// The greatest word below `end`.
    pub fn last_word(&self, end: &str) -> Option<&str> {
        self.words
            .range::<_, str>((Bound::Unbounded, Bound::Excluded(end)))
            .next_back()
            .map(|(word, _)| &**word)
    }
    /// In key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.map.values()
    }
    /// Whether both are the same value by sharing, without looking at the objects.
    pub fn same(&self, other: &Self) -> bool {
        self.map.ptr_eq(&other.map)
    }
    /// What must be done to `older` to get `self`; shared parts are skipped, so it costs what has changed.
    pub fn changes_since<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = ObjectChange<T>> + 'a {
        use imbl::ordmap::DiffItem;
        older.map.diff(&self.map).filter_map(|item| match item {
            DiffItem::Add(key, after) => {
                Some(ObjectChange { key: key.clone(), before: None, after: Some(after.clone()) })
            }
            DiffItem::Remove(key, before) => {
                Some(ObjectChange { key: key.clone(), before: Some(before.clone()), after: None })
            }
            DiffItem::Update { old: (key, before), new: (_, after) } => (before != after).then(|| {
                ObjectChange { key: key.clone(), before: Some(before.clone()), after: Some(after.clone()) }
            }),
        })
    }
}

/// One stored row that differs between two values: `kind` and `key` name it, the rest is its JSON (secrets
/// as the surrounding [`super::secret`] mode says). `None` = the row is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    pub kind: &'static str,
    pub key: String,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// A row that could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("unknown kind of object {0:?}")]
    UnknownKind(String),
    #[error("{kind} {key:?} cannot be read: {reason}")]
    Unreadable { kind: String, key: String, reason: String },
}

/// A value that the store can keep: it lists its rows, tells what differs, and takes rows back.
pub trait Document: Clone + Default + Send + Sync + 'static {
    const KINDS: &'static [&'static str];
    fn row_changes_since(&self, older: &Self) -> Vec<RowChange>;
    /// Puts one row (`Some`) or takes it away (`None`: an object goes, a section returns to its default).
    fn put_row(&mut self, kind: &str, key: &str, row: Option<&[u8]>) -> Result<(), RowError>;
    /// Undoes what led from `before` to `after`, and leaves what others have changed since.
    fn take_back(&mut self, before: &Self, after: &Self) -> Result<(), RowError> {
        let changes = super::secret::revealing(|| after.row_changes_since(before));
        changes.iter().try_for_each(|change| self.put_row(change.kind, &change.key, change.before.as_deref()))
    }
}

/// Row key of a section, of which there is one.
pub const SECTION: &str = "-";

#[doc(hidden)]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialising our own types into memory has no way to fail: keys are strings, floats are finite.
    serde_json::to_vec(value).unwrap_or_default()
}

#[doc(hidden)]
pub fn decode<T: DeserializeOwned>(kind: &str, key: &str, row: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(row).map_err(|error| RowError::Unreadable {
        kind: kind.into(),
        key: key.into(),
        reason: error.to_string(),
    })
}

/// Declares a [`Document`]: `collections { field: Type => "kind" }` and `sections { field: Type => "kind" }`.
macro_rules! document {
    ($(#[$doc:meta])* pub struct $name:ident {
        collections { $($(#[$cdoc:meta])* $c:ident: $ct:ty => $ck:literal,)* }
        sections { $($(#[$sdoc:meta])* $s:ident: $st:ty => $sk:literal,)* }
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$cdoc])* pub $c: $crate::config::document::Collection<$ct>,)*
            $($(#[$sdoc])* pub $s: std::sync::Arc<$st>,)*
        }

        impl $crate::config::document::Document for $name {
            const KINDS: &'static [&'static str] = &[$($ck,)* $($sk,)*];

            fn row_changes_since(&self, older: &Self) -> Vec<$crate::config::document::RowChange> {
                use $crate::config::document::{RowChange, encode};
                let mut rows = Vec::new();
                $(if !self.$c.same(&older.$c) {
                    rows.extend(self.$c.changes_since(&older.$c).map(|change| RowChange {
                        kind: $ck,
                        key: change.key.to_string(),
                        before: change.before.map(|object| encode(&*object)),
                        after: change.after.map(|object| encode(&*object)),
                    }));
                })*
                $(if !std::sync::Arc::ptr_eq(&self.$s, &older.$s) && self.$s != older.$s {
                    rows.push(RowChange {
                        kind: $sk,
                        key: $crate::config::document::SECTION.into(),
                        before: Some(encode(&*older.$s)),
                        after: Some(encode(&*self.$s)),
                    });
                })*
                rows
            }

            fn put_row(
                &mut self,
                kind: &str,
                key: &str,
                row: Option<&[u8]>,
            ) -> Result<(), $crate::config::document::RowError> {
                use $crate::config::document::{Object, RowError, decode};
                match kind {
                    $($ck => match row {
                        Some(row) => self.$c.insert(decode::<$ct>(kind, key, row)?),
                        None => {
                            let key = key.parse::<<$ct as Object>::Key>().map_err(|_| RowError::Unreadable {
                                kind: kind.into(),
                                key: key.into(),
                                reason: "bad key".into(),
                            })?;
                            self.$c.remove(&key);
                        }
                    },)*
                    $($sk => self.$s = std::sync::Arc::new(match row {
                        Some(row) => decode::<$st>(kind, key, row)?,
                        None => Default::default(),
                    }),)*
                    _ => return Err(RowError::UnknownKind(kind.into())),
                }
                Ok(())
            }
        }
    };
}
pub(crate) use document;

#[cfg(test)]
mod take_back_tests {
    #![allow(clippy::unwrap_used)]

    use super::Document;
    use crate::config::{Config, Id, Schedule, System, Timestamp};

    fn schedule(name: &str) -> Schedule {
        Schedule {
            id: Id::new_v4(),
            name: name.into(),
            description: None,
            time_ranges: vec!["08:00-12:00".into()],
            days_of_week: vec!["Mon".into()],
            enabled: true,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_others_changed_since_stays() {
        let (kept, gone, others) = (schedule("kept"), schedule("gone"), schedule("of somebody else"));
        let mut before = Config::default();
        before.schedules.insert(kept.clone());
        before.schedules.insert(gone.clone());
        let mut after = before.clone();
        after.schedules.remove(&gone.id);
        after.schedules.insert(Schedule { name: "renamed".into(), ..kept.clone() });
        after.system = System { hostname: "new".into(), ..System::default() }.into();
        let mut now = after.clone();
        now.schedules.insert(others.clone());
        now.take_back(&before, &after).unwrap();
        let mut wanted = before;
        wanted.schedules.insert(others);
        assert!(now == wanted);
    }
}

#[cfg(test)]
mod cost_tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde::{Deserialize, Serialize};

    use super::{Collection, Object};

    static COMPARED: AtomicUsize = AtomicUsize::new(0);

    /// Counts how often it is looked at.
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Counted {
        key: u32,
        value: u32,
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.fetch_add(1, Ordering::Relaxed);
            (self.key, self.value) == (other.key, other.value)
        }
    }

    impl Object for Counted {
        type Key = u32;
        fn key(&self) -> u32 {
            self.key
        }
    }

    #[test]
    fn a_difference_costs_what_has_changed_not_what_is_there() {
        let before: Collection<Counted> = (0..10_000).map(|key| Counted { key, value: 0 }).collect();
        let mut after = before.clone();
        after.insert(Counted { key: 5_000, value: 1 });
        after.remove(&123);
        COMPARED.store(0, Ordering::Relaxed);
        assert_eq!(after.changes_since(&before).count(), 2);
        let compared = COMPARED.load(Ordering::Relaxed);
        assert!(compared < 500, "{compared} objects of 10,000 were looked at");
    }
}
