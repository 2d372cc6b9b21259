//! `GET /status`: polled by every page, so the body is made once per second (and once per change of rules).

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::{ApiError, Call, Reply};
use crate::live::view::Status;

#[derive(Debug, Serialize, JsonSchema)]
pub struct StatusAnswer {
    #[serde(flatten)]
    status: Status,
    version: &'static str,
    /// `freebsd` or `sandbox`.
    platform: &'static str,
    /// The packet filter is a simulator.
    simulated_pf: bool,
}

pub async fn status(call: Call) -> Result<Reply, ApiError> {
    let app = &call.app;
    app.live.sample().await;
    let body = app.live.status_body(|status| {
        let answer = StatusAnswer {
            status,
            version: env!("CARGO_PKG_VERSION"),
            platform: app.platform.kind(),
            simulated_pf: app.pf.is_simulated(),
        };
        serde_json::to_vec(&answer).unwrap_or_default()
    });
    Ok(Reply::shared(crate::api::reply::JSON, body))
}
