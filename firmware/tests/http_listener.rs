//! The listener, over real sockets: order, limits, time-outs, smuggling, TLS, WebSocket, the local socket,
//! shutting down.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod wire;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api::server::tls::{self, Tls};
use aifw::api::server::{Limits, Listen, Server, ServerError, websocket};
use aifw::api::{self, Access, Call, Reply, Route, testing};
use aifw::auth::Credential;
use futures_lite::{AsyncReadExt, StreamExt};
use proptest::prelude::*;
use wire::{Wire, request, serve};

/// Says what it was asked; `/slow` waits for the channel.
fn echo() -> (tide::Server<()>, async_channel::Sender<()>) {
    let (go, wait) = async_channel::unbounded::<()>();
    let mut app = tide::new();
    app.at("/echo/:word").all(|mut request: tide::Request<()>| async move {
        let body = request.body_string().await?;
        Ok(format!("{} {} {body}", request.method(), request.param("word")?))
    });
    app.at("/slow").get(move |_| {
        let wait = wait.clone();
        async move {
            wait.recv().await.ok();
            Ok("slow")
        }
    });
    app.at("/large").get(|_| async { Ok(tide::Body::from_bytes(vec![b'x'; 32 * 1024 * 1024])) });
    app.at("/panic").get(|_| async {
        if std::env::args().count() > 0 {
            panic!("on purpose");
        }
        Ok("")
    });
    (app, go)
}

/// The application with its own routes, for what only the whole shows.
fn appliance(dir: &std::path::Path) -> tide::Server<api::Api> {
    let take = async |call: Call| Ok(Reply::data(&call.body.len()));
    let whoami = async |call: Call| {
        let caller = call.caller()?;
        Ok(Reply::data(&(&caller.username, caller.credential == Credential::Local, caller.permissions)))
    };
    let talk = async |_: Call| {
        Ok(Reply::websocket(|mut socket| async move {
            while let Some(message) = socket.next().await {
                match message {
                    Ok(message) if message.is_text() => socket.send(message).await.unwrap(),
                    Ok(_) => {}
                    Err(error) => return websocket::fail(socket, &error).await,
                }
            }
        }))
    };
    let events = async |_: Call| {
        let (sender, receiver) = async_channel::unbounded();
        sender.send(r#"{"n":1}"#.to_owned()).await.ok();
        // The sender lives as long as the process: the stream has no end of its own.
        std::mem::forget(sender);
        Ok(Reply::events(receiver))
    };
    let routes = vec![
        Route::new("POST", "/take", Access::Authenticated, "", take),
        Route::new("GET", "/whoami", Access::Authenticated, "", whoami),
        Route::new("GET", "/talk", Access::Authenticated, "", talk).with_ticket(),
        Route::new("GET", "/events", Access::Public, "", events),
    ];
    api::app(Arc::new(testing::bare_app(dir)), routes)
}

const ALL: &str = "Authorization: Bearer all";

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (app, go) = echo();
    let (_server, address) = serve(app, Limits::default());
    let mut wire = Wire::connect(address);
    let mut bytes = request("GET", "/echo/one", &[], b"");
    bytes.extend(request("POST", "/echo/two", &[], b"body"));
    bytes.extend(request("GET", "/slow", &[], b""));
    bytes.extend(request("POST", "/echo/three", &["Transfer-Encoding: chunked"], b""));
    bytes.extend(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    bytes.extend(request("GET", "/echo/four", &["Connection: close"], b""));
    wire.send(bytes);
    assert_eq!(wire.answer().text(), "GET one ");
    // Two is here although the third has not been answered yet.
    assert_eq!(wire.answer().text(), "POST two body");
    go.try_send(()).unwrap();
    assert_eq!(wire.answer().text(), "slow");
    assert_eq!(wire.answer().text(), "POST three abcde");
    let last = wire.answer();
    assert_eq!((last.text().as_str(), last.header("connection")), ("GET four ", Some("close")));
    assert!(wire.ended());
}

#[test]
fn a_connection_is_kept_and_every_answer_has_a_date() {
    let (app, _go) = echo();
    let (server, address) = serve(app, Limits::default());
    let mut wire = Wire::connect(address);
    for number in 0..50 {
        let answer = wire.request("POST", &format!("/echo/{number}"), &[], b"x");
        assert_eq!(answer.text(), format!("POST {number} x"));
        assert!(answer.header("date").unwrap().ends_with(" GMT"));
        assert_eq!(answer.header("connection"), None);
    }
    assert_eq!(server.connections(), 1);
    let answer = wire.request("HEAD", "/large", &[], b"");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("33554432")));
    let mut old = Wire::connect(address);
    old.send("GET /echo/x HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().header("connection"), Some("close"));
    assert!(old.ended());
    old = Wire::connect(address);
    old.send("GET /echo/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old.answer().header("connection"), Some("keep-alive"));
    old.send("GET /echo/y HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().text(), "GET y ");
}

#[test]
fn large_answers_arrive_whole() {
    let (app, _go) = echo();
    let (_server, address) = serve(app, Limits::default());
    let mut wire = Wire::connect(address);
    assert_eq!(wire.request("GET", "/large", &[], b"").body.len(), 32 * 1024 * 1024);
    assert_eq!(wire.request("GET", "/echo/after", &[], b"").text(), "GET after ");
}

#[test]
fn slow_loris_gets_408_while_others_are_served() {
    let (app, _go) = echo();
    let limits = Limits { head: Duration::from_millis(400), ..Limits::default() };
    let (server, address) = serve(app, limits);
    let mut slow: Vec<Wire> = (0..100).map(|_| Wire::connect(address)).collect();
    for wire in &mut slow {
        wire.send("GET /echo/slow HTTP/1.1\r\nHost: a\r\nX-");
    }
    let silent = Wire::connect(address);
    let started = Instant::now();
    let mut good = Wire::connect(address);
    let mut served = 0;
    while started.elapsed() < Duration::from_millis(600) {
        // One byte more does not buy more time.
        for wire in &mut slow {
            wire.stream.write_all(b"a").ok();
        }
        assert_eq!(good.request("GET", "/echo/good", &[], b"").status, 200);
        served += 1;
    }
    assert!(served > 20, "{served}");
    for wire in &mut slow {
        wire.stream.shutdown(Shutdown::Write).ok();
        assert_eq!(wire.answer().status, 408);
        assert!(wire.ended());
    }
    let mut silent = silent;
    assert!(silent.ended());
    drop((slow, silent));
    until(|| server.connections() == 1);
}

#[test]
fn a_body_that_stops_coming_gets_408() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { body_gap: Duration::from_millis(200), ..Limits::default() };
    let (_server, address) = serve(appliance(dir.path()), limits);
    let mut wire = Wire::connect(address);
    wire.send(format!("POST /api/v1/take HTTP/1.1\r\nHost: a\r\n{ALL}\r\nContent-Length: 10\r\n\r\nabc"));
    let answer = wire.answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(answer.json()["error"], "the body did not arrive in time");
    // Slower than the least rate: 1 byte now and then.
    let limits = Limits { body_gap: Duration::from_millis(300), body_rate: 1_000_000, ..Limits::default() };
    let (_server, address) = serve(appliance(dir.path().join("b").as_path()), limits);
    let mut wire = Wire::connect(address);
    wire.send(format!("POST /api/v1/take HTTP/1.1\r\nHost: a\r\n{ALL}\r\nContent-Length: 1000\r\n\r\n"));
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(800) && wire.stream.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(wire.answer().status, 408);
}

#[test]
fn idle_connections_are_closed() {
    let (app, _go) = echo();
    let (_server, address) = serve(app, Limits { idle: Duration::from_millis(100), ..Limits::default() });
    let mut wire = Wire::connect(address);
    assert_eq!(wire.request("GET", "/echo/a", &[], b"").status, 200);
    assert!(wire.ended());
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let (app, _go) = echo();
    let (server, address) =
        serve(app, Limits { write_stall: Duration::from_millis(200), ..Limits::default() });
    let mut wire = Wire::connect(address);
    wire.send(request("GET", "/large", &[], b""));
    until(|| server.connections() == 1);
    until(|| server.connections() == 0);
}

#[test]
fn bodies_above_the_limit_are_refused_and_the_refusal_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(appliance(dir.path()), Limits::default());
    let limit = api::route::DEFAULT_BODY_LIMIT;
    // Announced: refused before a byte of it is sent.
    let mut wire = Wire::connect(address);
    wire.send(format!(
        "POST /api/v1/take HTTP/1.1\r\nHost: a\r\n{ALL}\r\nContent-Length: {}\r\n\r\n",
        limit + 1
    ));
    let answer = wire.answer();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(answer.json()["message"].as_str().unwrap().contains("10485760"));
    // The client sends it all the same, and only then reads.
    let mut wire = Wire::connect(address);
    let answer = wire.request("POST", "/api/v1/take", &[ALL], &vec![b'x'; limit + 1]);
    assert_eq!(answer.status, 413);
    // In chunks, so that nobody knows before.
    let mut wire = Wire::connect(address);
    wire.send(request("POST", "/api/v1/take", &[ALL, "Transfer-Encoding: chunked"], b""));
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1024 * 1024], b"\r\n"].concat();
    for _ in 0..11 {
        wire.send(&chunk);
    }
    assert_eq!(wire.answer().status, 413);
    // Exactly the limit passes, either way, and the connection goes on.
    let mut wire = Wire::connect(address);
    assert_eq!(wire.request("POST", "/api/v1/take", &[ALL], &vec![b'x'; limit]).json()["data"], limit);
    wire.send(request("POST", "/api/v1/take", &[ALL, "Transfer-Encoding: chunked"], b""));
    for _ in 0..10 {
        wire.send(&chunk);
    }
    wire.send("0\r\n\r\n");
    assert_eq!(wire.answer().json()["data"], limit);
    assert_eq!(wire.request("POST", "/api/v1/take", &[ALL], b"abc").json()["data"], 3);
}

#[test]
fn credentials_are_asked_before_the_body() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(appliance(dir.path()), Limits::default());
    let mut wire = Wire::connect(address);
    wire.send(
        "POST /api/v1/take HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(wire.answer().status, 401);
    assert!({
        wire.stream.shutdown(Shutdown::Write).unwrap();
        wire.ended()
    });
    let mut wire = Wire::connect(address);
    wire.send(format!(
        "POST /api/v1/take HTTP/1.1\r\nHost: a\r\n{ALL}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(wire.answer().status, 100);
    wire.send("12345");
    assert_eq!(wire.answer().json()["data"], 5);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_and_the_connection_ends() {
    let (app, _go) = echo();
    let (_server, address) = serve(app, Limits::default());
    let smuggled = "GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bad, expected) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
        ("Content-Length: 0, 44\r\n\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: cow\r\n\r\n", 501),
        ("Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: y\nContent-Length: 5\r\n\r\n", 400),
        ("Content-Length : 5\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", 400),
    ] {
        let mut wire = Wire::connect(address);
        wire.send(format!("POST /echo/a HTTP/1.1\r\nHost: a\r\n{bad}{smuggled}"));
        wire.stream.shutdown(Shutdown::Write).unwrap();
        let answer = wire.answer();
        // A body that breaks off in the middle is told by whoever reads it: here tide's own 500 would do too, as
        // long as nothing that follows is taken for a request.
        let told = answer.status == expected || (bad.contains("\r\n\r\n") && answer.status >= 400);
        assert!(told, "{bad:?}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{bad:?}");
        assert!(wire.ended(), "{bad:?}: something more was answered");
    }
    let mut wire = Wire::connect(address);
    let header = format!("X: {}", "y".repeat(17_000));
    assert_eq!(wire.request("GET", "/echo/a", &[&header], b"").status, 431);
    let many: Vec<String> = (0..101).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(Wire::connect(address).request("GET", "/echo/a", &many, b"").status, 431);
    let mut wire = Wire::connect(address);
    wire.send([0x16, 3, 1, 2, 0]);
    assert_eq!(wire.answer().json()["error"], "this is not an HTTP request");
}

#[test]
fn chunks_that_break_off_are_a_bad_request_to_the_application() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(appliance(dir.path()), Limits::default());
    let mut wire = Wire::connect(address);
    wire.send(request("POST", "/api/v1/take", &[ALL, "Transfer-Encoding: chunked"], b""));
    wire.send("3\r\nabcd\r\n0\r\n\r\n");
    assert_eq!(wire.answer().status, 400);
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert!(wire.ended());
}

#[test]
fn a_panic_in_a_handler_ends_one_connection_and_no_more() {
    let (app, _go) = echo();
    let (_server, address) = serve(app, Limits::default());
    for _ in 0..10 {
        let mut wire = Wire::connect(address);
        wire.send(request("GET", "/panic", &[], b""));
        assert!(wire.ended());
        assert_eq!(Wire::connect(address).request("GET", "/echo/a", &[], b"").status, 200);
    }
}

#[test]
fn plain_http_on_an_address_of_others_must_be_asked_for() {
    let (app, _go) = echo();
    let anywhere = "0.0.0.0:0".parse().unwrap();
    let refused = Server::start(app.clone(), &[Listen::Plain(anywhere)], Limits::default(), 1);
    assert!(matches!(refused, Err(ServerError::PlainRefused(_))));
    let server = Server::start(app, &[Listen::PlainAnywhere(anywhere)], Limits::default(), 1).unwrap();
    assert_ne!(server.addresses()[0].port(), 0);
}

#[test]
fn tls_with_a_certificate_that_is_replaced_at_run_time() {
    let (app, _go) = echo();
    let first = tls::self_signed(&["fw.test".into(), "127.0.0.1".into()]).unwrap();
    let second = tls::self_signed(&["127.0.0.1".into()]).unwrap();
    let tls = Tls::new(&first).unwrap();
    let place = Listen::Tls("127.0.0.1:0".parse().unwrap(), tls.clone());
    let server = Server::start(app, &[place], Limits::default(), 2).unwrap();
    let url = format!("https://{}/echo/tls", server.addresses()[0]);
    let agent = |pem: &tls::Pem| -> ureq::Agent {
        let root = ureq::tls::Certificate::from_pem(pem.certificate.as_bytes()).unwrap();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        ureq::Agent::config_builder().tls_config(tls).build().into()
    };
    let trusting_first = agent(&first);
    let get =
        |agent: &ureq::Agent| agent.get(&url).call().map(|mut it| it.body_mut().read_to_string().unwrap());
    assert_eq!(get(&trusting_first).unwrap(), "GET tls ");
    assert!(get(&agent(&second)).is_err());
    tls.replace(&second).unwrap();
    assert_eq!(get(&agent(&second)).unwrap(), "GET tls ");
    assert!(get(&agent(&first)).is_err());
    // The connection that was open goes on under its old certificate.
    assert_eq!(get(&trusting_first).unwrap(), "GET tls ");
    // A plain request to a TLS port gets nowhere, and costs nobody anything.
    let mut plain = Wire::connect(server.addresses()[0]);
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plain.stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut plain.stream, &mut rest).ok();
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
}

#[test]
fn a_tls_handshake_that_does_not_come_is_not_waited_for() {
    let (app, _go) = echo();
    let tls = Tls::new(&tls::self_signed(&["fw.test".into()]).unwrap()).unwrap();
    let limits = Limits { handshake: Duration::from_millis(100), ..Limits::default() };
    let place = Listen::Tls("127.0.0.1:0".parse().unwrap(), tls);
    let server = Server::start(app, &[place], limits, 1).unwrap();
    let mut wire = Wire::connect(server.addresses()[0]);
    assert!(wire.ended());
}

#[test]
fn websockets_talk_and_take_no_more_than_64_kib() {
    use async_tungstenite::tungstenite::Message;
    use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(appliance(dir.path()), Limits::default());
    // Not a WebSocket request, or not permitted to be one.
    let mut wire = Wire::connect(address);
    assert_eq!(wire.request("GET", "/api/v1/talk", &[], b"").status, 401);
    assert_eq!(wire.request("GET", "/api/v1/talk", &[ALL], b"").status, 400);
    let upgrade = ["Upgrade: websocket", "Connection: keep-alive, Upgrade"];
    let old = [ALL, upgrade[0], upgrade[1], "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: x"];
    assert_eq!(wire.request("GET", "/api/v1/talk", &old, b"").header("sec-websocket-version"), Some("13"));
    let unversioned = [ALL, upgrade[0], upgrade[1], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
    assert_eq!(wire.request("GET", "/api/v1/talk", &unversioned, b"").status, 400);
    let keyless = [ALL, upgrade[0], upgrade[1], "Sec-WebSocket-Version: 13"];
    assert_eq!(wire.request("GET", "/api/v1/talk", &keyless, b"").status, 400);
    smol::block_on(async {
        let stream = smol::net::TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/api/v1/talk?ticket=abc123");
        let (mut socket, answer) = async_tungstenite::client_async(url, stream).await.unwrap();
        assert_eq!(answer.status(), 101);
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        socket.send(Message::Ping(vec![1].into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(vec![1].into()));
        let most = "x".repeat(64 * 1024);
        socket.send(Message::text(most.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(most.clone()));
        socket.send(Message::text(most + "x")).await.unwrap();
        let mut code = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                code = Some(frame.code);
            }
        }
        assert_eq!(code, Some(CloseCode::Size));
    });
    // A frame that follows the handshake in the same packet is not lost.
    let mut wire = Wire::connect(address);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut bytes = request("GET", "/api/v1/talk", &[ALL, upgrade[0], upgrade[1], keyless[3], key], b"");
    bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    wire.send(bytes);
    let answer = wire.answer();
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(wire.take(4), [0x81, 2, b'h', b'i']);
}

#[test]
fn event_streams_come_at_once_and_end_with_their_client() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = serve(appliance(dir.path()), Limits::default());
    let mut wire = Wire::connect(address);
    wire.send(request("GET", "/api/v1/events", &["Accept-Encoding: gzip"], b""));
    let head = wire.head().unwrap().to_ascii_lowercase();
    for line in ["content-type: text/event-stream", "cache-control: no-cache", "x-accel-buffering: no"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("content-encoding"));
    assert_eq!(wire.chunk().unwrap(), b"data: {\"n\":1}\n\n");
    assert_eq!(server.connections(), 1);
    drop(wire);
    until(|| server.connections() == 0);
}

#[test]
fn the_local_socket_needs_no_credential() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aifw.sock");
    let app = appliance(dir.path());
    let server = Server::start(app.clone(), &[Listen::Local(path.clone())], Limits::default(), 1).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut wire = Wire::over(UnixStream::connect(&path).unwrap());
    let answer = wire.request("GET", "/api/v1/whoami", &[], b"").json();
    assert_eq!((&answer["data"][1], &answer["data"][2]), (&true.into(), &137_438_953_471_u64.into()));
    // A credential that is given counts all the same.
    let answer = wire.request("GET", "/api/v1/whoami", &["Authorization: Bearer none"], b"").json();
    assert_eq!((&answer["data"][0], &answer["data"][1]), (&"tester".into(), &false.into()));
    assert_eq!(wire.request("GET", "/api/v1/whoami", &["Authorization: Bearer junk"], b"").status, 401);
    // It cannot be taken over while it is in use, and is gone afterwards.
    let second = Server::start(app.clone(), &[Listen::Local(path.clone())], Limits::default(), 1);
    assert!(matches!(second, Err(ServerError::Bind { .. })));
    drop(server);
    assert!(!path.exists());
    // One that a dead process has left is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Server::start(app, &[Listen::Local(path.clone())], Limits::default(), 1).unwrap());
}

#[test]
fn shutting_down_finishes_what_is_being_worked_on() {
    let (app, go) = echo();
    let (server, address) = serve(app, Limits::default());
    let mut idle = Wire::connect(address);
    assert_eq!(idle.request("GET", "/echo/a", &[], b"").status, 200);
    let mut busy = Wire::connect(address);
    busy.send(request("GET", "/slow", &[], b""));
    let mut first = Wire::connect(address);
    assert_eq!(first.request("GET", "/echo/a", &[], b"").status, 200);
    let closing = std::thread::spawn(move || {
        let started = Instant::now();
        server.shutdown(Duration::from_secs(20));
        started.elapsed()
    });
    assert!(idle.ended() && first.ended());
    until(|| TcpStream::connect(address).is_err());
    go.try_send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("slow", Some("close")));
    assert!(busy.ended());
    drop(busy);
    assert!(closing.join().unwrap() < Duration::from_secs(10));
}

#[test]
fn shutting_down_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (app, _go) = echo();
    let (server, address) = serve(app, Limits::default());
    let mut busy = Wire::connect(address);
    busy.send(request("GET", "/slow", &[], b""));
    until(|| server.connections() == 1);
    server.shutdown(Duration::from_millis(50));
    assert!(busy.ended());
    // A stream that has no end of its own ends at once.
    let (server, address) = serve(appliance(dir.path()), Limits::default());
    let mut events = Wire::connect(address);
    events.send(request("GET", "/api/v1/events", &[], b""));
    assert!(events.head().is_some() && events.chunk().is_some());
    let started = Instant::now();
    server.shutdown(Duration::from_secs(20));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn every_process_of_the_same_address_is_counted() {
    let (app, _go) = echo();
    let (server, address) = serve(app, Limits { connections: 3, ..Limits::default() });
    let kept: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::connect(address);
            assert_eq!(wire.request("GET", "/echo/a", &[], b"").status, 200);
            wire
        })
        .collect();
    assert!(Wire::connect(address).ended());
    drop(kept);
    until(|| server.connections() == 0);
    assert_eq!(Wire::connect(address).request("GET", "/echo/a", &[], b"").status, 200);
}

#[test]
fn a_body_can_be_read_by_a_tide_handler_of_ones_own() {
    let mut app = tide::new();
    app.at("/count").post(|mut request: tide::Request<()>| async move {
        let (mut total, mut buf) = (0, [0; 1000]);
        loop {
            match request.read(&mut buf).await? {
                0 => return Ok(total.to_string()),
                count => total += count,
            }
        }
    });
    let (_server, address) = serve(app, Limits::default());
    let mut wire = Wire::connect(address);
    assert_eq!(wire.request("POST", "/count", &[], &[b'x'; 100_000]).text(), "100000");
    assert_eq!(wire.request("POST", "/count", &[], &[b'x'; 100_001]).text(), "100001");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However a client's packets are cut, the same requests get the same answers.
    #[test]
    fn splits_change_nothing(
        bodies in prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,40}", any::<bool>()), 1..5),
        cuts in prop::collection::vec(0.0..1.0_f64, 0..8),
    ) {
        let (app, _go) = echo();
        let (_server, address) = serve(app, Limits::default());
        let mut bytes = Vec::new();
        for (word, body, chunked) in &bodies {
            if *chunked {
                bytes.extend(request("PUT", &format!("/echo/{word}"), &["Transfer-Encoding: chunked"], b""));
                for half in [&body[..body.len() / 2], &body[body.len() / 2..]] {
                    if !half.is_empty() {
                        bytes.extend(format!("{:X};ext=1\r\n{half}\r\n", half.len()).bytes());
                    }
                }
                bytes.extend(b"0\r\nTrailer: x\r\n\r\n");
            } else {
                bytes.extend(request("PUT", &format!("/echo/{word}"), &[], body.as_bytes()));
            }
        }
        let mut places: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
        places.sort_unstable();
        places.push(bytes.len());
        let mut wire = Wire::connect(address);
        let mut from = 0;
        for to in places {
            wire.send(&bytes[from..to]);
            // Lets the packets arrive one by one.
            std::thread::yield_now();
            from = to;
        }
        for (word, body, _) in &bodies {
            prop_assert_eq!(wire.answer().text(), format!("PUT {word} {body}"));
        }
    }
}

fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
