//! The API's side of TLS as it is stored, certificate and oldest version: from the first handshake on, and after each
//! change without dropping a connection. Used by whoever opens a TLS listener.

use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future;

use crate::api::App;
use crate::api::server::{Pem, Tls, TlsError};
use crate::api::settings::tls::{certificate, min_version};
use crate::config::tls::TlsPolicy;

/// So often it is looked whether the files have been replaced.
const LOOK: Duration = Duration::from_secs(60);

/// TLS for a listener that is about to open, followed for the life of the process. `own` is shown as long as there is
/// no usable certificate in the configured place.
pub async fn as_stored(app: &Arc<App>, own: Pem) -> Result<Tls, TlsError> {
    let tls = Tls::new(&own)?;
    let changes = app.store.watch();
    let mut following =
        Following { app: app.clone(), own, tls: tls.clone(), policy: None, shown: String::new() };
    // Before anybody connects: a client that knows the configured certificate never meets another one.
    following.look().await;
    smol::spawn(async move {
        while following.change(&changes).await {
            following.look().await;
        }
    })
    .detach();
    Ok(tls)
}

struct Following {
    app: Arc<App>,
    own: Pem,
    tls: Tls,
    /// What was stored at the last look.
    policy: Option<Arc<TlsPolicy>>,
    /// The certificate that is shown.
    shown: String,
}

impl Following {
    /// Makes the listener's TLS as it is stored now.
    async fn look(&mut self) {
        let policy = self.app.store.snapshot().config.tls.clone();
        if self.policy.as_ref().is_none_or(|known| min_version(known) != min_version(&policy))
            && let Err(error) = self.tls.set_min_version(min_version(&policy))
        {
            log::error!("TLS of the API: {error}");
        }
        let pem = self.configured(&policy).await;
        if pem.certificate != self.shown {
            match self.tls.replace(&pem) {
                Ok(()) => {
                    self.app.local.set_certificate(pem.digest());
                    self.shown = pem.certificate;
                }
                Err(error) => log::error!("TLS of the API: {error}"),
            }
        }
        self.policy = Some(policy);
    }

    /// The configured certificate, else the appliance's own; why not is told once.
    async fn configured(&self, policy: &Arc<TlsPolicy>) -> Pem {
        let (app, wanted) = (self.app.clone(), policy.clone());
        match blocking::unblock(move || certificate(&app, &wanted)).await {
            Ok(pem) => pem,
            Err(error) => {
                let usual = TlsPolicy::default();
                let chosen = (&policy.cert_path, &policy.key_path) != (&usual.cert_path, &usual.key_path);
                if chosen && self.policy.as_ref() != Some(policy) {
                    log::error!("TLS of the API: {error}; its own certificate is shown");
                }
                self.own.clone()
            }
        }
    }

    /// Waits until there may be something else to show; false when the appliance ends. A commit that changed something
    /// else is no reason to read the files.
    async fn change(&self, changes: &async_channel::Receiver<u64>) -> bool {
        let look = async {
            Timer::after(LOOK).await;
            true
        };
        let change = async {
            while changes.recv().await.is_ok() {
                if Some(&self.app.store.snapshot().config.tls) != self.policy.as_ref() {
                    return true;
                }
            }
            false
        };
        future::or(look, change).await
    }
}
