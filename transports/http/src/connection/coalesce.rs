//! Write coalescing for HTTP/2: small parts go to the kernel in one piece. h2 hands out the head of a frame and what is
//! in it apart; to put a kilobyte together costs less than `writev` beside `send`.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::socket::Socket;

/// Up to here parts are put together.
const SMALL_BYTES: usize = 1024;

/// See the module.
pub(crate) struct Coalesced {
    socket: TokioIo<Socket>,
    /// Bytes that came before hyper had the connection.
    received: Bytes,
}

impl Coalesced {
    pub(crate) fn new(socket: Socket, received: Bytes) -> Self {
        Self { socket: TokioIo::new(socket), received }
    }

    fn socket(&mut self) -> Pin<&mut TokioIo<Socket>> {
        Pin::new(&mut self.socket)
    }
}

impl Read for Coalesced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            return self.socket().poll_read(cx, buf);
        }
        let count = self.received.len().min(buf.remaining());
        buf.put_slice(&self.received[..count]);
        self.received.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl Write for Coalesced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if length > SMALL_BYTES {
            return self.socket().poll_write_vectored(cx, bufs);
        }
        let mut small = [0; SMALL_BYTES];
        let mut rest = &mut small[..];
        for buf in bufs {
            rest[..buf.len()].copy_from_slice(buf);
            rest = &mut rest[buf.len()..];
        }
        self.poll_write(cx, &small[..length])
    }
}
