//! The commit-confirm window, and the check of the live configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, Call, Reply};
use crate::apply::confirm::ConfirmError;
use crate::config::backup::{self, Findings};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StartRequest {
    /// 10 to 86,400 seconds; default 300.
    timeout_secs: i64,
    description: String,
}

impl Default for StartRequest {
    fn default() -> Self {
        Self { timeout_secs: 300, description: "Config change".into() }
    }
}

pub async fn start(call: Call) -> Result<Reply, ApiError> {
    let request: StartRequest = call.json_or_default()?;
    let timeout = u64::try_from(request.timeout_secs).unwrap_or(0);
    match call.app.applier.confirm_start(&call.author(), timeout, request.description).await {
        Ok(_) => Ok(Reply::message(format!(
            "Commit confirm started. You have {timeout} seconds to confirm. Without it the configuration goes \
             back to what it is now."
        ))),
        Err(error @ ConfirmError::Open) => Err(ApiError::conflict(error.to_string())),
        Err(error @ ConfirmError::Timeout) => Err(ApiError::bad_request(error.to_string())),
        Err(ConfirmError::Store(error)) => Err(error.into()),
    }
}

pub async fn accept(call: Call) -> Result<Reply, ApiError> {
    let accepted = call.app.applier.confirm_accept(&call.author()).await?;
    Ok(Reply::message(if accepted {
        "Configuration confirmed and accepted permanently."
    } else {
        "No pending commit confirm to accept."
    }))
}

pub async fn status(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&call.app.applier.confirm_status()))
}

/// For the schema of `{"data": {...}}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckAnswer {
    data: Findings,
}

pub async fn check(call: Call) -> Result<Reply, ApiError> {
    let app = call.app;
    let data = blocking::unblock(move || {
        let pf_responds = app.pf.info().inspect_err(|error| log::warn!("pf: {error}")).is_ok();
        backup::check(&app.store.snapshot().config, pf_responds)
    })
    .await;
    Ok(Reply::json(&CheckAnswer { data }))
}
