//! Secrets: text that never shows itself. A `Secret` prints and serialises as nothing unless the code around
//! it has asked for more on purpose, with [`sealing`] (the store, under its key) or [`revealing`] (hashing,
//! an export under a passphrase).

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Turns secrets into text that may lie on a disk, and back. Implemented by the store with an AEAD.
pub trait Sealer {
    fn seal(&self, plain: &str) -> String;
    /// `None` if the text was not sealed with this key.
    fn open(&self, sealed: &str) -> Option<String>;
}

#[derive(Clone)]
enum Mode {
    Redact,
    Reveal,
    Seal(Rc<dyn Sealer>),
}

thread_local! {
    static MODE: RefCell<Mode> = const { RefCell::new(Mode::Redact) };
}

struct Restore(Option<Mode>);
impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(mode) = self.0.take() {
            MODE.with(|cell| *cell.borrow_mut() = mode);
        }
    }
}

fn with_mode<T>(mode: Mode, f: impl FnOnce() -> T) -> T {
    let _restore = Restore(Some(MODE.with(|cell| cell.replace(mode))));
    f()
}

/// Runs `f` with secrets serialised in clear.
pub fn revealing<T>(f: impl FnOnce() -> T) -> T {
    with_mode(Mode::Reveal, f)
}

/// Runs `f` with secrets serialised sealed, and sealed text opened when it is read.
pub fn sealing<T>(sealer: Rc<dyn Sealer>, f: impl FnOnce() -> T) -> T {
    with_mode(Mode::Seal(sealer), f)
}

/// Whether secrets are neither revealed nor sealed now: what is written will be seen.
pub fn are_hidden() -> bool {
    MODE.with(|cell| matches!(*cell.borrow(), Mode::Redact))
}

const SEALED: &str = "sealed:";

/// A password, key or token. `Debug` and `Serialize` show nothing; [`Secret::expose`] gives the text.
/// An empty secret means "none set".
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text of somebody else's (an error of a server that was given a secret), should it repeat one.
pub fn without<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let mut text = text.to_owned();
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        let encoded = data_encoding::BASE64.encode(secret.expose().as_bytes());
        text = text.replace(secret.expose(), "***").replace(&encoded, "***");
    }
    text
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(set)" })
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mode = MODE.with(|cell| cell.borrow().clone());
        match mode {
            Mode::Redact => s.serialize_none(),
            _ if self.is_empty() => s.serialize_none(),
            Mode::Reveal => s.serialize_str(self.expose()),
            Mode::Seal(sealer) => s.serialize_str(&format!("{SEALED}{}", sealer.seal(self.expose()))),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(Self::default()) };
        let mode = MODE.with(|cell| cell.borrow().clone());
        if let (Mode::Seal(sealer), Some(sealed)) = (mode, text.strip_prefix(SEALED)) {
            let plain = sealer.open(sealed).ok_or_else(|| {
                serde::de::Error::custom("a secret in the store was sealed with another key")
            })?;
            return Ok(Self::new(plain));
        }
        Ok(Self::new(text))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "null"], "writeOnly": true })
    }
}
