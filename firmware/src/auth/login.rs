//! Signing in: password, second factor, tokens. A sign-in is complete when tokens were given out; only then are the
//! counters of failures cleared.

use std::net::IpAddr;
use std::sync::Arc;

use async_lock::MutexGuard;

use super::refresh::{self, Issued};
use super::token::Claims;
use super::{Auth, AuthError, Caller, Credential, audit, random, totp, users};
use crate::config::{Id, Secret, Timestamp};
use crate::store::Author;
use crate::store::identity::User;

/// An enrolment token lives this long.
const ENROLMENT_SECONDS: i64 = 15 * 60;

const REFUSED: AuthError = AuthError::Unauthorized("wrong username, password or code");

/// Where a sign-in comes from.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

/// What a complete sign-in gives.
#[derive(Clone)]
pub struct TokenPair {
    pub access_token: String,
    pub refresh_token: String,
    pub access_expires_at: Timestamp,
    pub refresh_expires_at: Timestamp,
}

/// Good for enrolling a second factor only.
#[derive(Clone)]
pub struct EnrolmentToken {
    pub access_token: String,
    pub access_expires_at: Timestamp,
}

/// How a sign-in went on.
#[derive(Clone)]
pub enum Login {
    Complete(TokenPair),
    /// The second factor is wanted. After a sign-in through a provider, with a challenge that stands for name and
    /// password in the second step.
    TotpRequired {
        challenge: Option<String>,
    },
    /// A second factor must be enrolled first.
    Enrolment(EnrolmentToken),
}

/// What the user is shown once when a second factor is set up.
#[derive(Clone)]
pub struct TotpSetup {
    pub secret: String,
    pub provisioning_uri: String,
    pub recovery_codes: Vec<String>,
}

/// The role's name as it may stand in a token: ASCII without the letters that make `-` or `_` of Base64url, since one
/// page of the user interface decodes it as plain Base64.
fn claim_text(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() && !"~?>".contains(c) || c == ' ' { c } else { '.' })
        .collect()
}

impl Auth {
    /// First step. With a second factor enrolled it tells so, and the second step asks for everything again.
    pub async fn login(
        &self,
        username: &str,
        password: &Secret,
        client: &Client,
    ) -> Result<Login, AuthError> {
        let _turn = self.attempt(username, client).await?;
        let user = self.check_password(username, password, client).await?;
        if user.totp.as_ref().is_some_and(|totp| totp.enabled) {
            return Ok(Login::TotpRequired { challenge: None });
        }
        let login = if self.settings().require_totp {
            let token = self.enrolment_token(&user)?;
            let entry =
                audit::entry("login_success", Some(user.id), format!("{}: enrolment only", user.username));
            self.write_audit(author(&user, client), entry).await?;
            Login::Enrolment(token)
        } else {
            Login::Complete(self.complete(&user, client, None, "login_success", "password").await?)
        };
        self.inner.lockout.succeeded(username, client.ip);
        Ok(login)
    }

    /// Second step: name and password again, with a code or a recovery code.
    pub async fn totp_login(
        &self,
        username: &str,
        password: &Secret,
        code: &str,
        client: &Client,
    ) -> Result<TokenPair, AuthError> {
        let _turn = self.attempt(username, client).await?;
        let user = self.check_password(username, password, client).await?;
        self.second_factor(&user, code, client, "login_success", "password").await
    }

    /// Spends a code and completes the sign-in, in one commit.
    pub(super) async fn second_factor(
        &self,
        user: &User,
        code: &str,
        client: &Client,
        action: &'static str,
        first: &'static str,
    ) -> Result<TokenPair, AuthError> {
        match self.complete(user, client, Some(code.to_owned()), action, first).await {
            Ok(pair) => {
                self.inner.lockout.succeeded(&user.username, client.ip);
                Ok(pair)
            }
            Err(AuthError::Unauthorized(_)) => {
                self.failed(&user.username, Some(user.id), client, "login_failed").await?;
                Err(REFUSED)
            }
            Err(error) => Err(error),
        }
    }

    /// One sign-in of a name at a time.
    pub(super) async fn turn(&self, username: &str) -> MutexGuard<'_, ()> {
        let digest = random::sha256(username.trim().to_lowercase().as_bytes());
        self.inner.turns[usize::from(digest[0]) % self.inner.turns.len()].lock().await
    }

    /// As [`Auth::turn`]; who is locked does not even queue.
    async fn attempt(&self, username: &str, client: &Client) -> Result<MutexGuard<'_, ()>, AuthError> {
        let user = users::by_name(&self.inner.store.snapshot().identity, username).map(|user| user.id);
        self.check_lock(username, user, client).await?;
        Ok(self.turn(username).await)
    }

    /// Refuses while the name or the address is locked.
    pub(super) async fn check_lock(
        &self,
        username: &str,
        user: Option<Id>,
        client: &Client,
    ) -> Result<(), AuthError> {
        let Err(locked) = self.inner.lockout.check(username, client.ip, self.inner.clock.steady()) else {
            return Ok(());
        };
        if locked.first {
            let entry = audit::entry("login_locked", user, printable(username));
            self.write_audit(failure_author(user, client), entry).await?;
        }
        Err(AuthError::Locked { retry_after: locked.seconds })
    }

    /// Counts and logs a failure.
    pub(super) async fn failed(
        &self,
        username: &str,
        user: Option<Id>,
        client: &Client,
        action: &'static str,
    ) -> Result<(), AuthError> {
        self.inner.lockout.failed(username, client.ip, self.inner.clock.steady(), &self.settings());
        let entry = audit::entry(action, user, printable(username));
        self.write_audit(failure_author(user, client), entry).await
    }

    async fn check_password(
        &self,
        username: &str,
        password: &Secret,
        client: &Client,
    ) -> Result<Arc<User>, AuthError> {
        let user = users::by_name(&self.inner.store.snapshot().identity, username).cloned();
        let id = user.as_ref().map(|user| user.id);
        self.check_lock(username, id, client).await?;
        let hash = user.as_ref().map(|user| user.password_hash.expose()).filter(|hash| !hash.is_empty());
        let right = self.inner.hasher.verify(password.expose(), hash).await?;
        match user {
            Some(user) if right && user.enabled => Ok(user),
            Some(user) if right => {
                self.failed(&user.username, id, client, "login_denied_disabled").await?;
                Err(REFUSED)
            }
            _ => {
                self.failed(username, id, client, "login_failed").await?;
                Err(REFUSED)
            }
        }
    }

    /// Gives out tokens: one commit that looks again whether the user is as they were when they were checked, spends
    /// the code (if the user has a second factor, `code` must be one), and writes the audit entry.
    pub(super) async fn complete(
        &self,
        user: &User,
        client: &Client,
        code: Option<String>,
        action: &'static str,
        first: &'static str,
    ) -> Result<TokenPair, AuthError> {
        let (checked, from) = (user.clone(), client.clone());
        let now = self.inner.clock.now();
        let done = self.commit(author(user, client), move |draft| {
            let mut user = draft
                .identity
                .users
                .get(&checked.id)
                .filter(|user| user.enabled && user.password_hash == checked.password_hash)
                .map(|user| User::clone(user))
                .ok_or(REFUSED)?;
            let mut details = format!("{}: {first}", user.username);
            if let Some(code) = code {
                let totp = user.totp.as_mut().filter(|totp| totp.enabled).ok_or(REFUSED)?;
                details.push_str(match totp::spend(totp, &code, now.as_second()).ok_or(REFUSED)? {
                    totp::Factor::Code => " and code",
                    totp::Factor::RecoveryCode => " and recovery code",
                });
                draft.identity.users.insert(user.clone());
            }
            let days = draft.config.auth.refresh_token_expiry_days;
            let issued = refresh::issue(&mut draft.identity, &user, None, &from, now, days)?;
            draft.audit.push(audit::entry(action, Some(user.id), details));
            Ok((user, issued))
        });
        let (user, issued) = done.await?;
        self.pair(&user, issued)
    }

    /// The access token that goes with a refresh token.
    pub(super) fn pair(&self, user: &User, issued: Issued) -> Result<TokenPair, AuthError> {
        let seconds = i64::from(self.settings().access_token_expiry_mins) * 60;
        let (access_token, access_expires_at) =
            self.access_token(user, seconds, Some(issued.family), false)?;
        Ok(TokenPair {
            access_token,
            refresh_token: issued.token,
            access_expires_at,
            refresh_expires_at: issued.expires_at,
        })
    }

    pub(super) fn enrolment_token(&self, user: &User) -> Result<EnrolmentToken, AuthError> {
        let (access_token, access_expires_at) = self.access_token(user, ENROLMENT_SECONDS, None, true)?;
        Ok(EnrolmentToken { access_token, access_expires_at })
    }

    fn access_token(
        &self,
        user: &User,
        seconds: i64,
        session: Option<Id>,
        enrol: bool,
    ) -> Result<(String, Timestamp), AuthError> {
        let snapshot = self.inner.store.snapshot();
        let role = users::role_of(&snapshot.identity, user);
        // Tokens of the second in which older ones were revoked are told from those by their time.
        let revoked_before = snapshot.identity.users.get(&user.id).map_or(0, |user| user.tokens_valid_from);
        let iat = self.inner.clock.seconds().max(revoked_before);
        let claims = Claims {
            sub: user.id,
            username: user.username.clone(),
            iat,
            exp: iat + seconds,
            jti: Id::new_v4().to_string(),
            perm: Some(if enrol { 0 } else { role.permissions.bits() }),
            role: Some(claim_text(&role.name)),
            sid: session,
            enrol,
        };
        let expires_at = Timestamp::from_second(claims.exp)
            .map_err(|error| AuthError::Internal(format!("expiry of a token: {error}")))?;
        Ok((self.inner.signer.sign(&claims)?, expires_at))
    }

    /// A secret and recovery codes for the caller, not yet switched on; asked again, they replace the earlier ones.
    pub async fn totp_setup(&self, caller: &Caller) -> Result<TotpSetup, AuthError> {
        let user_id = totp_caller(caller)?;
        let (pending, setup) = totp::begin()?;
        let done = self.commit(caller.author(), move |draft| {
            let user = draft.identity.users.get(&user_id).cloned().ok_or(AuthError::NotFound("user"))?;
            if user.totp.as_ref().is_some_and(|totp| totp.enabled) {
                return Err(AuthError::Conflict("TOTP is on; disable it first".into()));
            }
            draft.identity.users.insert(User { totp: Some(pending), ..(*user).clone() });
            Ok(user.username.clone())
        });
        let username = done.await?;
        Ok(TotpSetup {
            provisioning_uri: totp::provisioning_uri(&username, &setup.secret),
            secret: setup.secret,
            recovery_codes: setup.recovery_codes,
        })
    }

    /// Switches the second factor on. The code that did it is not spent: whoever had to enrol signs in with it next.
    pub async fn totp_verify(&self, caller: &Caller, code: &str) -> Result<(), AuthError> {
        let (by, code) = (caller.clone(), code.trim().to_owned());
        self.totp_change(caller, move |user, now| {
            let totp = user.totp.as_mut().filter(|totp| !totp.enabled);
            let totp = totp.ok_or_else(|| AuthError::BadRequest("no TOTP setup was started".into()))?;
            if !totp::spend_code(&mut totp.clone(), &code, now) {
                return Err(AuthError::Unauthorized("wrong code"));
            }
            totp.enabled = true;
            Ok(audit::entry("totp_enabled", Some(by.user_id), by.username.clone()))
        })
        .await
    }

    /// Switches the second factor off, with a code or a recovery code.
    pub async fn totp_disable(&self, caller: &Caller, code: &str) -> Result<(), AuthError> {
        let required = self.settings().require_totp;
        let (by, code) = (caller.clone(), code.trim().to_owned());
        self.totp_change(caller, move |user, now| {
            let totp = user.totp.as_mut().filter(|totp| totp.enabled);
            let totp = totp.ok_or_else(|| AuthError::BadRequest("TOTP is not set up".into()))?;
            if required {
                return Err(AuthError::Conflict("TOTP is required for everybody".into()));
            }
            totp::spend(totp, &code, now).ok_or(AuthError::Unauthorized("wrong code"))?;
            user.totp = None;
            Ok(audit::entry("totp_disabled", Some(by.user_id), by.username.clone()))
        })
        .await
    }

    /// Guesses here count like those at the sign-in.
    async fn totp_change<F>(&self, caller: &Caller, change: F) -> Result<(), AuthError>
    where
        F: FnOnce(&mut User, i64) -> Result<crate::store::NewAudit, AuthError> + Send + 'static,
    {
        let user_id = totp_caller(caller)?;
        let client = Client { ip: caller.ip, user_agent: None };
        let _turn = self.turn(&caller.username).await;
        self.check_lock(&caller.username, Some(user_id), &client).await?;
        let now = self.inner.clock.seconds();
        let done = self.commit(caller.author(), move |draft| {
            let mut user =
                User::clone(draft.identity.users.get(&user_id).ok_or(AuthError::NotFound("user"))?);
            draft.audit.push(change(&mut user, now)?);
            draft.identity.users.insert(user);
            Ok(())
        });
        match done.await {
            Err(error @ AuthError::Unauthorized(_)) => {
                self.failed(&caller.username, Some(user_id), &client, "login_failed").await?;
                Err(error)
            }
            other => other,
        }
    }
}

/// A second factor belongs to somebody who signed in with a token.
fn totp_caller(caller: &Caller) -> Result<Id, AuthError> {
    match caller.credential {
        Credential::Token { .. } => Ok(caller.user_id),
        _ => Err(AuthError::Forbidden("TOTP is for those who sign in with a password".into())),
    }
}

fn author(user: &User, client: &Client) -> Author {
    Author { actor_id: user.id.to_string(), name: user.username.clone(), ip: client.ip }
}

fn failure_author(user: Option<Id>, client: &Client) -> Author {
    let actor_id = user.map_or_else(|| "anonymous".into(), |id| id.to_string());
    Author { actor_id, name: "anonymous".into(), ip: client.ip }
}

/// A name as somebody typed it, fit for a log. Whoever types a password into the wrong field is spared.
fn printable(username: &str) -> String {
    match users::check_username(username) {
        Ok(name) => name,
        Err(_) => "(not a username)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_in_tokens_decode_as_plain_base64() {
        assert_eq!(claim_text("Night shift"), "Night shift");
        assert_eq!(claim_text("Büro ~?>\u{1F512}"), "B.ro ....");
    }
}
