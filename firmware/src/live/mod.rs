//! Live data: sampling, time series, the history of the dashboard, the fan-out to clients. One producer at
//! 1 Hz serves everybody (contract/live.md §9.4); a client that does not read is skipped, never waited for.
//! Started once per process; read by the API. Knows nothing of HTTP.

pub mod blocked;
pub mod counters;
pub mod fanout;
pub mod history;
mod rates;
pub mod sampler;
pub mod series;
mod source;
pub mod sources;
pub mod states;
pub mod syslog;
pub mod tick;
pub mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use async_io::Timer;
use futures_lite::future;

use crate::config::Status as RuleStatus;
use crate::pf::{LoggedPacket, Pf, PfError};
use crate::platform::Platform;
use crate::store::{Snapshot, Store};
use blocked::BlockedRing;
pub use counters::ApiCounters;
use fanout::{Fanout, StreamLimits, Streams, Subscription};
use history::{Entry, History};
use sampler::{Moment, Sampler};
use series::{SeriesStore, Values};
use sources::Sources;
use states::StateTable;
use tick::{Sample, Shared, Tick};
use view::{ClusterEvent, Status};

/// Name of the file of series in the state directory.
const SERIES_FILE: &str = "metrics.series";
/// How often the series are written to the disk.
const FLUSH_EVERY: Duration = Duration::from_secs(600);
/// A producer that is later than this skips the missed seconds instead of catching up.
const FALLEN_BEHIND: Duration = Duration::from_secs(5);
/// How long a closed feed of logged packets is left alone.
const FEED_PAUSE: Duration = Duration::from_secs(2);
/// A state table read this recently is not read again for a request.
const STATES_FRESH: Duration = Duration::from_millis(200);
/// States that a simulator lists in no time.
const SHORT_TABLE: usize = 2000;

async fn sleep(time: Duration) {
    Timer::after(time).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What live data is made from.
pub struct Deps {
    pub store: Store,
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
    /// Counted up by the HTTP layer.
    pub counters: Arc<ApiCounters>,
    /// Where the series are kept across restarts; `None` = in memory only.
    pub state_dir: Option<PathBuf>,
    pub sources: Sources,
    pub limits: StreamLimits,
}

/// How many rules are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleCounts {
    pub rules: u64,
    pub active_rules: u64,
    pub nat_rules: u64,
}

/// An answer that holds until the next second or the next change.
struct CachedStatus {
    number: Option<u64>,
    revision: u64,
    body: Shared,
}

struct Inner {
    store: Store,
    pf: Arc<dyn Pf>,
    platform: Arc<dyn Platform>,
    counters: Arc<ApiCounters>,
    state_dir: Option<PathBuf>,
    sources: Sources,
    latest: ArcSwapOption<Sample>,
    latest_tick: ArcSwapOption<Tick>,
    states: Mutex<Option<Arc<StateTable>>>,
    reading_states: async_lock::Mutex<()>,
    series: Mutex<SeriesStore>,
    history: Mutex<History>,
    blocked: Mutex<BlockedRing>,
    fanout: Fanout,
    streams: Arc<Streams>,
    counts: ArcSwap<(u64, RuleCounts)>,
    status: ArcSwapOption<CachedStatus>,
    /// Open until the first sample is there.
    first: async_channel::Receiver<()>,
    first_open: Mutex<Option<async_channel::Sender<()>>>,
}

/// The live data of this process. Clones share it.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Inner>,
    stop: async_channel::Sender<()>,
    stopped: async_channel::Receiver<()>,
}

impl Live {
    /// Loads the series that were kept, takes the first sample and goes on once a second until
    /// [`Live::stop`].
    pub fn start(deps: Deps) -> Self {
        let (live, producer) = Self::prepare(deps);
        producer.start();
        live
    }

    /// As [`Live::start`], but nothing is sampled before [`Producer::start`]: who loads the packet filter first
    /// does not see the empty one in the first seconds.
    pub fn prepare(deps: Deps) -> (Self, Producer) {
        let (live, sampler, signals) = Self::build(deps);
        let producer = Producer { inner: live.inner.clone(), sampler, signals };
        (live, producer)
    }

    /// As [`Live::start`], but time is the caller's: every second is one call of [`Sampler::tick`]. Logged
    /// packets arrive through [`Live::log_packet`].
    pub fn by_hand(deps: Deps) -> (Self, Sampler) {
        let (live, sampler, _) = Self::build(deps);
        (live, sampler)
    }

    fn build(deps: Deps) -> (Self, Sampler, Signals) {
        let (stop, stop_asked) = async_channel::bounded(1);
        let (has_stopped, stopped) = async_channel::bounded(1);
        let (first_open, first) = async_channel::bounded(1);
        let snapshot = deps.store.snapshot();
        let inner = Arc::new(Inner {
            series: Mutex::new(load_series(deps.state_dir.as_ref())),
            store: deps.store,
            pf: deps.pf,
            platform: deps.platform,
            counters: deps.counters,
            state_dir: deps.state_dir,
            sources: deps.sources,
            latest: ArcSwapOption::empty(),
            latest_tick: ArcSwapOption::empty(),
            states: Mutex::default(),
            reading_states: async_lock::Mutex::new(()),
            history: Mutex::new(History::new(snapshot.config.dashboard.history_seconds as usize)),
            blocked: Mutex::default(),
            fanout: Fanout::default(),
            streams: Arc::new(Streams::new(deps.limits)),
            counts: ArcSwap::from_pointee((u64::MAX, RuleCounts::default())),
            status: ArcSwapOption::empty(),
            first,
            first_open: Mutex::new(Some(first_open)),
        });
        let sampler = Sampler::new(inner.clone());
        (Self { inner, stop, stopped }, sampler, Signals { stop: stop_asked, _has_stopped: has_stopped })
    }

    /// Ends the producer and writes the series to the disk; returns when that is done.
    pub async fn stop(&self) {
        self.stop.close();
        // The channel closes when the producer has gone.
        let _ = self.stopped.recv().await;
    }

    /// The newest sample; `None` only in the moment before the first.
    pub fn latest(&self) -> Option<Arc<Sample>> {
        self.inner.latest.load_full()
    }
    /// The newest sample, waiting for the first one if need be.
    pub async fn sample(&self) -> Option<Arc<Sample>> {
        if self.inner.latest.load().is_none() {
            // Closes when the sample is there; nothing is ever sent.
            let first = async {
                let _ = self.inner.first.recv().await;
            };
            future::or(first, sleep(Duration::from_secs(2))).await;
        }
        self.latest()
    }
    /// The status as it is known now: pf from the newest sample, rules from the store.
    pub fn status(&self) -> Status {
        let counts = self.inner.rule_counts(&self.inner.store.snapshot());
        let sampled = self.inner.latest.load().as_ref().map(|sample| sample.status).unwrap_or_default();
        Status {
            aifw_rules: counts.rules,
            aifw_active_rules: counts.active_rules,
            nat_rules: counts.nat_rules,
            ..sampled
        }
    }
    /// A body made of [`Live::status`], made anew only when a second or a change has passed.
    pub fn status_body(&self, shape: impl FnOnce(Status) -> Vec<u8>) -> Shared {
        let number = self.inner.latest.load().as_ref().map(|sample| sample.number);
        let revision = self.inner.store.snapshot().revision;
        if let Some(cached) = &*self.inner.status.load()
            && (cached.number, cached.revision) == (number, revision)
        {
            return cached.body.clone();
        }
        let body: Shared = shape(self.status()).into();
        self.inner.status.store(Some(Arc::new(CachedStatus { number, revision, body: body.clone() })));
        body
    }
    /// pf's state table, read now (or within the last 200 ms, for another request).
    pub async fn states(&self) -> Result<Arc<StateTable>, PfError> {
        // A simulator is asked anew each time, unless its table is so long that clients would queue for it.
        let simulated = self.inner.pf.is_simulated();
        let useful = |table: &Arc<StateTable>| {
            table.at.elapsed() < STATES_FRESH && !(simulated && table.entries.len() < SHORT_TABLE)
        };
        let fresh = || lock(&self.inner.states).clone().filter(useful);
        if let Some(table) = fresh() {
            return Ok(table);
        }
        let _reading = self.inner.reading_states.lock().await;
        if let Some(table) = fresh() {
            return Ok(table);
        }
        let pf = self.inner.pf.clone();
        let table = blocking::unblock(move || {
            let at = Instant::now();
            pf.states().map(|entries| Arc::new(StateTable::new(at, entries)))
        })
        .await?;
        self.inner.keep_states(table.clone());
        Ok(table)
    }
    /// The newest tick, complete, for a client that has just come.
    pub async fn tick_now(&self) -> Option<Arc<Tick>> {
        let sample = self.sample().await?;
        if let Some(tick) = self.inner.latest_tick.load_full()
            && tick.sample.number == sample.number
        {
            return Some(tick);
        }
        let read = async { self.states().await.ok() };
        let patience = async {
            Timer::after(source::PATIENCE).await;
            None
        };
        let states = future::or(read, patience).await.unwrap_or_else(|| self.inner.newest_states());
        let blocked = self.inner.blocked().newest_blocked(tick::BLOCKED);
        Some(Arc::new(Tick::new(sample, states, blocked)))
    }
    pub fn subscribe(&self) -> Subscription {
        self.inner.fanout.subscribe()
    }
    /// What a new client is sent first, oldest first.
    pub fn history(&self) -> Vec<Arc<Entry>> {
        lock(&self.inner.history).sent()
    }
    /// Keeps as many seconds from now on; a shorter history is trimmed at once.
    pub fn keep_history(&self, seconds: u32) {
        lock(&self.inner.history).set_capacity(seconds as usize);
    }
    /// Entries in the history ring.
    pub fn history_len(&self) -> usize {
        lock(&self.inner.history).len()
    }
    pub fn series(&self) -> MutexGuard<'_, SeriesStore> {
        lock(&self.inner.series)
    }
    /// The ring of logged packets; hold it briefly.
    pub fn blocked(&self) -> MutexGuard<'_, BlockedRing> {
        self.inner.blocked()
    }
    /// Adds a packet that pf logged.
    pub fn log_packet(&self, packet: LoggedPacket) {
        self.inner.blocked().push(packet);
    }
    /// Sends a cluster frame to every client.
    pub fn publish_cluster(&self, event: &ClusterEvent) {
        let frame = serde_json::json!({ "channel": "cluster", "event": event });
        self.inner.fanout.publish_event(&frame.to_string().into_bytes().into());
    }
    /// The limits on open streams.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.inner.streams
    }
    pub fn sources(&self) -> &Sources {
        &self.inner.sources
    }
    pub fn counters(&self) -> &Arc<ApiCounters> {
        &self.inner.counters
    }
}

impl Inner {
    fn record(&self, second: u32, values: &Values, sample: &Arc<Sample>, capacity: usize) {
        lock(&self.series).record(second, values);
        let entry = sample.history_entry();
        let mut history = lock(&self.history);
        history.set_capacity(capacity);
        history.push(entry);
        drop(history);
        self.latest.store(Some(sample.clone()));
        lock(&self.first_open).take();
    }
    fn publish(&self, tick: Arc<Tick>) {
        self.fanout.publish(&tick);
        self.latest_tick.store(Some(tick));
    }
    fn blocked(&self) -> MutexGuard<'_, BlockedRing> {
        lock(&self.blocked)
    }
    fn keep_states(&self, table: Arc<StateTable>) {
        let mut newest = lock(&self.states);
        if newest.as_ref().is_none_or(|known| known.at <= table.at) {
            *newest = Some(table);
        }
    }
    /// A table that was read for a request is not kept for long.
    fn forget_states(&self) {
        lock(&self.states).take_if(|table| table.at.elapsed() > STATES_FRESH);
    }
    fn newest_states(&self) -> Arc<StateTable> {
        let newest = lock(&self.states).clone();
        newest.unwrap_or_else(|| Arc::new(StateTable::new(Instant::now(), Vec::new())))
    }
    /// Entries and bytes of the history.
    fn history_size(&self) -> (usize, usize) {
        let history = lock(&self.history);
        (history.len(), history.bytes())
    }
    /// Counted once per revision.
    fn rule_counts(&self, snapshot: &Snapshot) -> RuleCounts {
        let known = self.counts.load();
        if known.0 == snapshot.revision {
            return known.1;
        }
        let rules = &snapshot.config.rules;
        let counts = RuleCounts {
            rules: rules.len() as u64,
            active_rules: rules.iter().filter(|rule| rule.status == RuleStatus::Active).count() as u64,
            nat_rules: snapshot.config.nat.len() as u64,
        };
        self.counts.store(Arc::new((snapshot.revision, counts)));
        counts
    }
    fn flush(&self) -> impl FnOnce() + Send + 'static {
        let path = self.state_dir.as_ref().map(|dir| dir.join(SERIES_FILE));
        let body = path.as_ref().map(|_| series::file::encode(&lock(&self.series)));
        move || {
            if let (Some(path), Some(body)) = (path, body)
                && let Err(error) = series::file::write(&path, &body)
            {
                log::warn!("the time series could not be written to {}: {error}", path.display());
            }
        }
    }
}

/// A file that cannot be used costs the past of the charts, nothing else.
fn load_series(state_dir: Option<&PathBuf>) -> SeriesStore {
    let Some(path) = state_dir.map(|dir| dir.join(SERIES_FILE)).filter(|path| path.exists()) else {
        return SeriesStore::default();
    };
    let now = u32::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    series::file::read(&path, now).unwrap_or_else(|error| {
        log::warn!("the time series in {} are ignored: {error}", path.display());
        SeriesStore::default()
    })
}

/// What makes the samples, not yet started.
pub struct Producer {
    inner: Arc<Inner>,
    sampler: Sampler,
    signals: Signals,
}

impl Producer {
    /// Takes the first sample now and one each second.
    pub fn start(self) {
        let Self { inner, sampler, signals } = self;
        smol::spawn(feed_blocked(inner.clone(), inner.pf.logged(), signals.stop.clone())).detach();
        smol::spawn(run(inner, sampler, signals)).detach();
    }
}

struct Signals {
    /// Closes when the producer is to end.
    stop: async_channel::Receiver<()>,
    /// Closes when it has.
    _has_stopped: async_channel::Sender<()>,
}

/// The producer: deadlines a second apart, so that being late once does not move all that follow.
async fn run(inner: Arc<Inner>, mut sampler: Sampler, signals: Signals) {
    let mut deadline = Instant::now();
    let mut flushed = deadline;
    loop {
        sampler.tick(Moment::due_at(deadline)).await;
        if flushed.elapsed() >= FLUSH_EVERY {
            flushed = Instant::now();
            blocking::unblock(inner.flush()).detach();
        }
        deadline += Duration::from_secs(1);
        let late = Instant::now().saturating_duration_since(deadline);
        if late > FALLEN_BEHIND {
            log::warn!("{} s without a sample", late.as_secs());
            deadline = Instant::now();
        }
        let wait = async {
            Timer::at(deadline).await;
            true
        };
        // Never sends: false once it is closed.
        let asked = async { signals.stop.recv().await.is_ok() };
        if !future::or(asked, wait).await {
            break;
        }
    }
    blocking::unblock(inner.flush()).await;
}

/// Keeps the packets that pf logs, and takes up a feed that ended again.
async fn feed_blocked(
    inner: Arc<Inner>,
    mut feed: async_channel::Receiver<LoggedPacket>,
    stop: async_channel::Receiver<()>,
) {
    loop {
        let packet = future::or(async { feed.recv().await.ok() }, async {
            // Only ever ends by closing.
            let _ = stop.recv().await;
            None
        })
        .await;
        match packet {
            Some(packet) => inner.blocked().push(packet),
            None if stop.is_closed() => return,
            None => {
                let stopped = async {
                    let _ = stop.recv().await;
                };
                future::or(stopped, sleep(FEED_PAUSE)).await;
                feed = inner.pf.logged();
            }
        }
    }
}
