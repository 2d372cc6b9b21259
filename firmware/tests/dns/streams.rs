//! Figures and the live stream.

use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use futures_lite::StreamExt;
use serde_json::{Value, json};

use crate::rig::{Rig, eventually};

const PATIENCE: Duration = Duration::from_secs(5);

/// Blocks a name through the zone that is nobody's but the test's here, as the daemon itself would be told.
async fn block(rig: &Rig, name: &str) {
    let places = rig.app.services.runner(aifw::config::ServiceKind::Dns).places();
    let file = places.config.join("rpz/custom.rpz");
    let text = std::fs::read_to_string(&file).unwrap() + &format!("{name} CNAME .\n");
    std::fs::write(&file, text).unwrap();
    let control = aifw::services::rdns::control::Control::of(&places);
    assert!(control.reload_rpz().await.unwrap() >= 1);
}

#[test]
fn figures_have_the_shape_of_the_contract() {
    smol::block_on(async {
        let rig = Rig::running().await;
        block(&rig, "ads.test").await;
        assert_eq!(rig.rcode(&["ads.test"]).await, "NXDOMAIN");
        let stats = rig.get("/dns/stats?top=5").await;
        assert!(stats["ts"].as_u64().unwrap() > 1_600_000_000_000);
        for field in ["entries", "max_entries", "hits", "misses", "insertions", "evictions"] {
            assert!(stats["cache"][field].is_u64(), "{field}");
        }
        assert!(stats["cache"]["hit_rate_pct"].is_f64());
        assert_eq!(stats["rpz"]["hits"], 1);
        let zones = stats["rpz"]["per_zone"].as_array().unwrap();
        assert!(zones.contains(&json!({ "name": "rpz.custom.", "rules": 1, "hits": 1 })), "{zones:?}");
        assert_eq!(stats["queries"], Value::Null);
        assert_eq!(stats["top_blocked"], json!([{ "qname": "ads.test.", "hits": 1 }]));
        assert_eq!(rig.send("GET", "/dns/stats?top=0", Value::Null).await.0, 400);
        assert!(rig.get("/dns/stats").await.get("top_blocked").is_none());
        rig.end().await;
    });
}

#[test]
fn the_stream_tells_figures_and_blocked_names_as_events() {
    smol::block_on(async {
        let rig = Rig::running().await;
        block(&rig, "ads.test").await;
        rig.dig(&["ads.test"]).await;
        let (status, headers, mut events) = rig.client.get("/dns/stream").stream().await;
        assert_eq!((status, headers["content-type"].as_str()), (200, "text/event-stream"));
        // What happened before is told at the beginning, what happens then as it happens.
        let (mut blocked, mut figures) = (Vec::new(), Vec::new());
        while blocked.len() < 2 || figures.len() < 2 {
            let frame = events.next(PATIENCE).await.expect("a frame");
            match frame["type"].as_str().unwrap() {
                "stats" => {
                    figures.push(frame["data"]["ts"].as_u64().unwrap());
                    if figures.len() == 1 {
                        rig.dig(&["ads.test"]).await;
                    }
                }
                "block" => blocked.push(frame["data"].clone()),
                other => panic!("{other}"),
            }
        }
        let apart = figures[1] - figures[0];
        assert!((800..1500).contains(&apart), "{apart} ms");
        let first = &blocked[0];
        assert_eq!(
            (&first["qname"], &first["action"], &first["zone"]),
            (&json!("ads.test."), &json!("nxdomain"), &json!("rpz.custom."))
        );
        rig.end().await;
    });
}

/// The daemon's open connections of its control socket, as the kernel tells.
fn connections(rig: &Rig) -> usize {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    // Field 6: 01 unconnected (the listener), 03 connected; field 7: the socket.
    let connected: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(5) == Some(&"03"))
        .filter(|fields| fields.get(7).is_some_and(|path| path.ends_with("control.sock")))
        .map(|fields| format!("socket:[{}]", fields[6]))
        .collect();
    let files = std::fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap();
    files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter(|target| connected.iter().any(|socket| target.as_os_str() == socket.as_str()))
        .count()
}

#[test]
fn the_same_path_is_a_websocket_whose_end_closes_both_connections() {
    smol::block_on(async {
        let rig = Rig::running().await;
        assert!(eventually(PATIENCE, async || connections(&rig) == 0).await);
        let mut socket = rig.client.get("/dns/stream").websocket().await.unwrap();
        let frame = loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => break serde_json::from_str::<Value>(&text).unwrap(),
                _ => continue,
            }
        };
        assert_eq!(frame["type"], "stats");
        assert!(frame["data"]["cache"]["max_entries"].is_u64());
        assert!(eventually(PATIENCE, async || connections(&rig) == 2).await);
        socket.close(None).await.unwrap();
        drop(socket);
        // rDNS finds out that nobody reads blocked names any more when it has one to tell.
        block(&rig, "ads.test").await;
        let closed = eventually(PATIENCE, async || {
            rig.dig(&["ads.test"]).await;
            connections(&rig) == 0
        });
        assert!(closed.await, "{} are left", connections(&rig));
        let (status, refused) =
            rig.client.with_bearer("rules:read").get("/dns/stream").websocket().await.unwrap_err();
        assert_eq!((status, refused["error"].is_string()), (403, true));
        rig.end().await;
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    smol::block_on(async {
        let rig = Rig::running().await;
        block(&rig, "ads.test").await;
        let (_, _, idle) = rig.client.get("/dns/stream").stream().await;
        for _ in 0..40 {
            let names = ["ads.test"; 20];
            rig.dig(&names).await;
        }
        assert_eq!(rig.get("/dns/stats").await["rpz"]["hits"], 800);
        let (_, _, mut events) = rig.client.get("/dns/stream").stream().await;
        assert!(events.next(PATIENCE).await.is_some());
        drop((idle, events));
        let closed = eventually(PATIENCE, async || {
            rig.dig(&["ads.test"]).await;
            connections(&rig) == 0
        });
        assert!(closed.await);
        rig.end().await;
    });
}
