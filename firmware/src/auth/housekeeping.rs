//! What runs by itself: expired tokens go, counters are swept, the last use of keys is written.

use std::time::Duration;

use super::{Auth, AuthError};
use crate::store::Author;

const EVERY: Duration = Duration::from_secs(60);
/// Rounds between two purges of the store.
const PURGE_ROUNDS: u32 = 10;

impl Auth {
    /// Never ends; run it as a task of its own.
    pub async fn housekeeping(&self) {
        for round in 0u32.. {
            if round.is_multiple_of(PURGE_ROUNDS)
                && let Err(error) = self.purge().await
            {
                log::warn!("auth: purging expired tokens: {error}");
            }
            self.inner.lockout.sweep(self.inner.clock.steady(), &self.settings());
            if let Err(error) = self.write_key_uses().await {
                log::warn!("auth: noting the use of keys: {error}");
            }
            async_io::Timer::after(EVERY).await;
        }
    }

    /// Removes refresh tokens and revocations that have run out; how many.
    pub async fn purge(&self) -> Result<usize, AuthError> {
        let now = self.inner.clock.now();
        let snapshot = self.inner.store.snapshot();
        let refresh: Vec<String> = snapshot
            .identity
            .refresh_tokens
            .iter()
            .filter(|token| token.expires_at <= now)
            .map(|token| token.hash.clone())
            .collect();
        let revoked: Vec<String> = snapshot
            .identity
            .revoked_tokens
            .iter()
            .filter(|token| token.expires_at <= now)
            .map(|token| token.jti.clone())
            .collect();
        let count = refresh.len() + revoked.len();
        if count == 0 {
            return Ok(0);
        }
        let purged = self.commit(Author::system("system"), move |draft| {
            for hash in &refresh {
                draft.identity.refresh_tokens.remove(hash);
            }
            for jti in &revoked {
                draft.identity.revoked_tokens.remove(jti);
            }
            Ok(())
        });
        purged.await?;
        Ok(count)
    }
}
