//! Records that follow an address: what is stored, what providers are told, what becomes of failures.

use std::path::Path;
use std::sync::{Arc, Mutex};

use aifw::config::reach::Reach;
use aifw::services::dynamic_dns::Endpoints;
use serde_json::{Value, json};
use smol::block_on;

use crate::named::{self, Named};
use crate::process::text;
use crate::providers::{ACCESS_KEY, Provider, TOKEN, ZONE};
use crate::rig::Rig;
use crate::stand_in::StandIn;

/// A server that tells an address.
struct Echo {
    url: String,
    says: Arc<Mutex<String>>,
}

impl Echo {
    fn new(address: &str) -> Self {
        let says = Arc::new(Mutex::new(format!("{address}\n")));
        let said = says.clone();
        Self { url: StandIn::new(move |_| (200, said.lock().unwrap().clone())).url, says }
    }
    fn say(&self, text: &str) {
        *self.says.lock().unwrap() = text.to_owned();
    }
}

/// Leads where the stand-ins are.
fn lead(rig: &Rig, provider: &Provider, echo: &Echo) {
    let url = provider.server.url.clone();
    rig.app.services.dynamic_dns().set_endpoints(Endpoints {
        cloudflare: url.clone(),
        route53: url.clone(),
        digitalocean: url,
        echo_v4: Some(echo.url.clone()),
        echo_v6: None,
        reach: Reach::Anywhere,
    });
}

async fn provider(rig: &Rig, body: Value) -> u64 {
    let stored = rig.ok("POST", "/acme/dns-providers", body).await;
    assert!(!stored.to_string().contains("marked"), "{stored}");
    stored["id"].as_u64().unwrap()
}

async fn cloudflare(rig: &Rig) -> u64 {
    provider(rig, json!({ "name": "cf", "kind": "cloudflare", "zone": ZONE, "api_token": TOKEN })).await
}

async fn update(rig: &Rig, id: &Value) -> Value {
    rig.ok("POST", &format!("/ddns/records/{id}/update"), Value::Null).await
}

async fn record(rig: &Rig, id: &Value) -> Value {
    let all = rig.get("/ddns/records").await;
    all.as_array().unwrap().iter().find(|record| record["id"] == *id).cloned().unwrap()
}

#[test]
fn n14_records_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let id = cloudflare(&rig).await;
        let good = json!({ "provider_id": id, "hostname": "fw.example.org" });
        let with = |changes: Value| {
            let mut body = good.clone();
            body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            body
        };
        for (changes, field) in [
            (json!({ "hostname": "nodot" }), "hostname"),
            (json!({ "hostname": "-fw.example.org" }), "hostname"),
            (json!({ "hostname": "fw.example.net" }), "hostname"),
            (json!({ "hostname": "notexample.org" }), "hostname"),
            (json!({ "hostname": "a.*.example.org" }), "hostname"),
            (json!({ "ttl": 30 }), "ttl"),
            (json!({ "ttl": 86_401 }), "ttl"),
            (json!({ "record_type": "mx" }), "record_type"),
            (json!({ "source": "dream" }), "source"),
            (json!({ "source": "interface" }), "interface"),
            (json!({ "source": "explicit" }), "explicit_ip"),
            (json!({ "source": "explicit", "explicit_ip": "2600::1" }), "explicit_ip"),
            (
                json!({ "source": "explicit", "explicit_ip": "198.51.100.1", "record_type": "both" }),
                "explicit_ip",
            ),
            (json!({ "provider_id": 4711 }), "provider_id"),
        ] {
            let told = rig.refused(400, "POST", "/ddns/records", with(changes.clone())).await;
            assert!(told.starts_with(&format!("{field}: ")), "{changes}: {told}");
        }
        let stored = rig.ok("POST", "/ddns/records", good.clone()).await;
        let expected = json!({ "id": stored["id"], "provider_id": id, "provider_name": "cf", "hostname": "fw.example.org", "record_type": "a",
            "source": "auto-public", "interface": null, "explicit_ip": null, "ttl": 60, "enabled": true, "last_ip": null, "last_ipv6": null,
            "last_updated": null, "last_status": null, "last_error": null });
        assert_eq!(stored, expected);
        rig.refused(409, "POST", "/ddns/records", good.clone()).await;
        // Another type of the same name is another record; a wildcard and the zone itself are names.
        rig.ok("POST", "/ddns/records", with(json!({ "record_type": "aaaa" }))).await;
        rig.ok("POST", "/ddns/records", with(json!({ "hostname": "*.example.org" }))).await;
        let apex = rig.ok("POST", "/ddns/records", with(json!({ "hostname": "Example.org." }))).await;
        assert_eq!(apex["hostname"], "example.org");
        let path = format!("/ddns/records/{}", stored["id"]);
        let replaced = rig.ok("PUT", &path, with(json!({ "ttl": 300, "enabled": false }))).await;
        assert_eq!(
            (&replaced["ttl"], &replaced["enabled"], &replaced["id"]),
            (&300.into(), &false.into(), &stored["id"])
        );
        rig.refused(409, "PUT", &path, with(json!({ "hostname": "*.example.org" }))).await;
        rig.refused(404, "PUT", "/ddns/records/4711", good.clone()).await;
        rig.refused(400, "PUT", "/ddns/records/first", good).await;
        rig.refused(404, "POST", "/ddns/records/4711/update", Value::Null).await;
    });
}

#[test]
fn n15_the_list_is_bare_and_deleting_answers_204() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        assert_eq!(rig.get("/ddns/records").await, json!([]));
        let id = cloudflare(&rig).await;
        for name in ["b.example.org", "a.example.org"] {
            rig.ok("POST", "/ddns/records", json!({ "provider_id": id, "hostname": name })).await;
        }
        let names = |list: &Value| {
            list.as_array().unwrap().iter().map(|row| row["hostname"].clone()).collect::<Vec<_>>()
        };
        let list = rig.get("/ddns/records").await;
        assert_eq!(names(&list), ["a.example.org", "b.example.org"]);
        // A provider that records use stays; the refusal names them.
        let told = rig.refused(409, "DELETE", &format!("/acme/dns-providers/{id}"), Value::Null).await;
        assert!(told.contains("a.example.org") && told.contains("b.example.org"), "{told}");
        for row in list.as_array().unwrap() {
            let path = format!("/ddns/records/{}", row["id"]);
            for _ in 0..2 {
                let answer = rig.client.delete(&path).send().await;
                assert_eq!((answer.status, answer.body.len()), (204, 0));
            }
        }
        assert_eq!(rig.client.delete(&format!("/acme/dns-providers/{id}")).send().await.status, 204);
        rig.refused(404, "DELETE", &format!("/acme/dns-providers/{id}"), Value::Null).await;
        // A number is never given again.
        assert!(cloudflare(&rig).await > id);
    });
}

#[test]
fn n16_what_is_unchanged_costs_no_call_and_failures_are_told_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let (cf, echo) = (Provider::cloudflare(), Echo::new("198.51.100.7"));
    block_on(async {
        let rig = Rig::new(dir.path());
        lead(&rig, &cf, &echo);
        let account = cloudflare(&rig).await;
        let id = rig
            .ok(
                "POST",
                "/ddns/records",
                json!({ "provider_id": account, "hostname": "fw.example.org", "ttl": 120 }),
            )
            .await["id"]
            .clone();
        let done = update(&rig, &id).await;
        assert_eq!(done["ok"], true);
        assert!(
            text(&done["message"]).contains("fw.example.org")
                && text(&done["message"]).contains("198.51.100.7"),
            "{done}"
        );
        assert_eq!(cf.has("A", "fw.example.org"), ["198.51.100.7"]);
        assert!(!cf.server.taken().is_empty());
        let shown = record(&rig, &id).await;
        assert_eq!(
            (&shown["last_ip"], &shown["last_status"], &shown["last_error"]),
            (&"198.51.100.7".into(), &"updated".into(), &Value::Null)
        );
        assert!(text(&shown["last_updated"]).ends_with('Z'));

        assert_eq!(update(&rig, &id).await["ok"], true);
        assert_eq!(record(&rig, &id).await["last_status"], "unchanged");
        assert!(cf.server.taken().is_empty(), "nothing has changed");

        // A new address goes into the record that is there, whose other settings stay.
        echo.say("198.51.100.8");
        cf.records.lock().unwrap()[0].proxied = true;
        update(&rig, &id).await;
        assert_eq!(cf.has("A", "fw.example.org"), ["198.51.100.8"]);
        assert!(cf.records.lock().unwrap()[0].proxied);

        // The provider refuses, and repeats the token.
        let path = format!("/acme/dns-providers/{account}");
        let body = json!({ "name": "cf", "kind": "cloudflare", "zone": ZONE, "api_token": "marked-wrong" });
        rig.ok("PUT", &path, body.clone()).await;
        echo.say("198.51.100.9");
        let failed = update(&rig, &id).await;
        assert_eq!(failed["ok"], false);
        let shown = record(&rig, &id).await;
        assert_eq!((&shown["last_status"], &shown["last_ip"]), (&"error".into(), &"198.51.100.8".into()));
        let error = text(&shown["last_error"]);
        assert!(error.starts_with("v4: ") && error.contains("Invalid access token"), "{error}");
        assert!(!failed.to_string().contains("marked") && !shown.to_string().contains("marked"));
        assert!(!std::fs::read_to_string(dir.path().join("ddns-published.json")).unwrap().contains("marked"));

        // It is left alone for a while; a change of the account brings it back at once.
        let config = || rig.app.store.snapshot().config.clone();
        let ddns = rig.app.services.dynamic_dns().clone();
        cf.server.taken();
        ddns.sweep(&config(), false);
        assert!(cf.server.taken().is_empty() && !ddns.is_retry_due(&config()));
        let mut right = body.clone();
        right["api_token"] = TOKEN.into();
        rig.ok("PUT", &path, right).await;
        assert!(ddns.is_retry_due(&config()));
        ddns.sweep(&config(), true);
        assert_eq!(cf.has("A", "fw.example.org"), ["198.51.100.9"]);
        assert!(!ddns.is_retry_due(&config()));

        // What the echo server says is no address.
        for wrong in ["", "<html>", "2600::1"] {
            echo.say(wrong);
            let failed = update(&rig, &id).await;
            assert!(text(&failed["message"]).starts_with("detect v4: "), "{failed}");
        }
        // A disabled record is left alone.
        echo.say("198.51.100.10");
        rig.ok(
            "PUT",
            &format!("/ddns/records/{id}"),
            json!({ "provider_id": account, "hostname": "fw.example.org", "ttl": 120, "enabled": false }),
        )
        .await;
        cf.server.taken();
        assert_eq!(update(&rig, &id).await["ok"], true);
        ddns.sweep(&config(), false);
        assert!(cf.server.taken().is_empty());
    });
    // After a start nothing is published anew.
    block_on(async {
        let rig = Rig::new(dir.path());
        lead(&rig, &cf, &echo);
        echo.say("198.51.100.9");
        let account = &rig.get("/acme/dns-providers").await[0]["id"];
        let id = rig.get("/ddns/records").await[0]["id"].clone();
        rig.ok(
            "PUT",
            &format!("/ddns/records/{id}"),
            json!({ "provider_id": account, "hostname": "fw.example.org", "ttl": 120 }),
        )
        .await;
        assert_eq!(record(&rig, &id).await["last_ip"], "198.51.100.9");
        cf.server.taken();
        rig.app.services.dynamic_dns().sweep(&rig.app.store.snapshot().config.clone(), false);
        assert_eq!(record(&rig, &id).await["last_status"], "unchanged");
        assert!(cf.server.taken().is_empty());
    });
    // But once a day it is, since somebody may have changed the zone.
    let path = dir.path().join("ddns-published.json");
    let mut runs: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let (_, run) = runs.as_object_mut().unwrap().iter_mut().next().unwrap();
    assert!(run["published_v4"].is_string());
    run["published_v4"] = "2026-01-01T00:00:00Z".into();
    std::fs::write(&path, runs.to_string()).unwrap();
    cf.records.lock().unwrap()[0].content = "192.0.2.99".into();
    block_on(async {
        let rig = Rig::new(dir.path());
        lead(&rig, &cf, &echo);
        rig.app.services.dynamic_dns().sweep(&rig.app.store.snapshot().config.clone(), false);
        assert_eq!(cf.has("A", "fw.example.org"), ["198.51.100.9"]);
    });
}

#[test]
fn n17_intervals_and_echo_services_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let fresh = json!({ "poll_interval_secs": 300, "ip_echo_url_v4": "https://api.ipify.org", "ip_echo_url_v6": "https://api6.ipify.org" });
        assert_eq!(rig.get("/ddns/config").await, fresh);
        for (field, value) in [
            ("ip_echo_url_v4", json!("http://api.ipify.org")),
            ("ip_echo_url_v4", json!("https://127.0.0.1/")),
            ("ip_echo_url_v6", json!("https://[fe80::1]/")),
            ("ip_echo_url_v6", json!("https://[::ffff:10.0.0.1]/")),
            ("ip_echo_url_v4", json!("https://localhost/")),
            ("ip_echo_url_v4", json!("https://100.64.0.1/")),
            ("poll_interval_secs", json!(59)),
            ("poll_interval_secs", json!(86_401)),
            ("poll_interval_secs", Value::Null),
        ] {
            let mut body = fresh.clone();
            body[field] = value.clone();
            let told = rig.refused(400, "PUT", "/ddns/config", body).await;
            assert!(told.starts_with(&format!("{field}: ")), "{value}: {told}");
        }
        let changed = json!({ "poll_interval_secs": 600, "ip_echo_url_v4": "https://echo.example/", "ip_echo_url_v6": "https://[2600::1]/" });
        assert_eq!(rig.ok("PUT", "/ddns/config", changed.clone()).await, changed);
        assert_eq!(rig.get("/ddns/config").await, changed);
        // A name that leads inside is refused when it is used.
        let account = cloudflare(&rig).await;
        let inside = json!({ "poll_interval_secs": 600, "ip_echo_url_v4": "https://ip6-localhost.localdomain.example/", "ip_echo_url_v6": "https://[2600::1]/" });
        rig.ok("PUT", "/ddns/config", inside).await;
        let id = rig
            .ok("POST", "/ddns/records", json!({ "provider_id": account, "hostname": "fw.example.org" }))
            .await["id"]
            .clone();
        let failed = update(&rig, &id).await;
        assert!(text(&failed["message"]).starts_with("detect v4: "), "{failed}");
    });
}

/// Creates, changes, leaves one record where there were two; then the test of the account, which leaves nothing.
async fn lives(rig: &Rig, provider: &Provider, account: u64, more_than_one: bool) {
    let explicit = |address: &str| json!({ "provider_id": account, "hostname": "a.example.org", "source": "explicit", "explicit_ip": address, "ttl": 300 });
    if more_than_one {
        provider.plant("A", "a.example.org", "192.0.2.1");
        provider.plant("A", "a.example.org", "192.0.2.2");
        provider.plant("AAAA", "a.example.org", "2600::99");
        provider.plant("A", "b.a.example.org", "192.0.2.3");
    }
    let id = rig.ok("POST", "/ddns/records", explicit("198.51.100.1")).await["id"].clone();
    let done = update(rig, &id).await;
    assert_eq!(done["ok"], true, "{done}");
    assert_eq!(provider.has("A", "a.example.org"), ["198.51.100.1"]);
    rig.ok("PUT", &format!("/ddns/records/{id}"), explicit("198.51.100.2")).await;
    assert_eq!(update(rig, &id).await["ok"], true);
    assert_eq!(provider.has("A", "a.example.org"), ["198.51.100.2"]);
    assert_eq!(
        provider.records.lock().unwrap().iter().find(|record| record.content == "198.51.100.2").unwrap().ttl,
        300
    );
    if more_than_one {
        assert_eq!(
            (provider.has("AAAA", "a.example.org"), provider.has("A", "b.a.example.org")),
            (vec!["2600::99".into()], vec!["192.0.2.3".into()])
        );
    }
    let six = json!({ "provider_id": account, "hostname": ZONE, "record_type": "aaaa", "source": "explicit", "explicit_ip": "2600::7" });
    let six = rig.ok("POST", "/ddns/records", six).await["id"].clone();
    assert_eq!(update(rig, &six).await["ok"], true);
    assert_eq!(provider.has("AAAA", ZONE), ["2600::7"]);
    let tested = rig.ok("POST", &format!("/acme/dns-providers/{account}/test"), Value::Null).await;
    assert_eq!(tested, json!({ "ok": true, "message": "TXT add+remove OK" }));
    assert!(provider.records.lock().unwrap().iter().all(|record| record.kind != "TXT"));
}

/// A wrong secret is told without it, by a forced run and by the test.
async fn refuses(rig: &Rig, account: u64, body: Value) {
    rig.ok("PUT", &format!("/acme/dns-providers/{account}"), body).await;
    let tested = rig.ok("POST", &format!("/acme/dns-providers/{account}/test"), Value::Null).await;
    assert!(tested["ok"] == false && text(&tested["message"]).starts_with("add_txt: "), "{tested}");
    let mut records = rig.get("/ddns/records").await.as_array().unwrap().clone();
    records.retain(|record| record["hostname"] == "a.example.org");
    let changed = json!({ "provider_id": account, "hostname": "a.example.org", "source": "explicit", "explicit_ip": "198.51.100.3", "ttl": 300 });
    rig.ok("PUT", &format!("/ddns/records/{}", records[0]["id"]), changed).await;
    let failed = update(rig, &records[0]["id"]).await;
    assert_eq!(failed["ok"], false);
    assert!(
        !tested.to_string().contains("marked") && !failed.to_string().contains("marked"),
        "{tested} {failed}"
    );
}

fn rig_for(dir: &Path, provider: &Provider) -> Rig {
    let rig = Rig::new(dir);
    lead(&rig, provider, &Echo::new("198.51.100.1"));
    rig
}

#[test]
fn cloudflare_keeps_one_record_and_what_else_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let cf = Provider::cloudflare();
    block_on(async {
        let rig = rig_for(dir.path(), &cf);
        let account = cloudflare(&rig).await;
        lives(&rig, &cf, account, true).await;
        let methods: Vec<String> = cf.server.taken().into_iter().map(|request| request.method).collect();
        assert!(!methods.contains(&"PUT".into()), "PUT drops what it does not name");
        refuses(
            &rig,
            account,
            json!({ "name": "cf", "kind": "cloudflare", "zone": ZONE, "api_token": "marked-wrong" }),
        )
        .await;
        // With the zone's number, the zone is not asked for.
        cf.server.taken();
        let known = json!({ "name": "cf", "kind": "cloudflare", "zone": ZONE, "api_token": TOKEN, "extra": { "zone_id": "z1" } });
        rig.ok("PUT", &format!("/acme/dns-providers/{account}"), known).await;
        rig.ok("POST", &format!("/acme/dns-providers/{account}/test"), Value::Null).await;
        let asked = cf.server.taken();
        assert!(!asked.is_empty() && asked.iter().all(|request| request.path != "/zones"));
        // A zone that the account does not have.
        let other = provider(
            &rig,
            json!({ "name": "other", "kind": "cloudflare", "zone": "example.net", "api_token": TOKEN }),
        )
        .await;
        let tested = rig.ok("POST", &format!("/acme/dns-providers/{other}/test"), Value::Null).await;
        assert!(text(&tested["message"]).contains("example.net"), "{tested}");
    });
}

#[test]
fn route53_is_asked_signed() {
    let dir = tempfile::tempdir().unwrap();
    let route53 = Provider::route53();
    block_on(async {
        let rig = rig_for(dir.path(), &route53);
        let body = json!({ "name": "r53", "kind": "route53", "zone": ZONE, "api_token": ACCESS_KEY, "aws_secret_key": TOKEN });
        let account = provider(&rig, body.clone()).await;
        lives(&rig, &route53, account, false).await;
        let mut wrong = body.clone();
        wrong["aws_secret_key"] = "marked-wrong".into();
        refuses(&rig, account, wrong).await;
        let other = json!({ "name": "other", "kind": "route53", "zone": "example.net", "api_token": ACCESS_KEY, "aws_secret_key": TOKEN });
        let other = provider(&rig, other).await;
        let tested = rig.ok("POST", &format!("/acme/dns-providers/{other}/test"), Value::Null).await;
        assert!(
            text(&tested["message"]).contains("example.net"),
            "another zone is not taken for it: {tested}"
        );
    });
}

#[test]
fn digitalocean_is_told_relative_names() {
    let dir = tempfile::tempdir().unwrap();
    let ocean = Provider::digitalocean();
    block_on(async {
        let rig = rig_for(dir.path(), &ocean);
        let body = json!({ "name": "do", "kind": "digitalocean", "zone": ZONE, "api_token": TOKEN });
        let account = provider(&rig, body.clone()).await;
        lives(&rig, &ocean, account, true).await;
        let mut wrong = body;
        wrong["api_token"] = "marked-wrong".into();
        refuses(&rig, account, wrong).await;
    });
}

#[test]
fn rfc2136_updates_a_real_name_server() {
    let dir = tempfile::tempdir().unwrap();
    let named = Named::start(dir.path(), &[ZONE], "a IN A 192.0.2.1\na IN A 192.0.2.2\na IN TXT \"stays\"\n");
    let state = dir.path().join("state");
    block_on(async {
        let rig = Rig::new(&state);
        let extra = json!({ "server": "127.0.0.1", "port": named.port, "key_name": "updates", "algorithm": "hmac-sha256" });
        let body = json!({ "name": "bind", "kind": "rfc2136", "zone": ZONE, "api_token": named::SECRET, "extra": extra });
        let account = provider(&rig, body.clone()).await;
        let both = |four: &str| json!({ "provider_id": account, "hostname": "a.example.org", "source": "explicit", "explicit_ip": four, "ttl": 300 });
        let id = rig.ok("POST", "/ddns/records", both("198.51.100.1")).await["id"].clone();
        let done = update(&rig, &id).await;
        assert_eq!(done["ok"], true, "{done}");
        // In place of both, and of nothing else.
        assert_eq!(
            (named.ask("a.example.org", "A"), named.ask("a.example.org", "TXT")),
            ("198.51.100.1".into(), "\"stays\"".into())
        );
        let six = json!({ "provider_id": account, "hostname": "a.example.org", "record_type": "aaaa", "source": "explicit", "explicit_ip": "2600::7" });
        let six = rig.ok("POST", "/ddns/records", six).await["id"].clone();
        assert_eq!(update(&rig, &six).await["ok"], true);
        assert_eq!(
            (named.ask("a.example.org", "A"), named.ask("a.example.org", "AAAA")),
            ("198.51.100.1".into(), "2600::7".into())
        );
        let tested = rig.ok("POST", &format!("/acme/dns-providers/{account}/test"), Value::Null).await;
        assert_eq!(tested, json!({ "ok": true, "message": "TXT add+remove OK" }));
        assert_eq!(named.ask("_acme-aifw-test.example.org", "TXT"), "");

        // A wrong secret: nothing is changed, and it is said.
        let mut wrong = body.clone();
        wrong["api_token"] = "bWFya2VkLXdyb25n".into();
        rig.ok("PUT", &format!("/acme/dns-providers/{account}"), wrong).await;
        rig.ok("PUT", &format!("/ddns/records/{id}"), both("198.51.100.2")).await;
        let failed = update(&rig, &id).await;
        assert_eq!(failed["ok"], false);
        assert!(!failed.to_string().contains("bWFya2Vk"), "{failed}");
        assert_eq!(named.ask("a.example.org", "A"), "198.51.100.1");
        // One that is not there.
        drop(named);
        rig.ok("PUT", &format!("/acme/dns-providers/{account}"), body.clone()).await;
        let failed = update(&rig, &id).await;
        assert!(text(&failed["message"]).contains("cannot be reached"), "{failed}");
        let mut metadata = body;
        metadata["extra"]["server"] = "169.254.169.254".into();
        rig.ok("PUT", &format!("/acme/dns-providers/{account}"), metadata).await;
        assert!(text(&update(&rig, &id).await["message"]).contains("metadata"));
    });
}

/// One family's failure does not undo the other's success; interfaces are asked for their addresses.
#[test]
fn families_stand_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let cf = Provider::cloudflare();
    block_on(async {
        let rig = rig_for(dir.path(), &cf);
        let account = cloudflare(&rig).await;
        let on = |interface: &str, kind: &str| json!({ "provider_id": account, "hostname": "if.example.org", "record_type": kind, "source": "interface", "interface": interface });
        let interfaces = rig.app.platform.interfaces().unwrap();
        let wan = interfaces.iter().find(|interface| {
            interface.addresses.iter().any(|net| net.addr().is_ipv4() && !net.addr().is_loopback())
        });
        let wan = wan.expect("the sandbox has an interface with an address");
        let address = wan.addresses.iter().map(|net| net.addr()).find(|address| address.is_ipv4()).unwrap();
        let id = rig.ok("POST", "/ddns/records", on(&wan.name, "both")).await["id"].clone();
        let done = update(&rig, &id).await;
        assert_eq!(cf.has("A", "if.example.org"), [address.to_string()]);
        let shown = record(&rig, &id).await;
        assert_eq!(shown["last_ip"], address.to_string());
        if done["ok"] == false {
            assert_eq!(shown["last_status"], "error");
            assert!(text(&shown["last_error"]).starts_with("detect v6: "), "{shown}");
        }
        rig.ok("PUT", &format!("/ddns/records/{id}"), on("nosuch0", "a")).await;
        let failed = update(&rig, &id).await;
        assert!(text(&failed["message"]).starts_with("detect v4: nosuch0"), "{failed}");
    });
}

#[test]
fn manual_and_incomplete_accounts_say_what_they_lack() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let manual = provider(&rig, json!({ "name": "m", "kind": "manual", "zone": ZONE })).await;
        let explicit = json!({ "provider_id": manual, "hostname": "m.example.org", "source": "explicit", "explicit_ip": "198.51.100.1" });
        let id = rig.ok("POST", "/ddns/records", explicit).await["id"].clone();
        let failed = update(&rig, &id).await;
        assert!(
            failed["ok"] == false && text(&failed["message"]).contains("automatic DNS provider"),
            "{failed}"
        );
        let tested = rig.ok("POST", &format!("/acme/dns-providers/{manual}/test"), Value::Null).await;
        assert_eq!(tested["ok"], false);
        let bare = provider(&rig, json!({ "name": "bare", "kind": "cloudflare", "zone": ZONE })).await;
        let tested = rig.ok("POST", &format!("/acme/dns-providers/{bare}/test"), Value::Null).await;
        assert!(text(&tested["message"]).contains("api_token is not set"), "{tested}");
        let missing = rig.ok("POST", "/acme/dns-providers/4711/test", Value::Null).await;
        assert_eq!(missing, json!({ "ok": false, "message": "not found" }));
        for (bad, field) in [
            (json!({ "name": " ", "kind": "manual", "zone": ZONE }), "name"),
            (json!({ "name": "x", "kind": "bind", "zone": ZONE }), "kind"),
            (json!({ "name": "x", "kind": "manual", "zone": "*.example.org" }), "zone"),
            (json!({ "name": "x", "kind": "rfc2136", "zone": ZONE }), "extra.server"),
            (
                json!({ "name": "x", "kind": "rfc2136", "zone": ZONE, "api_token": "no base64!" }),
                "extra.server",
            ),
        ] {
            let told = rig.refused(400, "POST", "/acme/dns-providers", bad.clone()).await;
            assert!(told.starts_with(&format!("{field}: ")), "{bad}: {told}");
        }
        rig.refused(
            409,
            "POST",
            "/acme/dns-providers",
            json!({ "name": "m", "kind": "manual", "zone": ZONE }),
        )
        .await;
        // A token that was given for one company is not another's.
        let path = format!("/acme/dns-providers/{bare}");
        let kept = |kind: &str, token: Value| json!({ "name": "bare", "kind": kind, "zone": ZONE, "api_token": token });
        assert_eq!(rig.ok("PUT", &path, kept("cloudflare", "marked-token".into())).await["has_token"], true);
        assert_eq!(rig.ok("PUT", &path, kept("cloudflare", Value::Null)).await["has_token"], true);
        assert_eq!(rig.ok("PUT", &path, kept("digitalocean", Value::Null)).await["has_token"], false);
    });
}
