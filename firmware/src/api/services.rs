//! `GET /services`: everything that the appliance keeps alive, as its supervisor knows it. What each service does
//! is told by its own area.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Access, ApiError, Call, Reply, Route};
use crate::apply::watch::PfStatus;
use crate::config::{Permission, ServiceKind};
use crate::supervisor::Status;

pub fn routes() -> Vec<Route> {
    let view = Access::Needs(Permission::DashboardView);
    vec![
        Route::new("GET", "/services", view, "State of the packet filter and of every daemon", services)
            .answers::<Services>(200),
    ]
}

/// A daemon.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Service {
    #[serde(flatten)]
    status: Status,
    /// As people call it.
    label: &'static str,
    /// It was applied as running, and is started with the appliance.
    enabled: bool,
    /// Where its program is, or is looked for.
    program: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Services {
    packet_filter: PfStatus,
    services: Vec<Service>,
}

pub async fn services(call: Call) -> Result<Reply, ApiError> {
    let applied = call.app.store.snapshot().applied.clone();
    let services = ServiceKind::ALL.map(|kind| {
        let runner = call.app.services.runner(kind);
        Service {
            status: runner.status(),
            label: kind.label(),
            enabled: kind.is_enabled(&applied),
            program: runner.program().display().to_string(),
        }
    });
    Ok(Reply::json(&Services { packet_filter: call.app.applier.packet_filter(), services: services.into() }))
}
