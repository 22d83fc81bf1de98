//! The startup responder: answers while there is no broker yet, because its log takes long to open, or can't be before
//! the disk has room: that the process is up, and that all else has to wait. Nothing here knows a topic, or asks who may.

use std::{future::poll_fn, pin::pin, time::Duration};

use axum::{
    body::Body,
    http::{Method, Request, Response, StatusCode},
};
use tailwire_model::{
    limits::{STALL_CLOSE_MS, STORAGE_RETRY_MS},
    retry,
};
use tailwire_wire::{Code, Problem};
use tokio::task::JoinSet;

use super::{event_source, reply::refuse, resources::status};
use crate::connection::{
    accept::{ACCEPT_BACKOFF, ask_for_tls},
    budget::ReceiveBudget,
    http1::peer::{HeadWait, NextInput, Peer},
    listener::{Inbound, Listener, OpenedSocket, accept},
};

/// The thing that is waited for.
#[derive(Debug, Clone, Copy)]
pub enum WaitingFor {
    /// Room on the disk.
    Room,
    /// The log, which is being opened.
    Log,
}

impl WaitingFor {
    const fn problem(self) -> (Code, &'static str) {
        match self {
            Self::Room => (Code::StorageFull, "The broker can't open its log before there is room."),
            Self::Log => (Code::Starting, "The broker is opening its log."),
        }
    }
}

/// Answers on all listeners until something is ready.
pub async fn answer_until<T>(
    listeners: &[Listener],
    what: WaitingFor,
    random: fn() -> f64,
    ready: impl Future<Output = T>,
) -> T {
    let (mut connections, budget) = (JoinSet::new(), ReceiveBudget::new(None));
    let rules: Vec<_> = listeners.iter().map(Listener::rules_without_http2).collect();
    let mut next = 0;
    let mut ready = pin!(ready);
    loop {
        tokio::select! {
            biased;
            value = &mut ready => return value,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(listeners.iter(), &mut next) => match accepted {
                Ok(mut inbound) => {
                    inbound.source.rules.clone_from(&rules[inbound.source.listener]);
                    connections.spawn(serve(inbound, what, random, budget.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
        }
    }
}

/// One request a connection: the next one shall find the broker.
async fn serve(inbound: Inbound, what: WaitingFor, random: fn() -> f64, budget: ReceiveBudget) {
    let socket = match inbound.open(&budget, |_| Ok(())).await {
        OpenedSocket::Ready(socket, _) => socket,
        OpenedSocket::ClearText(socket) => return ask_for_tls(socket, &budget).await,
        OpenedSocket::Refused(..) | OpenedSocket::Lost => return,
    };
    let mut peer = Peer::new(socket, &budget);
    let mut wait = HeadWait::new(false);
    let (response, is_head) = match poll_fn(|cx| peer.poll_head(cx, &mut wait, |_| false)).await {
        NextInput::Request(head, _) => {
            let retry_ms = retry::spread(STORAGE_RETRY_MS, random());
            (answer(&head.request, what, retry_ms), head.request.method() == Method::HEAD)
        }
        NextInput::Refused(refusal) => (refuse(&refusal.problem()), false),
        NextInput::Http2 | NextInput::Over => return,
    };
    let _ =
        tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), peer.end_with(response, is_head)).await;
}

fn answer<T>(request: &Request<T>, what: WaitingFor, retry_ms: u64) -> Response<Body> {
    let (code, detail) = what.problem();
    match request.uri().path() {
        "/healthz" => status(StatusCode::OK, "ok"),
        "/readyz" => status(StatusCode::SERVICE_UNAVAILABLE, code.as_str()),
        _ if event_source::asks(request) => event_source::stream(format!("retry: {retry_ms}\n\n")),
        _ => refuse(&Problem::detailed(code, detail).with_retry_after_ms(retry_ms)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::header;

    use super::*;
    use crate::api::event_source::EVENT_STREAM;

    #[test]
    fn says_what_is_waited_for() {
        let ask = |path: &str, accept: &str, what| {
            let request = Request::builder().uri(path).header(header::ACCEPT, accept).body(()).unwrap();
            answer(&request, what, 1000).status().as_u16()
        };
        for (what, refused) in [(WaitingFor::Room, 507), (WaitingFor::Log, 503)] {
            assert_eq!(ask("/healthz", "*/*", what), 200);
            assert_eq!(ask("/readyz", "*/*", what), 503);
            assert_eq!(ask("/topics/a", "*/*", what), refused);
            assert_eq!(ask("/topics/a", EVENT_STREAM, what), 200);
            assert_eq!(ask("/topics/a?format=sse", "*/*", what), 200);
        }
    }
}
