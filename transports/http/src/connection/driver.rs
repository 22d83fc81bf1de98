//! The driver of every long-lived connection: one loop over a socket, a live reader and a [`Protocol`].
//!
//! It takes the socket back from the dispatcher, gathers what makes up one write, writes all of it, takes turns with
//! others, reads the client's input once there is nothing to write, and lends the socket again. A stalled client has
//! the patience of [`Outgoing`]; the end is [`Ending`](super::ending::Ending)'s. What is gathered next is gathered when
//! that is written: a stuck connection holds no more than one write.

use std::{
    io::{self, IoSlice},
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use tailwire_core::{Accepted, Sink};
use tailwire_model::ByeReason;

use super::{
    input::{Heard, Input},
    outgoing::SendError,
    protocol::{Io, Protocol},
    socket::Socket,
};
use crate::api::metrics::Connected;

/// A socket that its task and the dispatcher of its shard write to, in turn: both write whole frames, or tell the other
/// what is left.
///
/// The dispatcher's writes bypass tokio, which takes the socket for writable: when it is full, or broken, the task that
/// is woken for that finds out by its own next write, and only then waits for it to be writable again.
pub(crate) struct Outlet {
    socket: Socket,
    connected: Connected,
}

impl Sink for Outlet {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<Accepted> {
        let written = self.socket.write_lent(parts)?;
        self.connected.wrote(written.committed);
        Ok(Accepted { bytes: written.committed, is_clear: self.socket.tail() == 0 })
    }
}

/// The state behind a socket that is not lent: to use the reader, or to write something, the task takes it back first.
struct Lendable {
    io: Io,
    outlet: Arc<Outlet>,
}

/// The socket is the task's. It stays so unless it is lent in the end.
struct WriteTurn<'a>(&'a mut Lendable);

impl Lendable {
    fn take_back(&mut self) -> WriteTurn<'_> {
        let Io { live, out, .. } = &mut self.io;
        let remainder = live.take_back();
        out.begin_turn(remainder, live.view());
        WriteTurn(self)
    }
}

impl WriteTurn<'_> {
    fn socket(&self) -> &Socket {
        &self.0.outlet.socket
    }

    fn connected(&self) -> &Connected {
        &self.0.outlet.connected
    }

    /// Whether everything is written, and sent.
    fn is_clear(&self) -> bool {
        self.out.is_empty() && self.socket().tail() == 0
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Lendable { io, outlet } = &mut *self.0;
        io.out.poll_write(&outlet.socket, cx, |bytes| outlet.connected.wrote(bytes))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Lendable { io: Io { live, ending, .. }, outlet } = &mut *self.0;
        ending.as_mut().map_or(Poll::Ready(()), |ending| ending.poll(&outlet.socket, live.timer(), cx))
    }

    /// Lends the socket, if there is nothing to write and nothing will be but what the reader gives.
    fn lend(self) {
        if self.is_clear() && !self.is_ending() {
            self.live.lend(self.0.outlet.clone());
        }
    }
}

impl Deref for WriteTurn<'_> {
    type Target = Io;

    fn deref(&self) -> &Io {
        &self.0.io
    }
}

impl DerefMut for WriteTurn<'_> {
    fn deref_mut(&mut self) -> &mut Io {
        &mut self.0.io
    }
}

/// A connection, as a task of its shard's runtime. It is its own future, so that it takes no more than it holds.
pub(crate) struct Connection<P> {
    line: Lendable,
    input: Input,
    protocol: P,
}

/// The connection is over.
struct Over;

impl<P: Protocol> Connection<P> {
    /// On a socket to which is written first whatever is pending.
    pub(crate) fn new(socket: Socket, connected: Connected, io: Io, input: Input, protocol: P) -> Self {
        Self { line: Lendable { io, outlet: Arc::new(Outlet { socket, connected }) }, input, protocol }
    }
}

impl<P: Protocol + Unpin> Future for Connection<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { line, input, protocol } = self.get_mut();
        let mut turn = line.take_back();
        input.look_at_clock(&mut turn, cx);
        loop {
            match poll_turn(&mut turn, input, protocol, cx) {
                Poll::Ready(Ok(())) if turn.out.has_had_its_turn() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Over)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if protocol.is_lendable() {
            turn.lend();
        }
        Poll::Pending
    }
}

/// Takes what readers and the protocol have, writes it, and then reads the client's input.
fn poll_turn(
    turn: &mut WriteTurn<'_>,
    input: &mut Input,
    protocol: &mut impl Protocol,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Over>> {
    let waits_for_all = turn.is_clear() && gather(turn, protocol, cx).is_pending();
    match turn.poll_write(cx) {
        Poll::Ready(Ok(())) if turn.is_ending() => turn.poll_end(cx).map(|()| Err(Over)),
        Poll::Ready(Ok(())) if waits_for_all => poll_receive(turn, input, protocol, cx),
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(Over)),
        Poll::Pending => {
            protocol.stalled(cx);
            poll_stalled(turn, cx)
        }
    }
}

/// Takes what makes up one write. Pending when nobody has anything more, and all will wake the task.
fn gather(turn: &mut WriteTurn<'_>, protocol: &mut impl Protocol, cx: &mut Context<'_>) -> Poll<()> {
    protocol.review(turn);
    let live = gather_live(turn, protocol, cx);
    let count = turn.out.len();
    protocol.poll_more(turn, cx);
    if let Some(reason) = turn.bye.take() {
        turn.connected().ended(reason);
    }
    // A reader that gave something may have more, and that may concern the live reader.
    if turn.out.len() == count { live } else { Poll::Ready(()) }
}

fn gather_live(turn: &mut WriteTurn<'_>, protocol: &mut impl Protocol, cx: &mut Context<'_>) -> Poll<()> {
    while !turn.is_ending() && !turn.is_full() {
        match ready!(turn.live.poll_next(cx)) {
            Ok(event) => protocol.event(event, turn),
            Err(error) => protocol.failed(error, turn),
        }
    }
    Poll::Ready(())
}

fn poll_stalled(turn: &mut WriteTurn<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
    let Io { live, out, .. } = &mut **turn;
    let Some(timer) = live.timer() else { return Poll::Pending };
    match ready!(out.poll_stall(timer, cx)) {
        Ok(position) => {
            live.rewind(position);
            Poll::Ready(Ok(()))
        }
        Err(error) => {
            if matches!(error, SendError::Stalled) {
                turn.connected().ended(ByeReason::Slow);
            }
            Poll::Ready(Err(Over))
        }
    }
}

/// Takes what the client sends. Ready when there is something to write, or the connection is over.
fn poll_receive(
    turn: &mut WriteTurn<'_>,
    input: &mut Input,
    protocol: &mut impl Protocol,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Over>> {
    loop {
        if turn.is_ending() {
            return Poll::Ready(Ok(()));
        }
        // A client that asks faster than it can be answered, or doesn't take its answers, is not read from.
        let may_receive = protocol.may_receive();
        if may_receive && !turn.is_full() && input.take_message(turn, protocol, cx) {
            continue;
        }
        // Reading can have forced the socket to write, too.
        if !turn.is_clear() {
            return Poll::Ready(Ok(()));
        }
        if !may_receive {
            input.excuse();
            return Poll::Pending;
        }
        let Lendable { io, outlet } = &mut *turn.0;
        let broken = || {
            let own = outlet.clone();
            async move { own.socket.broken().await }.boxed()
        };
        match ready!(input.poll_read(&outlet.socket, io, broken, cx)) {
            Heard::Something => {}
            // Written to, a client that has closed both sides answers that it has.
            Heard::HalfClose => protocol.half_closed(io),
            Heard::End => return Poll::Ready(Err(Over)),
        }
    }
}

#[cfg(test)]
mod tests;
