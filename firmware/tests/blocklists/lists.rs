//! Blocklists, custom blocks and the whitelist: stored, fetched, made disjoint, and acting in the running rDNS.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aifw::config::dns::BlocklistSource;
use aifw::config::dns::blocking::{BlockAction, Format};
use aifw::store::{Author, Draft, StoreError};
use serde_json::{Value, json};

use crate::rig::{Rig, eventually, upstream};

/// A web server with one document.
pub struct Web {
    pub url: String,
    body: Arc<Mutex<Arc<Vec<u8>>>>,
    pub asked: Arc<AtomicUsize>,
    pub agent: Arc<Mutex<String>>,
}

impl Web {
    pub fn serving(body: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/list", listener.local_addr().unwrap());
        let (body, asked) = (Arc::new(Mutex::new(Arc::new(body.into()))), Arc::new(AtomicUsize::new(0)));
        let agent = Arc::new(Mutex::new(String::new()));
        let (held, count, said) = (body.clone(), asked.clone(), agent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    if let Some(agent) = line.to_lowercase().strip_prefix("user-agent: ") {
                        *said.lock().unwrap() = agent.trim().to_owned();
                    }
                    line.clear();
                }
                count.fetch_add(1, Ordering::Relaxed);
                let body = held.lock().unwrap().clone();
                let head = match body.is_empty() {
                    true => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
                    false => format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    ),
                };
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
            }
        });
        Self { url, body, asked, agent }
    }

    /// Empty = it fails.
    pub fn now_serves(&self, body: impl Into<Vec<u8>>) {
        *self.body.lock().unwrap() = Arc::new(body.into());
    }
}

/// What the name server of the world outside says of every name.
pub const OUTSIDE: &str = "10.3.3.3";

/// A resolver that asks this name server.
pub async fn running() -> Rig {
    let server = upstream([10, 3, 3, 3]).to_string();
    Rig::running_with(json!({ "forwarding_servers": [server] })).await
}

/// The response code that dig reports, `none` without an answer.
pub async fn code(rig: &Rig, question: &str) -> String {
    let said = rig.dig_raw(&question.split(' ').collect::<Vec<_>>()).await;
    let code = said.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    code.unwrap_or("none").to_owned()
}

/// The lines of dig's short answer.
pub async fn short(rig: &Rig, question: &str) -> Vec<String> {
    let lines = rig.dig(&question.split(' ').collect::<Vec<_>>()).await;
    lines.into_iter().filter(|line| !line.starts_with(';')).collect()
}

/// Stores a list whose server is on loopback, which the API would refuse, and makes it known to the daemon.
pub async fn add(rig: &Rig, id: u64, web: &Web, format: Format) -> String {
    let source = BlocklistSource {
        id,
        name: format!("list {id}"),
        category: "custom".into(),
        url: web.url.clone(),
        format,
        enabled: true,
        action: BlockAction::Nxdomain,
        redirect_ip: None,
        built_in: false,
    };
    let commit = rig.app.store.commit(&Author::system("test"), move |draft: &mut Draft| {
        draft.config.dns_blocklists.insert(source.clone());
        draft.applied.dns_blocklists.insert(source);
        Ok::<(), StoreError>(())
    });
    commit.await.unwrap();
    rig.app.applier.follow_blocklists().await;
    format!("/dns/blocklists/{id}")
}

/// On, and whatever that fetches fetched.
pub async fn switch_on(rig: &Rig) {
    rig.ok("PUT", "/dns/blocklists/enabled", json!({ "enabled": true })).await;
}

pub fn rules(rig: &Rig, id: u64) -> Vec<String> {
    rig.file(&format!("rpz/blocklist-{id}.rpz")).lines().skip(3).map(str::to_owned).collect()
}

#[test]
fn b01_a_fresh_system() {
    smol::block_on(async {
        let rig = Rig::new();
        let all = rig.get("/dns/blocklists").await;
        let all = all.as_array().unwrap();
        assert_eq!(all.len(), 14);
        assert!(all.iter().all(|row| row["built_in"] == true && row["enabled"] == false));
        assert_eq!((&all[0]["category"], &all[0]["name"]), (&json!("ads"), &json!("AdGuard DNS")));
        assert_eq!(rig.get("/dns/blocklists?category=crypto").await.as_array().unwrap().len(), 2);
        assert_eq!(rig.get("/dns/blocklists?enabled=true").await, json!([]));
        assert_eq!(rig.get("/dns/blocklists/enabled").await, json!({ "enabled": false }));
        let schedule = json!({ "cron": "0 0 3 * * *", "on_boot": true, "concurrency": 4, "enabled": false });
        assert_eq!(rig.get("/dns/blocklists/schedule").await, schedule);
        rig.end().await;
    });
}

#[test]
fn b02_sources_are_checked() {
    smol::block_on(async {
        let rig = Rig::new();
        let source =
            |name: &str, url: &str| json!({ "name": name, "category": "ads", "url": url, "format": "hosts" });
        let all = "/dns/blocklists";
        for url in ["ftp://lists.example/x", "http://127.0.0.1/x", "http://[::1]/", "http://10.1.2.3/"] {
            let refusal = rig.refused("POST", all, source("x", url), 400).await;
            assert!(refusal.starts_with("url: "), "{refusal}");
        }
        let (status, own) = rig.send("POST", all, source("own", "https://lists.example/x")).await;
        assert_eq!((status, &own["built_in"], &own["action"]), (200, &json!(false), &json!("nxdomain")));
        assert_eq!((&own["last_updated"], &own["rule_count"]), (&Value::Null, &json!(0)));
        rig.refused("POST", all, source("own", "https://lists.example/y"), 409).await;
        rig.refused("POST", all, source(" ", "https://lists.example/y"), 400).await;
        let one = format!("{all}/{}", own["id"]);
        rig.refused("PUT", &one, json!({ "action": "redirect" }), 400).await;
        let changed = rig.ok("PUT", &one, json!({ "action": "redirect", "redirect_ip": "192.0.2.1" })).await;
        assert_eq!((&changed["redirect_ip"], &changed["name"]), (&json!("192.0.2.1"), &json!("own")));
        rig.refused("PUT", &one, json!({ "redirect_ip": "" }), 400).await;
        rig.refused("PUT", &one, json!({ "name": "OISD Big" }), 409).await;
        rig.refused("GET", "/dns/blocklists/abc", Value::Null, 400).await;
        for method in ["GET", "PUT", "DELETE"] {
            let body = if method == "PUT" { json!({}) } else { Value::Null };
            rig.refused(method, "/dns/blocklists/99999", body, 404).await;
        }
        rig.refused("POST", "/dns/blocklists/99999/refresh", Value::Null, 404).await;
        rig.refused("DELETE", "/dns/blocklists/1", Value::Null, 409).await;
        let built_in = rig.ok("PUT", "/dns/blocklists/1", json!({ "enabled": true })).await;
        assert_eq!((&built_in["enabled"], &built_in["built_in"]), (&json!(true), &json!(true)));
        let (status, _) = rig.send("DELETE", &one, Value::Null).await;
        assert_eq!(status, 204);
        // Ids are not used twice.
        let again = rig.ok("POST", all, source("own", "https://lists.example/x")).await;
        assert_ne!(again["id"], own["id"]);
        assert!(!rig.app.applier.pending().dns);
        rig.end().await;
    });
}

#[test]
fn b03_while_the_master_switch_is_off() {
    smol::block_on(async {
        let rig = Rig::new();
        let outcome = rig.ok("POST", "/dns/blocklists/1/refresh", Value::Null).await;
        assert_eq!((&outcome["ok"], &outcome["sha256"]), (&json!(false), &json!("")));
        assert!(outcome["error"].as_str().unwrap().contains("globally disabled"));
        assert_eq!(rig.ok("POST", "/dns/blocklists/refresh-all", Value::Null).await, json!([]));
        rig.end().await;
    });
}

#[test]
fn b04_a_list_is_fetched_kept_and_made_anew() {
    smol::block_on(async {
        let rig = running().await;
        let web = Web::serving("0.0.0.0 c.test\n0.0.0.0 a.test b.test\n");
        let path = add(&rig, 200, &web, Format::Hosts).await;
        assert_eq!(short(&rig, "a.test").await, [OUTSIDE]);
        switch_on(&rig).await;
        let outcome = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        assert_eq!((&outcome["ok"], &outcome["rule_count"]), (&json!(true), &json!(3)), "{outcome}");
        assert_eq!(outcome["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(*web.agent.lock().unwrap(), "aifw-blocklist-updater/1.0");
        assert_eq!(rules(&rig, 200), ["a.test CNAME .", "b.test CNAME .", "c.test CNAME ."]);
        assert_eq!(code(&rig, "a.test").await, "NXDOMAIN");
        let first = rig.get(&path).await["last_updated"].as_i64().unwrap();
        async_io::Timer::after(Duration::from_millis(1100)).await;
        let again = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        assert_eq!((&again["ok"], &again["rule_count"]), (&json!(true), &json!(3)));
        assert!(rig.get(&path).await["last_updated"].as_i64().unwrap() > first);
        let asked = web.asked.load(Ordering::Relaxed);
        // As an administrator would, but for the URL, which is the test's.
        let commit = rig.app.store.commit(&Author::system("test"), |draft: &mut Draft| {
            let mut source = (**draft.config.dns_blocklists.get(&200).unwrap()).clone();
            source.action = BlockAction::Nodata;
            draft.config.dns_blocklists.insert(source.clone());
            draft.applied.dns_blocklists.insert(source);
            Ok::<(), StoreError>(())
        });
        commit.await.unwrap();
        rig.app.applier.follow_blocklists().await;
        assert_eq!(web.asked.load(Ordering::Relaxed), asked);
        assert_eq!(rules(&rig, 200)[0], "a.test CNAME *.");
        assert_eq!(code(&rig, "a.test").await, "NOERROR");
        // What fails is told and changes nothing.
        web.now_serves("");
        let failed = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        assert_eq!(failed["ok"], false);
        assert!(rig.get(&path).await["last_error"].as_str().unwrap().contains("500"));
        assert_eq!(code(&rig, "a.test").await, "NOERROR");
        rig.end().await;
    });
}

#[test]
fn b05_the_whitelist_wins_at_once() {
    smol::block_on(async {
        let rig = running().await;
        let web = Web::serving("a.test\nx.b.test\n*.c.test\n");
        let path = add(&rig, 200, &web, Format::Domains).await;
        switch_on(&rig).await;
        rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        for name in ["a.test", "x.b.test", "deep.c.test"] {
            assert_eq!(code(&rig, name).await, "NXDOMAIN", "{name}");
        }
        let mut ids = Vec::new();
        for (pattern, name) in [("A.test.", "a.test"), ("*.b.test", "x.b.test")] {
            let begun = std::time::Instant::now();
            let entry = rig.ok("POST", "/dns/whitelist", json!({ "pattern": pattern })).await;
            assert_eq!(short(&rig, name).await, [OUTSIDE]);
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            ids.push(entry["id"].clone());
        }
        rig.refused("POST", "/dns/whitelist", json!({ "pattern": "a.test" }), 409).await;
        rig.refused("POST", "/dns/whitelist", json!({ "pattern": "com" }), 400).await;
        assert_eq!(rig.get("/dns/whitelist").await[0]["pattern"], "*.b.test");
        for (id, name) in ids.iter().zip(["a.test", "x.b.test"]) {
            let (status, _) = rig.send("DELETE", &format!("/dns/whitelist/{id}"), Value::Null).await;
            assert_eq!(status, 204);
            assert_eq!(code(&rig, name).await, "NXDOMAIN");
        }
        rig.refused("DELETE", "/dns/whitelist/12345", Value::Null, 404).await;
        rig.end().await;
    });
}

#[test]
fn b06_switched_off_custom_blocks_stay() {
    smol::block_on(async {
        let rig = running().await;
        let web = Web::serving("a.test\n");
        let path = add(&rig, 200, &web, Format::Domains).await;
        switch_on(&rig).await;
        rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        rig.ok("POST", "/dns/customblocks", json!({ "pattern": "own.test", "note": "mine" })).await;
        rig.ok("POST", "/dns/customblocks", json!({ "pattern": "*.wild.test" })).await;
        let pid = rig.app.services.runner(aifw::config::ServiceKind::Dns).status().pid;
        assert_eq!(rig.get("/dns/stats").await["rpz"]["rules"], 3);
        assert_eq!(
            rig.ok("PUT", "/dns/blocklists/enabled", json!({ "enabled": false })).await,
            json!({ "enabled": false })
        );
        assert!(rules(&rig, 200).is_empty());
        assert_eq!(rig.get("/dns/stats").await["rpz"]["rules"], 2);
        assert_eq!(code(&rig, "own.test").await, "NXDOMAIN");
        assert_eq!(code(&rig, "x.wild.test").await, "NXDOMAIN");
        assert_eq!(short(&rig, "a.test").await, [OUTSIDE]);
        // By reload, not by restart.
        assert_eq!(rig.app.services.runner(aifw::config::ServiceKind::Dns).status().pid, pid);
        let top = rig.get("/dns/stats?top=5").await["top_blocked"].clone();
        assert!(top.as_array().unwrap().iter().any(|row| row["qname"] == "own.test."), "{top}");
        let (_, _, mut events) = rig.client.get("/dns/stream").stream().await;
        let block = loop {
            let frame = events.next(Duration::from_secs(5)).await.unwrap();
            if frame["type"] == "block" {
                break frame["data"].clone();
            }
        };
        assert_eq!(
            (&block["action"], &block["zone"]),
            (&json!("nxdomain"), &json!("rpz.custom.")),
            "{block}"
        );
        rig.end().await;
    });
}

#[test]
fn b07_the_schedule_is_checked() {
    smol::block_on(async {
        let rig = Rig::new();
        let path = "/dns/blocklists/schedule";
        for bad in [
            json!({ "cron": "bad" }),
            json!({ "cron": "* * * * *" }),
            json!({ "concurrency": 0 }),
            json!({ "concurrency": 33 }),
        ] {
            rig.refused("PUT", path, bad, 400).await;
        }
        switch_on(&rig).await;
        let stored = rig.ok("PUT", path, json!({ "cron": "0 30 4 * * SUN", "on_boot": false })).await;
        let wanted = json!({ "cron": "0 30 4 * * SUN", "on_boot": false, "concurrency": 4, "enabled": true });
        assert_eq!(stored, wanted);
        assert_eq!(rig.get("/dns/blocklists/enabled").await, json!({ "enabled": true }));
        rig.end().await;
    });
}

#[test]
fn a_list_that_is_broken_or_too_large_or_shrunk_changes_nothing() {
    smol::block_on(async {
        let rig = running().await;
        let many: String = (0..100).map(|n| format!("0.0.0.0 n{n}.test\n")).collect();
        let web = Web::serving(many);
        let path = add(&rig, 200, &web, Format::Hosts).await;
        switch_on(&rig).await;
        rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        assert!(
            eventually(Duration::from_secs(10), async || code(&rig, "n1.test").await == "NXDOMAIN").await
        );
        let before = rig.file("rpz/blocklist-200.rpz");
        // One byte more than may be, none that makes sense, and a handful of names.
        for (body, reason) in [
            (vec![b'x'; 50 * 1024 * 1024 + 1], "more than"),
            (malformed(2 * 1024 * 1024), "holds no name"),
            (b"<html>404</html>".to_vec(), "holds no name"),
            (b"0.0.0.0 n1.test\n".to_vec(), "shrunk from 100 to 1"),
        ] {
            web.now_serves(body);
            let outcome = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
            assert_eq!(outcome["ok"], false);
            assert!(outcome["error"].as_str().unwrap().contains(reason), "{outcome}");
            assert_eq!(rig.file("rpz/blocklist-200.rpz"), before);
            assert_eq!(rig.get(&path).await["rule_count"], 100);
            assert_eq!(code(&rig, "n1.test").await, "NXDOMAIN");
        }
        rig.end().await;
    });
}

/// A document of this size without one valid line: a line of NULs, lines of names longer than any line that means
/// something, lines of noise, and lines of what is nearly a name.
pub fn malformed(size: usize) -> Vec<u8> {
    let part = size / 4;
    let mut body = vec![0; part];
    for _ in 0..2 {
        body.push(b'\n');
        body.extend(b"0.0.0.0 giant.test ".iter().cycle().take(part / 2));
    }
    body.push(b'\n');
    // Knuth's multiplicative hash; without a dot there is no name.
    let noise = (0..part as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    body.extend(noise.map(|byte| if byte == b'.' { 0xff } else { byte }));
    body.push(b'\n');
    let nearly = b"0.0.0.0 a..test\n0.0.0.0 -x.test\n0.0.0.0 nodot\n0.0.0.0 na\0me.test\n0.0.0.0 1.2.3.4\n\xff\xfe.test\r\n";
    while body.len() + nearly.len() <= size {
        body.extend(nearly);
    }
    body.resize(size, 0);
    body
}

/// What is malformed is left out line by line: names around it are blocked, and a list with nothing else is refused.
pub async fn read_among_garbage(size: usize) {
    let rig = running().await;
    let web = Web::serving("0.0.0.0 kept.test\n");
    let path = add(&rig, 200, &web, Format::Hosts).await;
    switch_on(&rig).await;
    let first = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
    assert_eq!(first["rule_count"], 1, "{first}");
    let before = rig.file("rpz/blocklist-200.rpz");
    web.now_serves(malformed(size));
    let begun = std::time::Instant::now();
    let refused = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
    println!("{size} malformed bytes refused in {:?}", begun.elapsed());
    assert_eq!((&refused["ok"], &refused["rule_count"]), (&json!(false), &json!(0)), "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("holds no name"), "{refused}");
    assert_eq!(rig.file("rpz/blocklist-200.rpz"), before);
    let shown = rig.get(&path).await;
    assert_eq!((&shown["rule_count"], &shown["last_sha256"]), (&json!(1), &first["sha256"]));
    assert_eq!(code(&rig, "kept.test").await, "NXDOMAIN");

    let mut mixed = b"0.0.0.0 first.test\n".to_vec();
    mixed.extend(malformed(size / 2 - 64));
    mixed.extend(b"\n0.0.0.0 middle.test\n");
    mixed.extend(malformed(size / 2 - 64));
    mixed.extend(b"\n0.0.0.0 last.test\n");
    assert!(mixed.len() <= size);
    web.now_serves(mixed);
    let taken = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
    assert_eq!((&taken["ok"], &taken["rule_count"]), (&json!(true), &json!(3)), "{taken}");
    assert_eq!(rules(&rig, 200), ["first.test CNAME .", "last.test CNAME .", "middle.test CNAME ."]);
    assert_eq!(code(&rig, "middle.test").await, "NXDOMAIN");
    assert_eq!(short(&rig, "kept.test").await, [OUTSIDE]);
    rig.end().await;
}

#[test]
fn malformed_lines_are_left_out_one_by_one() {
    smol::block_on(read_among_garbage(4 * 1024 * 1024));
}

#[test]
fn one_list_wanted_by_many_is_fetched_by_one_at_a_time() {
    smol::block_on(async {
        let rig = running().await;
        let web = Web::serving("0.0.0.0 a.test\n");
        let path = add(&rig, 200, &web, Format::Hosts).await;
        switch_on(&rig).await;
        let refresh = format!("{path}/refresh");
        let rig = Arc::new(rig);
        let ask = |_| {
            let (rig, refresh) = (rig.clone(), refresh.clone());
            std::thread::spawn(move || smol::block_on(rig.ok("POST", &refresh, Value::Null)))
        };
        let asking: Vec<_> = (0..8).map(ask).collect();
        let outcomes =
            smol::unblock(|| asking.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>());
        for outcome in outcomes.await {
            assert_eq!((&outcome["ok"], &outcome["rule_count"]), (&json!(true), &json!(1)), "{outcome}");
        }
        assert_eq!(rules(&rig, 200), ["a.test CNAME ."]);
        rig.app.services.shutdown().await;
    });
}

#[test]
fn overrides_let_their_names_through_once_they_are_stored() {
    smol::block_on(async {
        let rig = running().await;
        let web = Web::serving("www.mine.test\nx.corp.test\n*.corp.test\n");
        let path = add(&rig, 200, &web, Format::Domains).await;
        switch_on(&rig).await;
        rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        rig.ok("POST", "/dns/customblocks", json!({ "pattern": "own.mine.test" })).await;
        let host = |name: &str, enabled: bool| {
            json!({ "hostname": name, "domain": "mine.test", "record_type": "A", "value": "10.4.4.4",
                    "enabled": enabled })
        };
        let domain = json!({ "domain": "corp.test", "server": "192.0.2.53" });
        let names = ["www.mine.test", "own.mine.test", "x.corp.test", "deep.corp.test"];
        for name in names {
            assert_eq!(code(&rig, name).await, "NXDOMAIN", "{name}");
        }
        let pid = rig.pid();
        let mut paths = Vec::new();
        for (collection, body) in
            [("hosts", host("www", true)), ("hosts", host("own", true)), ("domains", domain)]
        {
            let made = rig.ok("POST", &format!("/dns/resolver/{collection}"), body).await;
            paths.push(format!("/dns/resolver/{collection}/{}", made["data"]["id"].as_str().unwrap()));
        }
        // Not applied: whoever is asked today answers, and no list is in the way.
        for name in names {
            assert_eq!(short(&rig, name).await, [OUTSIDE], "{name}");
        }
        let custom = rig.file("rpz/custom.rpz");
        for rule in ["www.mine.test", "own.mine.test", "corp.test", "*.corp.test"] {
            assert!(custom.contains(&format!("\n{rule} CNAME rpz-passthru.\n")), "{rule}: {custom}");
        }
        // A list that is new to the daemon restarts it with what is applied; what is stored is let through still.
        let other = Web::serving("z.test\n");
        add(&rig, 201, &other, Format::Domains).await;
        assert_ne!(rig.pid(), pid);
        assert_eq!(short(&rig, "own.mine.test").await, [OUTSIDE]);
        let pid = rig.pid();
        assert!(rig.pending());
        rig.ok("PUT", &paths[0], host("www", false)).await;
        assert_eq!(code(&rig, "www.mine.test").await, "NXDOMAIN");
        for path in &paths[1..] {
            rig.ok("DELETE", path, Value::Null).await;
        }
        for name in names {
            assert_eq!(code(&rig, name).await, "NXDOMAIN", "{name}");
        }
        assert_eq!(rig.pid(), pid, "by reload, not by restart");
        assert!(!rig.pending(), "it is as it was applied");
        rig.end().await;
    });
}

#[test]
fn actions_act_and_overrides_win_over_lists() {
    smol::block_on(async {
        let rig = running().await;
        let row = json!({ "hostname": "www", "domain": "mine.test", "value": "10.4.4.4" });
        rig.ok("POST", "/dns/resolver/hosts", row).await;
        rig.apply().await;
        let list = "www.mine.test CNAME .\n*.mine.test CNAME .\ndrop.test CNAME rpz-drop.\nmove.test A 192.0.2.7\n\
                    six.test AAAA 2001:db8::7\nnone.test CNAME *.\n";
        let web = Web::serving(list);
        let path = add(&rig, 200, &web, Format::Rpz).await;
        switch_on(&rig).await;
        let outcome = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
        assert_eq!(outcome["ok"], true, "{outcome}");
        assert_eq!(short(&rig, "www.mine.test").await, ["10.4.4.4"]);
        assert_eq!(code(&rig, "other.mine.test").await, "NXDOMAIN");
        assert_eq!(code(&rig, "drop.test").await, "none");
        assert_eq!(short(&rig, "move.test").await, ["192.0.2.7"]);
        assert_eq!(short(&rig, "six.test AAAA").await, ["2001:db8::7"]);
        assert_eq!(code(&rig, "none.test").await, "NOERROR");
        let outcomes = rig.ok("POST", "/dns/blocklists/refresh-all", Value::Null).await;
        assert_eq!(outcomes.as_array().unwrap().len(), 1);
        assert_eq!(outcomes[0]["source_id"], 200);
        rig.end().await;
    });
}
