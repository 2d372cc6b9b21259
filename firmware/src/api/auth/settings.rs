//! Settings of authentication (contract/auth.md §9).

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{Access, ApiError, Call, Reply, Route};
use super::{Message, route};
use crate::auth::SettingsEdit;
use crate::config::{AuthSettings, Permission};

/// Any of them; what is absent stays.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
struct SettingsBody {
    /// 1 to 43,200.
    access_token_expiry_mins: Option<i64>,
    /// 1 to 365.
    refresh_token_expiry_days: Option<i64>,
    require_totp: Option<bool>,
    require_totp_for_oauth: Option<bool>,
    auto_create_oauth_users: Option<bool>,
    /// 1 to 100.
    max_login_attempts: Option<i64>,
    /// 1 to 86,400.
    lockout_duration_secs: Option<i64>,
    allow_registration: Option<bool>,
    /// 8 to 128.
    password_min_length: Option<i64>,
}

pub(super) fn routes() -> Vec<Route> {
    let mut put = route(
        "PUT",
        "/auth/settings",
        Access::Needs(Permission::SettingsWrite),
        "Change settings of authentication",
        update,
    )
    .takes::<SettingsBody>()
    .answers::<Message>(200);
    // These are part of the configuration.
    put.snapshot = true;
    let read = Access::Needs(Permission::SettingsRead);
    vec![
        route("GET", "/auth/settings", read, "Settings of authentication", get).answers::<AuthSettings>(200),
        put,
    ]
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&*call.app.auth.settings()))
}

async fn update(call: Call) -> Result<Reply, ApiError> {
    let body: SettingsBody = call.json()?;
    let edit = SettingsEdit {
        access_token_expiry_mins: body.access_token_expiry_mins,
        refresh_token_expiry_days: body.refresh_token_expiry_days,
        require_totp: body.require_totp,
        require_totp_for_oauth: body.require_totp_for_oauth,
        auto_create_oauth_users: body.auto_create_oauth_users,
        max_login_attempts: body.max_login_attempts,
        lockout_duration_secs: body.lockout_duration_secs,
        allow_registration: body.allow_registration,
        password_min_length: body.password_min_length,
    };
    call.app.auth.update_settings(call.caller()?, edit).await?;
    Ok(Reply::message("Settings updated"))
}
