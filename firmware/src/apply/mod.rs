//! Applying: the one road from a stored configuration to the machine — compile, check, load, verify, and the
//! way back when a step fails. One apply at a time. Called by the API, by start-up and by timers; knows
//! nothing of HTTP.

pub mod blocklists;
pub mod confirm;
pub mod host;
pub mod lockout;
pub mod machine;
pub mod name_servers;
pub mod network;
pub mod pending;
pub mod resolver;
pub mod schedules;
pub mod services;
pub mod url_tables;
pub mod watch;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_lock::Mutex as AsyncMutex;
use machine::{Compiled, Machine};
pub use pending::Pending;
use url_tables::UrlTables;

use crate::compile;
use crate::config::document::RowError;
use crate::config::{Config, Document, Id, TableName, Timestamp};
use crate::pf::Pf;
use crate::platform::Platform;
use crate::platform::geoip::GeoIp;
use crate::services::Services;
use crate::store::{Author, CommitError, Draft, NewAudit, Snapshot, Store, StoreError};

/// Why the machine was not made to match.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A step failed; what was loaded before is loaded again. `step` is `aliases`, `filter`, `nat`, `geoip` …
    #[error("{step}: {reason}")]
    Step { step: String, reason: String },
    /// The caller's own connection would be cut.
    #[error(
        "this would cut your own connection from {client}: {reason}; repeat with \"confirm\": true, or start a commit-confirm first"
    )]
    LockOut { client: IpAddr, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why [`Applier::replace`] left everything as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError<E> {
    /// The caller's own closure refused.
    #[error("{0}")]
    Refused(E),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl<E> From<StoreError> for ReplaceError<E> {
    fn from(error: StoreError) -> Self {
        Self::Apply(ApplyError::Store(error))
    }
}

impl<E> From<CommitError<ReplaceError<E>>> for ReplaceError<E> {
    fn from(error: CommitError<ReplaceError<E>>) -> Self {
        match error {
            CommitError::Refused(refusal) => refusal,
            CommitError::Store(error) => error.into(),
        }
    }
}

/// One step of an apply.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Step {
    pub step: String,
    pub ok: bool,
    pub detail: String,
}

/// What an apply did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Report {
    pub steps: Vec<Step>,
    pub warnings: Vec<String>,
}

/// The connection that asks for an apply, for the lock-out check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConnection {
    pub client: IpAddr,
    /// The appliance's end, where it is known.
    pub server: Option<SocketAddr>,
    /// The administrator has said that being cut off is fine.
    pub confirmed: bool,
}

/// Makes the machine match the store. Clones share it.
#[derive(Clone)]
pub struct Applier {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    machine: Arc<Machine>,
    /// Held for the length of an apply.
    turn: AsyncMutex<()>,
    services: Services,
    /// Held for the length of a change of one service.
    service_turns: [AsyncMutex<()>; 5],
    /// Counts the wishes for an apply soon, by service.
    soon: [std::sync::atomic::AtomicU64; 5],
    /// One of the wishes of a burst was a restart.
    restart_soon: [std::sync::atomic::AtomicBool; 5],
    /// Why the last apply of a service that nobody waited for failed, until one succeeds.
    soon_error: [Mutex<Option<String>>; 5],
    /// Schedules that were open when the rules were loaded last.
    open: Mutex<BTreeSet<Id>>,
    pending: Mutex<pending::Tracker>,
    pf_status: Mutex<watch::PfStatus>,
    network: network::Network,
}

impl Applier {
    /// Files that rules name are written below `root`: `/` on the appliance.
    pub fn new(
        store: Store,
        pf: Arc<dyn Pf>,
        platform: Arc<dyn Platform>,
        geoip: Arc<GeoIp>,
        url_tables: Arc<UrlTables>,
        root: impl Into<PathBuf>,
        services: Services,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                machine: Arc::new(Machine::new(pf, platform, geoip, url_tables, root.into())),
                turn: AsyncMutex::new(()),
                services,
                service_turns: Default::default(),
                soon: Default::default(),
                restart_soon: Default::default(),
                soon_error: Default::default(),
                open: Mutex::default(),
                pending: Mutex::default(),
                pf_status: Mutex::default(),
                network: network::Network::default(),
            }),
        }
    }

    pub fn machine(&self) -> &Arc<Machine> {
        &self.inner.machine
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Waits until no apply is under way.
    pub async fn settled(&self) {
        drop(self.inner.turn.lock().await);
    }

    /// At start-up: pf on, the configuration that was applied last loaded, the network made as it says; edits that were pending before
    /// a restart are pending after it. A revert that came due while the process was down happens here.
    pub async fn start(&self) -> Result<Report, ApplyError> {
        let turn = self.inner.turn.lock().await;
        self.on_machine(|machine| machine.pf.set_enabled(true))
            .await
            .map_err(|error| ApplyError::Step { step: "pf".into(), reason: error.to_string() })?;
        // Rules first, so that no interface comes up unfiltered; again when they can name its addresses.
        let mut outcome = self.load_applied().await;
        let applied = self.inner.store.snapshot().applied.clone();
        let before = self.facts().await;
        self.make_network(&applied).await;
        if outcome.is_err() || self.facts().await != before {
            outcome = self.load_applied().await;
        }
        drop(turn);
        self.refresh_pending();
        self.revert_if_due().await;
        outcome
    }

    /// `POST /reload`: aliases, geo-IP, filter rules and NAT as stored. What fails stays pending, and the
    /// rules that were loaded before stay loaded.
    pub async fn reload(
        &self,
        author: &Author,
        admin: Option<AdminConnection>,
    ) -> Result<Report, ApplyError> {
        let _turn = self.inner.turn.lock().await;
        let target = self.inner.store.snapshot().config.clone();
        let compiled = self.compile(&target).await?;
        self.refuse_lockout(&compiled, &target, admin).await?;
        if let Some(admin) = self.guarded(admin) {
            let (before, after) = (self.inner.store.snapshot().applied.clone(), target.clone());
            self.on_machine(move |machine| lockout::check_network(machine, &before, &after, admin)).await?;
        }
        self.inner.machine.url_tables.refresh_all();
        let mut report = self.load_compiled(&target, compiled).await?;
        let audit = applied_audit(&report);
        let before = self.inner.store.snapshot().applied.clone();
        let after = target.clone();
        let outcome = self
            .inner
            .store
            .commit(author, move |draft: &mut Draft| {
                draft.applied = target;
                draft.audit.extend(audit);
                Ok::<(), ApplyError>(())
            })
            .await;
        self.refresh_pending();
        match outcome {
            Ok(()) => {
                report.warnings.extend(self.follow_with_network(&before, &after).await);
                report.warnings.extend(self.follow_with_host(&before, &after).await);
                Ok(report)
            }
            Err(CommitError::Refused(error)) => Err(error),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Changes the stored configuration and makes the machine match at once (import, restore, revert), or
    /// leaves both as they were. `change` edits `draft.config`; `draft.applied` is set here.
    pub async fn replace<E, F>(
        &self,
        author: &Author,
        admin: Option<AdminConnection>,
        change: F,
    ) -> Result<Report, ReplaceError<E>>
    where
        E: Send + 'static,
        F: FnOnce(&mut Draft) -> Result<(), E> + Send + 'static,
    {
        self.replace_both(author, admin, move |draft| {
            change(draft)?;
            draft.applied = draft.config.clone();
            Ok(())
        })
        .await
    }

    /// As [`Applier::replace`], `change` setting `draft.applied` itself: what it sets is what is loaded.
    pub async fn replace_both<E, F>(
        &self,
        author: &Author,
        admin: Option<AdminConnection>,
        change: F,
    ) -> Result<Report, ReplaceError<E>>
    where
        E: Send + 'static,
        F: FnOnce(&mut Draft) -> Result<(), E> + Send + 'static,
    {
        let _turn = self.inner.turn.lock().await;
        let machine = self.inner.machine.clone();
        let store = self.inner.store.clone();
        let guarded = self.guarded(admin);
        // Compiled and checked inside the commit, so that what is refused was never stored; loaded after it,
        // so that what is in force is on disk. A load that fails takes the commit back.
        let (before, after, compiled) = store
            .commit(author, move |draft: &mut Draft| {
                let before = draft.base().clone();
                change(draft).map_err(ReplaceError::Refused)?;
                let compiled = machine.compile_at(&draft.applied, &draft.config, Timestamp::now())?;
                machine.check(&compiled)?;
                if let Some(admin) = guarded {
                    lockout::check(&machine, &compiled, &draft.applied, admin)?;
                    lockout::check_network(&machine, &before.applied, &draft.applied, admin)?;
                }
                draft.audit.extend(applied_audit(&Report::default()));
                let after = (draft.config.clone(), draft.applied.clone());
                Ok::<_, ReplaceError<E>>((before, after, compiled))
            })
            .await?;
        match self.load_compiled(&after.1, compiled).await {
            Ok(mut report) => {
                report.warnings.extend(self.follow_with_network(&before.applied, &after.1).await);
                report.warnings.extend(self.follow_with_services(&before.applied, &after.1).await);
                report.warnings.extend(self.follow_with_host(&before.applied, &after.1).await);
                self.refresh_pending();
                Ok(report)
            }
            Err(error) => {
                self.take_back(&before, &after, "pf refused to load it").await;
                self.refresh_pending();
                Err(error.into())
            }
        }
    }

    /// What is stored becomes what it was `before`, where it is still as it was left `after`.
    async fn take_back(&self, before: &Arc<Snapshot>, after: &(Config, Config), why: &'static str) {
        let (before, after) = (before.clone(), after.clone());
        let back = self.inner.store.commit(&Author::system("system"), move |draft: &mut Draft| {
            let unreadable = |error: RowError| StoreError::Read(error.to_string());
            draft.config.take_back(&before.config, &after.0).map_err(unreadable)?;
            draft.applied.take_back(&before.applied, &after.1).map_err(unreadable)?;
            draft.take_back_ledger(&before.ledger);
            draft.audit.push(NewAudit {
                action: "config_changed",
                source: "engine",
                details: format!("taken back: {why}"),
                ..NewAudit::default()
            });
            Ok::<(), ApplyError>(())
        });
        if let Err(failure) = back.await {
            log::error!("taking a configuration back: {failure}");
        }
    }

    /// Changes something that acts at once without applying other pending edits (block logging): `change`
    /// edits a configuration, and is run on both the stored and the applied one.
    pub async fn amend<E, F>(
        &self,
        author: &Author,
        audit: NewAudit,
        change: F,
    ) -> Result<Report, ReplaceError<E>>
    where
        E: Send + 'static,
        F: Fn(&mut Config) -> Result<(), E> + Send + 'static,
    {
        self.replace_both(author, None, move |draft| {
            change(&mut draft.config)?;
            change(&mut draft.applied)?;
            draft.audit.push(audit);
            Ok(())
        })
        .await
    }

    /// Gives pf the limits and time-outs of the applied configuration, and nothing else: rules and states stay.
    pub async fn tune(&self) -> Result<(), ApplyError> {
        let _turn = self.inner.turn.lock().await;
        let settings = self.inner.store.snapshot().applied.firewall.clone();
        let text = compile::tuning(&settings).to_string();
        let set = self.on_machine(move |machine| machine.pf.set_options(&text)).await;
        set.map_err(|error| ApplyError::Step { step: "limits".into(), reason: error.to_string() })
    }

    /// Fills the pf table of one stored alias at once; rules stay as they are. `former` is a name that it had
    /// before; costs nothing for all the other aliases.
    pub async fn fill_alias(&self, alias: Id, former: Option<TableName>) -> Result<(), ApplyError> {
        let _turn = self.inner.turn.lock().await;
        let snapshot = self.inner.store.snapshot();
        self.on_machine(move |machine| {
            machine.fill_alias(&snapshot.config, &snapshot.applied, alias, former.as_ref())
        })
        .await
    }

    async fn on_machine<T: Send + 'static>(&self, f: impl FnOnce(&Machine) -> T + Send + 'static) -> T {
        let machine = self.inner.machine.clone();
        blocking::unblock(move || f(&machine)).await
    }

    async fn compile(&self, config: &Config) -> Result<Compiled, ApplyError> {
        let config = config.clone();
        self.on_machine(move |machine| {
            let compiled = machine.compile(&config)?;
            machine.check(&compiled)?;
            Ok(compiled)
        })
        .await
    }

    /// Loads what was applied last; aliases are as they are stored.
    async fn load_applied(&self) -> Result<Report, ApplyError> {
        let snapshot = self.inner.store.snapshot();
        let applied = snapshot.applied.clone();
        let compiled = self
            .on_machine(move |machine| {
                machine.compile_at(&snapshot.applied, &snapshot.config, Timestamp::now())
            })
            .await?;
        self.load_compiled(&applied, compiled).await
    }

    /// Loads what was compiled and checked.
    async fn load_compiled(&self, config: &Config, compiled: Compiled) -> Result<Report, ApplyError> {
        let open = schedules::open(config, Timestamp::now());
        let report = self.on_machine(move |machine| machine.load_checked(&compiled)).await?;
        *self.inner.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        Ok(report)
    }

    /// The lock-out check counts unless the administrator has said so, or a commit-confirm will undo it.
    fn guarded(&self, admin: Option<AdminConnection>) -> Option<AdminConnection> {
        admin.filter(|admin| !admin.confirmed && !self.confirm_status().active)
    }

    async fn refuse_lockout(
        &self,
        compiled: &Compiled,
        config: &Config,
        admin: Option<AdminConnection>,
    ) -> Result<(), ApplyError> {
        let Some(admin) = self.guarded(admin) else { return Ok(()) };
        let (compiled, config) = (compiled.clone(), config.clone());
        self.on_machine(move |machine| lockout::check(machine, &compiled, &config, admin)).await
    }

    /// Every minute: when the set of open schedules has changed, the applied rules are loaded again, and the
    /// states of rules whose window has closed are killed.
    pub async fn schedule_tick(&self, now: Timestamp) -> Result<bool, ApplyError> {
        let _turn = self.inner.turn.lock().await;
        let snapshot = self.inner.store.snapshot();
        let applied = snapshot.applied.clone();
        let after = schedules::open(&applied, now);
        let before = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if before == after {
            return Ok(false);
        }
        let closed = schedules::closed_rules(&applied, &before, &after);
        self.on_machine(move |machine| {
            machine.load(&machine.compile_at(&snapshot.applied, &snapshot.config, now)?)?;
            machine.kill_states_of(closed);
            Ok::<(), ApplyError>(())
        })
        .await?;
        *self.inner.open.lock().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(true)
    }

    /// Runs for the life of the process: schedules at each minute, URL tables at their intervals, pending
    /// flags after each commit, and a pf that was flushed by hand loaded again.
    pub async fn run(self) {
        let revisions = self.inner.store.watch();
        let pending = async {
            while revisions.recv().await.is_ok() {
                self.refresh_pending();
            }
        };
        let minutes = async {
            loop {
                let now = Timestamp::now();
                let into = now.as_millisecond().rem_euclid(60_000) as u64;
                async_io::Timer::after(Duration::from_millis(60_000 - into)).await;
                if let Err(error) = self.schedule_tick(Timestamp::now()).await {
                    log::error!("schedules: {error}");
                }
            }
        };
        use futures_lite::future::zip;
        let own = zip(zip(self.run_url_tables(), self.run_network()), self.run_confirm());
        zip(zip(pending, minutes), zip(own, self.run_pf_watch())).await;
    }

    async fn run_url_tables(&self) {
        let changes = self.inner.store.watch();
        loop {
            let config = self.inner.store.snapshot().config.clone();
            let (due, next) = self.inner.machine.url_tables.due(&config);
            let idle = due.is_empty();
            // Side by side: a server that does not answer holds up nobody else's list.
            let fetches: Vec<_> = due
                .into_iter()
                .map(|alias| {
                    let machine = self.inner.machine.clone();
                    (alias.clone(), blocking::unblock(move || machine.url_tables.refresh(&alias)))
                })
                .collect();
            for (alias, changed) in fetches {
                if changed.await
                    && let Err(error) = self.fill_alias(alias.id, None).await
                {
                    log::error!("URL table {}: {error}", alias.name);
                }
            }
            if !idle {
                // When those are due again is known only now.
                continue;
            }
            let wait = async {
                match next {
                    Some(at) => async_io::Timer::at(at).await,
                    None => futures_lite::future::pending().await,
                };
                true
            };
            let woken = self.inner.machine.url_tables.woken();
            let poke = async { woken.recv().await.is_ok() };
            let change = async { changes.recv().await.is_ok() };
            if !futures_lite::future::or(wait, futures_lite::future::or(change, poke)).await {
                return;
            }
        }
    }
}

/// The two audit entries of a load: filter and NAT (contract/live.md §8).
fn applied_audit(report: &Report) -> [NewAudit; 2] {
    let detail = |step: &str, anchor: &str, what: &str| {
        let found = report.steps.iter().find(|done| done.step == step);
        let count = found.and_then(|done| done.detail.split(' ').next()).unwrap_or("the");
        format!("{count} {what} applied to anchor {anchor}")
    };
    let entry =
        |source, details| NewAudit { action: "rules_applied", source, details, ..NewAudit::default() };
    [
        entry("engine", detail("filter", "aifw", "rules")),
        entry("nat_engine", detail("nat", "aifw-nat", "NAT rules")),
    ]
}
