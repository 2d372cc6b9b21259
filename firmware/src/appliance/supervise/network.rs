//! The API on the network: TLS where the configuration says, and elsewhere when it says something else. An address that
//! the machine does not have yet is tried again until it has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use crate::api::console::Reached;
use crate::api::server::{Limits, Listen, Server, Tls};
use crate::api::{self, App, Options};
use crate::appliance::ending::Ending;
use crate::appliance::{StartError, certificate, listener_tls};

/// From an attempt to listen that has failed to the next.
const AGAIN: Duration = Duration::from_secs(5);
/// What is being answered when the address changes may be answered for so long.
const GRACE: Duration = Duration::from_secs(5);

/// The listener on the network.
pub struct Network {
    app: Arc<App>,
    /// Instead of what is configured.
    forced: Option<SocketAddr>,
    web_ui: Option<PathBuf>,
    report: Arc<Report>,
    tls: Option<Tls>,
    server: Option<Server>,
    /// What was configured when listening began.
    at: Option<SocketAddr>,
    /// The last failure, told once.
    told: String,
}

impl Network {
    pub fn new(
        app: &Arc<App>,
        forced: Option<SocketAddr>,
        web_ui: Option<PathBuf>,
        report: Arc<Report>,
    ) -> Self {
        Self {
            app: app.clone(),
            forced,
            web_ui,
            report,
            tls: None,
            server: None,
            at: None,
            told: String::new(),
        }
    }

    fn wanted(&self) -> SocketAddr {
        let snapshot = self.app.store.snapshot();
        let system = &snapshot.applied.system;
        self.forced.unwrap_or(SocketAddr::new(system.api_listen, system.api_port))
    }

    /// Listens where it is configured now; where it has listened before, nobody answers any more.
    pub async fn listen(&mut self) {
        let wanted = self.wanted();
        if self.at == Some(wanted) {
            return;
        }
        let mut outcome = self.bind(wanted).await;
        if outcome.is_err()
            && let Some(old) = self.server.take()
        {
            // It may stand in the way.
            self.at = None;
            blocking::unblock(move || old.shutdown(GRACE)).await;
            outcome = self.bind(wanted).await;
        }
        match outcome {
            Ok(server) => {
                let address = server.addresses().first().copied().unwrap_or(wanted);
                // In this order: a console that waits for the start asks for a login then.
                self.report.ok(&format!("API and web UI on https://{address}"));
                self.app.local.set_reached(Reached { tls: true, address });
                if let Some(old) = self.server.replace(server) {
                    blocking::unblock(move || old.shutdown(GRACE)).detach();
                }
                self.at = Some(wanted);
                self.told.clear();
            }
            Err(error) => {
                let text = error.to_string();
                if text != self.told {
                    self.report.error(&format!("the API: {text}; tried again every {} s", AGAIN.as_secs()));
                }
                self.told = text;
            }
        }
    }

    async fn bind(&mut self, address: SocketAddr) -> Result<Server, StartError> {
        let tls = match &self.tls {
            Some(known) => known.clone(),
            None => {
                let app = self.app.clone();
                let made = blocking::unblock(move || {
                    let names = certificate::names(&app.store.snapshot().applied);
                    certificate::own(&app.local.state_dir, &names)
                });
                let tls = listener_tls::as_stored(&self.app, made.await?).await;
                let tls = tls.map_err(|error| StartError::Input {
                    what: "certificate".into(),
                    reason: error.to_string(),
                })?;
                self.tls.insert(tls).clone()
            }
        };
        let shown = self.app.store.snapshot().applied.system.ui_enabled;
        let options = Options { ui: self.web_ui.clone().filter(|_| shown), ..Options::default() };
        let app = api::app_with(self.app.clone(), api::routes(), options);
        Ok(Server::start(app, &[Listen::Tls(address, tls)], Limits::default(), 0)?)
    }

    /// Follows the configuration for the life of the process.
    pub async fn follow(&mut self) -> Ending {
        let commits = self.app.store.watch();
        loop {
            self.listen().await;
            let commit = async { commits.recv().await.is_ok() };
            let again = async {
                match self.at {
                    Some(_) => futures_lite::future::pending().await,
                    None => async_io::Timer::after(AGAIN).await,
                };
                true
            };
            if !futures_lite::future::or(commit, again).await {
                // The store is closed: the end is near, and comes from elsewhere.
                return futures_lite::future::pending().await;
            }
        }
    }

    /// Where it answers, or ought to.
    pub fn door(&self) -> SocketAddr {
        let real = self.server.as_ref().and_then(|server| server.addresses().first().copied());
        real.unwrap_or_else(|| self.wanted())
    }

    pub fn into_server(self) -> Option<Server> {
        self.server
    }
}
