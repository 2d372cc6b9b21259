//! Who a request comes from. On the path of every request, so: no lock that a write holds, no disk, no signature
//! computed twice for the same token; and everything that can be revoked is looked up in the snapshot each time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use super::token::Claims;
use super::{Auth, AuthError, Caller, Credential, keys, random, users};
use crate::config::{Id, PermissionSet};
use crate::store::Identity;
use crate::store::identity::{ApiKey, User};

/// A credential as it was sent.
#[derive(Debug, Clone, Copy)]
pub enum Presented<'a> {
    Bearer(&'a str),
    ApiKey(&'a str),
    Ticket(&'a str),
}

/// Half of the tokens that are remembered as verified.
const GENERATION: usize = 2_048;

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<[u8; 32], Arc<Claims>>,
    old: HashMap<[u8; 32], Arc<Claims>>,
}

/// Tokens whose signature holds, by digest. Bounded: when the young are many, the old are forgotten.
#[derive(Debug, Default)]
pub struct Verified(RwLock<Generations>);

impl Verified {
    fn get(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(digest).or_else(|| generations.old.get(digest)).cloned()
    }
    fn put(&self, digest: [u8; 32], claims: Arc<Claims>) {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(digest, claims);
    }
}

const NO_USER: AuthError = AuthError::Unauthorized("the user is gone or disabled");
const BAD_TOKEN: AuthError = AuthError::Unauthorized("the token is not valid");
const BAD_KEY: AuthError = AuthError::Unauthorized("the API key is not valid");
const BAD_TICKET: AuthError = AuthError::Unauthorized("the ticket is not valid");

fn enabled(identity: &Identity, id: Id) -> Result<&Arc<User>, AuthError> {
    identity.users.get(&id).filter(|user| user.enabled).ok_or(NO_USER)
}

/// Whether an access token with a good signature still counts.
fn token_stands(
    identity: &Identity,
    user: &User,
    credential: &Credential,
    now: i64,
) -> Result<(), AuthError> {
    let Credential::Token { jti, session, issued_at, expires_at, .. } = credential else { return Ok(()) };
    if *expires_at <= now {
        return Err(AuthError::Unauthorized("the token has expired"));
    }
    let excepted = user.tokens_except_jti.as_ref() == Some(jti);
    if *issued_at < user.tokens_valid_from && !excepted {
        return Err(AuthError::Unauthorized("the token was revoked"));
    }
    let revoked = |id: &String| identity.revoked_tokens.contains(id);
    if revoked(jti) || session.is_some_and(|session| revoked(&session.to_string())) {
        return Err(AuthError::Unauthorized("the token was revoked"));
    }
    Ok(())
}

impl Auth {
    /// The caller behind a credential, with the permissions in force now.
    pub fn authenticate(&self, presented: Presented<'_>, ip: Option<IpAddr>) -> Result<Caller, AuthError> {
        match presented {
            Presented::Bearer(token) => {
                let claims = self.verified(token).ok_or(BAD_TOKEN)?;
                let credential = Credential::Token {
                    jti: claims.jti.clone(),
                    session: claims.sid,
                    enrolment_only: claims.enrol,
                    issued_at: claims.iat,
                    expires_at: claims.exp,
                };
                self.resolve(claims.sub, credential, ip)
            }
            Presented::ApiKey(text) => {
                let (user, credential) = {
                    let snapshot = self.inner.store.snapshot();
                    let key = keys::find(&snapshot.identity, text).ok_or(BAD_KEY)?;
                    (key.user_id, Credential::ApiKey { id: key.id, name: key.name.clone() })
                };
                let caller = self.resolve(user, credential, ip)?;
                if let Credential::ApiKey { id, .. } = &caller.credential {
                    self.inner.key_uses.note(*id, self.inner.clock.now());
                }
                Ok(caller)
            }
            Presented::Ticket(text) => {
                let minted_by =
                    self.inner.tickets.redeem(text, self.inner.clock.steady()).ok_or(BAD_TICKET)?;
                match minted_by.credential {
                    Credential::Local => Ok(Caller { ip, ..minted_by }),
                    credential => self.resolve(minted_by.user_id, credential, ip).map_err(|_| BAD_TICKET),
                }
            }
        }
    }

    fn verified(&self, token: &str) -> Option<Arc<Claims>> {
        let digest = random::sha256(token.as_bytes());
        if let Some(claims) = self.inner.verified.get(&digest) {
            return Some(claims);
        }
        let claims = Arc::new(self.inner.signer.verify(token)?);
        if claims.exp > self.inner.clock.seconds() {
            self.inner.verified.put(digest, claims.clone());
        }
        Some(claims)
    }

    fn resolve(&self, user: Id, credential: Credential, ip: Option<IpAddr>) -> Result<Caller, AuthError> {
        let snapshot = self.inner.store.snapshot();
        let identity = &snapshot.identity;
        let user = enabled(identity, user)?;
        token_stands(identity, user, &credential, self.inner.clock.seconds())?;
        let role = users::role_of(identity, user);
        let permissions = match &credential {
            Credential::Token { enrolment_only: true, .. } => PermissionSet::NONE,
            Credential::ApiKey { id, .. } => {
                let now = self.inner.clock.now();
                let good = |key: &&Arc<ApiKey>| key.user_id == user.id && keys::usable(key, ip, now);
                let key = identity.api_keys.get(id).filter(good).ok_or(BAD_KEY)?;
                key.permissions.map_or(role.permissions, |scope| scope.intersect(role.permissions))
            }
            _ => role.permissions,
        };
        Ok(Caller {
            user_id: user.id,
            username: user.username.clone(),
            role_id: role.id.clone(),
            role: role.name.clone(),
            permissions,
            credential,
            ip,
        })
    }

    /// The same caller with the permissions of now; `None` if the credential no longer counts.
    pub fn current(&self, caller: &Caller) -> Option<Caller> {
        match caller.credential {
            Credential::Local => Some(caller.clone()),
            _ => self.resolve(caller.user_id, caller.credential.clone(), caller.ip).ok(),
        }
    }

    /// For connections that last: whether the credential still counts and the caller has lost no permission. A
    /// stream whose caller is no longer valid ends, and the client comes again with what it may do now.
    pub fn still_valid(&self, caller: &Caller) -> bool {
        self.current(caller).is_some_and(|now| now.permissions.covers(caller.permissions))
    }

    /// A ticket for the caller; good once, for [`super::TICKET_LIFETIME`].
    pub fn mint_ticket(&self, caller: &Caller) -> Result<String, AuthError> {
        self.inner.tickets.mint(caller, self.inner.clock.steady())
    }
}
