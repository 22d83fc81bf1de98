//! A client's input on a long-lived connection: nothing that counts, or frames of a WebSocket.

use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;

use super::{
    ending::poll_discard,
    frames::{Broken, Frames, Received, UnreadFrames},
    protocol::{Incoming, Io, Protocol},
    socket::Socket,
};

/// Close codes (RFC 6455 §7.4.1, and the registry of §11.7).
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_POLICY: u16 = 1008;
const CLOSE_TRY_AGAIN: u16 = 1013;

/// See the module.
pub(crate) enum Input {
    /// The client has asked once. Whatever it sends is thrown away.
    Ignored,
    /// Such a client has shut its sending side, which says nothing about its interest in what comes (RFC 9112 §9.6). This ends
    /// when the connection is broken.
    HalfClosed(BoxFuture<'static, ()>),
    /// Messages of these kinds.
    WebSocket(Frames, Takes),
}

/// What a client was heard to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It sent something, or was closed.
    Something,
    /// It has shut its sending side, and may still read.
    HalfClose,
    /// It is gone.
    End,
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

    /// Waits for something, and reads it; or closes the connection, where its client has had its time or there is no
    /// room. `broken` ends when the connection is.
    pub(crate) fn poll_read(
        &mut self,
        socket: &Socket,
        io: &mut Io,
        broken: impl FnOnce() -> BoxFuture<'static, ()>,
        cx: &mut Context<'_>,
    ) -> Poll<Heard> {
        match self {
            Self::Ignored => Poll::Ready(match ready!(poll_discard(socket, cx)) {
                Ok(true) => Heard::Something,
                Ok(false) => {
                    *self = Self::HalfClosed(broken());
                    Heard::HalfClose
                }
                Err(_) => Heard::End,
            }),
            Self::HalfClosed(broken) => broken.as_mut().poll(cx).map(|()| Heard::End),
            Self::WebSocket(frames, _) => {
                match ready!(frames.poll_read(socket, io.live.timer(), cx)) {
                    Ok(()) => {}
                    Err(UnreadFrames::Ended) => return Poll::Ready(Heard::End),
                    Err(UnreadFrames::Late) => close_late(io),
                    Err(UnreadFrames::NoRoom) => io.close(CLOSE_TRY_AGAIN, "too much is being received"),
                }
                Poll::Ready(Heard::Something)
            }
        }
    }

    /// Closes the connection if a message of its client's takes too long, also while nothing is read.
    pub(crate) fn look_at_clock(&mut self, io: &mut Io, cx: &mut Context<'_>) {
        if let Self::WebSocket(frames, _) = self
            && frames.is_late(io.live.timer(), cx)
        {
            close_late(io);
        }
    }

    /// The client is not read from, for a reason of ours.
    pub(crate) fn excuse(&mut self) {
        if let Self::WebSocket(frames, _) = self {
            frames.excuse();
        }
    }
}

fn close_late(io: &mut Io) {
    io.close(CLOSE_POLICY, "a message took too long");
}
