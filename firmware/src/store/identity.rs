//! Who may use the appliance: users, roles, keys, tokens. Stored beside the configuration but not part of it:
//! not journaled, not in versions, exports or diffs.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::document::{Object, document};
use crate::config::{Id, PermissionSet, Secret, Timestamp};

document! {
    /// Users, roles, keys and tokens.
    pub struct Identity {
        collections {
            users: User => "user",
            roles: Role => "role",
            api_keys: ApiKey => "api_key",
            refresh_tokens: RefreshToken => "refresh_token",
            revoked_tokens: RevokedToken => "revoked_token",
            oauth_providers: OAuthProvider => "oauth_provider",
            oauth_links: OAuthLink => "oauth_link",
        }
        sections {}
    }
}

impl Identity {
    /// Drops refresh tokens and revocations that have run out: neither can matter any more. The store does
    /// this once an hour with a commit.
    pub fn forget_expired(&mut self, now: Timestamp) {
        let tokens = self.refresh_tokens.iter().filter(|token| token.expires_at <= now);
        let tokens: Vec<String> = tokens.map(|token| token.hash.clone()).collect();
        let revoked = self.revoked_tokens.iter().filter(|token| token.expires_at <= now);
        let revoked: Vec<String> = revoked.map(|token| token.jti.clone()).collect();
        for hash in tokens {
            self.refresh_tokens.remove(&hash);
        }
        for jti in revoked {
            self.revoked_tokens.remove(&jti);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: Id,
    pub username: String,
    /// PHC string (Argon2id); sealed at rest. Empty = no password login.
    pub password_hash: Secret,
    pub role_id: String,
    pub enabled: bool,
    /// `local`, or the name of the OAuth provider.
    pub auth_provider: String,
    pub totp: Option<Totp>,
    /// Access tokens issued before this second (Unix time) are refused, except the one named beside it.
    #[serde(default)]
    pub tokens_valid_from: i64,
    #[serde(default)]
    pub tokens_except_jti: Option<String>,
    pub created_at: Timestamp,
}

/// Time-based one-time password (RFC 6238, SHA-1, 6 digits, 30 s).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// Base32 without padding.
    pub secret: Secret,
    /// False until the first code was verified.
    pub enabled: bool,
    /// Newest time step used; a step is good once.
    pub last_step: u64,
    /// SHA-256 (hex) of the recovery codes still unused; sealed at rest, being of 48 bits only.
    pub recovery_hashes: Vec<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// UUID, or `builtin-admin`, `builtin-operator`, `builtin-viewer`.
    pub id: String,
    pub name: String,
    pub permissions: PermissionSet,
    pub builtin: bool,
    pub description: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: Id,
    pub name: String,
    /// First 12 characters of the key.
    pub prefix: String,
    /// SHA-256 (hex) of the key.
    pub hash: String,
    pub user_id: Id,
    /// `None` = as the owner's role.
    pub permissions: Option<PermissionSet>,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    /// Not good from then on.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Good from these networks only; empty = from everywhere.
    #[serde(default)]
    pub allowed_ips: Vec<IpNet>,
}

/// Keyed by the SHA-256 (hex) of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshToken {
    pub hash: String,
    pub family_id: Id,
    pub user_id: Id,
    pub revoked: bool,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

/// An access token that was revoked before it ran out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedToken {
    pub jti: String,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthProvider {
    pub id: Id,
    pub name: String,
    /// `google`, `github` or `oidc`.
    pub provider_type: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub auth_url: String,
    pub token_url: String,
    pub userinfo_url: String,
    pub scopes: String,
    pub enabled: bool,
    pub created_at: Timestamp,
}

/// Which user a provider's subject is. Keyed by `provider id:subject`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthLink {
    pub provider_id: Id,
    pub subject: String,
    pub user_id: Id,
    pub email: Option<String>,
    pub created_at: Timestamp,
}

macro_rules! object {
    ($type:ty, $key:ty, |$this:ident| $value:expr) => {
        impl Object for $type {
            type Key = $key;
            fn key(&self) -> $key {
                let $this = self;
                $value
            }
        }
    };
}
object!(User, Id, |user| user.id);
object!(Role, String, |role| role.id.clone());
object!(ApiKey, Id, |key| key.id);
object!(RefreshToken, String, |token| token.hash.clone());
object!(RevokedToken, String, |token| token.jti.clone());
object!(OAuthProvider, Id, |provider| provider.id);
object!(OAuthLink, String, |link| format!("{}:{}", link.provider_id, link.subject));
