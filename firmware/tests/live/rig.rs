//! An appliance for a test: a store in a temporary directory, a packet filter, live data whose seconds are either
//! the test's own ([`Rig::by_hand`]) or real ([`Rig::running`]), and a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api::console::LocalState;
use aifw::api::testing::{Client, ListGate};
use aifw::api::{self, ApiError, App, Gate};
use aifw::apply::{Applier, url_tables::UrlTables};
use aifw::auth::Auth;
use aifw::config::rule::{Action, Direction, Endpoint, IpVersion, Protocol, StateOptions, Status};
use aifw::config::{Config, Id, PortRange, Rule};
use aifw::live::fanout::StreamLimits;
use aifw::live::sampler::{Moment, Sampler};
use aifw::live::sources::Sources;
use aifw::live::{ApiCounters, Deps, Live};
use aifw::pf::Pf;
use aifw::platform::geoip::GeoIp;
use aifw::platform::sandbox::Sandbox;
use aifw::store::{Author, Draft, NewAudit, Store};

use crate::stand_in::StandIn;

#[derive(Default)]
pub struct Options {
    pub sources: Sources,
    pub limits: StreamLimits,
    /// `None` = [`ListGate`].
    pub gate: Option<Arc<dyn Gate>>,
    /// `None` = the stand-in.
    pub pf: Option<Arc<dyn Pf>>,
    /// Real authentication keeps the gate.
    pub authenticates: bool,
}

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub pf: Arc<StandIn>,
    pub live: Live,
    pub auth: Auth,
    pub client: Client,
    pub server: tide::Server<api::Api>,
    sampler: Option<Sampler>,
    now: Moment,
}

impl Rig {
    pub fn by_hand() -> Self {
        Self::new(Options::default(), false)
    }
    pub fn running() -> Self {
        Self::new(Options::default(), true)
    }
    pub fn new(options: Options, running: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self::over(dir, store, options, running)
    }
    pub fn over(dir: tempfile::TempDir, store: Store, options: Options, running: bool) -> Self {
        let pf = Arc::new(StandIn::default());
        let dyn_pf: Arc<dyn Pf> = options.pf.unwrap_or_else(|| pf.clone());
        let platform = Arc::new(Sandbox::new(dir.path()));
        let counters = Arc::new(ApiCounters::default());
        let deps = Deps {
            store: store.clone(),
            pf: dyn_pf.clone(),
            platform: platform.clone(),
            counters: counters.clone(),
            state_dir: Some(dir.path().to_owned()),
            sources: options.sources,
            limits: options.limits,
        };
        let (live, sampler) = match running {
            true => (Live::start(deps), None),
            false => {
                let (live, sampler) = Live::by_hand(deps);
                (live, Some(sampler))
            }
        };
        let services = aifw::api::testing::no_daemons(dir.path(), platform.clone());
        let applier = Applier::new(
            store.clone(),
            dyn_pf.clone(),
            platform.clone(),
            Arc::new(GeoIp::new(dir.path().join("geoip"))),
            Arc::new(UrlTables::new(dir.path().join("url-tables"), false)),
            "/",
            services.clone(),
        );
        smol::spawn(applier.clone().run()).detach();
        let auth = Auth::new(store.clone(), dir.path(), Default::default()).unwrap();
        let gate: Arc<dyn Gate> = match (options.gate, options.authenticates) {
            (Some(gate), _) => gate,
            (None, true) => Arc::new(auth.clone()),
            (None, false) => Arc::new(ListGate),
        };
        let updated = platform.clone();
        let app = Arc::new(App {
            store: store.clone(),
            auth: auth.clone(),
            pf: dyn_pf,
            platform,
            gate,
            applier,
            services,
            live: live.clone(),
            after_write: Vec::new(),
            traffic: counters,
            emergency: None,
            updater: aifw::api::testing::updater(dir.path(), updated),
            local: LocalState::new(dir.path()),
        });
        let server = api::app(app, api::routes());
        let client = Client::new(server.clone()).with_bearer("all");
        let now = Moment { unix_ms: 1_800_000_000_000, at: Instant::now() };
        Self { dir, store, pf, live, auth, client, server, sampler, now }
    }

    /// The next second passes.
    pub async fn second(&mut self) {
        self.seconds(1).await;
    }
    pub async fn seconds(&mut self, count: u64) {
        for _ in 0..count {
            self.now.unix_ms += 1000;
            self.now.at += Duration::from_secs(1);
            self.sampler.as_mut().unwrap().tick(self.now).await;
        }
    }

    /// Stores a rule as `POST /rules` does: object and audit entry in one commit.
    pub async fn add_rule(&self) -> Id {
        let id = Id::new_v4();
        let rule = rule(id);
        self.store
            .commit(&Author::system("tester"), move |draft: &mut Draft| {
                draft.config.rules.insert(rule);
                draft.audit.push(NewAudit {
                    action: "rule_added",
                    source: "engine",
                    details: "pf: block drop in quick proto tcp from any to any port 22".into(),
                    rule_id: Some(id),
                    ..NewAudit::default()
                });
                Ok::<(), ApiError>(())
            })
            .await
            .unwrap();
        id
    }

    pub async fn remove_rule(&self, id: Id) {
        self.change(move |config| {
            config.rules.remove(&id);
        })
        .await;
    }

    /// Stores a change of the configuration.
    pub async fn change(&self, change: impl FnOnce(&mut Config) + Send + 'static) {
        let change = move |draft: &mut Draft| {
            change(&mut draft.config);
            Ok::<(), ApiError>(())
        };
        self.store.commit(&Author::system("tester"), change).await.unwrap();
    }
}

pub fn rule(id: Id) -> Rule {
    let now = jiff::Timestamp::now();
    Rule {
        id,
        priority: 100,
        action: Action::BlockDrop,
        direction: Direction::In,
        ip_version: IpVersion::Both,
        interface: None,
        protocol: Protocol::Tcp,
        src: Endpoint::default(),
        dst: Endpoint { port: PortRange::new(22, 22).ok(), ..Endpoint::default() },
        log: false,
        quick: true,
        label: None,
        description: None,
        gateway: None,
        state: StateOptions::default(),
        status: Status::Active,
        schedule_id: None,
        created_at: now,
        updated_at: now,
    }
}
