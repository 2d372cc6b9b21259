//! Ways back in for whoever stands before the machine: root's password, an administrator's, and the factory state.

use schemars::JsonSchema;
use serde::Deserialize;

use super::setup::{console_audit, hashed, noted};
use crate::api::services_common::acted;
use crate::api::{ApiError, Call, Reply};
use crate::config::setup::{self, answers};
use crate::config::{Invalid, Secret, System};
use crate::platform::reset;

#[derive(Debug, Deserialize, JsonSchema)]
pub struct RootPassword {
    password: Secret,
}

pub async fn root_password(call: Call) -> Result<Reply, ApiError> {
    let request: RootPassword = call.json()?;
    answers::root_password(request.password.expose())
        .map_err(|bad| Invalid { field: "password".into(), ..bad })?;
    let hash = hashed(setup::RootPassword::Plain(request.password)).await?;
    let audit = console_audit("root's password was set on the console");
    let author = call.author();
    let report = call.app.applier.set_host(&author, audit, move |system: &mut System| {
        system.root_password_hash = hash.clone();
        Ok::<(), ApiError>(())
    });
    let warnings: Vec<String> = report.await?.warning().into_iter().collect();
    Ok(acted("root's password is set", &warnings))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct AdminPassword {
    username: String,
    password: Secret,
    /// The second factor is taken away.
    #[serde(default)]
    reset_totp: bool,
}

pub async fn admin(call: Call) -> Result<Reply, ApiError> {
    let request: AdminPassword = call.json()?;
    let reset = call.app.auth.reset_from_console(&request.username, &request.password, request.reset_totp);
    let name = reset.await?;
    Ok(Reply::message(format!("{name} can sign in with the new password")))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Factory {
    /// `RESET`.
    confirm: String,
}

/// Everything is forgotten at the next start, which follows.
pub async fn factory(call: Call) -> Result<Reply, ApiError> {
    let request: Factory = call.json()?;
    if request.confirm != "RESET" {
        return Err(Invalid::new("confirm", "expected RESET").into());
    }
    let local = &call.app.local;
    let _turn = local.turn.lock().await;
    noted(&call, "reset to the factory state").await?;
    let state_dir = local.state_dir.clone();
    blocking::unblock(move || reset::request(&state_dir)).await.map_err(ApiError::internal)?;
    local.want_restart();
    Ok(Reply::message("everything is forgotten; the appliance starts anew"))
}
