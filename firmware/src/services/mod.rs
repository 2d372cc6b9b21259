//! The daemons: where each one's files go, how it is checked, started, known to be ready, reloaded and asked.
//! What the files say is `compile/`'s; that a process lives is `supervisor/`'s. [`Services`] holds one
//! [`Runner`] per daemon. Called by `apply/` (to make a daemon match a configuration), by `live/` and the API
//! (to look). Knows nothing of HTTP requests.

pub mod ai;
mod components;
pub mod dns_update;
pub mod dynamic_dns;
pub mod files;
pub mod ids;
pub mod logs;
pub mod mail;
pub mod rdhcpd;
pub mod rdns;
pub mod rtime;
mod runner;
pub mod sigv4;
pub mod sshd;
pub mod trafficcop;
pub mod valkey;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use components::Components;
pub use runner::{How, Report, Runner};

use crate::compile::os::host::SshPlaces;
use crate::compile::services::{Artifacts, Facts, ListenMap, Places};
use crate::compile::template::TemplateError;
use crate::config::{Config, ServiceKind};
use crate::platform::Platform;
use crate::supervisor::{ServiceSpec, Supervisor, SupervisorError};

/// Why a daemon was not made to match a configuration, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration is at fault: the daemon's own checker, or ours, says no. Nothing was touched.
    #[error("{0}")]
    Refused(String),
    #[error("{0} is not installed")]
    NotInstalled(&'static str),
    /// It did not come up with the new files. If `rolled_back`, it runs again with those it had before.
    #[error("{service} did not come up: {reason}{}", if *rolled_back { "; it runs as before" } else { "" })]
    NotReady { service: &'static str, reason: String, last_lines: Vec<String>, rolled_back: bool },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// It runs but its control socket or API says nothing useful.
    #[error("{service} does not answer: {reason}")]
    Unreachable { service: &'static str, reason: String },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Supervisor(SupervisorError),
}

impl ServiceError {
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), source }
    }
}

/// One daemon. All of it may block; called through `blocking::unblock`.
pub trait Daemon: Send + Sync + 'static {
    fn kind(&self) -> ServiceKind;

    /// The program that a configuration wants run, and what people call it; most services have one.
    fn program(&self, config: &Config, components: &Components) -> (PathBuf, &'static str) {
        let _ = config;
        (components.program(self.kind()), self.kind().label())
    }

    /// What it is given for a configuration. `facts.places` are the directories that the files will lie in:
    /// the live ones, or those of a rehearsal.
    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError>;

    /// Asks the daemon's own checker about files that were written to `places`, or starts it dry there. `Err`
    /// ([`ServiceError::Refused`]) carries the daemon's own words.
    fn check(&self, program: &Path, artifacts: &Artifacts, places: &Places) -> Result<(), ServiceError>;

    /// How it is run with these files.
    fn spec(&self, program: &Path, artifacts: &Artifacts, facts: &Facts) -> ServiceSpec;

    /// Makes the running daemon take these changed files (paths as in [`Artifacts::files`]) without a restart.
    /// `false` = it cannot; it is then restarted.
    fn reload(
        &self,
        changed: &[PathBuf],
        artifacts: &Artifacts,
        facts: &Facts,
    ) -> Result<bool, ServiceError> {
        let _ = (changed, artifacts, facts);
        Ok(false)
    }
}

/// What every daemon's spec starts from: its own directory, no colours in what it says, and in a sandbox a `/run`
/// of its own for lock files whose place it does not let one choose.
fn base_spec(kind: ServiceKind, program: &Path, facts: &Facts) -> ServiceSpec {
    let mut spec = ServiceSpec::new(kind.program(), program).env("NO_COLOR", "1");
    spec.directory = Some(facts.places.data.clone());
    spec.private_run = facts.sandbox.then(|| facts.places.run.join("private"));
    spec
}

/// The key of a daemon's own HTTP API: made once, kept beside its data.
pub fn api_key(places: &Places) -> Result<String, ServiceError> {
    // Two that find none would make one each.
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = places.data.join("api.key");
    match std::fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned()),
        _ => {
            let mut bytes = [0; 32];
            let made = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
            made.map_err(|_| ServiceError::io(&path, std::io::Error::other("no random numbers")))?;
            let key = data_encoding::HEXLOWER.encode(&bytes);
            files::write(&path, key.as_bytes(), 0o600)?;
            Ok(key)
        }
    }
}

/// What the services of a process need.
pub struct Setup {
    /// Everything of theirs lies below `<state_dir>/services/<daemon>`.
    pub state_dir: PathBuf,
    pub components: Components,
    pub platform: Arc<dyn Platform>,
    pub supervisor: Supervisor,
    pub listen: ListenMap,
    pub sandbox: bool,
    /// System files lie below it: `/` on the appliance.
    pub root: PathBuf,
    pub sshd: sshd::Programs,
    /// Blocklists may be fetched from private and loopback servers.
    pub inside_allowed: bool,
}

impl Setup {
    fn ssh_places(&self) -> SshPlaces {
        SshPlaces::of(&self.root, &self.state_dir)
    }
}

/// The daemons of this appliance. Clones share them.
#[derive(Clone)]
pub struct Services {
    inner: Arc<Inner>,
}

struct Inner {
    supervisor: Supervisor,
    runners: [Arc<Runner>; 5],
    time: rtime::Watch,
    ddns: rdhcpd::ddns::Ddns,
    ids: Arc<ids::Ids>,
    blocklists: Arc<rdns::blocklists::Blocklists>,
    dynamic_dns: Arc<dynamic_dns::DynamicDns>,
    mail: Arc<mail::Outbox>,
    valkey: Arc<valkey::Exporter>,
    sshd: sshd::Sshd,
}

impl Services {
    /// Takes the daemons under supervision, stopped.
    pub fn new(setup: Setup) -> Self {
        let setup = Arc::new(setup);
        let data = setup.state_dir.join("services").join(ServiceKind::Ids.program()).join("data");
        let intrusion = Arc::new(ids::Ids::open(data));
        let leases = rdns::lease_names(runner::places_of(&setup.state_dir, ServiceKind::Dhcp));
        // In the order of `ServiceKind::ALL`.
        let daemons: [Arc<dyn Daemon>; 5] = [
            Arc::new(rdns::Rdns::new(leases.clone())),
            Arc::new(rdhcpd::Rdhcpd::new(setup.supervisor.clone())),
            Arc::new(rtime::Rtime::default()),
            Arc::new(trafficcop::TrafficCop::new(setup.supervisor.clone())),
            Arc::new(ids::Suricata::new(intrusion.clone())),
        ];
        let supervisor = setup.supervisor.clone();
        let runners = daemons.map(|daemon| Arc::new(Runner::new(daemon, setup.clone())));
        let resolver = runners[ServiceKind::Dns as usize].clone();
        let blocklists = Arc::new(rdns::blocklists::Blocklists::new(resolver, leases, setup.inside_allowed));
        let (time, ddns) = (rtime::Watch::default(), Default::default());
        let published = setup.state_dir.join("ddns-published.json");
        let sshd = sshd::Sshd::new(supervisor.clone(), setup.ssh_places(), setup.sshd.clone());
        let inner = Inner {
            supervisor,
            runners,
            time,
            ddns,
            ids: intrusion,
            blocklists,
            dynamic_dns: Arc::new(dynamic_dns::DynamicDns::new(published, setup.platform.clone())),
            mail: Arc::default(),
            valkey: Arc::default(),
            sshd,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The SSH daemon.
    pub fn sshd(&self) -> &sshd::Sshd {
        &self.inner.sshd
    }

    pub fn supervisor(&self) -> &Supervisor {
        &self.inner.supervisor
    }

    pub fn runner(&self, kind: ServiceKind) -> &Arc<Runner> {
        // `ALL` and `runners` have one order, that of the enum.
        &self.inner.runners[kind as usize]
    }

    /// State of the clock and its sources, as far as it can be believed; `None` while the time daemon does not tell.
    /// `applied` is what it runs with. Blocks.
    pub fn time_state(&self, applied: &Config) -> Option<rtime::TimeState> {
        let runner = self.runner(ServiceKind::Time);
        let running = runner.is_running();
        let asked = running.then(|| rtime::ask(&applied.time, &runner.facts())).flatten();
        match asked {
            Some(mut state) => {
                let poll = |address: &str| rtime::poll(applied, address);
                self.inner.time.look(&mut state, poll, std::time::Instant::now());
                Some(state)
            }
            None => {
                self.inner.time.forget();
                None
            }
        }
    }

    /// What should not stay as it is with the clock, as of the last look at [`Services::time_state`].
    pub fn time_alarms(&self) -> Vec<String> {
        self.inner.time.alarms()
    }

    /// Names of DHCP clients in the DNS.
    pub fn ddns(&self) -> &rdhcpd::ddns::Ddns {
        &self.inner.ddns
    }

    /// Rules, alerts and blocked sources of the intrusion detection.
    pub fn ids(&self) -> &Arc<ids::Ids> {
        &self.inner.ids
    }

    /// Leases that are bound now; none while the DHCP server does not answer. `applied` is what it runs with. Blocks.
    pub fn bound_leases(&self, applied: &Config) -> Option<Vec<rdhcpd::Lease>> {
        let runner = self.runner(ServiceKind::Dhcp);
        if !runner.is_running() {
            return None;
        }
        rdhcpd::Client::new(applied, &runner.places()).and_then(|client| client.leases(Some("bound"))).ok()
    }

    /// One look at the leases for [`Services::ddns`]. Blocks.
    pub fn follow_leases(&self, applied: &Config) -> usize {
        let directory = || self.runner(ServiceKind::Dhcp).places().data;
        if !applied.dhcp_ddns.enabled {
            // What was entered while it was on goes.
            return self.ddns().follow(applied, &[], directory());
        }
        match self.bound_leases(applied) {
            Some(leases) => self.ddns().follow(applied, &leases, directory()),
            None => 0,
        }
    }

    /// The lists of names that the resolver blocks.
    pub fn blocklists(&self) -> &Arc<rdns::blocklists::Blocklists> {
        &self.inner.blocklists
    }

    /// Records that follow the appliance's addresses.
    pub fn dynamic_dns(&self) -> &Arc<dynamic_dns::DynamicDns> {
        &self.inner.dynamic_dns
    }

    /// Mails that are to be sent.
    pub fn mail(&self) -> &Arc<mail::Outbox> {
        &self.inner.mail
    }

    /// The export of metrics.
    pub fn valkey(&self) -> &Arc<valkey::Exporter> {
        &self.inner.valkey
    }

    /// Stops all of them.
    pub async fn shutdown(&self) {
        self.inner.supervisor.shutdown().await;
    }
}
