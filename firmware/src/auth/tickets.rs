//! Tickets: what a browser puts into the address of a stream, since it cannot send a header there. In memory only,
//! good once, for 30 seconds. Kept by their digest; bounded in all and per user.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{AuthError, Caller, random};
use crate::config::Id;

pub const LIFETIME: Duration = Duration::from_secs(30);
const CAPACITY: usize = 8_192;
const PER_USER: usize = 128;

struct Ticket {
    caller: Caller,
    expires: Duration,
}

/// The tickets that are out.
#[derive(Default)]
pub struct Tickets {
    by_digest: Mutex<HashMap<[u8; 32], Ticket>>,
}

impl Tickets {
    /// 64 lower-case hexadecimal characters.
    pub fn mint(&self, caller: &Caller, now: Duration) -> Result<String, AuthError> {
        let text = random::hex::<32>()?;
        let mut tickets = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, ticket| ticket.expires > now);
        let of_user = |id: Id| tickets.iter().filter(move |(_, ticket)| ticket.caller.user_id == id);
        let crowded = if of_user(caller.user_id).count() >= PER_USER {
            of_user(caller.user_id).min_by_key(|(_, ticket)| ticket.expires)
        } else if tickets.len() >= CAPACITY {
            tickets.iter().min_by_key(|(_, ticket)| ticket.expires)
        } else {
            None
        };
        if let Some(oldest) = crowded.map(|(digest, _)| *digest) {
            tickets.remove(&oldest);
        }
        let ticket = Ticket { caller: caller.clone(), expires: now + LIFETIME };
        tickets.insert(random::sha256(text.as_bytes()), ticket);
        Ok(text)
    }

    /// Takes the ticket away and gives who minted it.
    pub fn redeem(&self, text: &str, now: Duration) -> Option<Caller> {
        let digest = random::sha256(text.as_bytes());
        let ticket = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest)?;
        (ticket.expires > now).then_some(ticket.caller)
    }
}

/// Whether a text can be a ticket at all; one that cannot counts as absent.
pub fn looks_like_one(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn good_once_and_for_30_seconds() {
        let tickets = Tickets::default();
        let caller = Caller::local();
        let ticket = tickets.mint(&caller, Duration::ZERO).unwrap();
        assert_eq!(ticket.len(), 64);
        assert!(tickets.redeem(&ticket, Duration::from_secs(29)).is_some());
        assert!(tickets.redeem(&ticket, Duration::from_secs(29)).is_none());
        let ticket = tickets.mint(&caller, Duration::ZERO).unwrap();
        assert!(tickets.redeem(&ticket, Duration::from_secs(30)).is_none());
        assert!(tickets.redeem(&"0".repeat(64), Duration::ZERO).is_none());
    }

    #[test]
    fn the_oldest_goes_when_one_user_asks_for_too_many() {
        let tickets = Tickets::default();
        let caller = Caller::local();
        let minted: Vec<_> = (0..PER_USER as u64 + 1)
            .map(|n| tickets.mint(&caller, Duration::from_millis(n)).unwrap())
            .collect();
        assert!(tickets.redeem(&minted[0], Duration::from_secs(1)).is_none());
        assert!(tickets.redeem(&minted[1], Duration::from_secs(1)).is_some());
    }
}
