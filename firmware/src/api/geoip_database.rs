//! `/geoip/database`: the files that countries and systems are looked up in. An addition of ours.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Access, ApiError, Call, Reply, Route};
use crate::config::Permission;
use crate::platform::geoip::{DatabaseFile, GeoIpError};
use crate::store::{Draft, NewAudit};

/// Largest file taken, in bytes: the full City database is about half of it.
const LARGEST: usize = 128 * 1024 * 1024;

#[derive(Debug, Serialize, JsonSchema)]
struct Status {
    files: Vec<DatabaseFile>,
    /// What was wrong with a file when it was read last; the database before it stays in use.
    error: Option<String>,
}

pub fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::GeoipRead);
    let write = Access::Needs(Permission::GeoipWrite);
    vec![
        Route::new("GET", "/geoip/database", read, "Files of the geo-IP database", status)
            .answers::<Status>(200),
        Route::new(
            "PUT",
            "/geoip/database/{file}",
            write,
            "Upload a MaxMind mmdb or GeoLite2 CSV file",
            upload,
        )
        .with_body_limit(LARGEST)
        .without_snapshot()
        .answers::<Status>(200),
    ]
}

async fn status(call: Call) -> Result<Reply, ApiError> {
    let geoip = call.app.applier.machine().geoip.clone();
    let (files, error) = blocking::unblock(move || geoip.status()).await;
    Ok(Reply::json(&Status { files, error }))
}

async fn upload(call: Call) -> Result<Reply, ApiError> {
    let author = call.author();
    let (app, name) = (call.app.clone(), call.param("file").to_owned());
    let geoip = app.applier.machine().geoip.clone();
    let (file, body) = (name.clone(), call.body);
    let installed = blocking::unblock(move || geoip.install(&file, &body).map(|()| geoip.status())).await;
    let (files, error) = installed.map_err(|error| match error {
        GeoIpError::File { .. } => ApiError::bad_request(error.to_string()),
        GeoIpError::Io(error) => ApiError::internal(error),
    })?;
    let by = author.name.clone();
    app.store
        .commit(&author, move |draft: &mut Draft| {
            draft.audit.push(NewAudit {
                action: "config_changed",
                source: "engine",
                details: format!("geo-IP database file {name} uploaded by {by}"),
                ..NewAudit::default()
            });
            Ok::<(), ApiError>(())
        })
        .await?;
    Ok(Reply::json(&Status { files, error }))
}
