//! The composition: rooms put together to an appliance that answers. Called by `main`; nothing uses it.

pub mod ask;
mod background;
mod certificate;
mod ending;
mod listener_tls;
pub mod network_event;
pub mod outbound;
mod power_cycle;
pub mod sandbox;
pub mod supervise;
pub mod trial;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::console::{LocalState, configured};
use crate::api::server::{Limits, Listen, Server, ServerError};
use crate::api::{self, App};
use crate::apply::url_tables::UrlTables;
use crate::apply::{Applier, ApplyError};
use crate::auth::{Auth, AuthError};
use crate::config::Config;
use crate::config::setup::Admin;
use crate::live::fanout::StreamLimits;
use crate::live::sources::{DaemonViews, Intrusions, Sources, SystemLog};
use crate::live::syslog::LogRing;
use crate::live::{ApiCounters, Deps, Live, Producer};
use crate::pf::Pf;
use crate::platform::geoip::GeoIp;
use crate::platform::{Platform, PlatformError};
use crate::services::{self, Components, Services};
use crate::store::{Author, CommitError, Draft, NewAudit, Store, StoreError};
use crate::supervisor::Supervisor;
use crate::update::slots::Slots;
use crate::update::{self, UpdateError, Updater};

/// What differs between a sandbox and the real machine.
pub struct Parts {
    /// Holds the store, keys, series, databases.
    pub state_dir: PathBuf,
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
    pub auth: crate::auth::Options,
    /// Files that rules name are written below it.
    pub root: PathBuf,
    pub sshd: services::sshd::Programs,
    /// URL tables may be fetched from private and loopback servers.
    pub inside_allowed: bool,
    /// Where SSH keys that people have published are fetched.
    pub keys_url: String,
    /// Nothing is listened on, beside the local socket, until somebody has set the appliance up.
    pub listens_once_set_up: bool,
    pub components: Components,
    /// Where the daemons listen that are configured to listen somewhere.
    pub listen: crate::compile::services::ListenMap,
    /// The disk that the firmware is on.
    pub slots: Arc<dyn Slots>,
    /// Public keys of releases, one a line.
    pub release_keys: PathBuf,
    /// Why the store is none that lasts.
    pub emergency: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the updater: {0}")]
    Update(#[from] UpdateError),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("{what}: {reason}")]
    Input { what: String, reason: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// An appliance in this process. [`Appliance::start`] loads its rules and starts its tasks, [`Appliance::listen`]
/// lets requests in.
pub struct Appliance {
    pub app: Arc<App>,
    /// Until the start.
    producer: Mutex<Option<Producer>>,
}

impl Appliance {
    /// Opens the store and puts the rooms together.
    pub async fn assemble(parts: Parts) -> Result<Self, StartError> {
        if crate::platform::reset::carry_out(&parts.state_dir)? {
            log::warn!("{} was emptied: factory reset", parts.state_dir.display());
        }
        // Before the store is opened: it may be this firmware's only after this.
        let updater = Arc::new(Updater::begin(update::Options {
            slots: parts.slots,
            platform: parts.platform.clone(),
            state_dir: parts.state_dir.clone(),
            keys: parts.release_keys,
            version: update::running_version(&parts.root),
            simulated: parts.platform.kind() == "sandbox",
            reboot_marker: parts.root.join("var/run/reboot-required"),
            release_url: update::release::DEFAULT_URL.into(),
        })?);
        updater.watch_over_trial();
        if updater.worn_out() {
            updater.reject_boot("it ended again and again")?;
        }
        let store = Store::open(&parts.state_dir)?;
        let mut local = LocalState::new(&parts.state_dir);
        local.inside_allowed = parts.inside_allowed;
        local.keys_url = parts.keys_url;
        local.listens_once_set_up = parts.listens_once_set_up;

        let auth = Auth::new(store.clone(), &parts.state_dir, parts.auth)?;
        auth.start().await?;
        let traffic = Arc::new(ApiCounters::default());
        let geoip = Arc::new(GeoIp::new(parts.state_dir.join("geoip")));
        let services = Services::new(services::Setup {
            state_dir: parts.state_dir.clone(),
            components: parts.components,
            platform: parts.platform.clone(),
            supervisor: Supervisor::new(),
            listen: parts.listen,
            sandbox: parts.platform.kind() == "sandbox",
            // Daemons run in directories of their own.
            root: std::path::absolute(&parts.root)?,
            sshd: parts.sshd,
            inside_allowed: parts.inside_allowed,
        });
        let applier = Applier::new(
            store.clone(),
            parts.pf.clone(),
            parts.platform.clone(),
            geoip.clone(),
            Arc::new(UrlTables::new(parts.state_dir.join("url-tables"), parts.inside_allowed)),
            parts.root,
            services.clone(),
        );
        let (live, producer) = Live::prepare(Deps {
            store: store.clone(),
            pf: parts.pf.clone(),
            platform: parts.platform.clone(),
            counters: traffic.clone(),
            state_dir: Some(parts.state_dir),
            sources: Sources {
                ids: Some(Arc::new(Intrusions {
                    services: services.clone(),
                    store: store.clone(),
                    before: Default::default(),
                })),
                services: Some(Arc::new(DaemonViews { services: services.clone(), store: store.clone() })),
                countries: Some(geoip),
                system_log: LogRing::of_this_process().map(|ring| ring as Arc<dyn SystemLog>),
                ..Sources::default()
            },
            limits: StreamLimits::default(),
        });
        let app = App {
            after_write: vec![api::config::auto_snapshot(store.clone())],
            gate: Arc::new(auth.clone()),
            store,
            auth,
            pf: parts.pf,
            platform: parts.platform,
            applier,
            services,
            live,
            updater,
            traffic,
            local,
            emergency: parts.emergency,
        };
        Ok(Self { app: Arc::new(app), producer: Mutex::new(Some(producer)) })
    }

    /// Whether nothing was ever configured.
    pub fn is_new(&self) -> bool {
        !configured(&self.app.store.snapshot())
    }

    /// Waits until the appliance is set up, by whoever does it, and everything that follows from it is done. A setup
    /// whose rules pf refuses is taken back, and is none.
    pub async fn until_set_up(&self) {
        let commits = self.app.store.watch();
        loop {
            if !self.is_new() {
                self.app.applier.settled().await;
                if !self.is_new() {
                    return;
                }
            }
            // The store lives as long as this does; should it end, so does the wait.
            if commits.recv().await.is_err() {
                return;
            }
        }
    }

    /// Stores a first configuration, and its administrator if there is one.
    pub async fn set_up(&self, config: Config, admin: Option<Admin>) -> Result<(), StartError> {
        let author = Author::system("setup");
        let stored = self.app.store.commit(&author, move |draft: &mut Draft| {
            draft.config = config.clone();
            draft.applied = config;
            draft.audit.push(NewAudit {
                action: "config_changed",
                source: "setup",
                details: "first configuration stored".into(),
                ..NewAudit::default()
            });
            Ok::<(), StoreError>(())
        });
        stored.await.map_err(|error| match error {
            CommitError::Refused(error) | CommitError::Store(error) => error,
        })?;
        if let Some(admin) = admin {
            self.app.auth.create_admin(admin.into()).await?;
        }
        Ok(())
    }

    /// Loads the rules and starts what runs for the life of the process. A ruleset that pf refuses is reported;
    /// the appliance comes up all the same, with what pf holds.
    pub async fn start(&self) -> Result<(), ApplyError> {
        let outcome = self.app.applier.start().await;
        // Not earlier: the first sample is to show the rules that are in force.
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(producer) = producer {
            producer.start();
        }
        note(&self.app.store, "daemon_started", format!("aifw {} started", env!("CARGO_PKG_VERSION"))).await;
        smol::spawn(self.app.applier.clone().run()).detach();
        let applier = self.app.applier.clone();
        smol::spawn(async move { applier.start_services().await }).detach();
        background::start(&self.app);
        let auth = self.app.auth.clone();
        smol::spawn(async move { auth.housekeeping().await }).detach();
        outcome.map(|_| ())
    }

    /// Listens; when this returns, requests are answered.
    pub fn listen(&self, places: &[Listen], options: api::Options) -> Result<Server, ServerError> {
        let app = api::app_with(self.app.clone(), api::routes(), options);
        Server::start(app, places, Limits::default(), 0)
    }

    /// Finishes what is being worked on, and closes the store.
    pub async fn stop(self, servers: impl IntoIterator<Item = Server>) {
        let closing: Vec<_> = servers
            .into_iter()
            .map(|server| blocking::unblock(move || server.shutdown(Duration::from_secs(5))))
            .collect();
        for closed in closing {
            closed.await;
        }
        self.app.services.shutdown().await;
        // One that was never started would be waited for.
        drop(self.producer.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.app.live.stop().await;
        note(&self.app.store, "daemon_stopped", "aifw stopped".into()).await;
        self.app.store.close();
    }
}

async fn note(store: &Store, action: &'static str, details: String) {
    let author = Author::system("system");
    let noted = store.commit(&author, move |draft: &mut Draft| {
        draft.audit.push(NewAudit { action, source: "system", details, ..NewAudit::default() });
        Ok::<(), StoreError>(())
    });
    if let Err(error) = noted.await {
        log::error!("{action}: {error}");
    }
}

/// Reads a file that the command line names.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path)
        .map_err(|error| StartError::Input { what: path.display().to_string(), reason: error.to_string() })
}
