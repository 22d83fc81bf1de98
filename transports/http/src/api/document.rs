//! Documents: some messages of what is there, as a page or a feed, with the headers that say where to go on and what a
//! cache may keep.

use std::sync::{Arc, atomic::AtomicBool};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use tailwire_model::Principal;
use tailwire_wire::{
    Code, Problem, QueryStart, ReadRequest, Representation, page, representation::DocumentFormat,
    request::PageRequest,
};

use crate::connection::pinned::{Account, Reserved};

use super::{
    app::{App, PageReply},
    reply::{NO_CACHE, NO_STORE, ascii, immutable, reply, seconds, set_cursor, set_next},
};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The instance manipulation of the document (RFC 3229 §10.5.2).
const IM: HeaderName = HeaderName::from_static("im");

/// A page, and how many messages it has.
pub(super) async fn document(
    app: &Arc<App>,
    principal: &Principal,
    ask: ReadRequest,
    query: Option<&str>,
    (account, stands): (&Account, Option<Arc<AtomicBool>>),
) -> Result<(Response<Body>, usize), Problem> {
    let ReadRequest {
        filter,
        representation,
        start,
        gap,
        bound,
        limit,
        limit_in_url,
        if_none_match,
        delta_base,
        ..
    } = ask;
    let Representation::Document { format, wait_ms } = representation else {
        return Err(Problem::new(Code::Internal));
    };
    let topic = filter.only_topic().cloned();
    if let Some(base) = delta_base {
        let ask = PageRequest {
            filter: filter.clone(),
            start: QueryStart::After(base),
            gap,
            limit,
            bound,
            wait_ms,
        };
        // Where entries are gone that the client has not seen, it gets the whole document.
        if let Ok(reply) = app.page(principal, ask, format, query, (account, stands.clone())).await {
            return Ok(delta(reply, format, query, wait_ms));
        }
    }
    let ask = PageRequest { filter, start, gap, limit, bound, wait_ms };
    let reply = app.page(principal, ask, format, query, (account, stands)).await?;
    let messages = reply.messages;
    // A full page between two places stays what it is; any other is outdated by the next message.
    let settled = reply.more && limit_in_url && matches!(start, QueryStart::After(_));
    let caching = match (reply.retry_after_ms, topic) {
        (Some(_), _) => NO_STORE,
        (None, Some(topic)) if settled => immutable(&app.broker.rule(&topic), principal),
        (None, _) => NO_CACHE,
    };
    let is_known =
        reply.retry_after_ms.is_none() && if_none_match.is_some_and(|tags| tags.matches(reply.cursor));
    let mut response = response_of(reply, format, query, caching, wait_ms);
    if is_known {
        not_modified(&mut response);
    }
    Ok((response, messages))
}

/// Only the entries that the client has not got (RFC 3229 §10, with the instance manipulation `feed`), or that there are
/// none.
fn delta(
    found: PageReply,
    format: &DocumentFormat,
    query: Option<&str>,
    wait_ms: u64,
) -> (Response<Body>, usize) {
    let messages = found.messages;
    let mut response = response_of(found, format, query, NO_STORE, wait_ms);
    if messages == 0 {
        not_modified(&mut response);
    } else {
        *response.status_mut() = StatusCode::IM_USED;
        response.headers_mut().insert(IM, HeaderValue::from_static("feed"));
    }
    (response, messages)
}

fn not_modified(response: &mut Response<Body>) {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(header::CONTENT_TYPE);
    *response.body_mut() = Body::empty();
}

/// The answer of both kinds of polls, with messages or after a wait in vain.
pub(super) fn response_of(
    found: PageReply,
    format: &DocumentFormat,
    query: Option<&str>,
    caching: HeaderValue,
    wait_ms: u64,
) -> Response<Body> {
    let PageReply { body, cursor, retry_after_ms, gap, room, .. } = found;
    let status = if retry_after_ms.is_none() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = reply(status, HeaderValue::from_static(format.media_type), body);
    if let Some(room) = room {
        response.extensions_mut().insert(Reserved::new(room));
    }
    let headers = response.headers_mut();
    set_cursor(headers, cursor);
    set_next(headers, &page::link_next(query, cursor, gap));
    headers.insert(header::CACHE_CONTROL, caching);
    match retry_after_ms {
        Some(retry_after_ms) => headers.insert(header::RETRY_AFTER, seconds(retry_after_ms)),
        None => headers.insert(header::ETAG, ascii(format!("W/\"{cursor}\"").as_bytes())),
    };
    if format.is_feed {
        headers.append(header::VARY, HeaderValue::from_static("a-im"));
    }
    apply_preference(headers, wait_ms);
    response
}

/// Says how long a wait was granted (RFC 7240 §3).
pub(super) fn apply_preference(headers: &mut HeaderMap, wait_ms: u64) {
    if wait_ms > 0 {
        headers.insert(PREFERENCE_APPLIED, ascii(format!("wait={}", wait_ms / 1000).as_bytes()));
    }
}
