//! The network made as configured: interfaces, VLANs, routes, and the programs that listen to the network for them.
//! Settings of interfaces and routes act as soon as they are stored, VLANs with the next reload; all of it again at
//! each start. What an interface refuses is taken back; a route that the kernel does not take stays stored, and is told
//! (contract/network.md §1 to §3).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_io::Async;
use ipnet::IpNet;

use super::{AdminConnection, Applier, ApplyError, ReplaceError, lockout};
use crate::compile::os::network::{NetworkSettings, settings};
use crate::config::{Config, ServiceKind, network};
use crate::platform::{NetworkChild, NetworkReport};
use crate::store::{Author, Draft, NewAudit};
use crate::supervisor::{Backoff, ServiceSpec, SupervisorError};

/// What runs for the network's sake.
#[derive(Debug, Default)]
pub struct Network {
    children: Mutex<Vec<NetworkChild>>,
}

/// Addresses by interface: what rules and daemons depend on.
type Facts = BTreeMap<String, (bool, Vec<IpNet>)>;

/// The part of a report that makes a change be taken back; `None`: the change stays.
pub type Verdict = fn(&NetworkReport, &str) -> Option<String>;

/// A change that the interface it is about must take.
pub fn must_be_taken(report: &NetworkReport, interface: &str) -> Option<String> {
    report.problem_of(interface)
}

/// A change that stays, and what is wrong with it is told.
pub fn may_fail(_: &NetworkReport, _: &str) -> Option<String> {
    None
}

/// What a change of the network is about, and how hard.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The interface; empty for a route.
    pub interface: String,
    pub verdict: Verdict,
}

impl Applier {
    /// At start-up, and whenever the network itself has told something: as it was applied last.
    pub async fn apply_network(&self) -> NetworkReport {
        let _turn = self.inner.turn.lock().await;
        let applied = self.inner.store.snapshot().applied.clone();
        let before = self.facts().await;
        let report = self.make_network(&applied).await;
        if self.facts().await != before {
            self.follow_addresses().await;
        }
        report
    }

    /// What the interfaces have now.
    pub(super) async fn facts(&self) -> Facts {
        self.on_machine(|machine| {
            let interfaces = machine.platform.interfaces().unwrap_or_default();
            interfaces.into_iter().map(|held| (held.name, (held.up, held.addresses))).collect()
        })
        .await
    }

    /// Makes the machine's network as a configuration says. Whoever calls this has the turn.
    pub(super) async fn make_network(&self, config: &Config) -> NetworkReport {
        let wanted = settings(config);
        let children = self.children_of(&wanted).await;
        // Before its interface changes under it.
        self.stop_children(&children).await;
        let report = self.on_machine(move |machine| machine.platform.configure_network(&wanted)).await;
        for step in &report.steps {
            match &step.problem {
                None => log::info!("network: {}", step.what),
                Some(problem) => log::error!("network: {}: {problem}", step.what),
            }
        }
        self.start_children(children).await;
        report
    }

    async fn children_of(&self, wanted: &NetworkSettings) -> Vec<NetworkChild> {
        let wanted = wanted.clone();
        self.on_machine(move |machine| machine.platform.network_children(&wanted)).await
    }

    async fn stop_children(&self, wanted: &[NetworkChild]) {
        let mut gone = Vec::new();
        {
            let mut running = self.inner.network.children.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|child| {
                let stays = wanted.contains(child);
                if !stays {
                    gone.push(child.name.clone());
                }
                stays
            });
        }
        for name in gone {
            match self.inner.services.supervisor().stop(&name).await {
                Ok(()) | Err(SupervisorError::Unknown(_)) => {}
                Err(error) => log::error!("{name}: {error}"),
            }
        }
    }

    /// Started, and not waited for: a server may answer much later, or never.
    async fn start_children(&self, wanted: Vec<NetworkChild>) {
        let supervisor = self.inner.services.supervisor();
        for child in wanted {
            let known = {
                let running = self.inner.network.children.lock().unwrap_or_else(PoisonError::into_inner);
                running.contains(&child)
            };
            if known {
                continue;
            }
            let mut spec = ServiceSpec::new(&child.name, &child.program);
            spec.args = child.arguments.iter().map(Into::into).collect();
            spec.stale = child.stale.clone();
            // It ends when there is no signal on the line, and must be there when there is one.
            spec.backoff = Backoff {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(5),
                longest_of_ready: Duration::from_secs(5),
                attempts: u32::MAX,
                crashes: usize::MAX,
                ..Backoff::default()
            };
            supervisor.define(spec);
            if let Err(error) = supervisor.start(&child.name).await {
                log::error!("{}: {error}", child.name);
            }
            self.inner.network.children.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        }
    }

    /// Addresses have changed: rules that name them are loaded again, daemons that listen on them look again. Whoever
    /// calls this has the turn.
    pub(super) async fn follow_addresses(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Err(error) = self.load_applied().await {
            log::error!("after a change of addresses: {error}");
            warnings.push(error.to_string());
        }
        let applier = self.clone();
        smol::spawn(async move {
            for kind in ServiceKind::ALL {
                if applier.services().runner(kind).is_running()
                    && let Err(error) = applier.refresh_service(kind).await
                {
                    log::warn!("{} after a change of addresses: {error}", kind.label());
                }
            }
        })
        .detach();
        warnings
    }

    /// After the applied configuration was replaced: the network follows, if its part has changed. Whoever calls this
    /// has the turn.
    pub(super) async fn follow_with_network(&self, before: &Config, after: &Config) -> Vec<String> {
        if settings(before) == settings(after) {
            return Vec::new();
        }
        let known = self.facts().await;
        let report = self.make_network(after).await;
        let mut warnings: Vec<String> = report.problems().collect();
        if self.facts().await != known {
            warnings.extend(self.follow_addresses().await);
        }
        warnings
    }

    /// Changes the network in what is stored and in what is applied, and makes the machine follow at once. `change` is
    /// run on both configurations, and may refuse by the stored one; `ledger` may open a commit-confirm window. A
    /// change that would cut the caller off is refused before anything is stored; one that `subject` does not bear is
    /// taken back.
    pub async fn set_network<E, F, L>(
        &self,
        author: &Author,
        admin: Option<AdminConnection>,
        subject: Subject,
        ledger: L,
        change: F,
    ) -> Result<NetworkReport, ReplaceError<E>>
    where
        E: Send + 'static,
        F: Fn(&mut Config) -> Result<(), E> + Send + 'static,
        L: FnOnce(&mut Draft) -> Result<NewAudit, E> + Send + 'static,
    {
        let _turn = self.inner.turn.lock().await;
        let (machine, guarded) = (self.inner.machine.clone(), self.guarded(admin));
        let (before, after) = self
            .inner
            .store
            .commit(author, move |draft: &mut Draft| {
                let before = draft.base().clone();
                for config in [&mut draft.config, &mut draft.applied] {
                    network::materialise(config);
                    change(config).map_err(ReplaceError::Refused)?;
                    network::keep_in_step(config);
                }
                if let Some(admin) = guarded {
                    lockout::check_network(&machine, &before.applied, &draft.applied, admin)?;
                }
                let audit = ledger(draft).map_err(ReplaceError::Refused)?;
                draft.audit.push(audit);
                Ok::<_, ReplaceError<E>>((before, (draft.config.clone(), draft.applied.clone())))
            })
            .await?;
        let known = self.facts().await;
        let mut report = NetworkReport::default();
        if settings(&before.applied) != settings(&after.1) {
            report = self.make_network(&after.1).await;
        }
        if let Some(reason) = (subject.verdict)(&report, &subject.interface) {
            self.take_back(&before, &after, "the machine refused it").await;
            self.make_network(&before.applied).await;
            if self.facts().await != known {
                self.follow_addresses().await;
            }
            return Err(ApplyError::Step { step: "network".into(), reason }.into());
        }
        if self.facts().await != known || before.applied.system != after.1.system {
            // What pf did not take shows in its state; the network is as wanted.
            self.follow_addresses().await;
        }
        self.refresh_pending();
        Ok(report)
    }

    /// For the life of the process: what the network itself tells, and interfaces that come late.
    pub(super) async fn run_network(&self) {
        futures_lite::future::zip(self.run_network_events(), self.run_network_watch()).await;
    }

    /// Looks now and then whether an interface has come that settings name and that was missing: a card on USB, one
    /// whose driver was slow.
    async fn run_network_watch(&self) {
        const EVERY: Duration = Duration::from_secs(10);
        let mut missing = self.missing_interfaces().await;
        loop {
            async_io::Timer::after(EVERY).await;
            let now = self.missing_interfaces().await;
            let come: Vec<&String> = missing.difference(&now).collect();
            if !come.is_empty() {
                log::info!("network: {come:?} there now");
                self.apply_network().await;
            }
            missing = now;
        }
    }

    /// Names in the applied settings that this machine does not have.
    async fn missing_interfaces(&self) -> BTreeSet<String> {
        let wanted = settings(&self.inner.store.snapshot().applied);
        let parents = wanted.vlans.iter().map(|vlan| vlan.parent.to_string());
        let mut names: BTreeSet<String> =
            wanted.interfaces.iter().map(|setting| setting.name.to_string()).chain(parents).collect();
        self.facts().await.keys().for_each(|held| {
            names.remove(held);
        });
        names
    }

    /// Listens to the programs that run for the network's sake, for the life of the process.
    async fn run_network_events(&self) {
        let Some(path) = self.inner.machine.platform.network_socket() else { return };
        let listener = match listen(&path) {
            Ok(listener) => listener,
            Err(error) => return log::error!("{}: {error}", path.display()),
        };
        loop {
            match listener.accept().await {
                // Its end tells the other side that it is done.
                Ok((connection, _)) => {
                    self.apply_network().await;
                    drop(connection);
                }
                Err(error) => {
                    log::error!("{}: {error}", path.display());
                    async_io::Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Only for root: who connects makes the network be configured.
fn listen(path: &Path) -> std::io::Result<Async<UnixListener>> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Async::new(listener)
}
