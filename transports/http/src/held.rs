//! A connection whose client waits for an answer. Nothing is held but its socket and what the answer is made of: hyper's
//! buffers alone are several times as much, and there are as many of them as there are clients that long-poll.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use tailwire_model::limits::{REQUEST_HEAD_BYTES_MAX, STALL_CLOSE_MS};
use tokio::net::TcpStream;

use crate::{
    outgoing::Outgoing,
    reply::{caught, head},
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
    let mut answer = pin!(caught(answer));
    poll_fn(|cx| {
        if let Poll::Ready(response) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        match poll_receive(socket, received, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Writes a response whole. `None` when the client takes nothing, or is gone.
pub(crate) async fn write(socket: &TcpStream, response: Response<Body>) -> Option<()> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    // RFC 9112 §6.3; these two have no body, and need not say so.
    if !matches!(parts.status.as_u16(), 204 | 304) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let mut out = Outgoing::default();
    out.push(head(&Response::from_parts(parts, ())));
    out.push(body);
    let written = poll_fn(|cx| out.poll_write(socket, cx, |_| {}));
    tokio::time::timeout(Duration::from_millis(STALL_CLOSE_MS), written).await.ok()?.ok()
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
