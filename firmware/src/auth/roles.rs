//! Roles: the three that are built in, those that administrators make, and who may make them.

use super::{Auth, AuthError, Caller, audit, random, users};
use crate::config::{Id, Permission, PermissionSet};
use crate::store::Identity;
use crate::store::identity::Role;

pub const ADMIN: &str = "builtin-admin";
pub const OPERATOR: &str = "builtin-operator";
pub const VIEWER: &str = "builtin-viewer";

/// Id, name, permissions (contract/auth.md §5), description.
const BUILTIN: [(&str, &str, u64, &str); 3] = [
    (ADMIN, "admin", 137_438_953_471, "Full system access"),
    (OPERATOR, "operator", 66_282_586_111, "Operational access without system administration"),
    (VIEWER, "viewer", 21_644_356_267, "Read-only access"),
];

const MAX_NAME: usize = 64;
const MAX_DESCRIPTION: usize = 500;

/// A role to be made.
#[derive(Debug, Clone)]
pub struct NewRole {
    pub name: String,
    pub permissions: Vec<String>,
    pub description: Option<String>,
}

/// What is to change; `None` = as it is.
#[derive(Debug, Clone, Default)]
pub struct RoleEdit {
    pub name: Option<String>,
    pub permissions: Option<Vec<String>>,
    /// `Some(None)` clears it.
    pub description: Option<Option<String>>,
}

/// Permissions by name; an unknown one is refused.
pub(super) fn parse_permissions(names: &[String]) -> Result<PermissionSet, AuthError> {
    names
        .iter()
        .map(|name| name.parse::<Permission>().map_err(|error| AuthError::from(error.field("permissions"))))
        .collect()
}

/// The role with this id or, letter case aside, this name.
pub(super) fn resolve<'a>(identity: &'a Identity, wanted: &str) -> Result<&'a Role, AuthError> {
    let wanted = wanted.trim();
    identity
        .roles
        .get(&wanted.to_owned())
        .or_else(|| identity.roles.iter().find(|role| role.name.eq_ignore_ascii_case(wanted)))
        .map(|role| &**role)
        .ok_or_else(|| AuthError::invalid("role", "expected the name or id of a role"))
}

/// Nobody gives or takes what they do not hold.
pub(super) fn must_cover(caller: &Caller, permissions: PermissionSet, what: &str) -> Result<(), AuthError> {
    if caller.permissions.covers(permissions) {
        return Ok(());
    }
    let missing = permissions.iter().find(|permission| !caller.may(*permission));
    Err(AuthError::Forbidden(format!(
        "{what} holds {}, which you do not",
        missing.map_or("a permission", Permission::name)
    )))
}

fn check_name(name: &str) -> Result<String, AuthError> {
    let name = name.trim();
    let refuse = |reason: String| Err(AuthError::invalid("name", reason));
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return refuse(format!("expected 1 to {MAX_NAME} characters"));
    }
    if name.chars().any(char::is_control) {
        return refuse("expected no control characters".into());
    }
    if name.to_ascii_lowercase().starts_with("builtin-") || name.parse::<Id>().is_ok() {
        return refuse("expected a name that does not look like the id of a role".into());
    }
    Ok(name.to_owned())
}

fn check_description(text: Option<String>) -> Result<Option<String>, AuthError> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
        return Err(AuthError::invalid(
            "description",
            format!("expected at most {MAX_DESCRIPTION} characters"),
        ));
    }
    Ok(text)
}

fn must_be_free(identity: &Identity, name: &str, own_id: Option<&str>) -> Result<(), AuthError> {
    let taken = identity
        .roles
        .iter()
        .any(|role| Some(role.id.as_str()) != own_id && role.name.eq_ignore_ascii_case(name));
    if taken { Err(AuthError::Conflict("a role of that name exists".into())) } else { Ok(()) }
}

impl Auth {
    /// Seeds the built-in roles, or refreshes their names and permissions; descriptions are the administrator's.
    pub(super) async fn seed_roles(&self) -> Result<(), AuthError> {
        let current = |identity: &Identity| {
            BUILTIN.iter().all(|(id, name, bits, _)| {
                identity.roles.get(&(*id).to_owned()).is_some_and(|role| {
                    role.name == *name && role.permissions.bits() == *bits && role.builtin
                })
            })
        };
        if current(&self.inner.store.snapshot().identity) {
            return Ok(());
        }
        let seeded = self.commit(crate::store::Author::system("system"), |draft| {
            for (id, name, bits, description) in BUILTIN {
                let old = draft.identity.roles.get(&id.to_owned()).cloned();
                draft.identity.roles.insert(Role {
                    id: id.into(),
                    name: name.into(),
                    permissions: PermissionSet::from_bits(bits),
                    builtin: true,
                    description: old
                        .as_ref()
                        .map_or_else(|| Some(description.into()), |r| r.description.clone()),
                    created_at: old.map_or(draft.now, |role| role.created_at),
                });
            }
            Ok(())
        });
        seeded.await
    }

    /// Built-in ones first, then by name.
    pub fn roles(&self) -> Vec<Role> {
        let mut roles: Vec<Role> =
            self.inner.store.snapshot().identity.roles.iter().map(|role| (**role).clone()).collect();
        roles.sort_by_key(|role| (!role.builtin, role.name.to_lowercase()));
        roles
    }

    pub async fn create_role(&self, caller: &Caller, new: NewRole) -> Result<Role, AuthError> {
        let name = check_name(&new.name)?;
        let permissions = parse_permissions(&new.permissions)?;
        let description = check_description(new.description)?;
        must_cover(caller, permissions, "the role")?;
        let id = uuid::Builder::from_random_bytes(random::bytes::<16>()?).into_uuid().to_string();
        let created = self.commit(caller.author(), move |draft| {
            must_be_free(&draft.identity, &name, None)?;
            let role = Role { id, name, permissions, builtin: false, description, created_at: draft.now };
            draft.identity.roles.insert(role.clone());
            draft.audit.push(audit::entry("role_created", None, role.name.clone()));
            Ok(role)
        });
        created.await
    }

    pub async fn update_role(&self, caller: &Caller, id: &str, edit: RoleEdit) -> Result<(), AuthError> {
        let permissions = edit.permissions.as_deref().map(parse_permissions).transpose()?;
        let builtin =
            self.inner.store.snapshot().identity.roles.get(&id.to_owned()).is_some_and(|r| r.builtin);
        if builtin && (edit.name.is_some() || permissions.is_some()) {
            let text = "a built-in role keeps its name and permissions; only its description can change";
            return Err(AuthError::Forbidden(text.into()));
        }
        let name = edit.name.as_deref().map(check_name).transpose()?;
        let description = edit.description.map(check_description).transpose()?;
        let (by, id) = (caller.clone(), id.to_owned());
        let updated = self.commit(caller.author(), move |draft| {
            let mut role = Role::clone(draft.identity.roles.get(&id).ok_or(AuthError::NotFound("role"))?);
            must_cover(&by, role.permissions, "the role")?;
            if let Some(permissions) = permissions {
                must_cover(&by, permissions, "the role")?;
                role.permissions = permissions;
            }
            if let Some(name) = name {
                must_be_free(&draft.identity, &name, Some(&id))?;
                role.name = name;
            }
            if let Some(description) = description {
                role.description = description;
            }
            let before = draft.identity.clone();
            draft.audit.push(audit::entry("role_updated", None, role.name.clone()));
            draft.identity.roles.insert(role);
            users::keep_an_administrator(&before, &draft.identity)
        });
        updated.await
    }

    pub async fn delete_role(&self, caller: &Caller, id: &str) -> Result<(), AuthError> {
        let (by, id) = (caller.clone(), id.to_owned());
        let deleted = self.commit(caller.author(), move |draft| {
            let role = draft.identity.roles.get(&id).cloned().ok_or(AuthError::NotFound("role"))?;
            if role.builtin {
                return Err(AuthError::Forbidden("a built-in role cannot be deleted".into()));
            }
            must_cover(&by, role.permissions, "the role")?;
            if draft.identity.users.iter().any(|user| user.role_id == id) {
                return Err(AuthError::Conflict("the role is in use".into()));
            }
            draft.identity.roles.remove(&id);
            draft.audit.push(audit::entry("role_deleted", None, role.name.clone()));
            Ok(())
        });
        deleted.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sets of contract/auth.md §5 in words give the numbers of its table.
    #[test]
    fn builtin_bits_are_the_sets_in_words() {
        use Permission::*;
        let operator = [UsersWrite, SettingsWrite, UpdatesInstall, SystemReboot, HaManage]
            .into_iter()
            .fold(PermissionSet::ALL, PermissionSet::without);
        let viewer: PermissionSet = Permission::ALL
            .into_iter()
            .filter(|p| matches!(p.action(), "read" | "view"))
            .filter(|p| !matches!(p, UsersRead | SettingsRead | BackupRead))
            .collect();
        assert_eq!(BUILTIN[0].2, PermissionSet::ALL.bits());
        assert_eq!(BUILTIN[1].2, operator.bits());
        assert_eq!(operator.iter().count(), 32);
        assert_eq!(BUILTIN[2].2, viewer.bits());
        assert_eq!(viewer.iter().count(), 16);
    }

    #[test]
    fn names_that_are_refused() {
        for name in ["", "  ", "builtin-admin", "Builtin-x", "a\nb", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(check_name(" Night shift ").ok().as_deref(), Some("Night shift"));
    }
}
