//! Disks, and installing the running system to another one. One installation at a time; it goes on by itself, and
//! is looked at with GET.

use schemars::JsonSchema;
use serde::Deserialize;

use super::setup::{configured, noted};
use super::state::Installation;
use crate::api::{ApiError, Call, Reply};
use crate::config::Invalid;
use crate::platform::PlatformError;
use crate::platform::hardware::Progress;

pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let platform = call.app.platform.clone();
    let disks = blocking::unblock(move || platform.disks_present()).await.map_err(ApiError::internal)?;
    Ok(Reply::json(&disks))
}

pub async fn progress(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&call.app.local.installation()))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Install {
    disk: String,
    /// The disk's name once more: everything on it is lost.
    confirm: String,
}

pub async fn install(call: Call) -> Result<Reply, ApiError> {
    let request: Install = call.json()?;
    if request.confirm != request.disk {
        return Err(Invalid::new("confirm", format!("expected {:?}", request.disk)).into());
    }
    let app = call.app.clone();
    let _turn = app.local.turn.lock().await;
    if configured(&app.store.snapshot()) {
        return Err(ApiError::conflict(
            "only an appliance that is not set up installs itself to another disk",
        ));
    }
    if app.local.installation().is_some_and(|running| running.running) {
        return Err(ApiError::conflict("an installation is running"));
    }
    let (platform, disk) = (app.platform.clone(), request.disk.clone());
    let allowed = blocking::unblock(move || platform.check_install(&disk)).await;
    allowed.map_err(|error| match error {
        PlatformError::Refused(reason) => ApiError::conflict(reason),
        other => ApiError::internal(other),
    })?;
    noted(&call, &format!("installation to {} started", request.disk)).await?;
    let begun = Installation {
        disk: request.disk.clone(),
        running: true,
        progress: Progress { step: "starting".into(), done: 0, total: 0 },
        error: None,
    };
    app.local.set_installation(begun.clone());
    let worker = app.clone();
    blocking::unblock(move || {
        let (local, mut now) = (&worker.local, begun);
        let outcome = worker.platform.install(&request.disk, &mut |progress| {
            now.progress = progress;
            local.set_installation(now.clone());
        });
        now.running = false;
        now.error = outcome.err().map(|error| error.to_string());
        local.set_installation(now);
    })
    .detach();
    Ok(Reply::json(&app.local.installation()).with_status(202))
}
