//! The application in process: order of checks, error bodies, CORS, headers, compression, the static UI.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Read;
use std::sync::{Arc, Mutex};

use aifw::api::testing::{Client, bare_app};
use aifw::api::{self, Access, ApiError, App, Call, Cors, Options, Peer, Reply, Route};
use aifw::config::Permission;
use futures_lite::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

fn table() -> Vec<Route> {
    let rules: Arc<[u8]> = serde_json::to_vec(&json!({ "data": vec!["rule"; 1000] })).unwrap().into();
    let read = Access::Needs(Permission::RulesRead);
    let write = Access::Needs(Permission::RulesWrite);
    let create = async |call: Call| {
        let body: Value = call.json()?;
        Ok(Reply::created(
            &json!({ "name": body["name"], "params": call.params, "ip": call.ip, "query": call.query }),
        ))
    };
    let panic = async |call: Call| {
        if call.query("really").is_none() {
            panic!("on purpose");
        }
        Ok(Reply::message("no"))
    };
    let wrong = async |_: Call| Err::<Reply, _>(ApiError::internal("secret detail /etc/passwd"));
    let talk = async |_: Call| {
        Ok(Reply::websocket(|mut socket| async move {
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    socket.send(message).await.unwrap();
                }
            }
        }))
    };
    vec![
        Route::new("GET", "/rules", read, "", move |_: Call| {
            let rules = rules.clone();
            async move { Ok(Reply::shared("application/json", rules)) }
        }),
        Route::new("POST", "/rules", write, "", create).with_body_limit(100),
        Route::new("PUT", "/rules/{id}", write, "", create),
        Route::new("POST", "/quiet", write, "", create).without_snapshot(),
        Route::new("POST", "/login", Access::Public, "", create),
        Route::new("GET", "/panic", Access::Public, "", panic),
        Route::new("GET", "/wrong", Access::Public, "", wrong),
        Route::new("GET", "/talk", Access::Authenticated, "", talk).with_ticket(),
    ]
}

fn client_with(options: Options, change: impl FnOnce(&mut App)) -> (TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let mut app = bare_app(dir.path());
    change(&mut app);
    (dir, Client::new(api::app_with(Arc::new(app), table(), options)))
}
fn client() -> (TempDir, Client) {
    client_with(Options::default(), |_| {})
}

/// Runs to the end without a reactor of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(future)
}

#[test]
fn checks_come_in_their_order() {
    let (_dir, client) = client();
    run(async {
        // Unknown path and method before the credential.
        let answer = client.get("/nope").send().await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("/api/v1/nope not found")));
        assert_eq!(answer.json()["error"], answer.json()["message"]);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let answer = client.request("PATCH", "/rules").send().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST, HEAD, OPTIONS")));
        // Credential before permission, permission before the body.
        let answer = client.post("/rules").body("not json").send().await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(client.post("/rules").bearer("junk").body("not json").await.0, 401);
        let (status, body) = client.post("/rules").bearer("rules:read").body("not json").await;
        assert_eq!((status, body["error"].as_str()), (403, Some("the permission rules:write is needed")));
        assert_eq!(client.post("/rules").bearer("rules:read").body(vec![b'x'; 200]).await.0, 403);
        // Size before form.
        assert_eq!(client.post("/rules").bearer("all").body(vec![b'x'; 101]).await.0, 413);
        assert_eq!(client.post("/rules").bearer("all").body("not json").await.0, 400);
        let (status, body) =
            client.put("/rules/a%20b?x=1&y=%2F").bearer("all").json(json!({"name": "n"})).await;
        assert_eq!((status, &body["data"]["params"]["id"]), (201, &json!("a b")));
        assert_eq!(body["data"]["query"], json!([["x", "1"], ["y", "/"]]));
    });
}

#[test]
fn paths_outside_the_table() {
    let (_dir, client) = client();
    run(async {
        for path in
            ["/api", "/api/", "/api/v2/rules", "/api/v1", "/api/v1x", "/api/v1/rules/", "/api/v1/rules/a/b"]
        {
            let answer = client.get("").absolute(path).bearer("all").send().await;
            assert_eq!((answer.status, answer.json()["error"].is_string()), (404, true), "{path}");
        }
        let answer = client.get("").absolute("/").send().await;
        assert_eq!((answer.status, &answer.json()["product"]), (200, &json!("AiFw")));
        assert_eq!(client.get("").absolute("/index.html").await.0, 404);
        assert_eq!(client.post("").absolute("/").await.0, 405);
    });
}

#[test]
fn a_stale_credential_does_not_keep_anybody_from_public_operations() {
    let (_dir, client) = client();
    run(async {
        assert_eq!(client.post("/login").bearer("junk").json(json!({})).await.0, 201);
    });
}

#[test]
fn failures_say_nothing_about_the_inside() {
    let (_dir, client) = client();
    run(async {
        for path in ["/panic", "/wrong"] {
            let answer = client.get(path).send().await;
            assert_eq!(answer.status, 500);
            assert!(
                !answer.text().contains("secret") && !answer.text().contains("purpose"),
                "{}",
                answer.text()
            );
            assert!(answer.json()["error"].is_string());
        }
    });
}

#[test]
fn writes_are_told_to_the_hooks() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = told.clone();
    let (_dir, client) = client_with(Options::default(), move |app| {
        app.after_write.push(Box::new(move |route, path, caller| {
            log.lock().unwrap().push(format!("{} {path} by {}", route.method, caller.username));
        }));
    });
    run(async {
        client.post("/rules").bearer("all").json(json!({})).await;
        client.put("/rules/7").bearer("all").json(json!({})).await;
        // None of these: refused, no snapshot wanted, nobody known, a read.
        client.post("/rules").bearer("all").body("x").await;
        client.post("/quiet").bearer("all").json(json!({})).await;
        client.post("/login").json(json!({})).await;
        client.get("/rules").bearer("all").await;
    });
    assert_eq!(*told.lock().unwrap(), ["POST /api/v1/rules by tester", "PUT /api/v1/rules/7 by tester"]);
}

#[test]
fn preflights_and_origins() {
    run(async {
        let preflight = |client: &Client| {
            client
                .request("OPTIONS", "/rules")
                .header("Origin", "https://other.example")
                .header("Access-Control-Request-Method", "POST")
                .header("Access-Control-Request-Headers", "x-anything, authorization")
                .send()
        };
        let (_dir, any) = client();
        let answer = preflight(&any).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("*")));
        assert_eq!(answer.header("access-control-allow-headers"), Some("x-anything, authorization"));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let refused = any.get("/rules").header("Origin", "https://other.example").send().await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("*")));
        assert!(refused.header("access-control-expose-headers").unwrap().contains("X-Config-Version"));
        let only = Cors::parse("https://ours.example").unwrap();
        let (_dir, some) = client_with(Options { cors: only, ..Options::default() }, |_| {});
        assert_eq!(preflight(&some).await.header("access-control-allow-origin"), None);
        let ours = some.get("/rules").bearer("all").header("Origin", "https://ours.example").send().await;
        assert_eq!(ours.header("access-control-allow-origin"), Some("https://ours.example"));
        assert!(ours.header("vary").unwrap().contains("Origin"));
        let plain = some.request("OPTIONS", "/rules").send().await;
        assert_eq!((plain.status, plain.header("allow")), (204, Some("GET, POST, HEAD, OPTIONS")));
    });
}

#[test]
fn a_list_of_origins_is_judged() {
    assert_eq!((Cors::parse("*"), Cors::parse("")), (Ok(Cors::Any), Ok(Cors::Any)));
    let two = ["https://a.example", "http://[::1]:3000"].map(str::to_owned).to_vec();
    assert_eq!(Cors::parse("https://a.example, http://[::1]:3000"), Ok(Cors::Only(two)));
    for bad in [
        "a.example",
        "https://a.example/",
        "https://a.example/ui",
        "https://u@a.example",
        "ftp://a.example",
        "x",
    ] {
        assert!(Cors::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn headers_that_protect() {
    let (_dir, client) = client();
    run(async {
        let answer = client.get("/rules").bearer("all").send().await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("strict-transport-security"), None);
        let peer = Peer::Tcp { peer: "192.0.2.1:5".parse().unwrap(), local: None, tls: true };
        let answer = client.get("/rules").bearer("all").peer(peer).send().await;
        let hsts = answer.header("strict-transport-security");
        assert_eq!(hsts, Some("max-age=31536000; includeSubDomains"));
    });
}

#[test]
fn the_clients_address() {
    let (_dir, client) = client();
    run(async {
        let ask = |ip: &str| client.post("/login").from(ip.parse().unwrap()).json(json!({}));
        assert_eq!(ask("192.0.2.1").header("X-Forwarded-For", "9.9.9.9").await.1["data"]["ip"], "192.0.2.1");
        assert_eq!(
            ask("127.0.0.1").header("X-Forwarded-For", "1.2.3.4, 9.9.9.9").await.1["data"]["ip"],
            "9.9.9.9"
        );
        assert_eq!(client.post("/login").json(json!({})).await.1["data"]["ip"], Value::Null);
    });
}

#[test]
fn json_is_compressed_for_those_who_ask() {
    let (_dir, client) = client();
    run(async {
        let plain = client.get("/rules").bearer("all").send().await;
        let packed = client.get("/rules").bearer("all").header("Accept-Encoding", "br, gzip").send().await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert!(packed.body.len() < plain.body.len() / 10);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.body);
        let small = client.get("/nope").header("Accept-Encoding", "gzip").send().await;
        assert_eq!(small.header("content-encoding"), None);
    });
}

#[test]
fn websockets_in_process() {
    let (_dir, client) = client();
    run(async {
        assert_eq!(client.get("/talk").await.0, 401);
        assert_eq!(client.get("/talk?ticket=xyz").await.0, 401);
        assert_eq!(client.get("/talk?ticket=abc").await.0, 400);
        let mut socket = client.get("/talk?ticket=abc").websocket().await.unwrap();
        socket.send("hello".into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "hello");
        let (status, body) = client.get("/talk").websocket().await.unwrap_err();
        assert_eq!((status, body["error"].is_string()), (401, true));
    });
}

#[test]
fn the_static_ui() {
    let ui = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = ui.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("index.html", "<html>home");
    write("rules.html", "<html>rules");
    write("help/index.html", "<html>help");
    write("assets/app.js", &"let x = 1;\n".repeat(500));
    write(".env", "hush");
    fs::write(outside.path().join("secret.txt"), "hush").unwrap();
    std::os::unix::fs::symlink(outside.path(), ui.path().join("link")).unwrap();
    let options = Options { ui: Some(ui.path().to_owned()), ..Options::default() };
    let (_dir, client) = client_with(options, |_| {});
    run(async {
        let get = |path: &str| client.get("").absolute(path);
        for (path, text) in [
            ("/", "<html>home"),
            ("/rules", "<html>rules"),
            ("/help", "<html>help"),
            ("/some/page/of/the/ui", "<html>home"),
        ] {
            let answer = get(path).send().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, text), "{path}");
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
            assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
        }
        let script = get("/assets/app.js").header("Accept-Encoding", "gzip").send().await;
        assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(script.header("content-encoding"), Some("gzip"));
        let etag = script.header("etag").unwrap();
        let again = get("/assets/app.js").header("If-None-Match", etag).send().await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(etag)));
        let since = script.header("last-modified").unwrap();
        assert_eq!(get("/assets/app.js").header("If-Modified-Since", since).send().await.status, 304);
        for path in [
            "/assets/missing.js",
            "/.env",
            "/link/secret.txt",
            "/..%2f..%2fetc%2fpasswd",
            "/%2e%2e/%2e%2e/etc/passwd.txt",
            "/assets%00.js",
        ] {
            let answer = get(path).send().await;
            assert!(!answer.text().contains("hush") && !answer.text().contains("root:"), "{path}");
            assert!(answer.status == 404 || answer.text() == "<html>home", "{path}: {}", answer.status);
        }
        // The API is never answered by the UI.
        assert_eq!(get("/api/v1/nope").send().await.json()["error"], "/api/v1/nope not found");
        assert_eq!(client.post("").absolute("/rules").await.0, 405);
    });
}
