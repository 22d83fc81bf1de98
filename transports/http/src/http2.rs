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
use http_body::{Frame, SizeHint};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use slab::Slab;
use tailwire_model::limits::{
    BATCH_READ_BYTES_MAX, HTTP2_STREAMS_MAX, KEEP_ALIVE_MS, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_MS_MAX,
    STALL_CLOSE_MS,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    accept::{Acceptor, draining, log_end},
    joined::Joined,
    outgoing::keep,
};

/// What a body gives at once: the usual size of a frame (RFC 9113 §4.2). Whoever takes that much gets on.
const PIECE_BYTES: usize = 16 << 10;

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, acceptor: Acceptor) {
    let Acceptor { routes, phase, .. } = acceptor;
    let watch = Watch::new();
    let own = watch.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (routes, answering) = (routes.clone(), own.begin());
        async move {
            let response = routes.answer(request.map(Body::new), None).await;
            Ok::<_, Infallible>(response.map(|body| Watched {
                body,
                piece: Bytes::new(),
                rest: false,
                answering,
            }))
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_header_list_size(REQUEST_HEAD_BYTES_MAX as u32);
    builder.max_concurrent_streams(HTTP2_STREAMS_MAX).max_send_buf_size(BATCH_READ_BYTES_MAX);
    builder.keep_alive_interval(Some(Duration::from_millis(STALL_CLOSE_MS)));
    let mut connection = pin!(builder.serve_connection(Joined::new(stream), service));
    let mut patience = pin!(watch.patience());
    let is_idle = tokio::select! {
        result = &mut connection => return log_end(result),
        () = draining(phase) => false,
        end = &mut patience => match end {
            End::Idle => true,
            End::Stuck => return stuck(),
        },
    };
    connection.as_mut().graceful_shutdown();
    if !is_idle {
        // A drain has an end of its own.
        return log_end(connection.await);
    }
    // What crosses with the goodbye is answered, and what hyper has yet to write is written, if the client takes it.
    let farewell = tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), connection);
    farewell.await.map_or_else(|_| stuck(), log_end);
}

/// With the connection go its streams. Their cursors stay good.
fn stuck() {
    tracing::debug!("a connection took nothing for too long");
}

/// Why the driver's patience with a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It asks for nothing.
    Idle,
    /// It doesn't take what it asked for.
    Stuck,
}

/// What a connection's driver knows of its answers.
#[derive(Clone)]
struct Watch(Arc<Mutex<State>>);

struct State {
    /// One for each answer that is being made or given: since when it has something that wasn't taken, if so.
    answers: Slab<Option<Instant>>,
    /// Whether there ever was one.
    used: bool,
    /// Since when there has been none.
    idle: Instant,
}

/// Held while a request is being answered.
struct Answering {
    watch: Watch,
    key: usize,
}

impl Watch {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { answers: Slab::new(), used: false, idle: Instant::now() })))
    }

    fn begin(&self) -> Answering {
        let mut state = self.0.lock();
        state.used = true;
        Answering { watch: self.clone(), key: state.answers.insert(None) }
    }

    /// Ends when the connection is to end.
    async fn patience(&self) -> End {
        loop {
            let (end, at) = self.deadline();
            let now = Instant::now();
            match end {
                Some(end) if at <= now => return end,
                // Whatever happens meanwhile, nothing ends sooner than that.
                _ => sleep_until(at.min(now + Duration::from_millis(STALL_CLOSE_MS))).await,
            }
        }
    }

    /// When patience ends as things are, and why.
    fn deadline(&self) -> (Option<End>, Instant) {
        let state = self.0.lock();
        let after = |since: Instant, ms| since + Duration::from_millis(ms);
        if state.answers.is_empty() {
            let patience = if state.used { KEEP_ALIVE_MS } else { REQUEST_HEAD_MS_MAX };
            return (Some(End::Idle), after(state.idle, patience));
        }
        match state.answers.iter().filter_map(|(_, stuck)| *stuck).min() {
            Some(since) => (Some(End::Stuck), after(since, STALL_CLOSE_MS)),
            None => (None, after(Instant::now(), STALL_CLOSE_MS)),
        }
    }
}

impl Answering {
    /// Whether the client has yet to make room for what the answer gave last.
    fn gave(&self, stuck: bool) {
        if let Some(since) = self.watch.0.lock().answers.get_mut(self.key) {
            *since = stuck.then(Instant::now);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.watch.0.lock();
        state.answers.remove(self.key);
        state.idle = Instant::now();
    }
}

/// A body in pieces, which tells the driver whether they are asked for.
struct Watched {
    body: Body,
    /// What the body gave and has yet to be passed on.
    piece: Bytes,
    /// Whether that is the rest of something larger.
    rest: bool,
    answering: Answering,
}

impl Watched {
    fn take_piece(&mut self) -> Bytes {
        if self.piece.len() > PIECE_BYTES {
            self.rest = true;
            return self.piece.split_to(PIECE_BYTES);
        }
        let piece = std::mem::take(&mut self.piece);
        // The last one may be held for long, and must not hold the whole.
        if std::mem::take(&mut self.rest) { keep(&piece, &piece) } else { piece }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.answering.gave(false);
        if self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.piece = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        self.answering.gave(true);
        Poll::Ready(Some(Ok(Frame::data(self.take_piece()))))
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
    use http_body::Body as _;

    use super::*;

    fn watched(watch: &Watch, body: Body) -> Watched {
        Watched { body, piece: Bytes::new(), rest: false, answering: watch.begin() }
    }

    async fn give(body: &mut Watched) -> usize {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        frame.map_or(0, |frame| frame.unwrap().into_data().unwrap().len())
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    async fn patience(watch: &Watch) -> (End, u64) {
        let began = Instant::now();
        (watch.patience().await, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let watch = Watch::new();
        assert_eq!(patience(&watch).await, (End::Idle, 10), "nothing was ever asked");
        let answering = watch.begin();
        assert!(tokio::time::timeout(Duration::from_secs(300), watch.patience()).await.is_err());
        drop(answering);
        assert_eq!(patience(&watch).await, (End::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_take_a_piece_is_stuck_and_whoever_takes_one_now_and_then_is_not() {
        let watch = Watch::new();
        let mut body = watched(&watch, Body::from(vec![0; 10 * PIECE_BYTES + 1]));
        for _ in 0..10 {
            assert_eq!(give(&mut body).await, PIECE_BYTES);
            assert!(tokio::time::timeout(Duration::from_secs(29), watch.patience()).await.is_err());
        }
        assert!(!body.is_end_stream());
        assert_eq!(give(&mut body).await, 1);
        assert!(body.is_end_stream());
        // One that goes on doesn't help another.
        let mut other = watched(&watch, Body::from(vec![0; 10 * PIECE_BYTES]));
        for _ in 0..2 {
            give(&mut other).await;
            pass(14).await;
        }
        assert_eq!(patience(&watch).await, (End::Stuck, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_messages_is_not_stuck() {
        let watch = Watch::new();
        let first = stream::iter([Ok::<_, Infallible>("first")]);
        let mut body =
            watched(&watch, Body::from_stream(futures_util::StreamExt::chain(first, stream::pending())));
        assert_eq!(give(&mut body).await, 5);
        assert!(give(&mut body).now_or_never().is_none());
        assert!(tokio::time::timeout(Duration::from_secs(300), watch.patience()).await.is_err());
    }

    #[tokio::test]
    async fn the_last_piece_does_not_hold_the_whole() {
        let watch = Watch::new();
        let whole = Bytes::from(vec![0; PIECE_BYTES + 1]);
        let mut body = watched(&watch, Body::from(whole.clone()));
        assert_eq!(body.size_hint().exact(), Some(PIECE_BYTES as u64 + 1));
        give(&mut body).await;
        assert_eq!(body.size_hint().exact(), Some(1));
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        drop(body);
        assert!(whole.is_unique() && frame.is_some());
    }
}
