//! The reverse proxy's file: what is stored, made into what the daemon (TrafficCop 1.5.0) understands and acts on
//! (contract/reverse-proxy.md §4–5). What it would silently not do is refused or told. Pure.

mod balance;
mod http;
mod normal;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Facts, File};
use crate::compile::template::{self, TemplateError};
use crate::config::Config;
use crate::config::proxy::{Row, RowBody};

const TEMPLATE: &str = include_str!("../../../../../templates/trafficcop/config.yaml");

/// How deep services and chains of middlewares may refer to each other.
const DEEPEST: usize = 8;

/// What compiling found. With errors there is no file to be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

impl Findings {
    fn error(&mut self, text: impl Into<String>) {
        let text = text.into();
        // What several routers share is told once.
        if !self.errors.contains(&text) {
            self.errors.push(text);
        }
    }
    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// The daemon's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    sections: Sections,
    pub findings: Findings,
    /// Where it listens, entry points first.
    pub listens: Vec<SocketAddr>,
    /// An entry point speaks TLS with certificates from files.
    pub needs_certificates: bool,
    /// Names of the entry points that must speak TLS.
    pub secure: BTreeSet<String>,
    /// Certificates are got by ACME, the first ones before anything listens.
    pub obtains_certificates: bool,
    /// Domains for which certificates are asked for at the start.
    asked_for: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Sections {
    log_level: String,
    access_log: Option<Value>,
    dashboard: bool,
    metrics: Option<Value>,
    entry_points: Map<String, Value>,
    http: Option<Value>,
    tcp: Option<Value>,
    udp: Option<Value>,
    tls: Option<Value>,
    resolvers: Option<Map<String, Value>>,
}

impl Proxy {
    pub fn file(&self) -> Result<File, TemplateError> {
        let text = template::render("trafficcop/config.yaml", TEMPLATE, &self.sections)?;
        // For the daemon's group, too.
        Ok(File { mode: 0o640, ..File::new("config.yaml", text) })
    }

    /// Names of the entry points.
    pub fn entry_points(&self) -> Vec<&str> {
        self.sections.entry_points.keys().map(String::as_str).collect()
    }

    /// What the running daemon does not take from a changed file: all but the HTTP routers, services and
    /// middlewares; of routers, the domains that it asks certificates for. Equal texts mean that a reload will do.
    pub fn fixed_part(&self) -> String {
        let rest = Sections { http: None, ..self.sections.clone() };
        serde_json::to_string(&(rest, &self.asked_for)).unwrap_or_default()
    }
}

/// Enabled rows of a kind, by name.
fn rows<B: RowBody>(config: &Config) -> Vec<&Row<B>> {
    let mut rows: Vec<&Row<B>> = B::rows(config).iter().map(|row| &**row).filter(|row| row.enabled).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// A text that was checked to be a JSON object when it was stored.
fn object(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Whether nobody else can listen at the one while somebody listens at the other.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn some(map: Map<String, Value>) -> Option<Map<String, Value>> {
    (!map.is_empty()).then_some(map)
}

/// Makes the configuration. Everything that is wrong is found, not only the first.
pub fn compile(config: &Config, facts: &Facts) -> Proxy {
    use crate::config::proxy::*;
    let mut findings = Findings::default();
    let mut listens = Vec::new();
    let mut resolvers = BTreeSet::new();
    let settings = &config.proxy;
    let points = http::entry_points(&rows::<EntryPoint>(config), facts, &mut listens, &mut findings);
    let http = http::compile(config, facts, &points, &mut findings);
    let secure: BTreeSet<String> =
        points.iter().filter(|point| point.tls().is_some()).map(|point| point.name.clone()).collect();
    let with_tls = !secure.is_empty();
    let mut entry_points = Map::new();
    for point in &points {
        let mut value = point.config.clone();
        value.insert("address".into(), json!(point.address.to_string()));
        if let Some(tls) = value.get_mut("http").and_then(|http| http.get_mut("tls")) {
            normal::router_tls(tls);
            resolvers.extend(normal::resolver_of(tls));
        }
        entry_points.insert(point.name.clone(), Value::Object(value));
    }
    let mut asked_for = Vec::new();
    for tls in http.routers.values().filter_map(|router| router.get("tls")) {
        if let Some(resolver) = normal::resolver_of(tls) {
            asked_for.push(json!([resolver, tls["domains"]]));
            resolvers.insert(resolver);
        }
    }

    let mut tcp_routers = Map::new();
    for row in rows::<TcpRouter>(config) {
        let tls = row.body.tls_json.as_deref().map(object);
        let mut router = json!({ "rule": row.body.rule, "service": row.body.service });
        let listed = names(&row.body.entry_points).unwrap_or_default();
        if !listed.is_empty() {
            router["entryPoints"] = json!(listed);
        }
        if row.body.priority != 0 {
            router["priority"] = json!(row.body.priority);
        }
        if let Some(tls) = tls {
            router["tls"] = Value::Object(tls);
            normal::router_tls(&mut router["tls"]);
            resolvers.extend(normal::resolver_of(&router["tls"]));
        }
        findings.warn(format!(
            "TCP router {:?} is stored but not active: this version of the daemon serves no TCP routers",
            row.name
        ));
        if !normal::knows_stream_rule(&row.body.rule, true) {
            findings.warn(format!(
                "TCP router {:?}: rule {:?}: the daemon knows *, HostSNI(`name`) and ClientIP(`network`) only, and \
                 takes every connection",
                row.name, row.body.rule
            ));
        }
        tcp_routers.insert(row.name.clone(), router);
    }
    let mut tcp_services = Map::new();
    for row in rows::<TcpService>(config) {
        let body = normal::stream_service(&row.body.service_type, object(&row.body.config_json));
        tcp_services.insert(row.name.clone(), body);
    }
    let mut udp_routers = Map::new();
    for row in rows::<UdpRouter>(config) {
        let mut listed = names(&row.body.entry_points).unwrap_or_default();
        if listed.is_empty() {
            listed = http::default_points(&points);
        }
        if !normal::knows_stream_rule(&row.body.rule, false) {
            findings.warn(format!(
                "UDP router {:?}: rule {:?}: the daemon knows * and ClientIP(`network`) only, and takes every packet",
                row.name, row.body.rule
            ));
        }
        let priority = row.body.priority;
        let router = json!({ "rule": row.body.rule, "service": row.body.service, "entryPoints": listed,
            "priority": priority });
        udp_routers.insert(row.name.clone(), router);
    }
    let mut udp_services = Map::new();
    for row in rows::<UdpService>(config) {
        if row.body.service_type == "weighted" {
            findings.warn(format!(
                "UDP service {:?} is stored but not active: this version of the daemon drops the traffic of \
                 weighted UDP services",
                row.name
            ));
        }
        let body = normal::stream_service(&row.body.service_type, object(&row.body.config_json));
        udp_services.insert(row.name.clone(), body);
    }

    let certificates: Vec<Value> = rows::<TlsCert>(config)
        .into_iter()
        .map(|row| {
            let mut certificate = json!({
                "certFile": facts.path(&row.body.cert_file),
                "keyFile": facts.path(&row.body.key_file),
            });
            let stores: Vec<String> = serde_json::from_str(&row.body.stores_json).unwrap_or_default();
            if !stores.is_empty() {
                certificate["stores"] = json!(stores);
            }
            certificate
        })
        .collect();
    let mut options = Map::new();
    for row in rows::<TlsOption>(config) {
        let mut value = Value::Object(object(&row.body.config_json));
        normal::drop_empty(&mut value);
        findings.warn(format!(
            "TLS option {:?} is stored but not active: this version of the daemon always speaks TLS 1.2 and 1.3",
            row.name
        ));
        options.insert(row.name.clone(), value);
    }
    let known: Vec<&Row<CertResolver>> = rows(config);
    for name in &resolvers {
        if known.iter().all(|row| row.name != *name) {
            findings.error(format!("certificate resolver {name:?} does not exist"));
        }
    }
    if resolvers.len() > 1 {
        findings.error(format!(
            "certificate resolvers {} are in use: this version of the daemon takes one of them at random; use one",
            resolvers.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and ")
        ));
    }
    let used = known.into_iter().filter(|row| resolvers.contains(&row.name));
    let resolvers: Map<String, Value> = used
        .map(|row| {
            let mut value = Value::Object(object(&row.body.config_json));
            normal::drop_empty(&mut value);
            if let Some(Value::String(storage)) = value.pointer_mut("/acme/storage") {
                *storage = facts.path(storage).display().to_string();
            }
            (row.name.clone(), value)
        })
        .collect();
    if with_tls && resolvers.is_empty() && certificates.is_empty() {
        findings.error(
            "an entry point speaks TLS, but there is no certificate and no resolver: the daemon would serve plain \
             HTTP there",
        );
    }
    if with_tls && !resolvers.is_empty() && !certificates.is_empty() {
        findings.warn("certificates from files are not used while a certificate resolver is in use");
    }
    if with_tls && http.has_plain_servers() {
        findings.warn(
            "this version of the daemon answers 502 to clients that speak HTTP/2 (browsers do, over TLS) when the \
             server behind it is an http:// one; https:// servers that speak HTTP/2 are not affected",
        );
    }
    let needs_certificates = with_tls && resolvers.is_empty();
    let obtains_certificates = !resolvers.is_empty();
    let tls = match (certificates.is_empty(), some(options)) {
        (true, None) => None,
        (false, None) => Some(json!({ "certificates": certificates })),
        (true, Some(options)) => Some(json!({ "options": options })),
        (false, Some(options)) => Some(json!({ "certificates": certificates, "options": options })),
    };

    let metrics = settings.metrics_enabled.then(|| {
        let configured = listen_address("metrics_address", &settings.metrics_address).ok();
        let address = configured.map(|address| facts.listen.at(address));
        for point in points.iter().filter(|point| address.is_some_and(|address| meet(address, point.address)))
        {
            findings.error(format!(
                "metrics_address: {} is taken by entry point {:?}",
                settings.metrics_address, point.name
            ));
        }
        listens.extend(address);
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        json!({ "address": address, "addEntryPointsLabels": true, "addServicesLabels": true })
    });
    let access_log = settings.access_log_enabled.then(
        || json!({ "filePath": facts.path(&settings.access_log_path), "format": settings.access_log_format }),
    );
    let streams = |routers: Map<String, Value>, services: Map<String, Value>| {
        (!routers.is_empty() || !services.is_empty())
            .then(|| json!({ "routers": routers, "services": services }))
    };
    Proxy {
        sections: Sections {
            log_level: settings.log_level.clone(),
            access_log,
            dashboard: settings.api_dashboard,
            metrics,
            entry_points,
            http: http.section(),
            tcp: streams(tcp_routers, tcp_services),
            udp: streams(udp_routers, udp_services),
            tls,
            resolvers: some(resolvers),
        },
        findings,
        listens,
        needs_certificates,
        secure,
        obtains_certificates,
        asked_for,
    }
}

#[cfg(test)]
mod tests;
