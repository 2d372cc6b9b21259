//! `/dns`: the appliance's own name servers, the resolver that it is for others, and its blocklists (contract/dns.md). Settings
//! and overrides are only stored, an apply acts; blocklists, custom blocks and the whitelist act at once.

mod blocklists;
mod patterns;
mod records;
mod resolver;
mod stats;
mod stream;
mod system;

use super::{Access, ApiError, Route, services_common};
use crate::config::Permission;
use crate::services::ServiceError;
use crate::store::{Author, NewAudit};

const READ: Access = Access::Needs(Permission::DnsRead);
const WRITE: Access = Access::Needs(Permission::DnsWrite);

pub fn routes() -> Vec<Route> {
    [
        system::routes(),
        stats::routes(),
        stream::routes(),
        resolver::routes(),
        records::routes(),
        blocklists::routes(),
        patterns::routes(),
    ]
    .concat()
}

/// One entry that names user, area and object.
pub(super) fn audit(author: &Author, what: impl std::fmt::Display) -> NewAudit {
    services_common::audit("dns", author, format_args!("dns {what}"))
}

/// 502: the resolver says nothing of use.
pub(super) fn silent(error: ServiceError) -> ApiError {
    match error {
        ServiceError::Unreachable { service, reason } => {
            ApiError::new(502, format!("{} control: {reason}", service.to_lowercase()))
        }
        error => ApiError::new(502, format!("rdns control: {error}")),
    }
}
