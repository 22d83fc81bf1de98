//! Taking a TCP socket over from hyper, so that an endless response is written with prebuilt bytes, and neither an idle
//! stream nor a long-poll that waits costs any HTTP machinery.
//!
//! A handler that wants its connection for good puts a [`Handoff`] into the connection's [`Slot`] and never answers. One
//! whose answer may take long leaves that to the slot ([`Slot::wait`]), from where it can be had. The connection's driver
//! sees to both: it takes hyper apart, and gives the socket to a delivery runtime, or keeps it for as long as the answer
//! takes ([`plain`](super::plain)). Plain HTTP/1.1 only: a request on anything else has no slot, and its response goes
//! through hyper's body.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use hyper::rt::ReadBufCursor;
use parking_lot::Mutex;
use tailwire_model::limits::{KEEP_ALIVE_MS, REQUEST_HEAD_MS_MAX, STALL_CLOSE_MS};
use tokio::{net::TcpStream, time::Instant};

use super::joined::Joined;
use crate::{
    api::guard::Cors,
    delivery::{
        polls::{Reply, Ticket},
        shards::Job,
    },
};

/// A socket for whom a handler has other plans.
pub(crate) struct Handoff {
    /// What the delivery runtime is to do with it.
    pub(crate) job: Job,
    /// On which shard.
    pub(crate) shard: usize,
}

/// An answer that may take long.
pub(crate) struct Waiting {
    pub(crate) answer: BoxFuture<'static, Reply>,
    /// To lend the socket to, where the connection can.
    pub(crate) ticket: Option<Arc<Ticket>>,
    /// What its head owes to the origin of the request.
    pub(crate) cors: Cors,
}

/// What a connection's handlers, its socket and its driver know of each other.
#[derive(Clone)]
pub(crate) struct Slot(Arc<Mutex<State>>);

struct State {
    handoff: Option<Handoff>,
    waiting: Option<Waiting>,
    /// Whether everything that hyper wrote has reached the kernel. A client that pipelines can send the request for a
    /// stream before it has read the answer to the last one; that answer must not be cut.
    flushed: bool,
    /// When the client took something of what is not, or it began to be written.
    progress: Instant,
    /// Requests that are being answered.
    busy: usize,
    /// Whether there ever was one.
    used: bool,
    /// Since when the client has nothing to say, or is saying the next head.
    since: Instant,
    /// Whether a part of that head has come.
    head_begun: bool,
}

/// Held while a request is being answered.
pub(crate) struct Busy(Slot);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.busy -= 1;
        state.since = Instant::now();
    }
}

impl Slot {
    /// For a connection on which there was a request before, or not yet.
    pub(crate) fn new(used: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            handoff: None,
            waiting: None,
            flushed: true,
            progress: Instant::now(),
            busy: 0,
            used,
            since: Instant::now(),
            head_begun: false,
        })))
    }

    /// Answers a request, unless the driver takes the answer away meanwhile: then it gives that itself, and drops this
    /// future with the rest of hyper.
    pub(crate) async fn wait(self, waiting: Waiting) -> Reply {
        self.0.lock().waiting = Some(waiting);
        poll_fn(|cx| {
            let Some(mut waiting) = self.0.lock().waiting.take() else { return Poll::Pending };
            let polled = waiting.answer.as_mut().poll(cx);
            if polled.is_pending() {
                self.0.lock().waiting = Some(waiting);
            }
            polled
        })
        .await
    }

    /// The answer that takes long, once nothing of an earlier response is left to write.
    pub(crate) fn take_waiting(&self) -> Option<Waiting> {
        let mut state = self.0.lock();
        if state.flushed { state.waiting.take() } else { None }
    }

    /// Hands the connection off. The future never ends: the driver drops it, with the rest of hyper.
    pub(crate) async fn hand_off(self, handoff: Handoff) -> Infallible {
        self.0.lock().handoff = Some(handoff);
        std::future::pending().await
    }

    /// The handoff, once nothing of an earlier response is left to write.
    pub(crate) fn take_flushed(&self) -> Option<Handoff> {
        let mut state = self.0.lock();
        if state.flushed { state.handoff.take() } else { None }
    }

    /// A request has come.
    pub(crate) fn begin(&self) -> Busy {
        let mut state = self.0.lock();
        state.busy += 1;
        state.used = true;
        state.head_begun = false;
        Busy(self.clone())
    }

    /// Whether nothing is being answered, and no answer is left to write.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.busy == 0 && state.flushed
    }

    /// When the driver's patience with the client ends. An answer is waited for, and written for as long as the client
    /// takes of it, however little.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let state = self.0.lock();
        if !state.flushed {
            return Some(state.progress + Duration::from_millis(STALL_CLOSE_MS));
        }
        let idle = state.used && !state.head_begun;
        let patience = match (state.busy, idle) {
            (0, true) => KEEP_ALIVE_MS,
            (0, false) => REQUEST_HEAD_MS_MAX,
            _ => return None,
        };
        Some(state.since + Duration::from_millis(patience))
    }

    fn received(&self) {
        let mut state = self.0.lock();
        if state.busy == 0 && !state.head_begun {
            state.head_begun = true;
            state.since = Instant::now();
        }
    }

    /// The kernel was given something; `taken` is whether it took any of it.
    fn wrote(&self, taken: bool) {
        let mut state = self.0.lock();
        if taken || state.flushed {
            state.progress = Instant::now();
        }
        state.flushed = false;
    }

    /// Nothing is left to write: from here on it is the client's turn.
    fn flush(&self) {
        let mut state = self.0.lock();
        if !state.flushed {
            state.flushed = true;
            state.since = Instant::now();
        }
    }
}

/// A socket as hyper sees it, which tells the driver what passes.
pub(crate) struct Socket {
    inner: Joined,
    /// What came before hyper had it.
    received: Bytes,
    slot: Slot,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, received: Bytes, slot: Slot) -> Self {
        Self { inner: Joined::new(stream), received, slot }
    }

    /// The stream, and what hyper has read ahead with what it hasn't read yet.
    pub(crate) fn into_parts(self, ahead: Bytes) -> (TcpStream, Bytes) {
        let received = if self.received.is_empty() { ahead } else { [ahead, self.received].concat().into() };
        (self.inner.into_inner(), received)
    }

    fn inner(&mut self) -> Pin<&mut Joined> {
        Pin::new(&mut self.inner)
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.received.is_empty() {
            let count = self.received.len().min(buf.remaining());
            buf.put_slice(&self.received[..count]);
            self.received.advance(count);
            self.slot.received();
            return Poll::Ready(Ok(()));
        }
        let result = self.inner().poll_read(cx, buf);
        if result.is_ready() {
            self.slot.received();
        }
        result
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.inner().poll_write(cx, buf);
        self.slot.wrote(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket only when its own buffer is empty.
        self.slot.flush();
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.inner().poll_write_vectored(cx, bufs);
        self.slot.wrote(written.is_ready());
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn left(slot: &Slot) -> Option<u64> {
        slot.deadline().map(|deadline| (deadline - Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_read_steadily_is_written_whole() {
        let slot = Slot::new(false);
        assert_eq!(left(&slot), Some(10));
        drop(slot.begin());
        for _ in 0..20 {
            slot.wrote(true);
            slot.wrote(false);
            assert_eq!(left(&slot), Some(30));
            pass(20).await;
        }
        slot.wrote(false);
        assert_eq!(left(&slot), Some(10), "what isn't taken is no progress");
        slot.flush();
        assert_eq!(left(&slot), Some(75), "what was written until here is not the client's silence");
        pass(5).await;
        slot.flush();
        assert_eq!(left(&slot), Some(70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_has_no_more_time_for_having_asked_again() {
        let slot = Slot::new(false);
        drop(slot.begin());
        slot.wrote(false);
        pass(10).await;
        let _busy = slot.begin();
        slot.wrote(false);
        assert_eq!(left(&slot), Some(20));
        slot.flush();
        assert_eq!(left(&slot), None, "an answer is waited for");
    }
}
