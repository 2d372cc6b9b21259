//! What every handler can reach, and the two seams of the request layer: the [`Gate`] that says who calls, and
//! the hooks that follow a successful write.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::console::LocalState;
use super::{ApiError, Route};
use crate::apply::Applier;
use crate::auth::{Auth, Caller};
pub use crate::live::ApiCounters as Traffic;
use crate::live::Live;
use crate::pf::Pf;
use crate::platform::Platform;
use crate::services::Services;
use crate::store::Store;
use crate::update::Updater;

/// The appliance behind the API. One per process, shared.
pub struct App {
    pub store: Store,
    pub auth: Auth,
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
    pub gate: Arc<dyn Gate>,
    pub applier: Applier,
    pub services: Services,
    pub live: Live,
    pub updater: Arc<Updater>,
    /// Called, in order, after every 2xx of an authenticated operation whose route says `snapshot`. They must
    /// return at once: the answer waits for them.
    pub after_write: Vec<AfterWrite>,
    pub traffic: Arc<Traffic>,
    /// What the operations of the local socket remember.
    pub local: LocalState,
    /// Why the appliance runs without its stored configuration; nothing is kept then.
    pub emergency: Option<String>,
}

/// What follows a successful write: the route, the path as sent (`/api/v1/rules/…`), the caller.
pub type AfterWrite = Box<dyn Fn(&Route, &str, &Caller) + Send + Sync>;

impl App {
    /// Tells every hook of a write that has succeeded.
    pub fn wrote(&self, route: &Route, path: &str, caller: &Caller) {
        for hook in &self.after_write {
            hook(route, path, caller);
        }
    }
}

/// Decides who calls. Implemented by the room `auth`; asked once per request, so it must not wait for a disk.
pub trait Gate: Send + Sync {
    /// The caller, or `None` when the request carries no credential. The first credential that is present
    /// decides: `Authorization: Bearer`, `Authorization: ApiKey`, then the ticket; a bad one is an error
    /// (401), without fall-through. `headers` have lower-case names; `ticket` is the query parameter as sent
    /// (not yet known to be hexadecimal); `takes_ticket` says whether it counts as a credential here.
    fn authenticate(
        &self,
        headers: &HashMap<String, String>,
        ticket: Option<&str>,
        takes_ticket: bool,
        ip: Option<IpAddr>,
    ) -> Result<Option<Caller>, ApiError>;

    /// The caller as of now, for a stream that has been open for a while: with the permissions now in force, or
    /// `None` when the credential would no longer be accepted (logout, expiry, disabled user, deleted key).
    fn current(&self, caller: &Caller) -> Option<Caller>;

    /// A caller was refused for lack of permission (403): the place for an audit entry.
    fn denied(&self, caller: &Caller, route: &Route);
}
