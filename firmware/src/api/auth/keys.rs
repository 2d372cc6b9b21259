//! API keys (contract/auth.md §8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Access, ApiError, Call, Reply, Route};
use super::{Message, PAGING, Page, paged, route};
use crate::auth::NewKey;
use crate::config::{Id, Permission, Timestamp};
use crate::store::identity::ApiKey;

#[derive(Deserialize, JsonSchema)]
struct NewKeyBody {
    name: String,
    /// Absent: as the owner's role.
    #[serde(default)]
    permissions: Option<Vec<String>>,
    /// Absent: it does not run out.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// Addresses or networks; absent: from everywhere.
    #[serde(default)]
    allowed_ips: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
struct MintedView {
    id: Id,
    name: String,
    /// Shown this once.
    key: String,
    prefix: String,
    permissions: Option<Vec<Permission>>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    allowed_ips: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct KeyView {
    id: Id,
    name: String,
    prefix: String,
    user_id: Id,
    permissions: Option<Vec<Permission>>,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    allowed_ips: Vec<String>,
}

fn scope(key: &ApiKey) -> Option<Vec<Permission>> {
    key.permissions.map(|permissions| permissions.iter().collect())
}

fn networks(key: &ApiKey) -> Vec<String> {
    key.allowed_ips.iter().map(ToString::to_string).collect()
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            permissions: scope(&key),
            allowed_ips: networks(&key),
            expires_at: key.expires_at,
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            user_id: key.user_id,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::UsersRead), Access::Needs(Permission::UsersWrite));
    vec![
        route("GET", "/auth/api-keys", read, "API keys", list)
            .with_query(PAGING)
            .answers::<Page<KeyView>>(200),
        route("POST", "/auth/api-keys", write, "Make an API key of one's own", create)
            .takes::<NewKeyBody>()
            .answers::<MintedView>(201),
        route("DELETE", "/auth/api-keys/{id}", write, "Revoke an API key", revoke).answers::<Message>(200),
    ]
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    paged(&call, call.app.auth.keys(), KeyView::from)
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let body: NewKeyBody = call.json()?;
    let new = NewKey {
        name: body.name,
        permissions: body.permissions,
        expires_at: body.expires_at,
        allowed_ips: body.allowed_ips.unwrap_or_default(),
    };
    let minted = call.app.auth.create_key(call.caller()?, new).await?;
    let view = MintedView {
        permissions: scope(&minted.row),
        allowed_ips: networks(&minted.row),
        expires_at: minted.row.expires_at,
        id: minted.row.id,
        name: minted.row.name,
        key: minted.key,
        prefix: minted.row.prefix,
        created_at: minted.row.created_at,
    };
    Ok(Reply::json(&view).with_status(201))
}

async fn revoke(call: Call) -> Result<Reply, ApiError> {
    call.app.auth.revoke_key(call.caller()?, call.id("id")?).await?;
    Ok(Reply::message("API key revoked"))
}
