//! `GET /metrics`, `/metrics/list`, `/metrics/series`.

use schemars::JsonSchema;
use serde::Serialize;

use super::prometheus;
use crate::api::{ApiError, Call, Reply};
use crate::live::series::{Name, Point, SeriesStore, UnknownSeries};

/// Series in one request.
const MOST_NAMES: usize = 16;
const DEFAULT_RANGE_SECS: u64 = 1800;

#[derive(Debug, Serialize, JsonSchema)]
pub struct Metrics {
    pf_running: bool,
    pf_states_count: u64,
    pf_rules_count: u64,
    pf_packets_in: u64,
    pf_packets_out: u64,
    pf_bytes_in: u64,
    pf_bytes_out: u64,
    aifw_rules_total: u64,
    aifw_rules_active: u64,
    aifw_nat_rules_total: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Names {
    names: Vec<&'static str>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct SeriesAnswer {
    name: &'static str,
    /// `live`, `short`, `mid` or `long`.
    tier: &'static str,
    interval_secs: u32,
    /// Oldest first.
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct SeveralSeries {
    series: Vec<SeriesAnswer>,
}

/// Whether the client wants Prometheus' format: it says so, or accepts plain text and not JSON.
fn wants_prometheus(call: &Call) -> Result<bool, ApiError> {
    match call.query("format") {
        Some("prometheus") => Ok(true),
        Some("json") => Ok(false),
        Some(_) => Err(ApiError::bad_request("format: expected json or prometheus")),
        None => {
            let accept = call.header("accept").unwrap_or_default();
            Ok(accept.contains("text/plain") && !accept.contains("application/json"))
        }
    }
}

pub async fn metrics(call: Call) -> Result<Reply, ApiError> {
    let prometheus = wants_prometheus(&call)?;
    let sample = call.app.live.sample().await;
    if prometheus {
        return Ok(Reply::bytes(
            200,
            prometheus::CONTENT_TYPE,
            prometheus::exposition(&call, sample.as_deref()),
        ));
    }
    let status = call.app.live.status();
    Ok(Reply::json(&Metrics {
        pf_running: status.pf_running,
        pf_states_count: status.pf_states,
        pf_rules_count: status.pf_rules,
        pf_packets_in: status.packets_in,
        pf_packets_out: status.packets_out,
        pf_bytes_in: status.bytes_in,
        pf_bytes_out: status.bytes_out,
        aifw_rules_total: status.aifw_rules,
        aifw_rules_active: status.aifw_active_rules,
        aifw_nat_rules_total: status.nat_rules,
    }))
}

pub async fn list(_: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&Names { names: Name::ALL.iter().map(|name| name.as_str()).collect() }))
}

pub async fn series(call: Call) -> Result<Reply, ApiError> {
    let range = call.query_as::<u64>("range_secs", "a non-negative integer")?.unwrap_or(DEFAULT_RANGE_SECS);
    let limit = call.query_as::<usize>("limit", "a non-negative integer")?;
    let parse = |text: &str| {
        text.parse::<Name>().map_err(|UnknownSeries(name)| ApiError::not_found(format!("series {name:?}")))
    };
    let answer = |store: &SeriesStore, name: Name| {
        let (tier, points) = store.points(name, range, limit);
        SeriesAnswer { name: name.as_str(), tier: tier.name, interval_secs: tier.interval_secs, points }
    };
    match (call.query("names"), call.query("name")) {
        (Some(names), _) => {
            let texts: Vec<&str> = names.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
            if texts.is_empty() || texts.len() > MOST_NAMES {
                return Err(ApiError::bad_request(format!(
                    "names: expected 1 to {MOST_NAMES} names of series"
                )));
            }
            let names = texts.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
            let store = call.app.live.series();
            let series = names.into_iter().map(|name| answer(&store, name)).collect();
            drop(store);
            Ok(Reply::json(&SeveralSeries { series }))
        }
        (None, Some(name)) if !name.is_empty() => {
            let name = parse(name)?;
            let found = answer(&call.app.live.series(), name);
            Ok(Reply::json(&found))
        }
        _ => Err(ApiError::bad_request("name: expected the name of a series")),
    }
}
