//! `GET` and `HEAD` on a topic, a pattern or `/stream`: one resource, and the request says over which transport.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use tailwire_core::View;
use tailwire_model::{
    Cursor, Message, Principal,
    limits::{QUERY_BYTES_MAX, READ_AHEAD_MS_MAX},
    retry::{self, Poll},
};
use tailwire_wire::{
    Code, Problem, QueryStart, ReadRequest, Representation, Resource, negotiate, page, path,
    representation::{DocumentFormat, StreamFormat},
    request::Subscribe,
    time,
};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use super::{
    app::{App, read_problem},
    document::{apply_preference, document, response_of},
    event_source,
    guard::{self, Cors},
    metrics::Transport,
    pages::{PageReply, Subject},
    publish::{pairs, receive},
    reply::{
        HEAD_BYTES_MAX, HEAD_BYTES_OTHERS, NO_CACHE, NO_STORE, TAILWIRE_DELETED, TAILWIRE_EVENT,
        TAILWIRE_KEY, TAILWIRE_MAX_AGE, TAILWIRE_TIME, TAILWIRE_TOPIC, TAILWIRE_TYPE, add_link, ascii, empty,
        head, head_bytes, line_bytes, refuse, reply, seconds, set_cursor, set_narrowed, vary_by,
    },
    room::{admitted, counted},
    via::Via,
};
use crate::{
    connection::{
        exchange::{Deferred, Hijack},
        pinned::{Account, Pinned, Reserved},
    },
    delivery::{
        body,
        polls::{Looked, PollKey, Reply, Share, Waiter},
        shards::Job,
        stream::{self, Codec, EventStream},
    },
    limiter::Hold,
    websocket::{
        self,
        opening::{First, WebSocketOpening},
        subprotocols,
    },
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The wait of `EventSource` before it reconnects, before jitter.
const RETRY_MS: u64 = 2000;

/// Answers a `GET` or `HEAD`.
pub(crate) async fn read(app: &Arc<App>, resource: Resource, request: Request, via: Via) -> Response<Body> {
    let (request, _) = request.into_parts();
    let query = request.uri.query().map(Box::from);
    read_by(app, resource, query, request, via).await
}

/// Answers a `QUERY`: a `GET` whose query, or the end of it, is the body, for more topics than a URL holds.
pub(crate) async fn query(app: &Arc<App>, request: Request, via: Via) -> Response<Body> {
    let (mut request, body) = request.into_parts();
    let body = match receive(&request.headers, body, QUERY_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return refuse(&problem),
    };
    let Some(body) = std::str::from_utf8(&body).ok().filter(|_| is_form(&request.headers)) else {
        let detail = "the body of a QUERY is a query, as application/x-www-form-urlencoded";
        return refuse(&Problem::detailed(Code::MediaTypeInvalid, detail));
    };
    // It counts for a `GET` only.
    request.headers.remove(header::UPGRADE);
    let query = format!("{}&{}", request.uri.query().unwrap_or(""), body.trim());
    read_by(app, Resource::Stream, Some(query.trim_start_matches('&').into()), request, via).await
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

async fn read_by(
    app: &Arc<App>,
    resource: Resource,
    query: Option<Box<str>>,
    request: Parts,
    via: Via,
) -> Response<Body> {
    let is_head = request.method == Method::HEAD;
    let known = |name: &str| app.settings.subprotocols.iter().map(|own| own.name).find(|own| *own == name);
    let headers = pairs(&request.headers);
    let ask = negotiate::read_request(resource, query.as_deref(), is_head, headers, known);
    let ask = match ask {
        Ok(ask) => ask,
        Err(problem) => return refused(&problem, query.as_deref()),
    };
    let varies = ask.varies_by_accept;
    let result = match ask.representation {
        Representation::WebSocket { subprotocol } => websocket(app, ask, subprotocol, request, via).await,
        Representation::Stream(format) => stream(app, ask, format, request, via).await,
        Representation::Document { .. } | Representation::Raw { .. } => {
            // A poll may wait for long, and the buffer that its request came in need not.
            let waits = ask.representation.wait_ms() > 0;
            drop(request);
            let hold =
                if waits { app.hold_subscription(&via.principal, &via.account) } else { Ok(Hold::default()) };
            let hold = match hold {
                Ok(hold) => hold,
                Err(problem) => return answered(Err(problem), query.as_deref(), varies),
            };
            let cors = via.cors.clone();
            let mut answer = reply_to(app, ask, query, (via.principal, via.cors, via.account));
            if hold.is_counted() {
                let counted = answer;
                answer = Box::pin(async move {
                    let reply = counted.await;
                    drop(hold);
                    reply
                });
            }
            let reply = match via.exchange.filter(|_| waits) {
                Some(exchange) => {
                    let deferred = Deferred { answer, cors, entry: via.entry };
                    match exchange.defer(deferred).await {}
                }
                None => answer.await,
            };
            return reply.response();
        }
    };
    answered(result, query.as_deref(), varies)
}

/// The response that a result comes to.
fn answered(result: Result<Response<Body>, Problem>, query: Option<&str>, varies: bool) -> Response<Body> {
    let mut response = result.unwrap_or_else(|problem| refused(&problem, query));
    vary(response.headers_mut(), varies);
    response
}

fn vary(headers: &mut HeaderMap, varies: bool) {
    if varies {
        vary_by(headers, "accept");
    }
}

/// A request that is answered once, after a while: it owns all that it needs.
fn reply_to(
    app: &Arc<App>,
    ask: ReadRequest,
    query: Option<Box<str>>,
    (principal, cors, account): (Principal, Cors, Account),
) -> BoxFuture<'static, Reply> {
    let app = app.clone();
    match (ask.representation, ask.start, &ask.if_none_match) {
        // A cursor is the same place for all who name it.
        (Representation::Document { format, wait_ms: 1.. }, QueryStart::After(cursor), None) => {
            let key = Arc::new(PollKey {
                principal,
                filter: ask.filter.clone(),
                query,
                representation: ask.representation,
                varies_by_accept: ask.varies_by_accept,
                coding: ask.coding,
                cors,
            });
            let (gap, waiter) = (ask.gap, join(&app, key, ask));
            Box::pin(poll_with_others(app, waiter, format, cursor, gap))
        }
        _ => Box::pin(poll_alone(app, ask, query, principal, account).map(Reply::Own)),
    }
}

/// A request that doesn't wait is answered once there is room for the answer; for one that waits, the answer is counted
/// when it is there.
async fn poll_alone(
    app: Arc<App>,
    ask: ReadRequest,
    query: Option<Box<str>>,
    principal: Principal,
    account: Account,
) -> Response<Body> {
    let waits = ask.representation.wait_ms() > 0;
    let answer = look_alone(app, ask, query, principal, &account);
    if waits { counted(answer.await, Pinned::default()) } else { admitted(account.clone(), answer).await }
}

async fn look_alone(
    app: Arc<App>,
    ask: ReadRequest,
    query: Option<Box<str>>,
    principal: Principal,
    account: &Account,
) -> Response<Body> {
    let (varies, wait_ms) = (ask.varies_by_accept, ask.representation.wait_ms());
    let result = match ask.representation {
        Representation::Raw { .. } => raw(&app, &principal, ask, wait_ms).await,
        _ => {
            let transport = if wait_ms > 0 { Transport::LongPoll } else { Transport::Page };
            let connected = app.metrics.connected(transport);
            let result = document(&app, &principal, ask, query.as_deref(), (account, None)).await;
            let written = result.as_ref().ok().and_then(|(response, _)| response.body().size_hint().exact());
            connected.wrote(written.unwrap_or(0) as usize);
            result.map(|(response, _)| response)
        }
    };
    answered(result, query.as_deref(), varies)
}

fn join(app: &Arc<App>, key: Arc<PollKey>, ask: ReadRequest) -> Waiter {
    app.polls.join(key, |key, is_at_tail| {
        let (app, key) = (app.clone(), key.clone());
        async move {
            let query = key.query.as_deref();
            let room = (&Account::common(), Some(is_at_tail));
            let page = document(&app, &key.principal, ask, query, room).await;
            let messages = page.as_ref().map_or(0, |(_, messages)| *messages);
            let mut response = answered(page.map(|(response, _)| response), query, key.varies_by_accept);
            // A shared answer is counted once, when it is encoded.
            drop(Reserved::take(response.extensions_mut()));
            Looked { response, messages }
        }
    })
}

/// Those who wait together have each a time of their own to wait for, and to come back after.
async fn poll_with_others(
    app: Arc<App>,
    mut waiter: Waiter,
    format: &'static DocumentFormat,
    cursor: Cursor,
    gap: Option<Cursor>,
) -> Reply {
    let connected = app.metrics.connected(Transport::LongPoll);
    let deadline = Instant::now() + Duration::from_millis(waiter.key().representation.wait_ms());
    if let Some(shared) = waiter.until(deadline).await {
        connected.wrote(shared.body_bytes());
        app.broker.metrics().messages_out.inc_by(shared.uncounted() as u64);
        let PollKey { filter, representation, .. } = waiter.key();
        let retry_after_ms =
            if shared.has_hint() { app.retry_after_ms(filter, representation.wait_ms(), true) } else { 0 };
        return Reply::Shared(Share { response: shared, retry_after_s: retry_after_ms.div_ceil(1000) });
    }
    let PollKey { principal, filter, query, representation, varies_by_accept, .. } = waiter.key();
    let wait_ms = representation.wait_ms();
    let subject = Subject { filter, query: query.as_deref() };
    let made = app.empty_page(format, subject, cursor, gap, wait_ms).await;
    let response = made.map(|made| {
        connected.wrote(made.body.len());
        let reply = PageReply { made, room: None };
        let mut response = response_of(reply, format, query.as_deref(), NO_STORE, wait_ms);
        set_narrowed(response.headers_mut(), app.narrowed(principal, filter).as_ref());
        response
    });
    Reply::Own(answered(response, query.as_deref(), *varies_by_accept))
}

/// A problem; a gap says where to go on.
fn refused(problem: &Problem, query: Option<&str>) -> Response<Body> {
    let mut response = refuse(problem);
    if let Some(gap) = problem.members.as_ref().and_then(|members| members.gap) {
        let (rel, target) = page::link_past(query, &gap);
        add_link(response.headers_mut(), rel, &target);
        set_cursor(response.headers_mut(), gap.from);
    }
    if problem.code == Code::UpgradeRequired {
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// The newest message as itself; a hanging GET where `If-None-Match` names the one that the client has.
async fn raw(
    app: &Arc<App>,
    principal: &Principal,
    ask: ReadRequest,
    wait_ms: u64,
) -> Result<Response<Body>, Problem> {
    let seen = |cursor: Cursor| ask.if_none_match.as_ref().is_some_and(|tags| tags.matches(cursor));
    let message = app.newest(principal, ask.filter.clone(), seen, wait_ms).await?;
    let mut response = match &message {
        Some(message) if seen(message.cursor) => {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            tag(response.headers_mut(), message.cursor);
            response
        }
        Some(message) => as_itself(message),
        None => empty(StatusCode::ACCEPTED),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, if message.is_some() { NO_CACHE } else { NO_STORE });
    if message.is_none() {
        let draw = app.broker.clock().draw();
        let retry_after_ms = match wait_ms {
            0 => retry::spread(RETRY_MS, draw),
            _ => retry::retry_after_ms(&Poll { wait_ms, load: app.broker.load(), ..Poll::default() }, draw),
        };
        headers.insert(header::RETRY_AFTER, seconds(retry_after_ms));
    }
    set_narrowed(headers, app.narrowed(principal, &ask.filter).as_ref());
    apply_preference(headers, wait_ms);
    Ok(response)
}

/// A message never changes: its cursor is its tag, a strong one.
fn tag(headers: &mut HeaderMap, cursor: Cursor) {
    set_cursor(headers, cursor);
    headers.insert(header::ETAG, ascii(format!("\"{cursor}\"").as_bytes()));
}

/// A message as its own body. Any publisher may have made it: a browser must not run it in the broker's origin.
pub(crate) fn as_itself(message: &Message) -> Response<Body> {
    let draft = &message.draft;
    let declared = draft.media_type.as_str().unwrap_or("application/octet-stream");
    let served = if is_active(draft.media_type.essence()) { "application/octet-stream" } else { declared };
    let mut response = reply(StatusCode::OK, ascii(served.as_bytes()), draft.body.clone());
    let headers = response.headers_mut();
    tag(headers, message.cursor);
    headers.insert(TAILWIRE_TOPIC, ascii(encoded(message).as_bytes()));
    headers.insert(TAILWIRE_TIME, ascii(&time::rfc3339(message.time)));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'"),
    );
    if served != declared {
        headers.insert(TAILWIRE_TYPE, ascii(declared.as_bytes()));
    }
    let Some(extras) = &draft.extras else { return response };
    for (name, value) in [(TAILWIRE_EVENT, &extras.event), (TAILWIRE_KEY, &extras.key)] {
        if let Some(value) = value {
            headers.insert(name, ascii(value.as_bytes()));
        }
    }
    if let Some(max_age_ms) = extras.max_age_ms {
        headers.insert(TAILWIRE_MAX_AGE, HeaderValue::from(max_age_ms / 1000));
    }
    if extras.is_deletion {
        headers.insert(TAILWIRE_DELETED, HeaderValue::from_static("true"));
    }
    let mut left = HEAD_BYTES_MAX.saturating_sub(HEAD_BYTES_OTHERS + head_bytes(headers));
    for (name, value) in &extras.headers {
        let Ok(name) = HeaderName::try_from(format!("tailwire-header-{name}")) else { continue };
        match left.checked_sub(line_bytes(name.as_str(), value.len())) {
            Some(rest) => {
                left = rest;
                headers.append(name, ascii(value.as_bytes()));
            }
            // In a page it has them all.
            None => return response,
        }
    }
    response
}

/// A message's topic as it stands in a path: a name may have characters that a header can't.
fn encoded(message: &Message) -> String {
    let mut out = String::new();
    path::encode(message.topic().as_str(), &mut out);
    out
}

/// Types that a browser runs, or that carry what it runs.
fn is_active(essence: Option<&str>) -> bool {
    let essence = essence.unwrap_or("").to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    // Scripts have several names, all of which browsers still know (WHATWG MIME Sniffing §4.6).
    let scripts = ["javascript", "ecmascript", "jscript", "livescript", "vbscript"];
    let families = ["html", "xml", "svg", "css", "wasm", "pdf", "xslt", "mathml"];
    families.iter().chain(&scripts).any(|family| subtype.contains(family))
}

async fn stream(
    app: &Arc<App>,
    ask: ReadRequest,
    format: &'static StreamFormat,
    request: Parts,
    Via { principal, caller, exchange, cors, account, entry }: Via,
) -> Result<Response<Body>, Problem> {
    let is_head = request.method == Method::HEAD;
    let holds = if is_head {
        Ok(<(Hold, Hold)>::default())
    } else {
        app.hold_stream(&principal, &caller)
            .and_then(|stream| Ok((stream, app.hold_subscription(&principal, &account)?)))
    };
    let (hold, subscription) = match holds {
        Ok(holds) => holds,
        Err(problem) if format.is_event_source => {
            return event_source::goodbye(&problem).ok_or(problem);
        }
        Err(problem) => return Err(problem),
    };
    let codec = Codec { stream: format, chunked: exchange.is_some() && request.version == Version::HTTP_11 };
    let view = View::whole(codec.format() as usize).bounded(ask.bound);
    let mut reader = app.open(&principal, ask.filter, ask.start, ask.gap, view).await?;
    // A stream that meets damage has no word for it, and ends: a client that comes back to the place gets an error before there is a stream.
    if app.broker.has_met_damage() && !is_head {
        reader.read_ahead(Duration::from_millis(READ_AHEAD_MS_MAX)).await.map_err(read_problem)?;
    }
    let mut response = Response::new(());
    *response.version_mut() = request.version;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    set_cursor(headers, reader.cursor());
    set_narrowed(headers, reader.narrowed());
    if is_head {
        return Ok(response.map(|()| Body::empty()));
    }
    let retry_ms = retry::spread(RETRY_MS, app.broker.clock().draw());
    let shard = app.pick_shard();
    let Some(exchange) = exchange else {
        let stream = EventStream::new(codec, retry_ms, subscription);
        let body = body::endless(reader, shard, stream, app.metrics.clone(), hold);
        return Ok(response.map(|()| Body::from_stream(body)));
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if codec.chunked {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    vary(headers, ask.varies_by_accept);
    // A head that is written by hand doesn't pass the guard on its way out.
    guard::finish(&app.settings, &app.metrics, &mut response, &cors);
    let stream = EventStream::new(codec, retry_ms, subscription);
    entry.answered(response.status().as_u16());
    let (head, metrics) = (head(&response), app.metrics.clone());
    let start = stream::StreamStart { head, reader, stream, metrics, hold };
    match exchange.hijack(Hijack { job: Job::Stream(Box::new(start)), shard }).await {}
}

async fn websocket(
    app: &Arc<App>,
    ask: ReadRequest,
    subprotocol: Option<&'static str>,
    request: Parts,
    Via { principal, caller, exchange, cors, account, entry }: Via,
) -> Result<Response<Body>, Problem> {
    let Some(exchange) = exchange else {
        return Err(Problem::detailed(Code::HandshakeInvalid, "A WebSocket needs HTTP/1.1."));
    };
    let mut handshake = axum::http::Request::new(());
    *handshake.headers_mut() = request.headers.clone();
    // Negotiation has found both in their lists; what makes the response looks for them alone.
    handshake.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    handshake.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    *handshake.version_mut() = request.version;
    let mut response = create_response(&handshake)
        .map_err(|error| Problem::detailed(Code::HandshakeInvalid, error.to_string()))?;
    if let Some(name) = subprotocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    let subprotocol = subprotocols::entry(&app.settings.subprotocols, subprotocol);
    let (depth, bound) = (ask.depth, ask.bound);
    let hold = app.hold_stream(&principal, &caller)?;
    let subscription = if ask.filter.is_empty() {
        First::None
    } else {
        let ask = Subscribe { filter: ask.filter, start: ask.start, gap: ask.gap, bound };
        First::open(app, (&principal, &account), ask, &subprotocol).await?
    };
    if let First::Open(reader, _) = &subscription {
        set_cursor(response.headers_mut(), reader.cursor());
        set_narrowed(response.headers_mut(), reader.narrowed());
    }
    guard::finish(&app.settings, &app.metrics, &mut response, &cors);
    let shard = app.pick_shard();
    entry.answered(response.status().as_u16());
    let opening = WebSocketOpening { app: app.clone(), principal, account, subscription, depth, bound };
    let start = websocket::WebSocketStart { head: head(&response), subprotocol, opening, hold };
    match exchange.hijack(Hijack { job: Job::WebSocket(Box::new(start)), shard }).await {}
}
