//! What live.md asks for beyond the reference: permission-aware ticks, revocation of open streams, limits, durable
//! series, Prometheus, and that nothing is read more often than it must be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aifw::api::testing::{Client, ListGate};
use aifw::api::{ApiError, Gate, Route};
use aifw::auth::Caller;
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use futures_lite::StreamExt;

use crate::rig::{Options, Rig};
use crate::stand_in::{packet, state};
use crate::streams::frame;

#[test]
fn ticks_hide_what_the_caller_may_not_see() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        *rig.pf.states.lock().unwrap() =
            vec![state(7, "tcp", ("10.0.0.2", 50_000), ("192.0.2.1", 443), (10, 20))];
        rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        rig.second().await;
        let client = Client::new(rig.server.clone()).with_bearer("dashboard:view");
        let mut socket = client.get("/ws").websocket().await.unwrap();
        frame(&mut socket).await;
        let tick = frame(&mut socket).await;
        for field in ["connections", "blocked", "top_talkers"] {
            assert_eq!(tick[field], serde_json::json!([]), "{field}");
        }
        assert_eq!(tick["connection_summary"]["total"], 1);
    });
}

#[test]
fn a_ticket_opens_one_stream_and_no_second_and_logout_ends_it() {
    smol::block_on(async {
        let mut rig = Rig::new(Options { authenticates: true, ..Options::default() }, false);
        rig.auth.start().await.unwrap();
        rig.second().await;
        let client = Client::new(rig.server.clone());
        let login = serde_json::json!({"username": "administrator", "password": "Correct-Horse-7"});
        let (code, body) = client.post("/auth/register").json(&login).await;
        assert!(code < 300, "{body}");
        let (_, body) = client.post("/auth/login").json(&login).await;
        let client = client.with_bearer(body["access_token"].as_str().unwrap());
        let ticket = async || client.post("/auth/ws-ticket").await.1["ticket"].as_str().unwrap().to_owned();
        let nobody = Client::new(rig.server.clone());
        let path = format!("/ws?ticket={}", ticket().await);
        let mut socket = nobody.get(&path).websocket().await.unwrap();
        assert_eq!(frame(&mut socket).await["type"], "history");
        assert_eq!(nobody.get(&path).websocket().await.unwrap_err().0, 401);
        let path = format!("/status?ticket={}", ticket().await);
        assert_eq!(nobody.get(&path).await.0, 401);
        // Signing out ends the stream that was opened with the ticket.
        assert_eq!(client.post("/auth/logout").json(serde_json::json!({})).await.0, 200);
        let begun = Instant::now();
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(close) = message {
                assert_eq!(close.unwrap().code, CloseCode::Policy);
                break;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    });
}

/// A gate that can change its mind.
#[derive(Default)]
struct FickleGate {
    revoked: AtomicBool,
}

impl Gate for FickleGate {
    fn authenticate(
        &self,
        headers: &HashMap<String, String>,
        ticket: Option<&str>,
        takes_ticket: bool,
        ip: Option<IpAddr>,
    ) -> Result<Option<Caller>, ApiError> {
        ListGate.authenticate(headers, ticket, takes_ticket, ip)
    }
    fn current(&self, caller: &Caller) -> Option<Caller> {
        (!self.revoked.load(Ordering::Relaxed)).then(|| caller.clone())
    }
    fn denied(&self, _: &Caller, _: &Route) {}
}

#[test]
fn open_streams_end_within_15_s_of_a_revocation() {
    smol::block_on(async {
        let gate = Arc::new(FickleGate::default());
        let dyn_gate: Arc<dyn Gate> = gate.clone();
        let mut rig = Rig::new(Options { gate: Some(dyn_gate), ..Options::default() }, false);
        rig.second().await;
        let mut socket = rig.client.get("/ws").websocket().await.unwrap();
        let (_, _, mut events) = rig.client.get("/pending/stream").stream().await;
        assert!(events.next(Duration::from_secs(1)).await.is_some());
        gate.revoked.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let close = loop {
            match socket.next().await {
                Some(Ok(Message::Close(close))) => break close.unwrap(),
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        };
        assert_eq!(close.code, CloseCode::Policy);
        assert!(events.next(Duration::from_secs(15)).await.is_none());
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_frame_above_64_kib_closes_with_1009() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        let mut socket = rig.client.get("/ws").websocket().await.unwrap();
        frame(&mut socket).await;
        frame(&mut socket).await;
        socket.send(Message::Text("ignored".into())).await.unwrap();
        socket.send(Message::Ping("are you there".into())).await.unwrap();
        let pong = socket.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong("are you there".into()));
        socket.send(Message::Binary(vec![0; 64 * 1024 + 1].into())).await.unwrap();
        let close = loop {
            match socket.next().await {
                Some(Ok(Message::Close(close))) => break close.unwrap(),
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        };
        assert_eq!(close.code, CloseCode::Size);
    });
}

#[test]
fn rates_start_at_zero_and_come_from_pf_counters() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        rig.pf.count(1_000_000);
        rig.second().await;
        rig.second().await;
        let (_, series) = rig.client.get("/metrics/series?name=traffic.bps_in").await;
        let values: Vec<f64> =
            series["points"].as_array().unwrap().iter().map(|point| point["v"].as_f64().unwrap()).collect();
        assert_eq!(values, [0.0, 8_000_000.0, 0.0]);
        let (_, series) = rig.client.get("/metrics/series?name=pf.bytes_in&limit=1").await;
        assert_eq!(series["points"][0]["v"], 1_003_000.0);
    });
}

#[test]
fn the_state_table_is_read_every_ten_seconds_while_nobody_listens() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.seconds(30).await;
        assert_eq!(rig.pf.state_reads.load(Ordering::Relaxed), 3);
        let _listener = rig.live.subscribe();
        rig.seconds(5).await;
        assert_eq!(rig.pf.state_reads.load(Ordering::Relaxed), 8);
    });
}

#[test]
fn series_survive_a_restart_of_the_process() {
    smol::block_on(async {
        let rig = Rig::running();
        rig.live.sample().await.unwrap();
        rig.live.stop().await;
        let (_, before) = rig.client.get("/metrics/series?name=pf.states").await;
        assert!(!before["points"].as_array().unwrap().is_empty());
        let again = Rig::over(rig.dir, rig.store, Options::default(), false);
        let (_, after) = again.client.get("/metrics/series?name=pf.states").await;
        assert_eq!(after, before);
        // A damaged file is left alone and costs nothing else.
        let path = again.dir.path().join("metrics.series");
        std::fs::write(&path, b"AIFWSERIES rubbish").unwrap();
        let once_more = Rig::over(again.dir, again.store, Options::default(), false);
        let (code, empty) = once_more.client.get("/metrics/series?name=pf.states").await;
        assert_eq!((code, &empty["points"]), (200, &serde_json::json!([])));
    });
}

#[test]
fn metrics_are_json_unless_prometheus_asks() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        let (code, metrics) = rig.client.get("/metrics").await;
        assert_eq!(
            (code, &metrics["pf_bytes_in"], &metrics["pf_states_count"]),
            (200, &3000.into(), &3.into())
        );
        assert_eq!(metrics.as_object().unwrap().len(), 10);
        let browser = rig.client.get("/metrics").header("Accept", "application/json, text/plain, */*");
        assert_eq!(browser.await.1, metrics);
        for request in [
            rig.client.get("/metrics?format=prometheus"),
            rig.client.get("/metrics").header("Accept", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
        ] {
            let answer = request.send().await;
            assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
            let text = answer.text();
            assert!(text.contains("# TYPE aifw_pf_bytes_total counter\n"), "{text}");
            assert!(text.contains("aifw_pf_bytes_total{direction=\"in\"} 3000\n"), "{text}");
            assert!(text.contains("aifw_pf_running 1\n"));
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (_, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert_eq!(rig.client.get("/metrics?format=xml").await.0, 400);
    });
}

#[test]
fn packets_that_pf_logs_arrive_by_themselves() {
    smol::block_on(async {
        let rig = Rig::running();
        rig.pf.log(packet("203.0.113.9", "10.0.0.1", "udp", false));
        let begun = Instant::now();
        while rig.client.get("/blocked").await.1["total"] != 1 {
            assert!(begun.elapsed() < Duration::from_secs(5));
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
        rig.live.stop().await;
    });
}
