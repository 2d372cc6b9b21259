//! `/updates`: the firmware with its base system and packages, the maintenance window, the power switch
//! (contract/updates.md). Long work goes on when the client has gone away.

mod upload;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::resource::Message;
use super::services_common::{audit, note};
use super::{Access, ApiError, App, Call, Reply, Route};
use crate::config::Permission;
use crate::config::update::{UpdateSettings, UpdateSettingsRequest};
use crate::platform::Power;
use crate::store::{Author, Draft};
use crate::update::download::DownloadError;
use crate::update::history::{Action, KEPT, Row};
use crate::update::machine::MachineError;
use crate::update::slots::SlotError;
use crate::update::{Info, Installed, Status, Switched, UpdateError, Updater};

const READ: Access = Access::Needs(Permission::UpdatesRead);
const INSTALL: Access = Access::Needs(Permission::UpdatesInstall);
const POWER: Access = Access::Needs(Permission::SystemReboot);
/// From the answer to the reboot.
const SOON: Duration = Duration::from_secs(10);
const IN_A_MINUTE: Duration = Duration::from_secs(60);
/// Rows of the history unless asked for otherwise.
const ROWS: usize = 50;

#[derive(Debug, Serialize, JsonSchema)]
struct Rows {
    data: Vec<Row>,
}

pub fn routes() -> Vec<Route> {
    let table = vec![
        Route::new("GET", "/updates/status", READ, "Base system and packages, and what is going on", status)
            .answers::<Status>(200),
        Route::new("POST", "/updates/check", READ, "Look for updates of base system and packages", check)
            .answers::<Message>(200),
        Route::new("GET", "/updates/history", READ, "What was done about updates, newest first", history)
            .with_query(&[("limit", "at most so many rows, 1 to 500; 50 unless given")])
            .answers::<Rows>(200),
        Route::new(
            "POST",
            "/updates/install",
            INSTALL,
            "Install updates of base system and packages: the image that holds them",
            install,
        )
        .answers::<Message>(200),
        Route::new("GET", "/updates/schedule", READ, "The maintenance window", schedule)
            .answers::<UpdateSettings>(200),
        Route::new("PUT", "/updates/schedule", INSTALL, "Change the maintenance window", set_schedule)
            .takes::<UpdateSettingsRequest>()
            .answers::<Message>(200),
        Route::new("POST", "/updates/reboot", POWER, "Reboot in 10 seconds", reboot).answers::<Message>(200),
        Route::new("POST", "/updates/shutdown", POWER, "Switch off in 10 seconds", shutdown)
            .answers::<Message>(200),
        Route::new("POST", "/updates/cancel-power", POWER, "Take back a reboot or shutdown", cancel_power)
            .answers::<Message>(200),
        Route::new("GET", "/updates/aifw/status", READ, "The firmware's version and what can be had", info)
            .answers::<Info>(200),
        Route::new("POST", "/updates/aifw/check", READ, "Ask the release server", check_firmware)
            .answers::<Info>(200),
        Route::new(
            "POST",
            "/updates/aifw/install",
            INSTALL,
            "Download the release and write it to the other slot",
            install_firmware,
        )
        .answers::<Installed>(200),
        Route::new(
            "POST",
            "/updates/aifw/install-local",
            INSTALL,
            "Write a package that is uploaded (multipart/form-data: tarball, sha256, restart) to the other slot",
            upload::install_local,
        )
        .with_upload(upload::LARGEST)
        .answers::<Installed>(200),
        Route::new("POST", "/updates/aifw/cancel", INSTALL, "End a download that is going on", cancel)
            .answers::<Message>(200),
        Route::new("POST", "/updates/aifw/rollback", INSTALL, "Go back to the other slot", rollback)
            .answers::<Installed>(200),
        Route::new(
            "POST",
            "/updates/aifw/restart",
            INSTALL,
            "Restart the firmware, or the machine when a slot waits for its boot",
            restart,
        )
        .answers::<Message>(200),
        Route::new("POST", "/updates/aifw/reboot", INSTALL, "Reboot in 1 minute", reboot_firmware)
            .answers::<Message>(200),
    ];
    table.into_iter().map(Route::without_snapshot).collect()
}

impl From<UpdateError> for ApiError {
    /// For releases from the network; what somebody brings is judged by [`upload`].
    fn from(error: UpdateError) -> Self {
        let status = match &error {
            UpdateError::Busy => 409,
            UpdateError::Release(_) | UpdateError::NoAsset { .. } => 502,
            UpdateError::Download(DownloadError::Io { .. } | DownloadError::Full { .. }) => 500,
            UpdateError::Download(DownloadError::Cancelled) => 409,
            UpdateError::Download(_) => 502,
            UpdateError::Machine(MachineError::Package(_)) => 502,
            UpdateError::Machine(
                MachineError::Busy(_) | MachineError::NoBackup | MachineError::Slot(SlotError::NoSlots(_)),
            ) => 409,
            UpdateError::Checksum | UpdateError::ChecksumForm => 400,
            UpdateError::Machine(_) | UpdateError::Keys(_) | UpdateError::Power(_) | UpdateError::Io(_) => {
                500
            }
        };
        Self::new(status, error.to_string())
    }
}

/// Works to the end, whether or not the client waits for it; one audit entry says what came of it.
async fn work<T, F>(app: &Arc<App>, author: Author, what: &'static str, f: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&Updater, &str) -> Result<T, ApiError> + Send + 'static,
{
    let (sender, receiver) = async_channel::bounded(1);
    let app = app.clone();
    smol::spawn(async move {
        let (updater, user) = (app.updater.clone(), author.name.clone());
        let mut done = blocking::unblock(move || f(&updater, &user)).await;
        let text = match &done {
            Ok(_) => what.to_owned(),
            Err(error) => format!("{what} failed: {}", error.message),
        };
        let noted = note(&app, &author, audit("updates", &author, text)).await;
        if let (true, Err(error)) = (done.is_ok(), noted) {
            done = Err(error);
        }
        sender.send(done).await.ok();
    })
    .detach();
    receiver.recv().await.map_err(ApiError::internal)?
}

fn url(app: &App) -> String {
    app.updater.release_url(&app.store.snapshot().config.updates)
}

/// As freebsd-version(1) prints it.
async fn os_version(app: &App) -> String {
    let platform = app.platform.clone();
    let known = blocking::unblock(move || platform.vitals().ok()).await.map(|vitals| vitals.os_version);
    let known = known.filter(|known| !known.trim().is_empty()).unwrap_or_else(|| "unknown".into());
    known.strip_prefix("FreeBSD ").map(str::to_owned).unwrap_or(known)
}

async fn status(call: Call) -> Result<Reply, ApiError> {
    let (version, updater) = (os_version(&call.app).await, call.app.updater.clone());
    Ok(Reply::json(&blocking::unblock(move || updater.status(version)).await))
}

async fn check(call: Call) -> Result<Reply, ApiError> {
    let url = url(&call.app);
    let found = work(&call.app, call.author(), "updates checked", move |updater, user| {
        Ok(updater.check_os(&url, user))
    });
    Ok(Reply::message(found.await?))
}

async fn history(call: Call) -> Result<Reply, ApiError> {
    let expected = "a number, 1 to 500";
    let limit = call.query_as::<usize>("limit", expected)?.unwrap_or(ROWS);
    if !(1..=KEPT).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit: expected {expected}")));
    }
    let updater = call.app.updater.clone();
    Ok(Reply::json(&Rows { data: blocking::unblock(move || updater.history(limit)).await }))
}

async fn install(call: Call) -> Result<Reply, ApiError> {
    let url = url(&call.app);
    let done = work(&call.app, call.author(), "updates installed", move |updater, user| {
        updater.install_os(&url, user).map_err(|error| match ApiError::from(error) {
            // The contract knows 409 and 500 here.
            ApiError { status: 502, message, headers } => ApiError { status: 500, message, headers },
            other => other,
        })
    });
    Ok(Reply::message(done.await?))
}

async fn schedule(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&*call.app.store.snapshot().config.updates))
}

async fn set_schedule(call: Call) -> Result<Reply, ApiError> {
    let request: UpdateSettingsRequest = call.json()?;
    let author = call.author();
    let entry = audit("updates", &author, "maintenance window changed");
    let stored = call.app.store.commit(&author, move |draft: &mut Draft| {
        let settings = Arc::new(request.clone().settings(&draft.config.updates)?);
        draft.config.updates = settings.clone();
        draft.applied.updates = settings.clone();
        draft.audit.push(entry.clone());
        Ok::<_, ApiError>(settings)
    });
    let settings = stored.await?;
    let (updater, user) = (call.app.updater.clone(), author.name);
    blocking::unblock(move || updater.window_changed(settings.enabled, &settings.day_of_week, &user)).await;
    Ok(Reply::message("Maintenance window updated"))
}

/// Uses the power switch.
async fn power(call: &Call, action: Action, power: Power, delay: Duration) -> Result<(), ApiError> {
    let what = match power {
        Power::Reboot => "reboot scheduled",
        Power::PowerOff => "shutdown scheduled",
    };
    work(&call.app, call.author(), what, move |updater, user| {
        Ok(updater.shut_down(action, power, delay, user).map(drop)?)
    })
    .await
}

async fn reboot(call: Call) -> Result<Reply, ApiError> {
    power(&call, Action::Reboot, Power::Reboot, SOON).await?;
    Ok(Reply::message("System rebooting in 10 seconds"))
}

async fn shutdown(call: Call) -> Result<Reply, ApiError> {
    power(&call, Action::Shutdown, Power::PowerOff, SOON).await?;
    Ok(Reply::message("System shutting down in 10 seconds"))
}

async fn reboot_firmware(call: Call) -> Result<Reply, ApiError> {
    power(&call, Action::AifwReboot, Power::Reboot, IN_A_MINUTE).await?;
    Ok(Reply::message("System rebooting in 1 minute. Cancel with: aifw update cancel-reboot"))
}

async fn cancel_power(call: Call) -> Result<Reply, ApiError> {
    let found = work(&call.app, call.author(), "reboot or shutdown cancelled", |updater, user| match updater
        .cancel_power(
        user,
    )? {
        true => Ok(()),
        false => Err(ApiError::conflict("no reboot or shutdown is scheduled")),
    });
    found.await?;
    Ok(Reply::message("The scheduled reboot or shutdown was cancelled"))
}

async fn info(call: Call) -> Result<Reply, ApiError> {
    let updater = call.app.updater.clone();
    Ok(Reply::json(&blocking::unblock(move || updater.info()).await))
}

async fn check_firmware(call: Call) -> Result<Reply, ApiError> {
    let url = url(&call.app);
    let found = work(&call.app, call.author(), "release server asked", move |updater, user| {
        Ok(updater.check(&url, user)?)
    });
    Ok(Reply::json(&found.await?))
}

async fn install_firmware(call: Call) -> Result<Reply, ApiError> {
    let url = url(&call.app);
    let done = work(&call.app, call.author(), "firmware installed", move |updater, user| {
        Ok(updater.install(&url, user)?)
    });
    Ok(Reply::json(&done.await?))
}

async fn cancel(call: Call) -> Result<Reply, ApiError> {
    let found = work(&call.app, call.author(), "download cancelled", |updater, _| match updater.cancel() {
        true => Ok(()),
        false => Err(ApiError::conflict("no download is going on")),
    });
    found.await?;
    Ok(Reply::message("The download ends"))
}

async fn rollback(call: Call) -> Result<Reply, ApiError> {
    let done =
        work(&call.app, call.author(), "firmware rolled back", |updater, user| Ok(updater.roll_back(user)?));
    Ok(Reply::json(&done.await?))
}

async fn restart(call: Call) -> Result<Reply, ApiError> {
    let done =
        work(&call.app, call.author(), "firmware restarted", |updater, user| Ok(updater.restart(user)?));
    Ok(Reply::message(match done.await? {
        Switched::Process => "Services restarting...",
        Switched::Machine => "Services restarting... The machine boots the installed version",
    }))
}
