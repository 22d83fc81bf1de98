//! The accept loop and the driver of one connection. Ours rather than `axum::serve`, for its time limits, and because a
//! connection whose handler hands it off ([`takeover`](super::takeover)) leaves hyper.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use tailwire_core::Timer;
use tailwire_model::limits::{PEER_GONE_MS, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_MS_MAX};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    descriptors::Descriptors,
    http2,
    plain::{Next, Plain},
    socket,
    takeover::{Handoff, Slot, Socket, Waiting},
};
use crate::{
    Phase,
    api::router::Routes,
    delivery::shards::{Delivery, Taken},
};

/// How an HTTP/2 connection begins (RFC 9113 §3.4); no method of HTTP/1.1 does.
const HTTP2_PREFACE: &[u8] = b"PRI";
/// How soon it is looked again at a client's first bytes, where these are too few to tell.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// How long to wait when the system has no more sockets for us.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) routes: Arc<Routes>,
    pub(crate) delivery: Delivery,
    /// How far the server is.
    pub(crate) phase: watch::Receiver<Phase>,
}

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

/// Ends when the server drains, or is gone.
pub(crate) async fn draining(mut phase: watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase >= Phase::Draining).await);
}

async fn serve(stream: TcpStream, peer: SocketAddr, acceptor: Acceptor) {
    if let Err(error) = prepare(&stream) {
        return tracing::debug!(%peer, %error, "a connection was lost");
    }
    let head_time = Duration::from_millis(REQUEST_HEAD_MS_MAX);
    let protocol = tokio::select! {
        protocol = tokio::time::timeout(head_time, protocol(&stream)) => protocol,
        () = draining(acceptor.phase.clone()) => return,
    };
    match protocol {
        // Boxed, because it is large and rare.
        Ok(Some(Protocol::Http2)) => Box::pin(http2::serve(stream, acceptor)).await,
        Ok(Some(Protocol::Http1)) => serve_http1(stream, acceptor).await,
        // It closed, or said too little in time.
        Ok(None) | Err(_) => {}
    }
}

enum Protocol {
    Http1,
    Http2,
}

/// What a client speaks, by its first bytes; `None` when it is gone.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    let mut start = [0; HTTP2_PREFACE.len()];
    loop {
        let count = stream.peek(&mut start).await.ok().filter(|count| *count > 0)?;
        let begun = &start[..count];
        if begun == HTTP2_PREFACE {
            return Some(Protocol::Http2);
        }
        if !HTTP2_PREFACE.starts_with(begun) {
            return Some(Protocol::Http1);
        }
        // A `P` can become either. The socket stays readable, so nothing tells when there is more.
        tokio::time::sleep(PREFACE_PAUSE).await;
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

/// A connection of HTTP/1.1, through all of its requests. hyper has it from one that is not plain up to one that waits.
async fn serve_http1(stream: TcpStream, acceptor: Acceptor) {
    let acceptor = &acceptor;
    let mut plain = Plain::new(stream, Bytes::new(), false, acceptor);
    let mut next = plain.serve(None).await;
    loop {
        match next {
            Some(Next::Hyper) => {}
            Some(Next::HandOver(handoff)) => return hand_over(plain, handoff, acceptor),
            None => return,
        }
        let slot = Slot::new(plain.used);
        let Some((stream, received)) = plain.into_parts() else { return };
        let socket = Socket::new(stream, received, slot.clone());
        // Boxed, because it is most of what there is, and gone while a request waits.
        let end = Box::pin(drive(socket, slot, acceptor)).await;
        let Some((stream, received, end)) = end else { return };
        plain = Plain::new(stream, received, true, acceptor);
        next = match end {
            End::Wait(waiting) => plain.serve(Some(waiting)).await,
            End::HandOver(handoff) => Some(Next::HandOver(handoff)),
        };
    }
}

/// Why a connection leaves hyper.
enum End {
    HandOver(Handoff),
    Wait(Waiting),
}

/// Has hyper serve a connection, until it ends, or somebody wants the socket: then it comes with what was read ahead.
async fn drive(socket: Socket, slot: Slot, acceptor: &Acceptor) -> Option<(TcpStream, Bytes, End)> {
    let routes = &acceptor.routes;
    let own = slot.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (routes, slot) = (routes.clone(), own.clone());
        let busy = slot.begin();
        // Boxed, because a connection whose future can be moved can be taken apart.
        Box::pin(async move {
            let response = routes.answer(request.map(Body::new), Some(slot)).await;
            drop(busy);
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http1::Builder::new();
    // Of headers it takes `REQUEST_HEADERS_MAX` by itself; being told so would cost it a per cent of a publish.
    builder.max_header_size(REQUEST_HEAD_BYTES_MAX).header_read_timeout(None);
    let mut connection = builder.serve_connection(socket, service);
    let mut timer = Timer::default();
    let mut draining = pin!(draining(acceptor.phase.clone()));
    let (mut is_listening, mut is_draining) = (false, false);
    let end = poll_fn(|cx| {
        // One that listens is woken, and needs not be asked each time.
        let may_drain = !is_listening || acceptor.phase.has_changed().unwrap_or(true);
        is_listening = true;
        if may_drain && !is_draining && draining.as_mut().poll(cx).is_ready() {
            is_draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            log_end(result);
            return Poll::Ready(None);
        }
        if let Some(handoff) = slot.take_flushed() {
            return Poll::Ready(Some(End::HandOver(handoff)));
        }
        if let Some(waiting) = slot.take_waiting() {
            return Poll::Ready(Some(End::Wait(waiting)));
        }
        if is_draining && slot.is_idle() {
            return Poll::Ready(None);
        }
        poll_patience(&slot, &mut timer, cx).map(|()| None)
    })
    .await?;
    let parts = connection.into_parts();
    let (stream, received) = parts.io.into_parts(parts.read_buf);
    Some((stream, received, end))
}

/// Ready when the client has taken too long over a request's head, or over having nothing to say.
fn poll_patience(slot: &Slot, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
    match slot.deadline() {
        Some(deadline) => timer.poll_until(cx, deadline),
        None => Poll::Pending,
    }
}

fn hand_over(plain: Plain<'_>, Handoff { job, shard }: Handoff, acceptor: &Acceptor) {
    let Some((stream, received)) = plain.into_parts() else { return };
    // From this runtime's poll to the other's.
    match socket::Socket::from(stream).detach() {
        Ok(socket) => acceptor.delivery.hand_over(shard, Taken { socket, received, job }),
        Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
    }
}

pub(crate) fn log_end(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
