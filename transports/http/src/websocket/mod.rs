//! WebSocket: one endpoint, many protocols. Which there are stands in the table of [`subprotocols`]; what they have in common,
//! frames, control frames and the end, is the driver's (`connection`).
//!
//! [`native`] is `tailwire.v1`: many [`subscriptions`], and every request of HTTP ([`requests`]), over one socket.

mod native;
mod requests;
pub(crate) mod subprotocols;
mod subscriptions;

use bytes::Bytes;

use tailwire_core::Reader;
use tailwire_model::Principal;
use tailwire_wire::{Code, Problem, request::Subscribe};

use self::subprotocols::{Opening, Subprotocol};
use crate::{
    api::{app::App, metrics::Transport},
    connection::{
        driver::Connection,
        frames::Frames,
        input::Input,
        protocol::{Io, Protocol},
        socket::Socket,
    },
};

/// What a WebSocket begins with.
pub(crate) struct Start {
    /// The 101 response, as on the wire.
    pub(crate) head: Vec<u8>,
    pub(crate) subprotocol: Subprotocol,
    pub(crate) opening: Opening,
}

impl Start {
    /// The connection on its socket, on which so much has been received behind the handshake.
    pub(crate) fn on(self, socket: Socket, received: Bytes, shard: usize) -> Connection<Box<dyn Protocol>> {
        let Self { head, subprotocol, opening } = self;
        let connected = opening.app.metrics.connected(Transport::WebSocket);
        let live = opening.app.broker.open_empty(&opening.principal, subprotocol.format);
        let mut io = Io::new(live, shard);
        io.send(head);
        let protocol = (subprotocol.open)(opening, &mut io);
        let input = Input::WebSocket(Frames::new(received), subprotocol.takes);
        Connection::new(socket, connected, io, input, protocol)
    }
}

/// The URL's subscription.
pub(crate) enum First {
    /// The URL names no topics.
    None,
    Open(Box<Reader>),
    /// It has to wait for a credential, which browsers can't send with a handshake.
    Waits(Box<Subscribe>),
}

impl First {
    /// Opens it, if it is permitted.
    pub(crate) async fn open(
        app: &App,
        principal: &Principal,
        ask: Subscribe,
        subprotocol: &Subprotocol,
    ) -> Result<Self, Problem> {
        let Subscribe { filter, start, gap } = ask.clone();
        match app.open(principal, filter, start, gap, subprotocol.format).await {
            Ok(reader) => Ok(Self::Open(Box::new(reader))),
            Err(problem) if problem.code == Code::Unauthorized && subprotocol.authenticates => {
                Ok(Self::Waits(Box::new(ask)))
            }
            Err(problem) => Err(problem),
        }
    }
}
