//! An answer on the wire: status line, headers, body by length or in chunks (RFC 9112). Streams are sent as they
//! come, and end when the client goes away.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncBufRead, AsyncWriteExt};
use tide::http;

use super::registry::Phase;
use super::wire::{Stream, Wire};

/// Answers are gathered up to this size before they are written.
pub(super) const GATHER: usize = 32 * 1024;

/// What of the request matters for the answer's form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) is_head: bool,
    pub(super) minor: u8,
    pub(super) keep_alive: bool,
}

/// Puts an answer behind what is in `out`, writing as much as need be. `false` when the connection must end.
pub(super) async fn write<T: Stream>(
    wire: &mut Wire<T>,
    out: &mut Vec<u8>,
    mut response: http::Response,
    form: Form,
) -> io::Result<bool> {
    let status: u16 = response.status().into();
    let length = response.len();
    let bodiless = matches!(status, 100..=199 | 204 | 304);
    let chunked = length.is_none() && !bodiless && form.minor > 0;
    let keep_alive = form.keep_alive && (length.is_some() || bodiless || chunked || form.is_head);
    head(wire, out, &response, status);
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if let (Some(length), false) = (length, bodiless) {
        out.extend_from_slice(b"content-length: ");
        number(out, length);
        out.extend_from_slice(b"\r\n");
    }
    match (keep_alive, form.minor) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, 0) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, _) => {}
    }
    out.extend_from_slice(b"\r\n");
    if !form.is_head && !bodiless && length != Some(0) {
        let mut body = response.take_body().into_reader();
        match length {
            Some(length) => copy(wire, out, &mut body, length).await?,
            None => {
                let kind = response.header("content-type");
                let endless = kind.is_some_and(|value| value.as_str().starts_with("text/event-stream"));
                if endless {
                    wire.guard().enter_unbounded(Phase::Endless);
                    // Once closing has begun, nobody would end it.
                    if wire.guard().registry().closing() {
                        return Ok(false);
                    }
                }
                let whole = stream(wire, out, &mut body, chunked).await?;
                wire.guard().enter_unbounded(Phase::Working);
                return Ok(whole && keep_alive);
            }
        }
    }
    Ok(keep_alive)
}

/// The head of a 101 answer.
pub(super) fn switch<T: Stream>(wire: &Wire<T>, out: &mut Vec<u8>, response: &http::Response) {
    head(wire, out, response, 101);
    out.extend_from_slice(b"\r\n");
}

/// Status line and headers, without those that belong to the connection.
fn head<T: Stream>(wire: &Wire<T>, out: &mut Vec<u8>, response: &http::Response, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, status.into());
    out.push(b' ');
    out.extend_from_slice(response.status().canonical_reason().as_bytes());
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(wire.guard().registry().date().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, values) in response {
        let name = name.as_str();
        let ours = matches!(name, "content-length" | "transfer-encoding" | "date" | "keep-alive");
        if ours || (status != 101 && matches!(name, "connection" | "upgrade") && status != 426) {
            continue;
        }
        for value in values {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            // Nothing that could end the line.
            out.extend(value.as_str().bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn number(out: &mut Vec<u8>, number: usize) {
    use std::io::Write;
    // Writing to memory cannot fail.
    let _ = write!(out, "{number}");
}

type Body = Box<dyn AsyncBufRead + Unpin + Send + Sync>;

/// A body whose length was announced.
async fn copy<T: Stream>(
    wire: &mut Wire<T>,
    out: &mut Vec<u8>,
    body: &mut Body,
    length: usize,
) -> io::Result<()> {
    let mut rest = length;
    while rest > 0 {
        let chunk = poll_fn(|cx| poll_some(body, cx)).await?;
        let count = chunk.min(rest);
        if count == 0 {
            // The length is already told: all that can be done is to break off.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if out.len() + count <= GATHER {
            take(body, count, |bytes| out.extend_from_slice(bytes)).await?;
        } else {
            flush(wire, out).await?;
            let mut sent = 0;
            while sent < count {
                sent += poll_fn(|cx| {
                    let bytes = match Pin::new(&mut *body).poll_fill_buf(cx)? {
                        Poll::Ready(bytes) => &bytes[..bytes.len().min(count - sent)],
                        Poll::Pending => return Poll::Pending,
                    };
                    match futures_lite::AsyncWrite::poll_write(Pin::new(wire.stream()), cx, bytes)? {
                        Poll::Ready(0) => Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero))),
                        Poll::Ready(written) => {
                            Pin::new(&mut *body).consume(written);
                            Poll::Ready(Ok(written))
                        }
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await?;
            }
        }
        rest -= count;
    }
    Ok(())
}

fn poll_some(body: &mut Body, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    Pin::new(body).poll_fill_buf(cx).map_ok(<[u8]>::len)
}

/// Gives up to `count` bytes that are there to `f`, and drops them from the body.
async fn take(body: &mut Body, count: usize, mut f: impl FnMut(&[u8])) -> io::Result<()> {
    poll_fn(|cx| {
        let bytes = match Pin::new(&mut *body).poll_fill_buf(cx)? {
            Poll::Ready(bytes) => bytes,
            Poll::Pending => return Poll::Pending,
        };
        f(&bytes[..bytes.len().min(count)]);
        Poll::Ready(Ok::<(), io::Error>(()))
    })
    .await?;
    Pin::new(body).consume(count);
    Ok(())
}

/// What a stream waits for.
enum Event {
    /// So many bytes of the body are there; 0 is its end.
    Body(usize),
    /// The client has gone.
    Gone,
}

/// A body without an announced length. `false` when the client went away in the middle.
async fn stream<T: Stream>(
    wire: &mut Wire<T>,
    out: &mut Vec<u8>,
    body: &mut Body,
    chunked: bool,
) -> io::Result<bool> {
    loop {
        let ready = futures_lite::future::poll_once(poll_fn(|cx| poll_some(body, cx))).await;
        let count = match ready {
            Some(count) => count?,
            None => {
                flush(wire, out).await?;
                match poll_fn(|cx| poll_event(wire, body, cx)).await? {
                    Event::Body(count) => count,
                    Event::Gone => return Ok(false),
                }
            }
        };
        if count == 0 {
            break;
        }
        if chunked {
            use std::io::Write;
            let _ = write!(out, "{count:x}\r\n");
        }
        take(body, count, |bytes| out.extend_from_slice(bytes)).await?;
        if chunked {
            out.extend_from_slice(b"\r\n");
        }
        if out.len() >= GATHER {
            flush(wire, out).await?;
        }
    }
    if chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    Ok(true)
}

/// The body's next bytes, or the client's end. Requests that are sent meanwhile wait in the buffer, up to a point.
fn poll_event<T: Stream>(
    wire: &mut Wire<T>,
    body: &mut Body,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Event>> {
    if let Poll::Ready(count) = poll_some(body, cx) {
        return Poll::Ready(count.map(Event::Body));
    }
    while wire.unread().len() < wire.guard().registry().limits.head_bytes {
        match wire.poll_fill(cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(Event::Gone)),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => break,
        }
    }
    Poll::Pending
}

/// Writes what has been gathered.
pub(super) async fn flush<T: Stream>(wire: &mut Wire<T>, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let stream = wire.stream();
    stream.write_all(out).await?;
    stream.flush().await?;
    out.clear();
    out.shrink_to(GATHER);
    Ok(())
}
