//! The accept loop. Ours rather than `axum::serve`, for its limits and its drain, and because a connection that becomes a
//! stream leaves HTTP.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    descriptors::Descriptors,
    http1, http2,
    listener::{self, Inbound, Listener},
    serving::{Acceptor, draining},
};

/// How long to wait when the system has no more sockets for us.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts until the server drains, then sees the open connections out.
pub(crate) async fn accept(listeners: Vec<Listener>, acceptor: Acceptor, mut descriptors: Descriptors) {
    let mut connections = JoinSet::new();
    let mut draining = pin!(draining(acceptor.phase.clone()));
    let mut next = 0;
    loop {
        let admitted = tokio::select! {
            biased;
            () = &mut draining => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => descriptors.retry(),
            // Any event may free descriptors, without a notice.
            () = tokio::time::sleep(ACCEPT_BACKOFF), if descriptors.is_full() => descriptors.retry(),
            accepted = listener::accept(&listeners, &mut next), if !descriptors.is_full() => match accepted {
                Ok(inbound) => descriptors.admit(inbound),
                Err(error) => {
                    descriptors.failed(&error);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    None
                }
            },
        };
        if let Some(inbound) = admitted {
            connections.spawn(serve(inbound, acceptor.clone()));
        }
    }
    drop(listeners);
    while connections.join_next().await.is_some() {}
}

/// One connection. A handshake that a drain finds unfinished isn't waited for: nothing was asked yet.
async fn serve(inbound: Inbound, mut acceptor: Acceptor) {
    acceptor.routes.asked_by(inbound.source.peer.ip());
    let opened = tokio::select! {
        biased;
        opened = inbound.open(&acceptor.budget) => opened,
        () = draining(acceptor.phase.clone()) => None,
    };
    match opened {
        // Boxed, because it is large and rarer.
        Some(socket) if socket.is_http2() => Box::pin(http2::serve(socket, Bytes::new(), acceptor)).await,
        Some(socket) => http1::connection::serve(socket, acceptor).await,
        None => {}
    }
}
