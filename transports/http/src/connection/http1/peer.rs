//! The client of an HTTP/1.1 connection: its socket, what it has sent ahead, what it has yet to be given, and the
//! patience with it. Nothing here knows what a request is for.

use std::{
    cell::RefCell,
    future::poll_fn,
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;
use tailwire_core::Timer;
use tailwire_model::limits::{DISCARD_BYTES_MAX, DISCARD_MS_MAX, DISCARD_QUIET_MS_MAX, RECEIVE_WAIT_MS_MAX};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::{
    answers::{Answers, Gone},
    head::{self, HTTP2_PREFACE, ParsedHead},
    refusal::Refusal,
};
use crate::{
    api::reply::{head as wire_head, with_length},
    connection::{
        body::BodyError,
        budget::{Charge, READ_BYTES, READ_BYTES_SCARCE, ReceiveBudget},
        patience::{Patience, Wait},
        socket::Socket,
    },
};

thread_local! {
    /// The shared read buffer, from which bytes are copied by their number: an idle connection has no buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// See the module.
pub(crate) struct Peer {
    socket: Socket,
    /// Bytes that the client has sent ahead of what was looked at.
    pub(super) received: Bytes,
    /// The client has shut its sending side. That says nothing about its interest in answers (RFC 9112 §9.6).
    pub(super) is_ended: bool,
    pub(super) out: Answers,
    pub(super) timer: Timer,
    pub(super) charge: Charge,
    /// Since when there is no room for what it sends.
    without_room: Option<Instant>,
}

/// The next that a client begins.
pub(crate) enum NextInput {
    /// A request, whose head has so many bytes.
    Request(Box<ParsedHead>, usize),
    /// A connection of HTTP/2.
    Http2,
    Refused(Refusal),
    /// Nothing: it is gone, or has taken too long, or it is over with everybody.
    Over,
}

/// The wait for a request's head.
pub(crate) struct HeadWait {
    patience: Patience,
    /// Whether the connection has had a request before.
    is_used: bool,
    /// Whether what was received has been looked at.
    is_seen: bool,
}

impl HeadWait {
    pub(crate) fn new(is_used: bool) -> Self {
        let patience = Patience::new(if is_used { Wait::NextRequest } else { Wait::Head });
        Self { patience, is_used, is_seen: false }
    }
}

impl Peer {
    pub(crate) fn new(socket: Socket, budget: &ReceiveBudget) -> Self {
        Self {
            socket,
            received: Bytes::new(),
            is_ended: false,
            out: Answers::default(),
            timer: Timer::default(),
            charge: budget.charge(),
            without_room: None,
        }
    }

    /// The socket, and what was received and not looked at.
    pub(crate) fn into_parts(self) -> (Socket, Bytes) {
        (self.socket, self.received)
    }

    /// Waits for the next request's head, as long as `is_over` doesn't say that nobody waits any more.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        wait: &mut HeadWait,
        mut is_over: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<NextInput> {
        loop {
            if !wait.is_seen {
                wait.is_seen = true;
                if let Some(begun) = self.begun(wait.is_used) {
                    return Poll::Ready(begun);
                }
            }
            if self.is_ended {
                return Poll::Ready(NextInput::Over);
            }
            let before = self.received.len();
            match self.poll_receive(cx) {
                Poll::Ready(Ok(())) => {
                    // Half a line is nothing new to the parser, but for the first bytes, which may be no HTTP at all.
                    wait.is_seen = before > 0 && !self.received[before..].contains(&b'\n');
                }
                Poll::Ready(Err(_)) => return Poll::Ready(NextInput::Over),
                Poll::Pending => {
                    self.charge.set(self.received.len());
                    if !self.received.is_empty() {
                        wait.patience.turn_to(Wait::Head);
                    }
                    if is_over(cx) {
                        return Poll::Ready(NextInput::Over);
                    }
                    ready!(wait.patience.poll(&mut self.timer, cx));
                    let is_short = self.without_room.is_some();
                    return Poll::Ready(if is_short {
                        NextInput::Refused(Refusal::NoRoom)
                    } else {
                        NextInput::Over
                    });
                }
            }
        }
    }

    /// The next input that the client has begun by now, if that is decided.
    fn begun(&mut self, is_used: bool) -> Option<NextInput> {
        self.received.advance(head::blank(&self.received));
        if self.received.is_empty() {
            return None;
        }
        if !is_used {
            let common = self.received.len().min(HTTP2_PREFACE.len());
            if self.received[..common] == HTTP2_PREFACE[..common] {
                return (common == HTTP2_PREFACE.len()).then_some(NextInput::Http2);
            }
        }
        match head::parse(&self.received) {
            Ok(parsed) => parsed.map(|(head, length)| NextInput::Request(Box::new(head), length)),
            Err(refusal) => Some(NextInput::Refused(refusal)),
        }
    }

    /// Ready when something more was received, or the client has shut its sending side.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bytes_max = if self.charge.budget().has_room() {
            READ_BYTES
        } else if self.received.is_empty() && self.charge.is_empty() {
            READ_BYTES_SCARCE
        } else {
            self.without_room.get_or_insert_with(Instant::now);
            ready!(self.charge.poll_room(cx));
            READ_BYTES
        };
        self.without_room = None;
        let Self { socket, received, is_ended, .. } = self;
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(&mut buffer[..bytes_max]);
            ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
            match buffer.filled() {
                [] => *is_ended = true,
                new if received.is_empty() => *received = Bytes::copy_from_slice(new),
                new => {
                    let before = mem::take(received).try_into_mut();
                    let mut all = before.unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                    all.extend_from_slice(new);
                    *received = all.freeze();
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Writes the answers, for as long as the client takes of them.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let Self { socket, out, timer, .. } = self;
        out.poll_write(socket, timer, cx)
    }

    /// Ends when the connection is broken: only that tells of a client that sends nothing more that it is gone.
    pub(super) async fn broken(&self) {
        self.socket.broken().await;
    }

    /// The end of the wait for a client that has to send more: it came too slowly, or there was no room for it.
    pub(super) fn poll_late<T>(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Instant,
    ) -> Poll<Result<T, BodyError>> {
        let for_room = self.without_room.map(|since| since + Duration::from_millis(RECEIVE_WAIT_MS_MAX));
        if for_room.is_some_and(|deadline| self.timer.poll_until(cx, deadline).is_ready()) {
            return Poll::Ready(Err(BodyError::NoRoom));
        }
        self.timer.poll_until(cx, deadline).map(|()| Err(BodyError::TooSlow))
    }

    /// Writes a last answer, and sees the client off.
    pub(crate) async fn end_with(mut self, mut response: Response<Body>, is_head: bool) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await else { return };
        let body = body.to_bytes();
        let head = with_length(Response::from_parts(head, ()), body.len());
        let body = if is_head { Bytes::new() } else { body };
        self.out.push(wire_head(&head), body, None);
        if poll_fn(|cx| self.poll_write(cx)).await.is_ok() {
            self.linger().await;
        }
    }

    /// The end of a connection whose client may still be sending: the connection is shut down for writing, and what it
    /// sends is thrown away for a while. A socket that is closed over unread input takes back what was written last (RFC
    /// 9112 §9.6), and many clients read no answer before they have sent all.
    pub(crate) async fn linger(mut self) {
        self.received = Bytes::new();
        self.charge.set(0);
        if poll_fn(|cx| self.socket.poll_end(cx)).await.is_err() {
            return;
        }
        let last = Instant::now() + Duration::from_millis(DISCARD_MS_MAX);
        let mut left = DISCARD_BYTES_MAX;
        while left > 0 && !self.is_ended {
            let quiet = Instant::now() + Duration::from_millis(DISCARD_QUIET_MS_MAX);
            let more = poll_fn(|cx| match self.poll_receive(cx) {
                Poll::Pending => self.timer.poll_until(cx, quiet.min(last)).map(|()| false),
                Poll::Ready(received) => Poll::Ready(received.is_ok()),
            });
            if !more.await {
                return;
            }
            left = left.saturating_sub(self.received.len());
            self.received = Bytes::new();
        }
    }
}
