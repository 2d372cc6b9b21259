//! Under load: reloads that lose no question, and a list of a million names.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aifw::config::ServiceKind;
use aifw::config::dns::blocking::Format;
use serde_json::{Value, json};

use crate::lists::{Web, add, code, read_among_garbage, rules, running, switch_on};
use crate::rig::Rig;

/// Questions answered and lost, and the longest time between two answers.
#[derive(Debug, Default)]
struct Seen {
    asked: u64,
    lost: u64,
    /// Answered, and not as blocked.
    let_through: u64,
    longest: Duration,
}

/// Asks one name again and again until told to stop; an answer may take `patience`.
fn ask_on(port: u16, stop: Arc<AtomicBool>, patience: Duration) -> std::thread::JoinHandle<Seen> {
    std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        let mut seen = Seen::default();
        let mut last = Instant::now();
        let mut buffer = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            let id = (seen.asked as u16).to_be_bytes();
            let mut question = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            question.extend(b"\x03own\x04test\x00\x00\x01\x00\x01");
            seen.asked += 1;
            let answered = socket.send(&question).is_ok()
                && loop {
                    match socket.recv(&mut buffer) {
                        Ok(length) if length >= 2 && buffer[..2] == id => break true,
                        Ok(_) => {}
                        Err(_) => break false,
                    }
                };
            if answered {
                seen.longest = seen.longest.max(last.elapsed());
                last = Instant::now();
                // RFC 1035 §4.1.1: name error.
                seen.let_through += u64::from(buffer[3] & 15 != 3);
                // Below the daemon's limit of 1000 questions a second from one source.
                std::thread::sleep(Duration::from_millis(2));
            } else {
                seen.lost += 1;
                // A closed port is told at once: not a storm of questions.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        seen
    })
}

fn seconds() -> u64 {
    std::env::var("AIFW_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn reloads_under_load_lose_no_question() {
    smol::block_on(async {
        let rig = running().await;
        rig.ok("POST", "/dns/customblocks", json!({ "pattern": "own.test" })).await;
        let stop = Arc::new(AtomicBool::new(false));
        let asking = ask_on(rig.port, stop.clone(), Duration::from_secs(2));
        let begun = Instant::now();
        let mut reloads = 0;
        while begun.elapsed() < Duration::from_secs(seconds()) {
            let entry =
                rig.ok("POST", "/dns/customblocks", json!({ "pattern": format!("n{reloads}.test") })).await;
            rig.send("DELETE", &format!("/dns/customblocks/{}", entry["id"]), Value::Null).await;
            reloads += 2;
        }
        stop.store(true, Ordering::Relaxed);
        let seen = smol::unblock(|| asking.join().unwrap()).await;
        println!("{reloads} reloads in {:?}: {seen:?}", begun.elapsed());
        assert_eq!((seen.lost, seen.let_through), (0, 0), "{seen:?}");
        assert!(seen.asked > 100 && reloads > 2, "{seen:?}");
        rig.end().await;
    });
}

/// Resident memory of rDNS in MiB, where the system tells it.
fn memory(rig: &Rig) -> Option<u64> {
    mebibytes(&rig.app.services.runner(ServiceKind::Dns).status().pid?.to_string(), "VmRSS:")
}

/// One of the sizes that proc(5) tells of a process.
fn mebibytes(pid: &str, which: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(which))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

async fn large(names: usize) {
    let rig = running().await;
    let before = memory(&rig);
    let list: String = (0..names).map(|n| format!("0.0.0.0 host{n}.example{}.test\n", n % 1000)).collect();
    let web = Web::serving(list);
    let path = add(&rig, 200, &web, Format::Hosts).await;
    switch_on(&rig).await;
    let own = mebibytes("self", "VmRSS:");
    let begun = Instant::now();
    let outcome = rig.ok("POST", &format!("{path}/refresh"), Value::Null).await;
    let took = begun.elapsed();
    assert_eq!((&outcome["ok"], &outcome["rule_count"]), (&json!(true), &json!(names)), "{outcome}");
    assert_eq!(rules(&rig, 200).len(), names);
    assert_eq!(
        code(&rig, &format!("host{}.example{}.test", names - 1, (names - 1) % 1000)).await,
        "NXDOMAIN"
    );
    println!(
        "{names} names fetched, made and loaded in {took:?}; rDNS has {before:?} -> {:?} MiB, this process (web \
         server of the test included) {own:?} -> {:?} MiB, at most {:?}",
        memory(&rig),
        mebibytes("self", "VmRSS:"),
        mebibytes("self", "VmHWM:")
    );
    let begun = Instant::now();
    rig.ok("POST", "/dns/whitelist", json!({ "pattern": "host5.example5.test" })).await;
    println!("a whitelist entry over {names} names acts after {:?}", begun.elapsed());
    assert_eq!(rules(&rig, 200).len(), names - 1);
    let begun = Instant::now();
    let report = rig.ok("POST", "/dns/resolver/restart", Value::Null).await;
    assert_eq!(report["probe_tcp"], true, "{report}");
    println!("a restart with {names} names takes {:?}; {:?} MiB", begun.elapsed(), memory(&rig));
    rig.end().await;
}

#[test]
fn a_large_list_is_loaded() {
    smol::block_on(large(20_000));
}

#[test]
fn fifty_malformed_mebibytes_are_refused_in_bounded_memory() {
    const SIZE: usize = 50 * 1024 * 1024;
    let before = mebibytes("self", "VmRSS:");
    smol::block_on(read_among_garbage(SIZE));
    let most = mebibytes("self", "VmHWM:");
    println!("this process: {before:?} MiB before, at most {most:?} MiB");
    // The test's own server holds up to three copies (made, served, mixed), the one that fetches at most two. Other
    // tests in the same process would be counted too.
    let alone = std::env::var_os("NEXTEST_EXECUTION_MODE").is_some_and(|mode| mode == "process-per-test");
    if let (true, Some(before), Some(most)) = (alone, before, most) {
        assert!(most - before < 6 * 50, "{before} -> {most} MiB");
    }
}

#[test]
fn a_million_names_are_loaded() {
    smol::block_on(large(1_000_000));
}
