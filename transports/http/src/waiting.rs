//! Answers while there is no broker yet, because the disk has no room for its log to be opened: that the process is up, and
//! that all else has to wait. Nothing here knows a topic, or asks who may.

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tailwire_model::{
    limits::{REQUEST_HEAD_MS_MAX, STALL_CLOSE_MS, STORAGE_RETRY_MS},
    retry,
};
use tailwire_wire::{Code, Problem};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    accept::ACCEPT_BACKOFF,
    reply::{NO_STORE, refuse, reply},
    resources::status,
};

const EVENT_STREAM: &str = "text/event-stream";

/// Answers on a listener until something is ready.
pub async fn answer_until<T>(
    listener: &TcpListener,
    random: fn() -> f64,
    ready: impl Future<Output = T>,
) -> T {
    let mut connections = JoinSet::new();
    let mut ready = pin!(ready);
    loop {
        tokio::select! {
            biased;
            value = &mut ready => return value,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, random))),
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
        }
    }
}

/// One request a connection: the next one shall find the broker.
async fn serve(stream: TcpStream, random: fn() -> f64) {
    let service = service_fn(move |request: Request<Incoming>| async move {
        let retry_ms = retry::spread(STORAGE_RETRY_MS, random());
        Ok::<_, Infallible>(answer(&request, retry_ms))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(REQUEST_HEAD_MS_MAX));
    let connection = builder.keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), connection).await;
}

fn answer<T>(request: &Request<T>, retry_ms: u64) -> Response<Body> {
    match request.uri().path() {
        "/healthz" => status(StatusCode::OK, "ok"),
        "/readyz" => status(StatusCode::SERVICE_UNAVAILABLE, Code::StorageFull.as_str()),
        _ if is_event_source(request) => come_back(retry_ms),
        _ => {
            let detail = "The broker can't open its log before there is room.";
            refuse(&Problem::detailed(Code::StorageFull, detail).with_retry_after_ms(retry_ms))
        }
    }
}

fn is_event_source<T>(request: &Request<T>) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let formats = request.uri().query().unwrap_or("").split('&');
    accepts.is_some_and(|accepts| accepts.contains(EVENT_STREAM))
        || formats.into_iter().any(|it| it == "format=sse")
}

/// An `EventSource` would stop for good at any other status.
fn come_back(retry_ms: u64) -> Response<Body> {
    let content_type = HeaderValue::from_static(EVENT_STREAM);
    let mut response = reply(StatusCode::OK, content_type, format!("retry: {retry_ms}\n\n"));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}
