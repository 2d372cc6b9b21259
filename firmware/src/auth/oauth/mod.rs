//! Signing in through an identity provider (OAuth 2.0, RFC 6749 with PKCE, RFC 7636; OpenID Connect Core 1.0):
//! the providers an administrator has set up. The sign-in itself is in [`flow`], what is believed of an ID token in
//! [`id_token`], the requests to the provider in [`upstream`].

mod flow;
mod id_token;
mod upstream;

use std::sync::Arc;

pub use flow::{Authorize, Flows};

use super::{Auth, AuthError, Caller, audit};
use crate::config::{Id, Secret};
use crate::store::Identity;
use crate::store::identity::OAuthProvider;

const MAX_NAME: usize = 64;
const MAX_FIELD: usize = 2_000;

/// A provider to be made. `google` and `github` need no more than the client's id and secret.
#[derive(Debug, Clone)]
pub struct NewProvider {
    pub name: String,
    /// `google`, `github` or `oidc`.
    pub provider_type: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub auth_url: Option<String>,
    pub token_url: Option<String>,
    pub userinfo_url: Option<String>,
    pub scopes: Option<String>,
}

/// What is to change; `None` = as it is.
#[derive(Debug, Clone, Default)]
pub struct ProviderEdit {
    pub name: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub auth_url: Option<String>,
    pub token_url: Option<String>,
    pub userinfo_url: Option<String>,
    pub scopes: Option<String>,
    pub enabled: Option<bool>,
}

/// Name, authorization, token and userinfo endpoint, scopes.
const GOOGLE: [&str; 5] = [
    "Google",
    "https://accounts.google.com/o/oauth2/v2/auth",
    "https://oauth2.googleapis.com/token",
    "https://openidconnect.googleapis.com/v1/userinfo",
    "openid email profile",
];
const GITHUB: [&str; 5] = [
    "GitHub",
    "https://github.com/login/oauth/authorize",
    "https://github.com/login/oauth/access_token",
    "https://api.github.com/user",
    "read:user user:email",
];

/// Letters that stay themselves in a path, since the name is part of the callback's address.
fn check_name(name: &str) -> Result<String, AuthError> {
    let name = name.trim();
    let fine = |c: char| c.is_ascii_alphanumeric() || " ._-".contains(c);
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fine) {
        Ok(name.to_owned())
    } else {
        Err(AuthError::invalid("name", format!("expected 1 to {MAX_NAME} of A-Z a-z 0-9 space . _ -")))
    }
}

fn check_text(field: &str, text: &str) -> Result<String, AuthError> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_FIELD || text.chars().any(char::is_control) {
        return Err(AuthError::invalid(field, format!("expected 1 to {MAX_FIELD} characters")));
    }
    Ok(text.to_owned())
}

fn check_secret(secret: &Secret) -> Result<(), AuthError> {
    check_text("client_secret", secret.expose()).map(|_| ())
}

fn check_scopes(provider_type: &str, scopes: &str) -> Result<String, AuthError> {
    let scopes = check_text("scopes", scopes)?;
    if provider_type != "github" && !scopes.split_ascii_whitespace().any(|scope| scope == "openid") {
        return Err(AuthError::invalid("scopes", "expected openid among them"));
    }
    Ok(scopes)
}

fn must_be_free(identity: &Identity, name: &str, own_id: Option<Id>) -> Result<(), AuthError> {
    let taken = identity
        .oauth_providers
        .iter()
        .any(|provider| Some(provider.id) != own_id && provider.name.eq_ignore_ascii_case(name));
    if taken { Err(AuthError::Conflict("a provider of that name exists".into())) } else { Ok(()) }
}

impl Auth {
    /// By name.
    pub fn providers(&self) -> Vec<Arc<OAuthProvider>> {
        let mut providers: Vec<_> =
            self.inner.store.snapshot().identity.oauth_providers.iter().cloned().collect();
        providers.sort_by_key(|provider| provider.name.to_lowercase());
        providers
    }

    fn check_endpoint(&self, field: &str, text: &str) -> Result<String, AuthError> {
        let text = check_text(field, text)?;
        upstream::endpoint(&text, self.inner.insecure_loopback)
            .map_err(|_| AuthError::invalid(field, "expected an https URL"))?;
        Ok(text)
    }

    pub async fn create_provider(
        &self,
        caller: &Caller,
        new: NewProvider,
    ) -> Result<OAuthProvider, AuthError> {
        let preset = match new.provider_type.as_str() {
            "google" => Some(GOOGLE),
            "github" => Some(GITHUB),
            "oidc" => None,
            _ => return Err(AuthError::invalid("provider_type", "expected google, github or oidc")),
        };
        let [name, auth_url, token_url, userinfo_url, scopes] = match preset {
            Some(preset) => preset.map(str::to_owned),
            None => {
                let endpoint = |field: &str, value: &Option<String>| match value {
                    Some(text) => self.check_endpoint(field, text),
                    None => Err(AuthError::invalid(field, "expected an https URL")),
                };
                [
                    check_name(&new.name)?,
                    endpoint("auth_url", &new.auth_url)?,
                    endpoint("token_url", &new.token_url)?,
                    endpoint("userinfo_url", &new.userinfo_url)?,
                    check_scopes("oidc", new.scopes.as_deref().unwrap_or("openid email profile"))?,
                ]
            }
        };
        let client_id = check_text("client_id", &new.client_id)?;
        check_secret(&new.client_secret)?;
        let created = self.commit(caller.author(), move |draft| {
            must_be_free(&draft.identity, &name, None)?;
            let provider = OAuthProvider {
                id: Id::new_v4(),
                name,
                provider_type: new.provider_type,
                client_id,
                client_secret: new.client_secret,
                auth_url,
                token_url,
                userinfo_url,
                scopes,
                enabled: true,
                created_at: draft.now,
            };
            draft.identity.oauth_providers.insert(provider.clone());
            draft.audit.push(audit::entry("oauth_provider_created", None, provider.name.clone()));
            Ok(provider)
        });
        created.await
    }

    pub async fn update_provider(
        &self,
        caller: &Caller,
        id: Id,
        edit: ProviderEdit,
    ) -> Result<OAuthProvider, AuthError> {
        let name = edit.name.as_deref().map(check_name).transpose()?;
        let client_id = edit.client_id.as_deref().map(|text| check_text("client_id", text)).transpose()?;
        edit.client_secret.as_ref().map(check_secret).transpose()?;
        let endpoint = |field: &str, value: &Option<String>| {
            value.as_deref().map(|text| self.check_endpoint(field, text)).transpose()
        };
        let auth_url = endpoint("auth_url", &edit.auth_url)?;
        let token_url = endpoint("token_url", &edit.token_url)?;
        let userinfo_url = endpoint("userinfo_url", &edit.userinfo_url)?;
        let updated = self.commit(caller.author(), move |draft| {
            let known =
                draft.identity.oauth_providers.get(&id).cloned().ok_or(AuthError::NotFound("provider"))?;
            let mut provider = (*known).clone();
            if let Some(scopes) = &edit.scopes {
                provider.scopes = check_scopes(&provider.provider_type, scopes)?;
            }
            let set = |field: &mut String, value: Option<String>| {
                if let Some(value) = value {
                    *field = value;
                }
            };
            if let Some(name) = &name {
                must_be_free(&draft.identity, name, Some(id))?;
            }
            set(&mut provider.name, name);
            set(&mut provider.client_id, client_id);
            set(&mut provider.auth_url, auth_url);
            set(&mut provider.token_url, token_url);
            set(&mut provider.userinfo_url, userinfo_url);
            if let Some(secret) = edit.client_secret {
                provider.client_secret = secret;
            }
            provider.enabled = edit.enabled.unwrap_or(provider.enabled);
            draft.identity.oauth_providers.insert(provider.clone());
            draft.audit.push(audit::entry("oauth_provider_updated", None, provider.name.clone()));
            Ok(provider)
        });
        updated.await
    }

    /// The provider goes, with the links to its subjects; the users stay.
    pub async fn delete_provider(&self, caller: &Caller, id: Id) -> Result<(), AuthError> {
        let deleted = self.commit(caller.author(), move |draft| {
            let gone = draft.identity.oauth_providers.remove(&id).ok_or(AuthError::NotFound("provider"))?;
            let links: Vec<String> = draft
                .identity
                .oauth_links
                .iter()
                .filter(|link| link.provider_id == id)
                .map(|link| format!("{}:{}", link.provider_id, link.subject))
                .collect();
            for link in links {
                draft.identity.oauth_links.remove(&link);
            }
            draft.audit.push(audit::entry("oauth_provider_deleted", None, gone.name.clone()));
            Ok(())
        });
        deleted.await
    }

    /// Whether identity providers and browsers on a loopback address may use plain HTTP.
    pub fn insecure_loopback(&self) -> bool {
        self.inner.insecure_loopback
    }
}
