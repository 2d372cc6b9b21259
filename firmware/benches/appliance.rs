//! The appliance as a whole: start, memory, commits, apply, big tables. `cargo bench -p aifw --bench appliance`;
//! `-- --quick` for a short run. Processes are `aifw sandbox`, without captures.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aifw::apply::machine::Machine;
use aifw::apply::url_tables::UrlTables;
use aifw::config::{Alias, AliasKind, Id, Timestamp};
use aifw::pf::Pf;
use aifw::pf::sim::table::{Entry, Table};
use aifw::pf::sim::{SimInterface, Simulator};
use aifw::platform::geoip::GeoIp;
use aifw::platform::sandbox::Sandbox;
use aifw::platform::{Interface, Platform};
use aifw::store::{Author, Draft, Store};
use common::{Appliance, Spread, fill, heading, line, ms, quick, rule, rule_request, spread, timed};

const FEW: usize = 10;
const MANY: usize = 10_000;
const NETWORKS: u32 = 100_000;

fn main() {
    let runs = if quick() { 3 } else { 15 };
    start(runs);
    memory();
    commits(if quick() { 30 } else { 300 });
    apply(if quick() { 2 } else { 7 });
    tables(if quick() { 2 } else { 7 });
}

/// From the start of the process to its first answer.
fn start(runs: usize) {
    heading("Start of `aifw sandbox` to its first answer (median, least to most)");
    let dir = tempfile::tempdir().unwrap();
    let fresh = |number: usize| Appliance::start(&dir.path().join(number.to_string())).first_answer;
    spread(runs, fresh).print("new state directory");
    for rules in [FEW, MANY] {
        let state = dir.path().join(format!("rules-{rules}"));
        fill(&state, rules);
        spread(runs, |_| Appliance::start(&state).first_answer).print(&format!("existing, {rules} rules"));
    }
}

/// Resident memory: what the system counts, the program file's mapped pages included.
fn memory() {
    heading("Resident memory of `aifw sandbox`");
    let settle = || std::thread::sleep(Duration::from_secs(if quick() { 1 } else { 3 }));
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("idle");
    {
        let appliance = Appliance::start(&state);
        settle();
        appliance.print_memory("idle, nobody has logged in");
        appliance.sign_in();
        settle();
        appliance.print_memory("idle, after a registration and a login");
    }
    let state = dir.path().join("many");
    // As many as still leave room for those that are added below: there may be 10,000.
    fill(&state, MANY - FEW);
    let appliance = Appliance::start(&state);
    settle();
    appliance.print_memory(&format!("{} rules, applied", MANY - FEW));
    let mut client = appliance.sign_in();
    (0..10).for_each(|_| assert_eq!(client.ask("GET", "/rules", None).0, 200));
    settle();
    appliance.print_memory("… and listed ten times");
    for number in 0..10 {
        assert_eq!(client.ask("POST", "/rules", Some(&rule_request(number))).0, 201);
        assert_eq!(client.ask("POST", "/reload", None).0, 200);
        assert_eq!(client.ask("GET", "/rules", None).0, 200);
    }
    settle();
    appliance.print_memory("… and ten times a rule added, applied, listed");
}

/// A rule added: over HTTP from request to answer, and the store's part of it.
fn commits(times: usize) {
    heading("A rule added, durable when answered (median, least to most)");
    let mut medians = Vec::new();
    for rules in [FEW, MANY] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        // There may be 10,000; what is added must still fit.
        let rules = rules.min(MANY - FEW);
        fill(&state, rules);
        let over_http = {
            let appliance = Appliance::start(&state);
            let mut client = appliance.sign_in();
            spread_of_posts(&mut client, times)
        };
        over_http.print(&format!("POST /rules over HTTP, {rules} rules present"));
        let store = Store::open(&state).unwrap();
        // As over HTTP: put in, timed, and taken out again.
        let alone = spread(times, |number| {
            let commit = |change: fn(&mut Draft, usize)| {
                let change = move |draft: &mut Draft| {
                    change(draft, number);
                    Ok::<(), Infallible>(())
                };
                timed(|| smol::block_on(store.commit(&Author::system("bench"), change)).unwrap()).0
            };
            let time = commit(|draft, number| draft.config.rules.insert(rule(20_000 + number, draft.now)));
            commit(|draft, number| drop(draft.config.rules.remove(&rule(20_000 + number, draft.now).id)));
            time
        });
        alone.print(&format!("store.commit alone, {rules} rules present"));
        medians.push((over_http.median, alone.median));
    }
    let ratio = |few: Duration, many: Duration| format!("{:.2}", many.as_secs_f64() / few.as_secs_f64());
    line("ratio of the medians, over HTTP", ratio(medians[0].0, medians[1].0), "target: 2 at most");
    line("ratio of the medians, store.commit", ratio(medians[0].1, medians[1].1), "target: 2 at most");
}

/// Posts a rule and deletes it again, so that the number of rules stays; the POST is what is timed.
fn spread_of_posts(client: &mut common::Client, times: usize) -> Spread {
    spread(times, |number| {
        let body = rule_request(number);
        let (time, (status, answer)) = timed(|| client.ask("POST", "/rules", Some(&body)));
        assert_eq!(status, 201, "{answer}");
        let id = answer["data"]["id"].as_str().unwrap();
        assert_eq!(client.ask("DELETE", &format!("/rules/{id}"), None).0, 200);
        time
    })
}

/// A machine whose packet filter is the simulator.
fn machine(dir: &Path) -> (Machine, Arc<Simulator>) {
    let sides = [("em0", "203.0.113.2/24"), ("em1", "192.168.1.1/24")];
    let platform = Sandbox::new(dir);
    let interface = |(name, own): (&str, &str)| Interface {
        name: name.into(),
        up: true,
        addresses: vec![own.parse().unwrap()],
        ..Interface::default()
    };
    platform.set_interfaces(sides.into_iter().map(interface).collect());
    let simulated =
        platform.interfaces().unwrap().into_iter().map(|one| SimInterface::new(&one.name, one.addresses));
    let simulator = Arc::new(Simulator::new(simulated.collect()));
    let machine = Machine::new(
        simulator.clone(),
        Arc::new(platform),
        Arc::new(GeoIp::new(dir.join("geoip"))),
        Arc::new(UrlTables::new(dir.join("url-tables"), true)),
        dir.join("root"),
    );
    (machine, simulator)
}

/// From the configuration to rules in the packet filter.
fn apply(runs: usize) {
    heading(&format!("{MANY} rules made effective (median, least to most)"));
    let dir = tempfile::tempdir().unwrap();
    let (machine, _) = machine(dir.path());
    let config = common::configuration(MANY);
    spread(runs, |_| timed(|| machine.compile(&config).unwrap()).0).print("compile to pf text");
    let compiled = machine.compile(&config).unwrap();
    let size: usize =
        compiled.anchors.iter().map(|(_, text)| text.len()).sum::<usize>() + compiled.main.len();
    line("size of the text", format!("{size} B"), "");
    spread(runs, |_| timed(|| machine.check(&compiled).unwrap()).0).print("check alone");
    let whole = spread(runs, |_| {
        machine.forget();
        timed(|| machine.load(&machine.compile(&config).unwrap()).unwrap()).0
    });
    whole.print("compile, check and load");
    let state = dir.path().join("state");
    fill(&state, MANY - FEW);
    let appliance = Appliance::start(&state);
    let mut client = appliance.sign_in();
    let reload = spread(runs, |number| {
        assert_eq!(client.ask("POST", "/rules", Some(&rule_request(number))).0, 201);
        let (time, (status, answer)) = timed(|| client.ask("POST", "/reload", None));
        assert_eq!(status, 200, "{answer}");
        time
    });
    reload.print("POST /reload after a rule was added, over HTTP");
}

/// A hundred thousand networks in one table.
fn tables(runs: usize) {
    heading(&format!("An alias of {NETWORKS} networks (median, least to most)"));
    let networks: Vec<String> = (0..NETWORKS).map(|n| format!("{}/24", Ipv4Addr::from(n << 12))).collect();
    let dir = tempfile::tempdir().unwrap();
    let (machine, simulator) = machine(dir.path());
    let list = serve_once_and_again(networks.join("\n"));
    let alias = Alias {
        id: Id::new_v4(),
        name: "big".parse().unwrap(),
        alias_type: AliasKind::UrlTable,
        entries: vec![list],
        description: None,
        enabled: true,
        refresh_secs: None,
        created_at: Timestamp::now(),
        updated_at: Timestamp::now(),
    };
    let mut config = common::configuration(FEW);
    config.aliases.insert(alias.clone());
    machine.load(&machine.compile(&config).unwrap()).unwrap();
    let fetched = spread(runs, |_| timed(|| machine.url_tables.refresh(&alias)).0);
    fetched.print("URL table: fetch from loopback, read, keep a copy");
    assert_eq!(machine.url_tables.entries(alias.id).len(), NETWORKS as usize);
    let replaced = spread(runs, |_| {
        machine.pf.replace_table(&alias.name, &[]).unwrap();
        timed(|| machine.pf.replace_table(&alias.name, &networks).unwrap()).0
    });
    replaced.print("replace of the table, from empty");
    assert_eq!(simulator.table(&alias.name).unwrap().len(), NETWORKS as usize);

    let mut table = Table::default();
    table.replace(networks.iter().map(|text| text.parse::<Entry>().unwrap()));
    let asked: u32 = if quick() { 1_000_000 } else { 10_000_000 };
    // Addresses in no order (a multiplicative walk), through the part of the address space that is covered.
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from(n.wrapping_mul(2_654_435_761) % (NETWORKS << 12)));
    let (time, hits) = timed(|| (0..asked).filter(|n| table.lookup(address(*n))).count());
    let share = hits as f64 / f64::from(asked) * 100.0;
    line(
        "look-ups",
        format!("{:.0}/s", f64::from(asked) / time.as_secs_f64()),
        format!("{share:.1} % hits, {}", ms(time)),
    );
}

/// A web server on loopback that answers every request with this text, until the program ends.
fn serve_once_and_again(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(stream.try_clone().unwrap()).lines();
            head.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).ok();
        }
    });
    format!("http://{address}/list")
}
