//! What the supervisor is told of a child: how to start it, when it counts as ready, how it is stopped, and
//! what happens when it ends. Pure data.

use std::ffi::OsString;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Says whether a child does its work. Asked again and again until it does, or time is up.
pub trait Probe: Send + Sync {
    /// `Err` = why it is not ready yet.
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
    /// Whether it will not be ready however long one waits, for this reason that [`Probe::probe`] gave.
    fn is_final(&self, _reason: &str) -> bool {
        false
    }
}

/// Where this machine itself reaches what listens at an address: one that listens everywhere listens here, too.
/// (Linux takes 0.0.0.0 for the loopback address; FreeBSD 15 says that there is no route to it.)
pub fn from_here(listening: SocketAddr) -> SocketAddr {
    let host = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(host, listening.port())
}

/// Ready when something listens there.
#[derive(Debug, Clone, Copy)]
pub struct Listening(pub SocketAddr);

impl Probe for Listening {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let address = self.0;
        Box::pin(async move {
            let connected = async_io::Async::<std::net::TcpStream>::connect(from_here(address)).await;
            connected.map(drop).map_err(|error| format!("{address}: {error}"))
        })
    }
}

/// Ready when a Unix socket takes connections.
#[derive(Debug, Clone)]
pub struct SocketOpen(pub PathBuf);

impl Probe for SocketOpen {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let path = self.0.clone();
        Box::pin(async move {
            let connected = async_io::Async::<std::os::unix::net::UnixStream>::connect(&path).await;
            connected.map(drop).map_err(|error| format!("{}: {error}", path.display()))
        })
    }
}

/// Ready as soon as it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Started;

impl Probe for Started {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async { Ok(()) })
    }
}

/// When a child that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    #[default]
    Always,
    /// Not after an exit with status 0.
    OnFailure,
    Never,
}

/// How long to wait before the next start, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart; doubled for each one that follows soon.
    pub first: Duration,
    /// The longest wait of a child that does not even become ready.
    pub longest: Duration,
    /// The longest wait of a child that had been ready: its work is missed.
    pub longest_of_ready: Duration,
    /// A child that ran this long starts from `first` again.
    pub steady_after: Duration,
    /// This many ends in a row without having been ready, and it is left alone, as `failed`.
    pub attempts: u32,
    /// So is one that ends this often within `window`.
    pub crashes: usize,
    pub window: Duration,
    /// A failed child is tried once more after so long, again and again. `None`: only when somebody starts it.
    pub retry_after: Option<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(30),
            longest_of_ready: Duration::from_secs(1),
            steady_after: Duration::from_secs(10),
            attempts: 6,
            crashes: 100,
            window: Duration::from_secs(600),
            retry_after: Some(Duration::from_secs(300)),
        }
    }
}

/// The readiness probe, asked again while a child runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    pub every: Duration,
    /// An answer that takes longer is none.
    pub within: Duration,
    /// So many missing answers in a row, and it is stopped and started again.
    pub misses: u32,
}

/// Resource limits (setrlimit(2)); `None` = as the supervisor's own. One that is higher than this process may set
/// becomes as high as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub open_files: Option<u64>,
    /// Bytes of address space.
    pub address_space: Option<u64>,
    /// No core file is written unless set.
    pub core_files: bool,
}

/// A child.
#[derive(Clone)]
pub struct ServiceSpec {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Added to an otherwise empty environment (`PATH` is kept).
    pub env: Vec<(OsString, OsString)>,
    pub directory: Option<PathBuf>,
    /// Runs as this user, with its groups; needs root.
    pub user: Option<String>,
    /// On Linux: it sees this directory as `/run` (and so `/var/run`), where programs keep lock files whose
    /// place cannot be chosen, so that several can run on one development host. Elsewhere it means nothing.
    pub private_run: Option<PathBuf>,
    pub limits: Limits,
    pub readiness: Arc<dyn Probe>,
    /// Not ready by then: it is stopped, which counts as a crash.
    pub ready_within: Duration,
    /// How a child that runs but no longer works is found out; `None`: it is not asked again once it was ready.
    pub liveness: Option<Liveness>,
    pub restart: RestartPolicy,
    pub backoff: Backoff,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Left by an earlier run (sockets, pid files); removed before each start, so that they do not pass for the new
    /// one's.
    pub stale: Vec<PathBuf>,
    /// Started only when these are running.
    pub after: Vec<String>,
}

impl ServiceSpec {
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            user: None,
            private_run: None,
            limits: Limits::default(),
            readiness: Arc::new(Started),
            ready_within: Duration::from_secs(30),
            liveness: None,
            restart: RestartPolicy::default(),
            backoff: Backoff::default(),
            grace: Duration::from_secs(10),
            stale: Vec::new(),
            after: Vec::new(),
        }
    }
    /// Whether a process started by one would be like a process started by the other.
    pub fn runs_like(&self, other: &Self) -> bool {
        (&self.program, &self.args, &self.env, &self.directory, &self.user, self.limits)
            == (&other.program, &other.args, &other.env, &other.directory, &other.user, other.limits)
    }
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_at_the_loopback_address() {
        for (listening, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.168.1.1:80", "192.168.1.1:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
        ] {
            assert_eq!(from_here(listening.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
