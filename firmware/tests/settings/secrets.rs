//! Marked secrets are planted in every field of the API that takes one. Then every GET is asked, and nothing of them may
//! be in an answer, in what the appliance prints with its most talkative log, or in a file that others may read; nor may
//! they lie in clear in the store.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Sandbox, command, soon, text};
use crate::rig::Rig;
use crate::stand_in::StandIn;
use crate::wire::Wire;

/// Every secret has this in it.
const MARK: &str = "Planted7";
/// The same at each of three positions within base64 text, less what neighbours change.
fn traces() -> Vec<String> {
    let encoded = |skip: usize| {
        let padded = [vec![0; skip], MARK.as_bytes().to_vec()].concat();
        let text = data_encoding::BASE64.encode(&padded);
        let from = [0, 2, 3][skip];
        let whole = text.trim_end_matches('=').len() - 1;
        text[from..whole].to_owned()
    };
    let mut traces = vec![MARK.to_owned(), data_encoding::HEXLOWER.encode(MARK.as_bytes())];
    traces.extend((0..3).map(encoded));
    traces
}

struct Answers {
    sandbox: Sandbox,
    token: String,
    seen: Vec<(String, String)>,
}

impl Answers {
    fn call(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self.sandbox.call(method, path, &self.token, body);
        self.seen.push((format!("{method} {path}"), format!("{}\n{}", answer.head, answer.text())));
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }
    fn plant(&mut self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!(matches!(status, 200 | 201 | 204), "{method} {path}: {status} {answer}");
        answer
    }
}

/// Every `id` in an answer.
fn ids(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(rows) => rows.iter().for_each(|row| ids(row, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(id) if name == "id" => drop(found.insert(id.clone())),
                    Value::Number(id) if name == "id" => drop(found.insert(id.to_string())),
                    _ => ids(field, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn no_secret_comes_back_out() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // One that repeats the headers it is sent.
    let echo = StandIn::new(|request| {
        (401, json!({ "error": { "message": format!("{:?}", request.headers) } }).to_string())
    });
    let mut talkative = command(&state, &[]);
    talkative.env("RUST_LOG", "trace");
    let sandbox = Sandbox::run(talkative);
    let login = sandbox.admin();
    let token = text(&login["access_token"]).to_owned();
    let mut all = Answers { sandbox, token, seen: Vec::new() };
    let secret = |field: &str| format!("{MARK}-{field}");

    // Settings, mail, dynamic DNS.
    let url = format!("{}/v1", echo.url);
    for provider in ["openai", "claude", "lm_studio", "ollama"] {
        let body = json!({ "provider": provider, "api_key": secret(provider), "endpoint": url });
        all.plant("PUT", "/settings/ai", body);
        all.plant("POST", "/settings/ai/test", json!({ "provider": provider }));
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let valkey = format!("redis://fw:{}@127.0.0.1:{closed}/1", secret("valkey"));
    all.plant("PUT", "/settings/valkey", json!({ "url": valkey }));
    let database = format!("postgres://fw:{}@127.0.0.1/x", secret("postgres"));
    all.plant("PUT", "/settings/metrics", json!({ "postgres_url": database }));
    all.plant("PUT", "/settings/api", json!({ "jwt_secret": secret("jwt") }));
    let mail = json!({ "enabled": true, "host": "127.0.0.1", "port": closed, "tls": "none", "username": "fw", "password": secret("smtp"),
        "recipients": "a@example.org", "enabled_events": ["backup_saved", "restore_failed"] });
    all.plant("PUT", "/notify/smtp/config", mail.clone());
    all.plant("POST", "/notify/smtp/test", mail);
    let tsig = data_encoding::BASE64.encode(secret("tsig").as_bytes());
    let nobody = format!("127.0.0.1:{closed}");
    for (kind, extra) in [
        ("cloudflare", json!({})),
        ("route53", json!({})),
        ("digitalocean", json!({})),
        ("rfc2136", json!({ "server": nobody, "key_name": "k" })),
    ] {
        let token = if kind == "rfc2136" { tsig.clone() } else { secret(kind) };
        let body = json!({ "name": kind, "kind": kind, "zone": "example.org", "api_token": token, "aws_secret_key": secret("aws"), "extra": extra });
        let id = all.plant("POST", "/acme/dns-providers", body.clone())["id"].clone();
        all.plant("PUT", &format!("/acme/dns-providers/{id}"), body);
        let record = json!({ "provider_id": id, "hostname": format!("{kind}.example.org"), "source": "explicit", "explicit_ip": "198.51.100.1" });
        let record = all.plant("POST", "/ddns/records", record)["id"].clone();
        // The providers' real servers are not asked from a test.
        if kind == "rfc2136" {
            all.plant("POST", &format!("/ddns/records/{record}/update"), Value::Null);
            all.plant("POST", &format!("/acme/dns-providers/{id}/test"), Value::Null);
        }
    }
    // Accounts.
    all.plant("POST", "/auth/users", json!({ "username": "other", "password": format!("{MARK}pass") }));
    let oauth = json!({ "name": "g", "provider_type": "google", "client_id": "id", "client_secret": secret("oauth") });
    all.plant("POST", "/auth/oauth/providers", oauth);
    // Daemons.
    all.plant(
        "PUT",
        "/dhcp/ddns",
        json!({ "tsig_key": "k", "tsig_secret": tsig, "tsig_algorithm": "hmac-sha256" }),
    );
    let middleware = |name: &str, config: Value| json!({ "name": name, "config_json": config.to_string() });
    let jwt = json!({ "secret": secret("proxy-jwt") });
    let basic = json!({ "users": [format!("fw:{}", secret("basic"))] });
    for (name, kind, config) in [("j", "jwt", jwt), ("b", "basicAuth", basic)] {
        let mut body = middleware(name, config);
        body["type"] = kind.into();
        body["middleware_type"] = kind.into();
        all.plant("POST", "/reverse-proxy/http/middlewares", body);
    }
    // Tunnels and pairs, which only a document brings so far.
    let exported = all.sandbox.get("/config/export", &all.token);
    let mut document = exported.clone();
    document["config"]["vpn"]["wireguard"] = json!([{ "id": "00000000-0000-4000-8000-000000000001", "name": "wg0", "interface": "wg0",
        "listen_port": 51820, "address": "10.8.0.1/24", "private_key": secret("wireguard"), "public_key": "x", "enabled": true,
        "peers": [{ "id": "00000000-0000-4000-8000-000000000002", "name": "p", "public_key": "y", "preshared_key": secret("psk"), "allowed_ips": ["10.8.0.2/32"] }] }]);
    document["config"]["ha"]["carp_vips"] = json!([{ "id": "00000000-0000-4000-8000-000000000003", "vhid": 1, "virtual_ip": "192.168.1.254", "prefix": 24,
        "interface": "em1", "password": secret("carp"), "advskew": 0 }]);
    all.call("POST", "/config/import-preview", document.clone());
    all.call("POST", "/config/import", document);
    all.call("POST", "/config/commit-confirm/confirm", Value::Null);

    // In the wrong place, a secret is not repeated.
    for (method, path, body) in [
        ("POST", "/auth/login", json!({ "username": "admin", "password": secret("wrong") })),
        ("POST", "/auth/login", json!({ "username": "admin", "password": [secret("wrong")] })),
        ("PUT", "/notify/smtp/config", json!({ "enabled": true, "password": [secret("wrong")] })),
        ("PUT", "/notify/smtp/config", json!({ "enabled": true, "password": secret("wrong") })),
        ("PUT", "/settings/ai", json!({ "provider": "openai", "api_key": { "x": secret("wrong") } })),
        (
            "PUT",
            "/settings/ai",
            json!({ "provider": "openai", "api_key": format!("two {}", secret("wrong")) }),
        ),
        ("PUT", "/settings/valkey", json!({ "url": format!("http://u:{}@h", secret("wrong")) })),
        ("PUT", "/settings/metrics", json!({ "Upper": secret("wrong") })),
        (
            "POST",
            "/acme/dns-providers",
            json!({ "name": "x", "kind": "cloudflare", "zone": "example.org", "api_token": format!("a {}", secret("wrong")) }),
        ),
        (
            "POST",
            "/acme/dns-providers",
            json!({ "name": "x", "kind": "cloudflare", "zone": "example.org", "api_token": [secret("wrong")] }),
        ),
        ("PUT", "/dhcp/ddns", json!({ "tsig_secret": [secret("wrong")] })),
        ("POST", "/auth/refresh", json!({ "refresh_token": secret("wrong") })),
    ] {
        let (status, answer) = all.call(method, path, body);
        assert!((400..500).contains(&status), "{method} {path}: {status} {answer}");
    }
    // A version, and what the history says of it.
    all.plant("POST", "/config/save", json!({ "comment": "planted" }));
    all.plant(
        "PUT",
        "/settings/ai",
        json!({ "provider": "openai", "api_key": secret("second"), "model": "m" }),
    );
    all.plant("POST", "/config/save", Value::Null);

    // Every GET there is; where it asks for a number, with every number that was seen.
    let document = all.sandbox.get("/openapi.json", "");
    let paths: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, item)| item["get"].is_object())
        .map(|(path, _)| path.clone())
        .collect();
    let paths: Vec<String> =
        paths.iter().map(|path| path.strip_prefix("/api/v1").unwrap_or(path).to_owned()).collect();
    let streams = ["/events", "/ws", "/stream", "/tail", "/live"];
    let mut found = BTreeSet::new();
    let plain = paths
        .iter()
        .filter(|path| !path.contains('{') && !streams.iter().any(|stream| path.contains(stream)));
    let mut asked = 0;
    for path in plain {
        let (status, answer) = all.call("GET", path, Value::Null);
        asked += u32::from(status == 200);
        ids(&answer, &mut found);
    }
    assert!(asked > 80, "{asked}");
    for path in paths
        .iter()
        .filter(|path| path.matches('{').count() == 1 && !streams.iter().any(|stream| path.contains(stream)))
    {
        let (before, rest) = path.split_once('{').unwrap();
        let after = rest.split_once('}').unwrap().1;
        for id in found.iter().map(String::as_str).chain(["1", "2", "metrics", "api"]) {
            all.call("GET", &format!("{before}{id}{after}"), Value::Null);
        }
    }
    for path in [
        "/config/diff?v1=1&v2=2",
        "/config/diff?from=1&to=2",
        "/auth/audit?limit=1000",
        "/logs?type=all",
        "/settings/ai_openai",
    ] {
        all.call("GET", path, Value::Null);
    }
    // Who may write the proxy's middlewares may read their secrets; who may only read them must not.
    let writers = |request: &str| request.contains("/reverse-proxy/http/middlewares");
    all.seen.retain(|(request, _)| !writers(request));
    let key =
        all.call("POST", "/auth/api-keys", json!({ "name": "reader", "permissions": ["proxy:read"] })).1;
    all.seen.pop();
    let credential = format!("Authorization: ApiKey {}", text(&key["key"]));
    let answer = Wire::connect(all.sandbox.address).request(
        "GET",
        "/api/v1/reverse-proxy/http/middlewares",
        &[&credential],
        b"",
    );
    assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (200, Some(2)));
    all.seen.push(("GET middlewares as a reader".into(), answer.text()));
    soon("a mail has failed", || {
        let logs = all.sandbox.get("/logs?type=all", &all.token).to_string();
        logs.contains("mail") || logs.len() > 2
    });

    let traces = traces();
    let trace_in = |text: &str| traces.iter().find(|trace| text.contains(trace.as_str())).cloned();
    let Answers { sandbox, seen, .. } = all;
    for (request, answer) in &seen {
        assert!(trace_in(answer).is_none(), "{request} answers {answer}");
    }
    let (_, printed) = sandbox.terminate();
    let line = printed.lines().find(|line| trace_in(line).is_some());
    assert!(line.is_none(), "printed: {line:?}");
    look_at(&state, &trace_in);
}

/// Files: none that others may read has a secret, and of the appliance's own none at all; daemons need theirs in clear.
fn look_at(dir: &Path, trace_in: &impl Fn(&str) -> Option<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            look_at(&path, trace_in);
        } else if about.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let Some(trace) = trace_in(&String::from_utf8_lossy(&bytes)) else { continue };
            let of_a_daemon = path.components().any(|part| part.as_os_str() == "services");
            assert!(of_a_daemon, "{trace} is in {}", path.display());
            let private = path.ancestors().any(|above| {
                std::fs::metadata(above).is_ok_and(|about| about.permissions().mode() & 0o077 == 0)
            });
            assert!(private, "others may read {}", path.display());
        }
    }
}

/// Secrets in the texts of middlewares: kept where the document comes back, brought along under a passphrase, and
/// unknown to everybody where neither is so.
#[test]
fn a_document_without_secrets_lets_nobody_in() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    smol::block_on(async {
        let [own, other, third] = dirs.each_ref().map(|dir| Rig::new(dir.path()));
        let config = json!({ "secret": format!("{MARK}-jwt") }).to_string();
        let row = own
            .ok(
                "POST",
                "/reverse-proxy/http/middlewares",
                json!({ "name": "j", "middleware_type": "jwt", "config_json": config }),
            )
            .await;
        assert_eq!(row["config_json"], config, "who wrote it may read it");
        let secret = |rig: &Rig| {
            let config = rig.app.store.snapshot().config.clone();
            let row = config.proxy_middlewares.iter().next().unwrap();
            let text: Value = serde_json::from_str(&row.body.config_json).unwrap();
            text["secret"].as_str().unwrap().to_owned()
        };
        let document = own.get("/config/export").await;
        assert!(!document.to_string().contains(MARK));
        let imported = |answer: (u16, Value)| assert_eq!(answer.0, 200, "{}", answer.1);
        imported(own.send("POST", "/config/import", document.clone()).await);
        assert_eq!(secret(&own), format!("{MARK}-jwt"));
        imported(other.send("POST", "/config/import", document).await);
        let unknown = secret(&other);
        assert!(unknown.len() >= 32 && unknown != "***" && !unknown.contains(MARK), "{unknown}");

        let passphrase = "correct horse battery";
        let sealed = own.client.get("/config/export").header("X-AiFw-Passphrase", passphrase).await.1;
        assert!(!sealed.to_string().contains(MARK));
        let import = third.client.post("/config/import").header("X-AiFw-Passphrase", passphrase).json(sealed);
        imported(import.await);
        assert_eq!(secret(&third), format!("{MARK}-jwt"));
    });
}
