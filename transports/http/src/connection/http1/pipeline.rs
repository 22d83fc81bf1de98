//! The requests of one connection that are being answered, in their order. As a rule that is one. Publishes that have
//! their places in the queue are the exception: others may take theirs behind them, so that all share a commit.

use std::{
    collections::VecDeque,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;
use tailwire_model::limits::{PIPELINED_BYTES_MAX, PIPELINED_PUBLISHES_MAX, SKIP_BYTES_MAX};
use tokio::time::Instant;

use super::{
    decoder::BodyDecoder,
    head::{Framing, ParsedHead},
};
use crate::{
    api::{access_log::AccessEntry, guard::Cors, reply::caught, router::HttpRoutes},
    connection::{
        body::{IncomingBody, Pipe, pipe},
        budget::ReceivePace,
        exchange::{Claim, Deferred, Exchange, Hijack},
        pinned::Common,
    },
    delivery::polls::{Reply, Share},
};

/// The requests that are being answered.
#[derive(Default)]
pub(super) struct Pipeline<'a> {
    pub(super) front: Option<PendingRequest<'a>>,
    behind: VecDeque<PendingRequest<'a>>,
    /// Their bytes.
    bytes: usize,
    /// Bytes of its body that the front was given so far.
    pub(super) given: usize,
}

/// A request that is being answered.
pub(super) struct PendingRequest<'a> {
    routes: &'a HttpRoutes,
    stage: RequestStage<'a>,
    exchange: Exchange,
    is_queued: bool,
    bytes: usize,
    pub(super) form: Form,
    /// The bytes of it that are still to come.
    pub(super) body: Option<Box<ReceivingBody>>,
}

/// The form of an answer, as its request asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) is_head: bool,
    pub(super) version: Version,
    pub(super) persists: bool,
}

enum RequestStage<'a> {
    /// Its handler is at work; `None` where the answer's body failed.
    Handler(BoxFuture<'a, Option<Response<Bytes>>>),
    /// It takes long, and nothing is kept of it but that.
    Deferred(BoxFuture<'static, Reply>, Cors, AccessEntry),
    /// Answered before its turn.
    Over(Option<RequestOutcome>),
}

/// The outcome of a request.
pub(super) enum RequestOutcome {
    Answer(Response<Bytes>),
    /// One that others are given too.
    Shared(SharedAnswer),
    Hijack(Hijack),
    /// There is an answer, and it can't be given.
    Failed,
}

/// An answer of several long-polls, and the CORS fields of this one.
pub(super) struct SharedAnswer {
    share: Share,
    cors: Cors,
}

/// A body that is being received.
pub(super) struct ReceivingBody {
    pub(super) decoder: BodyDecoder,
    pub(super) pipe: Pipe,
    pub(super) pace: ReceivePace,
    /// The client waits for `100 Continue`.
    pub(super) awaits_continue: bool,
    /// It can't be received to its end.
    pub(super) is_broken: bool,
    /// Bytes that were thrown away.
    pub(super) skipped: usize,
    is_short: bool,
}

impl SharedAnswer {
    /// As it stands on the wire.
    pub(super) fn wire(&self) -> Arc<Common> {
        self.share.wire(&self.cors)
    }

    /// For a connection on which it has to say something of its own.
    pub(super) fn response(&self) -> Response<Bytes> {
        let mut response = self.share.response();
        self.cors.apply(response.headers_mut());
        response
    }
}

impl ReceivingBody {
    pub(super) fn new(framing: Framing, awaits_continue: bool) -> (Self, IncomingBody) {
        let decoder = BodyDecoder::from(framing);
        let (pipe, incoming) = pipe(decoder.left());
        let is_short = decoder.left().is_none_or(|bytes| bytes <= SKIP_BYTES_MAX as u64);
        let pace = ReceivePace::new(Instant::now());
        (Self { decoder, pipe, pace, awaits_continue, is_broken: false, skipped: 0, is_short }, incoming)
    }

    /// Whether its rest is thrown away where nobody wants it, so that the connection can go on. That depends on its
    /// length only, and not on how much of it happens to have come.
    pub(super) const fn can_be_skipped(&self) -> bool {
        self.is_short && !self.is_broken && !self.awaits_continue
    }
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(front: PendingRequest<'a>) -> Self {
        Self { bytes: front.bytes, front: Some(front), behind: VecDeque::new(), given: 0 }
    }

    /// Whether one more publish may take its place.
    pub(super) fn may_grow(&self) -> bool {
        let last = self.behind.back().or(self.front.as_ref());
        let is_placed =
            last.is_some_and(|asked| asked.is_queued && asked.form.persists && asked.body.is_none());
        is_placed && self.behind.len() + 1 < PIPELINED_PUBLISHES_MAX && self.bytes < PIPELINED_BYTES_MAX
    }

    pub(super) fn push(&mut self, asked: PendingRequest<'a>) {
        self.bytes += asked.bytes;
        self.behind.push_back(asked);
    }

    /// Takes the front, so that the one behind it is.
    pub(super) fn advance(&mut self) -> Option<PendingRequest<'a>> {
        let asked = mem::replace(&mut self.front, self.behind.pop_front())?;
        self.bytes -= asked.bytes;
        self.given = 0;
        Some(asked)
    }

    /// The connection is broken: nobody waits for any answer.
    pub(super) fn fail(&mut self) {
        self.behind.clear();
        if let Some(front) = &mut self.front {
            front.stage = RequestStage::Over(Some(RequestOutcome::Failed));
        }
    }

    /// The outcome of the front.
    pub(super) fn poll_front(&mut self, cx: &mut Context<'_>) -> Poll<RequestOutcome> {
        // All but the last have their places, and are answered by the committer.
        if let Some(last) = self.behind.back_mut().filter(|last| !last.is_queued) {
            last.look(cx);
        }
        match &mut self.front {
            Some(front) => front.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Waits for what becomes of the front, and for nothing else; it is there when it is asked for next.
    pub(super) async fn front_is_ready(&mut self) {
        std::future::poll_fn(|cx| match self.poll_front(cx) {
            Poll::Ready(outcome) => {
                if let Some(front) = &mut self.front {
                    front.stage = RequestStage::Over(Some(outcome));
                }
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
    }
}

impl<'a> PendingRequest<'a> {
    /// Has a request answered. `bytes` is what it takes, head and all.
    pub(super) fn new(
        routes: &'a HttpRoutes,
        head: ParsedHead,
        body: Body,
        receiving: Option<Box<ReceivingBody>>,
        bytes: usize,
    ) -> Self {
        let ParsedHead { request, persists, .. } = head;
        let form = Form { is_head: request.method() == Method::HEAD, version: request.version(), persists };
        let exchange = Exchange::default();
        let answer = answer(routes, request.map(|()| body), exchange.clone());
        // Boxed, because it is large, and gone while the client waits.
        let stage = RequestStage::Handler(Box::pin(answer));
        Self { routes, stage, exchange, is_queued: false, bytes, form, body: receiving }
    }

    /// Lets it get as far as it does; its answer has to wait for its turn.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(outcome) = self.poll(cx) {
            self.stage = RequestStage::Over(Some(outcome));
            self.is_queued = true;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RequestOutcome> {
        loop {
            match &mut self.stage {
                RequestStage::Handler(answer) => {
                    if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                        return Poll::Ready(answer.map_or(RequestOutcome::Failed, RequestOutcome::Answer));
                    }
                    match self.exchange.take() {
                        Claim::Nothing => return Poll::Pending,
                        Claim::Queued => {
                            self.is_queued = true;
                            return Poll::Pending;
                        }
                        Claim::Hijack(hijack) => return Poll::Ready(RequestOutcome::Hijack(hijack)),
                        Claim::Deferred(Deferred { answer, cors, entry }) => {
                            self.stage = RequestStage::Deferred(answer, cors, entry);
                        }
                    }
                }
                RequestStage::Deferred(answer, cors, entry) => {
                    let reply = pin!(caught(answer.as_mut())).poll(cx);
                    match ready!(reply) {
                        Reply::Own(mut response) => {
                            mem::take(entry).answered(response.status().as_u16());
                            self.routes.finish(&mut response, &mem::take(cors));
                            self.stage = RequestStage::Handler(Box::pin(collected(response)));
                        }
                        Reply::Shared(share) => {
                            let status = share.response.status();
                            mem::take(entry).answered(status);
                            self.routes.count(status);
                            let cors = mem::take(cors);
                            return Poll::Ready(RequestOutcome::Shared(SharedAnswer { share, cors }));
                        }
                    }
                }
                RequestStage::Over(outcome) => return outcome.take().map_or(Poll::Pending, Poll::Ready),
            }
        }
    }
}

async fn answer(routes: &HttpRoutes, request: Request<Body>, exchange: Exchange) -> Option<Response<Bytes>> {
    collected(routes.answer(request, Some(exchange)).await).await
}

/// A response whose body is there.
async fn collected(response: Response<Body>) -> Option<Response<Bytes>> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Response::from_parts(head, body))
}
