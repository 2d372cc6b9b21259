//! `/ids`: intrusion detection and prevention (contract/security.md §3). What is stored never depends on the engine:
//! lists answer without it.

mod alerts;
mod engine;
mod rules;
pub(crate) mod rulesets;
mod suppressions;

use super::{Access, ApiError, Call, Route};
use crate::config::{Id, Permission, ServiceKind};

const KIND: ServiceKind = ServiceKind::Ids;
const READ: Access = Access::Needs(Permission::IdsRead);
const WRITE: Access = Access::Needs(Permission::IdsWrite);

pub fn routes() -> Vec<Route> {
    [engine::routes(), alerts::routes(), rulesets::routes(), rules::routes(), suppressions::routes()].concat()
}

fn missing(what: &str, id: impl std::fmt::Display) -> ApiError {
    ApiError::not_found(format!("{what} {id}"))
}

fn id_of(call: &Call, what: &str) -> Result<Id, ApiError> {
    call.id("id").map_err(|_| missing(what, call.param("id")))
}
