//! A connection of HTTP/2. Its streams share a socket, so hyper writes them, and asks each body for more when that stream's
//! window has room. Here it is seen to that nothing is held for a client that never makes room, or says nothing more.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use slab::Slab;
use tailwire_model::limits::{
    BATCH_READ_BYTES_MAX, HTTP2_STREAMS_MAX, KEEP_ALIVE_MS, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_MS_MAX,
    REQUEST_HEADERS_MAX, STALL_CLOSE_MS, STALL_RELEASE_MS,
};
use tailwire_wire::{Code, Problem};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    budget::ReceiveBudget,
    coalesce::Coalesced,
    host,
    metered::{Metered, Remains, linger},
    outgoing::keep,
    pinned::{Account, Pinned, Reserved},
    serving::{Acceptor, draining},
    socket::Socket,
};
use crate::api::{reply::refuse, router::HttpRoutes};

/// The bytes that a body gives at once: the usual size of a frame (RFC 9113 §4.2). A client that takes that much makes
/// progress.
const PIECE_BYTES: usize = 16 << 10;
/// How long something may not be taken before it counts as held.
const RELEASE: Duration = Duration::from_millis(STALL_RELEASE_MS);

/// Serves a connection until it ends. `received` is what has come of it already.
pub(crate) async fn serve(socket: Socket, received: Bytes, acceptor: Acceptor) {
    let Acceptor { routes, phase, budget, .. } = acceptor;
    let watch = Watch::new(routes.account().clone());
    let own = watch.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (routes, budget, answering) = (routes.clone(), budget.clone(), own.begin());
        async move {
            let mut response = answer(&routes, &budget, request).await;
            let room = Reserved::take(response.extensions_mut());
            Ok::<_, Infallible>(response.map(|body| Pieces::new(body, room, answering)))
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_header_list_size(REQUEST_HEAD_BYTES_MAX as u32);
    builder.max_concurrent_streams(HTTP2_STREAMS_MAX).max_send_buf_size(BATCH_READ_BYTES_MAX);
    builder.keep_alive_interval(Some(Duration::from_millis(STALL_CLOSE_MS)));
    let mut connection = pin!(builder.serve_connection(Coalesced::new(socket, received), service));
    let mut patience = pin!(watch.patience());
    let is_idle = tokio::select! {
        result = &mut connection => return log_end(result),
        () = draining(phase) => false,
        end = &mut patience => match end {
            PatienceEnd::Idle => true,
            PatienceEnd::Stuck => return stuck(),
        },
    };
    connection.as_mut().graceful_shutdown();
    if !is_idle {
        // A drain has an end of its own.
        return log_end(connection.await);
    }
    // Requests that cross with the goodbye are answered, and hyper's pending bytes are written, if the client takes them.
    let farewell = tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), connection);
    farewell.await.map_or_else(|_| stuck(), log_end);
}

/// Answers one request. What is received of its body counts until then.
async fn answer(
    routes: &HttpRoutes,
    budget: &ReceiveBudget,
    request: hyper::Request<hyper::body::Incoming>,
) -> Response<Body> {
    if let Some(problem) = malformed(&request) {
        let response = refuse(&problem);
        routes.count(response.status().as_u16());
        return response;
    }
    let remains = Remains::new(budget);
    let request = request.map(|body| {
        if body.is_end_stream() { Body::empty() } else { Body::new(Metered::new(body, remains.clone())) }
    });
    let response = routes.answer(request, None).await;
    let rest = remains.lock().rest.take();
    if let Some(rest) = rest {
        tokio::spawn(linger(rest));
    }
    response
}

/// The fault of a request by the rules of HTTP/2 that hyper leaves to us.
fn malformed<B>(request: &hyper::Request<B>) -> Option<Problem> {
    if request.headers().len() > REQUEST_HEADERS_MAX {
        return Some(Problem::new(Code::RequestHeadTooLarge));
    }
    let authority = request.uri().authority()?;
    let named = request.headers().get(header::HOST)?.to_str().unwrap_or("");
    // RFC 9113 §8.3.1
    let is_same = host::parse(authority.as_str())
        .zip(host::parse(named))
        .is_some_and(|(authority, named)| authority.is_same(&named));
    let differ = "The header host names another host than :authority.";
    (!is_same).then(|| Problem::detailed(Code::RequestInvalid, differ))
}

/// With the connection go its streams. Their cursors stay good.
fn stuck() {
    tracing::debug!("a connection took nothing for too long");
}

fn log_end(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Why the driver's patience with a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum PatienceEnd {
    /// It asks for nothing.
    Idle,
    /// It doesn't take what it asked for.
    Stuck,
}

/// The answers of a connection, as its driver knows them.
#[derive(Clone)]
struct Watch(Arc<Watched>);

struct Watched {
    account: Account,
    state: Mutex<Http2State>,
    /// There is something large that may not be taken.
    large: Notify,
}

struct Http2State {
    /// One for each answer that is being made or given.
    answers: Slab<Given>,
    /// The stuck bytes of them, where no room was taken for them before.
    stuck: Option<Pinned>,
    /// Whether there ever was one.
    used: bool,
    /// Since when there has been none.
    idle: Instant,
}

/// The last thing that an answer gave.
#[derive(Default)]
struct Given {
    /// Since when it isn't taken, if so.
    since: Option<Instant>,
    /// How much memory there is behind it.
    bytes: usize,
    /// Whether that is counted already.
    has_room: bool,
}

impl Http2State {
    /// Counts what has been stuck for a while, for all connections to know. Answers whether there is any.
    fn weigh(&mut self, now: Instant) -> bool {
        let is_stuck =
            |given: &&Given| given.bytes > 0 && given.since.is_some_and(|since| now >= since + RELEASE);
        let stuck = || self.answers.iter().map(|(_, given)| given).filter(is_stuck);
        let bytes = stuck().filter(|given| !given.has_room).map(|given| given.bytes).sum();
        let is_any_stuck = stuck().next().is_some();
        // Never both at a time.
        self.stuck = None;
        self.stuck = (bytes > 0).then(|| Pinned::of(bytes));
        is_any_stuck
    }
}

/// Alive while a request is being answered.
struct Answering {
    watch: Watch,
    key: usize,
}

impl Watch {
    fn new(account: Account) -> Self {
        let state = Http2State { answers: Slab::new(), stuck: None, used: false, idle: Instant::now() };
        Self(Arc::new(Watched { account, state: Mutex::new(state), large: Notify::new() }))
    }

    fn begin(&self) -> Answering {
        let mut state = self.0.state.lock();
        state.used = true;
        Answering { watch: self.clone(), key: state.answers.insert(Given::default()) }
    }

    /// Ends when the connection is to end.
    async fn patience(&self) -> PatienceEnd {
        loop {
            let (end, at) = self.deadline();
            let now = Instant::now();
            match end {
                Some(end) if at <= now => return end,
                // Nothing ends sooner than that, but for answers that take much memory.
                _ => tokio::select! {
                    () = sleep_until(at.min(now + Duration::from_millis(STALL_CLOSE_MS))) => {}
                    () = self.0.large.notified() => {}
                },
            }
        }
    }

    /// When patience ends as things are, and why.
    fn deadline(&self) -> (Option<PatienceEnd>, Instant) {
        let (mut state, now) = (self.0.state.lock(), Instant::now());
        let after = |since: Instant, ms| since + Duration::from_millis(ms);
        if state.answers.is_empty() {
            let patience = if state.used { KEEP_ALIVE_MS } else { REQUEST_HEAD_MS_MAX };
            return (Some(PatienceEnd::Idle), after(state.idle, patience));
        }
        if state.weigh(now) && self.0.account.is_contended() {
            return (Some(PatienceEnd::Stuck), now);
        }
        // Large answers are weighed from time to time.
        let is_large = state.answers.iter().any(|(_, given)| given.bytes > 0);
        let look = if is_large { now + RELEASE } else { after(now, STALL_CLOSE_MS) };
        let stuck = state.answers.iter().filter_map(|(_, given)| given.since).min();
        match stuck.map(|since| after(since, STALL_CLOSE_MS)) {
            Some(close) if close <= look => (Some(PatienceEnd::Stuck), close),
            _ => (None, look),
        }
    }
}

impl Answering {
    /// The client has made room for what the answer gave last.
    fn taken(&self) {
        if let Some(given) = self.watch.0.state.lock().answers.get_mut(self.key) {
            given.since = None;
        }
    }

    /// The answer is there, and so much memory, which the client has yet to make room for.
    fn begun(&self, bytes: usize) {
        if let Some(given) = self.watch.0.state.lock().answers.get_mut(self.key) {
            *given = Given { since: Some(Instant::now()), bytes, has_room: true };
            self.watch.0.large.notify_one();
        }
    }

    /// It has yet to make room for what the answer gave, behind which there is so much memory.
    fn gave(&self, bytes: usize) {
        if let Some(given) = self.watch.0.state.lock().answers.get_mut(self.key) {
            given.since = Some(Instant::now());
            if bytes > given.bytes {
                self.watch.0.large.notify_one();
            }
            given.bytes = bytes;
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let (mut state, now) = (self.watch.0.state.lock(), Instant::now());
        state.answers.remove(self.key);
        state.idle = now;
        if state.stuck.is_some() {
            state.weigh(now);
        }
    }
}

/// A body in pieces, which tells the driver whether they are asked for.
struct Pieces {
    body: Body,
    /// A piece of the body that has yet to be passed on.
    piece: Bytes,
    /// How much that was at first, where it is the rest of something larger.
    whole: usize,
    answering: Answering,
    #[expect(dead_code, reason = "it counts as long as the body is there")]
    room: Option<Pinned>,
}

impl Pieces {
    fn new(body: Body, room: Option<Pinned>, answering: Answering) -> Self {
        if room.is_some() {
            answering.begun(body.size_hint().exact().unwrap_or(0) as usize);
        }
        Self { body, piece: Bytes::new(), whole: 0, answering, room }
    }

    fn take_piece(&mut self) -> Bytes {
        if self.piece.len() > PIECE_BYTES {
            self.whole = self.whole.max(self.piece.len());
            return self.piece.split_to(PIECE_BYTES);
        }
        let piece = std::mem::take(&mut self.piece);
        // The last one may be held for long, and must not hold the whole.
        if std::mem::take(&mut self.whole) > 0 { keep(&piece, &piece) } else { piece }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.answering.taken();
        if self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.piece = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.take_piece();
        self.answering.gave(self.whole);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, pending) = (self.body.size_hint(), self.piece.len() as u64);
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + pending);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + pending);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::poll_fn;

    use futures_util::{FutureExt, stream};
    use tailwire_model::limits::PINNED_BYTES_MAX;

    use super::super::pinned::ALONE;
    use super::*;

    fn pieces(watch: &Watch, body: Body) -> Pieces {
        Pieces::new(body, None, watch.begin())
    }

    async fn give(body: &mut Pieces) -> usize {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        frame.map_or(0, |frame| frame.unwrap().into_data().unwrap().len())
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    async fn patience(watch: &Watch) -> (PatienceEnd, u64) {
        let began = Instant::now();
        (watch.patience().await, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let watch = Watch::new(Account::common());
        assert_eq!(patience(&watch).await, (PatienceEnd::Idle, 10), "nothing was ever asked");
        let answering = watch.begin();
        assert!(tokio::time::timeout(Duration::from_secs(300), watch.patience()).await.is_err());
        drop(answering);
        assert_eq!(patience(&watch).await, (PatienceEnd::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_stalled_and_a_slow_one_is_not() {
        let _alone = ALONE.lock().await;
        let watch = Watch::new(Account::common());
        let mut body = pieces(&watch, Body::from(vec![0; 10 * PIECE_BYTES + 1]));
        for _ in 0..10 {
            assert_eq!(give(&mut body).await, PIECE_BYTES);
            assert!(tokio::time::timeout(Duration::from_secs(29), watch.patience()).await.is_err());
        }
        assert!(!body.is_end_stream());
        assert_eq!(give(&mut body).await, 1);
        assert!(body.is_end_stream());
        // One that goes on doesn't help another.
        let mut other = pieces(&watch, Body::from(vec![0; 10 * PIECE_BYTES]));
        for _ in 0..2 {
            give(&mut other).await;
            pass(14).await;
        }
        assert_eq!(patience(&watch).await, (PatienceEnd::Stuck, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_messages_is_not_stuck() {
        let watch = Watch::new(Account::common());
        let first = stream::iter([Ok::<_, Infallible>("first")]);
        let mut body =
            pieces(&watch, Body::from_stream(futures_util::StreamExt::chain(first, stream::pending())));
        assert_eq!(give(&mut body).await, 5);
        assert!(give(&mut body).now_or_never().is_none());
        assert!(tokio::time::timeout(Duration::from_secs(300), watch.patience()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stuck_behind_many_answers_has_a_bound() {
        let _alone = ALONE.lock().await;
        let watch = Watch::new(Account::common());
        let mut bodies: Vec<_> =
            (0..4).map(|_| pieces(&watch, Body::from(vec![0; PINNED_BYTES_MAX / 4]))).collect();
        for body in &mut bodies {
            give(body).await;
        }
        assert_eq!(patience(&watch).await, (PatienceEnd::Stuck, 30));
        bodies.push(pieces(&watch, Body::from(vec![0; PIECE_BYTES + 1])));
        for body in &mut bodies {
            give(body).await;
        }
        assert_eq!(patience(&watch).await, (PatienceEnd::Stuck, 1), "that was one too many");
        assert!(watch.0.account.is_contended());
        // The last piece of an answer is small.
        give(&mut bodies[4]).await;
        drop(bodies.remove(0));
        assert!(!watch.0.account.is_contended());
        for body in &mut bodies {
            give(body).await;
        }
        assert_eq!(patience(&watch).await, (PatienceEnd::Stuck, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_window_is_closed_from_the_first_gives_way_to_others() {
        let _alone = ALONE.lock().await;
        let watch = Watch::new(Account::common());
        let room = watch.0.account.admit(PINNED_BYTES_MAX).await.unwrap();
        let body = Pieces::new(Body::from(vec![0; PIECE_BYTES + 1]), Some(room), watch.begin());
        assert!(
            tokio::time::timeout(Duration::from_secs(5), watch.patience()).await.is_err(),
            "nobody waits"
        );
        let account = Account::new([192, 0, 2, 1].into());
        let mut other = Box::pin(account.admit(1));
        assert!(other.as_mut().now_or_never().is_none());
        assert!(patience(&watch).await.1 <= 1);
        drop(body);
        other.await.unwrap();
    }

    #[tokio::test]
    async fn the_last_piece_does_not_hold_the_whole() {
        let watch = Watch::new(Account::common());
        let whole = Bytes::from(vec![0; PIECE_BYTES + 1]);
        let mut body = pieces(&watch, Body::from(whole.clone()));
        assert_eq!(body.size_hint().exact(), Some(PIECE_BYTES as u64 + 1));
        give(&mut body).await;
        assert_eq!(body.size_hint().exact(), Some(1));
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        drop(body);
        assert!(whole.is_unique() && frame.is_some());
    }
}
