//! `/options`: what is kept of a topic or of all topics of a pattern, for how long, and how surely. What the members
//! mean, and how they are written, is known elsewhere.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, Response, StatusCode, Uri, header},
};
use tailwire_model::{Options, Principal, Term, limits::OPTIONS_BYTES_MAX};
use tailwire_wire::{Problem, options};

use super::{
    app::App,
    publish::receive,
    reply::{JSON, NO_CACHE, NO_STORE, done, refuse, reply},
};

/// `GET /options`
pub(crate) async fn list(app: &App, principal: &Principal) -> Response<Body> {
    let all = app.all_options(principal).await;
    all.map_or_else(|problem| refuse(&problem), |body| told(body, NO_CACHE))
}

/// `/options/{term}`
pub(crate) async fn term(app: &App, request: Request, principal: Principal) -> Response<Body> {
    let answer = match *request.method() {
        Method::PUT => put(app, request, &principal).await,
        Method::DELETE => delete(app, request.uri(), &principal).await,
        _ => get(app, request.uri(), &principal),
    };
    answer.unwrap_or_else(|problem| refuse(&problem))
}

fn get(app: &App, uri: &Uri, principal: &Principal) -> Result<Response<Body>, Problem> {
    let body = app.options(principal, &named(uri)?)?;
    Ok(told(body, NO_CACHE))
}

async fn put(app: &App, request: Request, principal: &Principal) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let term = named(&parts.uri)?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let body = receive(&parts.headers, body, OPTIONS_BYTES_MAX).await?;
    let options = options::parse(&term, content_type, &body)?;
    let body = app.set_options(principal, term, options).await?;
    Ok(told(body, NO_STORE))
}

async fn delete(app: &App, uri: &Uri, principal: &Principal) -> Result<Response<Body>, Problem> {
    let term = named(uri)?;
    app.set_options(principal, term, Options::default()).await?;
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
