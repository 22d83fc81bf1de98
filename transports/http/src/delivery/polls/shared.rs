//! The answer of a group of long-polls: made once, and written down once for all who come back after the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header, response::Parts},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::{
    api::{guard::Cors, reply::whole},
    connection::pinned::Common,
};

/// The answer to a request.
pub(crate) enum Reply {
    /// By itself.
    Own(Response<Body>),
    /// With others.
    Shared(Share),
}

/// What one of a group is given: the answer, and its own time to come back, since clients that were answered together are not
/// to come back together.
pub(crate) struct Share {
    pub(crate) response: Arc<SharedResponse>,
    /// `Retry-After` in seconds; zero where there is none.
    pub(crate) retry_after_s: u64,
}

/// A group's answer: a response whose body is there, and how many messages it has.
pub(crate) struct Looked {
    pub(crate) response: Response<Body>,
    pub(crate) messages: usize,
}

impl From<Response<Body>> for Looked {
    fn from(response: Response<Body>) -> Self {
        Self { response, messages: 0 }
    }
}

/// See the module.
pub(crate) struct SharedResponse {
    head: Parts,
    pub(super) body: Bytes,
    messages: usize,
    /// Whether it says when to come back, which each of the group has a time of its own for.
    has_hint: bool,
    /// As on the wire, by the seconds after which to come back: those are few.
    wires: Mutex<Vec<(u64, Arc<Common>)>>,
    /// Whether one of those who get it has counted its messages, as their reader has.
    is_counted: AtomicBool,
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Own(response)
    }
}

impl Reply {
    /// For a connection that writes it by itself.
    pub(crate) fn response(self) -> Response<Body> {
        match self {
            Self::Own(response) => response,
            Self::Shared(share) => share.response().map(Body::from),
        }
    }
}

impl Share {
    /// The response, without the CORS fields of each request.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let SharedResponse { head, body, .. } = &*self.response;
        let mut response = Response::from_parts(head.clone(), body.clone());
        if self.retry_after_s > 0 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        response
    }

    /// As on the wire, of HTTP/1.1 on a connection that goes on. All of a group have the same CORS fields.
    pub(crate) fn wire(&self, cors: &Cors) -> Arc<Common> {
        let mut wires = self.response.wires.lock();
        if let Some((_, wire)) = wires.iter().find(|(seconds, _)| *seconds == self.retry_after_s) {
            return wire.clone();
        }
        let (mut head, body) = self.response().into_parts();
        cors.apply(&mut head.headers);
        let wire = Arc::new(Common::new(whole(Response::from_parts(head, ()), &body)));
        wires.push((self.retry_after_s, wire.clone()));
        wire
    }
}

impl SharedResponse {
    /// `None` where there is nothing: each waiter answers that by itself, with a time of its own to come back after.
    pub(super) fn new(Looked { response, messages }: Looked) -> Option<Self> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::ACCEPTED {
            return None;
        }
        let body = body.collect().now_or_never()?.ok()?.to_bytes();
        let has_hint = head.status == StatusCode::OK && head.headers.remove(header::RETRY_AFTER).is_some();
        let (wires, is_counted) = (Mutex::default(), AtomicBool::new(false));
        Some(Self { head, body, messages, has_hint, wires, is_counted })
    }

    /// Whether each of the group is to be told when to come back.
    pub(crate) const fn has_hint(&self) -> bool {
        self.has_hint
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Messages that were handed out and that no reader counts: there was one for all.
    pub(crate) fn uncounted(&self) -> usize {
        if self.is_counted.swap(true, Ordering::Relaxed) { self.messages } else { 0 }
    }

    pub(crate) const fn body_bytes(&self) -> usize {
        self.body.len()
    }
}
