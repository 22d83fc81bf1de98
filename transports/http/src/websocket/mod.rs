//! WebSocket: one endpoint, many protocols. Which there are stands in the table of [`subprotocols`]; what they have in
//! common, frames, control frames and the end, is the driver's (`connection`).
//!
//! [`native`] is `tailwire.v1`: many [`subscriptions`], and every request of HTTP ([`requests`]), over one socket.

mod native;
pub(crate) mod opening;
mod requests;
pub(crate) mod subprotocols;
mod subscriptions;

use bytes::Bytes;
use tailwire_core::View;

use self::opening::{Subprotocol, WebSocketOpening};
use crate::{
    api::metrics::Transport,
    connection::{
        budget::ReceiveBudget,
        driver::Connection,
        frames::Frames,
        input::Input,
        protocol::{Io, Protocol},
        socket::Socket,
    },
    limiter::Hold,
};

/// The start of a WebSocket.
pub(crate) struct WebSocketStart {
    /// The 101 response, as on the wire.
    pub(crate) head: Vec<u8>,
    pub(crate) subprotocol: Subprotocol,
    pub(crate) opening: WebSocketOpening,
    /// The WebSocket as its principal's connection.
    pub(crate) hold: Hold,
}

impl WebSocketStart {
    /// The connection on its socket, on which so much has been received behind the handshake.
    pub(crate) fn on(
        self,
        socket: Socket,
        received: Bytes,
        shard: usize,
        budget: ReceiveBudget,
        connection: Hold,
    ) -> Connection<Box<dyn Protocol>> {
        let Self { head, subprotocol, opening, hold } = self;
        let connected = opening.app.metrics.connected(Transport::WebSocket).holding([connection, hold]);
        let view = View::whole(subprotocol.format).bounded(opening.bound);
        let live = opening.app.broker.open_empty(&opening.principal, view);
        let mut io = Io::new(live, shard);
        io.send(head);
        let protocol = (subprotocol.open)(opening, &mut io);
        let input = Input::WebSocket(Frames::new(received, budget), subprotocol.takes);
        Connection::new(socket, connected, io, input, protocol)
    }
}
