//! Values made of objects: persistent collections that are cheap to copy and to compare, and the macro that
//! declares such a value once and derives from it how it is stored, journaled and compared.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::Arc;

use imbl::OrdMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Something stored under a key in a [`Collection`].
pub trait Object: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static {
    type Key: Ord + Clone + Display + FromStr + Send + Sync + 'static;
    fn key(&self) -> Self::Key;
}

/// Objects by key. A copy costs nothing and shares what is equal, so a whole configuration is a value.
#[derive(Debug)]
pub struct Collection<T: Object> {
    map: OrdMap<T::Key, Arc<T>>,
}

impl<T: Object> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}
impl<T: Object> Default for Collection<T> {
    fn default() -> Self {
        Self { map: OrdMap::new() }
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
        self.map.insert(object.key(), Arc::new(object));
    }
    pub fn remove(&mut self, key: &T::Key) -> Option<Arc<T>> {
        self.map.remove(key)
    }
    pub fn clear(&mut self) {
        self.map.clear();
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
                use $crate::config::document::{RowChange, SECTION, encode};
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
                        key: SECTION.into(),
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
