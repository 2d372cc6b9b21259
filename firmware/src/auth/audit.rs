//! Audit entries of authentication (contract/auth.md §10). Details name who and what, never a password, code or token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Auth, AuthError, Caller};
use crate::config::Id;
use crate::store::NewAudit;

/// `source` of every entry.
pub const SOURCE: &str = "auth";

/// An entry whose actor is the commit's author; the store adds the name of an API key.
pub fn entry(action: &'static str, target: Option<Id>, details: impl Into<String>) -> NewAudit {
    NewAudit { action, source: SOURCE, details: details.into(), user_id: target, ..NewAudit::default() }
}

/// A refused caller may fill the log this fast: entries per user and minute.
const DENIALS_PER_MINUTE: u32 = 60;

/// How many refusals of each user were written in the present minute.
#[derive(Debug, Default)]
pub struct Denials(Mutex<(Duration, HashMap<Id, u32>)>);

impl Denials {
    fn admit(&self, user: Id, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(state.0) >= Duration::from_secs(60) {
            *state = (now, HashMap::new());
        }
        let count = state.1.entry(user).or_default();
        *count += 1;
        *count <= DENIALS_PER_MINUTE
    }
}

impl Auth {
    /// Notes that a write was refused for want of permission. At most 60 a minute and user are kept.
    pub async fn access_denied(&self, caller: &Caller, method: &str, path: &str) -> Result<(), AuthError> {
        if !self.inner.denials.admit(caller.user_id, self.inner.clock.steady()) {
            return Ok(());
        }
        let details: String = format!("{method} {path}").chars().take(200).collect();
        let entry = entry("access_denied", Some(caller.user_id), details);
        self.write_audit(caller.author(), entry).await
    }

    /// An entry alone, where nothing else changes.
    pub(super) async fn write_audit(
        &self,
        author: crate::store::Author,
        entry: NewAudit,
    ) -> Result<(), AuthError> {
        let written = self.commit(author, move |draft| {
            draft.audit.push(entry);
            Ok(())
        });
        written.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_caller_cannot_flood_the_log() {
        let denials = Denials::default();
        let admitted = (0..100).filter(|_| denials.admit(Id::nil(), Duration::from_secs(1))).count();
        assert_eq!(admitted, 60);
        assert!(denials.admit(Id::from_u128(1), Duration::from_secs(1)));
        assert!(denials.admit(Id::nil(), Duration::from_secs(61)));
    }
}
