//! Requests per second over HTTP: an empty tide route on our listener, and routes of the appliance against it in
//! the same run. `cargo bench -p aifw --bench http`; `-- --quick` for a short run.
//!
//! The appliance is `aifw sandbox` in its own process, whole; the empty route is served by this process. The load
//! comes from a third one: one thread that keeps 64 connections busy. Beside the rate stands the server's
//! processor time per answer, which says more where the machine is shared.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aifw::api::server::{Limits, Listen, Server};
use aifw::api::{self, Access, Call, Reply, Route, testing};
use common::{Appliance, heading, quick, rate};

fn main() {
    if common::load_if_asked() {
        return;
    }
    let seconds = if quick() { 0.7 } else { 4.0 };
    heading(
        "Requests per second, 64 connections (and: server's processor time per answer, share of the empty route)",
    );

    let mut empty = tide::new();
    empty.at("/empty").get(|_| async { Ok("") });
    let base = here("empty tide route", empty.clone(), "/empty", seconds, None);

    let nothing = Route::new("GET", "/empty", Access::Public, "", async |_: Call| Ok(Reply::message("")));
    let bare = tempfile::tempdir().unwrap();
    let app = api::app(Arc::new(testing::bare_app(bare.path())), vec![nothing]);
    here("public route of the table, no work", app, "/api/v1/empty", seconds, Some(base));

    for (number, rules) in [10, 1_000, 10_000].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        common::fill(&state, rules);
        let appliance = Appliance::start(&state);
        let mut client = appliance.sign_in();
        let (status, list) = client.ask("GET", "/rules", None);
        assert_eq!((status, list["data"].as_array().map(Vec::len)), (200, Some(rules)));
        let there = |name: &str, path: &str| {
            let used = || appliance.processor_time();
            figure(name, appliance.address, path, &client.token, seconds, Some(base), &used);
        };
        if number == 0 {
            there("GET /auth/me", "/api/v1/auth/me");
            there("GET /status", "/api/v1/status");
        }
        there(&format!("GET /rules, {rules} rules"), "/api/v1/rules");
    }
    here("empty tide route, once more", empty, "/empty", seconds, Some(base));
}

/// Serves an application in this process and measures one path.
fn here<S: Clone + Send + Sync + 'static>(
    name: &str,
    app: tide::Server<S>,
    path: &str,
    seconds: f64,
    base: Option<f64>,
) -> f64 {
    let listen = [Listen::Plain("127.0.0.1:0".parse().unwrap())];
    let server = Server::start(app, &listen, Limits::default(), 0).unwrap();
    figure(name, server.addresses()[0], path, "", seconds, base, &|| Some(processor_time()))
}

/// Measures one path, prints it and gives requests per second.
fn figure(
    name: &str,
    address: SocketAddr,
    path: &str,
    token: &str,
    seconds: f64,
    base: Option<f64>,
    used: &dyn Fn() -> Option<Duration>,
) -> f64 {
    rate(address, path, token, seconds / 8.0);
    let before = used();
    let rate = rate(address, path, token, seconds);
    let cost = used().zip(before).map_or(String::new(), |(after, before)| {
        format!("{:.1} µs", (after - before).as_secs_f64() / (rate * seconds) * 1e6)
    });
    let share = base.map_or(String::new(), |base| format!("{:.0} %", rate / base * 100.0));
    common::line(name, format!("{rate:.0}/s"), format!("{cost:>9} {share:>6}"));
    rate
}

/// Processor time that this process has used.
fn processor_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .sum()
}
