//! The driver of an HTTP/1.1 connection: requests in, answers out in their order, from the first byte until it ends,
//! becomes HTTP/2, or is handed to a delivery runtime.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Response, Version, header};
use tailwire_model::limits::{DISCARD_BYTES_MAX, PIPELINED_BYTES_MAX, REQUEST_HEAD_BYTES_MAX};

use super::{
    answers::Gone,
    chunked::BadChunk,
    head::{self, Framing, ParsedHead},
    peer::{HeadWait, NextInput, Peer},
    pipeline::{Form, PendingRequest, Pipeline, ReceivingBody, RequestOutcome},
    refusal::Refusal,
};
use crate::{
    Phase,
    api::{
        reply::{head as wire_head, refuse, with_length},
        router::HttpRoutes,
    },
    connection::{
        body::BodyError,
        exchange::Hijack,
        http2,
        pinned::Reserved,
        serving::{Acceptor, draining},
        socket::Socket,
    },
    delivery::shards::Hijacked,
};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Serves a connection until it ends.
pub(crate) async fn serve(socket: Socket, acceptor: Acceptor) {
    let mut connection = Http1Connection {
        peer: Peer::new(socket, &acceptor.budget),
        acceptor: &acceptor,
        is_closing: false,
        rest: None,
        hijack: None,
        is_looked_at: false,
    };
    let end = connection.run().await;
    let peer = connection.peer;
    match end {
        ConnectionEnd::Closed => {}
        ConnectionEnd::Lingers => peer.linger().await,
        ConnectionEnd::Refused(refusal) => {
            let response = refuse(&refusal.problem());
            acceptor.routes.count(response.status().as_u16());
            peer.end_with(response, false).await;
        }
        ConnectionEnd::Hijacked(Hijack { job, shard }) => {
            let (socket, received) = peer.into_parts();
            // From this runtime's poll to the other's.
            match socket.detach() {
                Ok(socket) => {
                    let hold = acceptor.routes.hold();
                    acceptor.delivery.give(shard, Hijacked { socket, received, job, hold });
                }
                Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
            }
        }
        ConnectionEnd::Http2 => {
            let (socket, received) = peer.into_parts();
            // Boxed, because it is large and rare.
            Box::pin(http2::serve(socket, received, acceptor)).await;
        }
    }
}

/// See the module.
struct Http1Connection<'a> {
    peer: Peer,
    acceptor: &'a Acceptor,
    /// Nothing comes behind what is to be written.
    is_closing: bool,
    /// The rest of a body that nobody wants.
    rest: Option<Box<ReceivingBody>>,
    /// A handler has taken the connection.
    hijack: Option<Hijack>,
    /// Nothing of what was received ahead is a publish that may take its place.
    is_looked_at: bool,
}

/// How far the answers have been taken.
#[derive(PartialEq, Eq)]
enum Gathered {
    /// The next has to be waited for.
    All,
    /// There may be more, once these are written.
    Enough,
}

/// Why a connection leaves this driver.
enum ConnectionEnd {
    Closed,
    /// The client may still be sending what nobody wants.
    Lingers,
    Refused(Refusal),
    Hijacked(Hijack),
    Http2,
}

/// The next step.
enum ConnectionStep {
    /// Wait for the next request.
    NextRequest,
    /// Wait for an answer, of a client that sends nothing more.
    WaitWithoutReading,
    End(ConnectionEnd),
}

impl<'a> Http1Connection<'a> {
    async fn run(&mut self) -> ConnectionEnd {
        let mut draining = pin!(draining(self.acceptor.phase.clone()));
        let mut is_used = false;
        loop {
            let mut wait = HeadWait::new(is_used);
            let mut is_over = |cx: &mut Context<'_>| draining.as_mut().poll(cx).is_ready();
            let asked = match poll_fn(|cx| self.peer.poll_head(cx, &mut wait, &mut is_over)).await {
                NextInput::Request(head, length) => self.begin(*head, length),
                NextInput::Http2 => return ConnectionEnd::Http2,
                NextInput::Refused(refusal) => return ConnectionEnd::Refused(refusal),
                NextInput::Over => return ConnectionEnd::Closed,
            };
            is_used = true;
            let mut pipeline = Pipeline::new(asked);
            loop {
                match poll_fn(|cx| self.poll_pipeline(cx, &mut pipeline)).await {
                    ConnectionStep::NextRequest => break,
                    ConnectionStep::WaitWithoutReading => {
                        // Boxed, because it is rare.
                        let broken = Box::pin(self.peer.broken());
                        tokio::select! {
                            () = pipeline.front_is_ready() => {}
                            () = broken => return ConnectionEnd::Closed,
                        }
                    }
                    ConnectionStep::End(end) => return end,
                }
            }
        }
    }

    /// Has a request answered whose head stands first of what was received.
    fn begin(&mut self, head: ParsedHead, length: usize) -> PendingRequest<'a> {
        let received = &mut self.peer.received;
        received.advance(length);
        let (body, receiving) = match head.framing {
            Framing::Length(0) => (Body::empty(), None),
            Framing::Length(bytes) if bytes <= received.len() as u64 => {
                (Body::from(received.split_to(bytes as usize)), None)
            }
            framing => {
                let awaits_continue = head.expects_continue && received.is_empty();
                let (receiving, incoming) = ReceivingBody::new(framing, awaits_continue);
                (Body::new(incoming), Some(Box::new(receiving)))
            }
        };
        PendingRequest::new(&self.acceptor.routes, head, body, receiving, length)
    }

    /// Answers what has been asked, and takes what may be asked meanwhile.
    fn poll_pipeline(&mut self, cx: &mut Context<'_>, pipeline: &mut Pipeline<'a>) -> Poll<ConnectionStep> {
        loop {
            let Ok(gathered) = self.gather(cx, pipeline) else {
                return Poll::Ready(ConnectionStep::End(ConnectionEnd::Closed));
            };
            let is_moving = self.poll_body(cx, pipeline).is_ready();
            let is_written = match self.peer.poll_write(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(Gone)) => return Poll::Ready(ConnectionStep::End(ConnectionEnd::Closed)),
                Poll::Pending => false,
            };
            if is_moving || (is_written && gathered == Gathered::Enough) {
                continue;
            }
            if pipeline.front.is_none() && is_written {
                return self.poll_over(cx);
            }
            if self.poll_ahead(cx, pipeline).is_ready() {
                continue;
            }
            self.peer.charge.set(pipeline.given + self.peer.received.len());
            let has_all = pipeline.front.as_ref().is_some_and(|front| front.body.is_none());
            let is_silent = self.peer.is_ended && has_all && is_written;
            return if is_silent { Poll::Ready(ConnectionStep::WaitWithoutReading) } else { Poll::Pending };
        }
    }

    /// Takes the answers that are there, up to what makes up one write.
    fn gather(&mut self, cx: &mut Context<'_>, pipeline: &mut Pipeline<'a>) -> Result<Gathered, Gone> {
        while !self.peer.out.is_full() {
            let Poll::Ready(outcome) = pipeline.poll_front(cx) else { return Ok(Gathered::All) };
            let Some(asked) = pipeline.advance() else { return Ok(Gathered::All) };
            let (form, rest) = (asked.form, asked.body.filter(|rest| !rest.decoder.is_at_end()));
            let is_last = *self.acceptor.phase.borrow() >= Phase::Draining;
            // The last that is asked can say that it is the last.
            self.is_closing = pipeline.front.is_none()
                && (!form.persists || is_last || rest.as_ref().is_some_and(|rest| !rest.can_be_skipped()));
            self.rest = rest;
            match outcome {
                RequestOutcome::Answer(response) => self.answer(response, form),
                RequestOutcome::Shared(shared) if !self.is_closing && form.version == Version::HTTP_11 => {
                    self.peer.out.push_common(shared.wire());
                }
                RequestOutcome::Shared(shared) => self.answer(shared.response(), form),
                // Nothing answers that: no client has a stream's request with a large body.
                RequestOutcome::Hijack(_) if self.rest.is_some() && self.is_closing => {}
                RequestOutcome::Hijack(hijack) => {
                    self.is_closing = false;
                    self.hijack = Some(hijack);
                }
                RequestOutcome::Failed => return Err(Gone),
            }
        }
        Ok(Gathered::Enough)
    }

    /// Writes down an answer as its request wants it.
    fn answer(&mut self, response: Response<Bytes>, form: Form) {
        let (mut head, body) = response.into_parts();
        let room = Reserved::take(&mut head.extensions);
        head.version = form.version;
        let option = match (self.is_closing, form.version) {
            (true, _) => Some("close"),
            (false, Version::HTTP_10) => Some("keep-alive"),
            (false, _) => None,
        };
        if let Some(option) = option {
            head.headers.append(header::CONNECTION, HeaderValue::from_static(option));
        }
        let has_length =
            form.is_head && (body.is_empty() || head.headers.contains_key(header::CONTENT_LENGTH));
        let head = Response::from_parts(head, ());
        let head = if has_length { head } else { with_length(head, body.len()) };
        let is_empty = form.is_head || matches!(head.status().as_u16(), 204 | 304);
        let body = if is_empty { Bytes::new() } else { body };
        self.peer.out.push(wire_head(&head), body, room);
    }

    /// Gives the front what it wants of its body. Ready when there was something to give.
    fn poll_body(&mut self, cx: &mut Context<'_>, pipeline: &mut Pipeline<'a>) -> Poll<()> {
        let Pipeline { front: Some(front), given, .. } = pipeline else { return Poll::Pending };
        let Some(body) = front.body.as_mut().filter(|body| body.pipe.is_wanted()) else {
            return Poll::Pending;
        };
        let peer = &mut self.peer;
        if mem::take(&mut body.awaits_continue) {
            peer.out.push(CONTINUE.to_vec(), Bytes::new(), None);
            return Poll::Ready(());
        }
        let end = loop {
            match body.decoder.next(&mut peer.received) {
                Ok(Some(piece)) => {
                    *given += piece.len();
                    peer.charge.set(*given + peer.received.len());
                    body.pace.add(piece.len());
                    body.pipe.give(piece, cx);
                    return Poll::Ready(());
                }
                Ok(None) if body.decoder.is_at_end() => break Ok(()),
                Ok(None) if peer.is_ended => break Err(BodyError::Ended),
                Ok(None) => {}
                Err(BadChunk) => break Err(BodyError::Malformed),
            }
            match peer.poll_receive(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => break Err(BodyError::Ended),
                Poll::Pending => break ready!(peer.poll_late(cx, body.pace.deadline())),
            }
        };
        body.pipe.end(end, cx);
        match end {
            Ok(()) => front.body = None,
            Err(_) => body.is_broken = true,
        }
        Poll::Ready(())
    }

    /// Takes what the client sends ahead of its answers: that it is gone; a publish that may take its place; anything
    /// else for later. Ready when there was something.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, pipeline: &mut Pipeline<'a>) -> Poll<()> {
        if self.is_closing || pipeline.front.as_ref().is_none_or(|front| front.body.is_some()) {
            return Poll::Pending;
        }
        let may_grow = pipeline.may_grow();
        if may_grow
            && !mem::replace(&mut self.is_looked_at, true)
            && let Some(mut asked) = self.next_publish()
        {
            self.is_looked_at = false;
            asked.look(cx);
            pipeline.push(asked);
            return Poll::Ready(());
        }
        let bytes_max = if may_grow { PIPELINED_BYTES_MAX } else { REQUEST_HEAD_BYTES_MAX };
        if self.peer.is_ended || self.peer.received.len() >= bytes_max {
            return Poll::Pending;
        }
        let received = ready!(self.peer.poll_receive(cx));
        self.is_looked_at = false;
        if received.is_err() {
            pipeline.fail();
        }
        Poll::Ready(())
    }

    /// The next request, if that is a publish which has come whole.
    fn next_publish(&mut self) -> Option<PendingRequest<'a>> {
        if *self.acceptor.phase.borrow() >= Phase::Draining {
            return None;
        }
        let (head, length) = head::parse(&self.peer.received).ok()??;
        let Framing::Length(bytes) = head.framing else { return None };
        let is_whole = length as u64 + bytes <= self.peer.received.len() as u64;
        let path = head.request.uri().path();
        let is_publish = *head.request.method() == Method::POST && HttpRoutes::takes_publishes(path);
        (is_whole && is_publish).then(|| self.begin(head, length))
    }

    /// Everything is answered: what becomes of the connection.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionStep> {
        if !self.is_closing && self.rest.is_some() {
            self.is_closing = ready!(self.poll_skip(cx)).is_err();
        }
        if !self.peer.charge.is_empty() {
            self.peer.charge.set(self.peer.received.len());
        }
        Poll::Ready(if self.is_closing {
            let is_done = self.rest.is_none() && self.peer.received.is_empty();
            ConnectionStep::End(if is_done { ConnectionEnd::Closed } else { ConnectionEnd::Lingers })
        } else {
            self.hijack.take().map_or(ConnectionStep::NextRequest, |hijack| {
                ConnectionStep::End(ConnectionEnd::Hijacked(hijack))
            })
        })
    }

    /// Throws away the rest of a body, so that the next request can be found behind it.
    fn poll_skip(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(Ok(())) };
        loop {
            match rest.decoder.next(&mut self.peer.received) {
                // The answer has said that the connection goes on: of chunks nobody knows how many there are.
                Ok(Some(piece)) if rest.skipped + piece.len() <= DISCARD_BYTES_MAX => {
                    rest.skipped += piece.len();
                }
                Ok(None) if rest.decoder.is_at_end() => {
                    self.rest = None;
                    return Poll::Ready(Ok(()));
                }
                Ok(None) if !self.peer.is_ended => {}
                Ok(_) | Err(BadChunk) => return Poll::Ready(Err(Gone)),
            }
            if self.peer.received.is_empty() {
                match self.peer.poll_receive(cx) {
                    Poll::Ready(received) => received.map_err(|_| Gone)?,
                    Poll::Pending => {
                        let _: Result<(), _> = ready!(self.peer.poll_late(cx, rest.pace.deadline()));
                        return Poll::Ready(Err(Gone));
                    }
                }
            }
        }
    }
}
