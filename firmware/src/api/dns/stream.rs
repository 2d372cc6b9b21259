//! `GET /dns/stream`: figures each second and answers of policy zones as they happen, as Server-Sent Events, or as a
//! WebSocket for who asks for one. A slow client loses frames and holds up nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, TrySendError};
use async_io::Timer;
use async_tungstenite::tungstenite::{Error as WsError, Message};
use futures_lite::{StreamExt, future};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::live::{RECHECK, current, stream_permit};
use crate::api::reply::WebSocket;
use crate::api::server::websocket::fail;
use crate::api::{Access, ApiError, App, Call, Reply, Route};
use crate::auth::Caller;
use crate::config::dns::Backend;
use crate::config::{Permission, ServiceKind};
use crate::services::ServiceError;
use crate::services::rdns::control::{Control, Lines};
use crate::services::rdns::stats;

pub fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::DnsRead);
    vec![
        Route::new(
            "GET",
            "/dns/stream",
            read,
            "Counters each second and blocked names as they are asked for: SSE, or a WebSocket",
            stream,
        )
        .answers::<()>(200)
        .with_ticket(),
    ]
}

/// Frames that wait for a client; what comes when there are so many is lost.
const WAITING: usize = 256;
/// A connection without a daemon is held for so long: a client that comes again at once would not help.
const HELD: Duration = Duration::from_secs(5);
/// Blocked names told at the beginning.
const REPLAYED: u16 = 50;

async fn stream(call: Call) -> Result<Reply, ApiError> {
    let permit = stream_permit(&call)?;
    let caller = call.caller()?.clone();
    let app = call.app.clone();
    let (sender, frames) = async_channel::bounded(WAITING);
    let wants_socket = call.header("upgrade").is_some_and(|wanted| wanted.eq_ignore_ascii_case("websocket"));
    smol::spawn(produce(app, caller, sender)).detach();
    if wants_socket {
        return Ok(Reply::websocket(move |socket| async move {
            let _permit = permit;
            talk(socket, frames).await;
        }));
    }
    Ok(Reply::events(frames.map(move |frame| {
        let _held = &permit;
        frame
    })))
}

/// Sends frames until the daemon, the client or the client's permission is gone.
async fn produce(app: Arc<App>, caller: Caller, sender: Sender<String>) {
    let watched = async {
        loop {
            Timer::after(RECHECK).await;
            current(&app, &caller)?;
        }
    };
    let gone = async {
        sender.closed().await;
        None
    };
    let figures = async { Some(follow(&app, &sender).await) };
    let ended = future::or(gone, future::or(watched, figures)).await;
    if let Some(error) = ended {
        let reason = match error {
            ServiceError::Unreachable { service, reason } => {
                format!("{} control: {reason}", service.to_lowercase())
            }
            error => error.to_string(),
        };
        let frame = json!({ "type": "error", "error": reason }).to_string();
        // The client may be slow, but this is the last it hears.
        let told = async {
            sender.send(frame).await.ok();
            Timer::after(HELD).await;
        };
        future::or(told, sender.closed()).await;
    }
}

/// What ended the stream.
async fn follow(app: &App, sender: &Sender<String>) -> ServiceError {
    let runner = app.services.runner(ServiceKind::Dns);
    if stats::backend(runner).await == Backend::Unbound {
        loop {
            match stats::snapshot(runner).await {
                Ok(snapshot) => send(sender, "stats", &snapshot),
                Err(error) => return error,
            }
            Timer::after(Duration::from_secs(1)).await;
        }
    }
    let control = Control::of(&runner.places());
    let blocks = match control.stream(&format!("tail-blocks {REPLAYED}")).await {
        Ok(lines) => lines,
        Err(error) => return error,
    };
    let figures = match control.stream("watch 1").await {
        Ok(lines) => lines,
        Err(error) => return error,
    };
    // Whichever ends first ends both, and closes both connections.
    future::or(pass_on(figures, sender, "stats"), pass_on(blocks, sender, "block")).await;
    ServiceError::Unreachable { service: "rDNS", reason: "it has closed its control socket".into() }
}

async fn pass_on(mut lines: Lines, sender: &Sender<String>, kind: &str) {
    while let Some(line) = lines.next().await {
        if let Ok(data) = serde_json::from_str::<&RawValue>(&line) {
            send(sender, kind, &data);
        }
    }
}

fn send(sender: &Sender<String>, kind: &str, data: &impl serde::Serialize) {
    let Ok(data) = serde_json::to_string(data) else { return };
    let frame = format!("{{\"type\":{},\"data\":{data}}}", Value::from(kind));
    if let Err(TrySendError::Full(_)) = sender.try_send(frame) {
        log::debug!("a slow client of /dns/stream loses a frame");
    }
}

/// How often a quiet client is asked whether it is there, and after how long it is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);

enum Event {
    Frame(Option<String>),
    Received(Option<Result<Message, WsError>>),
    Time,
}

async fn talk(mut socket: WebSocket, frames: Receiver<String>) {
    let (mut heard, mut ping_at) = (Instant::now(), Instant::now() + PING_EVERY);
    loop {
        let event = {
            let received = async { Event::Received(socket.next().await) };
            let frame = async { Event::Frame(frames.recv().await.ok()) };
            let time = async {
                Timer::at(ping_at.min(heard + SILENCE)).await;
                Event::Time
            };
            future::or(received, future::or(frame, time)).await
        };
        let sent = match event {
            Event::Frame(Some(frame)) => patiently(socket.send(Message::Text(frame.into()))).await,
            Event::Frame(None) => {
                patiently(socket.close(None)).await;
                return;
            }
            Event::Received(Some(Ok(Message::Close(_))) | None) => {
                // The library answers the close while it is read on.
                patiently(async {
                    while let Some(Ok(_)) = socket.next().await {}
                    Ok(())
                })
                .await;
                return;
            }
            Event::Received(Some(Err(error))) => return fail(socket, &error).await,
            Event::Received(Some(Ok(_))) => {
                heard = Instant::now();
                true
            }
            Event::Time if heard.elapsed() >= SILENCE => return,
            Event::Time => {
                ping_at = Instant::now() + PING_EVERY;
                patiently(socket.send(Message::Ping(Default::default()))).await
            }
        };
        if !sent {
            return;
        }
    }
}

/// Whether it was done in the time that any client gets.
async fn patiently(work: impl Future<Output = Result<(), WsError>>) -> bool {
    future::or(async { work.await.is_ok() }, async {
        Timer::after(SILENCE).await;
        false
    })
    .await
}
