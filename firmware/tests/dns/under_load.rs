//! Constant questions while policy zones are reloaded, and while configurations are applied: rDNS reads its TOML and
//! its zones at its start alone, so an apply that changes them is a gap, which is measured here.
//! `AIFW_LOAD_SECONDS=30` makes each part as long as that; 3 s otherwise.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aifw::config::ServiceKind;
use aifw::services::rdns::control::Control;
use aifw::services::rdns::query::{Type, question, read};
use serde_json::json;

use crate::rig::Rig;

fn seconds() -> u64 {
    std::env::var("AIFW_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    asked: u64,
    lost: u64,
    /// The longest time without an answer.
    gap: Duration,
}

/// Clients that ask one question after the other, each with a new id; one that is not answered within 200 ms
/// is lost.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<Tally>>,
}

impl Load {
    fn on(server: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || ask_until(&stop, server))
        };
        let clients = (0..4).map(client).collect();
        Self { stop, clients }
    }
    fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let tallies = self.clients.into_iter().map(|client| client.join().unwrap());
        tallies.fold(Tally::default(), |all, one| Tally {
            asked: all.asked + one.asked,
            lost: all.lost + one.lost,
            gap: all.gap.max(one.gap),
        })
    }
}

fn ask_until(stop: &AtomicBool, server: SocketAddr) -> Tally {
    let (mut tally, mut answered) = (Tally::default(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        // A new port each time, as resolvers do.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let id = tally.asked as u16;
        tally.asked += 1;
        let mut buffer = [0; 1500];
        let answer = socket
            .send(&question(id, "www.lan.test", Type::A))
            .and_then(|_| socket.recv(&mut buffer))
            .ok()
            .and_then(|length| read(id, &buffer[..length]));
        match answer {
            Some(answer) if !answer.addresses.is_empty() => {
                tally.gap = tally.gap.max(answered.elapsed());
                answered = Instant::now();
            }
            _ => tally.lost += 1,
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    tally
}

#[test]
fn a_reload_loses_nothing_and_the_gap_of_a_restart_is_known() {
    smol::block_on(async {
        // The questions come from one address, faster than one client may.
        let rig = Rig::running_with(json!({ "custom_options": "[security]\nrate_limit = 0" })).await;
        rig.host("www", "lan.test", "A", "192.168.1.7").await;
        rig.applied().await;
        let control = Control::of(&rig.app.services.runner(ServiceKind::Dns).places());
        let part = Duration::from_secs(seconds());
        let (load, begun, mut reloads) = (Load::on(rig.server()), Instant::now(), 0);
        while begun.elapsed() < part {
            control.reload_rpz().await.unwrap();
            reloads += 1;
            smol::Timer::after(Duration::from_millis(100)).await;
        }
        let tally = load.end();
        println!(
            "{reloads} reloads of policy zones in {} s: {} asked, {} lost, longest pause {} ms",
            part.as_secs(),
            tally.asked,
            tally.lost,
            tally.gap.as_millis()
        );
        assert!(tally.asked > 100 && reloads > 5, "{tally:?}");
        assert_eq!(tally.lost, 0);

        let (load, begun, mut applies) = (Load::on(rig.server()), Instant::now(), 0_u32);
        let mut longest = Duration::ZERO;
        while begun.elapsed() < part {
            rig.host(&format!("h{applies}"), "lan.test", "A", "192.168.1.8").await;
            let started = Instant::now();
            rig.applied().await;
            longest = longest.max(started.elapsed());
            applies += 1;
            smol::Timer::after(Duration::from_millis(700)).await;
        }
        let tally = load.end();
        println!(
            "{applies} applies with a restart in {} s: {} asked, {} lost, longest gap {} ms, longest apply {} ms",
            part.as_secs(),
            tally.asked,
            tally.lost,
            tally.gap.as_millis(),
            longest.as_millis()
        );
        assert!(tally.gap < Duration::from_secs(5), "{tally:?}");
        rig.end().await;
    });
}
