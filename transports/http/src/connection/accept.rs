//! The accept loop. Ours rather than `axum::serve`, for its limits and its drain, and because a connection that becomes a
//! stream leaves HTTP.

use std::{future::poll_fn, io::IoSlice, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Response, header};
use tailwire_model::limits::STALL_CLOSE_MS;
use tailwire_wire::{Code, Problem};
use tokio::task::JoinSet;

use super::{
    budget::ReceiveBudget,
    descriptors::Descriptors,
    http1::{self, peer::Peer},
    http2,
    listener::{self, Inbound, Listener, OpenedSocket},
    serving::{Acceptor, draining},
    socket::Socket,
};
use crate::api::reply::{refuse, whole};

/// How long to wait when the system has no more sockets for us.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A listener, and what its connections are served with.
pub(crate) struct Entrance {
    pub(crate) listener: Listener,
    pub(crate) acceptor: Acceptor,
}

/// Accepts until the server drains, then sees the open connections out.
pub(crate) async fn accept(entrances: Vec<Entrance>, mut descriptors: Descriptors) {
    let Some(first) = entrances.first() else { return };
    let mut connections = JoinSet::new();
    let mut draining = pin!(draining(first.acceptor.phase.clone()));
    let listeners = entrances.iter().map(|entrance| &entrance.listener);
    let mut next = 0;
    loop {
        let admitted = tokio::select! {
            biased;
            () = &mut draining => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => descriptors.retry(),
            // Any event may free descriptors, without a notice.
            () = tokio::time::sleep(ACCEPT_BACKOFF), if descriptors.is_full() => descriptors.retry(),
            accepted = listener::accept(listeners.clone(), &mut next), if !descriptors.is_full() => match accepted {
                Ok(inbound) => descriptors.admit(inbound),
                Err(error) => {
                    descriptors.failed(&error);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    None
                }
            },
        };
        if let Some(inbound) = admitted {
            let acceptor = entrances[inbound.source.listener].acceptor.clone();
            connections.spawn(serve(inbound, acceptor));
        }
    }
    drop(entrances);
    while connections.join_next().await.is_some() {}
}

/// One connection. A handshake that a drain finds unfinished isn't waited for: nothing was asked yet.
async fn serve(inbound: Inbound, mut acceptor: Acceptor) {
    let admit = |peer| acceptor.routes.admit_connection(peer);
    let opened = tokio::select! {
        biased;
        opened = inbound.open(&acceptor.budget, admit) => opened,
        () = draining(acceptor.phase.clone()) => OpenedSocket::Lost,
    };
    match opened {
        OpenedSocket::Ready(socket, remote) => {
            acceptor.routes.asked_by(remote);
            if socket.is_http2() {
                // Boxed, because it is large and rarer.
                Box::pin(http2::serve(socket, Bytes::new(), acceptor)).await;
            } else {
                http1::connection::serve(socket, acceptor).await;
            }
        }
        OpenedSocket::ClearText(socket) => ask_for_tls(socket, &acceptor.budget).await,
        OpenedSocket::Refused(socket, problem) => {
            acceptor.routes.count(problem.status());
            turn_away(&socket, &problem);
        }
        OpenedSocket::Lost => {}
    }
}

/// Tells a client at once that its connection is one too many, as far as it hears: nothing is kept for it.
fn turn_away(socket: &Socket, problem: &Problem) {
    let mut response = refuse(problem);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let (head, _) = response.into_parts();
    let answer = whole(Response::from_parts(head, ()), &problem.body());
    // What doesn't fit into the buffer of a socket that is new is lost, and the socket with it.
    let _ = socket.write_lent(&[IoSlice::new(&answer)]);
    let _ = poll_fn(|cx| socket.poll_end(cx)).now_or_never();
}

/// Tells a client that speaks clear text what is spoken there.
pub(crate) async fn ask_for_tls(socket: Socket, budget: &ReceiveBudget) {
    let detail = "This port speaks TLS: the URL begins with https://, or wss://.";
    let problem = Problem::detailed(Code::TlsRequired, detail);
    let refusal = Box::pin(Peer::new(socket, budget).end_with(refuse(&problem), false));
    let _ = tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), refusal).await;
}
