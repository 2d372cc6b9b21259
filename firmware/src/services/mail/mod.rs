//! Mail to people: [`Outbox`] queues what has happened and sends it in the background, again when a server does not
//! take it; [`send`] sends one mail now. Whoever knows of an event calls [`Outbox::tell`], which never waits.

mod send;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use send::{MailError, Trust, send};

use crate::config::Timestamp;
use crate::config::mail::{Mail, MailEvent};

/// Mails that wait at most; the oldest gives way.
const LONGEST_QUEUE: usize = 200;
/// After the first failure, the second …; then the mail is given up.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1800),
    Duration::from_secs(7200),
    Duration::from_secs(21_600),
];
/// At most this many mails within [`WINDOW`]; the rest waits.
const MOST: usize = 30;
const WINDOW: Duration = Duration::from_secs(600);

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub event: MailEvent,
    pub at: Timestamp,
    pub summary: String,
}

#[derive(Debug)]
struct Waiting {
    notice: Notice,
    failures: usize,
    due: Instant,
}

/// Mails that are to be sent.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<VecDeque<Waiting>>,
    sent: Mutex<VecDeque<Instant>>,
    wake: (async_channel::Sender<()>, async_channel::Receiver<()>),
    trust: Mutex<Trust>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            sent: Mutex::default(),
            wake: async_channel::bounded(1),
            trust: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Queues a mail, if the event is wanted.
    pub fn tell(&self, settings: &Mail, event: MailEvent, summary: impl Into<String>) {
        if !settings.wants(event) {
            return;
        }
        let notice = Notice { event, at: Timestamp::now(), summary: summary.into() };
        let mut queue = lock(&self.queue);
        if queue.len() >= LONGEST_QUEUE {
            log::warn!("mail: more than {LONGEST_QUEUE} wait; the oldest is dropped");
            queue.pop_front();
        }
        queue.push_back(Waiting { notice, failures: 0, due: Instant::now() });
        drop(queue);
        // Full: it is awake already.
        let _ = self.wake.0.try_send(());
    }

    /// Mails that wait.
    pub fn waiting(&self) -> usize {
        lock(&self.queue).len()
    }

    /// Additional certificate authorities that mail servers may be signed by: for tests.
    #[doc(hidden)]
    pub fn set_trust(&self, trust: Trust) {
        *lock(&self.trust) = trust;
    }

    /// Sends one mail now; `host` is how the appliance is called. Blocks, 20 s at most.
    pub fn send_now(&self, settings: &Mail, host: &str, subject: &str, body: &str) -> Result<(), MailError> {
        let trust = lock(&self.trust).clone();
        send(settings, host, subject, body, &trust)
    }

    /// When the next mail is due; `None` while there is none.
    fn next(&self) -> Option<Instant> {
        let first = lock(&self.queue).iter().map(|waiting| waiting.due).min()?;
        let sent = lock(&self.sent);
        // Not more than so many in a while.
        let free = (sent.len() >= MOST).then(|| sent.front().map(|first| *first + WINDOW)).flatten();
        Some(free.map_or(first, |free| first.max(free)))
    }

    /// Sends what is due. Returns how many mails went out. Blocks.
    pub fn deliver(&self, settings: &Mail, host: &str) -> usize {
        let mut sent = 0;
        loop {
            let now = Instant::now();
            if self.next().is_none_or(|due| due > now) {
                return sent;
            }
            let taken = {
                let mut queue = lock(&self.queue);
                let at = queue.iter().position(|waiting| waiting.due <= now);
                at.and_then(|at| queue.remove(at))
            };
            let Some(mut waiting) = taken else { return sent };
            // It may have been switched off meanwhile.
            if !settings.wants(waiting.notice.event) {
                continue;
            }
            {
                let mut times = lock(&self.sent);
                times.retain(|at| now.duration_since(*at) < WINDOW);
                times.push_back(now);
            }
            let Notice { event, at, summary } = &waiting.notice;
            let name = event.name();
            let subject = format!("[AiFw] {host}: {name}");
            let body = format!("Event: {name}\nHost:  {host}\nTime:  {at}\n\n{summary}\n");
            match self.send_now(settings, host, &subject, &body) {
                Ok(()) => sent += 1,
                Err(error) => match PAUSES.get(waiting.failures) {
                    Some(pause) => {
                        log::warn!("mail about {name}: {error}; tried again in {} s", pause.as_secs());
                        waiting.failures += 1;
                        waiting.due = Instant::now() + *pause;
                        lock(&self.queue).push_back(waiting);
                    }
                    None => log::error!("mail about {name}: {error}; given up"),
                },
            }
        }
    }

    /// Returns when a mail is due.
    pub async fn due(&self) {
        loop {
            let next = self.next();
            if next.is_some_and(|due| due <= Instant::now()) {
                return;
            }
            let time = async {
                match next {
                    Some(due) => drop(async_io::Timer::at(due).await),
                    None => futures_lite::future::pending().await,
                }
            };
            let woken = async {
                // Never closed: both ends are ours.
                let _ = self.wake.1.recv().await;
            };
            futures_lite::future::or(time, woken).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_waits_and_what_fails_is_kept_for_later() {
        let outbox = Outbox::default();
        let mut mail = Mail {
            enabled: true,
            host: "127.0.0.1".into(),
            // Nobody listens at the discard port of loopback.
            port: 9,
            recipients: "a@example.org".into(),
            enabled_events: vec![MailEvent::RestoreFailed],
            ..Mail::default()
        };
        outbox.tell(&mail, MailEvent::BackupSaved, "no");
        assert_eq!(outbox.waiting(), 0);
        outbox.tell(&mail, MailEvent::RestoreFailed, "yes");
        assert_eq!((outbox.deliver(&mail, "fw"), outbox.waiting()), (0, 1));
        let due = lock(&outbox.queue).front().map(|waiting| waiting.due);
        assert!(due.is_some_and(|due| due > Instant::now() + Duration::from_secs(20)));
        // What is no longer wanted is not sent.
        mail.enabled = false;
        lock(&outbox.queue).iter_mut().for_each(|waiting| waiting.due = Instant::now());
        assert_eq!((outbox.deliver(&mail, "fw"), outbox.waiting()), (0, 0));
    }
}
