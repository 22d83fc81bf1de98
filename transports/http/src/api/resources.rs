//! The resources beside the topics: stored messages, the list of topics, health and metrics, and the page for people.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
};
use tailwire_core::order::Health;
use tailwire_model::{DataKind, Message, Principal, limits::CACHE_MS_MAX};
use tailwire_wire::{Code, Problem, coding::AcceptEncoding, etag::IfNoneMatch, page, path, query};

use super::{
    app::App,
    compress::set_coding,
    document::not_modified,
    exposition,
    pages::ends_of,
    read::as_itself,
    reply::{JSON, NO_CACHE, NO_STORE, ascii, done, immutable, refuse, reply, set_next, vary_by},
};

/// The page, built into the binary.
const PAGE: &str = include_str!("page/index.html");
/// The API's description, built in too.
const OPENAPI: &str = include_str!("openapi.json");
/// It runs its own script and style alone, by their digests, which `tests/blackbox/browser.test.mjs` holds to the page; it loads
/// nothing else, and talks to nobody but its own broker.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'sha256-DDa9fy+5cBVyzLwJvKQ3zd35Br9GTwQsASEB24xPMwg='; \
     style-src 'sha256-e6uAs8O+uWeRNG9hPTG85dixkFjz6r5Hq7BX3mDXDfY='; \
     connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET` and `DELETE /messages/{cursor}`
pub(crate) async fn message(app: &App, request: Request, principal: Principal) -> Response<Body> {
    let raw = request.uri().path().trim_start_matches("/messages/");
    let cursor = match path::cursor(raw) {
        Ok(cursor) => cursor,
        Err(problem) => return refuse(&problem),
    };
    if request.method() == Method::DELETE {
        return app.remove(&principal, cursor).await.map_or_else(|problem| refuse(&problem), |()| done());
    }
    let message = match app.message(&principal, cursor).await {
        Ok(message) => message,
        Err(problem) => return refuse(&problem),
    };
    let mut response = as_itself(&message);
    let ms_max = app.left_ms(ends_of(&message)).map_or(CACHE_MS_MAX, |left| left.min(CACHE_MS_MAX));
    let caching = immutable(&app.broker.rule(message.topic()), &principal, ms_max);
    response.headers_mut().insert(header::CACHE_CONTROL, caching);
    // Bytes that are no text are coded already, as a rule.
    if message.draft.media_type.data_kind() != DataKind::Binary {
        code(app, &message, request.headers(), &mut response).await;
    }
    if text(request.headers(), &header::IF_NONE_MATCH).any(|tags| IfNoneMatch::parse(tags).matches(cursor)) {
        not_modified(&mut response);
    }
    response
}

/// Puts the body into the coding that the client takes, where that is worth it.
async fn code(app: &App, message: &Message, headers: &HeaderMap, response: &mut Response<Body>) {
    let mut accept = AcceptEncoding::default();
    text(headers, &header::ACCEPT_ENCODING).for_each(|value| accept.hear(value));
    let coded = app.documents.message(message.cursor, &message.draft.body, accept.choose()).await;
    vary_by(response.headers_mut(), "accept-encoding");
    if let Some((body, coding)) = coded {
        set_coding(response.headers_mut(), coding);
        // Other bytes than those of the message (RFC 9110 §8.8.3.3).
        response.headers_mut().insert(header::ETAG, ascii(format!("W/\"{}\"", message.cursor).as_bytes()));
        *response.body_mut() = body.into();
    }
}

/// What a header says, in each line of it.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// A node that is behind by as much is better left for another: as long as a cursor is waited for.
const BEHIND_MS_MAX: u64 = 2_000;

/// `GET /topics`
pub(crate) async fn topics(app: &App, request: Request, principal: Principal) -> Response<Body> {
    let uri = request.uri();
    let ask = match query::topics(uri.query()) {
        Ok(ask) => ask,
        Err(problem) => return refuse(&problem),
    };
    let (body, next) = match app.topics(&principal, &ask).await {
        Ok(listed) => listed,
        Err(problem) => return refuse(&problem),
    };
    let mut response = reply(StatusCode::OK, JSON, body);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_CACHE);
    if let Some(next) = next {
        let target = page::link_next_topics(uri.query(), &next);
        set_next(response.headers_mut(), &target);
    }
    response
}

/// `GET /healthz`: the process is up.
pub(crate) fn healthz() -> Response<Body> {
    status(StatusCode::OK, "ok")
}

/// `GET /readyz`: it takes publishes.
pub(crate) fn readyz(app: &App) -> Response<Body> {
    if app.broker.is_draining() {
        return status(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    let unready = match app.broker.health() {
        Health::Good => None,
        Health::Behind(ms) if ms < BEHIND_MS_MAX => None,
        Health::Behind(ms) => {
            let body = format!("{{\"status\":\"behind\",\"behind_ms\":{ms}}}");
            return no_store(reply(StatusCode::SERVICE_UNAVAILABLE, JSON, body));
        }
        Health::Failing => Some("storage-failed"),
        Health::Detached => Some("detached"),
        Health::Misconfigured => Some("misconfigured"),
        Health::Diverged => Some("diverged"),
    };
    if let Some(word) = unready {
        return status(StatusCode::SERVICE_UNAVAILABLE, word);
    }
    if app.broker.is_full() {
        return status(StatusCode::SERVICE_UNAVAILABLE, "storage-full");
    }
    status(StatusCode::OK, "ready")
}

/// How the process is, in a word.
pub(crate) fn status(status: StatusCode, word: &str) -> Response<Body> {
    no_store(reply(status, JSON, format!("{{\"status\":\"{word}\"}}")))
}

fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// `GET /metrics`, in the text format that is asked for.
pub(crate) fn metrics(app: &App, headers: &HeaderMap) -> Response<Body> {
    let Ok(text) = app.metrics.text() else { return refuse(&Problem::new(Code::Internal)) };
    let accept = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let (media_type, text) = if exposition::takes_open_metrics(accept) {
        (exposition::OPEN_METRICS, text)
    } else {
        (exposition::TEXT, exposition::text(&text))
    };
    let mut response = reply(StatusCode::OK, HeaderValue::from_static(media_type), text);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /openapi.json`: this API, for programs.
pub(crate) fn openapi() -> Response<Body> {
    let mut response = reply(StatusCode::OK, JSON, OPENAPI);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_CACHE);
    response
}

/// `GET /`: the broker alive, for people.
pub(crate) fn index() -> Response<Body> {
    let mut response = reply(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), PAGE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    response
}
