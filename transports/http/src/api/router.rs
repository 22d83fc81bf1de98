//! Which resource a request is for. Methods are told apart here, so that a wrong one is answered with those that there
//! are; names in paths are decoded by the pure rules, not by the router.

use std::{future::ready, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, Response},
    routing::{any, get},
};
use futures_util::{FutureExt, future::BoxFuture};
use tailwire_wire::{Code, Problem, Resource, path, publish::Target};
use tower::ServiceExt;

use super::{
    app::App,
    client,
    guard::{self, Cors},
    options, publish, read,
    reply::{caught, not_allowed, refuse},
    resources,
};
use crate::connection::takeover::Slot;

/// How a handler that writes its own head gets it back to whoever asked.
pub(crate) struct Via {
    /// Where it can have the connection, if that is plain HTTP/1.1.
    pub(crate) slot: Option<Slot>,
    /// What the guard would have added to the head.
    pub(crate) cors: Cors,
}

/// The whole API.
pub(crate) struct Routes {
    app: Arc<App>,
    others: Router,
}

impl Routes {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let others = others(app.clone());
        Self { app, others }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request, slot: Option<Slot>) -> Response<Body> {
        caught(guard::guard(&self.app, request, |request, cors| self.dispatch(request, Via { slot, cors })))
            .await
    }

    /// Does for a response what `answer` would have done, where its connection was taken away meanwhile.
    pub(crate) fn finish(&self, response: &mut Response<Body>, cors: &Cors) {
        guard::finish(&self.app, response, cors);
    }

    /// Counts a response that needed nothing else.
    pub(crate) fn count(&self, status: u16) {
        self.app.metrics.responded(status);
    }

    /// Publishing and reading come by here without the router, whose parameters and boxes cost a publish a tenth of its
    /// time. Each handler has a box of its own size: a publish must not pay for what a long-poll remembers.
    fn dispatch(&self, request: Request, via: Via) -> BoxFuture<'_, Response<Body>> {
        let path = request.uri().path();
        if path.starts_with(TOPICS) {
            topic(&self.app, request, via)
        } else if path == "/stream" {
            stream(&self.app, request, via)
        } else {
            let answer = self.others.clone().oneshot(request);
            Box::pin(answer.map(|answer| answer.unwrap_or_else(|never| match never {})))
        }
    }
}

const TOPICS: &str = "/topics/";

fn others(app: Arc<App>) -> Router {
    Router::new()
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
        .with_state(app)
}

fn topic(app: &Arc<App>, request: Request, via: Via) -> BoxFuture<'_, Response<Body>> {
    let raw = request.uri().path().strip_prefix(TOPICS).unwrap_or("");
    match *request.method() {
        Method::GET | Method::HEAD => match path::term(raw) {
            Ok(term) => Box::pin(read::read(app, Resource::Term(term), request, via)),
            Err(problem) => at_once(refuse(&problem)),
        },
        Method::POST => match path::topic(raw) {
            Ok(topic) => Box::pin(publish::post(app, Target::Topic(topic), request)),
            Err(problem) => at_once(refuse(&problem)),
        },
        Method::DELETE => match path::topic(raw) {
            Ok(topic) => Box::pin(publish::delete(app, topic)),
            Err(problem) => at_once(refuse(&problem)),
        },
        _ if path::topic(raw).is_ok() => at_once(not_allowed("GET, HEAD, POST, DELETE")),
        // A pattern can be read, and nothing else.
        _ => at_once(not_allowed("GET, HEAD")),
    }
}

fn stream(app: &Arc<App>, request: Request, via: Via) -> BoxFuture<'_, Response<Body>> {
    match *request.method() {
        Method::GET | Method::HEAD => Box::pin(read::read(app, Resource::Stream, request, via)),
        Method::POST => Box::pin(publish::post(app, Target::Stream, request)),
        _ => at_once(not_allowed("GET, HEAD, POST")),
    }
}

fn at_once(response: Response<Body>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(ready(response))
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
