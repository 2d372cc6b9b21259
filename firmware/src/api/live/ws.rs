//! `GET /ws`: the history, a tick at once, then one every second, and cluster frames as they occur
//! (contract/live.md §9). Ticks are serialised once for all clients and written from shared memory, past the
//! WebSocket library's own buffer, so that an idle client costs no memory of its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error as WsError, Message};
use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt, future};

use super::{RECHECK, current, stream_permit};
use crate::api::reply::WebSocket;
use crate::api::{ApiError, App, Call, Reply};
use crate::auth::Caller;
use crate::live::fanout::{News, Subscription};
use crate::live::tick::Audience;

const SECOND: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that is not heard of for this long is gone.
const SILENCE: Duration = Duration::from_secs(90);
/// How long a close is waited for.
const CLOSING: Duration = Duration::from_secs(2);
/// Bytes gathered before they are written.
const GATHER: usize = 32 * 1024;

pub async fn ws(call: Call) -> Result<Reply, ApiError> {
    let permit = stream_permit(&call)?;
    let caller = call.caller()?.clone();
    let app = call.app.clone();
    Ok(Reply::websocket(move |socket| async move {
        let _permit = permit;
        let mut talk = Talk::new(socket, app, caller);
        let end = talk.hold().await;
        talk.close(end).await;
    }))
}

/// Why a conversation ended.
enum End {
    /// The connection is gone, or of no use any more.
    Lost,
    /// The client closed.
    Closed,
    /// The client sent more than it may.
    TooBig,
    /// The caller may no longer listen.
    Revoked,
}

struct Talk {
    socket: WebSocket,
    app: Arc<App>,
    caller: Caller,
    audience: Audience,
    heard: Instant,
    recheck_at: Instant,
    ping_at: Instant,
}

/// What happens next.
enum Event {
    News(News),
    Received(Option<Result<Message, WsError>>),
    /// Some deadline has come.
    Time,
}

impl Talk {
    fn new(socket: WebSocket, app: Arc<App>, caller: Caller) -> Self {
        let now = Instant::now();
        let audience = Audience::of(caller.permissions);
        let (recheck_at, ping_at) = (now + RECHECK, now + PING_EVERY);
        Self { socket, app, caller, audience, heard: now, recheck_at, ping_at }
    }

    async fn hold(&mut self) -> End {
        match self.conversation().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn conversation(&mut self) -> Result<std::convert::Infallible, End> {
        self.send_history().await?;
        let news = self.app.live.subscribe();
        let mut last = None;
        if let Some(tick) = self.app.live.tick_now().await {
            last = Some(tick.sample.number);
            let frame = tick.frame(self.audience);
            self.write(&[&frame]).await?;
        }
        // Each client has its own second, from the tick it got at once: what arrives is a second apart.
        let mut tick_at = Instant::now() + SECOND;
        loop {
            match self.next_event(&news, tick_at).await {
                Event::News(News::Event(frame)) => self.write(&[&frame]).await?,
                Event::News(News::Tick(tick)) => {
                    if last.is_some_and(|last| tick.sample.number <= last) {
                        continue;
                    }
                    last = Some(tick.sample.number);
                    let frame = tick.frame(self.audience);
                    self.write(&[&frame]).await?;
                    // After a pause in reading, the rhythm starts anew.
                    let now = Instant::now();
                    tick_at = if now > tick_at + SECOND { now } else { tick_at } + SECOND;
                }
                Event::Received(message) => self.received(message).await?,
                Event::Time => {}
            }
            self.look_at_the_clock().await?;
        }
    }

    /// Ticks are taken only when the client's second is over.
    async fn next_event(&mut self, news: &Subscription, tick_at: Instant) -> Event {
        let now = Instant::now();
        let wait_for_tick = now < tick_at;
        let mut deadline = self.recheck_at.min(self.ping_at).min(self.heard + SILENCE);
        if wait_for_tick {
            deadline = deadline.min(tick_at);
        }
        let socket = &mut self.socket;
        let received = async { Event::Received(socket.next().await) };
        let published = async { Event::News(news.next(wait_for_tick).await) };
        let time = async {
            Timer::at(deadline).await;
            Event::Time
        };
        future::or(received, future::or(published, time)).await
    }

    async fn received(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), End> {
        self.heard = Instant::now();
        match message {
            // Answering here, and to the end, leaves nothing in the library's buffer that could later come
            // between the parts of a frame of ours.
            Some(Ok(Message::Ping(payload))) => self.send(Message::Pong(payload)).await,
            Some(Ok(Message::Close(_))) | None => Err(End::Closed),
            Some(Ok(_)) => Ok(()),
            Some(Err(WsError::Capacity(_))) => Err(End::TooBig),
            Some(Err(_)) => Err(End::Lost),
        }
    }

    async fn look_at_the_clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.heard + SILENCE {
            return Err(End::Lost);
        }
        if now >= self.recheck_at {
            self.recheck_at = now + RECHECK;
            self.caller = current(&self.app, &self.caller).ok_or(End::Revoked)?;
            self.audience = Audience::of(self.caller.permissions);
        }
        if now >= self.ping_at {
            self.ping_at = now + PING_EVERY;
            self.send(Message::Ping(Default::default())).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let (app, caller) = (self.app.clone(), self.caller.clone());
        let socket = &mut self.socket;
        patiently(&app, &caller, async { socket.send(message).await.map_err(|_| End::Lost) }).await
    }

    /// Writes one text frame, given in pieces.
    async fn write(&mut self, pieces: &[&[u8]]) -> Result<(), End> {
        let (app, caller) = (self.app.clone(), self.caller.clone());
        let stream = self.socket.get_mut();
        let frame = async { write_text(stream, pieces).await.map_err(|_| End::Lost) };
        patiently(&app, &caller, frame).await
    }

    async fn send_history(&mut self) -> Result<(), End> {
        let entries = self.app.live.history();
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(entries.len() * 3 + 2);
        pieces.push(br#"{"type":"history","data":["#);
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                pieces.push(b",");
            }
            pieces.extend(entry.pieces(self.audience.ids));
        }
        pieces.push(b"]}");
        self.write(&pieces).await
    }

    async fn close(mut self, end: End) {
        let (code, reason) = match end {
            End::Lost => return,
            End::Closed => {
                // The library answers the close while it is read on.
                let answer = async { while let Some(Ok(_)) = self.socket.next().await {} };
                return within(CLOSING, answer).await;
            }
            End::TooBig => (CloseCode::Size, "at most 64 KiB"),
            End::Revoked => (CloseCode::Policy, "the credential is no longer valid"),
        };
        let goodbye = async {
            let frame = CloseFrame { code, reason: reason.into() };
            if self.socket.close(Some(frame)).await.is_ok() {
                // What the client still sends is taken in, or the close would be lost with a reset connection.
                let mut rest = [0; 4096];
                while let Ok(1..) = self.socket.get_mut().read(&mut rest).await {}
            }
        };
        within(CLOSING, goodbye).await;
    }
}

/// Waits for a client that reads slowly, but not for ever, and not for one who may no longer listen.
async fn patiently<F>(app: &App, caller: &Caller, write: F) -> Result<(), End>
where
    F: Future<Output = Result<(), End>>,
{
    let watch = async {
        let begun = Instant::now();
        loop {
            Timer::after(RECHECK).await;
            if begun.elapsed() >= SILENCE {
                return Err(End::Lost);
            }
            if current(app, caller).is_none() {
                // In the middle of a frame there is no room for a close frame.
                return Err(End::Lost);
            }
        }
    };
    future::or(write, watch).await
}

async fn within(limit: Duration, work: impl Future<Output = ()>) {
    future::or(work, async {
        Timer::after(limit).await;
    })
    .await;
}

/// One unmasked text frame (RFC 6455 §5.2), gathered into writes of a fair size.
async fn write_text(
    stream: &mut (impl futures_lite::AsyncWrite + Unpin),
    pieces: &[&[u8]],
) -> io::Result<()> {
    const FINAL_TEXT: u8 = 0x81;
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut gathered = Vec::with_capacity(GATHER.min(length + 10));
    gathered.push(FINAL_TEXT);
    match length {
        0..=125 => gathered.push(length as u8),
        126..=0xffff => {
            gathered.push(126);
            gathered.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            gathered.push(127);
            gathered.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    for piece in pieces {
        if gathered.len() + piece.len() > GATHER && !gathered.is_empty() {
            stream.write_all(&gathered).await?;
            gathered.clear();
        }
        if piece.len() >= GATHER {
            stream.write_all(piece).await?;
        } else {
            gathered.extend_from_slice(piece);
        }
    }
    stream.write_all(&gathered).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = futures_lite::io::Cursor::new(Vec::new());
        smol::block_on(write_text(&mut out, pieces)).unwrap();
        out.into_inner()
    }

    #[test]
    fn frames_have_the_three_forms_of_length() {
        assert_eq!(frame(&[b"ab", b"c"]), b"\x81\x03abc");
        assert_eq!(frame(&[]), b"\x81\x00");
        let medium = vec![b'x'; 126];
        assert_eq!(frame(&[&medium])[..4], [0x81, 126, 0, 126]);
        let large = vec![b'x'; 70_000];
        let sent = frame(&[b"a", &large, b"z"]);
        assert_eq!(sent[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x72]);
        assert_eq!(sent.len(), 10 + 70_002);
        assert_eq!((sent[10], sent[11], *sent.last().unwrap()), (b'a', b'x', b'z'));
    }
}
