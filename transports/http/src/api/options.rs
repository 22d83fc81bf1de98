//! `/options`: what is kept of a topic or of all topics of a pattern, for how long, and how surely. What the members
//! mean, and how they are written, is known elsewhere.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, Response, StatusCode, Uri, header},
};
use tailwire_core::Principal;
use tailwire_model::{Options, Term, limits::OPTIONS_BYTES_MAX};
use tailwire_wire::{Problem, options};

use super::{
    app::App,
    publish::receive,
    reply::{JSON, NO_CACHE, NO_STORE, done, not_allowed, refuse, reply},
};

/// `GET /options`
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    told(app.all_options(&Principal::ANONYMOUS), NO_CACHE)
}

/// `/options/{term}`
pub(crate) async fn term(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let answer = match *request.method() {
        Method::GET | Method::HEAD => get(&app, request.uri()),
        Method::PUT => put(&app, request).await,
        Method::DELETE => delete(&app, request.uri()).await,
        _ => return not_allowed("GET, HEAD, PUT, DELETE"),
    };
    answer.unwrap_or_else(|problem| refuse(&problem))
}

fn get(app: &App, uri: &Uri) -> Result<Response<Body>, Problem> {
    let body = app.options(&Principal::ANONYMOUS, &named(uri)?)?;
    Ok(told(body, NO_CACHE))
}

async fn put(app: &App, request: Request) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let term = named(&parts.uri)?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let body = receive(&parts.headers, body, OPTIONS_BYTES_MAX).await?;
    let options = options::parse(&term, content_type, &body)?;
    let body = app.set_options(&Principal::ANONYMOUS, term, options).await?;
    Ok(told(body, NO_STORE))
}

async fn delete(app: &App, uri: &Uri) -> Result<Response<Body>, Problem> {
    let term = named(uri)?;
    app.set_options(&Principal::ANONYMOUS, term, Options::default()).await?;
    Ok(done())
}

fn named(uri: &Uri) -> Result<Term, Problem> {
    options::term(uri.path().strip_prefix("/options/").unwrap_or(""))
}

fn told(body: Vec<u8>, caching: HeaderValue) -> Response<Body> {
    let mut response = reply(StatusCode::OK, JSON, body);
    response.headers_mut().insert(header::CACHE_CONTROL, caching);
    response
}
