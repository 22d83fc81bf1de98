//! Responses: bodies, problems, cursors, and the head of a response that is written by hand.

use std::{panic::AssertUnwindSafe, time::SystemTime};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header},
};
use futures_util::FutureExt;
use tailwire_model::{Cursor, Durability, Filter, Keep, Principal, Rule};
use tailwire_wire::{Code, Problem, narrowed, page, problem};

use super::coding;

/// On every reply that has a cursor.
pub(crate) const TAILWIRE_CURSOR: HeaderName = HeaderName::from_static("tailwire-cursor");
/// What patterns were narrowed to.
const TAILWIRE_NARROWED: HeaderName = HeaderName::from_static("tailwire-narrowed");
/// The type of a message whose body is served as something else.
pub(crate) const TAILWIRE_TYPE: HeaderName = HeaderName::from_static("tailwire-type");
/// A message's metadata as headers.
pub(crate) const TAILWIRE_TOPIC: HeaderName = HeaderName::from_static("tailwire-topic");
/// See [`TAILWIRE_TOPIC`].
pub(crate) const TAILWIRE_TIME: HeaderName = HeaderName::from_static("tailwire-time");
/// See [`TAILWIRE_TOPIC`].
pub(crate) const TAILWIRE_EVENT: HeaderName = HeaderName::from_static("tailwire-event");
/// See [`TAILWIRE_TOPIC`].
pub(crate) const TAILWIRE_KEY: HeaderName = HeaderName::from_static("tailwire-key");
/// See [`TAILWIRE_TOPIC`].
pub(crate) const TAILWIRE_MAX_AGE: HeaderName = HeaderName::from_static("tailwire-max-age");
/// On the message that says of a key that it is deleted.
pub(crate) const TAILWIRE_DELETED: HeaderName = HeaderName::from_static("tailwire-deleted");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// On the answer to a retry.
pub(crate) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
pub(crate) const NO_CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response with a body of this type.
pub(crate) fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    // Most bodies have content that somebody published.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The answer to a request that was done and has no content.
pub(crate) fn done() -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Cache rules for stored messages of a topic (RFC 9111 §5.2, RFC 8246). They never change, but they go: a shared
/// cache may give them for as long as the topic's bound on age lets them stay, and not at all where newer messages take
/// their place, or where they are never stored.
pub(crate) fn immutable(rule: &Rule, principal: &Principal, ms_max: u64) -> HeaderValue {
    // A principal's messages are not for all who share a cache.
    if !principal.is_anonymous() || rule.keep != Keep::All || rule.durability == Durability::Memory {
        return NO_CACHE;
    }
    let max_age_ms = rule.max_age_ms.map_or(ms_max, |ms| ms.min(ms_max));
    if max_age_ms < 1000 {
        return NO_CACHE;
    }
    ascii(format!("public, max-age={}, immutable", max_age_ms / 1000).as_bytes())
}

/// What caches may do with what changes: give it for so long, and for as long again while they ask for a newer one
/// (RFC 5861 §3).
pub(crate) fn revalidated(ms: u64) -> HeaderValue {
    match ms / 1000 {
        0 => NO_CACHE,
        s => ascii(format!("public, max-age={s}, stale-while-revalidate={s}").as_bytes()),
    }
}

/// A problem as a response (RFC 9457 §3).
pub(crate) fn refuse(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    tracing::debug!(code = problem.code.as_str(), detail = problem.detail.as_deref(), "a request is refused");
    let mut response = reply(status, HeaderValue::from_static(problem::MEDIA_TYPE), problem.body());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    if let Some(retry_after_ms) = problem.retry_after_ms() {
        headers.insert(header::RETRY_AFTER, seconds(retry_after_ms));
    }
    if let Some(policy) = problem.members.as_ref().and_then(|members| members.policy) {
        let retry_after_ms = problem.retry_after_ms().unwrap_or_default();
        headers.insert(RATELIMIT_POLICY, ascii(policy.policy_field().as_bytes()));
        headers.insert(RATELIMIT, ascii(policy.limit_field(retry_after_ms).as_bytes()));
    }
    if problem.code == Code::CodingUnknown {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED));
    }
    if let Some(cursor) = problem.members.as_ref().and_then(|members| members.cursor) {
        set_cursor(headers, cursor);
    }
    response
}

/// The answer of a handler. A panic becomes a 500 of this request alone.
pub(crate) fn caught<T: From<Response<Body>>>(answer: impl Future<Output = T>) -> impl Future<Output = T> {
    // Not an async fn, which would hold the answer twice.
    let caught = AssertUnwindSafe(answer).catch_unwind();
    caught.map(|answer| answer.unwrap_or_else(|_| refuse(&Problem::new(Code::Internal)).into()))
}

/// The resource has other methods (RFC 9110 §15.5.6).
pub(crate) fn not_allowed(methods: &'static str, hint: Option<&'static str>) -> Response<Body> {
    let detail = hint.map_or(String::new(), |hint| format!("; {hint}"));
    let detail = format!("this resource has {methods}{detail}");
    let mut response = refuse(&Problem::detailed(Code::MethodNotAllowed, detail));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// The answer to `OPTIONS` (RFC 9110 §9.3.7).
pub(crate) fn allowed(methods: &'static str) -> Response<Body> {
    let mut response = done();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// A response's head has no more bytes: proxies give a head 4 KB of room, and answer 502 beyond.
pub(crate) const HEAD_BYTES_MAX: usize = 4000;
/// The parts of a head beside the headers of its handler: the status line, the date, the length, what CORS says.
pub(crate) const HEAD_BYTES_OTHERS: usize = 800;

/// The bytes of headers in a head.
pub(crate) fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| line_bytes(name.as_str(), value.len())).sum()
}

/// The bytes of a header in a head.
pub(crate) const fn line_bytes(name: &str, value: usize) -> usize {
    name.len() + value + ": \r\n".len()
}

/// Says where the next page is, unless that takes too much room: then the client makes its URL of the cursor.
pub(crate) fn set_next(headers: &mut HeaderMap, target: &str) {
    add_link(headers, "next", target);
}

/// Says where another document is, of this relation to it, unless that takes too much room.
pub(crate) fn add_link(headers: &mut HeaderMap, rel: &str, target: &str) {
    let link = page::link_header(rel, target);
    if head_bytes(headers) + line_bytes("link", link.len()) + HEAD_BYTES_OTHERS <= HEAD_BYTES_MAX {
        headers.append(header::LINK, ascii(link.as_bytes()));
    }
}

/// Tells what patterns were narrowed to, if they were, as far as the head has room.
pub(crate) fn set_narrowed(headers: &mut HeaderMap, permitted: Option<&Filter>) {
    if let Some(permitted) = permitted {
        let room = HEAD_BYTES_MAX.saturating_sub(HEAD_BYTES_OTHERS + head_bytes(headers));
        headers.insert(TAILWIRE_NARROWED, ascii(narrowed::header(permitted, room).as_bytes()));
    }
}

pub(crate) fn set_cursor(headers: &mut HeaderMap, cursor: Cursor) {
    headers.insert(TAILWIRE_CURSOR, ascii(&cursor.to_ascii()));
}

/// Says that an answer depends on headers of the request (RFC 9110 §12.5.5): in one line, since caches before nginx 1.23 heed
/// only the last.
pub(crate) fn vary_by(headers: &mut HeaderMap, names: &'static str) {
    let value = match headers.get(header::VARY).and_then(|before| before.to_str().ok()) {
        Some(before) => ascii(format!("{before}, {names}").as_bytes()),
        None => HeaderValue::from_static(names),
    };
    headers.insert(header::VARY, value);
}

/// A time in whole seconds, rounded up (RFC 9110 §10.2.3).
pub(crate) fn seconds(ms: u64) -> HeaderValue {
    HeaderValue::from(ms.div_ceil(1000))
}

/// A value that is known to be visible ASCII.
pub(crate) fn ascii(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The head of a response as on the wire (RFC 9112 §4), for a socket that hyper no longer has.
pub(crate) fn head(response: &Response<()>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(if response.version() == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(response.status().canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// A response as on the wire.
pub(crate) fn whole(response: Response<()>, body: &[u8]) -> Vec<u8> {
    let mut out = head(&with_length(response, body.len()));
    out.extend_from_slice(body);
    out
}

/// Says how long the body is (RFC 9112 §6.3); two kinds of responses have none, and need not say so.
pub(crate) fn with_length(mut response: Response<()>, bytes: usize) -> Response<()> {
    if !matches!(response.status().as_u16(), 204 | 304) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    response
}

#[cfg(test)]
mod tests {
    use tailwire_model::limits::{ARCHIVE_CACHE_MS_MAX, CACHE_MS_MAX};

    use super::*;

    #[test]
    fn shared_caches_keep_no_more_than_the_topic_does() {
        let check = |rule: Rule, expect: &str| {
            assert_eq!(immutable(&rule, &Principal::ANONYMOUS, CACHE_MS_MAX), expect, "{rule:?}");
        };
        let left = |ms| immutable(&Rule::default(), &Principal::ANONYMOUS, ms);
        assert_eq!(left(61_500), "public, max-age=61, immutable");
        assert_eq!(left(999), "private, no-cache");
        let aged = |ms| Rule { max_age_ms: Some(ms), ..Rule::default() };
        check(Rule::default(), "public, max-age=3600, immutable");
        check(aged(3_600_001), "public, max-age=3600, immutable");
        check(aged(59_999), "public, max-age=59, immutable");
        check(Rule { keep: Keep::Compact, ..Rule::default() }, "private, no-cache");
        check(Rule { keep: Keep::Last, ..aged(1000) }, "private, no-cache");
        check(Rule { durability: Durability::Memory, ..Rule::default() }, "private, no-cache");
        check(Rule { durability: Durability::Relaxed, ..Rule::default() }, "public, max-age=3600, immutable");
        let archive = immutable(&Rule::default(), &Principal::ANONYMOUS, ARCHIVE_CACHE_MS_MAX);
        assert_eq!(archive, "public, max-age=31536000, immutable");
        assert_eq!(revalidated(999), "private, no-cache");
        assert_eq!(revalidated(6000), "public, max-age=6, stale-while-revalidate=6");
    }
}
