//! What live data costs. Not run by default: `cargo test --release -p aifw --test live cost -- --ignored --nocapture
//! --test-threads 1`.

use std::time::Instant;

use crate::rig::{Options, Rig};
use crate::stand_in::{packet, state};

/// Resident memory of this process, where the system tells it: its own, and pages of the program file.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    format!("{:.1} MiB and {:.1} MiB of program", mib("RssAnon:"), mib("RssFile:"))
}

#[test]
#[ignore = "prints figures"]
fn cost_of_memory_and_time() {
    smol::block_on(async {
        println!("at start: {}", resident());
        let mut rig = Rig::new(Options::default(), false);
        println!("appliance made: {}", resident());
        rig.seconds(10).await;
        println!("idle appliance, 10 s: {}", resident());
        let begun = Instant::now();
        rig.seconds(1800).await;
        println!("idle appliance, 30 min: {}; {:?} a tick", resident(), begun.elapsed() / 1800);
        println!("series: {} KiB", rig.live.series().heap_bytes() / 1024);
        for _ in 0..10_000 {
            rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        }
        println!("10,000 logged packets: {}", resident());

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
        println!("at the end: {}", resident());
    });
}
