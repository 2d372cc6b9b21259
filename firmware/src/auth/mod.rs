//! Who is calling and what they may do: passwords, tokens, TOTP, keys, tickets, lock-out, OAuth. Keeps its data
//! in the store's [`Identity`](crate::store::Identity). Knows nothing of pf or the daemons.

use std::net::IpAddr;

use crate::config::{Id, Permission, PermissionSet};
use crate::store::Author;

/// How a caller proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Access token; its `jti`, and whether it is good for enrolment (TOTP) only.
    Token {
        jti: String,
        enrolment_only: bool,
    },
    ApiKey {
        id: Id,
        name: String,
    },
    Ticket,
    /// root on the local socket.
    Local,
}

/// An authenticated caller. Permissions are those in force now, not those in the token.
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
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(permission)
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
