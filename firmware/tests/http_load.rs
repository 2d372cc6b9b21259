//! Load on loopback: WebSocket clients that only listen and busy HTTP clients side by side, without an error and with bounded
//! memory. Some seconds by default; `AIFW_LOAD_SECONDS=60` for the full minute.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aifw::api::server::Limits;
use aifw::api::testing::bare_app;
use aifw::api::{self, Access, App, Call, Reply, Route};
use aifw::live::{self, Live};
use futures_lite::StreamExt;
use wire::{Wire, serve};

const IDLE: usize = 500;
const BUSY: usize = 64;

/// Descriptors for both ends of every connection.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).unwrap();
}

/// Resident memory of this process in bytes, where the system tells it.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

#[test]
fn five_hundred_websockets_and_sixty_four_busy_clients() {
    raise_descriptor_limit();
    let seconds = std::env::var("AIFW_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let dir = tempfile::tempdir().unwrap();
    let list: Arc<[u8]> = vec![b'x'; 5 * 1024].into();
    let mut routes = api::routes();
    routes.extend([
        Route::new("GET", "/list", Access::Authenticated, "", move |_: Call| {
            let body = list.clone();
            async move { Ok(Reply::shared(api::reply::JSON, body)) }
        }),
        Route::new("POST", "/body", Access::Authenticated, "", async |call: Call| {
            Ok(Reply::data(&call.body.len()))
        }),
    ]);
    let app = bare_app(dir.path());
    let live = Live::start(live::Deps {
        store: app.store.clone(),
        pf: app.pf.clone(),
        platform: app.platform.clone(),
        counters: app.traffic.clone(),
        state_dir: None,
        sources: live::sources::Sources::default(),
        limits: live::fanout::StreamLimits::default(),
    });
    let app = Arc::new(App { live, ..app });
    let (server, address) = serve(api::app(app.clone(), routes), Limits::default());

    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicU64::new(0));
    let executor = Arc::new(smol::Executor::new());
    let sockets: Vec<_> = (0..IDLE)
        .map(|_| {
            let seen = seen.clone();
            executor.spawn(async move {
                let stream = smol::net::TcpStream::connect(address).await.unwrap();
                let url = format!("ws://{address}/api/v1/ws?ticket=abc");
                let (mut socket, _) = async_tungstenite::client_async(url, stream).await.unwrap();
                let history = socket.next().await.unwrap().unwrap().into_text().unwrap();
                assert!(history.starts_with(r#"{"type":"history""#), "{history}");
                loop {
                    let message = socket.next().await.unwrap().unwrap();
                    if message.is_text() {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let (end, ended) = async_channel::bounded::<()>(1);
    let watching = {
        let executor = executor.clone();
        std::thread::spawn(move || smol::block_on(executor.run(ended.recv())))
    };
    let busy = |stop: Arc<AtomicBool>| {
        std::thread::spawn(move || {
            let mut wires: Vec<Wire> = (0..BUSY / 4).map(|_| Wire::connect(address)).collect();
            let get = wire::request("GET", "/api/v1/list", &["Authorization: Bearer all"], b"");
            let status = wire::request("GET", "/api/v1/status", &["Authorization: Bearer all"], b"");
            let post = wire::request("POST", "/api/v1/body", &["Authorization: Bearer all"], &[b'x'; 2000]);
            let mut answers = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for (number, wire) in wires.iter_mut().enumerate() {
                    wire.send([&get, &status, &post, &status][number % 4]);
                }
                for wire in &mut wires {
                    assert_eq!(wire.answer().status, 200);
                    answers += 1;
                }
            }
            answers
        })
    };
    let started = Instant::now();
    while seen.load(Ordering::Relaxed) < IDLE as u64 {
        assert!(started.elapsed() < Duration::from_secs(60), "the sockets do not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = resident();
    let clients: Vec<_> = (0..4).map(|_| busy(stop.clone())).collect();
    let first = seen.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(seconds));
    assert!(server.connections() >= IDLE + BUSY, "{} connections", server.connections());
    stop.store(true, Ordering::Relaxed);
    let answers: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let ticks = seen.load(Ordering::Relaxed) - first;
    println!("{answers} answers and {ticks} ticks in {seconds} s; resident {before:?} to {:?}", resident());
    assert!(answers > 500 * seconds, "only {answers} answers");
    assert!(ticks >= IDLE as u64 * (seconds / 2), "only {ticks} ticks");
    assert_eq!(app.traffic.errors(), 0);
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(after < before + 64 * 1024 * 1024, "memory has grown from {before} to {after}");
        assert!(after < 256 * 1024 * 1024, "{after} bytes are resident");
    }
    drop(sockets);
    drop(end);
    watching.join().unwrap().ok();
    server.shutdown(Duration::from_secs(5));
}
