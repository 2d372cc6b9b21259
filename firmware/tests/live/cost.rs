//! What live data costs. Not run by default: `cargo test --release -p aifw --test live cost -- --ignored --nocapture
//! --test-threads 1`.

use std::time::Instant;

use crate::rig::{Options, Rig};
use crate::stand_in::{packet, state};

/// Resident memory of this process in MiB, where the system tells it.
fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1024.0 / 1024.0
}

#[test]
#[ignore = "prints figures"]
fn cost_of_memory_and_time() {
    smol::block_on(async {
        println!("at start: {:.1} MiB", resident_mib());
        let mut rig = Rig::new(Options::default(), false);
        rig.seconds(10).await;
        println!("idle appliance, 10 s: {:.1} MiB", resident_mib());
        let begun = Instant::now();
        rig.seconds(1800).await;
        println!("idle appliance, 30 min: {:.1} MiB, {:?} a tick", resident_mib(), begun.elapsed() / 1800);
        println!("series: {} KiB", rig.live.series().heap_bytes() / 1024);
        for _ in 0..10_000 {
            rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        }
        println!("10,000 logged packets: {:.1} MiB", resident_mib());

        let requests = 20_000;
        let begun = Instant::now();
        for _ in 0..requests {
            assert_eq!(rig.client.get("/status").send().await.status, 200);
        }
        println!("GET /status in process: {:?}", begun.elapsed() / requests);
        let begun = Instant::now();
        for _ in 0..requests {
            std::hint::black_box(rig.live.status_body(|_| unreachable!("the body is cached")));
        }
        println!("of which live data: {:?}", begun.elapsed() / requests);

        let many = |n: u64| state(n, "tcp", ("10.0.0.2", (n % 60_000) as u16), ("192.0.2.1", 443), (n, n));
        *rig.pf.states.lock().unwrap() = (0..100_000).map(many).collect();
        let _listener = rig.live.subscribe();
        let begun = Instant::now();
        rig.seconds(5).await;
        println!("tick with a listener and 100,000 states: {:?}", begun.elapsed() / 5);
        println!("at the end: {:.1} MiB", resident_mib());
    });
}
