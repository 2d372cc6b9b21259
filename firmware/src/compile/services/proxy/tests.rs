//! What is refused, told, or written out for the daemon, from rows as clients store them.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::compile::services::{ListenMap, Places};
use crate::config::Timestamp;
use crate::config::proxy::*;

fn add<B: RowBody>(config: &mut Config, row: Value) {
    let request: RowRequest<B> = serde_json::from_value(row).unwrap();
    let row = request.row(None, Timestamp::UNIX_EPOCH, config).unwrap();
    B::rows_mut(config).insert(row);
}

fn point(config: &mut Config, name: &str, address: &str, settings: Value) {
    let row = json!({ "name": name, "address": address, "config_json": settings.to_string() });
    add::<EntryPoint>(config, row);
}

fn guard(config: &mut Config, name: &str, kind: &str, settings: Value) {
    let row = json!({ "name": name, "middleware_type": kind, "config_json": settings.to_string() });
    add::<Middleware>(config, row);
}

/// An entry point `web`, a service `s`, and a router `r` for `a.test`.
fn site() -> Config {
    let mut config = Config::default();
    point(&mut config, "web", "127.0.0.1:8080", json!({}));
    service(&mut config, "s", "loadBalancer", json!({ "servers": [{ "url": "http://127.0.0.1:9" }] }));
    router(&mut config, "r", json!({}));
    config
}

fn service(config: &mut Config, name: &str, kind: &str, settings: Value) {
    let row = json!({ "name": name, "service_type": kind, "config_json": settings.to_string() });
    add::<HttpService>(config, row);
}

fn router(config: &mut Config, name: &str, more: Value) {
    let mut row = json!({ "name": name, "rule": "Host(`a.test`)", "service": "s" });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    add::<HttpRouter>(config, row);
}

fn compiled(config: &Config) -> Proxy {
    let places = Places { config: "/c".into(), run: "/r".into(), data: "/d".into(), log: "/l".into() };
    let facts = Facts {
        interfaces: Vec::new(),
        places,
        listen: ListenMap::AsConfigured,
        root: "/".into(),
        sandbox: false,
        now: Timestamp::UNIX_EPOCH,
    };
    compile(config, &facts)
}

fn http(config: &Config) -> Value {
    let proxy = compiled(config);
    assert_eq!(proxy.findings.errors, [""; 0]);
    proxy.sections.http.unwrap()
}

/// The one error, and the one warning, that hold these words.
fn error(config: &Config, words: &str) {
    let errors = compiled(config).findings.errors;
    assert_eq!(errors.iter().filter(|error| error.contains(words)).count(), 1, "{words}: {errors:?}");
}
fn warning(config: &Config, words: &str) {
    let findings = compiled(config).findings;
    assert_eq!(findings.errors, [""; 0]);
    let warnings = findings.warnings;
    assert_eq!(warnings.iter().filter(|text| text.contains(words)).count(), 1, "{words}: {warnings:?}");
}

fn resolver(config: &mut Config, name: &str) {
    let acme = json!({ "acme": { "email": "a@a.test", "storage": "/var/db/acme.json" } }).to_string();
    add::<CertResolver>(config, json!({ "name": name, "config_json": acme }));
}

#[test]
fn middlewares_of_an_entry_point_guard_each_router_of_it_and_its_redirect() {
    let mut config = site();
    let kept_out = json!({ "sourceRange": ["10.0.0.0/8"] });
    guard(&mut config, "deny", "ipDenyList", kept_out);
    guard(&mut config, "own", "addPrefix", json!({ "prefix": "/x" }));
    guard(&mut config, "all", "chain", json!({ "middlewares": ["deny"] }));
    point(&mut config, "inner", "127.0.0.1:8081", json!({ "http": { "middlewares": ["all"] } }));
    let redirect = json!({ "entryPoint": { "to": "web", "scheme": "http" } });
    let settings = json!({ "http": { "middlewares": ["deny"], "redirections": redirect } });
    point(&mut config, "old", "127.0.0.1:8082", settings);
    router(&mut config, "both", json!({ "middlewares": ["own"], "entry_points": ["web", "inner"] }));
    let http = http(&config);
    let of = |name: &str| {
        (http["routers"][name]["entryPoints"].clone(), http["routers"][name]["middlewares"].clone())
    };
    assert_eq!(of("both"), (json!(["web"]), json!(["own"])));
    assert_eq!(of("aifw-inner-both"), (json!(["inner"]), json!(["deny", "own"])));
    assert_eq!(of("aifw-redirect-old"), (json!(["old"]), json!(["deny", "aifw-redirect-old"])));
    // One that lets everybody through is refused there, too.
    guard(&mut config, "auth", "jwt", json!({ "secret": "s" }));
    point(&mut config, "third", "127.0.0.1:8083", json!({ "http": { "middlewares": ["auth"] } }));
    error(&config, "entry point \"third\" is guarded by middleware \"auth\"");
}

#[test]
fn a_router_that_asks_for_tls_where_there_is_none_is_told() {
    let mut config = site();
    router(&mut config, "t", json!({ "tls_json": "{\"certResolver\":\"\",\"domains\":\"a.test\"}" }));
    warning(&config, "HTTP router \"t\" asks for TLS, but answers plain HTTP at web");
}

#[test]
fn what_looks_like_a_guard_and_does_nothing_is_told() {
    let mut config = site();
    let settings = json!({ "allowedHosts": ["only.test"], "sslRedirect": true, "isDevelopment": false });
    guard(&mut config, "h", "headers", settings);
    guard(
        &mut config,
        "rate",
        "rateLimit",
        json!({ "average": 1, "sourceCriterion": { "requestHost": true } }),
    );
    guard(&mut config, "open", "ipDenyList", json!({ "sourceRange": [] }));
    warning(&config, "\"h\": allowedHosts, sslRedirect of headers");
    warning(&config, "\"rate\": sourceCriterion of rateLimit");
    warning(&config, "\"open\": sourceRange is empty");
    guard(&mut config, "basic", "basicAuth", json!({ "usersFile": "/etc/users" }));
    assert!(compiled(&config).findings.errors.is_empty(), "stored but not used");
    router(&mut config, "guarded", json!({ "middlewares": "basic" }));
    error(&config, "HTTP router \"guarded\" is guarded by middleware \"basic\"");
}

#[test]
fn one_certificate_resolver_at_a_time_and_domains_for_every_router_of_it() {
    let mut config = site();
    resolver(&mut config, "one");
    point(&mut config, "sec", "127.0.0.1:8443", json!({ "http": { "tls": { "certResolver": "one" } } }));
    router(
        &mut config,
        "named",
        json!({ "entry_points": "sec", "rule": "Host(`b.test`) || Host(`c.test`)" }),
    );
    let own =
        json!({ "entry_points": "sec", "tls_json": "{\"certResolver\":\"one\",\"domains\":\"d.test\"}" });
    router(&mut config, "own", own);
    let before = compiled(&config);
    assert!(before.obtains_certificates && before.secure.contains("sec"));
    let http = http(&config);
    let tls = |name: &str| http["routers"][name]["tls"].clone();
    let domains = json!([{ "main": "b.test", "sans": ["c.test"] }]);
    assert_eq!(tls("named"), json!({ "certResolver": "one", "domains": domains }));
    assert_eq!(tls("own")["domains"][0]["main"], "d.test");
    assert!(tls("r").is_object(), "it is at every entry point");
    // Certificates are asked for at a start only.
    router(&mut config, "later", json!({ "entry_points": "sec", "rule": "Host(`e.test`)" }));
    assert_ne!(compiled(&config).fixed_part(), before.fixed_part());
    router(&mut config, "nameless", json!({ "entry_points": "sec", "rule": "PathPrefix(`/`)" }));
    warning(&config, "HTTP router \"nameless\": no certificate is asked for");
    resolver(&mut config, "two");
    assert!(compiled(&config).findings.errors.is_empty(), "not in use");
    point(&mut config, "sec2", "127.0.0.1:8444", json!({ "http": { "tls": { "certResolver": "two" } } }));
    error(&config, "\"one\" and \"two\" are in use");
}

#[test]
fn a_redirect_that_comes_back_is_refused() {
    let to = |name: &str| json!({ "http": { "redirections": { "entryPoint": { "to": name, "scheme": "http" } } } });
    let mut config = site();
    point(&mut config, "self", "127.0.0.1:8081", to("self"));
    error(&config, "entry point \"self\" redirects to itself");
    let mut config = site();
    point(&mut config, "port", "127.0.0.1:8081", to(":8081"));
    error(&config, "entry point \"port\" redirects to itself");
    let mut config = site();
    point(&mut config, "a", "127.0.0.1:8081", to("b"));
    point(&mut config, "b", "127.0.0.1:8082", to("a"));
    error(&config, "entry point \"a\" redirects to itself");
    error(&config, "entry point \"b\" redirects to itself");
    let mut config = site();
    point(&mut config, "fine", "127.0.0.1:8081", to("web"));
    assert!(compiled(&config).findings.errors.is_empty());
}

#[test]
fn metrics_do_not_take_the_place_of_an_entry_point() {
    let mut config = site();
    let metrics = |address: &str| ProxySettings {
        metrics_enabled: true,
        metrics_address: address.into(),
        ..ProxySettings::default()
    };
    for address in ["127.0.0.1:8080", ":8080"] {
        config.proxy = metrics(address).into();
        error(&config, "is taken by entry point \"web\"");
    }
    config.proxy = metrics("127.0.0.1:8082").into();
    assert!(compiled(&config).findings.errors.is_empty());
}

#[test]
fn weights_of_members_fit_and_nought_stays_nought() {
    let mut config = site();
    let servers = |weights: &[u64]| {
        let all = weights.iter().enumerate();
        let all = all
            .map(|(at, weight)| json!({ "url": format!("http://127.0.0.1:{}", at + 1), "weight": weight }));
        json!({ "servers": all.collect::<Vec<_>>() })
    };
    service(&mut config, "rested", "loadBalancer", servers(&[0, 1]));
    service(&mut config, "large", "loadBalancer", servers(&[4_294_967_291, 1]));
    service(&mut config, "prime", "loadBalancer", servers(&[4_294_967_279, 2]));
    let members = |names: &[&str]| {
        let all = names.iter().map(|name| json!({ "name": name, "weight": 3 }));
        json!({ "services": all.collect::<Vec<_>>() })
    };
    service(&mut config, "w", "weighted", members(&["rested", "s"]));
    service(&mut config, "huge", "weighted", members(&["large", "prime"]));
    let http = http(&config);
    let weights = |name: &str| -> Vec<u64> {
        let servers = http["services"][name]["loadBalancer"]["servers"].as_array().unwrap();
        servers.iter().map(|server| server["weight"].as_u64().unwrap()).collect()
    };
    assert_eq!(weights("w"), [1, 1]);
    let huge = weights("huge");
    assert_eq!(huge.len(), 4);
    assert!(huge.iter().all(|weight| (1..=i32::MAX as u64).contains(weight)), "{huge:?}");
    assert!(huge[0] > 1_000_000 * huge[1], "{huge:?}");
}

#[test]
fn rules_of_streams_that_take_everything_are_told() {
    let mut config = site();
    add::<UdpRouter>(&mut config, json!({ "name": "u", "rule": "ClientIP(`10.0.0.0/99`)", "service": "x" }));
    warning(&config, "UDP router \"u\": rule");
    add::<TcpRouter>(&mut config, json!({ "name": "t", "rule": "Host(`a`)", "service": "x" }));
    warning(&config, "TCP router \"t\": rule");
}

#[test]
fn the_file_is_for_the_daemons_group_too() {
    assert_eq!(compiled(&site()).file().unwrap().mode, 0o640);
}
