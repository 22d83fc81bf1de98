//! The body of an HTTP/2 request, held to the bounds of what is being received: of memory, for all connections together,
//! and of time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tailwire_core::Timer;
use tailwire_model::limits::{DISCARD_QUIET_MS_MAX, RECEIVE_WAIT_MS_MAX};
use tokio::time::Instant;

use super::{
    body::BodyError,
    budget::{Charge, ReceiveBudget, ReceivePace},
};

/// State that outlasts a body that its handler has dropped, for as long as its request is being answered.
pub(crate) struct Remains<B> {
    /// The room of received bytes, until then.
    charge: Charge,
    /// The rest that nobody wants.
    pub(crate) rest: Option<B>,
}

/// See the module.
pub(crate) struct Metered<B: Body> {
    body: Option<B>,
    remains: Arc<Mutex<Remains<B>>>,
    pace: ReceivePace,
    timer: Timer,
    /// Since when there is no room for more.
    without_room: Option<Instant>,
}

impl<B> Remains<B> {
    pub(crate) fn new(budget: &ReceiveBudget) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { charge: budget.charge(), rest: None }))
    }
}

impl<B: Body> Metered<B> {
    pub(crate) fn new(body: B, remains: Arc<Mutex<Remains<B>>>) -> Self {
        Self {
            body: Some(body),
            remains,
            pace: ReceivePace::new(Instant::now()),
            timer: Timer::default(),
            without_room: None,
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if self.remains.lock().charge.poll_room(cx).is_ready() {
            self.without_room = None;
            return Poll::Ready(Ok(()));
        }
        let since = *self.without_room.get_or_insert_with(Instant::now);
        let deadline = since + Duration::from_millis(RECEIVE_WAIT_MS_MAX);
        self.timer.poll_until(cx, deadline).map(|()| Err(BodyError::NoRoom))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.poll_room(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            Poll::Pending => return Poll::Pending,
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    self.pace.add(bytes);
                    self.remains.lock().charge.add(bytes);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Ended)))
            }
            Poll::Pending => {
                let deadline = self.pace.deadline();
                self.timer.poll_until(cx, deadline).map(|()| Some(Err(BodyError::TooSlow)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body> Drop for Metered<B> {
    fn drop(&mut self) {
        self.remains.lock().rest = self.body.take().filter(|body| !body.is_end_stream());
    }
}

/// Keeps a stream open whose client is still sending what nobody wants: many take one that is reset for one without an
/// answer, though that came before (RFC 9113 §8.1). The client can't send more than its window.
pub(crate) async fn linger<B>(rest: B) {
    tokio::time::sleep(Duration::from_millis(DISCARD_QUIET_MS_MAX)).await;
    drop(rest);
}
