//! The body of a request on its way from a connection to the handler. The connection decodes a piece when the handler
//! asks for one, so that between them there is never more than that piece, and a handler that doesn't ask is a client
//! that isn't read from.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tailwire_wire::{Code, Problem};

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client sends nothing more.
    #[error("the body ended early")]
    Ended,
    /// Its framing is broken.
    #[error("the body is malformed")]
    Malformed,
    /// It came too slowly, for too long.
    #[error("the body came too slowly")]
    TooSlow,
    /// All that clients are sending left no room for it.
    #[error("there was no room for the body")]
    NoRoom,
}

impl BodyError {
    /// The error behind a body's error, wherever it is in the chain of its sources.
    pub(crate) fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let chain = std::iter::successors(Some(error), |error| error.source());
        chain.into_iter().find_map(|error| error.downcast_ref().copied())
    }

    /// The refusal as clients get it.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Ended => Problem::detailed(Code::RequestInvalid, "The body ended early."),
            Self::Malformed => Problem::detailed(Code::RequestInvalid, "The body is no chunked body."),
            Self::TooSlow => Problem::new(Code::Timeout),
            Self::NoRoom => Problem::new(Code::Overloaded).with_retry_after_ms(1000),
        }
    }
}

/// The connection's end.
pub(crate) struct Pipe(Arc<Mutex<Passing>>);

/// The handler's end.
pub(crate) struct IncomingBody(Arc<Mutex<Passing>>);

#[derive(Default)]
struct Passing {
    piece: Bytes,
    end: Option<Result<(), BodyError>>,
    /// The handler waits for a piece.
    is_wanted: bool,
    /// It has no use for the body, or has had all of it.
    is_unwanted: bool,
    waker: Option<Waker>,
    /// The bytes that are still to come, where that is known.
    left: Option<u64>,
}

/// A body that is yet to come, with its length where that is known.
pub(crate) fn pipe(length: Option<u64>) -> (Pipe, IncomingBody) {
    let passing = Arc::new(Mutex::new(Passing { left: length, ..Passing::default() }));
    (Pipe(passing.clone()), IncomingBody(passing))
}

impl Pipe {
    /// Whether the handler waits for a piece.
    pub(crate) fn is_wanted(&self) -> bool {
        let passing = self.0.lock();
        passing.is_wanted && passing.end.is_none() && !passing.is_unwanted
    }

    /// Gives a piece.
    pub(crate) fn give(&self, piece: Bytes, cx: &Context<'_>) {
        let mut passing = self.0.lock();
        passing.is_wanted = false;
        passing.left = passing.left.map(|left| left.saturating_sub(piece.len() as u64));
        passing.piece = piece;
        passing.wake(cx);
    }

    /// Says that nothing more comes, and whether that is the body's end.
    pub(crate) fn end(&self, end: Result<(), BodyError>, cx: &Context<'_>) {
        let mut passing = self.0.lock();
        passing.end.get_or_insert(end);
        passing.wake(cx);
    }
}

impl Passing {
    /// Wakes the handler, unless that is a part of the task that runs, which polls it next.
    fn wake(&mut self, cx: &Context<'_>) {
        if let Some(waker) = self.waker.take().filter(|waker| !waker.will_wake(cx.waker())) {
            waker.wake();
        }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut passing = self.0.lock();
        if !passing.piece.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut passing.piece)))));
        }
        match passing.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                passing.is_wanted = true;
                passing.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let passing = self.0.lock();
        passing.piece.is_empty() && passing.end == Some(Ok(()))
    }

    fn size_hint(&self) -> SizeHint {
        let passing = self.0.lock();
        match passing.left {
            Some(left) => SizeHint::with_exact(left + passing.piece.len() as u64),
            None => SizeHint::default(),
        }
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        let mut passing = self.0.lock();
        passing.is_unwanted = true;
        passing.piece = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use axum::body;
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, Limited};

    use super::*;

    #[tokio::test]
    async fn a_piece_is_given_when_it_is_asked_for() {
        let (pipe, mut incoming) = pipe(Some(5));
        assert!(!pipe.is_wanted());
        assert!(incoming.frame().now_or_never().is_none());
        assert!(pipe.is_wanted());
        pipe.give(Bytes::from_static(b"one"), &Context::from_waker(Waker::noop()));
        assert!(!pipe.is_wanted());
        assert_eq!(incoming.size_hint().exact(), Some(5));
        assert_eq!(incoming.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        assert_eq!(incoming.size_hint().exact(), Some(2));
        assert!(incoming.frame().now_or_never().is_none());
        pipe.give(Bytes::from_static(b"23"), &Context::from_waker(Waker::noop()));
        pipe.end(Ok(()), &Context::from_waker(Waker::noop()));
        assert_eq!(incoming.collect().await.unwrap().to_bytes(), "23");
        assert!(!pipe.is_wanted(), "nobody is there");
    }

    #[tokio::test]
    async fn what_went_wrong_is_found_behind_other_errors() {
        let (pipe, incoming) = pipe(None);
        pipe.end(Err(BodyError::TooSlow), &Context::from_waker(Waker::noop()));
        let error = Limited::new(body::Body::new(incoming), 10).collect().await.unwrap_err();
        assert_eq!(BodyError::find(&*error), Some(BodyError::TooSlow));
        assert_eq!(BodyError::TooSlow.problem().status(), 408);
    }
}
