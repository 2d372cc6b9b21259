//! Roles and permissions (contract/auth.md §5, §7).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::super::{Access, ApiError, Call, Reply, Route};
use super::{Message, PAGING, route};
use crate::auth::{NewRole, RoleEdit};
use crate::config::{Permission, Timestamp};
use crate::store::identity::Role;

#[derive(Serialize, JsonSchema)]
struct RoleView {
    /// UUID, or `builtin-admin`, `builtin-operator`, `builtin-viewer`.
    id: String,
    name: String,
    permissions: Vec<Permission>,
    permission_bits: u64,
    builtin: bool,
    description: Option<String>,
    created_at: Timestamp,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        Self {
            id: role.id,
            name: role.name,
            permissions: role.permissions.iter().collect(),
            permission_bits: role.permissions.bits(),
            builtin: role.builtin,
            description: role.description,
            created_at: role.created_at,
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct RolesView {
    roles: Vec<RoleView>,
}

#[derive(Serialize, JsonSchema)]
struct PermissionView {
    key: &'static str,
    category: &'static str,
    action: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct PermissionsView {
    permissions: Vec<PermissionView>,
}

#[derive(Deserialize, JsonSchema)]
struct NewRoleBody {
    name: String,
    permissions: Vec<String>,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct RoleBody {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    permissions: Option<Vec<String>>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    description: Option<Option<String>>,
}

/// Tells a field that is null from one that is absent.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(d).map(Some)
}

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::UsersRead), Access::Needs(Permission::UsersWrite));
    vec![
        route("GET", "/auth/roles", read, "Roles, built-in ones first", list)
            .with_query(PAGING)
            .answers::<RolesView>(200),
        route("POST", "/auth/roles", write, "Make a role", create)
            .takes::<NewRoleBody>()
            .answers::<RoleView>(201),
        route("PUT", "/auth/roles/{id}", write, "Change a role", update)
            .takes::<RoleBody>()
            .answers::<Message>(200),
        route("DELETE", "/auth/roles/{id}", write, "Delete a role", delete).answers::<Message>(200),
        route("GET", "/auth/permissions", read, "All permissions, in bit order", permissions)
            .answers::<PermissionsView>(200),
    ]
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(1_000, 10_000)?;
    let roles = call.app.auth.roles();
    let total = roles.len().to_string();
    let roles = page.of(roles).into_iter().map(RoleView::from).collect();
    Ok(Reply::json(&RolesView { roles }).with_header("X-Total-Count", total))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let body: NewRoleBody = call.json()?;
    let new = NewRole { name: body.name, permissions: body.permissions, description: body.description };
    let role = call.app.auth.create_role(call.caller()?, new).await?;
    Ok(Reply::json(&RoleView::from(role)).with_status(201))
}

async fn update(call: Call) -> Result<Reply, ApiError> {
    let body: RoleBody = call.json()?;
    let edit = RoleEdit { name: body.name, permissions: body.permissions, description: body.description };
    call.app.auth.update_role(call.caller()?, call.param("id"), edit).await?;
    Ok(Reply::message("Role updated"))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    call.app.auth.delete_role(call.caller()?, call.param("id")).await?;
    Ok(Reply::message("Role deleted"))
}

async fn permissions(_call: Call) -> Result<Reply, ApiError> {
    let view = |permission: Permission| PermissionView {
        key: permission.name(),
        category: permission.category(),
        action: permission.action(),
    };
    let permissions: Vec<_> = Permission::ALL.into_iter().map(view).collect();
    Ok(Reply::json(&json!({ "permissions": permissions })))
}
