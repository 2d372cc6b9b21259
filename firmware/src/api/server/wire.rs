//! A connection's byte stream: what has been read and not yet used, and the watch over stalls. TCP, TLS and the
//! local socket all end up here.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};

use super::registry::{Guard, Socket};

/// What a connection reads from and writes to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// A socket that its task and the registry share.
pub(super) struct Shared<S>(pub(super) Arc<Async<S>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

macro_rules! shared {
    ($socket:ty) => {
        impl AsyncRead for Shared<$socket> {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut &*self.0).poll_read(cx, buf)
            }
        }
        impl AsyncWrite for Shared<$socket> {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut &*self.0).poll_write(cx, buf)
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
            }
        }
        impl Socket for Shared<$socket> {
            fn shutdown(&self, how: Shutdown) {
                // A socket that is already closed needs no shutting down.
                let _ = self.0.get_ref().shutdown(how);
            }
        }
    };
}
shared!(TcpStream);
shared!(UnixStream);

/// A stream that reports to its guard when the other side stops taking data.
pub(super) struct Watched<T> {
    stream: T,
    guard: Arc<Guard>,
}

impl<T> Watched<T> {
    fn note<R>(&self, poll: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match poll {
            Poll::Pending => self.guard.write_blocked(),
            Poll::Ready(_) => self.guard.write_moved(),
        }
        poll
    }
}

impl<T: Stream> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: Stream> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(poll)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(poll)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_close(cx);
        self.note(poll)
    }
}

/// Read buffer to begin with; it grows up to the limit of a head.
const BUFFER: usize = 4 * 1024;

/// A stream with a read buffer.
pub(super) struct Wire<T> {
    stream: Watched<T>,
    buffer: Vec<u8>,
    /// `buffer[start..end]` has been read and not yet used.
    start: usize,
    end: usize,
}

impl<T: Stream> Wire<T> {
    pub(super) fn new(stream: T, guard: Arc<Guard>) -> Self {
        Self { stream: Watched { stream, guard }, buffer: Vec::new(), start: 0, end: 0 }
    }
    pub(super) fn guard(&self) -> &Guard {
        &self.stream.guard
    }
    /// Read, not yet used.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            self.start = 0;
            self.end = 0;
        }
    }
    /// Reads more behind [`Wire::unread`]; 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.buffer.resize((self.buffer.len() * 2).max(BUFFER), 0);
            }
        }
        let count = ready!(self.poll_direct_at(cx, self.end))?;
        self.end += count;
        Poll::Ready(Ok(count))
    }
    fn poll_direct_at(&mut self, cx: &mut Context<'_>, at: usize) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, &mut self.buffer[at..]);
        Self::judge(self.stream.guard.expired(), poll)
    }
    /// Reads past the buffer, which must be empty.
    pub(super) fn poll_read_direct(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        Self::judge(self.stream.guard.expired(), poll)
    }
    /// An end that our own time-out has brought about is a time-out.
    fn judge(expired: bool, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match poll {
            Poll::Ready(Ok(0) | Err(_)) if expired => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            poll => poll,
        }
    }
    pub(super) fn stream(&mut self) -> &mut Watched<T> {
        &mut self.stream
    }
    /// Takes the buffer's memory back while the connection waits.
    pub(super) fn rest(&mut self) {
        if self.start == self.end && self.buffer.capacity() > BUFFER {
            self.buffer = Vec::new();
            self.start = 0;
            self.end = 0;
        }
    }
    /// The stream itself, and what had been read from it.
    pub(super) fn into_parts(self) -> (Watched<T>, Vec<u8>) {
        let unread = self.unread().to_vec();
        (self.stream, unread)
    }
}
