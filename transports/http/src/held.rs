//! A connection whose client waits for an answer. Nothing is held but its socket and what the answer is made of: hyper's
//! buffers alone are several times as much, and there are as many of them as there are clients that long-poll.

use std::{
    future::poll_fn,
    io,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::BodyExt;
use tailwire_model::limits::{REQUEST_HEAD_BYTES_MAX, STALL_CLOSE_MS};
use tailwire_wire::{Code, Problem};
use tokio::net::TcpStream;

use crate::{
    outgoing::Outgoing,
    reply::{head, refuse},
};

/// What is read at once while a client waits: it has nothing to say but that it is gone.
const READ_BYTES: usize = 1024;

/// Waits for an answer on a connection that hyper no longer has. What the client sends meanwhile is added to `received`.
/// `None` when it is gone.
pub(crate) async fn wait(
    socket: &TcpStream,
    received: &mut Bytes,
    answer: BoxFuture<'static, Response<Body>>,
) -> Option<Response<Body>> {
    // A handler that panics has a fault, and nobody else hears of it.
    let mut answer = AssertUnwindSafe(answer).catch_unwind();
    poll_fn(|cx| {
        if let Poll::Ready(response) = answer.poll_unpin(cx) {
            return Poll::Ready(Some(response.unwrap_or_else(|_| refuse(&Problem::new(Code::Internal)))));
        }
        match poll_receive(socket, received, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Writes a response whole.
///
/// # Errors
/// The client takes nothing, or is gone.
pub(crate) async fn write(socket: &TcpStream, response: Response<Body>) -> io::Result<()> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    // RFC 9112 §6.3; these two have no body, and need not say so.
    if !matches!(parts.status.as_u16(), 204 | 304) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let mut out = Outgoing::default();
    out.push(head(&Response::from_parts(parts, ())));
    out.push(body);
    let written = poll_fn(|cx| out.poll_write(socket, cx, |_| {}));
    match tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Ready when there is an end: nothing that a client says ahead is lost, but more than a request's head is not taken.
fn poll_receive(socket: &TcpStream, received: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut buffer = [0; READ_BYTES];
    while received.len() < REQUEST_HEAD_BYTES_MAX {
        std::task::ready!(socket.poll_read_ready(cx))?;
        match socket.try_read(&mut buffer) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                let mut all = BytesMut::from(&received[..]);
                all.extend_from_slice(&buffer[..count]);
                *received = all.freeze();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Pending
}
