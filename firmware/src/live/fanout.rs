//! From the one producer to all clients. Publishing never waits: each client has a place for the newest tick,
//! which a newer one replaces, and a short queue of events, whose oldest go when it is full.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tick::{Shared, Tick};
use crate::config::Id;

/// Events that wait for one client.
const EVENTS: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client is to be sent next.
#[derive(Debug, Clone)]
pub enum News {
    Tick(Arc<Tick>),
    /// A cluster frame, complete.
    Event(Shared),
}

#[derive(Default)]
struct Waiting {
    tick: Option<Arc<Tick>>,
    events: VecDeque<Shared>,
}

struct Client {
    waiting: Mutex<Waiting>,
    wake: async_channel::Sender<()>,
}

impl Client {
    fn wake(&self) {
        // Full = it is awake already.
        let _ = self.wake.try_send(());
    }
}

/// The clients that listen.
#[derive(Clone, Default)]
pub struct Fanout {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    clients: Mutex<HashMap<u64, Arc<Client>>>,
    next: Mutex<u64>,
    listening: AtomicUsize,
}

impl Fanout {
    pub fn subscribe(&self) -> Subscription {
        let (wake, woken) = async_channel::bounded(1);
        let client = Arc::new(Client { waiting: Mutex::default(), wake });
        let number = {
            let mut next = lock(&self.inner.next);
            *next += 1;
            *next
        };
        lock(&self.inner.clients).insert(number, client.clone());
        self.inner.listening.fetch_add(1, Ordering::Relaxed);
        Subscription { fanout: self.clone(), number, client, woken }
    }
    /// How many listen.
    pub fn listening(&self) -> usize {
        self.inner.listening.load(Ordering::Relaxed)
    }
    pub fn publish(&self, tick: &Arc<Tick>) {
        for client in lock(&self.inner.clients).values() {
            lock(&client.waiting).tick = Some(tick.clone());
            client.wake();
        }
    }
    pub fn publish_event(&self, event: &Shared) {
        for client in lock(&self.inner.clients).values() {
            let mut waiting = lock(&client.waiting);
            if waiting.events.len() >= EVENTS {
                waiting.events.pop_front();
            }
            waiting.events.push_back(event.clone());
            drop(waiting);
            client.wake();
        }
    }
}

/// One client's end. Dropping it ends the subscription.
pub struct Subscription {
    fanout: Fanout,
    number: u64,
    client: Arc<Client>,
    woken: async_channel::Receiver<()>,
}

impl Subscription {
    /// The next event, and, unless `events_only`, the newest tick that was not taken yet. May be dropped while
    /// it waits without losing anything.
    pub async fn next(&self, events_only: bool) -> News {
        loop {
            {
                let mut waiting = lock(&self.client.waiting);
                if let Some(event) = waiting.events.pop_front() {
                    return News::Event(event);
                }
                if !events_only && let Some(tick) = waiting.tick.take() {
                    return News::Tick(tick);
                }
            }
            // The sender lives in `client`, so the channel stays open.
            let _ = self.woken.recv().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.fanout.inner.clients).remove(&self.number);
        self.fanout.inner.listening.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many streams (WebSocket, SSE) may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    pub overall: usize,
    pub per_user: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { overall: 1024, per_user: 512 }
    }
}

/// Why a stream may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    #[error("{0} streams are open, which is the limit")]
    Overall(usize),
    #[error("this user has {0} streams open, which is the limit")]
    PerUser(usize),
}

/// The streams that are open.
#[derive(Debug, Default)]
pub struct Streams {
    limits: StreamLimits,
    open: Mutex<HashMap<Id, usize>>,
}

impl Streams {
    pub fn new(limits: StreamLimits) -> Self {
        Self { limits, open: Mutex::default() }
    }
    /// A place for one more stream of this user, kept until it is dropped.
    pub fn open(self: &Arc<Self>, user: Id) -> Result<StreamPermit, TooMany> {
        let mut open = lock(&self.open);
        if open.values().sum::<usize>() >= self.limits.overall {
            return Err(TooMany::Overall(self.limits.overall));
        }
        let of_user = open.entry(user).or_default();
        if *of_user >= self.limits.per_user {
            return Err(TooMany::PerUser(self.limits.per_user));
        }
        *of_user += 1;
        Ok(StreamPermit { streams: self.clone(), user })
    }
    pub fn count(&self) -> usize {
        lock(&self.open).values().sum()
    }
}

/// The right to hold one stream open.
#[derive(Debug)]
pub struct StreamPermit {
    streams: Arc<Streams>,
    user: Id,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = lock(&self.streams.open);
        if let Some(of_user) = open.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_client_that_does_not_read_loses_old_events_only_its_own() {
        let fanout = Fanout::default();
        let (slow, quick) = (fanout.subscribe(), fanout.subscribe());
        assert_eq!(fanout.listening(), 2);
        for n in 0..300u32 {
            fanout.publish_event(&Arc::from(n.to_string().as_bytes()));
            let News::Event(event) = smol::block_on(quick.next(false)) else { panic!("a tick") };
            assert_eq!(&*event, n.to_string().as_bytes());
        }
        let News::Event(event) = smol::block_on(slow.next(true)) else { panic!("a tick") };
        assert_eq!(&*event, b"44");
        drop(slow);
        drop(quick);
        assert_eq!(fanout.listening(), 0);
    }

    #[test]
    fn streams_are_limited_and_given_back() {
        let streams = Arc::new(Streams::new(StreamLimits { overall: 3, per_user: 2 }));
        let (a, b) = (Id::from_u128(1), Id::from_u128(2));
        let first = streams.open(a).unwrap();
        let _second = streams.open(a).unwrap();
        assert_eq!(streams.open(a).unwrap_err(), TooMany::PerUser(2));
        let _third = streams.open(b).unwrap();
        assert_eq!(streams.open(b).unwrap_err(), TooMany::Overall(3));
        drop(first);
        assert_eq!(streams.count(), 2);
        streams.open(a).unwrap();
    }
}
