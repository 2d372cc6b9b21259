//! Behaviours 5 and 6 with packets: the simulator decides them, live data shows what came of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::pf::Pf;
use aifw::pf::packet::{Direction, Packet, flag};
use aifw::pf::sim::{SimInterface, Simulator};
use serde_json::Value;

use crate::rig::{Options, Rig};
use crate::streams::frame;

const RULES: &str = "\
nat on em0 inet from 192.168.1.0/24 to any -> 203.0.113.2
block log all
pass in on em1 all keep state
pass out on em0 all keep state
pass in log on em0 inet proto tcp from any to 203.0.113.2 port 22 keep state
";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn router() -> Arc<Simulator> {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
    let simulator = Simulator::new(vec![
        SimInterface::new("em0", nets(&["203.0.113.2/24", "2001:db8:0:1::2/64"]))
            .with_gateway(ip("203.0.113.1"))
            .with_gateway(ip("2001:db8:0:1::1")),
        SimInterface::new("em1", nets(&["192.168.1.1/24", "2001:db8:0:2::1/64"])),
    ]);
    simulator.load(None, RULES).unwrap();
    Arc::new(simulator)
}

fn syn(src: &str, dst: &str, port: u16) -> Packet {
    Packet::tcp(ip(src), 50_000, ip(dst), port, flag::SYN)
}

async fn wait_for(rig: &Rig, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (code, body) = rig.client.get(path).await;
        assert_eq!(code, 200, "{body}");
        if fits(&body) {
            return body;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{path}: {body}");
        async_io::Timer::after(Duration::from_millis(10)).await;
    }
}

#[test]
fn b05_b06_packets_become_connections_and_blocked_entries() {
    smol::block_on(async {
        let simulator = router();
        let pf: Arc<dyn Pf> = simulator.clone();
        let rig = Rig::new(Options { pf: Some(pf), ..Options::default() }, true);
        rig.live.sample().await.unwrap();
        let now = jiff::Timestamp::now();
        let through = |interface: &str, packet: &Packet| {
            simulator.inject(interface, Direction::In, packet, now);
        };
        through("em1", &syn("192.168.1.10", "198.51.100.7", 443));
        through("em1", &Packet::udp(ip("2001:db8:0:2::9"), 50_000, ip("2001:db8:9::1"), 53));
        through("em0", &syn("198.51.100.9", "203.0.113.2", 22));
        through("em0", &syn("198.51.100.66", "203.0.113.2", 23));
        through("em0", &syn("2001:db8:ff::1", "2001:db8:0:1::2", 23));

        let body = wait_for(&rig, "/connections", |_| true).await;
        let ends = |row: &Value| {
            (row["src_addr"].as_str().unwrap().to_owned(), row["dst_addr"].as_str().unwrap().to_owned())
        };
        let rows: Vec<(String, String)> = body["data"].as_array().unwrap().iter().map(ends).collect();
        for expected in [
            ("192.168.1.10", "198.51.100.7"),
            ("2001:db8:0:2::9", "2001:db8:9::1"),
            // Inbound: pfctl prints it with `<-`.
            ("198.51.100.9", "203.0.113.2"),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert!(rows.contains(&expected), "{expected:?} in {rows:?}");
        }
        // The outer state of the translated flow: from the outside, its originator is the appliance.
        assert!(rows.contains(&("203.0.113.2".into(), "198.51.100.7".into())), "{rows:?}");

        let blocked = wait_for(&rig, "/blocked", |body| body["total"] == 2).await;
        assert_eq!(blocked["data"][0]["src_addr"], "2001:db8:ff::1");
        assert_eq!(blocked["data"][1]["src_addr"], "198.51.100.66");
        assert_eq!(blocked["data"][1]["interface"], "em0");
        let all = wait_for(&rig, "/blocked?action=all", |body| body["total"] == 3).await;
        assert!(all["data"].as_array().unwrap().iter().any(|row| row["action"] == "pass"));

        let mut socket = rig.client.get("/ws").websocket().await.unwrap();
        assert_eq!(frame(&mut socket).await["type"], "history");
        let tick = frame(&mut socket).await;
        assert_eq!(tick["blocked"].as_array().unwrap().last().unwrap()["src_addr"], "2001:db8:ff::1");
        let status = wait_for(&rig, "/status", |body| body["packets_in"].as_u64() > Some(0)).await;
        assert_eq!((&status["pf_running"], &status["simulated_pf"]), (&true.into(), &true.into()));
        assert_eq!(status["pf_rules"], 4);
        rig.live.stop().await;
    });
}
