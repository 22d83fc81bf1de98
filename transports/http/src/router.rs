//! Which resource a request is for. Methods are told apart here, so that a wrong one is answered with those that there
//! are; names in paths are decoded by the pure rules, not by the router.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, Response},
    middleware,
    routing::{any, get},
};
use tailwire_wire::{Code, Problem, Resource, path, publish::Target};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    api::App,
    client, guard, options, publish, read,
    reply::{not_allowed, refuse},
    resources,
};

/// The whole API.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/topics/{*name}", any(topic))
        .route("/topics/", any(topic))
        .route("/stream", any(stream))
        .route("/topics", get(resources::topics).fallback(only_get))
        .route("/options/{*name}", any(options::term))
        .route("/options/", any(options::term))
        .route("/options", get(options::list).fallback(only_get))
        .route("/messages/{cursor}", get(resources::message).fallback(only_get))
        .route("/healthz", get(resources::healthz).fallback(only_get))
        .route("/readyz", get(resources::readyz).fallback(only_get))
        .route("/metrics", get(resources::metrics).fallback(only_get))
        .route("/openapi.json", get(resources::openapi).fallback(only_get))
        .route("/client.js", get(script).fallback(only_get))
        .route("/client.mjs", get(module).fallback(only_get))
        .route("/client-tabs.mjs", get(tabs).fallback(only_get))
        .route("/", get(resources::index).fallback(only_get))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(CatchPanicLayer::custom(|_| refuse(&Problem::new(Code::Internal))))
        .with_state(app)
}

async fn topic(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let raw = request.uri().path().strip_prefix("/topics/").unwrap_or("").to_owned();
    match *request.method() {
        Method::GET | Method::HEAD => match path::term(&raw) {
            Ok(term) => read::read(&app, Resource::Term(term), request).await,
            Err(problem) => refuse(&problem),
        },
        Method::POST => match path::topic(&raw) {
            Ok(topic) => publish::post(&app, Target::Topic(topic), request).await,
            Err(problem) => refuse(&problem),
        },
        Method::DELETE => match path::topic(&raw) {
            Ok(topic) => publish::delete(&app, topic).await,
            Err(problem) => refuse(&problem),
        },
        _ if path::topic(&raw).is_ok() => not_allowed("GET, HEAD, POST, DELETE"),
        // A pattern can be read, and nothing else.
        _ => not_allowed("GET, HEAD"),
    }
}

async fn stream(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match *request.method() {
        Method::GET | Method::HEAD => read::read(&app, Resource::Stream, request).await,
        Method::POST => publish::post(&app, Target::Stream, request).await,
        _ => not_allowed("GET, HEAD, POST"),
    }
}

async fn script(headers: HeaderMap) -> Response<Body> {
    client::SCRIPT.answer(&headers)
}

async fn module(headers: HeaderMap) -> Response<Body> {
    client::MODULE.answer(&headers)
}

async fn tabs(headers: HeaderMap) -> Response<Body> {
    client::TABS.answer(&headers)
}

async fn only_get() -> Response<Body> {
    not_allowed("GET, HEAD")
}

async fn nothing() -> Response<Body> {
    refuse(&Problem::new(Code::NotFound))
}
