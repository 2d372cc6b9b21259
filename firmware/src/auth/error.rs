//! What authentication refuses, and why. The API turns each into a status.

use crate::config::Invalid;
use crate::store::{CommitError, StoreError};

/// A refusal. The texts are for the caller: they never hold a password, code, token or path.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credential is missing, wrong, expired or revoked, or its user may not sign in.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The caller is known but may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Too many failed attempts; seconds until the next one is looked at.
    #[error("too many failed sign-ins; try again in {retry_after} s")]
    Locked { retry_after: u64 },
    /// More sign-ins are waiting than the machine can check.
    #[error("too many sign-ins at once; try again")]
    Busy,
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The request makes no sense in the present state.
    #[error("{0}")]
    BadRequest(String),
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error("{0}")]
    Conflict(String),
    /// The identity provider failed or sent something that does not hold.
    #[error("{0}")]
    Upstream(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours; the text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<CommitError<AuthError>> for AuthError {
    fn from(error: CommitError<AuthError>) -> Self {
        match error {
            CommitError::Refused(refusal) => refusal,
            CommitError::Store(error) => Self::Store(error),
        }
    }
}

impl AuthError {
    pub(super) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::Invalid(Invalid::new(field, reason))
    }
}
