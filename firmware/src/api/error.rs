//! The one form of refusal: a status and a text, sent as `{"error": text, "message": text}`.

use crate::apply::services::ServiceApplyError;
use crate::apply::{ApplyError, ReplaceError};
use crate::config::{Invalid, Refusal};
use crate::services::ServiceError;
use crate::store::{CommitError, StoreError};

/// A refusal with the status that says why (contract/auth.md §1.3).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    pub status: u16,
    pub message: String,
    pub headers: Vec<(&'static str, String)>,
}

impl ApiError {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }
    /// 400: the request is at fault; name the field and what was expected.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, message).with_header("WWW-Authenticate", "Bearer")
    }
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(404, format!("{what} not found"))
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }
    /// 500: the text for the caller is generic, the detail goes to the log.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        log::error!("internal error: {detail}");
        Self::new(500, "internal error; the log has the detail")
    }
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(invalid.to_string())
    }
}
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(invalid) => invalid.into(),
            Refusal::Conflict(text) => Self::conflict(text),
        }
    }
}
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}
impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::LockOut { .. } => Self::conflict(error.to_string()),
            ApplyError::Store(error) => error.into(),
            // pf's own words name the rule: the caller needs them.
            ApplyError::Step { .. } => Self::new(500, error.to_string()),
        }
    }
}
impl From<ServiceError> for ApiError {
    /// The daemon's own words are the caller's; paths of files are not.
    fn from(error: ServiceError) -> Self {
        let status = match error {
            ServiceError::Refused(_) => 400,
            ServiceError::NotInstalled(_) => 503,
            ServiceError::Unreachable { .. } => 502,
            ServiceError::Template(_) => return Self::internal(error),
            ServiceError::NotReady { .. } | ServiceError::Io { .. } | ServiceError::Supervisor(_) => 500,
        };
        Self::new(status, error.to_string())
    }
}
impl From<ServiceApplyError> for ApiError {
    fn from(error: ServiceApplyError) -> Self {
        match error {
            ServiceApplyError::Service(error) => error.into(),
            ServiceApplyError::Apply(error) => error.into(),
            ServiceApplyError::Store(error) => error.into(),
        }
    }
}
impl<E: Into<ApiError>> From<ReplaceError<E>> for ApiError {
    fn from(error: ReplaceError<E>) -> Self {
        match error {
            ReplaceError::Refused(refusal) => refusal.into(),
            ReplaceError::Apply(error) => error.into(),
        }
    }
}
impl<E: Into<ApiError>> From<CommitError<E>> for ApiError {
    fn from(error: CommitError<E>) -> Self {
        match error {
            CommitError::Refused(refusal) => refusal.into(),
            CommitError::Store(error) => error.into(),
        }
    }
}
