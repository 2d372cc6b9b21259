//! Where metrics are exported to.

use schemars::JsonSchema;
use serde::Serialize;

use super::{READ, WRITE, at_once, changes};
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::valkey::ValkeyRequest;
use crate::services::valkey::ValkeyStatus;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/settings/valkey", READ, "Where metrics are exported to", get)
            .answers::<View>(200),
        Route::new("PUT", "/settings/valkey", WRITE, "Change it; a connection is made at once", put)
            .takes::<ValkeyRequest>()
            .answers::<Done>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    enabled: bool,
    /// `***` in place of a password.
    url: String,
    retention_minutes: u32,
    status: ValkeyStatus,
    /// Why there is no connection.
    last_error: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {
    message: String,
    status: ValkeyStatus,
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let settings = call.app.store.snapshot().config.valkey.clone();
    let exporter = call.app.services.valkey();
    let status = exporter.status(&settings);
    Ok(Reply::json(&View {
        enabled: settings.enabled,
        url: settings.shown_url(),
        retention_minutes: settings.retention_minutes,
        status,
        last_error: exporter.last_error().filter(|_| status == ValkeyStatus::Disconnected),
    }))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: ValkeyRequest = call.json()?;
    let change = move |config: &mut crate::config::Config| {
        let changed = request.change(&config.valkey)?;
        let what = changes("metrics export", &*config.valkey, &changed);
        config.valkey = changed.into();
        Ok((config.valkey.clone(), what))
    };
    let settings = at_once(&call, "settings", change, |from, into| into.valkey = from.valkey.clone()).await?;
    let exporter = call.app.services.valkey().clone();
    let status = blocking::unblock(move || exporter.reconnect(&settings)).await;
    let message = match status {
        ValkeyStatus::Connected => "Valkey settings saved and connected",
        ValkeyStatus::Disabled => "Valkey settings saved; the export is off",
        ValkeyStatus::Disconnected => "Valkey settings saved; the server does not answer and is tried again",
    };
    Ok(Reply::json(&Done { message: message.into(), status }))
}
