//! The open connections: how many there are, from whom, and until when each may stay as it is. One task looks at
//! all deadlines a few times per second, so that a request costs no timer; a connection whose time is over is
//! told through its own socket, which it is waiting on anyway.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::limits::Limits;
use crate::api::ui::http_date;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Handshake,
    /// Between requests; may be closed at any time.
    Idle,
    Head,
    Body,
    /// The application is at work.
    Working,
    /// An answer without an end of its own: an event stream or a WebSocket.
    Endless,
    /// Reading away what follows a refusal.
    Linger,
}

const NEVER: u64 = u64::MAX;

/// A socket that can be shut down from outside its task.
pub(super) trait Socket: Send + Sync {
    fn shutdown(&self, how: Shutdown);
}

/// One connection as the registry sees it.
pub(super) struct Guard {
    registry: Arc<Registry>,
    id: u64,
    address: Option<IpAddr>,
    socket: Box<dyn Socket>,
    phase: AtomicU8,
    /// In the registry's milliseconds.
    deadline: AtomicU64,
    write_deadline: AtomicU64,
    expired: AtomicBool,
}

impl Guard {
    /// Enters a phase that may last so long.
    pub(super) fn enter(&self, phase: Phase, within: Duration) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.deadline.store(self.registry.after(within), Ordering::Relaxed);
    }
    /// Enters a phase that may last for ever.
    pub(super) fn enter_unbounded(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.deadline.store(NEVER, Ordering::Relaxed);
    }
    /// The client has begun not to take what is written to it.
    pub(super) fn write_blocked(&self) {
        if self.write_deadline.load(Ordering::Relaxed) == NEVER {
            let deadline = self.registry.after(self.registry.limits.write_stall);
            self.write_deadline.store(deadline, Ordering::Relaxed);
        }
    }
    pub(super) fn write_moved(&self) {
        if self.write_deadline.load(Ordering::Relaxed) != NEVER {
            self.write_deadline.store(NEVER, Ordering::Relaxed);
        }
    }
    /// Whether a time-out has struck.
    pub(super) fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }
    fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.registry.forget(self.id, self.address);
    }
}

/// All open connections of a server.
pub(super) struct Registry {
    pub(super) limits: Limits,
    epoch: Instant,
    /// Milliseconds since `epoch`, as of the last tick.
    now: AtomicU64,
    date: ArcSwap<String>,
    closing: AtomicBool,
    open: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    connections: HashMap<u64, std::sync::Weak<Guard>>,
    per_address: HashMap<IpAddr, usize>,
}

impl Registry {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let registry = Self {
            limits,
            epoch: Instant::now(),
            now: AtomicU64::new(0),
            date: ArcSwap::from_pointee(String::new()),
            closing: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            table: Mutex::default(),
        };
        registry.tick();
        Arc::new(registry)
    }

    /// Takes a new connection in, unless there are too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        socket: Box<dyn Socket>,
    ) -> Option<Arc<Guard>> {
        let mut table = self.table();
        if self.closing() || table.connections.len() >= self.limits.connections {
            return None;
        }
        let counted = address.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_loopback());
        if let Some(address) = counted {
            let count = table.per_address.entry(address).or_default();
            if *count >= self.limits.connections_per_address {
                return None;
            }
            *count += 1;
        }
        table.next += 1;
        let id = table.next;
        let guard = Arc::new(Guard {
            registry: self.clone(),
            id,
            address: counted,
            socket,
            phase: AtomicU8::new(Phase::Head as u8),
            deadline: AtomicU64::new(self.after(self.limits.head)),
            write_deadline: AtomicU64::new(NEVER),
            expired: AtomicBool::new(false),
        });
        table.connections.insert(id, Arc::downgrade(&guard));
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(guard)
    }

    fn forget(&self, id: u64, address: Option<IpAddr>) {
        let mut table = self.table();
        table.connections.remove(&id);
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = address
            && let Some(count) = table.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                table.per_address.remove(&address);
            }
        }
    }

    /// Brings clock and `Date` up to date.
    pub(super) fn tick(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(NEVER);
        self.now.store(now, Ordering::Relaxed);
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let date = http_date(unix.as_secs());
        if **self.date.load() != date {
            self.date.store(Arc::new(date));
        }
    }

    /// Ends what has lasted too long.
    pub(super) fn sweep(&self) {
        self.tick();
        let now = self.now.load(Ordering::Relaxed);
        for guard in self.guards() {
            if guard.write_deadline.load(Ordering::Relaxed) <= now {
                guard.expired.store(true, Ordering::Relaxed);
                guard.socket.shutdown(Shutdown::Both);
            } else if guard.deadline.load(Ordering::Relaxed) <= now {
                guard.expired.store(true, Ordering::Relaxed);
                // A slow request is answered with 408, so its connection stays writable.
                let answered = guard.is_in(Phase::Head) || guard.is_in(Phase::Body);
                guard.socket.shutdown(if answered { Shutdown::Read } else { Shutdown::Both });
            }
        }
    }

    /// Begins to close: no new connection, idle ones and streams end now, the others after their answer.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        for guard in self.guards() {
            if guard.is_in(Phase::Idle) || guard.is_in(Phase::Endless) || guard.is_in(Phase::Handshake) {
                guard.socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Cuts every connection that is left.
    pub(super) fn cut(&self) {
        for guard in self.guards() {
            guard.socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
    /// Open connections.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
    /// The `Date` header's text.
    pub(super) fn date(&self) -> arc_swap::Guard<Arc<String>> {
        self.date.load()
    }
    fn after(&self, within: Duration) -> u64 {
        let within = u64::try_from(within.as_millis()).unwrap_or(NEVER);
        self.now.load(Ordering::Relaxed).saturating_add(within)
    }
    fn guards(&self) -> Vec<Arc<Guard>> {
        self.table().connections.values().filter_map(std::sync::Weak::upgrade).collect()
    }
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Log(Arc<Mutex<Vec<Shutdown>>>);
    impl Socket for Log {
        fn shutdown(&self, how: Shutdown) {
            self.0.lock().unwrap().push(how);
        }
    }
    fn socket() -> (Box<dyn Socket>, Arc<Mutex<Vec<Shutdown>>>) {
        let log = Arc::default();
        (Box::new(Log(Arc::clone(&log))), log)
    }

    #[test]
    fn one_address_has_its_share_and_loopback_all() {
        let limits = Limits { connections: 5, connections_per_address: 2, ..Limits::default() };
        let registry = Registry::new(limits);
        let admit = |ip: &str| registry.admit(Some(ip.parse().unwrap()), socket().0);
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("::ffff:192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none());
        drop(first);
        let _third = admit("192.0.2.1").unwrap();
        let _loopback: Vec<_> = (0..3).map(|_| admit("127.0.0.1").unwrap()).collect();
        assert_eq!(registry.open(), 5);
        assert!(admit("127.0.0.1").is_none());
    }

    #[test]
    fn deadlines_end_what_lasts_too_long() {
        let registry = Registry::new(Limits::default());
        let (head, head_log) = socket();
        let head = registry.admit(None, head).unwrap();
        head.enter(Phase::Head, Duration::ZERO);
        let (idle, idle_log) = socket();
        let idle = registry.admit(None, idle).unwrap();
        idle.enter(Phase::Idle, Duration::ZERO);
        let (busy, busy_log) = socket();
        let busy = registry.admit(None, busy).unwrap();
        busy.enter_unbounded(Phase::Working);
        registry.sweep();
        assert!(head.expired() && idle.expired() && !busy.expired());
        assert_eq!(*head_log.lock().unwrap(), [Shutdown::Read]);
        assert_eq!(*idle_log.lock().unwrap(), [Shutdown::Both]);
        assert!(busy_log.lock().unwrap().is_empty());
    }
}
