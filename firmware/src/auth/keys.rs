//! API keys: 160 random bits, kept as a digest, owned by a user, optionally narrower than their role.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use subtle::ConstantTimeEq;

use super::roles::{must_cover, parse_permissions};
use super::{Auth, AuthError, Caller, audit, random, users};
use crate::config::{Id, PermissionSet, Timestamp};
use crate::store::identity::ApiKey;
use crate::store::{Author, Identity};

const PREFIX: &str = "aifw_";
/// Random bytes in a key: 160 bits.
const KEY_BYTES: usize = 20;
/// Characters of a key by which it is found and shown.
const SHOWN: usize = 12;
const MAX_NAME: usize = 100;
const MAX_NETWORKS: usize = 64;
/// The key of the appliance's own processes.
const RESERVED_NAME: &str = "aifw-daemon-loopback";
/// Longest key that is looked at.
const MAX_BYTES: usize = 512;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: String,
    /// `None` = as the owner's role.
    pub permissions: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    /// Networks, or addresses, that it may be used from; empty = from everywhere.
    pub allowed_ips: Vec<String>,
}

/// A key as it is shown, once.
pub struct MintedKey {
    pub key: String,
    pub row: ApiKey,
}

/// When keys were last used, where that is not yet in the store.
#[derive(Debug, Default)]
pub struct Uses(Mutex<HashMap<Id, Timestamp>>);

impl Uses {
    pub fn note(&self, key: Id, at: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, at);
    }
    fn of(&self, key: Id) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }
    fn take(&self) -> HashMap<Id, Timestamp> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The stored key that this text is. Any format: found by its first characters, compared by digest.
pub(super) fn find<'a>(identity: &'a Identity, text: &str) -> Option<&'a Arc<ApiKey>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let digest = random::sha256_hex(text.as_bytes());
    identity
        .api_keys
        .iter()
        .filter(|key| !key.prefix.is_empty() && text.starts_with(key.prefix.as_str()))
        .find(|key| bool::from(key.hash.as_bytes().ct_eq(digest.as_bytes())))
}

/// Whether the key may be used now, from there.
pub(super) fn usable(key: &ApiKey, ip: Option<IpAddr>, now: Timestamp) -> bool {
    let from_there = |ip: IpAddr| key.allowed_ips.iter().any(|network| network.contains(&ip.to_canonical()));
    key.expires_at.is_none_or(|at| now < at) && (key.allowed_ips.is_empty() || ip.is_some_and(from_there))
}

fn parse_networks(texts: &[String]) -> Result<Vec<IpNet>, AuthError> {
    if texts.len() > MAX_NETWORKS {
        return Err(AuthError::invalid("allowed_ips", format!("expected at most {MAX_NETWORKS}")));
    }
    let parse = |text: &String| {
        let text = text.trim();
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| AuthError::invalid("allowed_ips", "expected addresses or networks (CIDR)"))
    };
    texts.iter().map(parse).collect()
}

impl Auth {
    /// By time of creation, with the time of the last use as it is known now.
    pub fn keys(&self) -> Vec<ApiKey> {
        let mut keys: Vec<ApiKey> = self
            .inner
            .store
            .snapshot()
            .identity
            .api_keys
            .iter()
            .map(|key| ApiKey {
                last_used_at: self.inner.key_uses.of(key.id).or(key.last_used_at),
                ..(**key).clone()
            })
            .collect();
        keys.sort_by_key(|key| (key.created_at, key.id));
        keys
    }

    /// A key of the caller's.
    pub async fn create_key(&self, caller: &Caller, new: NewKey) -> Result<MintedKey, AuthError> {
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(AuthError::invalid("name", format!("expected 1 to {MAX_NAME} characters")));
        }
        if name == RESERVED_NAME {
            return Err(AuthError::invalid("name", "that name is reserved"));
        }
        let permissions = new.permissions.as_deref().map(parse_permissions).transpose()?;
        if permissions.is_some_and(PermissionSet::is_empty) {
            return Err(AuthError::invalid(
                "permissions",
                "expected at least one, or none given for all of the owner's",
            ));
        }
        if let Some(permissions) = permissions {
            must_cover(caller, permissions, "the key")?;
        }
        let now = self.inner.clock.now();
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthError::invalid("expires_at", "expected a time to come"));
        }
        let (expires_at, allowed_ips) = (new.expires_at, parse_networks(&new.allowed_ips)?);
        let key = format!("{PREFIX}{}", random::hex::<KEY_BYTES>()?);
        let (prefix, hash) = (key[..SHOWN].to_owned(), random::sha256_hex(key.as_bytes()));
        let by = caller.clone();
        let minted = self.commit(caller.author(), move |draft| {
            let owner = draft.identity.users.get(&by.user_id).cloned();
            let owner =
                owner.ok_or_else(|| AuthError::BadRequest("a key needs a user as its owner".into()))?;
            if permissions.is_none() {
                // It will be all that the owner is, so a narrower key must not make it.
                must_cover(&by, users::role_of(&draft.identity, &owner).permissions, "the owner of the key")?;
            }
            let row = ApiKey {
                id: Id::new_v4(),
                name,
                prefix,
                hash,
                user_id: owner.id,
                permissions,
                created_at: draft.now,
                last_used_at: None,
                expires_at,
                allowed_ips,
            };
            draft.identity.api_keys.insert(row.clone());
            draft.audit.push(audit::entry("api_key_created", Some(owner.id), row.name.clone()));
            Ok(row)
        });
        Ok(MintedKey { key, row: minted.await? })
    }

    pub async fn revoke_key(&self, caller: &Caller, id: Id) -> Result<(), AuthError> {
        let revoked = self.commit(caller.author(), move |draft| {
            let key = draft.identity.api_keys.remove(&id).ok_or(AuthError::NotFound("API key"))?;
            let details = format!("{} ({})", key.name, key.prefix);
            draft.audit.push(audit::entry("api_key_revoked", Some(key.user_id), details));
            Ok(())
        });
        revoked.await
    }

    /// Stores when keys were last used.
    pub(super) async fn write_key_uses(&self) -> Result<(), AuthError> {
        let uses = self.inner.key_uses.take();
        if uses.is_empty() {
            return Ok(());
        }
        let written = self.commit(Author::system("system"), move |draft| {
            for (id, at) in uses {
                if let Some(key) = draft.identity.api_keys.get(&id).cloned() {
                    draft.identity.api_keys.insert(ApiKey { last_used_at: Some(at), ..(*key).clone() });
                }
            }
            Ok(())
        });
        written.await
    }
}
