//! What must hold when requests come at the same moment.

use std::sync::{Arc, Barrier};

use serde_json::json;

use super::bench::{PASSWORD, bench, text};

/// Answers of all requests, each sent from a thread of its own, all released at the same moment.
fn at_once<T: Send + 'static>(requests: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let start = Arc::new(Barrier::new(requests.len()));
    let running: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let start = start.clone();
            std::thread::spawn(move || {
                start.wait();
                smol::block_on(request)
            })
        })
        .collect();
    running.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn of_parallel_first_registrations_one_becomes_administrator() {
    smol::block_on(async {
        let bench = bench().await;
        let tasks = (0..12)
            .map(|n| {
                let body = json!({"username": format!("user{n}"), "password": PASSWORD});
                let request = bench.client.post("/auth/register").json(body);
                async move { request.await.0 }
            })
            .collect();
        let statuses = at_once(tasks);
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 201 | 403)), "{statuses:?}");
        let snapshot = bench.store.snapshot();
        assert_eq!(snapshot.identity.users.len(), 1);
        assert_eq!(aifw::auth::administrators(&snapshot.identity), 1);
    });
}

#[test]
fn of_parallel_refreshes_one_wins_and_the_family_ends() {
    smol::block_on(async {
        let bench = bench().await;
        bench.admin().await;
        let token = bench.tokens("admin").await["refresh_token"].clone();
        let tasks = (0..16)
            .map(|_| {
                let request = bench.client.post("/auth/refresh").json(json!({"refresh_token": token}));
                async move { request.await }
            })
            .collect();
        let answers = at_once(tasks);
        let won: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
        assert_eq!(won.len(), 1);
        assert!(answers.iter().all(|(status, _)| matches!(status, 200 | 401)));
        let fresh = json!({"refresh_token": won[0].1["refresh_token"]});
        assert_eq!(bench.post("/auth/refresh", fresh).await.0, 401);
    });
}

#[test]
fn parallel_guesses_are_counted_one_by_one() {
    smol::block_on(async {
        let bench = bench().await;
        bench.admin().await;
        let tasks = (0..20)
            .map(|_| {
                let request = bench.login("admin", "WrongPass1");
                async move { request.await.0 }
            })
            .collect();
        let statuses = at_once(tasks);
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 15, "{statuses:?}");
    });
}

#[test]
fn a_recovery_code_used_twice_at_once_opens_once() {
    smol::block_on(async {
        let bench = bench().await;
        let client = bench.admin().await;
        let (_, setup) = client.post("/auth/totp/setup").await;
        let code = bench.code(&text(&setup["secret"]));
        assert_eq!(client.post("/auth/totp/verify").json(json!({"code": code})).await.0, 200);
        let body =
            json!({"username": "admin", "password": PASSWORD, "totp_code": setup["recovery_codes"][0]});
        let tasks = (0..4)
            .map(|_| {
                let request = bench.client.post("/auth/totp/login").json(&body);
                async move { request.await.0 }
            })
            .collect();
        let statuses = at_once(tasks);
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    });
}

#[test]
fn a_ticket_used_many_times_at_once_opens_once() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let ticket = text(&admin.post("/auth/ws-ticket").await.1["ticket"]);
        let tasks = (0..16)
            .map(|_| {
                let request = bench.client.get(&format!("/ws?ticket={ticket}"));
                async move { request.websocket().await.is_ok() }
            })
            .collect();
        let opened = at_once(tasks);
        assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
    });
}
