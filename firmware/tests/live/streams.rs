//! Behaviours 11 to 16 and 18: the streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api::testing::{Client, WebSocketClient};
use aifw::live::fanout::StreamLimits;
use aifw::live::sources::{IdsSample, IdsSource, Sources};
use aifw::live::view::{AlertView, ClusterEvent, ClusterRole, IdsView};
use async_tungstenite::tungstenite::Message;
use futures_lite::{AsyncReadExt, StreamExt, future};
use serde_json::Value;

use crate::rig::{Options, Rig};
use crate::stand_in::{packet, state};

pub const PATIENCE: Duration = Duration::from_secs(5);

/// The next text frame as JSON; pings are left to the library.
pub async fn frame(socket: &mut WebSocketClient) -> Value {
    let read = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(_)) => {}
                other => panic!("no frame: {other:?}"),
            }
        }
    };
    let late = async {
        async_io::Timer::after(PATIENCE).await;
        panic!("no frame within {PATIENCE:?}")
    };
    future::or(read, late).await
}

fn is_tick(frame: &Value) -> bool {
    frame["type"] == "status_update"
}

#[test]
fn b11_pending_stream_sends_the_state_at_once_and_then_changes_only() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let begun = Instant::now();
        let (code, headers, mut events) = rig.client.get("/pending/stream").stream().await;
        assert_eq!(code, 200);
        assert!(headers["content-type"].starts_with("text/event-stream"));
        assert_eq!(
            (headers["cache-control"].as_str(), headers["x-accel-buffering"].as_str()),
            ("no-cache", "no")
        );
        let first = events.next(PATIENCE).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        assert_eq!(first["firewall"], false);
        let begun = Instant::now();
        let id = rig.add_rule().await;
        let second = events.next(PATIENCE).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(second, serde_json::json!({"firewall": true, "nat": false, "dns": false}));
        // A second rule changes nothing about the flags; the next event is the one after it.
        let other = rig.add_rule().await;
        rig.remove_rule(other).await;
        rig.remove_rule(id).await;
        let third = events.next(PATIENCE).await.unwrap();
        assert_eq!(third["firewall"], false);
    });
}

#[test]
fn b11_pending_stream_keeps_itself_alive_within_15_s() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let url: tide::http::Url = "http://appliance.test/api/v1/pending/stream".parse().unwrap();
        let mut request = tide::http::Request::new(tide::http::Method::Get, url);
        request.insert_header("authorization", "Bearer all");
        let mut response: tide::http::Response = rig.server.respond(request).await.unwrap();
        let mut body = response.take_body();
        let mut seen = Vec::new();
        let begun = Instant::now();
        while !String::from_utf8_lossy(&seen).contains("\n:") {
            let mut buf = [0; 256];
            let count = body.read(&mut buf).await.unwrap();
            assert_ne!(count, 0, "the stream has ended");
            seen.extend_from_slice(&buf[..count]);
        }
        assert!(begun.elapsed() <= Duration::from_secs(15), "{:?}", begun.elapsed());
    });
}

#[test]
fn b12_websocket_sends_history_then_a_tick_every_second() {
    smol::block_on(async {
        let rig = Rig::running();
        *rig.pf.states.lock().unwrap() =
            vec![state(7, "tcp", ("10.0.0.2", 50_000), ("192.0.2.1", 443), (10, 20))];
        rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        let mut socket = rig.client.get("/ws").websocket().await.unwrap();
        let history = frame(&mut socket).await;
        assert_eq!(history["type"], "history");
        assert!(history["data"].is_array());
        let mut arrivals = Vec::new();
        let mut stamps = Vec::new();
        for _ in 0..4 {
            let tick = frame(&mut socket).await;
            arrivals.push(Instant::now());
            assert!(is_tick(&tick));
            for field in ["status", "system", "connections", "interfaces", "blocked", "services", "ts"] {
                assert!(!tick[field].is_null(), "{field}: {tick}");
            }
            assert_eq!(tick["status"].as_object().unwrap().len(), 10);
            let connection = &tick["connections"][0];
            assert_eq!((&connection["id"], &connection["bytes_out"]), (&7.into(), &20.into()));
            assert_eq!(tick["connection_summary"]["tcp"], 1);
            assert_eq!(tick["top_talkers"][0]["ip"], "10.0.0.2");
            assert_eq!(tick["blocked"][0]["src_addr"], "203.0.113.1");
            assert!(tick["blocked"][0].get("reason").is_none());
            let services: Vec<&str> =
                tick["services"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
            assert_eq!(services, ["rDNS", "rDHCP", "rTIME", "TrafficCop"]);
            assert!(tick["system"]["memory_breakdown"]["api_rss_mb"].is_number());
            assert!(tick.get("ids").is_none() && tick.get("vpn").is_none());
            stamps.push(tick["ts"].as_i64().unwrap());
        }
        for pair in arrivals.windows(2) {
            let apart = (pair[1] - pair[0]).as_millis();
            assert!((900..=1100).contains(&apart), "{apart} ms");
        }
        assert!(stamps.windows(2).all(|pair| (900..=1100).contains(&(pair[1] - pair[0]))), "{stamps:?}");

        let nobody = Client::new(rig.server.clone());
        assert_eq!(nobody.get("/ws").websocket().await.unwrap_err().0, 401);
        assert_eq!(rig.client.get("/ws").await.0, 400);
        rig.live.stop().await;
    });
}

#[test]
fn b13_history_grows_by_one_a_second_whoever_listens() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        let before = rig.live.history_len();
        let mut one = rig.client.get("/ws").websocket().await.unwrap();
        let mut two = rig.client.get("/ws").websocket().await.unwrap();
        for socket in [&mut one, &mut two] {
            frame(socket).await;
            assert!(is_tick(&frame(socket).await));
        }
        rig.seconds(10).await;
        assert_eq!(rig.live.history_len(), before + 10);
        drop((one, two));
        rig.seconds(10).await;
        assert_eq!(rig.live.history_len(), before + 20);
    });
}

#[test]
fn b14_history_entries_are_slim_and_at_most_600_are_sent() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        rig.seconds(650).await;
        assert_eq!(rig.live.history_len(), 650);
        let mut socket = rig.client.get("/ws").websocket().await.unwrap();
        let history = frame(&mut socket).await;
        let entries = history["data"].as_array().unwrap();
        assert_eq!(entries.len(), 600);
        for entry in entries {
            assert!(is_tick(entry));
            for field in ["connections", "blocked", "vpn"] {
                assert!(entry.get(field).is_none(), "{field}");
            }
            for field in ["status", "system", "interfaces", "services"] {
                assert!(!entry[field].is_null(), "{field}");
            }
        }
        let times: Vec<i64> = entries.iter().map(|entry| entry["ts"].as_i64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 1000));
    });
}

/// An intrusion detection system as far as a tick knows one: what it tells is the test's.
#[derive(Default)]
struct StandInIds(std::sync::Mutex<Option<IdsSample>>);

impl IdsSource for StandInIds {
    fn sample(&self) -> Option<IdsSample> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn b15_ticks_go_on_without_ids_and_show_it_when_it_is_up() {
    smol::block_on(async {
        let ids = Arc::new(StandInIds::default());
        let sources = Sources { ids: Some(ids.clone()), ..Sources::default() };
        let mut rig = Rig::new(Options { sources, ..Options::default() }, false);
        rig.second().await;
        let first_tick = async |permissions: &str| {
            let client = Client::new(rig.server.clone()).with_bearer(permissions);
            let mut socket = client.get("/ws").websocket().await.unwrap();
            (frame(&mut socket).await, frame(&mut socket).await)
        };
        let (_, tick) = first_tick("all").await;
        assert!(is_tick(&tick) && tick.get("ids").is_none());

        let alert = AlertView {
            severity: 1,
            signature_msg: "scan".into(),
            src_ip: "203.0.113.1".into(),
            dst_ip: "10.0.0.1".into(),
            protocol: "tcp".into(),
            timestamp: "2026-01-01T00:00:00Z".into(),
        };
        let view = IdsView {
            running: true,
            mode: "ids".into(),
            alerts_total: 40,
            recent_alerts: vec![alert; 9],
            ..IdsView::default()
        };
        *ids.0.lock().unwrap() = Some(IdsSample { view, ..IdsSample::default() });
        rig.seconds(5).await;
        let first_tick = async |permissions: &str| {
            let client = Client::new(rig.server.clone()).with_bearer(permissions);
            let mut socket = client.get("/ws").websocket().await.unwrap();
            (frame(&mut socket).await, frame(&mut socket).await)
        };
        let (history, tick) = first_tick("all").await;
        assert_eq!(
            (&tick["ids"]["mode"], tick["ids"]["recent_alerts"].as_array().unwrap().len()),
            (&"ids".into(), 5)
        );
        assert_eq!(tick["ids"]["alerts_delta"], 0);
        let newest = history["data"].as_array().unwrap().last().unwrap();
        assert_eq!(newest["ids"]["alerts_total"], 40);
        assert!(newest["ids"].get("recent_alerts").is_none());
        // Without ids:read neither the tick nor the history tells of it.
        let (history, tick) = first_tick("dashboard:view").await;
        assert!(tick.get("ids").is_none());
        assert!(history["data"].as_array().unwrap().iter().all(|entry| entry.get("ids").is_none()));
        let (_, threats) = rig.client.get("/metrics/series?name=threats.total&limit=1").await;
        assert_eq!(threats["points"][0]["v"], 40.0);
    });
}

#[test]
fn b16_a_client_that_does_not_read_delays_nobody_and_resumes_with_current_data() {
    smol::block_on(async {
        let rig = Rig::running();
        // Ticks of some 400 KB: more than a socket takes in.
        let many = |n: u64| state(n, "tcp", ("10.0.0.2", (n % 60_000) as u16), ("192.0.2.1", 443), (n, n));
        *rig.pf.states.lock().unwrap() = (1..3000).map(many).collect();
        let mut stuck = rig.client.get("/ws").websocket().await.unwrap();
        let mut lively = rig.client.get("/ws").websocket().await.unwrap();
        frame(&mut lively).await;
        let mut arrivals = Vec::new();
        for _ in 0..5 {
            let tick = frame(&mut lively).await;
            assert_eq!(tick["connections"].as_array().unwrap().len(), 2000);
            assert_eq!(tick["connection_summary"]["total"], 2999);
            assert_eq!(tick["connections"][0]["bytes_in"], 2999);
            arrivals.push(Instant::now());
        }
        assert!(arrivals.windows(2).all(|pair| pair[1] - pair[0] < Duration::from_millis(1300)));
        assert_eq!(frame(&mut stuck).await["type"], "history");
        // What was under way when it stopped reading is old; what comes after that is of now.
        assert!(is_tick(&frame(&mut stuck).await));
        let mut tick = frame(&mut stuck).await;
        let age = |tick: &Value| jiff::Timestamp::now().as_millisecond() - tick["ts"].as_i64().unwrap();
        if age(&tick) > 2000 {
            tick = frame(&mut stuck).await;
        }
        assert!(age(&tick) < 2000, "{} ms old", age(&tick));
        rig.live.stop().await;
    });
}

#[test]
fn b18_cluster_frames_have_a_channel_and_an_event() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        let mut socket = rig.client.get("/ws").websocket().await.unwrap();
        frame(&mut socket).await;
        frame(&mut socket).await;
        rig.live.publish_cluster(&ClusterEvent::RoleChanged {
            from: ClusterRole::Secondary,
            to: ClusterRole::Primary,
            vhid: 7,
        });
        assert_eq!(
            frame(&mut socket).await,
            serde_json::json!({
                "channel": "cluster",
                "event": {"type": "role_changed", "from": "secondary", "to": "primary", "vhid": 7}
            })
        );
    });
}

#[test]
fn streams_are_limited_per_user_and_given_back() {
    smol::block_on(async {
        let limits = StreamLimits { overall: 10, per_user: 2 };
        let mut rig = Rig::new(Options { limits, ..Options::default() }, false);
        rig.second().await;
        let mut one = rig.client.get("/ws").websocket().await.unwrap();
        let (_, _, events) = rig.client.get("/pending/stream").stream().await;
        frame(&mut one).await;
        assert_eq!(rig.client.get("/ws").websocket().await.unwrap_err().0, 429);
        assert_eq!(rig.client.get("/pending/stream").await.0, 429);
        drop(events);
        one.close(None).await.unwrap();
        let begun = Instant::now();
        while rig.live.streams().count() > 0 {
            assert!(begun.elapsed() < PATIENCE, "a stream was not given back");
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
        rig.client.get("/ws").websocket().await.unwrap();
    });
}
