//! Refresh tokens and what they make up: a sign-in is a family of tokens of which one is good. Every use replaces
//! it; use of a replaced one means that somebody copied it, and ends the family.

use std::net::IpAddr;

use super::clock::after;
use super::login::{Client, TokenPair};
use super::{Auth, AuthError, Caller, Credential, audit, random};
use crate::config::{Id, Permission, Timestamp};
use crate::store::identity::{RefreshToken, RevokedToken, User};
use crate::store::{Author, Identity};

const PREFIX: &str = "rfx_";
/// Random bytes in a token: 160 bits.
const TOKEN_BYTES: usize = 20;
/// Sign-ins of one user that live at the same time; the oldest ends when one more begins.
const MAX_FAMILIES: usize = 256;
/// Used tokens of one family that are remembered, to notice a copy.
const MAX_USED: usize = 64;
const MAX_USER_AGENT: usize = 200;
/// No access token lives longer (contract/auth.md §9).
pub(super) const MAX_ACCESS_SECONDS: i64 = 43_200 * 60;

/// A sign-in that is alive.
#[derive(Debug, Clone)]
pub struct Session {
    /// The family.
    pub id: Id,
    pub user_id: Id,
    pub created_at: Timestamp,
    /// When the tokens were last renewed.
    pub renewed_at: Timestamp,
    pub expires_at: Timestamp,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    /// The caller's own.
    pub current: bool,
}

/// A refresh token as it goes out.
pub(super) struct Issued {
    pub token: String,
    pub family: Id,
    pub expires_at: Timestamp,
}

fn digest(token: &str) -> String {
    random::sha256_hex(token.as_bytes())
}

/// Adds a token of a family to the draft.
pub(super) fn issue(
    identity: &mut Identity,
    user: &User,
    family: Option<Id>,
    client: &Client,
    now: Timestamp,
    days: u32,
) -> Result<Issued, AuthError> {
    if family.is_none() {
        end_oldest(identity, user.id);
    }
    let family = family.unwrap_or_else(Id::new_v4);
    let token = format!("{PREFIX}{}", random::hex::<TOKEN_BYTES>()?);
    let expires_at = after(now, i64::from(days) * 86_400);
    identity.refresh_tokens.insert(RefreshToken {
        hash: digest(&token),
        family_id: family,
        user_id: user.id,
        revoked: false,
        created_at: now,
        expires_at,
        ip: client.ip,
        user_agent: client.user_agent.as_ref().map(|text| text.chars().take(MAX_USER_AGENT).collect()),
    });
    Ok(Issued { token, family, expires_at })
}

fn end_oldest(identity: &mut Identity, user: Id) {
    let mut live: Vec<_> = identity
        .refresh_tokens
        .iter()
        .filter(|token| token.user_id == user && !token.revoked)
        .map(|token| (token.created_at, token.family_id))
        .collect();
    if live.len() < MAX_FAMILIES {
        return;
    }
    live.sort();
    let ended: Vec<Id> = live.iter().take(live.len() + 1 - MAX_FAMILIES).map(|(_, family)| *family).collect();
    remove_where(identity, |token| ended.contains(&token.family_id));
}

/// Marks the tokens as used up; they are kept, to notice when one comes again.
pub(super) fn revoke_where(identity: &mut Identity, which: impl Fn(&RefreshToken) -> bool) {
    let revoked: Vec<RefreshToken> = identity
        .refresh_tokens
        .iter()
        .filter(|token| !token.revoked && which(token))
        .map(|token| RefreshToken { revoked: true, ..(**token).clone() })
        .collect();
    revoked.into_iter().for_each(|token| identity.refresh_tokens.insert(token));
}

fn remove_where(identity: &mut Identity, which: impl Fn(&RefreshToken) -> bool) {
    let gone: Vec<String> =
        identity.refresh_tokens.iter().filter(|token| which(token)).map(|token| token.hash.clone()).collect();
    for hash in gone {
        identity.refresh_tokens.remove(&hash);
    }
}

/// Forgets the oldest used tokens of a family that is renewed very often.
fn forget_used(identity: &mut Identity, family: Id) {
    let mut used: Vec<_> = identity
        .refresh_tokens
        .iter()
        .filter(|token| token.family_id == family && token.revoked)
        .map(|token| (token.created_at, token.hash.clone()))
        .collect();
    if used.len() <= MAX_USED {
        return;
    }
    used.sort();
    for (_, hash) in used.iter().take(used.len() - MAX_USED) {
        identity.refresh_tokens.remove(hash);
    }
}

/// Ends a sign-in: its refresh tokens, and the access tokens that were given out under it.
pub(super) fn end(identity: &mut Identity, family: Id, now: Timestamp) {
    revoke_where(identity, |token| token.family_id == family);
    identity
        .revoked_tokens
        .insert(RevokedToken { jti: family.to_string(), expires_at: after(now, MAX_ACCESS_SECONDS) });
}

enum Rotation {
    Renewed(Box<User>, Issued),
    /// The token had been used before; its family is dead now.
    Reused,
}

impl Auth {
    /// A new pair for a refresh token. Of several uses at once one wins; the others are reuse.
    pub async fn refresh(&self, token: &str, client: &Client) -> Result<TokenPair, AuthError> {
        const REFUSED: AuthError = AuthError::Unauthorized("the refresh token is unknown, used or expired");
        let hash = digest(token);
        let now = self.inner.clock.now();
        let (user_id, family) = {
            // Junk is turned away without a write.
            let snapshot = self.inner.store.snapshot();
            let known = snapshot.identity.refresh_tokens.get(&hash).ok_or(REFUSED)?;
            (known.user_id, known.family_id)
        };
        let author = Author { actor_id: user_id.to_string(), name: "refresh".into(), ip: client.ip };
        let from = client.clone();
        let rotation = self.commit(author, move |draft| {
            let known = draft.identity.refresh_tokens.get(&hash).cloned().ok_or(REFUSED)?;
            let user =
                draft.identity.users.get(&user_id).filter(|user| user.enabled).cloned().ok_or(REFUSED)?;
            if known.revoked {
                let alive = |token: &RefreshToken| token.family_id == family && !token.revoked;
                if !draft.identity.refresh_tokens.iter().any(|token| alive(token)) {
                    // Already ended: nothing more to do, nothing more to log.
                    return Err(REFUSED);
                }
                revoke_where(&mut draft.identity, |token| token.family_id == family);
                draft.audit.push(audit::entry("token_reuse", Some(user_id), user.username.clone()));
                return Ok(Rotation::Reused);
            }
            if known.expires_at <= now {
                return Err(REFUSED);
            }
            revoke_where(&mut draft.identity, |token| token.hash == hash);
            forget_used(&mut draft.identity, family);
            let days = draft.config.auth.refresh_token_expiry_days;
            let issued = issue(&mut draft.identity, &user, Some(family), &from, now, days)?;
            Ok(Rotation::Renewed(Box::new((*user).clone()), issued))
        });
        match rotation.await? {
            Rotation::Renewed(user, issued) => self.pair(&user, issued),
            Rotation::Reused => Err(REFUSED),
        }
    }

    /// Ends the caller's sign-in. Of a refresh token that is given, the family ends too; `false` if it is unknown or
    /// not the caller's.
    pub async fn logout(&self, caller: &Caller, refresh_token: Option<&str>) -> Result<bool, AuthError> {
        let hash = refresh_token.map(digest);
        let (by, now) = (caller.clone(), self.inner.clock.now());
        let ended = self.commit(caller.author(), move |draft| {
            if let Credential::Token { jti, session, expires_at, .. } = &by.credential {
                let expires_at = Timestamp::from_second(*expires_at).unwrap_or(now);
                draft.identity.revoked_tokens.insert(RevokedToken { jti: jti.clone(), expires_at });
                if let Some(session) = session {
                    end(&mut draft.identity, *session, now);
                }
            }
            let known = match hash {
                None => true,
                Some(hash) => {
                    let token = draft.identity.refresh_tokens.get(&hash).cloned();
                    match token.filter(|token| token.user_id == by.user_id) {
                        Some(token) => {
                            end(&mut draft.identity, token.family_id, now);
                            true
                        }
                        None => false,
                    }
                }
            };
            draft.audit.push(audit::entry("logout", Some(by.user_id), by.username.clone()));
            Ok(known)
        });
        ended.await
    }

    /// Sign-ins of a user that are alive, newest first.
    pub fn sessions(&self, caller: &Caller, user: Id) -> Vec<Session> {
        let snapshot = self.inner.store.snapshot();
        let now = self.inner.clock.now();
        let tokens: Vec<_> =
            snapshot.identity.refresh_tokens.iter().filter(|token| token.user_id == user).collect();
        let own = match &caller.credential {
            Credential::Token { session, .. } => *session,
            _ => None,
        };
        let mut sessions: Vec<Session> = tokens
            .iter()
            .filter(|token| !token.revoked && token.expires_at > now)
            .map(|token| Session {
                id: token.family_id,
                user_id: user,
                created_at: tokens
                    .iter()
                    .filter(|other| other.family_id == token.family_id)
                    .map(|other| other.created_at)
                    .min()
                    .unwrap_or(token.created_at),
                renewed_at: token.created_at,
                expires_at: token.expires_at,
                ip: token.ip,
                user_agent: token.user_agent.clone(),
                current: own == Some(token.family_id),
            })
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse((session.renewed_at, session.id)));
        sessions
    }

    /// Ends a sign-in of the caller's, or, with `users:write`, of somebody who holds no more than the caller.
    pub async fn end_session(&self, caller: &Caller, session: Id) -> Result<(), AuthError> {
        let (by, now) = (caller.clone(), self.inner.clock.now());
        let ended = self.commit(caller.author(), move |draft| {
            let missing = AuthError::NotFound("sign-in");
            let alive = draft
                .identity
                .refresh_tokens
                .iter()
                .find(|token| token.family_id == session && !token.revoked)
                .map(|token| token.user_id);
            let user_id =
                alive.filter(|id| *id == by.user_id || by.may(Permission::UsersWrite)).ok_or(missing)?;
            let user = draft.identity.users.get(&user_id).cloned().ok_or(AuthError::NotFound("user"))?;
            if user_id != by.user_id {
                let role = super::users::role_of(&draft.identity, &user);
                super::roles::must_cover(&by, role.permissions, "the user")?;
            }
            end(&mut draft.identity, session, now);
            draft.audit.push(audit::entry(
                "logout",
                Some(user_id),
                format!("{}: sign-in ended", user.username),
            ));
            Ok(())
        });
        ended.await
    }
}
