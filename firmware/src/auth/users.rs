//! Users: names, roles, passwords, and the rules that nobody grows by editing somebody and that an administrator
//! always remains.

use std::sync::Arc;

use super::roles::{self, ADMIN, must_cover};
use super::{Auth, AuthError, Caller, Credential, audit, password, refresh, totp};
use crate::config::setup;
pub use crate::config::setup::AdminPassword;
use crate::config::{AuthSettings, Id, Invalid, Permission, PermissionSet, Secret, Timestamp};
use crate::store::identity::{Role, User};
use crate::store::{Author, Draft, Identity};

/// A user to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub username: String,
    pub password: Secret,
    /// Name or id of a role.
    pub role: String,
}

/// What is to change; `None` = as it is.
#[derive(Debug, Clone, Default)]
pub struct UserEdit {
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub role: Option<String>,
    pub enabled: Option<bool>,
    /// Must be right if given; for the caller's own password.
    pub current_password: Option<Secret>,
}

/// The first administrator, from the setup file or the first-boot dialogue.
#[derive(Debug, Clone)]
pub struct NewAdmin {
    pub username: String,
    pub password: AdminPassword,
    /// Base32; with it the second factor is on from the start.
    pub totp_secret: Option<String>,
    pub recovery_codes: Vec<String>,
    /// Everybody must enrol a second factor.
    pub require_totp: bool,
}

impl From<setup::Admin> for NewAdmin {
    fn from(admin: setup::Admin) -> Self {
        Self {
            username: admin.username,
            password: admin.password,
            totp_secret: admin.totp_secret.map(|secret| secret.expose().to_owned()),
            recovery_codes: admin.recovery_codes.iter().map(|code| code.expose().to_owned()).collect(),
            require_totp: admin.totp_enabled,
        }
    }
}

/// 1 to 64 of `A-Z a-z 0-9 . _ @ -`, surrounding space taken off.
pub(super) fn check_username(name: &str) -> Result<String, Invalid> {
    let name = name.trim();
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(fine) {
        Ok(name.to_owned())
    } else {
        Err(Invalid::new("username", "expected 1 to 64 of A-Z a-z 0-9 . _ @ -"))
    }
}

/// The user of this name, letter case aside.
pub(super) fn by_name<'a>(identity: &'a Identity, name: &str) -> Option<&'a Arc<User>> {
    let name = name.trim();
    identity.users.iter().find(|user| user.username.eq_ignore_ascii_case(name))
}

/// The user's role; a user whose role is gone has a role without permissions.
pub(super) fn role_of(identity: &Identity, user: &User) -> Arc<Role> {
    identity.roles.get(&user.role_id).cloned().unwrap_or_else(|| {
        Arc::new(Role {
            id: user.role_id.clone(),
            name: String::new(),
            permissions: PermissionSet::NONE,
            builtin: false,
            description: None,
            created_at: user.created_at,
        })
    })
}

/// How many enabled users can administer: their role holds `users:write` and `settings:write`.
pub fn administrators(identity: &Identity) -> usize {
    let needed = PermissionSet::NONE.with(Permission::UsersWrite).with(Permission::SettingsWrite);
    identity
        .users
        .iter()
        .filter(|user| user.enabled && role_of(identity, user).permissions.covers(needed))
        .count()
}

/// Refuses a change after which nobody could administer.
pub(super) fn keep_an_administrator(before: &Identity, after: &Identity) -> Result<(), AuthError> {
    if administrators(before) > 0 && administrators(after) == 0 {
        return Err(AuthError::Conflict("the last administrator must remain one".into()));
    }
    Ok(())
}

/// Ends everything the user signed in with, except one access token.
pub(super) fn sign_out(identity: &mut Identity, user: &mut User, now: Timestamp, except_jti: Option<String>) {
    user.tokens_valid_from = now.as_second() + 1;
    user.tokens_except_jti = except_jti;
    refresh::revoke_where(identity, |token| token.user_id == user.id);
}

fn must_be_free(identity: &Identity, name: &str, own_id: Option<Id>) -> Result<(), AuthError> {
    match by_name(identity, name) {
        Some(user) if Some(user.id) != own_id => Err(AuthError::Conflict("that username is taken".into())),
        _ => Ok(()),
    }
}

pub(super) fn new_user(
    username: String,
    password_hash: Secret,
    role_id: &str,
    provider: &str,
    now: Timestamp,
) -> User {
    User {
        id: Id::new_v4(),
        username,
        password_hash,
        role_id: role_id.into(),
        enabled: true,
        auth_provider: provider.into(),
        totp: None,
        tokens_valid_from: 0,
        tokens_except_jti: None,
        created_at: now,
    }
}

impl Auth {
    /// By time of creation, each with their role.
    pub fn users(&self) -> Vec<(Arc<User>, Arc<Role>)> {
        let snapshot = self.inner.store.snapshot();
        let identity = &snapshot.identity;
        let mut users: Vec<_> =
            identity.users.iter().map(|user| (user.clone(), role_of(identity, user))).collect();
        users.sort_by_key(|(user, _)| (user.created_at, user.id));
        users
    }

    pub fn user(&self, id: Id) -> Option<(Arc<User>, Arc<Role>)> {
        let snapshot = self.inner.store.snapshot();
        let user = snapshot.identity.users.get(&id)?.clone();
        let role = role_of(&snapshot.identity, &user);
        Some((user, role))
    }

    pub async fn create_user(
        &self,
        caller: &Caller,
        new: NewUser,
    ) -> Result<(Arc<User>, Arc<Role>), AuthError> {
        let username = check_username(&new.username)?;
        password::check(new.password.expose(), self.settings().password_min_length)?;
        let allowed = {
            let (by, username) = (caller.clone(), username.clone());
            move |identity: &Identity| -> Result<String, AuthError> {
                let role = roles::resolve(identity, &new.role)?;
                must_cover(&by, role.permissions, "the role")?;
                must_be_free(identity, &username, None)?;
                Ok(role.id.clone())
            }
        };
        // Before the costly hash as well as inside the commit.
        allowed(&self.inner.store.snapshot().identity)?;
        let hash = Secret::new(self.inner.hasher.hash(new.password.expose()).await?);
        let created = self.commit(caller.author(), move |draft| {
            let role_id = allowed(&draft.identity)?;
            let user = new_user(username, hash, &role_id, "local", draft.now);
            let role = role_of(&draft.identity, &user);
            let details = format!("{} as {}", user.username, role.name);
            draft.audit.push(audit::entry("user_created", Some(user.id), details));
            draft.identity.users.insert(user.clone());
            Ok((Arc::new(user), role))
        });
        created.await
    }

    /// With `users:write`: anything, of users who hold no more than the caller. Without: one's own password.
    pub async fn update_user(
        &self,
        caller: &Caller,
        id: Id,
        edit: UserEdit,
    ) -> Result<(Arc<User>, Arc<Role>), AuthError> {
        let own = caller.user_id == id;
        let password_only = edit.username.is_none() && edit.role.is_none() && edit.enabled.is_none();
        let allowed = caller.may(Permission::UsersWrite) || (own && password_only);
        if !allowed {
            return Err(AuthError::Forbidden(
                "users:write is needed; without it, only one's own password".into(),
            ));
        }
        let username = edit.username.as_deref().map(check_username).transpose()?;
        if let Some(password) = &edit.password {
            password::check(password.expose(), self.settings().password_min_length)?;
        }
        let snapshot = self.inner.store.snapshot();
        let target = snapshot.identity.users.get(&id).cloned().ok_or(AuthError::NotFound("user"))?;
        must_cover(caller, role_of(&snapshot.identity, &target).permissions, "the user")?;
        if let (true, Some(current)) = (own, &edit.current_password) {
            let hash = Some(target.password_hash.expose()).filter(|hash| !hash.is_empty());
            if !self.inner.hasher.verify(current.expose(), hash).await? {
                return Err(AuthError::Forbidden("current_password is wrong".into()));
            }
        }
        let hash = match &edit.password {
            Some(password) => Some(Secret::new(self.inner.hasher.hash(password.expose()).await?)),
            None => None,
        };
        let own_jti = match &caller.credential {
            Credential::Token { jti, .. } if own => Some(jti.clone()),
            _ => None,
        };
        let (by, now) = (caller.clone(), self.inner.clock.now());
        let updated = self.commit(caller.author(), move |draft| {
            let before = draft.identity.clone();
            let mut user = User::clone(before.users.get(&id).ok_or(AuthError::NotFound("user"))?);
            must_cover(&by, role_of(&before, &user).permissions, "the user")?;
            let mut changed = Vec::new();
            if let Some(role) = &edit.role {
                let role = roles::resolve(&before, role)?;
                must_cover(&by, role.permissions, "the role")?;
                if user.role_id != role.id {
                    user.role_id = role.id.clone();
                    changed.push("role");
                }
            }
            if let Some(name) = username.filter(|name| *name != user.username) {
                must_be_free(&before, &name, Some(id))?;
                user.username = name;
                changed.push("username");
            }
            if let Some(hash) = hash {
                user.password_hash = hash;
                changed.push("password");
                sign_out(&mut draft.identity, &mut user, now, own_jti);
            }
            if let Some(enabled) = edit.enabled.filter(|enabled| *enabled != user.enabled) {
                user.enabled = enabled;
                changed.push("enabled");
                if !enabled {
                    sign_out(&mut draft.identity, &mut user, now, None);
                }
            }
            draft.identity.users.insert(user.clone());
            keep_an_administrator(&before, &draft.identity)?;
            let changed = if changed.is_empty() { "nothing".into() } else { changed.join(", ") };
            let details = format!("{}: {changed}", user.username);
            draft.audit.push(audit::entry("user_updated", Some(id), details));
            let role = role_of(&draft.identity, &user);
            Ok((Arc::new(user), role))
        });
        updated.await
    }

    /// Gives the name of the user who is gone, with tokens, keys and links.
    pub async fn delete_user(&self, caller: &Caller, id: Id) -> Result<String, AuthError> {
        if caller.user_id == id {
            return Err(AuthError::BadRequest("one cannot delete oneself".into()));
        }
        let by = caller.clone();
        let deleted = self.commit(caller.author(), move |draft| {
            let before = draft.identity.clone();
            let user = before.users.get(&id).ok_or(AuthError::NotFound("user"))?;
            must_cover(&by, role_of(&before, user).permissions, "the user")?;
            draft.identity.users.remove(&id);
            keep_an_administrator(&before, &draft.identity)?;
            for token in before.refresh_tokens.iter().filter(|token| token.user_id == id) {
                draft.identity.refresh_tokens.remove(&token.hash);
            }
            for key in before.api_keys.iter().filter(|key| key.user_id == id) {
                draft.identity.api_keys.remove(&key.id);
            }
            for link in before.oauth_links.iter().filter(|link| link.user_id == id) {
                draft.identity.oauth_links.remove(&format!("{}:{}", link.provider_id, link.subject));
            }
            draft.audit.push(audit::entry("user_deleted", Some(id), user.username.clone()));
            Ok(user.username.clone())
        });
        deleted.await
    }

    /// Anybody may register where nobody is yet, and becomes the administrator; afterwards as the settings say,
    /// as a viewer.
    pub async fn register(
        &self,
        username: &str,
        password: &Secret,
        ip: Option<std::net::IpAddr>,
    ) -> Result<(Arc<User>, Arc<Role>), AuthError> {
        self.registration_open()?;
        let username = check_username(username)?;
        password::check(password.expose(), self.settings().password_min_length)?;
        must_be_free(&self.inner.store.snapshot().identity, &username, None)?;
        let hash = Secret::new(self.inner.hasher.hash(password.expose()).await?);
        let author = Author { ip, ..Author::system("anonymous") };
        let registered = self.commit(author, move |draft| {
            let first = draft.identity.users.is_empty();
            open_for(&draft.identity, &draft.config.auth)?;
            must_be_free(&draft.identity, &username, None)?;
            let role = if first { ADMIN } else { roles::VIEWER };
            let user = new_user(username, hash, role, "local", draft.now);
            let mut entry = audit::entry("user_registered", Some(user.id), user.username.clone());
            entry.actor = Some(user.id.to_string());
            draft.audit.push(entry);
            draft.identity.users.insert(user.clone());
            let role = role_of(&draft.identity, &user);
            Ok((Arc::new(user), role))
        });
        registered.await
    }

    /// Whether anybody may register now.
    pub fn registration_open(&self) -> Result<(), AuthError> {
        let snapshot = self.inner.store.snapshot();
        open_for(&snapshot.identity, &snapshot.config.auth)
    }

    /// The administrator of the setup file: made, or, if the name exists, given this password and second factor.
    pub async fn create_admin(&self, new: NewAdmin) -> Result<Id, AuthError> {
        let prepared = self.prepare_admin(new).await?;
        self.commit(Author::system("setup"), move |draft| Ok(prepared.write(draft, false))).await
    }

    /// Checks and hashes, so that [`PreparedAdmin::write`] can be part of a commit that sets up everything else.
    pub async fn prepare_admin(&self, new: NewAdmin) -> Result<PreparedAdmin, AuthError> {
        let username = check_username(&new.username)?;
        let password_hash = match &new.password {
            AdminPassword::Plain(text) => {
                password::check(text.expose(), self.settings().password_min_length)?;
                Secret::new(self.inner.hasher.hash(text.expose()).await?)
            }
            AdminPassword::Hash(phc) => {
                password::check_hash(phc.expose())?;
                phc.clone()
            }
        };
        let totp = new
            .totp_secret
            .as_deref()
            .map(|secret| totp::existing(secret, &new.recovery_codes, true))
            .transpose()?;
        let now = self.inner.clock.now();
        Ok(PreparedAdmin { username, password_hash, totp, require_totp: new.require_totp, now })
    }

    /// Gives a local user a new password from the console, ends all their sessions, enables them, and takes their
    /// second factor away if asked to: the way back in for whoever has the machine in front of them.
    pub async fn reset_from_console(
        &self,
        username: &str,
        password: &Secret,
        without_totp: bool,
    ) -> Result<String, AuthError> {
        password::check(password.expose(), self.settings().password_min_length)?;
        let find = {
            let username = username.to_owned();
            move |identity: &Identity| {
                let user = by_name(identity, &username).filter(|user| user.auth_provider == "local");
                user.cloned().ok_or(AuthError::NotFound("user"))
            }
        };
        find(&self.inner.store.snapshot().identity)?;
        let hash = Secret::new(self.inner.hasher.hash(password.expose()).await?);
        let now = self.inner.clock.now();
        self.commit(Author::system("console"), move |draft| {
            let mut user = User::clone(&*find(&draft.identity)?);
            user.password_hash = hash;
            user.enabled = true;
            let mut details = format!("{}: password reset on the console", user.username);
            if without_totp && user.totp.take().is_some() {
                details.push_str(", second factor removed");
            }
            sign_out(&mut draft.identity, &mut user, now, None);
            draft.audit.push(audit::entry("user_updated", Some(user.id), details));
            let name = user.username.clone();
            draft.identity.users.insert(user);
            Ok(name)
        })
        .await
    }
}

/// An administrator whose password is hashed, ready to be stored.
#[derive(Debug)]
pub struct PreparedAdmin {
    username: String,
    password_hash: Secret,
    totp: Option<crate::store::identity::Totp>,
    require_totp: bool,
    now: Timestamp,
}

impl PreparedAdmin {
    /// Stores the user of this name, made if need be. With `replace`, a name that nobody has is given to the
    /// oldest local administrator in place of the old one: a second setup leaves no forgotten account behind.
    pub fn write(self, draft: &mut Draft, replace: bool) -> Id {
        let known = by_name(&draft.identity, &self.username).cloned().or_else(|| {
            let local = |user: &&Arc<User>| user.auth_provider == "local" && user.role_id == ADMIN;
            let oldest =
                draft.identity.users.iter().filter(local).min_by_key(|user| (user.created_at, user.id));
            oldest.filter(|_| replace).cloned()
        });
        let mut user = match &known {
            Some(user) => User::clone(user),
            None => new_user(self.username.clone(), Secret::default(), ADMIN, "local", draft.now),
        };
        user.username = self.username;
        user.password_hash = self.password_hash;
        user.role_id = ADMIN.into();
        user.enabled = true;
        user.totp = self.totp;
        if known.is_some() {
            sign_out(&mut draft.identity, &mut user, self.now, None);
        }
        let action = if known.is_some() { "user_updated" } else { "user_created" };
        let details = format!("{} as admin, by setup", user.username);
        draft.audit.push(audit::entry(action, Some(user.id), details));
        if self.require_totp {
            let auth = AuthSettings { require_totp: true, ..(*draft.config.auth).clone() };
            draft.config.auth = Arc::new(auth);
            draft.applied.auth = draft.config.auth.clone();
        }
        let id = user.id;
        draft.identity.users.insert(user);
        id
    }
}

fn open_for(identity: &Identity, settings: &AuthSettings) -> Result<(), AuthError> {
    if identity.users.is_empty() || settings.allow_registration {
        return Ok(());
    }
    Err(AuthError::Forbidden("registration is closed; an administrator can make an account".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames() {
        assert_eq!(check_username(" a.B_c@d-9 ").ok().as_deref(), Some("a.B_c@d-9"));
        for name in ["", " ", "a b", "ä", "a~", "a?", "a>", "a\"", &"x".repeat(65)] {
            assert!(check_username(name).is_err(), "{name:?}");
        }
    }
}
