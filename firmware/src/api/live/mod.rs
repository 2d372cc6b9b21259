//! Status, about, metrics, connections, blocked packets, logs, pending changes, reload, and the streams
//! (contract/live.md). Everything is answered from what the room `live` knows already; only `/connections` and
//! the audit part of `/logs` look further, off the executor.

mod about;
mod blocked;
mod connections;
mod filter;
mod logs;
mod metrics;
mod pending;
mod prometheus;
mod status;
mod ws;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Access, ApiError, App, Call, Reply, Route};
use crate::auth::Caller;
use crate::config::Permission;
use crate::live::fanout::StreamPermit;

pub fn routes() -> Vec<Route> {
    let view = Access::Needs(Permission::DashboardView);
    let connections = Access::Needs(Permission::ConnectionsView);
    vec![
        Route::new("GET", "/status", view, "State of the packet filter and number of rules", status::status)
            .answers::<status::StatusAnswer>(200),
        Route::new("GET", "/about", view, "Version, build, memory, and what this build serves", about::about)
            .answers::<about::About>(200),
        Route::new("GET", "/metrics", view, "Counters, as JSON or in Prometheus' format", metrics::metrics)
            .answers::<metrics::Metrics>(200)
            .with_query(&[("format", "`json` (default) or `prometheus`")]),
        Route::new("GET", "/metrics/list", view, "Names of the recorded series", metrics::list)
            .answers::<metrics::Names>(200),
        Route::new("GET", "/metrics/series", view, "Points of one series, or of several", metrics::series)
            .answers::<metrics::SeriesAnswer>(200)
            .with_query(&[
                ("name", "one series"),
                ("names", "up to 16 series, separated by commas; the answer is then `{\"series\":[…]}`"),
                ("range_secs", "how far back, in seconds (default 1800); decides the resolution"),
                ("limit", "newest points only"),
            ]),
        Route::new(
            "GET",
            "/connections",
            connections,
            "States of the packet filter",
            connections::connections,
        )
        .answers::<Rows<crate::live::view::Connection<'static>>>(200)
        .with_query(&[
            ("limit", "default 1000, at most 10000"),
            ("offset", "rows to skip"),
            ("protocol", "`tcp`, `udp`, `icmp` …"),
            ("addr", "address or network of either end"),
            ("port", "port of either end"),
            ("iface", "interface"),
        ]),
        Route::new("GET", "/blocked", connections, "Packets that the packet filter logged", blocked::blocked)
            .answers::<Rows<crate::live::blocked::BlockedView<'static>>>(200)
            .with_query(&[
                ("limit", "default 1000, at most 10000"),
                ("offset", "rows to skip"),
                ("action", "`block` (default), `pass` or `all`"),
                ("src", "address or network of the source"),
                ("dst", "address or network of the destination"),
                ("port", "port of either end"),
                ("iface", "interface"),
                ("protocol", "`tcp`, `udp`, `icmp` …"),
                ("since", "RFC 3339 time or Unix seconds"),
            ]),
        Route::new(
            "GET",
            "/logs",
            Access::Needs(Permission::LogsView),
            "Audit, packet and system log",
            logs::logs,
        )
        .answers::<Rows<logs::LogEntry>>(200)
        .with_query(&[
            ("limit", "default 100, at most 1000"),
            ("offset", "rows to skip"),
            ("type", "`audit` (default), `pf`, `system` or `all`"),
            ("action", "exact action"),
            ("q", "text that the details contain"),
        ]),
        Route::new("GET", "/pending", view, "Stored changes that are not applied", pending::pending)
            .answers::<crate::apply::Pending>(200),
        Route::new("GET", "/pending/stream", view, "The same as Server-Sent Events", pending::stream)
            .with_ticket(),
        Route::new(
            "POST",
            "/reload",
            Access::Needs(Permission::RulesWrite),
            "Applies the stored rules, NAT and aliases",
            pending::reload,
        )
        .takes::<pending::ReloadRequest>()
        .answers::<pending::Reloaded>(200)
        .without_snapshot(),
        Route::new("GET", "/ws", view, "WebSocket: history, then a tick every second", ws::ws)
            .answers::<()>(101)
            .with_ticket(),
    ]
}

/// `{"data": […], "total": n}`, written straight to bytes: lists here can be long.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rows<T> {
    data: Vec<T>,
    /// Rows before paging.
    total: usize,
}

impl<T: Serialize> Rows<T> {
    fn reply(data: Vec<T>, total: usize) -> Reply {
        Reply::json(&Self { data, total }).with_header("X-Total-Count", total.to_string())
    }
}

/// A place for one more open stream of this caller, or 429.
pub(in crate::api) fn stream_permit(call: &Call) -> Result<StreamPermit, ApiError> {
    let user = call.caller()?.user_id;
    call.app
        .live
        .streams()
        .open(user)
        .map_err(|refusal| ApiError::new(429, refusal.to_string()).with_header("Retry-After", "5"))
}

/// How often the caller of an open stream is looked at again.
pub(in crate::api) const RECHECK: Duration = Duration::from_secs(10);

/// The caller of an open stream as of now; `None` ends the stream: the credential no longer counts, or the
/// caller has lost a permission. (The client comes again with what it may do then.)
pub(in crate::api) fn current(app: &App, caller: &Caller) -> Option<Caller> {
    app.gate.current(caller).filter(|now| now.permissions.covers(caller.permissions))
}
