//! Entry points, HTTP routers and middlewares of the proxy's file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::{DEEPEST, Findings, balance, normal, object};
use crate::compile::services::Facts;
use crate::config::proxy::{
    EntryPoint, HttpRouter, Middleware, Row, listen_address, rows, rows::names, rule,
};
use crate::config::{BadValue, Config};

/// Types that the daemon reads but does not build: it lets every request through unprotected.
const UNPROTECTED: [&str; 5] = ["digestAuth", "forwardAuth", "jwt", "inFlightReq", "passTLSClientCert"];
/// Types that the daemon reads and forgets, without harm to what they guard.
const INERT: [&str; 8] =
    ["redirectRegex", "retry", "circuitBreaker", "buffering", "contentType", "grpcWeb", "errors", "compress"];

/// Fields of `headers` that keep requests out or send them elsewhere, which the daemon reads and forgets.
const FORGOTTEN_HEADERS: [&str; 9] = [
    "allowedHosts",
    "hostsProxyHeaders",
    "sslRedirect",
    "sslTemporaryRedirect",
    "sslHost",
    "sslForceHost",
    "sslProxyHeaders",
    "publicKey",
    "isDevelopment",
];

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
    /// Middlewares for everything that comes in here.
    middlewares: Vec<String>,
}

impl Point {
    /// `http.tls`: all that comes in here is TLS.
    pub fn tls(&self) -> Option<&Value> {
        self.config.get("http")?.get("tls").filter(|tls| !tls.is_null())
    }
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
        // The daemon does nothing with these; the routers get them.
        let middlewares = config
            .pointer_mut("/http")
            .and_then(Value::as_object_mut)
            .and_then(|http| http.remove("middlewares"))
            .map(|listed| names_in(&listed))
            .unwrap_or_default();
        let config = config.as_object().cloned().unwrap_or_default();
        points.push(Point {
            name: row.name.clone(),
            address,
            port: configured.port(),
            is_default: config.get("asDefault").and_then(Value::as_bool).unwrap_or(false),
            config,
            redirect,
            middlewares,
        });
    }
    points
}

/// Names in a JSON array, or in one text with commas.
fn names_in(listed: &Value) -> Vec<String> {
    match listed {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => names(text).unwrap_or_default(),
        _ => Vec::new(),
    }
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
    let mut http = Http { services: balance::services(config, findings), ..Http::default() };
    let stored: BTreeMap<&str, &Row<Middleware>> =
        super::rows::<Middleware>(config).into_iter().map(|row| (row.name.as_str(), row)).collect();
    for row in stored.values() {
        if let Some(value) = middleware(row, findings) {
            http.middlewares.insert(row.name.clone(), value);
        }
    }
    for row in super::rows::<HttpRouter>(config) {
        router(row, points, &stored, &mut http, findings);
    }
    redirects(points, facts, &stored, &mut http, findings);
    http
}

/// A middleware; `None` for a chain, which is written out where it is used.
fn middleware(row: &Row<Middleware>, findings: &mut Findings) -> Option<Value> {
    let mut body = object(&row.body.config_json);
    let kind = row.body.middleware_type.as_str();
    match kind {
        "chain" => return None,
        "ipAllowList" | "ipWhiteList" | "ipDenyList" => {
            let config = Value::Object(body.clone());
            for range in rows::bad_ranges(&config) {
                findings.error(format!(
                    "middleware {:?}: sourceRange: expected an address or a network, not {range}",
                    row.name
                ));
            }
            let ranges = config.get("sourceRange").and_then(Value::as_array).map_or(0, Vec::len);
            match (ranges, kind) {
                (0, "ipDenyList") => {
                    findings.warn(format!("middleware {:?}: sourceRange is empty: nobody is kept out", row.name))
                }
                (0, _) => findings.error(format!(
                    "middleware {:?}: sourceRange: expected at least one network; the daemon takes none for all",
                    row.name
                )),
                _ => {}
            }
            forgotten(row, &body, &["ipStrategy"], findings);
        }
        "rateLimit" => forgotten(row, &body, &["sourceCriterion"], findings),
        "headers" => {
            forgotten(row, &body, &FORGOTTEN_HEADERS, findings);
            normal::security_headers(&mut body);
        }
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

/// Tells of fields that say something and do nothing.
fn forgotten(row: &Row<Middleware>, body: &Map<String, Value>, fields: &[&str], findings: &mut Findings) {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let said: Vec<&str> = fields.iter().copied().filter(|field| body.get(*field).is_some_and(says)).collect();
    if !said.is_empty() {
        findings.warn(format!(
            "middleware {:?}: {} of {} is stored but not active in this version of the daemon",
            row.name,
            said.join(", "),
            row.body.middleware_type
        ));
    }
}

/// Why a middleware lets everybody through that it should keep out.
fn lets_through(row: &Row<Middleware>) -> Option<String> {
    let kind = row.body.middleware_type.as_str();
    let users = object(&row.body.config_json);
    let users = users.get("users").and_then(Value::as_array).map_or(0, Vec::len);
    if UNPROTECTED.contains(&kind) {
        return Some(format!(
            "this version of the daemon cannot do {kind} and would let every request through"
        ));
    }
    (kind == "basicAuth" && users == 0)
        .then(|| "basicAuth without users lets every request through; this version of the daemon reads no usersFile".into())
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
        Ok(rule) => rule,
        Err(bad) => return findings.error(format!("HTTP router {:?}: rule: expected {bad}", row.name)),
    };
    let what = format!("HTTP router {:?}", row.name);
    let listed = names(&row.body.middlewares).unwrap_or_default();
    let Some(own) = guards(&what, &listed, stored, findings) else { return };
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
    let text = rule.to_string();
    let priority = match row.body.priority {
        0 => i32::try_from(text.len()).unwrap_or(i32::MAX),
        given => given,
    };
    let tls = tls_of(row, &rule, &at, points, findings);
    // One router for all entry points that ask for the same middlewares, which come before its own.
    let mut groups: Vec<(Vec<String>, Vec<&String>)> = Vec::new();
    for name in &at {
        let first = match points.iter().find(|point| point.name == *name) {
            Some(point) => match point_guards(point, stored, findings) {
                Some(first) => first,
                None => return,
            },
            None => Vec::new(),
        };
        match groups.iter_mut().find(|(same, _)| *same == first) {
            Some((_, together)) => together.push(name),
            None => groups.push((first, vec![name])),
        }
    }
    if groups.is_empty() {
        groups.push((Vec::new(), Vec::new()));
    }
    for (number, (first, at)) in groups.into_iter().enumerate() {
        let mut value =
            json!({ "rule": text, "service": row.body.service, "entryPoints": at, "priority": priority });
        let middlewares: Vec<&String> = first.iter().chain(&own).collect();
        if !middlewares.is_empty() {
            value["middlewares"] = json!(middlewares);
        }
        if let Some(tls) = &tls {
            value["tls"] = tls.clone();
        }
        let name = match number {
            0 => row.name.clone(),
            _ => format!("aifw-{}-{}", at.first().map_or("", |name| name), row.name),
        };
        http.routers.insert(name, value);
    }
}

/// Middlewares as the daemon gets them; `None` when there was an error.
fn guards(
    what: &str,
    listed: &[String],
    stored: &BTreeMap<&str, &Row<Middleware>>,
    findings: &mut Findings,
) -> Option<Vec<String>> {
    let mut expanded = Vec::new();
    if let Err(BadValue(reason)) = expand(listed, stored, 0, &mut expanded) {
        findings.error(format!("{what}: {reason}"));
        return None;
    }
    for name in &expanded {
        if let Some(reason) = stored.get(name.as_str()).and_then(|row| lets_through(row)) {
            findings.error(format!("{what} is guarded by middleware {name:?}, but {reason}"));
        }
    }
    Some(expanded)
}

fn point_guards(
    point: &Point,
    stored: &BTreeMap<&str, &Row<Middleware>>,
    findings: &mut Findings,
) -> Option<Vec<String>> {
    guards(&format!("entry point {:?}", point.name), &point.middlewares, stored, findings)
}

/// `tls` of a router: its own, completed by its entry points' (what they say holds for all their routers, but the
/// daemon asks for certificates for the domains of routers only).
fn tls_of(
    row: &Row<HttpRouter>,
    rule: &rule::HttpRule,
    at: &[String],
    points: &[Point],
    findings: &mut Findings,
) -> Option<Value> {
    let mine = || points.iter().filter(|point| at.contains(&point.name));
    let mut tls = row.body.tls_json.as_deref().map(|text| Value::Object(object(text)));
    if let Some(tls) = &mut tls {
        normal::router_tls(tls);
        let plain: Vec<&str> =
            mine().filter(|point| point.tls().is_none()).map(|point| point.name.as_str()).collect();
        if !plain.is_empty() {
            findings.warn(format!(
                "HTTP router {:?} asks for TLS, but answers plain HTTP at {}: TLS is switched on by http.tls of an \
                 entry point",
                row.name,
                plain.join(", ")
            ));
        }
    }
    let resolver = tls.as_ref().and_then(normal::resolver_of);
    let resolver = resolver.or_else(|| mine().filter_map(Point::tls).find_map(normal::resolver_of));
    let Some(resolver) = resolver else { return tls };
    let mut tls = tls.unwrap_or_else(|| json!({}));
    tls["certResolver"] = json!(resolver);
    if !has_domains(&tls) {
        let theirs = mine().filter_map(Point::tls).map(|tls| {
            let mut tls = tls.clone();
            normal::router_tls(&mut tls);
            tls
        });
        let hosts = rule.hosts();
        match (theirs.into_iter().find(has_domains), hosts.split_first()) {
            (Some(their), _) => tls["domains"] = their["domains"].clone(),
            (None, Some((main, sans))) => tls["domains"] = json!([{ "main": main, "sans": sans }]),
            (None, None) => findings.warn(format!(
                "HTTP router {:?}: no certificate is asked for: neither domains nor a Host in the rule",
                row.name
            )),
        }
    }
    Some(tls)
}

fn has_domains(tls: &Value) -> bool {
    tls.get("domains").and_then(Value::as_array).is_some_and(|domains| !domains.is_empty())
}

/// The daemon does not redirect whole entry points: a middleware and a router of ours do, on that entry point only.
fn redirects(
    points: &[Point],
    facts: &Facts,
    stored: &BTreeMap<&str, &Row<Middleware>>,
    http: &mut Http,
    findings: &mut Findings,
) {
    const NOWHERE: &str = "aifw-nowhere";
    for point in points {
        let Some(redirect) = &point.redirect else { continue };
        let scheme = redirect.get("scheme").and_then(Value::as_str).unwrap_or("https");
        let permanent = redirect.get("permanent").and_then(Value::as_bool).unwrap_or(true);
        let to = redirect.get("to").and_then(Value::as_str).unwrap_or_default();
        let Some(port) = target(point, points) else {
            findings.error(format!(
                "entry point {:?} redirects to {to:?}: expected an entry point or :port",
                point.name
            ));
            continue;
        };
        let usual = if scheme == "http" { 80 } else { 443 };
        if comes_back(point, port, points) {
            findings.error(format!(
                "entry point {:?} redirects to itself: requests would never arrive anywhere",
                point.name
            ));
            continue;
        }
        let Some(mut middlewares) = point_guards(point, stored, findings) else { continue };
        let served = facts.listen.port(port);
        let mut body = json!({ "scheme": scheme, "permanent": permanent });
        if served != usual && !to.is_empty() {
            body["port"] = json!(served.to_string());
        }
        let name = format!("aifw-redirect-{}", point.name);
        http.middlewares.insert(name.clone(), json!({ "redirectScheme": body }));
        middlewares.push(name.clone());
        let router = json!({ "rule": "PathPrefix(`/`)", "service": NOWHERE, "entryPoints": [point.name],
            "middlewares": middlewares, "priority": 1 });
        http.routers.insert(name, router);
        // Never reached; a router must have one.
        let nowhere = json!({ "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:9" }] } });
        http.services.insert(NOWHERE.into(), nowhere);
    }
}

/// The port that a redirect of `point` leads to as clients see it; `None` = to no place.
fn target(point: &Point, points: &[Point]) -> Option<u16> {
    let redirect = point.redirect.as_ref()?;
    let to = redirect.get("to").and_then(Value::as_str).unwrap_or_default();
    match to.strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None if to.is_empty() => {
            Some(if redirect.get("scheme").and_then(Value::as_str) == Some("http") { 80 } else { 443 })
        }
        None => points.iter().find(|other| other.name == to).map(|other| other.port),
    }
}

/// Whether a request sent to this port comes to `point` again, by way of other redirects perhaps.
fn comes_back(point: &Point, port: u16, points: &[Point]) -> bool {
    let mut port = port;
    for _ in 0..=points.len() {
        if port == point.port {
            return true;
        }
        let next = points.iter().find(|other| other.port == port);
        match next.and_then(|next| target(next, points)) {
            Some(further) => port = further,
            None => return false,
        }
    }
    // A circle without this one, which its own members are told of.
    false
}
