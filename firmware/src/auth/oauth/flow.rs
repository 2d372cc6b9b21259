//! A sign-in through a provider: the browser is sent there with a state, a PKCE challenge and a nonce, and comes back
//! with a code, which is exchanged for who it is. What is under way is kept in memory: bounded, single use, 10 minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use url::Url;

use super::super::login::{Client, Login, TokenPair};
use super::super::{Auth, AuthError, audit, random, roles, users};
use super::id_token::{self, Expected, Keys};
use super::upstream::{Upstream, endpoint, failed};
use crate::config::{Id, Secret};
use crate::store::identity::{OAuthLink, OAuthProvider, User};
use crate::store::{Author, Identity};

const STATE_LIFETIME: Duration = Duration::from_secs(600);
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(300);
const CHALLENGE_TRIES: u8 = 5;
const CAPACITY: usize = 8_192;

/// Where to send the browser.
#[derive(Clone)]
pub struct Authorize {
    pub authorize_url: String,
    pub state: String,
}

#[derive(Clone)]
struct Pending {
    provider: Id,
    /// PKCE code verifier (RFC 7636 §4.1).
    verifier: String,
    nonce: String,
    redirect_uri: String,
}

#[derive(Clone)]
struct Challenge {
    user: Id,
    provider: &'static str,
    tries_left: u8,
}

/// Values by the digest of a secret text, each with its end.
struct Waiting<T>(Mutex<HashMap<[u8; 32], (T, Duration)>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Waiting<T> {
    /// Gives the text under which the value waits.
    fn put(&self, value: T, now: Duration, lifetime: Duration) -> Result<String, AuthError> {
        let text = random::url_text()?;
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= CAPACITY {
            map.retain(|_, (_, expires)| *expires > now);
        }
        if map.len() >= CAPACITY
            && let Some(oldest) = map.iter().min_by_key(|(_, (_, expires))| *expires).map(|(key, _)| *key)
        {
            map.remove(&oldest);
        }
        map.insert(random::sha256(text.as_bytes()), (value, now + lifetime));
        Ok(text)
    }
    fn take(&self, text: &str, now: Duration) -> Option<(T, Duration)> {
        let taken =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&random::sha256(text.as_bytes()))?;
        (taken.1 > now).then_some(taken)
    }
    fn put_back(&self, text: &str, value: (T, Duration)) {
        let key = random::sha256(text.as_bytes());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }
}

/// Sign-ins under way, and what is known of providers.
#[derive(Default)]
pub struct Flows {
    states: Waiting<Pending>,
    challenges: Waiting<Challenge>,
    keys: Keys,
    upstream: Upstream,
}

/// Who came back.
struct Subject {
    id: String,
    email: Option<String>,
    /// Names that a new user may get, best first.
    names: Vec<String>,
}

const BAD_STATE: &str = "state: unknown, used or older than 10 minutes";

impl Auth {
    /// Begins a sign-in. `redirect_uri` is this appliance's own callback address for the provider.
    pub fn oauth_authorize(
        &self,
        name: &str,
        redirect_uri: impl FnOnce(&OAuthProvider) -> String,
    ) -> Result<Authorize, AuthError> {
        let provider = self.enabled_provider(name)?;
        let redirect_uri = redirect_uri(&provider);
        let (verifier, nonce) = (random::url_text()?, random::url_text()?);
        let challenge = BASE64URL_NOPAD.encode(&random::sha256(verifier.as_bytes()));
        let pending = Pending {
            provider: provider.id,
            verifier,
            nonce: nonce.clone(),
            redirect_uri: redirect_uri.clone(),
        };
        let state = self.inner.oauth.states.put(pending, self.inner.clock.steady(), STATE_LIFETIME)?;
        let mut url = endpoint(&provider.auth_url, self.inner.insecure_loopback)?;
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("client_id", &provider.client_id)
                .append_pair("redirect_uri", &redirect_uri)
                .append_pair("response_type", "code")
                .append_pair("scope", &provider.scopes)
                .append_pair("state", &state)
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", "S256");
            if speaks_openid(&provider) {
                query.append_pair("nonce", &nonce);
            }
        }
        // A plus sign of a value is %2B by now, so what is left of them are spaces.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
        Ok(Authorize { authorize_url: url.into(), state })
    }

    /// The browser is back.
    pub async fn oauth_callback(
        &self,
        name: &str,
        code: &str,
        state: &str,
        client: &Client,
    ) -> Result<Login, AuthError> {
        let provider = self.enabled_provider(name)?;
        let bad_state = || AuthError::BadRequest(BAD_STATE.into());
        let (pending, _) =
            self.inner.oauth.states.take(state, self.inner.clock.steady()).ok_or_else(bad_state)?;
        if pending.provider != provider.id {
            return Err(bad_state());
        }
        let subject = self.ask_provider(&provider, code, &pending).await?;
        let user = self.linked_user(&provider, subject, client).await?;
        let settings = self.settings();
        if settings.require_totp_for_oauth {
            if user.totp.as_ref().is_some_and(|totp| totp.enabled) {
                let kind = kind(&provider);
                let waiting = Challenge { user: user.id, provider: kind, tries_left: CHALLENGE_TRIES };
                let challenge = self.inner.oauth.challenges.put(
                    waiting,
                    self.inner.clock.steady(),
                    CHALLENGE_LIFETIME,
                )?;
                return Ok(Login::TotpRequired { challenge: Some(challenge) });
            }
            let details = format!("{}: {}, enrolment only", user.username, provider.name);
            let author = Author { actor_id: user.id.to_string(), name: user.username.clone(), ip: client.ip };
            self.write_audit(author, audit::entry("oauth_login", Some(user.id), details)).await?;
            return Ok(Login::Enrolment(self.enrolment_token(&user)?));
        }
        Ok(Login::Complete(self.complete(&user, client, None, "oauth_login", kind(&provider)).await?))
    }

    /// The second step after [`Login::TotpRequired`] with a challenge. A challenge is good for one sign-in, and for
    /// five tries.
    pub async fn oauth_second_factor(
        &self,
        challenge: &str,
        code: &str,
        client: &Client,
    ) -> Result<TokenPair, AuthError> {
        let unknown = AuthError::Unauthorized("the challenge is unknown, used or too old");
        let challenges = &self.inner.oauth.challenges;
        let (mut waiting, expires) = challenges.take(challenge, self.inner.clock.steady()).ok_or(unknown)?;
        let (user, _) = self.user(waiting.user).ok_or(AuthError::Unauthorized("the user is gone"))?;
        let _turn = self.turn(&user.username).await;
        waiting.tries_left -= 1;
        let kind = waiting.provider;
        if let Err(locked) = self.check_lock(&user.username, Some(user.id), client).await {
            challenges.put_back(challenge, (waiting, expires));
            return Err(locked);
        }
        let result = self.second_factor(&user, code, client, "oauth_login", kind).await;
        if result.is_err() && waiting.tries_left > 0 {
            challenges.put_back(challenge, (waiting, expires));
        }
        result
    }

    /// By name, letter case aside.
    fn enabled_provider(&self, name: &str) -> Result<Arc<OAuthProvider>, AuthError> {
        let snapshot = self.inner.store.snapshot();
        let known = snapshot
            .identity
            .oauth_providers
            .iter()
            .find(|provider| provider.enabled && provider.name.eq_ignore_ascii_case(name));
        known.cloned().ok_or(AuthError::NotFound("provider"))
    }

    async fn ask_provider(
        &self,
        provider: &OAuthProvider,
        code: &str,
        pending: &Pending,
    ) -> Result<Subject, AuthError> {
        let insecure_loopback = self.inner.insecure_loopback;
        let upstream = &self.inner.oauth.upstream;
        let form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", pending.redirect_uri.clone()),
            ("client_id", provider.client_id.clone()),
            ("client_secret", provider.client_secret.expose().to_owned()),
            ("code_verifier", pending.verifier.clone()),
        ];
        let tokens = upstream.exchange(endpoint(&provider.token_url, insecure_loopback)?, form).await?;
        let userinfo_url = endpoint(&provider.userinfo_url, insecure_loopback)?;
        if !speaks_openid(provider) {
            return github_subject(upstream, userinfo_url, &tokens.access_token).await;
        }
        let id_token =
            tokens.id_token.ok_or_else(|| failed("token exchange", "no ID token in the answer"))?;
        let expected = Expected {
            provider,
            nonce: &pending.nonce,
            now: self.inner.clock.seconds(),
            steady: self.inner.clock.steady(),
            insecure_loopback,
        };
        let claims = id_token::verify(upstream, &self.inner.oauth.keys, &id_token, &expected).await?;
        let info = upstream.get("userinfo", userinfo_url, Some(&tokens.access_token)).await?;
        // OpenID Connect Core 1.0 §5.3.2: userinfo of somebody else must not be used.
        if info.get("sub").and_then(Value::as_str) != Some(claims.sub.as_str()) {
            return Err(failed("userinfo", "it is about somebody else"));
        }
        let text = |field: &str| info.get(field).and_then(Value::as_str).map(str::to_owned);
        let names = ["preferred_username", "email", "name"].into_iter().filter_map(text).collect();
        Ok(Subject { id: claims.sub, email: text("email"), names })
    }

    /// The user who is linked to the subject, or a new one, if the settings allow. Never somebody who only has the same
    /// name or mail address.
    async fn linked_user(
        &self,
        provider: &OAuthProvider,
        subject: Subject,
        client: &Client,
    ) -> Result<User, AuthError> {
        let (provider_id, provider_name) = (provider.id, provider.name.clone());
        let author = Author { ip: client.ip, ..Author::system("anonymous") };
        let key = format!("{provider_id}:{}", subject.id);
        let existing = {
            let snapshot = self.inner.store.snapshot();
            let link = snapshot.identity.oauth_links.get(&key);
            link.and_then(|link| snapshot.identity.users.get(&link.user_id)).cloned()
        };
        if let Some(user) = existing {
            if user.enabled {
                return Ok((*user).clone());
            }
            let author = Author { actor_id: user.id.to_string(), ..author };
            let entry = audit::entry("login_denied_disabled", Some(user.id), user.username.clone());
            self.write_audit(author, entry).await?;
            return Err(AuthError::Unauthorized("the user is disabled"));
        }
        let made = self.commit(author, move |draft| {
            let identity = &mut draft.identity;
            if !identity.oauth_providers.contains(&provider_id) {
                return Err(AuthError::NotFound("provider"));
            }
            let linked = identity.oauth_links.get(&key).and_then(|link| identity.users.get(&link.user_id));
            if let Some(user) = linked {
                // Two callbacks of one subject at once: the other one was first.
                return Ok((**user).clone());
            }
            if !draft.config.auth.auto_create_oauth_users {
                let text = "nobody here is linked to that account, and new users are not made from it";
                return Err(AuthError::Forbidden(text.into()));
            }
            let username = free_name(identity, &subject.names, &provider_name);
            let user = users::new_user(username, Secret::default(), roles::VIEWER, &provider_name, draft.now);
            identity.users.insert(user.clone());
            identity.oauth_links.insert(OAuthLink {
                provider_id,
                subject: subject.id,
                user_id: user.id,
                email: subject.email,
                created_at: draft.now,
            });
            let details = format!("{} by {provider_name}", user.username);
            let mut entry = audit::entry("user_created", Some(user.id), details);
            entry.actor = Some(user.id.to_string());
            draft.audit.push(entry);
            Ok(user)
        });
        made.await
    }
}

fn speaks_openid(provider: &OAuthProvider) -> bool {
    provider.provider_type != "github"
}

fn kind(provider: &OAuthProvider) -> &'static str {
    match provider.provider_type.as_str() {
        "google" => "google",
        "github" => "github",
        _ => "oidc",
    }
}

/// GitHub's account number is the subject: it stays when the name changes.
async fn github_subject(upstream: &Upstream, user: Url, token: &str) -> Result<Subject, AuthError> {
    let info = upstream.get("userinfo", user.clone(), Some(token)).await?;
    let id =
        info.get("id").and_then(Value::as_u64).ok_or_else(|| failed("userinfo", "no id in the answer"))?;
    let mut emails = user;
    emails.set_path(&format!("{}/emails", emails.path().trim_end_matches('/')));
    let list = upstream.get("userinfo", emails, Some(token)).await?;
    let flag = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_bool) == Some(true);
    let email = list
        .as_array()
        .and_then(|all| all.iter().find(|entry| flag(entry, "primary") && flag(entry, "verified")))
        .and_then(|entry| entry.get("email").and_then(Value::as_str))
        .map(str::to_owned);
    let login = info.get("login").and_then(Value::as_str).map(str::to_owned);
    let names = login.into_iter().chain(email.clone()).collect();
    Ok(Subject { id: id.to_string(), email, names })
}

/// A username that nobody has, as near to what the provider calls the user as the letters allow.
fn free_name(identity: &Identity, names: &[String], provider: &str) -> String {
    let tidy = |name: &String| -> String {
        let fine = |c: &char| c.is_ascii_alphanumeric() || "._@-".contains(*c);
        name.trim().replace(' ', ".").chars().filter(fine).take(56).collect()
    };
    let base = names.iter().map(tidy).find(|name| !name.is_empty());
    let base = base.unwrap_or_else(|| tidy(&format!("{provider}-user")));
    let taken = |name: &str| users::by_name(identity, name).is_some();
    if !taken(&base) {
        return base;
    }
    (2u64..).map(|n| format!("{base}-{n}")).find(|name| !taken(name)).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_state_is_good_once_and_for_ten_minutes() {
        let waiting = Waiting::default();
        let text = waiting.put(1, Duration::ZERO, STATE_LIFETIME).unwrap();
        assert!(waiting.take("other", Duration::ZERO).is_none());
        assert_eq!(waiting.take(&text, Duration::from_secs(599)).map(|(value, _)| value), Some(1));
        assert!(waiting.take(&text, Duration::from_secs(599)).is_none());
        let text = waiting.put(1, Duration::ZERO, STATE_LIFETIME).unwrap();
        assert!(waiting.take(&text, Duration::from_secs(600)).is_none());
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let waiting = Waiting::default();
        let first = waiting.put(0, Duration::ZERO, STATE_LIFETIME).unwrap();
        for n in 1..=CAPACITY {
            waiting.put(n, Duration::from_millis(n as u64), STATE_LIFETIME).unwrap();
        }
        assert_eq!(waiting.0.lock().unwrap().len(), CAPACITY);
        assert!(waiting.take(&first, Duration::from_secs(9)).is_none());
    }

    #[test]
    fn new_users_get_a_name_that_is_free_and_fits() {
        let mut identity = Identity::default();
        assert_eq!(free_name(&identity, &["Zoë Ü".into()], "GitHub"), "Zo.");
        assert_eq!(free_name(&identity, &["日本".into(), "a@b.c".into()], "GitHub"), "a@b.c");
        assert_eq!(free_name(&identity, &[], "My IdP"), "My.IdP-user");
        let now = crate::config::Timestamp::UNIX_EPOCH;
        identity.users.insert(users::new_user("Admin".into(), Secret::default(), "x", "local", now));
        assert_eq!(free_name(&identity, &["admin".into()], "GitHub"), "admin-2");
    }
}
