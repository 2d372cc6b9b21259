//! `GET /dns/stats`: figures of the running resolver.

use schemars::JsonSchema;
use serde::Serialize;

use super::silent;
use crate::api::{Access, ApiError, Call, Reply, Route};
use crate::config::{Permission, ServiceKind};
use crate::services::rdns::stats::{self, Blocked, Snapshot};

pub fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::DnsRead);
    vec![
        Route::new("GET", "/dns/stats", read, "Counters of the resolver since its start", get)
            .answers::<Shown>(200)
            .with_query(&[("top", "1 to 1000: adds the names blocked most often")]),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    #[serde(flatten)]
    snapshot: Snapshot,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_blocked: Option<Vec<Blocked>>,
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let expected = "a number from 1 to 1000";
    let top = call.query_as::<u16>("top", expected)?;
    if top.is_some_and(|top| !(1..=1000).contains(&top)) {
        return Err(ApiError::bad_request(format!("top: expected {expected}")));
    }
    let runner = call.app.services.runner(ServiceKind::Dns);
    let snapshot = stats::snapshot(runner).await.map_err(silent)?;
    let top_blocked = match top {
        Some(most) => Some(stats::top_blocked(runner, most).await.map_err(silent)?),
        None => None,
    };
    Ok(Reply::json(&Shown { snapshot, top_blocked }))
}
