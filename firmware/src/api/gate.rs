//! The door of the API as authentication keeps it: from headers and query to a credential.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{ApiError, Gate, Route};
use crate::auth::{Auth, AuthError, Caller, Presented, looks_like_a_ticket};

impl Gate for Auth {
    fn authenticate(
        &self,
        headers: &HashMap<String, String>,
        ticket: Option<&str>,
        takes_ticket: bool,
        ip: Option<IpAddr>,
    ) -> Result<Option<Caller>, ApiError> {
        let presented = match headers.get("authorization") {
            Some(header) => Some(presented(header)?),
            None => ticket.filter(|text| takes_ticket && looks_like_a_ticket(text)).map(Presented::Ticket),
        };
        presented.map(|presented| Auth::authenticate(self, presented, ip)).transpose().map_err(ApiError::from)
    }

    fn current(&self, caller: &Caller) -> Option<Caller> {
        Auth::current(self, caller)
    }

    fn denied(&self, caller: &Caller, route: &Route) {
        if route.method == "GET" {
            return;
        }
        let (auth, caller, method, path) = (self.clone(), caller.clone(), route.method, route.path);
        // The answer does not wait for the disk.
        smol::spawn(async move {
            if let Err(error) = auth.access_denied(&caller, method, path).await {
                log::warn!("auth: a refusal could not be noted: {error}");
            }
        })
        .detach();
    }
}

/// The credential in an `Authorization` header (RFC 9110 §11.6.2; schemes without regard to case).
fn presented(header: &str) -> Result<Presented<'_>, ApiError> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Presented::Bearer(rest))
    } else if scheme.eq_ignore_ascii_case("apikey") {
        Ok(Presented::ApiKey(rest))
    } else {
        Err(ApiError::unauthorized("expected Authorization: Bearer or ApiKey"))
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let text = error.to_string();
        match error {
            AuthError::Unauthorized(_) => Self::unauthorized(text),
            AuthError::Forbidden(_) => Self::forbidden(text),
            AuthError::Locked { retry_after } => {
                Self::new(429, text).with_header("Retry-After", retry_after.to_string())
            }
            AuthError::Busy => Self::new(429, text).with_header("Retry-After", "1"),
            AuthError::Invalid(_) | AuthError::BadRequest(_) => Self::bad_request(text),
            AuthError::NotFound(what) => Self::not_found(what),
            AuthError::Conflict(_) => Self::conflict(text),
            AuthError::Upstream(_) => Self::new(502, text),
            AuthError::Store(error) => error.into(),
            AuthError::Internal(_) => Self::internal(text),
        }
    }
}
