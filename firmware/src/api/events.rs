//! Server-Sent Events (WHATWG HTML §9.2) as a byte stream: unnamed events, one line of data each, and a comment
//! whenever nothing has been sent for a while, so that dead connections are noticed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use futures_lite::{AsyncRead, Stream, ready};

/// Longest silence on a stream (contract/live.md §10: at most 15 s).
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Reads as the event stream of what `source` yields; ends with it.
pub(super) struct Events<S> {
    source: S,
    timer: Timer,
    silence: Duration,
    pending: Vec<u8>,
    sent: usize,
}

impl<S> Events<S> {
    pub(super) fn new(source: S) -> Self {
        Self::with_keep_alive(source, KEEP_ALIVE)
    }
    fn with_keep_alive(source: S, silence: Duration) -> Self {
        Self { source, timer: Timer::after(silence), silence, pending: Vec::new(), sent: 0 }
    }
}

impl<S: Stream<Item = String> + Unpin> AsyncRead for Events<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sent == this.pending.len() {
            this.pending.clear();
            this.sent = 0;
            match Pin::new(&mut this.source).poll_next(cx) {
                Poll::Ready(Some(data)) => {
                    for line in data.lines() {
                        this.pending.extend_from_slice(b"data: ");
                        this.pending.extend_from_slice(line.as_bytes());
                        this.pending.push(b'\n');
                    }
                    this.pending.push(b'\n');
                }
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending => {
                    ready!(Pin::new(&mut this.timer).poll_next(cx));
                    this.pending.extend_from_slice(b": keep-alive\n\n");
                }
            }
            this.timer.set_after(this.silence);
        }
        let rest = &this.pending[this.sent..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        this.sent += count;
        Poll::Ready(Ok(count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_lite::AsyncReadExt;

    use super::*;

    #[test]
    fn events_and_keep_alives() {
        smol::block_on(async {
            let (sender, receiver) = async_channel::unbounded();
            let mut events = Events::with_keep_alive(Box::pin(receiver), Duration::from_millis(20));
            sender.send(r#"{"a":1}"#.to_owned()).await.unwrap();
            let mut buf = [0; 64];
            let count = events.read(&mut buf).await.unwrap();
            assert_eq!(&buf[..count], b"data: {\"a\":1}\n\n");
            let count = events.read(&mut buf).await.unwrap();
            assert_eq!(&buf[..count], b": keep-alive\n\n");
            sender.send("two\nlines".to_owned()).await.unwrap();
            drop(sender);
            let mut rest = String::new();
            events.read_to_string(&mut rest).await.unwrap();
            assert!(rest.ends_with("data: two\ndata: lines\n\n"), "{rest}");
        });
    }
}
