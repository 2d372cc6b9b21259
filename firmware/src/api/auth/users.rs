//! Users (contract/auth.md §6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Access, ApiError, Call, Reply, Route};
use super::{Data, Message, PAGING, Page, paged, route};
use crate::auth::{NewUser, UserEdit};
use crate::config::{Id, Permission, Secret, Timestamp};
use crate::store::identity::{Role, User};

#[derive(Serialize, JsonSchema)]
pub(super) struct UserView {
    id: Id,
    username: String,
    totp_enabled: bool,
    /// `local`, or the name of an identity provider.
    auth_provider: String,
    role: String,
    role_id: Option<String>,
    enabled: bool,
    created_at: Timestamp,
}

impl UserView {
    pub(super) fn of(user: &User, role: &Role) -> Self {
        Self {
            id: user.id,
            username: user.username.clone(),
            totp_enabled: user.totp.as_ref().is_some_and(|totp| totp.enabled),
            auth_provider: user.auth_provider.clone(),
            role: role.name.clone(),
            role_id: Some(user.role_id.clone()).filter(|id| !id.is_empty()),
            enabled: user.enabled,
            created_at: user.created_at,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewUserBody {
    username: String,
    password: String,
    /// Name or id of a role; `viewer` if absent.
    #[serde(default)]
    role: Option<String>,
}

#[derive(Deserialize, JsonSchema, Default)]
struct UserBody {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
    /// One's own; must be right if it is sent.
    #[serde(default)]
    current_password: Option<String>,
}

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::UsersRead), Access::Needs(Permission::UsersWrite));
    vec![
        route("GET", "/auth/users", read, "Users, oldest first", list)
            .with_query(PAGING)
            .answers::<Page<UserView>>(200),
        route("POST", "/auth/users", write, "Make a user", create)
            .takes::<NewUserBody>()
            .answers::<Data<UserView>>(201),
        route("GET", "/auth/users/{id}", Access::Enrolment, "One user; one's own without users:read", get)
            .answers::<Data<UserView>>(200),
        route(
            "PUT",
            "/auth/users/{id}",
            Access::Authenticated,
            "Change a user; one's own password without users:write",
            update,
        )
        .takes::<UserBody>()
        .answers::<Data<UserView>>(200),
        route("DELETE", "/auth/users/{id}", write, "Delete a user", delete).answers::<Message>(200),
    ]
}

/// The user's id, if it is the caller's own or the caller holds the permission.
fn own_or(call: &Call, permission: Permission) -> Result<Id, ApiError> {
    let caller = call.caller()?;
    let id = call.id("id");
    if !caller.may(permission) && id.as_ref().ok() != Some(&caller.user_id) {
        return Err(ApiError::forbidden(format!("the permission {permission} is needed")));
    }
    id
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    paged(&call, call.app.auth.users(), |(user, role)| UserView::of(&user, &role))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let body: NewUserBody = call.json()?;
    let new = NewUser {
        username: body.username,
        password: Secret::new(body.password),
        role: body.role.unwrap_or_else(|| "viewer".into()),
    };
    let (user, role) = call.app.auth.create_user(call.caller()?, new).await?;
    Ok(Reply::created(&UserView::of(&user, &role)))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let id = own_or(&call, Permission::UsersRead)?;
    let (user, role) = call.app.auth.user(id).ok_or_else(|| ApiError::not_found("user"))?;
    Ok(Reply::data(&UserView::of(&user, &role)))
}

async fn update(call: Call) -> Result<Reply, ApiError> {
    let id = own_or(&call, Permission::UsersWrite)?;
    let body: UserBody = call.json()?;
    let edit = UserEdit {
        username: body.username,
        password: body.password.map(Secret::new),
        role: body.role,
        enabled: body.enabled,
        current_password: body.current_password.map(Secret::new),
    };
    let (user, role) = call.app.auth.update_user(call.caller()?, id, edit).await?;
    Ok(Reply::data(&UserView::of(&user, &role)))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let name = call.app.auth.delete_user(call.caller()?, call.id("id")?).await?;
    Ok(Reply::message(format!("User {name} deleted")))
}
