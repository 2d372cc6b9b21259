//! `/dhcp`: the DHCP server (contract/dhcp.md). Subnets, reservations and settings act by themselves, a second after
//! the last write; what the daemon would not start with is refused before it is stored.

mod leases;
mod objects;
mod remote;
mod service;

use super::{Access, ApiError, App, Route};
use crate::apply::services::Wish;
use crate::config::{Config, Permission, ServiceKind};
use crate::services::ServiceError;
use crate::services::rdhcpd::Client;

const KIND: ServiceKind = ServiceKind::Dhcp;
const READ: Access = Access::Needs(Permission::DhcpRead);
const WRITE: Access = Access::Needs(Permission::DhcpWrite);

pub fn routes() -> Vec<Route> {
    [service::routes(), objects::routes(), leases::routes(), remote::routes()].concat()
}

/// Asks the running daemon something; `Err` with 503 when it is not there.
async fn ask<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&Client) -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ApiError> {
    let runner = app.services.runner(KIND).clone();
    let applied = app.store.snapshot().applied.clone();
    if !runner.is_running() {
        return Err(ApiError::new(503, "rDHCP does not run"));
    }
    let answer = blocking::unblock(move || question(&Client::new(&applied, &runner.places())?)).await;
    answer.map_err(|error| ApiError::new(503, error.to_string()))
}

/// What a write asks for by itself, with this configuration stored: nothing where the server is off, and that it goes on
/// where it was started by hand.
fn wish(app: &App, config: &Config) -> Option<Wish> {
    match (KIND.is_enabled(config), KIND.is_enabled(&app.store.snapshot().applied)) {
        (true, _) => Some(Wish::AsConfigured),
        (false, true) => Some(Wish::Run),
        (false, false) => None,
    }
}

/// Refuses a configuration that the daemon would not start with.
async fn rehearse(app: &App, config: &Config) -> Result<Vec<String>, ApiError> {
    // Only what is to run can fail to.
    if wish(app, config).is_none() {
        return Ok(Vec::new());
    }
    Ok(app.applier.rehearse_service(KIND, config).await?)
}
