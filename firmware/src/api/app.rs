//! What every handler can reach, and the two seams of the request layer: the [`Gate`] that says who calls, and
//! the hooks that follow a successful write.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ApiError, Route};
use crate::auth::Caller;
use crate::pf::Pf;
use crate::platform::Platform;
use crate::store::Store;

/// The appliance behind the API. One per process, shared.
pub struct App {
    pub store: Store,
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
    pub gate: Arc<dyn Gate>,
    /// Called, in order, after every 2xx of an authenticated operation whose route says `snapshot`. They must
    /// return at once: the answer waits for them.
    pub after_write: Vec<AfterWrite>,
    pub traffic: Traffic,
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

    /// A caller was refused for lack of permission (403): the place for an audit entry.
    fn denied(&self, caller: &Caller, route: &Route);
}

/// Requests answered since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    errors: AtomicU64,
}

impl Traffic {
    /// Counts one answer.
    pub fn count(&self, status: u16) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status >= 400 {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
    /// Answers with a status of 400 or more.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}
