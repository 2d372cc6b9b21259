//! Settings of authentication: judged as a whole, stored as a whole, in force at once.

use std::sync::Arc;

use super::{Auth, AuthError, Caller, audit};
use crate::config::AuthSettings;

/// What is to change; `None` = as it is. Numbers as they came, not yet judged.
#[derive(Debug, Clone, Default)]
pub struct SettingsEdit {
    pub access_token_expiry_mins: Option<i64>,
    pub refresh_token_expiry_days: Option<i64>,
    pub require_totp: Option<bool>,
    pub require_totp_for_oauth: Option<bool>,
    pub auto_create_oauth_users: Option<bool>,
    pub max_login_attempts: Option<i64>,
    pub lockout_duration_secs: Option<i64>,
    pub allow_registration: Option<bool>,
    pub password_min_length: Option<i64>,
}

fn within(field: &str, value: Option<i64>, low: u32, high: u32) -> Result<Option<u32>, AuthError> {
    value
        .map(|value| {
            u32::try_from(value)
                .ok()
                .filter(|value| (low..=high).contains(value))
                .ok_or_else(|| AuthError::invalid(field, format!("expected {low} to {high}")))
        })
        .transpose()
}

/// The settings after the edit, and what changed in words: `field old→new`.
fn apply(old: &AuthSettings, edit: &SettingsEdit) -> Result<(AuthSettings, Vec<String>), AuthError> {
    let mut new = old.clone();
    let mut changes = Vec::new();
    macro_rules! set {
        ($field:ident, $value:expr) => {
            if let Some(value) = $value
                && value != new.$field
            {
                changes.push(format!("{} {}→{}", stringify!($field), new.$field, value));
                new.$field = value;
            }
        };
    }
    macro_rules! number {
        ($field:ident, $low:literal, $high:literal) => {
            set!($field, within(stringify!($field), edit.$field, $low, $high)?)
        };
    }
    number!(access_token_expiry_mins, 1, 43_200);
    number!(refresh_token_expiry_days, 1, 365);
    set!(require_totp, edit.require_totp);
    set!(require_totp_for_oauth, edit.require_totp_for_oauth);
    set!(auto_create_oauth_users, edit.auto_create_oauth_users);
    number!(max_login_attempts, 1, 100);
    number!(lockout_duration_secs, 1, 86_400);
    set!(allow_registration, edit.allow_registration);
    number!(password_min_length, 8, 128);
    Ok((new, changes))
}

impl Auth {
    pub async fn update_settings(&self, caller: &Caller, edit: SettingsEdit) -> Result<(), AuthError> {
        let updated = self.commit(caller.author(), move |draft| {
            let (new, changes) = apply(&draft.config.auth, &edit)?;
            let details = if changes.is_empty() { "nothing".into() } else { changes.join(", ") };
            draft.audit.push(audit::entry("settings_updated", None, details));
            if !changes.is_empty() {
                draft.config.auth = Arc::new(new);
            }
            // There is nothing to apply: the settings act on the next request.
            draft.applied.auth = draft.config.auth.clone();
            Ok(())
        });
        updated.await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_or_nothing_within_the_ranges() {
        let old = AuthSettings::default();
        let edit = SettingsEdit {
            access_token_expiry_mins: Some(30),
            require_totp: Some(true),
            password_min_length: Some(8),
            ..SettingsEdit::default()
        };
        let (new, changes) = apply(&old, &edit).unwrap();
        assert_eq!(new, AuthSettings { access_token_expiry_mins: 30, require_totp: true, ..old.clone() });
        assert_eq!(changes, ["access_token_expiry_mins 480→30", "require_totp false→true"]);
        for bad in [0, 101, -1, i64::MAX] {
            let edit = SettingsEdit { max_login_attempts: Some(bad), ..edit.clone() };
            assert_eq!(apply(&old, &edit).unwrap_err().to_string(), "max_login_attempts: expected 1 to 100");
        }
    }
}
