//! Requests per second over HTTP: an empty tide route on our listener, and real routes against it in the same
//! run. `cargo bench --bench http`; `AIFW_BENCH_SECONDS` (default 4) per figure.
//!
//! Beside the rate stands the server's processor time per answer, which says more where the machine is shared.
//!
//! The load comes from a process of its own (this program again): one thread that keeps 64 connections busy, so
//! that the server is measured and not the client's switching between threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api::server::{Limits, Listen, Server};
use aifw::api::{self, Access, Call, Reply, Route, testing};

const CONNECTIONS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--load") {
        let [address, path, seconds] = &arguments[at + 1..at + 4] else {
            panic!("--load ADDRESS PATH SECONDS")
        };
        println!("{}", load(address.parse().unwrap(), path, seconds.parse().unwrap()));
        return;
    }
    let seconds: f64 = std::env::var("AIFW_BENCH_SECONDS").map_or(4.0, |text| text.parse().unwrap());

    let mut empty = tide::new();
    empty.at("/empty").get(|_| async { Ok("") });
    let base = figure("empty tide route", empty, "/empty", seconds, None);

    let dir = tempfile::tempdir().unwrap();
    let app = Arc::new(testing::bare_app(dir.path()));
    let shared: Arc<[u8]> = vec![b'x'; 5 * 1024].into();
    let table = vec![
        Route::new("GET", "/empty", Access::Authenticated, "", async |_: Call| Ok(Reply::message(""))),
        Route::new("GET", "/list", Access::Authenticated, "", move |_: Call| {
            let body = shared.clone();
            async move { Ok(Reply::shared(api::reply::JSON, body)) }
        }),
    ];
    let server = api::app(app, table);
    figure("route of the table, no work", server.clone(), "/api/v1/empty", seconds, Some(base));
    figure("route of the table, shared body of 5 KiB", server, "/api/v1/list", seconds, Some(base));
}

/// Measures one path, prints it and gives requests per second.
fn figure<S: Clone + Send + Sync + 'static>(
    name: &str,
    app: tide::Server<S>,
    path: &str,
    seconds: f64,
    base: Option<f64>,
) -> f64 {
    let listen = [Listen::Plain("127.0.0.1:0".parse().unwrap())];
    let server = Server::start(app, &listen, Limits::default(), 0).unwrap();
    let address = server.addresses()[0].to_string();
    let client = |seconds: f64| -> f64 {
        let program = std::env::current_exe().unwrap();
        let arguments = ["--load", &address, path, &seconds.to_string()];
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
fn load(address: SocketAddr, path: &str, seconds: f64) -> f64 {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer all\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
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
