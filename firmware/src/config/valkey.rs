//! Where metrics are exported to (contract/system.md §3.2): a Valkey or Redis server. The password is kept apart
//! from the address, and belongs to it: with another server it is not kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Invalid, Secret};

/// Stands for a password that is set.
pub const MASK: &str = "***";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Valkey {
    pub enabled: bool,
    /// Without its password.
    pub url: String,
    pub password: Secret,
    /// How long what was exported stays there: 5 to 1440.
    pub retention_minutes: u32,
}

impl Default for Valkey {
    fn default() -> Self {
        Self {
            enabled: true,
            url: "redis://127.0.0.1:6379".into(),
            password: Secret::default(),
            retention_minutes: 30,
        }
    }
}

/// What is absent stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ValkeyRequest {
    enabled: Option<bool>,
    /// `redis://`, `rediss://` or `unix://`; `***` as its password keeps the stored one.
    url: Option<String>,
    retention_minutes: Option<u32>,
}

/// An address without its password, and the password.
pub(super) fn take_password(url: &Url) -> (String, Secret) {
    let password = url.password().map(decoded).unwrap_or_default();
    let mut bare = url.clone();
    // Fails only where an address can have none.
    let _ = bare.set_password(None);
    (bare.to_string(), Secret::new(password))
}

/// Percent-encoding undone.
pub(super) fn decoded(text: &str) -> String {
    let plain = text.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={plain}").as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// An address as it may be shown: [`MASK`] in place of its password.
pub(super) fn masked(url: &str, password: &Secret) -> String {
    let Some(mut shown) = Url::parse(url).ok().filter(|_| !password.is_empty()) else {
        return url.to_owned();
    };
    // Fails only where an address can have none.
    let _ = shown.set_password(Some(MASK));
    shown.to_string()
}

impl ValkeyRequest {
    pub fn change(self, stored: &Valkey) -> Result<Valkey, Invalid> {
        let mut changed = stored.clone();
        if let Some(enabled) = self.enabled {
            changed.enabled = enabled;
        }
        if let Some(minutes) = self.retention_minutes {
            if !(5..=1440).contains(&minutes) {
                return Err(Invalid::new("retention_minutes", "expected 5 to 1440"));
            }
            changed.retention_minutes = minutes;
        }
        if let Some(text) = self.url {
            let expected = || Invalid::new("url", "expected redis://, rediss:// or unix:// and a server");
            let url = Url::parse(text.trim()).map_err(|_| expected())?;
            let named = url.host_str().is_some_and(|host| !host.is_empty());
            let fits = match url.scheme() {
                "redis" | "rediss" => named && database(&url).is_some(),
                "unix" => !named && url.path().len() > 1,
                _ => false,
            };
            if !fits || url.fragment().is_some() {
                return Err(expected());
            }
            let (bare, mut password) = take_password(&url);
            if password.expose() == MASK {
                if bare != stored.url {
                    return Err(Invalid::new(
                        "url",
                        "expected a password: the stored one is for another server",
                    ));
                }
                password = stored.password.clone();
            }
            (changed.url, changed.password) = (bare, password);
        }
        Ok(changed)
    }
}

/// Number of the database that an address names; `None` = it is none.
fn database(url: &Url) -> Option<u32> {
    match url.path().trim_start_matches('/') {
        "" => Some(0),
        number => number.parse().ok(),
    }
}

/// A server, ready to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Tcp { host: String, port: u16, tls: bool, database: u32 },
    Unix { path: String, database: u32 },
}

impl Valkey {
    /// As it may be shown.
    pub fn shown_url(&self) -> String {
        masked(&self.url, &self.password)
    }

    /// `None` when the address is none.
    pub fn place(&self) -> Option<Place> {
        let url = Url::parse(&self.url).ok()?;
        if url.scheme() == "unix" {
            let database = url.query_pairs().find(|(key, _)| key == "db");
            return Some(Place::Unix {
                path: decoded(url.path()),
                database: database.and_then(|(_, number)| number.parse().ok()).unwrap_or(0),
            });
        }
        Some(Place::Tcp {
            host: url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(6379),
            tls: url.scheme() == "rediss",
            database: database(&url)?,
        })
    }

    pub fn username(&self) -> Option<String> {
        let url = Url::parse(&self.url).ok()?;
        Some(decoded(url.username())).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(url: &str, stored: &Valkey) -> Result<Valkey, Invalid> {
        ValkeyRequest { url: Some(url.into()), ..ValkeyRequest::default() }.change(stored)
    }

    #[test]
    fn addresses_and_their_passwords() {
        let stored = with("redis://user:p%40ss@cache.example:6380/2", &Valkey::default()).unwrap();
        assert_eq!(stored.password.expose(), "p@ss");
        assert_eq!(stored.shown_url(), "redis://user:***@cache.example:6380/2");
        assert_eq!(stored.username().as_deref(), Some("user"));
        let place = Place::Tcp { host: "cache.example".into(), port: 6380, tls: false, database: 2 };
        assert_eq!(stored.place(), Some(place));
        assert_eq!(with(&stored.shown_url(), &stored).unwrap(), stored);
        let elsewhere = with("redis://user:***@evil.example:6380/2", &stored).unwrap_err();
        assert_eq!(elsewhere.field, "url");
        assert!(with("redis://cache.example", &stored).unwrap().password.is_empty());
        let local = with("unix:///var/run/valkey.sock?db=3", &stored).unwrap();
        let place = Place::Unix { path: "/var/run/valkey.sock".into(), database: 3 };
        assert_eq!(local.place(), Some(place));
        for bad in ["http://x", "redis://", "redis:///", "redis://h/x", "unix://", "cache", "redis://h/#x"] {
            assert_eq!(with(bad, &stored).unwrap_err().field, "url", "{bad}");
        }
    }
}
