//! How many of the contract's operations this build serves. What is not built yet answers 404; nothing stands in
//! for it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aifw::api::testing::{Client, bare_app};
use aifw::api::{self, Route};

#[path = "../src/testing.rs"]
mod testing;

/// Parameters have no names here: they differ where the same thing is meant.
fn shape(method: &str, path: &str) -> String {
    let blank = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    format!("{method} {}", path.split('/').map(blank).collect::<Vec<_>>().join("/"))
}

#[test]
fn operations_of_the_contract_that_are_served() {
    let Some(contract) = testing::shared("contract") else { return };
    let text = std::fs::read_to_string(contract.join("endpoints.txt")).unwrap();
    let wanted: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(wanted.len(), 417);
    let served: BTreeSet<String> =
        api::routes().iter().map(|route| shape(route.method, &format!("/api/v1{}", route.path))).collect();
    let mut areas: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (method, path) in &wanted {
        let area = path.trim_start_matches("/api/v1/").split('/').next().unwrap();
        let (have, all) = areas.entry(area).or_default();
        *all += 1;
        let shape = shape(method, path);
        if served.contains(&shape) {
            *have += 1;
        }
        known.insert(shape);
    }
    let have: usize = areas.values().map(|(have, _)| have).sum();
    println!(
        "{have} of {} operations are served, and {} of our own:",
        wanted.len(),
        served.difference(&known).count()
    );
    for (area, (have, all)) in areas.iter().filter(|(_, (have, _))| *have > 0) {
        println!("  {area:<16} {have:>3} of {all}");
    }
    for own in served.difference(&known) {
        println!("  ours: {own}");
    }
}

#[test]
fn nothing_that_is_served_is_a_stub() {
    smol::block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(api::app(Arc::new(bare_app(dir.path())), api::routes()));
        let fill = |route: &Route| {
            let id = "00000000-0000-4000-8000-000000000000";
            let part = |part: &str| if part.starts_with('{') { id.to_owned() } else { part.to_owned() };
            route.path.split('/').map(part).collect::<Vec<_>>().join("/")
        };
        for route in api::routes() {
            let request = client.request(route.method, &fill(&route)).bearer("all");
            let (status, headers, _) = request.stream().await;
            assert_ne!(status, 501, "{} {}", route.method, route.path);
            assert_ne!(status, 204, "{} {}: an empty answer", route.method, route.path);
            assert!(headers.contains_key("content-type"), "{} {}", route.method, route.path);
        }
        // What is in the contract and not in the table is not there, rather than an empty success.
        let (status, body) = client.get("/no/such/area").bearer("all").await;
        assert_eq!((status, body["error"].is_string()), (404, true));
    });
}
