//! The listener: HTTP/1.1 on TCP, TLS and the local socket, in front of the tide application. It has its own
//! threads, and limits (see [`Limits`]) that keep a slow or huge client from costing anybody else anything.
//! Started by the supervisor and by the sandbox.

mod answer;
mod body;
mod connection;
mod head;
mod limits;
mod local;
mod registry;
pub mod tls;
pub mod websocket;
mod wire;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::FutureExt;
use smol::Executor;

pub use limits::Limits;
pub use tls::{Pem, Tls, TlsError};

use super::Peer;
use registry::{Guard, Phase, Registry};
use wire::Shared;

/// Where to listen.
#[derive(Clone)]
pub enum Listen {
    /// TLS.
    Tls(SocketAddr, Tls),
    /// Plain HTTP, on loopback only.
    Plain(SocketAddr),
    /// Plain HTTP on an address that others can reach: passwords and tokens cross the network in clear.
    PlainAnywhere(SocketAddr),
    /// The local socket, for root and the user we run as.
    Local(PathBuf),
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{0} can be reached by others: plain HTTP there must be allowed explicitly, or TLS be used")]
    PlainRefused(SocketAddr),
    #[error("cannot listen on {place}: {reason}")]
    Bind { place: String, reason: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A server that is running. Dropping it cuts all connections.
pub struct Server {
    addresses: Vec<SocketAddr>,
    registry: Arc<Registry>,
    /// Closed to stop accepting, and to stop the threads.
    accepting: Option<async_channel::Sender<()>>,
    running: Option<async_channel::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    files: Vec<local::SocketFile>,
}

enum Bound {
    Tcp(Async<TcpListener>, Option<Tls>),
    Local(Async<std::os::unix::net::UnixListener>),
}

impl Server {
    /// Binds every place, then serves `app` on `threads` threads of its own (0 = one per processor, at most 8).
    /// When this returns, connections are accepted.
    pub fn start<S>(
        app: tide::Server<S>,
        places: &[Listen],
        limits: Limits,
        threads: usize,
    ) -> Result<Self, ServerError>
    where
        S: Clone + Send + Sync + 'static,
    {
        let registry = Registry::new(limits);
        let mut bound = Vec::new();
        let mut addresses = Vec::new();
        let mut files = Vec::new();
        for place in places {
            match place {
                Listen::Plain(address) if !address.ip().to_canonical().is_loopback() => {
                    return Err(ServerError::PlainRefused(*address));
                }
                Listen::Plain(address) | Listen::PlainAnywhere(address) | Listen::Tls(address, _) => {
                    let failed = |reason| ServerError::Bind { place: address.to_string(), reason };
                    let listener = Async::<TcpListener>::bind(*address).map_err(failed)?;
                    addresses.push(listener.get_ref().local_addr().map_err(failed)?);
                    let tls = if let Listen::Tls(_, tls) = place { Some(tls.clone()) } else { None };
                    bound.push(Bound::Tcp(listener, tls));
                }
                Listen::Local(path) => {
                    let failed = |reason| ServerError::Bind { place: path.display().to_string(), reason };
                    let (listener, file) = local::bind(path).map_err(failed)?;
                    bound.push(Bound::Local(Async::new(listener).map_err(failed)?));
                    files.push(file);
                }
            }
        }
        let (accepting, stop_accepting) = async_channel::bounded(1);
        let (running, stop) = async_channel::bounded::<()>(1);
        let executor = Arc::new(Executor::new());
        executor.spawn(tick(registry.clone())).detach();
        for listener in bound {
            let work = Acceptor { app: app.clone(), registry: registry.clone(), executor: executor.clone() };
            let stop = stop_accepting.clone();
            executor
                .spawn(async move {
                    let ended = async {
                        // Only ever closed.
                        let _ = stop.recv().await;
                    };
                    work.accept(listener).or(ended).await;
                })
                .detach();
        }
        let mut server = Self {
            addresses,
            registry,
            accepting: Some(accepting),
            running: Some(running),
            threads: Vec::new(),
            files,
        };
        let available = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let count = if threads == 0 { available.min(8) } else { threads };
        for number in 0..count {
            let (executor, stop) = (executor.clone(), stop.clone());
            let thread = std::thread::Builder::new().name(format!("http-{number}")).spawn(move || {
                // Ends when the channel is closed.
                let _ = async_io::block_on(executor.run(stop.recv()));
            });
            server.threads.push(thread.map_err(ServerError::Thread)?);
        }
        Ok(server)
    }

    /// The TCP addresses that are listened on, in the order of the places, with their real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
    /// Open connections.
    pub fn connections(&self) -> usize {
        self.registry.open()
    }

    /// Accepts nothing more, lets requests that are being worked on finish for as long as `grace`, then cuts
    /// what is left. Blocks.
    pub fn shutdown(mut self, grace: Duration) {
        self.accepting = None;
        self.files.clear();
        self.registry.close();
        let deadline = Instant::now() + grace;
        while self.registry.open() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting = None;
        self.registry.close();
        self.registry.cut();
        self.running = None;
        for thread in self.threads.drain(..) {
            // A thread that has panicked has been logged by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Keeps time, as long as the server lives.
async fn tick(registry: Arc<Registry>) {
    let every = registry.limits.tick();
    loop {
        Timer::after(every).await;
        registry.sweep();
    }
}

struct Acceptor<S> {
    app: tide::Server<S>,
    registry: Arc<Registry>,
    executor: Arc<Executor<'static>>,
}

impl<S: Clone + Send + Sync + 'static> Acceptor<S> {
    async fn accept(&self, listener: Bound) {
        loop {
            let result = match &listener {
                Bound::Tcp(listener, tls) => {
                    listener.accept().await.map(|(stream, address)| self.tcp(stream, address, tls.as_ref()))
                }
                Bound::Local(listener) => listener.accept().await.map(|(stream, _)| self.local(stream)),
            };
            if let Err(error) = result {
                // Out of descriptors, or a client that left before it was accepted: others may still come.
                log::warn!("a connection could not be accepted: {error}");
                Timer::after(Duration::from_millis(50)).await;
            }
        }
    }

    fn tcp(&self, stream: Async<TcpStream>, address: SocketAddr, tls: Option<&Tls>) {
        if let Err(error) = stream.get_ref().set_nodelay(true) {
            log::debug!("{address}: TCP_NODELAY: {error}");
        }
        let local = stream.get_ref().local_addr().ok();
        let peer = Peer::Tcp { peer: address, local, tls: tls.is_some() };
        let stream = Shared(Arc::new(stream));
        let Some(guard) = self.registry.admit(Some(address.ip()), Box::new(stream.clone())) else {
            log::debug!("{address}: refused, too many connections");
            return;
        };
        let app = self.app.clone();
        match tls {
            None => self.run(connection::serve(stream, guard, peer, app)),
            Some(tls) => {
                let acceptor = tls.acceptor();
                self.run(async move {
                    if let Some(stream) = handshake(acceptor, stream, &guard).await {
                        connection::serve(stream, guard, peer, app).await;
                    }
                });
            }
        }
    }

    fn local(&self, stream: Async<std::os::unix::net::UnixStream>) {
        let Some(uid) = local::trusted_peer(stream.get_ref()) else {
            log::warn!("a process of another user has tried the local socket");
            return;
        };
        let stream = Shared(Arc::new(stream));
        let Some(guard) = self.registry.admit(None, Box::new(stream.clone())) else { return };
        self.run(connection::serve(stream, guard, Peer::Local { uid }, self.app.clone()));
    }

    /// Runs a connection. A panic ends it, and it alone.
    fn run(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let caught = async move {
            if AssertUnwindSafe(connection).catch_unwind().await.is_err() {
                log::error!("a connection's task has panicked");
            }
        };
        self.executor.spawn(caught).detach();
    }
}

type Encrypted = futures_rustls::server::TlsStream<Shared<TcpStream>>;

async fn handshake(
    acceptor: futures_rustls::TlsAcceptor,
    stream: Shared<TcpStream>,
    guard: &Guard,
) -> Option<Encrypted> {
    guard.enter(Phase::Handshake, guard.registry().limits.handshake);
    match acceptor.accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            log::debug!("TLS handshake: {error}");
            None
        }
    }
}
