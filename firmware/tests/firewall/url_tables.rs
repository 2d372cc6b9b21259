//! URL tables, from a web server to pf.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_lite::future::{block_on, or};
use serde_json::{Value, json};

use crate::rig::{Rig, id};
use crate::watched::Watched;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the server answers: the version of the list and its text, or nothing but a failure.
type Document = Arc<Mutex<Option<(u32, &'static str)>>>;

/// A web server for one list, with entity tags; gives each request's `If-None-Match` and the status answered.
fn serve(document: Document) -> (SocketAddr, async_channel::Receiver<(Option<String>, u16)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = async_channel::unbounded();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut tag = None;
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap();
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                if name.eq_ignore_ascii_case("if-none-match") {
                    tag = Some(value.trim().to_owned());
                }
            }
            let current = *document.lock().unwrap();
            let (status, head, body) = match current {
                None => (500, String::new(), ""),
                Some((version, _)) if tag.as_deref() == Some(&*format!("\"v{version}\"")) => {
                    (304, format!("ETag: \"v{version}\"\r\n"), "")
                }
                Some((version, text)) => (200, format!("ETag: \"v{version}\"\r\n"), text),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
            if sender.try_send((tag, status)).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

async fn next<T>(events: &async_channel::Receiver<T>) -> T {
    let late = async {
        async_io::Timer::after(PATIENCE).await;
        None
    };
    or(async { events.recv().await.ok() }, late).await.expect("it happens in time")
}

/// The alias, once its status is as wanted.
async fn until(rig: &Rig, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let row = rig.list("/aliases").await.remove(0);
        if wanted(&row["url_status"]) {
            return row;
        }
        assert!(start.elapsed() < PATIENCE, "{row}");
        async_io::Timer::after(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_url_table_follows_its_server_without_a_load() {
    block_on(async {
        let document: Document =
            Arc::new(Mutex::new(Some((1, "# list\n192.0.2.1 one\n10.0.0.0/8\nnonsense\n"))));
        let (address, requests) = serve(document.clone());
        let mut kept = None;
        let rig = Rig::around(|simulator| {
            let watched = Arc::new(Watched::new(simulator));
            kept = Some(watched.clone());
            watched
        });
        let watched = kept.unwrap();
        let _running = smol::spawn(rig.app.applier.clone().run());
        let url = format!("http://{address}/list.txt");
        let body = |refresh: u32| json!({"name": "feed", "alias_type": "url_table", "entries": [url], "refresh_secs": refresh});
        let (status, answer) = rig.post("/aliases", body(9)).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"].as_str().unwrap().starts_with("refresh_secs"), "{answer}");
        let alias = rig.create("/aliases", body(10)).await;
        assert_eq!(alias["refresh_secs"], 10);

        // Fetched when it is saved.
        assert_eq!(next(&requests).await, (None, 200));
        let mut filled = next(&watched.tables).await;
        if filled.1 == 0 {
            // The write itself, which knows no entries yet, came first.
            filled = next(&watched.tables).await;
        }
        assert_eq!(filled, ("feed".into(), 2));
        assert_eq!(rig.table("feed"), ["10.0.0.0/8", "192.0.2.1"]);
        let row = until(&rig, |status| status["entries"] == 2).await;
        assert_eq!(row["url_status"]["error"], Value::Null);
        let fetched_at = row["url_status"]["fetched_at"].clone();
        assert!(fetched_at.is_string(), "{row}");

        // The next fetch is due at its interval.
        let tables = &rig.app.applier.machine().url_tables;
        let config = rig.app.store.snapshot().config.clone();
        let (due, at) = tables.due(&config);
        let left = at.unwrap().saturating_duration_since(Instant::now());
        assert!(
            due.is_empty() && left <= Duration::from_secs(10) && left > Duration::from_secs(2),
            "{left:?}"
        );

        // Unchanged: asked with the tag, nothing is replaced.
        tables.refresh_all();
        assert_eq!(next(&requests).await, (Some("\"v1\"".into()), 304));
        until(&rig, |status| status["fetched_at"] != fetched_at).await;
        assert_eq!(watched.take_tables(), []);
        assert_eq!(rig.table("feed"), ["10.0.0.0/8", "192.0.2.1"]);

        // Changed.
        *document.lock().unwrap() = Some((2, "192.0.2.7\n"));
        tables.refresh_all();
        assert_eq!(next(&requests).await, (Some("\"v1\"".into()), 200));
        assert_eq!(next(&watched.tables).await, ("feed".into(), 1));
        assert_eq!(rig.table("feed"), ["192.0.2.7"]);

        // A failure leaves the last good copy in place, and says so.
        *document.lock().unwrap() = None;
        tables.refresh_all();
        assert_eq!(next(&requests).await.1, 500);
        let row = until(&rig, |status| status["error"].is_string()).await;
        assert!(row["url_status"]["error"].as_str().unwrap().contains("500"), "{row}");
        assert_eq!(row["url_status"]["entries"], 1);
        assert_eq!(rig.table("feed"), ["192.0.2.7"]);
        assert_eq!(watched.take_tables(), []);

        // At its own interval, nobody asking.
        *document.lock().unwrap() = Some((3, "192.0.2.8\n192.0.2.9\n"));
        assert_eq!(next(&requests).await, (Some("\"v2\"".into()), 200));
        assert_eq!(next(&watched.tables).await, ("feed".into(), 2));
        assert_eq!(rig.table("feed"), ["192.0.2.8", "192.0.2.9"]);

        assert_eq!(watched.loads(), 0, "no ruleset was loaded for any of it");
        // Only URL tables have a status.
        let mut host = json!({"name": "plain", "alias_type": "host", "entries": ["192.0.2.1"]});
        assert_eq!(rig.create("/aliases", host.clone()).await["url_status"], Value::Null);
        host["name"] = json!("feed");
        assert_eq!(rig.put(&format!("/aliases/{}", id(&alias)), host).await.0, 200);
        assert_eq!(rig.table("feed"), ["192.0.2.1"]);
    });
}
