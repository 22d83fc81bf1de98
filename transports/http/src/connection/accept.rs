//! The accept loop. Ours rather than `axum::serve`, for its limits and its drain, and because a connection that becomes a stream
//! leaves HTTP.

use std::{net::SocketAddr, pin::pin, time::Duration};

use tailwire_model::limits::PEER_GONE_MS;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    descriptors::Descriptors,
    http1,
    serving::{Acceptor, draining},
};

/// How long to wait when the system has no more sockets for us.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts until the server drains, then sees the open connections out.
pub(crate) async fn accept(listener: TcpListener, acceptor: Acceptor, mut descriptors: Descriptors) {
    let mut connections = JoinSet::new();
    let mut draining = pin!(draining(acceptor.phase.clone()));
    loop {
        let admitted = tokio::select! {
            biased;
            () = &mut draining => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => descriptors.retry(),
            // What leaves room may be anything, and says nothing.
            () = tokio::time::sleep(ACCEPT_BACKOFF), if descriptors.is_full() => descriptors.retry(),
            accepted = listener.accept(), if !descriptors.is_full() => match accepted {
                Ok((stream, peer)) => descriptors.admit(stream, peer),
                Err(error) => {
                    descriptors.failed(&error);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    None
                }
            },
        };
        if let Some((stream, peer)) = admitted {
            connections.spawn(serve(stream, peer, acceptor.clone()));
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, peer: SocketAddr, mut acceptor: Acceptor) {
    acceptor.routes.asked_by(peer.ip());
    match prepare(&stream) {
        Ok(()) => http1::connection::serve(stream.into(), acceptor).await,
        Err(error) => tracing::debug!(%peer, %error, "a connection was lost"),
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // A peer that is gone without a word is noticed when it doesn't acknowledge a heartbeat.
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_millis(PEER_GONE_MS)))?;
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}
