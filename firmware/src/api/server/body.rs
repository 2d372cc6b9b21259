//! A request's body as it arrives: by length or in chunks (RFC 9112 §7.1), with its time-outs, and the
//! `100 Continue` that some clients wait for. The application reads it through [`Incoming`]; the connection takes
//! the wire back afterwards.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncWrite};

use super::head::Framing;
use super::registry::Phase;
use super::wire::{Stream, Wire};

/// Longest line that introduces a chunk, and all trailers together.
const LONGEST_LINE: usize = 1024;

/// Where the reader stands in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of the body (by length) are to come.
    Length(u64),
    /// Before the line with a chunk's size.
    Size,
    /// So many bytes of this chunk are to come.
    Chunk(u64),
    /// Before the CRLF that ends a chunk.
    ChunkEnd,
    /// After the last chunk: trailers, which are read and dropped, so many bytes so far.
    Trailers(usize),
    Done,
}

/// Follows the framing. Pure.
#[derive(Debug)]
struct Decoder(At);

/// What the decoder makes of the bytes that are there.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes are framing and may be dropped.
    Skip(usize),
    /// Up to so many bytes are content.
    Content(u64),
    Done,
}

impl Decoder {
    fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None => At::Done,
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Size,
        })
    }

    fn step(&mut self, bytes: &[u8]) -> io::Result<Step> {
        Ok(match self.0 {
            At::Done | At::Length(0) => Step::Done,
            At::Length(rest) | At::Chunk(rest) => Step::Content(rest),
            At::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.0 = At::Size;
                    Step::Skip(2)
                }
                [] | [b'\r'] => Step::More,
                _ => return Err(bad("a chunk does not end where its size says")),
            },
            At::Size => match line(bytes)? {
                None => Step::More,
                Some(text) => {
                    let size = chunk_size(text)?;
                    self.0 = if size == 0 { At::Trailers(0) } else { At::Chunk(size) };
                    Step::Skip(text.len() + 2)
                }
            },
            At::Trailers(seen) => match line(bytes)? {
                None => Step::More,
                Some([]) => {
                    self.0 = At::Done;
                    Step::Skip(2)
                }
                Some(text) => {
                    let seen = seen + text.len();
                    if seen > LONGEST_LINE || !text.contains(&b':') {
                        return Err(bad("the trailers of the body are malformed"));
                    }
                    self.0 = At::Trailers(seen);
                    Step::Skip(text.len() + 2)
                }
            },
        })
    }

    /// So many bytes of content have been taken.
    fn took(&mut self, count: u64) {
        self.0 = match self.0 {
            At::Length(rest) => At::Length(rest - count),
            At::Chunk(rest) if rest == count => At::ChunkEnd,
            At::Chunk(rest) => At::Chunk(rest - count),
            at => at,
        };
    }

    fn is_done(&self) -> bool {
        matches!(self.0, At::Done | At::Length(0))
    }
}

/// The line at the start of `bytes`, without its CRLF, once it is complete.
fn line(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if end > LONGEST_LINE => Err(bad("a line of the chunked body is too long")),
        Some(0) => Err(bad("a line of the chunked body ends in a bare line feed")),
        Some(end) if bytes[end - 1] != b'\r' || bytes[..end - 1].contains(&b'\r') => {
            Err(bad("a line of the chunked body ends in a bare line feed"))
        }
        Some(end) => Ok(Some(&bytes[..end - 1])),
        None if bytes.len() > LONGEST_LINE => Err(bad("a line of the chunked body is too long")),
        None => Ok(None),
    }
}

/// `1a` or `1a;extension`.
fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = if digits.len() < line.len() { digits.trim_ascii_end() } else { digits };
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad("a chunk's size is not a hexadecimal number"));
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| bad("a chunk's size is not a hexadecimal number"))
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A wire that is on loan to a body's reader.
pub(super) struct Loan<T> {
    wire: Wire<T>,
    decoder: Decoder,
    /// What is left of `100 Continue` to be written before the first read.
    greeting: &'static [u8],
    started: Instant,
    received: u64,
    failed: bool,
}

/// Lends a wire to the body's reader. The second value gives it back.
pub(super) fn lend<T: Stream>(
    wire: Wire<T>,
    framing: Framing,
    expects_continue: bool,
) -> (Incoming<T>, Return<T>) {
    let loan = Loan {
        wire,
        decoder: Decoder::new(framing),
        greeting: if expects_continue { b"HTTP/1.1 100 Continue\r\n\r\n" } else { b"" },
        started: Instant::now(),
        received: 0,
        failed: false,
    };
    let slot = Arc::new(Mutex::new(Some(loan)));
    (Incoming(slot.clone()), Return(slot))
}

/// The reader of a body. It fails once the connection has taken the wire back.
pub(super) struct Incoming<T>(Arc<Mutex<Option<Loan<T>>>>);

/// The connection's claim on a wire that it has lent.
pub(super) struct Return<T>(Arc<Mutex<Option<Loan<T>>>>);

impl<T: Stream> Return<T> {
    /// The wire, and whether the body has been read to its end, so that the next request can follow.
    pub(super) fn take_back(self) -> Option<(Wire<T>, bool)> {
        let loan = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let clean = loan.decoder.is_done() && !loan.failed;
        Some((loan.wire, clean))
    }
}

impl<T: Stream> AsyncRead for Incoming<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loan) = slot.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let result = ready!(loan.poll_read(cx, buf));
        loan.failed |= result.is_err();
        Poll::Ready(result)
    }
}

impl<T: Stream> Loan<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        while !self.greeting.is_empty() && self.wire.unread().is_empty() {
            let count = ready!(Pin::new(self.wire.stream()).poll_write(cx, self.greeting))?;
            self.greeting = &self.greeting[count..];
            if self.greeting.is_empty() {
                ready!(Pin::new(self.wire.stream()).poll_flush(cx))?;
            }
        }
        loop {
            match self.decoder.step(self.wire.unread())? {
                Step::Done => return Poll::Ready(Ok(0)),
                Step::Skip(count) => {
                    self.wire.consume(count);
                    continue;
                }
                Step::Content(rest) => {
                    let want = buf.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                    if want == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    let unread = self.wire.unread();
                    let count = if unread.is_empty() {
                        let count = ready!(self.wire.poll_read_direct(cx, &mut buf[..want]))?;
                        self.extend(count);
                        count
                    } else {
                        let count = unread.len().min(want);
                        buf[..count].copy_from_slice(&unread[..count]);
                        self.wire.consume(count);
                        count
                    };
                    if count == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    self.decoder.took(count as u64);
                    return Poll::Ready(Ok(count));
                }
                Step::More => {}
            }
            let count = ready!(self.wire.poll_fill(cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.extend(count);
        }
    }

    /// Bytes have come: there is time for more, as long as they do not come too slowly on the whole.
    fn extend(&mut self, count: usize) {
        self.received += count as u64;
        let guard = self.wire.guard();
        let limits = guard.registry().limits;
        let allowed = limits.body_gap + Duration::from_secs(self.received / limits.body_rate.max(1));
        let left = allowed.saturating_sub(self.started.elapsed());
        guard.enter(Phase::Body, left.min(limits.body_gap));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Decodes a chunked body that arrives in pieces of `piece` bytes: content and rest.
    fn decode(bytes: &[u8], piece: usize) -> Result<(String, String), String> {
        let mut decoder = Decoder::new(Framing::Chunked);
        let (mut start, mut end, mut content) = (0, 0, Vec::new());
        loop {
            match decoder.step(&bytes[start..end]).map_err(|error| error.to_string())? {
                Step::Done => break,
                Step::Skip(count) => start += count,
                Step::Content(rest) if start < end => {
                    let count = (end - start).min(rest as usize);
                    content.extend_from_slice(&bytes[start..start + count]);
                    start += count;
                    decoder.took(count as u64);
                }
                Step::Content(_) | Step::More if end == bytes.len() => return Err("truncated".into()),
                Step::Content(_) | Step::More => end = (end + piece).min(bytes.len()),
            }
        }
        Ok((String::from_utf8(content).unwrap(), String::from_utf8(bytes[start..].to_vec()).unwrap()))
    }

    #[test]
    fn chunks_in_pieces_of_any_size() {
        let body = b"4\r\nWiki\r\n00a;x=y\r\npedia in\r\n\r\n1 ;q\r\n!\r\n0\r\nT: v\r\n\r\nGET /";
        for piece in 1..=body.len() {
            let expected = ("Wikipedia in\r\n!".to_owned(), "GET /".to_owned());
            assert_eq!(decode(body, piece), Ok(expected), "{piece}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for bad in [
            "4\nWiki\r\n0\r\n\r\n",
            "4\r\nWikiX\r\n0\r\n\r\n",
            "-4\r\nWiki\r\n0\r\n\r\n",
            "+4\r\nWiki\r\n0\r\n\r\n",
            "0x4\r\nWiki\r\n0\r\n\r\n",
            " 4\r\nWiki\r\n0\r\n\r\n",
            "4 \r\nWiki\r\n0\r\n\r\n",
            "\r\nWiki\r\n",
            ";x\r\n",
            "ffffffffffffffff\r\nWiki",
            "4;a\rb\r\nWiki\r\n0\r\n\r\n",
            "0\r\nnonsense\r\n\r\n",
            "0\r\nA: b\n\r\n",
        ] {
            let error = decode(bad.as_bytes(), 3).unwrap_err();
            assert_ne!(error, "truncated", "{bad:?}");
        }
        let long = format!("4;{}", "x".repeat(2000));
        assert!(decode(long.as_bytes(), 100).unwrap_err().contains("too long"));
    }
}
