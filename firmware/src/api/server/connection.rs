//! One connection: requests are read, answered in order, and written together where the client pipelines them.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures_lite::AsyncWriteExt;
use futures_lite::future::{poll_once, yield_now};
use tide::http;

use super::answer::{self, Form, GATHER};
use super::body;
use super::head::{self, Framing, Parsed, Refusal, Scanner, UrlCache};
use super::registry::{Guard, Phase};
use super::websocket;
use super::wire::{Stream, Wire};
use crate::api::router::Upgrade;
use crate::api::{ApiError, Peer, Reply};

/// Serves a connection until its end.
pub(super) async fn serve<T: Stream, S: Clone + Send + Sync + 'static>(
    stream: T,
    guard: Arc<Guard>,
    peer: Peer,
    app: tide::Server<S>,
) {
    let mut connection = Connection {
        wire: Wire::new(stream, guard),
        out: Vec::new(),
        peer,
        urls: UrlCache::default(),
        served: false,
    };
    let patience = connection.limits().head;
    connection.wire.guard().enter(Phase::Head, patience);
    let mut turn = 0_u32;
    loop {
        match connection.exchange(&app).await {
            Ok(Some(back)) => connection = back,
            Ok(None) => break,
            Err(error) => {
                log::debug!("connection of {peer:?}: {error}");
                break;
            }
        }
        turn += 1;
        if turn.is_multiple_of(TURNS) {
            yield_now().await;
        }
    }
}

/// So many requests may follow each other before other connections get their turn: a client that never lets its
/// pipeline run dry would otherwise keep a thread to itself.
const TURNS: u32 = 16;

struct Connection<T> {
    wire: Wire<T>,
    /// Answers that are not yet written.
    out: Vec<u8>,
    peer: Peer,
    urls: UrlCache,
    /// A request has been answered already.
    served: bool,
}

impl<T: Stream> Connection<T> {
    fn limits(&self) -> super::Limits {
        self.wire.guard().registry().limits
    }

    /// One request and its answer; gives the connection back when it goes on.
    async fn exchange<S>(mut self, app: &tide::Server<S>) -> io::Result<Option<Self>>
    where
        S: Clone + Send + Sync + 'static,
    {
        let Some(parsed) = self.next_head().await? else { return Ok(None) };
        let Parsed { mut request, framing, keep_alive, minor, expects_continue } = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => return self.refuse(refusal).await,
        };
        self.wire.guard().enter_unbounded(Phase::Working);
        let is_head = request.method() == http::Method::Head;
        request.ext_mut().insert(self.peer);
        if self.out.len() > GATHER {
            answer::flush(&mut self.wire, &mut self.out).await?;
        }
        let whole = match framing {
            Framing::None => Some(Vec::new()),
            Framing::Length(length) if length <= self.wire.unread().len() as u64 => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let bytes = self.wire.unread()[..length].to_vec();
                self.wire.consume(length);
                Some(bytes)
            }
            _ => None,
        };
        let (response, clean) = match whole {
            Some(bytes) => {
                if !bytes.is_empty() {
                    set_body(&mut request, http::Body::from_bytes(bytes));
                }
                let mut work = pin!(app.respond::<_, http::Response>(request));
                let response = match poll_once(work.as_mut()).await {
                    Some(response) => response,
                    None => {
                        // What is answered already must not wait for this one.
                        answer::flush(&mut self.wire, &mut self.out).await?;
                        work.await
                    }
                };
                (response, true)
            }
            None => {
                answer::flush(&mut self.wire, &mut self.out).await?;
                let gap = self.limits().body_gap;
                self.wire.guard().enter(Phase::Body, gap);
                let (reader, claim) = body::lend(self.wire, framing, expects_continue);
                let length = match framing {
                    Framing::Length(length) => usize::try_from(length).ok(),
                    _ => None,
                };
                set_body(
                    &mut request,
                    http::Body::from_reader(futures_lite::io::BufReader::new(reader), length),
                );
                let response = app.respond::<_, http::Response>(request).await;
                let Some((wire, clean)) = claim.take_back() else { return Ok(None) };
                self.wire = wire;
                self.wire.guard().enter_unbounded(Phase::Working);
                (response, clean)
            }
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => http::Response::new(error.status()),
        };
        if let Some(talk) = response.ext().get::<Upgrade>().and_then(Upgrade::take) {
            answer::switch(&self.wire, &mut self.out, &response);
            answer::flush(&mut self.wire, &mut self.out).await?;
            self.wire.guard().enter_unbounded(Phase::Endless);
            if !self.wire.guard().registry().closing() {
                let (stream, unread) = self.wire.into_parts();
                talk(websocket::accept(Box::new(stream), unread).await).await;
            }
            return Ok(None);
        }
        let keep_alive = keep_alive && clean && !self.wire.guard().registry().closing();
        let form = Form { is_head, minor, keep_alive };
        if answer::write(&mut self.wire, &mut self.out, response, form).await? {
            self.served = true;
            return Ok(Some(self));
        }
        answer::flush(&mut self.wire, &mut self.out).await?;
        if clean {
            self.wire.stream().close().await?
        } else {
            self.linger().await?
        }
        Ok(None)
    }

    /// The next request's head; `None` when the client has finished.
    async fn next_head(&mut self) -> io::Result<Option<Result<Parsed, Refusal>>> {
        let limits = self.limits();
        let mut scanner = Scanner::default();
        let mut begun = false;
        loop {
            match scanner.scan(self.wire.unread()) {
                Err(refusal) => return Ok(Some(Err(refusal))),
                Ok(Some(length)) if length > limits.head_bytes => return Ok(Some(Err(too_large()))),
                Ok(Some(length)) => {
                    let is_tls = self.peer.is_tls();
                    let bytes = &self.wire.unread()[..length];
                    let parsed = head::parse(bytes, limits.headers, is_tls, &mut self.urls);
                    self.wire.consume(length);
                    return Ok(Some(parsed));
                }
                Ok(None) if self.wire.unread().len() >= limits.head_bytes => {
                    return Ok(Some(Err(too_large())));
                }
                Ok(None) => {}
            }
            if !self.out.is_empty() {
                answer::flush(&mut self.wire, &mut self.out).await?;
            }
            let waiting = self.wire.unread().is_empty();
            if waiting && self.served {
                self.wire.rest();
                self.wire.guard().enter(Phase::Idle, limits.idle);
                // In this order: whoever closes looks at the phase after having said so.
                if self.wire.guard().registry().closing() {
                    return Ok(None);
                }
            }
            if !waiting && !begun {
                begun = true;
                self.wire.guard().enter(Phase::Head, limits.head);
                // A client that does not speak HTTP is told at once.
                if let Some(refusal) = hopeless(self.wire.unread()) {
                    return Ok(Some(Err(refusal)));
                }
            }
            match poll_fn(|cx| self.wire.poll_fill(cx)).await {
                Ok(0) if self.wire.unread().is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut && waiting => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Some(Err(Refusal {
                        status: 408,
                        reason: "the request did not arrive in time",
                    })));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers a request that could not be understood, and ends the connection.
    async fn refuse(mut self, refusal: Refusal) -> io::Result<Option<Self>> {
        let reply = Reply::from(ApiError::new(refusal.status, refusal.reason));
        let status = http::StatusCode::try_from(refusal.status).unwrap_or(http::StatusCode::BadRequest);
        let mut response = http::Response::new(status);
        response.insert_header("Content-Type", reply.content_type);
        if let crate::api::reply::Payload::Bytes(bytes) = reply.body {
            response.set_body(bytes);
        }
        let form = Form { is_head: false, minor: 1, keep_alive: false };
        answer::write(&mut self.wire, &mut self.out, response, form).await?;
        answer::flush(&mut self.wire, &mut self.out).await?;
        self.linger().await?;
        Ok(None)
    }

    /// Ends the connection although the client may still be sending: closing at once would make its kernel throw
    /// our answer away (RFC 9112 §9.6).
    async fn linger(&mut self) -> io::Result<()> {
        self.wire.stream().close().await?;
        self.wire.guard().enter(Phase::Linger, self.limits().linger);
        let unread = self.wire.unread().len();
        self.wire.consume(unread);
        let mut sink = vec![0; 16 * 1024];
        while poll_fn(|cx| self.wire.poll_read_direct(cx, &mut sink)).await? > 0 {}
        Ok(())
    }
}

fn too_large() -> Refusal {
    Refusal { status: 431, reason: "the head of the request is too large" }
}

/// Whether what has arrived cannot become a request any more: TLS on a plain port, or noise.
fn hopeless(bytes: &[u8]) -> Option<Refusal> {
    let first = *bytes.iter().find(|byte| !matches!(byte, b'\r' | b'\n'))?;
    (!first.is_ascii_uppercase()).then_some(Refusal { status: 400, reason: "this is not an HTTP request" })
}

/// Sets the body, leaving the headers as the client sent them.
fn set_body(request: &mut http::Request, body: http::Body) {
    let typed = request.header("content-type").is_some();
    request.set_body(body);
    if !typed {
        request.remove_header("content-type");
    }
}
