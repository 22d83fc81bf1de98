//! What a client sends on a long-lived connection: nothing that counts, or frames of a WebSocket.

use std::task::{Context, Poll, ready};

use super::{
    ending::{Ended, poll_discard},
    frames::{Broken, Frames, Received},
    protocol::{Incoming, Io, Protocol},
    socket::Socket,
};

/// Close code for data of a kind that isn't taken (RFC 6455 §7.4.1).
const CLOSE_UNSUPPORTED: u16 = 1003;

/// See the module.
pub(crate) enum Input {
    /// The client has asked once. Whatever it sends is thrown away.
    Ignored,
    /// Messages of these kinds.
    WebSocket(Frames, Takes),
}

/// Which kinds of messages a WebSocket subprotocol takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Text only.
    Text,
    /// Binary only.
    Binary,
    /// Either.
    Both,
}

impl Input {
    /// Gives the protocol one message of what was received. False when more has to be received for that.
    pub(crate) fn take_message(
        &mut self,
        io: &mut Io,
        protocol: &mut impl Protocol,
        cx: &mut Context<'_>,
    ) -> bool {
        let Self::WebSocket(frames, takes) = self else { return false };
        if !frames.has_unread() {
            return false;
        }
        let mut answer = Vec::new();
        let received = frames.next(&mut answer);
        io.send(answer);
        match (received, takes) {
            (Ok(Received::Text(text)), Takes::Text | Takes::Both) => {
                protocol.received(Incoming::Text(&text), io, cx);
            }
            (Ok(Received::Binary(data)), Takes::Binary | Takes::Both) => {
                protocol.received(Incoming::Binary(&data), io, cx);
            }
            (Ok(Received::Text(_)), Takes::Binary) => io.close(CLOSE_UNSUPPORTED, "messages are binary"),
            (Ok(Received::Binary(_)), Takes::Text) => io.close(CLOSE_UNSUPPORTED, "lines are text"),
            (Ok(Received::Nothing), _) => return false,
            // The reply is written already.
            (Ok(Received::Close), _) => io.end(),
            (Err(Broken(code)), _) => io.close(code, ""),
        }
        true
    }

    /// Waits for something, and reads it.
    pub(crate) fn poll_read(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match self {
            Self::Ignored => match ready!(poll_discard(socket, cx)) {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) | Err(_) => Poll::Ready(Err(Ended)),
            },
            Self::WebSocket(frames, _) => frames.poll_read(socket, cx),
        }
    }
}
