//! What an operation costs must not grow with what is already there.

use std::time::{Duration, Instant};

use aifw::api::ApiError;
use aifw::config::rule::RuleRequest;
use aifw::config::{Timestamp, request};
use aifw::store::Author;
use futures_lite::future::block_on;
use serde_json::json;

use crate::rig::Rig;

async fn with_rules(count: usize) -> Rig {
    let rig = Rig::new();
    let author = Author::system("test");
    rig.app
        .store
        .commit(&author, move |draft| {
            for number in 0..count {
                let body = json!({"action": "pass", "direction": "in", "protocol": "tcp", "dst_port_start": 443,
                    "src_addr": "<bruteforce>", "label": format!("rule {number}"), "priority": number % 10_000});
                let wanted: RuleRequest = request::from_value(body)?;
                draft.config.rules.insert(wanted.create(Timestamp::now(), &draft.config)?);
            }
            Ok::<_, ApiError>(())
        })
        .await
        .unwrap();
    rig
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_post_costs_about_the_same_with_nearly_ten_thousand_rules() {
    block_on(async {
        let (few, many) = (with_rules(10).await, with_rules(9_900).await);
        let body =
            json!({"action": "pass", "direction": "in", "protocol": "tcp", "src_addr": "<bruteforce>"});
        let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
        // In turns, so that a busy machine slows both.
        for _ in 0..41 {
            for (rig, times) in [(&few, &mut with_few), (&many, &mut with_many)] {
                let start = Instant::now();
                assert_eq!(rig.post("/rules", body.clone()).await.0, 201);
                times.push(start.elapsed());
            }
        }
        let (few, many) = (median(with_few), median(with_many));
        println!("POST /rules: {few:?} with 10 rules, {many:?} with 9900");
        assert!(many < few * 3, "{few:?} with 10 rules, {many:?} with 9900");
    });
}

#[test]
fn an_unchanged_list_is_not_serialised_again() {
    block_on(async {
        let rig = with_rules(9_900).await;
        let start = Instant::now();
        assert_eq!(rig.list("/rules").await.len(), 9_900);
        let first = start.elapsed();
        let answer = rig.client.get("/rules?limit=1").send();
        let start = Instant::now();
        let answer = answer.await;
        let page = start.elapsed();
        assert_eq!(answer.json()["total"], 9_900);
        println!("GET /rules: {first:?} at first, {page:?} for one row afterwards");
        assert!(page * 10 < first, "{first:?} at first, {page:?} for one row afterwards");
    });
}
