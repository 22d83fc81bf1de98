//! `POST` and `DELETE`: publishing, and removing a topic's messages.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tailwire_model::{Principal, Topic};
use tailwire_wire::{
    Code, Problem,
    publish::{self, Target},
};

use super::{
    app::{App, Published},
    coding::Codings,
    counted::kept_back,
    reference,
    reply::{IDEMPOTENCY_REPLAYED, JSON, NO_STORE, ascii, done, refuse, reply, set_cursor},
    via::Via,
};
use crate::connection::{body::BodyError, outgoing::keep};

/// `POST` on a topic or on `/stream`.
pub(crate) async fn post(app: &Arc<App>, target: Target, request: Request, via: Via) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match try_post(app, target, request, via).await {
        Ok(published) => created(published, &path),
        Err(problem) => refuse(&problem),
    }
}

async fn try_post(
    app: &Arc<App>,
    target: Target,
    request: Request,
    Via { principal, exchange, account, .. }: Via,
) -> Result<Published, Problem> {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let body = receive(&parts.headers, body, publish::body_bytes_max(content_type)).await?;
    let publish = publish::parse(target, parts.uri.query(), pairs(&parts.headers), body)?;
    let published = match app.publish(&principal, &account, publish) {
        Ok(published) => published,
        Err(problem) => return Err(Box::pin(kept_back(problem)).await),
    };
    // From here on publishes behind it can't overtake it.
    if let Some(exchange) = exchange {
        exchange.queued();
    }
    published.await
}

/// The whole body without its content codings, within a bound of size; its connection has the bounds of time and of memory. The
/// rest of one that is refused is the connection's, too.
pub(crate) async fn receive(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let codings = Codings::of(headers)?;
    let body = collect(headers, body, bytes_max).await?;
    if codings.is_none() {
        return Ok(body);
    }
    // Some milliseconds of a body that is large when decoded: not on a thread that serves.
    let decoded = tokio::task::spawn_blocking(move || codings.decode(&body, bytes_max));
    decoded.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal)))
}

/// The body as it comes.
async fn collect(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::detailed(Code::BodyTooLarge, format!("The body has more than {bytes_max} bytes."));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > bytes_max) {
        return Err(too_large());
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            // A message is kept in memory, and the buffer that its body was read into has 8 KB and more.
            Ok(keep(&body, &body))
        }
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(BodyError::find(&*error).unwrap_or(BodyError::Ended).problem()),
    }
}

/// Headers as the pure functions take them.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn created(published: Published, path: &str) -> Response<Body> {
    let Published { first, last, body, batch, replayed } = published;
    let mut response = reply(StatusCode::CREATED, JSON, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    set_cursor(headers, last);
    if !batch {
        let location = reference::from(path, &format!("messages/{first}"));
        headers.insert(header::LOCATION, ascii(location.as_bytes()));
    }
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// `DELETE` of a topic, or of one of its keys.
pub(crate) async fn delete(
    app: &App,
    topic: Topic,
    query: Option<String>,
    principal: Principal,
) -> Response<Body> {
    try_delete(app, topic, query.as_deref(), &principal).await.unwrap_or_else(|problem| refuse(&problem))
}

async fn try_delete(
    app: &App,
    topic: Topic,
    query: Option<&str>,
    principal: &Principal,
) -> Result<Response<Body>, Problem> {
    let Some(key) = publish::deleted_key(query)? else {
        app.delete(principal, topic).await?;
        return Ok(done());
    };
    let cursor = app.delete_key(principal, topic, key).await?;
    let mut response = done();
    set_cursor(response.headers_mut(), cursor);
    Ok(response)
}
