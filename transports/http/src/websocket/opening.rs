//! The opening of a WebSocket: an entry of the table of subprotocols, and what its client has asked for.

use std::sync::Arc;

use tailwire_core::{Broker, Reader, View};
use tailwire_model::{Principal, SizeBound};
use tailwire_wire::{Code, Problem, request::Subscribe};

use crate::{
    api::app::App,
    connection::{
        input::Takes,
        pinned::Account,
        protocol::{Io, Protocol},
    },
    limiter::Hold,
};

/// An entry of the table of `subprotocols`.
#[derive(Debug, Clone, Copy)]
pub struct Subprotocol {
    /// Its name in `Sec-WebSocket-Protocol`.
    pub name: &'static str,
    /// Which messages it takes. Others close the connection (1003).
    pub takes: Takes,
    /// The slot of its messages' shared encoding: whole unmasked frames.
    pub format: usize,
    /// Whether it has a way to show a credential. If not, a URL that needs one is refused at the handshake.
    pub authenticates: bool,
    /// Begins a connection, with whatever it has to say first.
    pub open: fn(WebSocketOpening, &mut Io) -> Box<dyn Protocol>,
}

/// The opening request of a WebSocket.
pub struct WebSocketOpening {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    /// What its connection holds of answers.
    pub(crate) account: Account,
    pub(crate) subscription: First,
    /// How many levels below the root the URL is.
    pub(crate) depth: usize,
    /// How large a message the URL wants to be given whole.
    pub(crate) bound: Option<SizeBound>,
}

impl WebSocketOpening {
    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.app.broker
    }

    /// A reader of the URL's filter, if it names topics.
    pub fn subscription(self) -> Option<Reader> {
        match self.subscription {
            First::Open(reader, _) => Some(*reader),
            First::None | First::Waits(_) => None,
        }
    }

    /// Whether nothing may be changed by this connection.
    pub fn is_read_only(&self) -> bool {
        self.app.listener.rules.read_only
    }

    /// The client's principal.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// The URL's subscription.
pub(crate) enum First {
    /// The URL names no topics.
    None,
    Open(Box<Reader>, Hold),
    /// It has to wait for a credential, which browsers can't send with a handshake.
    Waits(Box<Subscribe>),
}

impl First {
    /// Opens it, if it is permitted.
    pub(crate) async fn open(
        app: &App,
        (principal, account): (&Principal, &Account),
        ask: Subscribe,
        subprotocol: &Subprotocol,
    ) -> Result<Self, Problem> {
        let Subscribe { filter, start, gap, bound } = ask.clone();
        let view = View::whole(subprotocol.format).bounded(bound);
        let hold = app.hold_subscription(principal, account)?;
        match app.open(principal, filter, start, gap, view).await {
            Ok(reader) => Ok(Self::Open(Box::new(reader), hold)),
            Err(problem) if problem.code == Code::Unauthorized && subprotocol.authenticates => {
                Ok(Self::Waits(Box::new(ask)))
            }
            Err(problem) => Err(problem),
        }
    }
}
