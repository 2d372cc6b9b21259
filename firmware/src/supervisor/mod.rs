//! Child processes: start, wait until ready, watch, start again, stop, keep what they say. Knows nothing of
//! what the children are. One task per child; a child's fault never touches another child or the caller.

mod backoff;
mod child;
pub mod guardian;
mod log;
mod private_run;
mod reaper;
mod service;
mod spec;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use log::LogLine;
pub use reaper::become_reaper;
pub use service::{State, Status};
pub use spec::{
    Backoff, Limits, Listening, Liveness, Probe, RestartPolicy, ServiceSpec, SocketOpen, Started, from_here,
};

use nix::sys::signal::Signal;
use service::{Order, Service};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SupervisorError {
    #[error("no service {0:?}")]
    Unknown(String),
    #[error("{service} did not become ready: {reason}")]
    NotReady { service: String, reason: String },
    #[error("{0} is not running")]
    NotRunning(String),
    #[error("{0} is not installed")]
    NotInstalled(String),
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}

/// The supervisor. Clones share it.
#[derive(Clone, Default)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    services: RwLock<BTreeMap<String, Arc<Service>>>,
    listeners: Mutex<Vec<async_channel::Sender<()>>>,
}

impl Supervisor {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a child under supervision, stopped; or gives one that is known a new spec, which counts from its
    /// next start.
    pub fn define(&self, spec: ServiceSpec) {
        let mut services = self.inner.services.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.get(&spec.name) {
            service.set_spec(spec);
            return;
        }
        let name = spec.name.clone();
        let service = Service::new(spec);
        services.insert(name, service.clone());
        drop(services);
        let supervisor = self.clone();
        smol::spawn(async move { service.run(supervisor).await }).detach();
    }

    fn service(&self, name: &str) -> Result<Arc<Service>, SupervisorError> {
        let services = self.inner.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(name).cloned().ok_or_else(|| SupervisorError::Unknown(name.into()))
    }

    fn all(&self) -> Vec<Arc<Service>> {
        self.inner.services.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Starts a child (after those it depends on) and waits until it is ready.
    pub async fn start(&self, name: &str) -> Result<(), SupervisorError> {
        self.service(name)?.order(Order::Start).await
    }

    /// Stops a child: TERM, then KILL when its grace is over. Returns when it is gone.
    pub async fn stop(&self, name: &str) -> Result<(), SupervisorError> {
        self.service(name)?.order(Order::Stop).await
    }

    /// Stops a child if it runs, and starts it.
    pub async fn restart(&self, name: &str) -> Result<(), SupervisorError> {
        let service = self.service(name)?;
        service.order(Order::Stop).await?;
        service.order(Order::Start).await
    }

    /// Sends a signal to the child alone (HUP for a reload).
    pub fn signal(&self, name: &str, signal: Signal) -> Result<(), SupervisorError> {
        let pid = self.status(name)?.pid.ok_or_else(|| SupervisorError::NotRunning(name.into()))?;
        let sent =
            i32::try_from(pid).map(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal));
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(SupervisorError::NotRunning(name.into())),
        }
    }

    pub fn status(&self, name: &str) -> Result<Status, SupervisorError> {
        Ok(self.service(name)?.status())
    }

    /// Every child, by name.
    pub fn statuses(&self) -> Vec<Status> {
        self.all().iter().map(|service| service.status()).collect()
    }

    /// The newest lines a child has said, oldest first.
    pub fn log(&self, name: &str, lines: usize) -> Result<Vec<LogLine>, SupervisorError> {
        Ok(self.service(name)?.log().tail(lines))
    }

    /// Receives after each change of any child's state; several changes may come as one.
    pub fn watch(&self) -> async_channel::Receiver<()> {
        let (sender, receiver) = async_channel::bounded(1);
        self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    fn changed(&self) {
        let mut listeners = self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            !matches!(listener.try_send(()), Err(async_channel::TrySendError::Closed(())))
        });
    }

    /// Waits until a child's state is as `wanted` says.
    pub async fn wait_for(
        &self,
        name: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, SupervisorError> {
        let changes = self.watch();
        loop {
            let status = self.status(name)?;
            if wanted(&status) {
                return Ok(status);
            }
            changes.recv().await.map_err(|_| SupervisorError::ShuttingDown)?;
        }
    }

    /// Stops all children, those that depend on others first, and takes no more orders.
    pub async fn shutdown(&self) {
        let mut left = self.all();
        while !left.is_empty() {
            // Nobody who is left needs it: it may go.
            let needed: Vec<String> = left.iter().flat_map(|service| service.after()).collect();
            let (mut now, later): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|service| !needed.contains(&service.name));
            left = later;
            if now.is_empty() {
                // They need each other: all at once.
                now = std::mem::take(&mut left);
            }
            let stops: Vec<_> = now
                .into_iter()
                .map(|service| smol::spawn(async move { service.order(Order::End).await.ok() }))
                .collect();
            for stop in stops {
                stop.await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
