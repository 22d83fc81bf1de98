//! The WebSocket subprotocols: a table. To add one, write a [`Protocol`](crate::Protocol) and name it here; nothing else knows
//! which there are.

use std::sync::Arc;

use tailwire_core::{Broker, Reader};
use tailwire_model::Principal;
use tailwire_wire::{Format, negotiate::SUBPROTOCOL};

use super::{First, native};
use crate::{
    api::app::App,
    connection::{
        input::Takes,
        protocol::{Io, Protocol},
    },
};

/// The subprotocols of the product, the one that is meant when none is offered first.
const TABLE: [Subprotocol; 1] = [Subprotocol {
    name: SUBPROTOCOL,
    takes: Takes::Text,
    format: Format::Frame as usize,
    authenticates: true,
    open: native::open,
}];

/// An entry of the table.
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
    pub open: fn(Opening, &mut Io) -> Box<dyn Protocol>,
}

/// What a WebSocket has been asked for.
pub struct Opening {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    pub(crate) subscription: First,
}

impl Opening {
    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.app.broker
    }

    /// A reader of the URL's filter, if it names topics.
    pub fn subscription(self) -> Option<Reader> {
        match self.subscription {
            First::Open(reader) => Some(*reader),
            First::None | First::Waits(_) => None,
        }
    }

    /// Who asks.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// The table of one server.
pub(crate) struct Subprotocols {
    entries: Vec<Subprotocol>,
    pub(crate) names: Vec<&'static str>,
}

impl Subprotocols {
    /// The product's, and others.
    pub(crate) fn new(others: &[Subprotocol]) -> Self {
        let entries = [&TABLE, others].concat();
        let names = entries.iter().map(|entry| entry.name).collect();
        Self { entries, names }
    }

    /// The one that was chosen of those that the client offered, or else the native one.
    pub(crate) fn get(&self, chosen: Option<&str>) -> Subprotocol {
        let chosen = self.entries.iter().find(|entry| Some(entry.name) == chosen);
        *chosen.unwrap_or(&TABLE[0])
    }
}
