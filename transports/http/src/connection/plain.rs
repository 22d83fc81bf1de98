//! A connection of HTTP/1.1, as long as all that its client asks is plain ([`request`]): publishing, reading and polling. Of
//! a poll hyper takes a third of the time, of a publish a sixth, and its buffers are several times what there is to hold of
//! a client that waits for an answer. Whatever else a client asks is given to hyper as it came, and the connection with it.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Response, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use tailwire_core::Timer;
use tailwire_model::limits::{KEEP_ALIVE_MS, REQUEST_HEAD_BYTES_MAX};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

use super::{
    accept::{Acceptor, draining},
    joined::SMALL_BYTES,
    outgoing::Outgoing,
    request,
    takeover::{Handoff, Slot, Waiting},
};
use crate::{
    Phase,
    api::{
        reply::{caught, head, whole, with_length},
        router::Routes,
    },
    delivery::polls::{Reply, Served},
};

/// What is read at once. What is longer is hyper's.
const READ_BYTES: usize = 8 << 10;

/// The connection.
pub(crate) struct Plain<'a> {
    reader: OwnedReadHalf,
    /// Lent while a request waits with others.
    writer: Arc<OwnedWriteHalf>,
    /// What the client has sent ahead.
    received: Bytes,
    /// Whether it ever had an answer.
    pub(crate) used: bool,
    acceptor: &'a Acceptor,
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

impl<'a> Plain<'a> {
    pub(crate) fn new(stream: TcpStream, received: Bytes, used: bool, acceptor: &'a Acceptor) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader, writer: Arc::new(writer), received, used, acceptor }
    }

    /// The socket, which is lent to nobody, and what was read ahead.
    pub(crate) fn into_parts(self) -> Option<(TcpStream, Bytes)> {
        let writer = Arc::into_inner(self.writer);
        debug_assert!(writer.is_some(), "a socket is given back before its task knows of an answer");
        Some((self.reader.reunite(writer?).ok()?, self.received))
    }

    /// Gives the client the answer that it waits for, if it does, and those to the plain requests that follow. `None` once
    /// the connection is over.
    pub(crate) async fn serve(&mut self, waiting: Option<Waiting>) -> Option<Next> {
        if let Some(waiting) = waiting {
            self.reply(waiting).await?;
        }
        let (mut timer, mut draining) = (Timer::default(), pin!(draining(self.acceptor.phase.clone())));
        loop {
            let deadline = Instant::now() + Duration::from_millis(KEEP_ALIVE_MS);
            let over = |cx: &mut Context<'_>| {
                draining.as_mut().poll(cx).is_ready() || timer.poll_until(cx, deadline).is_ready()
            };
            let Some(request) = self.request(over).await? else { return Some(Next::Hyper) };
            // Boxed, because it is large, and gone while the client waits.
            match Box::pin(ask(&self.acceptor.routes, request)).await {
                Answer::Now(response) => self.answer(response).await?,
                Answer::Later(waiting) => self.reply(waiting).await?,
                Answer::HandOver(handoff) => return Some(Next::HandOver(handoff)),
            }
        }
    }

    /// Answers a request; `None` if that was the last.
    async fn answer(&mut self, mut response: Response<Body>) -> Option<()> {
        let is_last = self.is_last();
        if is_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (parts, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let response = Response::from_parts(parts, ());
        let mut out = Outgoing::default();
        if body.len() <= SMALL_BYTES {
            out.push(whole(response, &body));
        } else {
            out.push(head(&with_length(response, body.len())));
            out.push_own(body, []);
        }
        self.write(out).await?;
        (!is_last).then_some(())
    }

    /// Answers a request that has to wait; `None` if that was the last.
    async fn reply(&mut self, Waiting { answer, ticket, cors }: Waiting) -> Option<()> {
        if let Some(ticket) = ticket {
            ticket.lend(&self.writer);
        }
        let reply = self.wait(answer).await?;
        let (routes, is_last) = (&self.acceptor.routes, self.is_last());
        match reply {
            // One that isn't begun can still say that it is the last. Behind one that can't the connection ends in silence.
            Reply::Served(Served { found, written }) if !is_last || written > 0 => {
                routes.count(found.status());
                let common = found.wire(&cors).clone();
                drop(found);
                let mut out = Outgoing::default();
                if written < common.bytes.len() {
                    out.push_common(common, written);
                }
                self.write(out).await
            }
            reply => {
                let mut response = reply.response();
                routes.finish(&mut response, &cors);
                self.answer(response).await
            }
        }
    }

    fn is_last(&self) -> bool {
        *self.acceptor.phase.borrow() >= Phase::Draining
    }

    /// Waits for a reply. `None` when the client is gone.
    async fn wait(&mut self, answer: BoxFuture<'static, Reply>) -> Option<Reply> {
        let mut answer = pin!(caught(answer));
        poll_fn(|cx| {
            if let Poll::Ready(reply) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(reply));
            }
            // Nothing that the client says ahead is lost, but more than a request's head is not taken.
            while self.received.len() < REQUEST_HEAD_BYTES_MAX {
                if ready!(self.poll_receive(cx)).is_err() {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Writes a response whole, for as long as the client takes of it. `None` when it doesn't, or is gone.
    async fn write(&mut self, mut out: Outgoing) -> Option<()> {
        let (socket, mut timer) = ((*self.writer).as_ref(), Timer::default());
        let written = poll_fn(|cx| match out.poll_write(socket, cx, |_| {}) {
            Poll::Ready(written) => Poll::Ready(written.ok()),
            // Of a response nothing can be let go of, so that the stall has only one end.
            Poll::Pending => out.poll_stall(&mut timer, cx).map(|_| None),
        });
        written.await?;
        self.used = true;
        Some(())
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
        ready!(Pin::new(&mut self.reader).poll_read(cx, &mut buffer))?;
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
