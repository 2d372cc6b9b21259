//! The configuration API (contract/config.md §8, without OPNsense and S3): one test for each behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aifw::api::testing::{Client, app_with_pf};
use aifw::api::{self, Access, ApiError, App, Call, Reply, Route};
use aifw::config::ha::CarpVip;
use aifw::config::rule::{Action, Direction, Endpoint, IpVersion, Protocol, StateOptions};
use aifw::config::vpn::WireGuard;
use aifw::config::{
    Address, Alias, AliasKind, AuthSettings, Collection, GeoIpAction, GeoIpRule, Id, Permission, Rule,
    Secret, Status, System, TableName, Timestamp,
};
use aifw::pf::sim::Simulator;
use aifw::pf::{AnchorName, InterfaceCounters, LoadedRule, LoggedPacket, Pf, PfError, PfInfo, StateEntry};
use aifw::store::{Author, Draft};
use serde_json::{Value, json};
use smol::block_on;

/// An appliance on a directory, its clients, and a packet filter that outlives it.
struct Appliance {
    app: Arc<App>,
    client: Client,
    _work: smol::Task<()>,
}

fn rule(id: u128, description: &str) -> Rule {
    Rule {
        id: Id::from_u128(id),
        priority: 100,
        action: Action::Pass,
        direction: Direction::In,
        ip_version: IpVersion::Both,
        interface: Some("em0".parse().unwrap()),
        protocol: Protocol::Tcp,
        src: Endpoint::default(),
        dst: Endpoint { port: Some(aifw::config::PortRange::new(443, 443).unwrap()), ..Endpoint::default() },
        log: false,
        quick: true,
        label: Some(format!("label-{id}").parse().unwrap()),
        description: Some(description.into()),
        gateway: None,
        state: StateOptions::default(),
        status: Status::Active,
        schedule_id: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// Stand-ins for writes of other areas: a rule, and something that changes nothing.
fn writes() -> Vec<Route> {
    async fn put(call: Call) -> Result<Reply, ApiError> {
        let id: u128 = call.param("id").parse().map_err(|_| ApiError::bad_request("id"))?;
        let text = call.query("text").unwrap_or("from the test").to_owned();
        let change = move |draft: &mut Draft| {
            draft.config.rules.insert(rule(id, &text));
            Ok::<(), ApiError>(())
        };
        call.app.store.commit(&call.author(), change).await?;
        Ok(Reply::message("done"))
    }
    let access = Access::Needs(Permission::RulesWrite);
    vec![
        Route::new("PUT", "/test-rules/{id}", access, "test", put),
        Route::new("POST", "/test-rules/{id}", access, "test", put),
        Route::new("GET", "/test-rules/{id}", Access::Needs(Permission::RulesRead), "test", |_| async {
            Ok(Reply::message("read"))
        }),
    ]
}

impl Appliance {
    fn start(dir: &std::path::Path, pf: Arc<dyn Pf>) -> Self {
        let mut app = app_with_pf(dir, pf);
        app.after_write.push(api::config::auto_snapshot(app.store.clone()));
        let app = Arc::new(app);
        let _work = smol::spawn(app.applier.clone().run());
        block_on(app.applier.start()).unwrap();
        let routes = [api::routes(), writes()].concat();
        let client = Client::new(api::app(app.clone(), routes)).with_bearer("all");
        Self { app, client, _work }
    }
    fn new() -> (Self, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Self::start(dir.path(), Arc::new(Simulator::default())), dir)
    }
    fn edit(&self, change: impl FnOnce(&mut Draft) + Send + 'static) {
        let author = Author::system("test");
        let change = |draft: &mut Draft| {
            change(draft);
            Ok::<(), Infallible>(())
        };
        block_on(self.app.store.commit(&author, change)).unwrap();
    }
    fn get(&self, path: &str) -> (u16, Value) {
        block_on(self.client.get(path).into_future())
    }
    fn post(&self, path: &str, body: Value) -> (u16, Value) {
        block_on(self.client.post(path).json(body).into_future())
    }
    /// `GET` that must succeed.
    fn read(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
    /// `POST` that must succeed; its message.
    fn done(&self, path: &str, body: Value) -> String {
        let (status, body) = self.post(path, body);
        assert_eq!(status, 200, "{path}: {body}");
        body["message"].as_str().unwrap_or_default().to_owned()
    }
    fn history(&self) -> Vec<Value> {
        self.read("/config/history")["data"].as_array().unwrap().clone()
    }
    /// Waits for the history to have this many versions.
    fn await_versions(&self, count: usize) -> Vec<Value> {
        let begin = Instant::now();
        let changes = self.app.store.watch();
        loop {
            let history = self.history();
            if history.len() >= count {
                return history;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "still {} versions", history.len());
            let _ = block_on(smol::future::or(async { changes.recv().await.ok() }, async {
                smol::Timer::after(Duration::from_millis(100)).await;
                None
            }));
        }
    }
    fn rule_ids(&self) -> Vec<u128> {
        self.app.store.snapshot().config.rules.iter().map(|rule| rule.id.as_u128()).collect()
    }
    /// Labels of the filter rules that pf has.
    fn loaded(&self) -> String {
        let (_, filter) = self.app.pf.rules(Some("aifw")).unwrap();
        format!("{filter:?}")
    }
    fn audit(&self) -> Vec<String> {
        let filter = aifw::store::AuditFilter {
            source: Some("config".into()),
            limit: 100,
            ..aifw::store::AuditFilter::default()
        };
        self.app.store.audit(&filter).unwrap().0.into_iter().map(|entry| entry.details).collect()
    }
}

/// A configuration with something in many sections, secrets among it.
fn furnish(draft: &mut Draft) {
    let config = &mut draft.config;
    config.system = System {
        dns_servers: vec!["9.9.9.9".parse().unwrap()],
        wan_interface: Some("em0".parse().unwrap()),
        lan_interface: Some("em1".parse().unwrap()),
        ..(*config.system).clone()
    }
    .into();
    config.auth = AuthSettings { require_totp_for_oauth: true, ..(*config.auth).clone() }.into();
    config.rules.insert(rule(1, "one"));
    config.rules.insert(Rule {
        interface: Some("em1".parse().unwrap()),
        src: Endpoint { addr: Address::Table(TableName::new("servers").unwrap()), ..Endpoint::default() },
        ..rule(2, "two")
    });
    config.aliases.insert(Alias {
        id: Id::from_u128(3),
        name: TableName::new("servers").unwrap(),
        alias_type: AliasKind::Host,
        entries: vec!["192.0.2.1".into()],
        description: None,
        enabled: true,
        refresh_secs: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    });
    config.geoip.insert(GeoIpRule {
        id: Id::from_u128(4),
        country: aifw::config::geoip::Country::new("AQ").unwrap(),
        action: GeoIpAction::Block,
        label: None,
        status: Status::Disabled,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    });
    config.static_routes = serde_json::from_value::<Vec<_>>(json!([
        {"id": Id::from_u128(5), "destination": "10.9.0.0/16", "gateway": "192.168.1.9", "interface": "em1",
         "metric": 3, "enabled": true, "description": "lab", "fib": 1, "created_at": "2026-01-01T00:00:00Z"},
    ]))
    .unwrap()
    .into_iter()
    .collect();
    config.wireguard = Collection::from_iter([WireGuard {
        id: Id::from_u128(6),
        name: "office".into(),
        interface: "wg0".parse().unwrap(),
        listen_port: 51820,
        address: "10.8.0.1/24".into(),
        private_key: Secret::new("wireguard-private-key"),
        public_key: "pub".into(),
        dns: None,
        mtu: None,
        peers: Vec::new(),
    }]);
    config.carp_vips = Collection::from_iter([CarpVip {
        id: Id::from_u128(7),
        vhid: 1,
        virtual_ip: "192.168.1.254".parse().unwrap(),
        prefix: 24,
        interface: "em1".parse().unwrap(),
        password: Secret::new("carp-password"),
    }]);
    draft.applied = draft.config.clone();
}

#[test]
fn b01_save_makes_version_1_and_marks_it_applied() {
    let (box_, _dir) = Appliance::new();
    assert_eq!(box_.done("/config/save", json!({"comment": "x"})), "Config saved as version 1");
    let history = box_.history();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["version"], 1);
    assert_eq!(history[0]["applied"], true);
    assert_eq!(history[0]["comment"], "x");
    assert_eq!(history[0]["created_by"], "tester");
    assert_eq!(history[0]["rolled_back"], false);
    let hash = history[0]["hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    // Unchanged, and with an empty body: a version all the same.
    let (status, body) = block_on(box_.client.post("/config/save").into_future());
    assert_eq!((status, body["message"].as_str()), (200, Some("Config saved as version 2")));
    let history = box_.history();
    assert_eq!(history[0]["hash"], history[1]["hash"]);
    assert_eq!((&history[0]["applied"], &history[1]["applied"]), (&json!(true), &json!(false)));
    assert_eq!(box_.post("/config/save", json!({"comment": "é".repeat(500)})).0, 200);
    assert_eq!(box_.post("/config/save", json!({"comment": "é".repeat(501)})).0, 400);
    assert_eq!(box_.audit()[0], "saved version 3");
    for limit in ["0", "10001", "x", "-1"] {
        assert_eq!(box_.get(&format!("/config/history?limit={limit}")).0, 400, "{limit}");
    }
    let page = box_.read("/config/history?limit=2");
    assert_eq!((page["data"].as_array().unwrap().len(), &page["total"]), (2, &json!(3)));
    let last = box_.read("/config/history?limit=2&offset=2");
    assert_eq!((&last["data"][0]["version"], &last["data"][1]), (&json!(1), &Value::Null));
    assert_eq!(box_.get("/config/history?offset=-1").0, 400);
}

#[test]
fn b02_a_write_adds_an_automatic_version_a_read_or_no_op_none() {
    let (box_, _dir) = Appliance::new();
    let (status, created) = box_.post(
        "/rules",
        json!({"action": "pass", "direction": "in", "protocol": "tcp", "dst_port_start": 443}),
    );
    assert_eq!(status, 201, "{created}");
    let history = box_.await_versions(1);
    assert_eq!(history[0]["created_by"], "auto");
    assert_eq!(history[0]["comment"], "POST /api/v1/rules");
    assert_eq!(history[0]["applied"], false);
    assert_eq!(history[0]["resource_count"], 1);
    box_.done("/test-rules/1", json!({}));
    box_.await_versions(2);
    // A no-op write and a read, then a real one: exactly one version more.
    let (status, _) = block_on(box_.client.put("/test-rules/1").into_future());
    assert_eq!(status, 200);
    box_.read("/test-rules/1");
    let (status, _) = block_on(box_.client.put("/test-rules/2").into_future());
    assert_eq!(status, 200);
    let history = box_.await_versions(3);
    assert_eq!(history.len(), 3);
    assert_eq!(history[0]["comment"], "PUT /api/v1/test-rules/2");
    // A burst becomes one version, at the latest a second after its first write.
    let begin = Instant::now();
    for id in 3..20 {
        box_.done(&format!("/test-rules/{id}"), json!({}));
    }
    let versions = box_.await_versions(4);
    assert!(versions.len() < 4 + 17, "{} versions, {:?}", versions.len(), begin.elapsed());
}

#[test]
fn b03_diff_counts_by_id_and_refuses_unknown_versions() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    box_.done("/config/save", json!({}));
    box_.done("/config/save", json!({}));
    let none = json!({"added": 0, "removed": 0, "changed": 0, "v1_count": 2, "v2_count": 2});
    let diff = box_.read("/config/diff?v1=1&v2=2")["data"].clone();
    assert_eq!(diff["identical"], true);
    assert_eq!(diff["rules_diff"], none);
    assert_eq!(diff["v1_hash"], diff["v2_hash"]);
    assert_eq!(diff["sections"], json!({}));
    box_.edit(|draft| {
        draft.config.rules.remove(&Id::from_u128(1));
        draft.config.rules.insert(rule(9, "nine"));
        draft.config.rules.insert(Rule { log: true, ..rule(2, "two") });
        let mut tunnel = (**draft.config.wireguard.get(&Id::from_u128(6)).unwrap()).clone();
        tunnel.private_key = Secret::new("another-private-key");
        draft.config.wireguard.insert(tunnel);
    });
    box_.done("/config/save", json!({}));
    let diff = box_.read("/config/diff?v1=2&v2=3")["data"].clone();
    assert_eq!(diff["identical"], false);
    assert_eq!(
        diff["rules_diff"],
        json!({"added": 1, "removed": 1, "changed": 1, "v1_count": 2, "v2_count": 2})
    );
    assert_eq!(diff["nat_diff"]["changed"], 0);
    assert_eq!((&diff["total_v1"], &diff["total_v2"]), (&json!(4), &json!(4)));
    assert_eq!(diff["sections"]["rules"]["added"], json!([Id::from_u128(9)]));
    let fields = &diff["sections"]["rules"]["changed"][0]["fields"];
    assert!(fields.as_array().unwrap().contains(&json!({"field": "log", "before": false, "after": true})));
    let secret = json!({"field": "private_key", "before": null, "after": null});
    assert_eq!(diff["sections"]["vpn.wireguard"]["changed"][0]["fields"], json!([secret]));
    assert_eq!(diff["v1_json"]["rules"].as_array().unwrap().len(), 2);
    assert!(!diff.to_string().contains("private-key"));
    assert_eq!(box_.get("/config/diff?v1=1&v2=99").0, 404);
    assert_eq!(box_.get("/config/diff?v1=1").0, 400);
    assert_eq!(box_.get("/config/diff?v1=1&v2=x").0, 400);
}

#[test]
fn b04_version_gives_the_document_or_says_why_not() {
    let (box_, _dir) = Appliance::new();
    assert_eq!(box_.get("/config/version").0, 404, "nothing is saved yet");
    box_.edit(furnish);
    box_.done("/config/save", json!({}));
    box_.edit(|draft| draft.config.rules.clear());
    box_.done("/test-rules/8", json!({}));
    box_.await_versions(2);
    let answer = block_on(box_.client.get("/config/version").send());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("X-Config-Version"), Some("1"), "the active one");
    let active = answer.json();
    assert_eq!(active["schema_version"], 1);
    assert_eq!(active["rules"].as_array().unwrap().len(), 2);
    assert_eq!(active["vpn"]["wireguard"][0]["private_key"], Value::Null);
    assert_eq!(box_.read("/config/version?version=1"), active);
    let newer = box_.read("/config/version?version=2");
    assert_eq!(newer["rules"].as_array().unwrap().len(), 1);
    assert_eq!(box_.get("/config/version?version=9999").0, 404);
    assert_eq!(box_.get("/config/version?version=abc").0, 400);
}

#[test]
fn b05_restore_brings_back_the_same_rules_in_the_api_and_in_pf() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    box_.done("/config/save", json!({"comment": "good"}));
    let good = box_.app.store.snapshot().config.clone();
    box_.edit(|draft| draft.config.rules.clear());
    box_.done("/config/save", json!({"comment": "empty"}));
    block_on(box_.app.applier.reload(&Author::system("test"), None)).unwrap();
    assert!(!box_.loaded().contains("label-1"));
    box_.edit(|draft| draft.config.rules.insert(rule(50, "not saved")));
    assert_eq!(box_.done("/config/restore", json!({"version": 1})), "Restored to version 1");
    let snapshot = box_.app.store.snapshot();
    assert_eq!(snapshot.config, good);
    assert_eq!(snapshot.applied, good);
    assert!(box_.loaded().contains("label-1") && box_.loaded().contains("label-2"), "{}", box_.loaded());
    assert!(!box_.loaded().contains("label-50"));
    let history = box_.history();
    let row = |version: u64| history.iter().find(|row| row["version"] == version).unwrap();
    assert_eq!(row(1)["applied"], true);
    assert_eq!((&row(2)["applied"], &row(2)["rolled_back"]), (&json!(false), &json!(true)));
    // What was live and not saved was saved first.
    assert_eq!(row(3)["comment"], "before restore of v1");
    assert!(box_.read("/config/version?version=3").to_string().contains("not saved"));
    assert_eq!(box_.audit()[0], "restored version 1");
    assert_eq!(box_.post("/config/restore", json!({"version": 99})).0, 404);
    assert_eq!(box_.post("/config/restore", json!({})).0, 400);
    assert_eq!(box_.audit()[0], "restore of version 99 failed: version 99 not found");
}

#[test]
fn b06_an_interface_map_renames_drops_and_keeps() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    box_.edit(|draft| {
        draft.config.rules.insert(Rule { interface: Some("igb7".parse().unwrap()), ..rule(3, "three") });
    });
    box_.done("/config/save", json!({}));
    let map = json!({"em0": "vtnet0", "em1": null});
    let export = box_.read("/config/export");
    let check = |what: &str| {
        let config = box_.app.store.snapshot().config.clone();
        let interfaces: Vec<_> =
            config.rules.iter().map(|rule| rule.interface.as_ref().unwrap().to_string()).collect();
        assert_eq!(interfaces, ["vtnet0", "igb7"], "{what}: one renamed, one dropped, one kept");
        assert!(config.static_routes.is_empty() && config.carp_vips.is_empty(), "{what}");
        assert_eq!(config.wireguard.len(), 1, "{what}: wg0 is not in the map");
    };
    box_.done("/config/restore", json!({"version": 1, "interface_map": map}));
    check("restore");
    box_.edit(furnish);
    let mut import = export;
    import["interface_map"] = map;
    box_.done("/config/import", import.clone());
    check("import");
    for bad in [json!("em0"), json!({"em0": 5}), json!({"em0": "no such name!"})] {
        import["interface_map"] = bad.clone();
        assert_eq!(box_.post("/config/import", import.clone()).0, 400, "{bad}");
        assert_eq!(box_.post("/config/restore", json!({"version": 1, "interface_map": bad})).0, 400);
    }
}

#[test]
fn b07_export_and_import_on_a_clean_system_give_the_same_hash() {
    let (old, _dir) = Appliance::new();
    old.edit(furnish);
    old.done("/config/save", json!({}));
    let hash = old.history()[0]["hash"].clone();
    let plain = old.read("/config/export");
    assert!(plain.get("secrets").is_none());
    assert!(!plain.to_string().contains("carp-password"));
    assert_eq!(plain["static_routes"][0]["fib"], 1);
    let passphrase = "correct horse battery";
    let answer = block_on(old.client.get("/config/export").header("X-AiFw-Passphrase", passphrase).send());
    let export = answer.json();
    assert_eq!(answer.status, 200, "{export}");
    assert!(!export.to_string().contains("carp-password") && export["secrets"].is_object());
    let short = old.client.get("/config/export").header("X-AiFw-Passphrase", "short");
    assert_eq!(block_on(short.into_future()).0, 400);

    let (new, _dir) = Appliance::new();
    let import = |passphrase: &str| {
        let request = new.client.post("/config/import").header("X-AiFw-Passphrase", passphrase);
        block_on(request.json(&export).into_future())
    };
    assert_eq!(import("correct horse batterx").0, 400);
    assert_eq!(new.rule_ids(), [0_u128; 0]);
    let (status, body) = import(passphrase);
    assert_eq!(
        (status, body["message"].as_str().unwrap()),
        (200, "Imported: 2 rules, 0 NAT, 1 geo-IP, 1 WireGuard, 0 IPsec, 1 DNS, 1 static routes")
    );
    let history = new.history();
    assert_eq!(history[0]["hash"], hash);
    assert_eq!(history[0]["applied"], true);
    assert_eq!(history[1]["comment"], "before import");
    assert_eq!(new.read("/config/export")["config"], export["config"]);
    let secret = |box_: &Appliance| {
        let config = box_.app.store.snapshot().config.clone();
        config.carp_vips.get(&Id::from_u128(7)).unwrap().password.expose().to_owned()
    };
    assert_eq!(secret(&new), "carp-password");
    // Without the passphrase the stored secrets of the same objects stay.
    new.done("/config/import", export.clone());
    assert_eq!(secret(&new), "carp-password");
    assert_eq!(new.history()[0]["hash"], hash);
}

#[test]
fn b08_a_bad_document_is_refused_and_changes_nothing() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    let good = box_.read("/config/export");
    let before = box_.app.store.snapshot();
    let broken = |edit: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        edit(&mut body);
        body
    };
    let many = vec![good["config"]["rules"][0].clone(); 10_001];
    let cases = [
        ("unknown field", broken(&|body| body["config"]["wlan"] = json!({}))),
        ("schema 2", broken(&|body| body["config"]["schema_version"] = json!(2))),
        ("10,001 rules", broken(&|body| body["config"]["rules"] = json!(many))),
        ("DNS server", broken(&|body| body["config"]["system"]["dns_servers"] = json!(["abc"]))),
        ("no config", broken(&|body| drop(body.as_object_mut().unwrap().remove("config")))),
        ("no system", broken(&|body| drop(body["config"].as_object_mut().unwrap().remove("system")))),
        ("not an object", json!([])),
    ];
    for (what, body) in cases {
        let (status, answer) = box_.post("/config/import", body.clone());
        assert_eq!(status, 400, "{what}: {answer}");
        assert!(answer["error"].is_string() && answer["error"] == answer["message"], "{what}: {answer}");
        assert_eq!(box_.post("/config/import-preview", body).0, 400, "{what}");
    }
    let after = box_.app.store.snapshot();
    assert_eq!(after.config, before.config);
    assert_eq!(after.applied, before.applied);
    assert_eq!(after.revision, before.revision);
    assert!(box_.audit()[0].starts_with("import failed: "));
}

#[test]
fn b09_static_routes_of_the_document_stay_unless_the_file_has_its_own() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    let mut file = box_.read("/config/export");
    let routes = file.as_object_mut().unwrap().remove("static_routes").unwrap();
    box_.edit(|draft| draft.config.static_routes.clear());
    box_.done("/config/import", file.clone());
    let stored = |box_: &Appliance| {
        let config = box_.app.store.snapshot().config.clone();
        config.static_routes.iter().map(|route| (route.destination.clone(), route.fib)).collect::<Vec<_>>()
    };
    assert_eq!(stored(&box_), [("10.9.0.0/16".to_owned(), 1)]);
    // The file's own list wins; incomplete entries are left out, defaults filled in.
    file["static_routes"] = json!([
        routes[0],
        {"destination": "", "gateway": "192.168.1.9"},
        {"destination": "10.10.0.0/16", "gateway": " "},
        {"destination": "10.11.0.0/16", "gateway": "192.168.1.9"},
    ]);
    let message = box_.done("/config/import", file.clone());
    assert!(message.ends_with("2 static routes"), "{message}");
    let mut routes = stored(&box_);
    routes.sort();
    assert_eq!(routes, [("10.11.0.0/16".to_owned(), 0), ("10.9.0.0/16".to_owned(), 1)]);
    file["static_routes"] = json!([]);
    box_.done("/config/import", file);
    assert_eq!(stored(&box_), []);
}

#[test]
fn b10_a_preview_tells_what_a_restore_drops() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    box_.edit(|draft| {
        draft.config.rules.insert(Rule { interface: Some("vtnet3".parse().unwrap()), ..rule(3, "three") });
        draft.config.rules.insert(Rule { interface: Some("em9".parse().unwrap()), ..rule(4, "four") });
    });
    box_.done("/config/save", json!({}));
    let (status, preview) = box_.post("/config/restore-preview", json!({"version": 1}));
    assert_eq!(status, 200, "{preview}");
    assert_eq!(box_.read("/config/restore-preview?version=1"), preview);
    assert_eq!(box_.post("/config/restore-preview?version=1", json!({})).1, preview);
    assert_eq!(box_.post("/config/import-preview", box_.read("/config/export")).1, preview);
    assert_eq!(preview["interfaces_found"], json!(["em0", "em1", "em9", "vtnet3", "wg0"]));
    assert_eq!(preview["interfaces_missing"], json!(["em9", "vtnet3", "wg0"]));
    assert_eq!(preview["suggestions"], json!({"em9": "em0", "vtnet3": "em0"}), "none for a cloned name");
    let present = preview["interfaces_present"].as_array().unwrap();
    assert_eq!(present[0]["name"], "em0");
    assert_eq!(present[0]["status"], "up");
    assert_eq!(present[0]["ipv4_mode"], "dhcp");
    assert_eq!(present[1]["ipv4"], "192.168.1.1");
    assert_eq!(box_.get("/config/restore-preview?version=9").0, 404);
    assert_eq!(box_.post("/config/restore-preview", json!({"version": 9})).0, 404);
    assert_eq!(box_.get("/config/restore-preview").0, 400);
    let drops = &preview["drop_summary_if_unmapped"];
    let count = |box_: &Appliance| {
        let config = box_.app.store.snapshot().config.clone();
        (config.rules.len(), config.wireguard.len(), config.carp_vips.len())
    };
    let before = count(&box_);
    let missing: serde_json::Map<String, Value> =
        ["em9", "vtnet3", "wg0"].iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    box_.done("/config/restore", json!({"version": 1, "interface_map": missing}));
    let after = count(&box_);
    assert_eq!(drops["rules"], before.0 - after.0);
    assert_eq!(drops["wireguard"], before.1 - after.1);
    assert_eq!(drops["carp"], before.2 - after.2);
    assert_eq!((after.0, after.1, after.2), (2, 0, 1));
}

#[test]
fn b11_retention_prunes_at_once_and_numbers_go_on() {
    let (box_, _dir) = Appliance::new();
    assert_eq!(box_.read("/config/retention"), json!({"max_versions": 200, "current_count": 0}));
    for _ in 0..8 {
        box_.done("/config/save", json!({}));
    }
    box_.done("/config/restore", json!({"version": 2}));
    let put = |body: Value| block_on(box_.client.put("/config/retention").json(body).into_future());
    for bad in [json!(4), json!(10_001), json!(-1), json!("ten"), Value::Null] {
        let (status, body) = put(json!({"max_versions": bad}));
        assert_eq!(status, 400, "{body}");
        if bad.is_number() {
            assert_eq!(body["error"], "retention must be between 5 and 10000");
        }
    }
    assert_eq!(box_.history().len(), 8);
    assert_eq!(put(json!({"max_versions": 5})), (200, json!({"max_versions": 5, "current_count": 6})));
    let numbers = |box_: &Appliance| {
        box_.history().iter().map(|row| row["version"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&box_), [8, 7, 6, 5, 4, 2], "the newest five and the active one");
    assert_eq!(box_.read("/config/retention"), json!({"max_versions": 5, "current_count": 6}));
    assert_eq!(box_.get("/config/version?version=1").0, 404);
    assert_eq!(box_.done("/config/save", json!({})), "Config saved as version 9");
    assert_eq!(numbers(&box_), [9, 8, 7, 6, 5]);
}

/// Moves the deadline of the open window into the past: the wait of ten seconds and more, without waiting.
fn let_time_pass(box_: &Appliance) {
    box_.edit(|draft| {
        let mut slot = (*draft.ledger.confirm).clone();
        slot.window.as_mut().unwrap().deadline = draft.now - Duration::from_secs(1);
        draft.ledger.confirm = slot.into();
    });
}

fn await_closed(box_: &Appliance) {
    let begin = Instant::now();
    while box_.read("/config/commit-confirm/status")["active"] == true {
        assert!(begin.elapsed() < Duration::from_secs(20), "the window stays open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const CLOSED: &str = r#"{"active":false,"expires_at":"","seconds_remaining":0,"description":""}"#;

#[test]
fn b12_commit_confirm_reverts_everything_unless_confirmed() {
    let (box_, _dir) = Appliance::new();
    box_.edit(furnish);
    block_on(box_.app.applier.reload(&Author::system("test"), None)).unwrap();
    let good = box_.app.store.snapshot().config.clone();
    let closed: Value = serde_json::from_str(CLOSED).unwrap();
    assert_eq!(box_.read("/config/commit-confirm/status"), closed);
    for bad in [json!({"timeout_secs": 0}), json!({"timeout_secs": 86_401}), json!({"timeout_secs": "x"})] {
        assert_eq!(box_.post("/config/commit-confirm", bad.clone()).0, 400, "{bad}");
    }
    let message = box_.done("/config/commit-confirm", json!({"timeout_secs": 10, "description": "trial"}));
    assert!(message.starts_with("Commit confirm started. You have 10 seconds to confirm."), "{message}");
    let status = box_.read("/config/commit-confirm/status");
    assert_eq!((&status["active"], &status["description"]), (&json!(true), &json!("trial")));
    assert!((8..=10).contains(&status["seconds_remaining"].as_u64().unwrap()), "{status}");
    assert!(status["expires_at"].as_str().unwrap().parse::<Timestamp>().is_ok());
    assert_eq!(box_.post("/config/commit-confirm", json!({})).0, 409);
    box_.edit(|draft| {
        draft.config.rules.clear();
        draft.config.rules.insert(rule(70, "bad"));
        draft.config.wireguard.clear();
    });
    block_on(box_.app.applier.reload(&Author::system("test"), None)).unwrap();
    assert!(box_.loaded().contains("label-70"));
    let_time_pass(&box_);
    await_closed(&box_);
    let snapshot = box_.app.store.snapshot();
    assert_eq!(snapshot.config, good, "VPN, DHCP, geo-IP, HA, DNS and authentication among it");
    assert_eq!(snapshot.applied, good);
    // Loaded after it is stored.
    let begin = Instant::now();
    while !box_.loaded().contains("label-1") || box_.loaded().contains("label-70") {
        assert!(begin.elapsed() < Duration::from_secs(20), "the rules stay as they were");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(box_.read("/config/commit-confirm/status"), closed);
    let history = box_.history();
    assert_eq!(history[0]["comment"], "auto-revert: trial");
    assert_eq!(history[0]["applied"], true);
    assert!(box_.audit()[0].starts_with("commit-confirm reverted"), "{:?}", box_.audit());

    // Confirmed in time, the change stays.
    let (status, _) = block_on(box_.client.post("/config/commit-confirm").into_future());
    assert_eq!(status, 200, "an empty body will do");
    box_.edit(|draft| draft.config.rules.insert(rule(71, "wanted")));
    assert_eq!(
        box_.done("/config/commit-confirm/confirm", json!({})),
        "Configuration confirmed and accepted permanently."
    );
    assert_eq!(
        box_.done("/config/commit-confirm/confirm", json!({})),
        "No pending commit confirm to accept."
    );
    assert!(box_.rule_ids().contains(&71));
}

#[test]
fn b13_commit_confirm_survives_a_restart_and_still_reverts() {
    let dir = tempfile::tempdir().unwrap();
    let pf = Arc::new(Simulator::default());
    let box_ = Appliance::start(dir.path(), pf.clone());
    box_.edit(furnish);
    block_on(box_.app.applier.reload(&Author::system("test"), None)).unwrap();
    let good = box_.app.store.snapshot().config.clone();
    box_.done("/config/commit-confirm", json!({"timeout_secs": 60, "description": "over a restart"}));
    box_.edit(|draft| draft.config.rules.clear());
    block_on(box_.app.applier.reload(&Author::system("test"), None)).unwrap();
    let box_ = restart(box_, dir.path(), pf.clone());
    let status = box_.read("/config/commit-confirm/status");
    assert_eq!((&status["active"], &status["description"]), (&json!(true), &json!("over a restart")));
    assert_eq!(box_.rule_ids().len(), 0, "the time is not over");
    let_time_pass(&box_);
    await_closed(&box_);
    assert_eq!(box_.app.store.snapshot().config, good);

    // The deadline passes while the process is down: reverted at start.
    box_.done("/config/commit-confirm", json!({"timeout_secs": 60}));
    box_.edit(|draft| draft.config.rules.clear());
    let path = dir.path().to_owned();
    stop(box_);
    let store = aifw::store::Store::open(&path).unwrap();
    block_on(store.commit(&Author::system("test"), |draft: &mut Draft| {
        let mut slot = (*draft.ledger.confirm).clone();
        slot.window.as_mut().unwrap().deadline = draft.now - Duration::from_secs(1);
        draft.ledger.confirm = slot.into();
        Ok::<(), Infallible>(())
    }))
    .unwrap();
    drop(store);
    let box_ = Appliance::start(&path, pf);
    assert_eq!(box_.app.store.snapshot().config, good, "already when it has started");
    assert_eq!(box_.read("/config/commit-confirm/status")["active"], false);
    assert!(box_.loaded().contains("label-1"));
}

fn stop(box_: Appliance) {
    let Appliance { app, client, _work } = box_;
    block_on(_work.cancel());
    block_on(app.live.stop());
    app.store.close();
    drop(client);
}

/// The same directory and packet filter under a new process, as far as one process can play it.
fn restart(box_: Appliance, dir: &std::path::Path, pf: Arc<dyn Pf>) -> Appliance {
    stop(box_);
    Appliance::start(dir, pf)
}

#[test]
fn b20_permissions_are_asked_for() {
    let (box_, _dir) = Appliance::new();
    box_.done("/config/save", json!({}));
    for route in api::config::routes() {
        let request = |token: &str| {
            let client = box_.client.with_bearer(token);
            block_on(client.request(route.method, route.path).into_future()).0
        };
        let name = format!("{} {}", route.method, route.path);
        assert_eq!(request("none"), 403, "{name}");
        assert_eq!(request("rules:read,rules:write"), 403, "{name}");
        let writes = route.access == Access::Needs(Permission::BackupWrite);
        assert_eq!(request("backup:read") == 403, writes, "{name}");
        if writes {
            assert_ne!(request("backup:write"), 403, "{name}");
        }
    }
    let needs_write: Vec<_> = api::config::routes()
        .iter()
        .filter(|route| route.access == Access::Needs(Permission::BackupWrite))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(
        needs_write,
        [
            "POST /config/import",
            "POST /config/save",
            "POST /config/restore",
            "PUT /config/retention",
            "POST /config/commit-confirm",
            "POST /config/commit-confirm/confirm",
        ]
    );
    let viewer = aifw::config::PermissionSet::NONE;
    assert!(!viewer.contains(Permission::BackupRead));
}

/// A packet filter that takes what it has checked, except once when it is told to.
#[derive(Default)]
struct Stubborn {
    pf: Simulator,
    refuse_once: AtomicBool,
}

impl Pf for Stubborn {
    fn is_simulated(&self) -> bool {
        true
    }
    fn check(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        self.pf.check(anchor, text)
    }
    fn load(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        if anchor == Some("aifw") && self.refuse_once.swap(false, Ordering::SeqCst) {
            return Err(PfError::Unreachable("the device is busy".into()));
        }
        self.pf.load(anchor, text)
    }
    fn rules(&self, anchor: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError> {
        self.pf.rules(anchor)
    }
    fn anchors(&self) -> Result<Vec<String>, PfError> {
        self.pf.anchors()
    }
    fn replace_table(&self, name: &TableName, entries: &[String]) -> Result<(), PfError> {
        self.pf.replace_table(name, entries)
    }
    fn table(&self, name: &TableName) -> Result<Vec<String>, PfError> {
        self.pf.table(name)
    }
    fn tables(&self) -> Result<Vec<String>, PfError> {
        self.pf.tables()
    }
    fn states(&self) -> Result<Vec<StateEntry>, PfError> {
        self.pf.states()
    }
    fn info(&self) -> Result<PfInfo, PfError> {
        self.pf.info()
    }
    fn state_limit(&self) -> Result<u64, PfError> {
        self.pf.state_limit()
    }
    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError> {
        self.pf.interfaces()
    }
    fn kill_states_with_label(&self, label: &str) -> Result<u64, PfError> {
        self.pf.kill_states_with_label(label)
    }
    fn flush_states(&self) -> Result<u64, PfError> {
        self.pf.flush_states()
    }
    fn set_enabled(&self, enabled: bool) -> Result<(), PfError> {
        self.pf.set_enabled(enabled)
    }
    fn logged(&self) -> async_channel::Receiver<LoggedPacket> {
        self.pf.logged()
    }
}

#[test]
fn what_pf_refuses_to_load_is_taken_back_with_its_versions() {
    let dir = tempfile::tempdir().unwrap();
    let pf = Arc::new(Stubborn::default());
    let box_ = Appliance::start(dir.path(), pf.clone());
    box_.edit(furnish);
    block_on(box_.app.applier.reload(&Author::system("test"), None)).unwrap();
    box_.done("/config/save", json!({}));
    let before = box_.app.store.snapshot();
    let mut file = box_.read("/config/export");
    file["config"]["rules"] = json!([file["config"]["rules"][0]]);
    file["commit_confirm"] = json!(true);
    pf.refuse_once.store(true, Ordering::SeqCst);
    let (status, answer) = box_.post("/config/import", file.clone());
    assert_eq!(status, 500);
    assert!(answer["error"].as_str().unwrap().contains("the device is busy"), "{answer}");
    let after = box_.app.store.snapshot();
    assert_eq!(after.config, before.config);
    assert_eq!(after.applied, before.applied);
    assert!(box_.loaded().contains("label-2"), "the old rules are loaded");
    assert_eq!(box_.read("/config/commit-confirm/status")["active"], false, "no window stays open");
    let history = box_.history();
    let active: Vec<_> = history.iter().filter(|row| row["applied"] == true).collect();
    assert_eq!(active.len(), 1);
    assert_eq!(active[0]["version"], 1);
    assert_eq!((&history[0]["comment"], &history[0]["rolled_back"]), (&json!("import"), &json!(true)));
    assert!(box_.audit()[0].starts_with("import failed: "), "{:?}", box_.audit());
    // The same file again: now it is taken, and the window is open.
    box_.done("/config/import", file);
    assert_eq!(box_.rule_ids(), [1]);
    assert_eq!(box_.read("/config/commit-confirm/status")["description"], "import");
    let_time_pass(&box_);
    await_closed(&box_);
    assert_eq!(box_.app.store.snapshot().config, before.config, "the way back starts before the import");
}
