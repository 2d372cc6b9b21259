//! Entry points, HTTP routers, services and middlewares of the proxy's file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::{Findings, normal, object, rows};
use crate::compile::services::Facts;
use crate::config::proxy::{
    EntryPoint, HttpRouter, HttpService, Middleware, Row, listen_address, rows::names, rule,
};
use crate::config::{BadValue, Config};

/// Types that the daemon reads but does not build: it lets every request through unprotected.
const UNPROTECTED: [&str; 5] = ["digestAuth", "forwardAuth", "jwt", "inFlightReq", "passTLSClientCert"];
/// Types that the daemon reads and forgets, without harm to what they guard.
const INERT: [&str; 8] =
    ["redirectRegex", "retry", "circuitBreaker", "buffering", "contentType", "grpcWeb", "errors", "compress"];

/// Where the proxy listens, and what goes to another place at once.
pub(super) struct Point {
    pub name: String,
    pub address: SocketAddr,
    /// As configured: what clients outside see.
    port: u16,
    /// Without what is done by routers of ours.
    pub config: Map<String, Value>,
    is_default: bool,
    redirect: Option<Map<String, Value>>,
}

pub(super) fn entry_points(
    stored: &[&Row<EntryPoint>],
    facts: &Facts,
    listens: &mut Vec<SocketAddr>,
    findings: &mut Findings,
) -> Vec<Point> {
    let mut points = Vec::new();
    for row in stored {
        let Ok(configured) = listen_address("address", &row.body.address) else {
            findings.error(format!("entry point {:?}: {:?} is no address", row.name, row.body.address));
            continue;
        };
        let address = facts.listen.at(configured);
        match listens.contains(&address) {
            true => {
                findings.error(format!("entry point {:?}: {configured} is taken by another one", row.name))
            }
            false => listens.push(address),
        }
        let mut config = Value::Object(object(&row.body.config_json));
        normal::drop_empty(&mut config);
        let redirect = config
            .pointer_mut("/http")
            .and_then(Value::as_object_mut)
            .and_then(|http| http.remove("redirections"))
            .and_then(|redirections| redirections.get("entryPoint").and_then(Value::as_object).cloned())
            .filter(|redirect| redirect.get("to").is_some() || redirect.get("scheme").is_some());
        let config = config.as_object().cloned().unwrap_or_default();
        points.push(Point {
            name: row.name.clone(),
            address,
            port: configured.port(),
            is_default: config.get("asDefault").and_then(Value::as_bool).unwrap_or(false),
            config,
            redirect,
        });
    }
    points
}

/// The entry points of a router that names none.
pub(super) fn default_points(points: &[Point]) -> Vec<String> {
    let marked: Vec<&Point> = points.iter().filter(|point| point.is_default).collect();
    let all = || points.iter().collect();
    let chosen: Vec<&Point> = if marked.is_empty() { all() } else { marked };
    chosen.into_iter().map(|point| point.name.clone()).collect()
}

/// What the file's `http` holds.
#[derive(Default)]
pub(super) struct Http {
    pub routers: Map<String, Value>,
    services: Map<String, Value>,
    middlewares: Map<String, Value>,
}

impl Http {
    /// Whether a server behind the proxy speaks plain HTTP/1.
    pub fn has_plain_servers(&self) -> bool {
        let servers = self.services.values().filter_map(|service| service.pointer("/loadBalancer/servers"));
        let urls = servers.filter_map(Value::as_array).flatten().filter_map(|server| server["url"].as_str());
        urls.into_iter().any(|url| url.starts_with("http://"))
    }

    pub fn section(self) -> Option<Value> {
        (!self.routers.is_empty() || !self.services.is_empty() || !self.middlewares.is_empty()).then(
            || json!({ "routers": self.routers, "services": self.services, "middlewares": self.middlewares }),
        )
    }
}

pub(super) fn compile(config: &Config, facts: &Facts, points: &[Point], findings: &mut Findings) -> Http {
    let mut http = Http::default();
    services(config, &mut http, findings);
    let stored: BTreeMap<&str, &Row<Middleware>> =
        rows::<Middleware>(config).into_iter().map(|row| (row.name.as_str(), row)).collect();
    for row in stored.values() {
        if let Some(value) = middleware(row, findings) {
            http.middlewares.insert(row.name.clone(), value);
        }
    }
    for row in rows::<HttpRouter>(config) {
        router(row, points, &stored, &mut http, findings);
    }
    redirects(points, facts, &mut http, findings);
    http
}

fn services(config: &Config, http: &mut Http, findings: &mut Findings) {
    let stored: BTreeMap<&str, &Row<HttpService>> =
        rows::<HttpService>(config).into_iter().map(|row| (row.name.as_str(), row)).collect();
    for row in stored.values() {
        match load_balancer(row, &stored, findings, 0) {
            Ok(body) => {
                let mut value = json!({ "loadBalancer": body });
                normal::drop_empty(&mut value);
                http.services.insert(row.name.clone(), value);
            }
            Err(BadValue(reason)) => findings.error(format!("HTTP service {:?}: {reason}", row.name)),
        }
    }
}

const DEEPEST: usize = 8;

/// The daemon balances between servers only: a choice of services becomes one list of servers, their weights scaled.
fn load_balancer(
    row: &Row<HttpService>,
    stored: &BTreeMap<&str, &Row<HttpService>>,
    findings: &mut Findings,
    depth: usize,
) -> Result<Map<String, Value>, BadValue> {
    if depth > DEEPEST {
        return Err(BadValue::new("services refer to each other in a circle"));
    }
    let body = object(&row.body.config_json);
    let member = |name: Option<&Value>| -> Result<&Row<HttpService>, BadValue> {
        let name = name.and_then(Value::as_str).unwrap_or_default();
        stored
            .get(name)
            .copied()
            .ok_or_else(|| BadValue::new(format!("references non-existent service {name:?}")))
    };
    let warn_once = |findings: &mut Findings, text: String| {
        if depth == 0 {
            findings.warn(text);
        }
    };
    match row.body.service_type.as_str() {
        "weighted" => {
            let members = body.get("services").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut parts = Vec::new();
            for one in &members {
                let weight = one.get("weight").and_then(Value::as_u64).unwrap_or(1);
                let inner = load_balancer(member(one.get("name"))?, stored, findings, depth + 1)?;
                let servers = inner.get("servers").and_then(Value::as_array).cloned().unwrap_or_default();
                if weight > 0 && !servers.is_empty() {
                    parts.push((weight, servers));
                }
            }
            if parts.is_empty() {
                return Err(BadValue::new("has no member with servers and a weight above 0"));
            }
            Ok(Map::from_iter([("servers".to_owned(), Value::Array(scaled(&parts)))]))
        }
        "mirroring" => {
            warn_once(
                findings,
                format!(
                    "HTTP service {:?}: this version of the daemon does not mirror; requests go to its main service only",
                    row.name
                ),
            );
            load_balancer(member(body.get("service"))?, stored, findings, depth + 1)
        }
        "failover" => {
            warn_once(
                findings,
                format!(
                    "HTTP service {:?}: this version of the daemon has no failover; requests go to its main service only",
                    row.name
                ),
            );
            load_balancer(member(body.get("service"))?, stored, findings, depth + 1)
        }
        _ => {
            if body.get("sticky").is_some_and(|sticky| !sticky.is_null()) {
                warn_once(
                    findings,
                    format!(
                        "HTTP service {:?}: sticky sessions are stored but not active in this version of the daemon",
                        row.name
                    ),
                );
            }
            Ok(body)
        }
    }
}

/// Servers of several services, each with its service's share: a service's weight is spread over its servers in
/// proportion to theirs.
fn scaled(parts: &[(u64, Vec<Value>)]) -> Vec<Value> {
    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let weight_of = |server: &Value| server.get("weight").and_then(Value::as_u64).unwrap_or(1).max(1);
    let sums: Vec<u64> = parts.iter().map(|(_, servers)| servers.iter().map(weight_of).sum()).collect();
    let common = sums.iter().fold(1_u64, |common, sum| (common / gcd(common, *sum)).saturating_mul(*sum));
    let mut all = Vec::new();
    for ((weight, servers), sum) in parts.iter().zip(&sums) {
        for server in servers {
            let mut server = server.clone();
            let share = weight.saturating_mul(weight_of(&server)).saturating_mul(common / sum);
            server["weight"] = json!(share);
            all.push(server);
        }
    }
    let divisor = all.iter().filter_map(|server| server["weight"].as_u64()).fold(0, gcd).max(1);
    for server in &mut all {
        server["weight"] = json!(server["weight"].as_u64().unwrap_or(1) / divisor);
    }
    all
}

/// A middleware; `None` for a chain, which is written out where it is used.
fn middleware(row: &Row<Middleware>, findings: &mut Findings) -> Option<Value> {
    let mut body = object(&row.body.config_json);
    let kind = row.body.middleware_type.as_str();
    match kind {
        "chain" => return None,
        "ipAllowList" | "ipWhiteList" | "ipDenyList" => {
            let ranges = body.get("sourceRange").and_then(Value::as_array).cloned().unwrap_or_default();
            let is_range = |range: &Value| {
                range.as_str().is_some_and(|text| {
                    text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
                })
            };
            for range in ranges.iter().filter(|range| !is_range(range)) {
                findings.error(format!(
                    "middleware {:?}: sourceRange: expected an address or a network, not {range}",
                    row.name
                ));
            }
            if ranges.is_empty() && kind != "ipDenyList" {
                findings.error(format!(
                    "middleware {:?}: sourceRange: expected at least one network; the daemon takes none for all",
                    row.name
                ));
            }
        }
        "headers" => normal::security_headers(&mut body),
        _ if INERT.contains(&kind) => findings.warn(format!(
            "middleware {:?}: {kind} is stored but not active in this version of the daemon",
            row.name
        )),
        _ => {}
    }
    let key = if kind == "passTLSClientCert" { "passTlsClientCert" } else { kind };
    let mut value = json!({ key: body });
    normal::drop_empty(&mut value);
    Some(value)
}

/// The middlewares that a router really gets: chains written out, in order.
fn expand(
    listed: &[String],
    stored: &BTreeMap<&str, &Row<Middleware>>,
    depth: usize,
    expanded: &mut Vec<String>,
) -> Result<(), BadValue> {
    if depth > DEEPEST {
        return Err(BadValue::new("middleware chains refer to each other in a circle"));
    }
    for name in listed {
        // A name may carry its provider: `auth@file`.
        let bare = name.split('@').next().unwrap_or_default();
        match stored.get(bare).filter(|row| row.body.middleware_type == "chain") {
            Some(chain) => {
                let members = object(&chain.body.config_json);
                let members =
                    members.get("middlewares").and_then(Value::as_array).cloned().unwrap_or_default();
                let members: Vec<String> =
                    members.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                expand(&members, stored, depth + 1, expanded)?;
            }
            None => expanded.push(bare.to_owned()),
        }
    }
    Ok(())
}

fn router(
    row: &Row<HttpRouter>,
    points: &[Point],
    stored: &BTreeMap<&str, &Row<Middleware>>,
    http: &mut Http,
    findings: &mut Findings,
) {
    let rule = match rule::parse_http(&row.body.rule) {
        Ok(rule) => rule.to_string(),
        Err(bad) => return findings.error(format!("HTTP router {:?}: rule: expected {bad}", row.name)),
    };
    let mut expanded = Vec::new();
    let listed = names(&row.body.middlewares).unwrap_or_default();
    if let Err(BadValue(reason)) = expand(&listed, stored, 0, &mut expanded) {
        return findings.error(format!("HTTP router {:?}: {reason}", row.name));
    }
    for name in &expanded {
        let Some(kind) = stored.get(name.as_str()).map(|row| row.body.middleware_type.as_str()) else {
            continue;
        };
        if UNPROTECTED.contains(&kind) {
            findings.error(format!(
                "HTTP router {:?} is guarded by middleware {name:?}, but this version of the daemon cannot do {kind} \
                 and would let every request through",
                row.name
            ));
        }
    }
    let redirecting: BTreeSet<&str> =
        points.iter().filter(|point| point.redirect.is_some()).map(|point| point.name.as_str()).collect();
    let mut at = names(&row.body.entry_points).unwrap_or_default();
    if at.is_empty() {
        at = default_points(points);
    }
    at.retain(|name| !redirecting.contains(name.as_str()));
    if at.is_empty() && !points.is_empty() {
        return findings.warn(format!(
            "HTTP router {:?} is not active: every entry point of it redirects to another one",
            row.name
        ));
    }
    let priority = match row.body.priority {
        0 => i32::try_from(rule.len()).unwrap_or(i32::MAX),
        given => given,
    };
    let mut value =
        json!({ "rule": rule, "service": row.body.service, "entryPoints": at, "priority": priority });
    if !expanded.is_empty() {
        value["middlewares"] = json!(expanded);
    }
    if let Some(tls) = &row.body.tls_json {
        value["tls"] = Value::Object(object(tls));
        normal::router_tls(&mut value["tls"]);
    }
    http.routers.insert(row.name.clone(), value);
}

/// The daemon does not redirect whole entry points: a middleware and a router of ours do, on that entry point only.
fn redirects(points: &[Point], facts: &Facts, http: &mut Http, findings: &mut Findings) {
    const NOWHERE: &str = "aifw-nowhere";
    for point in points {
        let Some(redirect) = &point.redirect else { continue };
        let scheme = redirect.get("scheme").and_then(Value::as_str).unwrap_or("https");
        let permanent = redirect.get("permanent").and_then(Value::as_bool).unwrap_or(true);
        let to = redirect.get("to").and_then(Value::as_str).unwrap_or_default();
        let port = match to.strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None => points.iter().find(|other| other.name == to).map(|other| other.port),
        };
        if port.is_none() && !to.is_empty() {
            findings.error(format!(
                "entry point {:?} redirects to {to:?}: expected an entry point or :port",
                point.name
            ));
            continue;
        }
        let port = port.map(|port| facts.listen.port(port));
        let mut body = json!({ "scheme": scheme, "permanent": permanent });
        let usual = if scheme == "http" { 80 } else { 443 };
        if let Some(port) = port.filter(|port| *port != usual) {
            body["port"] = json!(port.to_string());
        }
        let name = format!("aifw-redirect-{}", point.name);
        http.middlewares.insert(name.clone(), json!({ "redirectScheme": body }));
        let router = json!({ "rule": "PathPrefix(`/`)", "service": NOWHERE, "entryPoints": [point.name],
            "middlewares": [name], "priority": 1 });
        http.routers.insert(name, router);
        // Never reached; a router must have one.
        let nowhere = json!({ "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:9" }] } });
        http.services.insert(NOWHERE.into(), nowhere);
    }
}
