//! Guessing is slowed down: failed sign-ins are counted per user name and per client address, in memory, on the
//! steady clock. Names that do not exist count like those that do. Both maps are bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::random;
use crate::config::AuthSettings;

/// Names, and addresses, that are remembered at most.
const CAPACITY: usize = 16_384;
/// An address may fail this many times as often as a name: many users may share one.
const ADDRESS_FACTOR: usize = 10;

/// A user name without its letter case, of fixed size however long the name is.
type NameKey = [u8; 32];

#[derive(Debug, Default)]
struct Entry {
    /// When it failed, oldest first; none older than the window.
    failures: VecDeque<Duration>,
    locked_until: Option<Duration>,
    /// The lock has been seen by somebody, so it is in the audit log.
    reported: bool,
}

/// Sign-ins are not looked at for this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    pub seconds: u64,
    /// First refusal by this lock: worth an audit entry.
    pub first: bool,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Lockout {
    names: Mutex<HashMap<NameKey, Entry>>,
    addresses: Mutex<HashMap<IpAddr, Entry>>,
}

impl Lockout {
    /// Whether a sign-in may be tried now.
    pub fn check(&self, name: &str, ip: Option<IpAddr>, now: Duration) -> Result<(), Locked> {
        let by_name = locked(&self.names, &name_key(name), now);
        let by_address = ip.and_then(|ip| locked(&self.addresses, &address_key(ip), now));
        match (by_name, by_address) {
            (None, None) => Ok(()),
            (Some(lock), None) | (None, Some(lock)) => Err(lock),
            (Some(a), Some(b)) => {
                Err(Locked { seconds: a.seconds.max(b.seconds), first: a.first || b.first })
            }
        }
    }

    /// Counts a failure.
    pub fn failed(&self, name: &str, ip: Option<IpAddr>, now: Duration, settings: &AuthSettings) {
        let window = Duration::from_secs(settings.lockout_duration_secs.into());
        let limit = settings.max_login_attempts.max(1) as usize;
        count(&self.names, name_key(name), now, window, limit);
        if let Some(ip) = ip {
            count(&self.addresses, address_key(ip), now, window, limit * ADDRESS_FACTOR);
        }
    }

    /// Forgets the failures of a name, and of the address that has now signed in as it. A complete sign-in only.
    pub fn succeeded(&self, name: &str, ip: Option<IpAddr>) {
        lock(&self.names).remove(&name_key(name));
        if let Some(ip) = ip {
            lock(&self.addresses).remove(&address_key(ip));
        }
    }

    /// Drops what no longer matters.
    pub fn sweep(&self, now: Duration, settings: &AuthSettings) {
        let window = Duration::from_secs(settings.lockout_duration_secs.into());
        lock(&self.names).retain(|_, entry| matters(entry, now, window));
        lock(&self.addresses).retain(|_, entry| matters(entry, now, window));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The counters are valid after any statement, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_key(name: &str) -> NameKey {
    random::sha256(name.trim().to_lowercase().as_bytes())
}

/// IPv6 counts by /64, which is what one customer has.
fn address_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        other => other,
    }
}

fn locked<K: Hash + Eq>(map: &Mutex<HashMap<K, Entry>>, key: &K, now: Duration) -> Option<Locked> {
    let mut map = lock(map);
    let entry = map.get_mut(key)?;
    let left = entry.locked_until?.checked_sub(now).filter(|left| !left.is_zero())?;
    let first = !std::mem::replace(&mut entry.reported, true);
    Some(Locked { seconds: left.as_secs() + u64::from(left.subsec_nanos() > 0), first })
}

fn count<K: Hash + Eq + Copy>(
    map: &Mutex<HashMap<K, Entry>>,
    key: K,
    now: Duration,
    window: Duration,
    limit: usize,
) {
    let mut map = lock(map);
    if map.len() >= CAPACITY && !map.contains_key(&key) {
        make_room(&mut map, now, window);
    }
    let entry = map.entry(key).or_default();
    if entry.locked_until.is_some_and(|until| until <= now) {
        *entry = Entry::default();
    }
    while entry.failures.front().is_some_and(|at| now.saturating_sub(*at) >= window) {
        entry.failures.pop_front();
    }
    entry.failures.push_back(now);
    while entry.failures.len() > limit {
        entry.failures.pop_front();
    }
    if entry.failures.len() >= limit && entry.locked_until.is_none() {
        entry.locked_until = Some(now + window);
    }
}

fn matters(entry: &Entry, now: Duration, window: Duration) -> bool {
    entry.locked_until.is_some_and(|until| until > now)
        || (entry.locked_until.is_none()
            && entry.failures.back().is_some_and(|at| now.saturating_sub(*at) < window))
}

/// Makes room for one more: first what no longer matters goes, then the entry that failed longest ago, one without
/// a lock if there is any.
fn make_room<K: Hash + Eq + Copy>(map: &mut HashMap<K, Entry>, now: Duration, window: Duration) {
    map.retain(|_, entry| matters(entry, now, window));
    if map.len() < CAPACITY {
        return;
    }
    let oldest = map
        .iter()
        .min_by_key(|(_, entry)| (entry.locked_until.is_some(), entry.failures.back().copied()))
        .map(|(key, _)| *key);
    if let Some(key) = oldest {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn fail(lockout: &Lockout, name: &str, ip: Option<IpAddr>, at: u64) {
        lockout.failed(name, ip, seconds(at), &AuthSettings::default());
    }

    #[test]
    fn five_failures_lock_a_name_for_300_s_from_the_fifth() {
        let lockout = Lockout::default();
        for at in 0..5 {
            assert_eq!(lockout.check("Admin", IP, seconds(at)), Ok(()));
            fail(&lockout, "Admin", IP, at);
        }
        assert_eq!(lockout.check("admin", IP, seconds(5)), Err(Locked { seconds: 299, first: true }));
        assert_eq!(lockout.check(" ADMIN", None, seconds(5)), Err(Locked { seconds: 299, first: false }));
        assert_eq!(lockout.check("other", IP, seconds(5)), Ok(()));
        assert_eq!(lockout.check("admin", IP, seconds(303)), Err(Locked { seconds: 1, first: false }));
        assert_eq!(lockout.check("admin", IP, seconds(304)), Ok(()));
        fail(&lockout, "admin", IP, 304);
        assert_eq!(lockout.check("admin", IP, seconds(304)), Ok(()));
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let lockout = Lockout::default();
        for at in [0, 100, 200, 299, 300] {
            fail(&lockout, "admin", None, at);
        }
        assert_eq!(lockout.check("admin", None, seconds(300)), Ok(()));
        fail(&lockout, "admin", None, 301);
        assert!(lockout.check("admin", None, seconds(302)).is_err());
    }

    #[test]
    fn an_address_is_locked_after_ten_times_as_many() {
        let lockout = Lockout::default();
        for n in 0..50 {
            assert_eq!(lockout.check("next", IP, seconds(1)), Ok(()));
            fail(&lockout, &format!("user{n}"), IP, 1);
        }
        assert!(lockout.check("next", IP, seconds(2)).is_err());
        assert_eq!(lockout.check("next", None, seconds(2)), Ok(()));
    }

    #[test]
    fn a_sign_in_clears_and_the_maps_stay_bounded() {
        let lockout = Lockout::default();
        for _ in 0..4 {
            fail(&lockout, "admin", IP, 0);
        }
        lockout.succeeded("admin", IP);
        fail(&lockout, "admin", IP, 0);
        assert_eq!(lockout.check("admin", IP, seconds(1)), Ok(()));
        for n in 0..CAPACITY + 100 {
            lockout.failed(&format!("{n}"), None, seconds(2), &AuthSettings::default());
        }
        assert_eq!(lock(&lockout.names).len(), CAPACITY);
        lockout.sweep(seconds(400), &AuthSettings::default());
        assert_eq!(lock(&lockout.names).len(), 0);
    }

    #[test]
    fn ipv6_counts_by_network() {
        let a: Option<IpAddr> = "2001:db8::1".parse().ok();
        let b: Option<IpAddr> = "2001:db8::2".parse().ok();
        let lockout = Lockout::default();
        for n in 0..50 {
            fail(&lockout, &format!("user{n}"), if n % 2 == 0 { a } else { b }, 1);
        }
        assert!(lockout.check("next", a, seconds(2)).is_err());
    }
}
