//! Requests per second over HTTP: an empty tide route on our listener, and real routes against it in the same
//! run. `cargo bench --bench http`; `AIFW_BENCH_SECONDS` (default 4) per figure.
//!
//! Beside the rate stands the server's processor time per answer, which says more where the machine is shared.
//!
//! The load comes from a process of its own (this program again): one thread that keeps 64 connections busy, so
//! that the server is measured and not the client's switching between threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api::server::{Limits, Listen, Server};
use aifw::api::{self, Access, App, Call, Reply, Route, testing};
use aifw::config::rule::{Action, Direction, Endpoint, IpVersion, Protocol};
use aifw::config::{Id, PortRange, Rule, Timestamp};
use aifw::live::{self, Live};
use aifw::store::{Author, Draft};
use serde_json::json;

const CONNECTIONS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--load") {
        let [address, path, token, seconds] = &arguments[at + 1..at + 5] else {
            panic!("--load ADDRESS PATH TOKEN SECONDS")
        };
        println!("{}", load(address.parse().unwrap(), path, token, seconds.parse().unwrap()));
        return;
    }
    let seconds: f64 = std::env::var("AIFW_BENCH_SECONDS").map_or(4.0, |text| text.parse().unwrap());

    let mut empty = tide::new();
    empty.at("/empty").get(|_| async { Ok("") });
    let base = figure("empty tide route", empty.clone(), "/empty", "", seconds, None);

    let nothing = Route::new("GET", "/empty", Access::Public, "", async |_: Call| Ok(Reply::message("")));
    let bare = tempfile::tempdir().unwrap();
    let app = api::app(Arc::new(testing::bare_app(bare.path())), vec![nothing]);
    figure("public route of the table, no work", app, "/api/v1/empty", "", seconds, Some(base));

    for (number, rules) in [10, 1_000, 10_000].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (app, token) = smol::block_on(appliance(dir.path(), rules));
        if number == 0 {
            figure("GET /auth/me", app.clone(), "/api/v1/auth/me", &token, seconds, Some(base));
            figure("GET /status", app.clone(), "/api/v1/status", &token, seconds, Some(base));
        }
        let name = format!("GET /rules, {rules} rules");
        figure(&name, app, "/api/v1/rules", &token, seconds, Some(base));
    }
    figure("empty tide route, once more", empty, "/empty", "", seconds, Some(base));
}

/// The whole API over a store with so many rules, with its real authentication and a signed-in administrator.
async fn appliance(dir: &Path, rules: usize) -> (tide::Server<api::Api>, String) {
    let app = testing::guarded(testing::bare_app(dir)).await;
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
    let fill = move |draft: &mut Draft| {
        for number in 0..rules {
            draft.config.rules.insert(rule(number, draft.now));
        }
        Ok::<(), Infallible>(())
    };
    app.store.commit(&Author::system("bench"), fill).await.unwrap();
    let server = api::app(app, api::routes());
    let client = testing::Client::new(server.clone());
    let admin = json!({ "username": "admin", "password": "TestPass123" });
    assert_eq!(client.post("/auth/register").json(&admin).await.0, 201);
    let (_, login) = client.post("/auth/login").json(&admin).await;
    let token = login["access_token"].as_str().unwrap().to_owned();
    let (status, list) = client.get("/rules").bearer(&token).await;
    assert_eq!((status, list["data"].as_array().map(Vec::len)), (200, Some(rules)), "{list}");
    (server, token)
}

fn rule(number: usize, now: Timestamp) -> Rule {
    Rule {
        id: Id::from_u128(0x1234_5678_0000_4000_8000_0000_0000_0000 + number as u128),
        priority: u16::try_from(number % 10_000).unwrap(),
        action: Action::Pass,
        direction: Direction::In,
        ip_version: IpVersion::Both,
        interface: Some("em0".parse().unwrap()),
        protocol: Protocol::Tcp,
        src: Endpoint::default(),
        dst: Endpoint {
            addr: "192.0.2.10".parse().unwrap(),
            port: Some(PortRange::new(443, 443).unwrap()),
            ..Endpoint::default()
        },
        log: number.is_multiple_of(7),
        quick: true,
        label: None,
        description: Some(format!("Rule number {number} of the benchmark")),
        gateway: None,
        state: Default::default(),
        status: Default::default(),
        schedule_id: None,
        created_at: now,
        updated_at: now,
    }
}

/// Measures one path, prints it and gives requests per second.
fn figure<S: Clone + Send + Sync + 'static>(
    name: &str,
    app: tide::Server<S>,
    path: &str,
    token: &str,
    seconds: f64,
    base: Option<f64>,
) -> f64 {
    let listen = [Listen::Plain("127.0.0.1:0".parse().unwrap())];
    let server = Server::start(app, &listen, Limits::default(), 0).unwrap();
    let address = server.addresses()[0].to_string();
    let client = |seconds: f64| -> f64 {
        let program = std::env::current_exe().unwrap();
        let arguments = ["--load", &address, path, token, &seconds.to_string()];
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    client(0.5);
    let before = processor_time();
    let rate = client(seconds);
    let cost = (processor_time() - before).as_secs_f64() / (rate * seconds) * 1e6;
    let share = base.map_or(String::new(), |base| format!("{:>4.0} %", rate / base * 100.0));
    println!("{name:<44} {rate:>9.0}/s {cost:>6.1} µs {share}");
    rate
}

/// Processor time that this process, the server, has used.
fn processor_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .sum()
}

/// Asks for `path` on all connections, one request after the other on each, and gives answers per second.
fn load(address: SocketAddr, path: &str, token: &str, seconds: f64) -> f64 {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
    );
    let mut clients: Vec<(TcpStream, Vec<u8>)> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            (stream, Vec::new())
        })
        .collect();
    let started = Instant::now();
    let mut answers = 0_u64;
    while started.elapsed() < Duration::from_secs_f64(seconds) {
        for (stream, _) in &mut clients {
            stream.write_all(request.as_bytes()).unwrap();
        }
        for (stream, buffer) in &mut clients {
            read_answer(stream, buffer);
            answers += 1;
        }
    }
    answers as f64 / started.elapsed().as_secs_f64()
}

/// Reads one answer with a `content-length`; anything but a 200 is an error.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let total = end + 4 + length.parse::<usize>().unwrap();
            while buffer.len() < total {
                let count = stream.read(&mut chunk).unwrap();
                assert!(count > 0, "the server has closed the connection");
                buffer.extend_from_slice(&chunk[..count]);
            }
            buffer.drain(..total);
            return;
        }
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server has closed the connection");
        buffer.extend_from_slice(&chunk[..count]);
    }
}
