//! What the simulator must bear: several threads at once, and every ruleset of FreeBSD's own pfctl tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn several_threads_at_once() {
    let sim = Arc::new(loaded("block in all\nanchor \"a\"\n"));
    let two = [
        "pass in proto udp from 10.0.0.0/8 to any label \"x\"",
        "pass in proto udp from any to <t> label \"y\"",
    ];
    sim.load(Some("a"), two[0]).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let reader = sim.logged();
    let loader = thread::spawn({
        let (sim, done) = (sim.clone(), done.clone());
        move || {
            let mut n = 0usize;
            while !done.load(Ordering::Relaxed) {
                sim.load(Some("a"), two[n % 2]).unwrap();
                sim.replace_table(&format!("t{}", n % 7).parse().unwrap(), &["10.0.0.0/8".into()]).unwrap();
                assert!(sim.load(Some("a"), "pass in from").is_err());
                n += 1;
            }
            n
        }
    });
    sim.replace_table(&"t".parse().unwrap(), &["203.0.113.2".into()]).unwrap();
    let senders: Vec<_> = (0..3u16)
        .map(|thread| {
            let sim = sim.clone();
            thread::spawn(move || {
                for n in 0..1500u16 {
                    let packet = udp("10.0.0.1", 1000 + n, "203.0.113.2", 9000 + thread);
                    // Every moment either the one ruleset or the other is in force, never none.
                    assert!(inside(&sim, "em0", &packet, 0.0).passed);
                    if n % 100 == 0 {
                        sim.states().unwrap();
                        sim.rules(Some("a")).unwrap();
                        sim.explain("em0", Direction::In, &packet);
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(loader.join().unwrap() > 0);
    assert_eq!(sim.info().unwrap().states, 4500);
    assert!(reader.is_empty());
}

#[test]
fn rulesets_of_pfctl_load_and_decide() {
    let Some(dir) = crate::testing::shared("pf-corpus") else { return };
    let packets = [
        syn("10.0.0.1", 1000, "192.0.2.1", 80),
        udp("192.168.1.5", 53, "203.0.113.2", 53),
        Packet::icmp(ip("2001:db8::1"), ip("2001:db8:0:1::2"), 128, 0, 1),
        Packet::other(ip("10.0.0.1"), ip("10.0.0.2"), 47),
    ];
    let (mut loads, mut refused) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "ok") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let sim = router();
        match sim.load(None, &text) {
            Ok(()) => loads += 1,
            Err(error) => {
                refused.push(format!("{}: {error}", path.file_name().unwrap().display()));
                continue;
            }
        }
        for packet in &packets {
            for direction in [Direction::In, Direction::Out] {
                for interface in ["em0", "em1", "lo0", "tun1000000"] {
                    let told = sim.explain(interface, direction, packet);
                    let outcome = sim.with(|e| e.inject(interface, direction, packet, 0));
                    // Chance aside, what is told is what happens.
                    if !text.contains("probability")
                        && !text.contains("random")
                        && !text.contains("source-track")
                    {
                        let first = told.legs[0].verdict == "pass";
                        assert!(first || !outcome.passed, "{}: {packet:?}", path.display());
                    }
                }
            }
        }
    }
    // ALTQ, Ethernet rules, users, divert and an included file are outside of what is supported.
    let unsupported = ["ALTQ", "Ethernet", "divert", "user or group", "No such file"];
    let unexpected: Vec<_> =
        refused.iter().filter(|why| !unsupported.iter().any(|word| why.contains(word))).collect();
    assert!(loads > 60 && unexpected.is_empty(), "{loads} loaded, refused: {unexpected:#?}");
}
