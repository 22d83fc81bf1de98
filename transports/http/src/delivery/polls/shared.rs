//! The answer of a group of long-polls: made once, and written down once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::Body,
    http::{Response, StatusCode, response::Parts},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;

use crate::{
    api::{guard::Cors, reply::whole},
    connection::pinned::Common,
};

/// The answer to a request.
pub(crate) enum Reply {
    /// By itself.
    Own(Response<Body>),
    /// With others.
    Shared(Arc<SharedResponse>),
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
    wire: OnceLock<Arc<Common>>,
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
            Self::Shared(shared) => shared.response().map(Body::from),
        }
    }
}

impl SharedResponse {
    /// `None` where there is nothing: each waiter answers that by itself, with a time of its own to come back after.
    pub(super) fn new(Looked { response, messages }: Looked) -> Option<Self> {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::ACCEPTED {
            return None;
        }
        let body = body.collect().now_or_never()?.ok()?.to_bytes();
        Some(Self { head, body, messages, wire: OnceLock::new(), is_counted: AtomicBool::new(false) })
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

    /// The response, without the CORS fields of each request.
    pub(crate) fn response(&self) -> Response<Bytes> {
        Response::from_parts(self.head.clone(), self.body.clone())
    }

    /// As on the wire, of HTTP/1.1 on a connection that goes on. All of a group have the same CORS fields.
    pub(crate) fn wire(&self, cors: &Cors) -> &Arc<Common> {
        self.wire.get_or_init(|| {
            let mut head = Response::from_parts(self.head.clone(), ());
            cors.apply(head.headers_mut());
            Arc::new(Common::new(whole(head, &self.body)))
        })
    }
}
