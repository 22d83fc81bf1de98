//! A native `EventSource` stops for good at any status but 200. One that is to come back is told so by a stream that ends.

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use tailwire_model::ByeReason;
use tailwire_wire::{Code, Problem, sse};

use super::reply::{NO_STORE, reply};

pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Whether a request may be that of an `EventSource`.
pub(crate) fn asks<T>(request: &Request<T>) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut formats = request.uri().query().unwrap_or("").split('&');
    accepts.is_some_and(|accepts| accepts.contains(EVENT_STREAM)) || formats.any(|it| it == "format=sse")
}

/// The stream in place of a refusal that a client can do nothing about but come back: its credential has just run out, and the
/// page may be about to replace the cookie; or it has asked for more than its limit.
pub(crate) fn goodbye(problem: &Problem) -> Option<Response<Body>> {
    let reason = match problem.code {
        Code::TokenExpired => ByeReason::Expired,
        Code::RateLimited => ByeReason::Limited,
        _ => return None,
    };
    let mut body = Vec::new();
    sse::bye(reason, problem.retry_after_ms()?, &mut body);
    Some(stream(body))
}

/// A stream that is over.
pub(crate) fn stream(body: impl Into<Body>) -> Response<Body> {
    let mut response = reply(StatusCode::OK, HeaderValue::from_static(EVENT_STREAM), body);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}
