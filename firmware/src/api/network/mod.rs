//! `/interfaces`, `/vlans` and `/routes`: the machine's network (contract/network.md §1 to §3). Interfaces and routes act
//! at once, VLANs with the next reload.

mod interfaces;
mod roles;
mod routes;
mod vlans;

use super::{ApiError, Call, Route};
use crate::apply::AdminConnection;
use crate::config::InterfaceName;
use crate::platform::Interface;

/// Operations of the area.
pub fn routes() -> Vec<Route> {
    [interfaces::routes(), roles::routes(), vlans::routes(), routes::routes()].concat()
}

/// What this machine has.
async fn machine(call: &Call) -> Result<Vec<Interface>, ApiError> {
    let platform = call.app.platform.clone();
    blocking::unblock(move || platform.interfaces()).await.map_err(ApiError::internal)
}

/// The interface that a path names: well formed, or 400; there, or 404.
async fn named(call: &Call) -> Result<(InterfaceName, Interface), ApiError> {
    let name = well_named(call)?;
    let held = machine(call).await?.into_iter().find(|held| held.name == name.as_str());
    held.map(|held| (name.clone(), held)).ok_or_else(|| ApiError::not_found(format!("interface {name}")))
}

fn well_named(call: &Call) -> Result<InterfaceName, ApiError> {
    Ok(InterfaceName::new(call.param("name")).map_err(|bad| bad.field("name"))?)
}

/// Who asks, for the lock-out check.
fn admin(call: &Call, confirmed: bool) -> Option<AdminConnection> {
    call.ip.map(|client| AdminConnection { client, server: call.local_addr, confirmed })
}

/// What the kernel itself makes, by the beginnings of its names.
fn begins_with(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

const CONFIRM: &[(&str, &str)] =
    &[("confirm", "true: do it even if the caller's own connection is cut by it")];

fn confirmed(call: &Call) -> Result<bool, ApiError> {
    Ok(call.query_as::<bool>("confirm", "true or false")?.unwrap_or(false))
}
