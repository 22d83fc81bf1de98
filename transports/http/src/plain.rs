//! A connection of HTTP/1.1, as long as all that its client asks is plain ([`request`]): publishing, reading and polling. Of
//! a poll hyper takes a third of the time, of a publish a sixth, and its buffers are several times what there is to hold of
//! a client that waits for an answer. Whatever else a client asks is given to hyper as it came, and the connection with it.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Response, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tailwire_core::Timer;
use tailwire_model::limits::{KEEP_ALIVE_MS, REQUEST_HEAD_BYTES_MAX};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::{
    Phase,
    accept::{Acceptor, draining},
    outgoing::Outgoing,
    reply::{caught, head},
    request,
    router::Routes,
    takeover::{Handoff, SMALL_BYTES, Slot, Waiting},
};

/// What is read at once. What is longer is hyper's.
const READ_BYTES: usize = 8 << 10;

/// The connection.
pub(crate) struct Plain<'a> {
    pub(crate) stream: TcpStream,
    /// What the client has sent ahead.
    pub(crate) received: Bytes,
    /// Whether it ever had an answer.
    pub(crate) used: bool,
    pub(crate) acceptor: &'a Acceptor,
}

/// Who sees to the connection next.
pub(crate) enum Next {
    /// hyper, with a request that is not plain.
    Hyper,
    HandOver(Handoff),
}

/// What became of a request.
enum Answer {
    Now(Response<Body>),
    Later(Waiting),
    HandOver(Handoff),
}

impl Plain<'_> {
    /// Gives the client the answer that it waits for, if it does, and those to the plain requests that follow. `None` once
    /// the connection is over.
    pub(crate) async fn serve(&mut self, waiting: Option<Waiting>) -> Option<Next> {
        if let Some(waiting) = waiting {
            let response = self.wait(waiting).await?;
            self.answer(response).await?;
        }
        let (mut timer, mut draining) = (Timer::default(), pin!(draining(self.acceptor.phase.clone())));
        loop {
            let deadline = Instant::now() + Duration::from_millis(KEEP_ALIVE_MS);
            let over = |cx: &mut Context<'_>| {
                draining.as_mut().poll(cx).is_ready() || timer.poll_until(cx, deadline).is_ready()
            };
            let Some(request) = self.request(over).await? else { return Some(Next::Hyper) };
            // Boxed, because it is large, and gone while the client waits.
            let response = match Box::pin(ask(&self.acceptor.routes, request)).await {
                Answer::Now(response) => response,
                Answer::Later(waiting) => self.wait(waiting).await?,
                Answer::HandOver(handoff) => return Some(Next::HandOver(handoff)),
            };
            self.answer(response).await?;
        }
    }

    /// Answers a request; `None` if that was the last.
    async fn answer(&mut self, mut response: Response<Body>) -> Option<()> {
        let is_last = *self.acceptor.phase.borrow() >= Phase::Draining;
        if is_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.write(response).await?;
        self.used = true;
        (!is_last).then_some(())
    }

    /// Waits for an answer. `None` when the client is gone.
    async fn wait(&mut self, waiting: Waiting) -> Option<Response<Body>> {
        let mut answer = pin!(caught(waiting.answer));
        let mut response = poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            // Nothing that the client says ahead is lost, but more than a request's head is not taken.
            while self.received.len() < REQUEST_HEAD_BYTES_MAX {
                if ready!(self.poll_receive(cx)).is_err() {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await?;
        self.acceptor.routes.finish(&mut response, &waiting.cors);
        Some(response)
    }

    /// Writes a response whole, for as long as the client takes of it. `None` when it doesn't, or is gone.
    async fn write(&self, response: Response<Body>) -> Option<()> {
        let (mut parts, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        // RFC 9112 §6.3; these two have no body, and need not say so.
        if !matches!(parts.status.as_u16(), 204 | 304) {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut head = head(&Response::from_parts(parts, ()));
        let mut out = Outgoing::default();
        if body.len() <= SMALL_BYTES {
            head.extend_from_slice(&body);
            out.push(head);
        } else {
            out.push(head);
            out.push_own(body, []);
        }
        let mut timer = Timer::default();
        let written = poll_fn(|cx| match out.poll_write(&self.stream, cx, |_| {}) {
            Poll::Ready(written) => Poll::Ready(written.ok()),
            // Of a response nothing can be let go of, so that the stall has only one end.
            Poll::Pending => out.poll_stall(&mut timer, cx).map(|_| None),
        });
        written.await
    }

    /// The next request, if it is a plain one; `None` if the client is gone, or it is `over` before there is any.
    async fn request(&mut self, mut over: impl FnMut(&mut Context<'_>) -> bool) -> Option<Option<Request>> {
        poll_fn(|cx| {
            if self.received.is_empty() {
                match self.poll_receive(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending if over(cx) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Some(request::take(&mut self.received)))
        })
        .await
    }

    /// Ready when something has come, or there is an end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut all = BytesMut::from(&self.received[..]);
        all.extend_from_slice(buffer.filled());
        self.received = all.freeze();
        Poll::Ready(Ok(()))
    }
}

/// Has a request answered, up to where it has to wait.
async fn ask(routes: &Routes, request: Request) -> Answer {
    let slot = Slot::new(true);
    let mut answer = pin!(routes.answer(request, Some(slot.clone())));
    poll_fn(|cx| {
        if let Poll::Ready(response) = answer.as_mut().poll(cx) {
            return Poll::Ready(Answer::Now(response));
        }
        if let Some(waiting) = slot.take_waiting() {
            return Poll::Ready(Answer::Later(waiting));
        }
        slot.take_flushed().map_or(Poll::Pending, |handoff| Poll::Ready(Answer::HandOver(handoff)))
    })
    .await
}
