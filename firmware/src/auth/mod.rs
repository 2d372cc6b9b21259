//! Who is calling and what they may do: passwords, tokens, TOTP, keys, tickets, lock-out, OAuth. Keeps its data
//! in the store's [`Identity`](crate::store::Identity). Knows nothing of HTTP, pf or the daemons.
//!
//! Everything that changes an identity is one commit, its audit entry included. What is looked at on every request
//! ([`Auth::authenticate`]) reads the store's snapshot only: a user who was disabled, a role that was edited or a token
//! that was revoked counts from the next request on.

mod audit;
mod authenticate;
mod clock;
mod error;
mod housekeeping;
mod keys;
mod lockout;
mod login;
mod oauth;
mod password;
mod random;
mod refresh;
mod roles;
mod settings;
mod tickets;
mod token;
mod totp;
mod users;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

pub use audit::SOURCE as AUDIT_SOURCE;
pub use authenticate::Presented;
pub use clock::Clock;
pub use error::AuthError;
pub use keys::{MintedKey, NewKey};
pub use login::{Client, EnrolmentToken, Login, TokenPair, TotpSetup};
pub use oauth::{Authorize, NewProvider, ProviderEdit};
pub use password::crypt;
pub use refresh::Session;
pub use roles::{ADMIN, NewRole, OPERATOR, RoleEdit, VIEWER};
pub use settings::SettingsEdit;
pub use tickets::{LIFETIME as TICKET_LIFETIME, looks_like_one as looks_like_a_ticket};
pub use token::SECRET_VARIABLE;
pub use users::{AdminPassword, NewAdmin, NewUser, PreparedAdmin, UserEdit, administrators};

use crate::config::{AuthSettings, Id, Permission, PermissionSet, Secret};
use crate::store::{Author, Draft, Store};

/// How a caller proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Access token.
    Token {
        jti: String,
        /// The sign-in it belongs to (refresh family).
        session: Option<Id>,
        /// Good for enrolling a second factor (TOTP) only.
        enrolment_only: bool,
        /// Unix seconds.
        issued_at: i64,
        expires_at: i64,
    },
    ApiKey {
        id: Id,
        name: String,
    },
    /// root on the local socket.
    Local,
}

/// An authenticated caller. Permissions are those in force now, not those in the token. A ticket makes its
/// bearer the caller that it was given to.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user_id: Id,
    pub username: String,
    pub role_id: String,
    pub role: String,
    pub permissions: PermissionSet,
    pub credential: Credential,
    pub ip: Option<IpAddr>,
}

impl Caller {
    /// root on the local socket: may do everything, is no user of the store.
    pub fn local() -> Self {
        Self {
            user_id: Id::nil(),
            username: "root".into(),
            role_id: ADMIN.into(),
            role: "admin".into(),
            permissions: PermissionSet::ALL,
            credential: Credential::Local,
            ip: None,
        }
    }
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(permission)
    }
    /// Whether the credential is a token that is good for enrolment (TOTP) only.
    pub fn enrolment_only(&self) -> bool {
        matches!(self.credential, Credential::Token { enrolment_only: true, .. })
    }
    /// As the author of a commit: `key:<name>` for an API key.
    pub fn author(&self) -> Author {
        let name = match &self.credential {
            Credential::ApiKey { name, .. } => format!("key:{name}"),
            _ => self.username.clone(),
        };
        Author { actor_id: self.user_id.to_string(), name, ip: self.ip }
    }
}

/// What the surroundings decide.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Signing secret for access tokens in place of the key file (development).
    pub jwt_secret: Option<Secret>,
    /// Tests and development: identity providers on a loopback address may be spoken to in plain HTTP, and the
    /// browser may come back to a loopback address in plain HTTP.
    pub insecure_loopback: bool,
    pub clock: Clock,
}

impl Options {
    /// As the environment says.
    pub fn from_env() -> Self {
        Self { jwt_secret: std::env::var(SECRET_VARIABLE).ok().map(Secret::new), ..Self::default() }
    }
}

/// Authentication. One per process; clones share it.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    insecure_loopback: bool,
    signer: token::Signer,
    hasher: password::Hasher,
    lockout: lockout::Lockout,
    /// A name's sign-ins are checked one after the other, so that guesses sent at once are counted one by one.
    turns: [async_lock::Mutex<()>; 64],
    tickets: tickets::Tickets,
    verified: authenticate::Verified,
    key_uses: keys::Uses,
    denials: audit::Denials,
    oauth: oauth::Flows,
}

impl Auth {
    /// Authentication over a store; reads (or makes) the signing key in `state_dir`. [`Auth::start`] before use.
    pub fn new(store: Store, state_dir: &Path, options: Options) -> Result<Self, AuthError> {
        let inner = Inner {
            store,
            signer: token::Signer::open(state_dir, options.jwt_secret.as_ref().map(Secret::expose))?,
            clock: options.clock,
            insecure_loopback: options.insecure_loopback,
            hasher: password::Hasher::default(),
            lockout: lockout::Lockout::default(),
            turns: std::array::from_fn(|_| async_lock::Mutex::new(())),
            tickets: tickets::Tickets::default(),
            verified: authenticate::Verified::default(),
            key_uses: keys::Uses::default(),
            denials: audit::Denials::default(),
            oauth: oauth::Flows::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Seeds the built-in roles, or refreshes them after an update.
    pub async fn start(&self) -> Result<(), AuthError> {
        self.seed_roles().await
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<AuthSettings> {
        self.inner.store.snapshot().config.auth.clone()
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    async fn commit<T, F>(&self, author: Author, change: F) -> Result<T, AuthError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Draft) -> Result<T, AuthError> + Send + 'static,
    {
        Ok(self.inner.store.commit(&author, change).await?)
    }
}
