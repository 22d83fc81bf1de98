//! WebSocket: many subscriptions, and every request of HTTP, over one socket that we own.
//!
//! [`session`] is the connection; [`inbound`] reads what the client sends; [`requests`] does what it asks.

mod inbound;
mod requests;
mod session;

use std::sync::Arc;

use tailwire_core::Reader;
use tailwire_model::Principal;
use tailwire_wire::{Code, Format, Problem, request::Subscribe};

pub(crate) use self::session::Session;
use crate::api::app::App;

/// What a WebSocket begins with.
pub(crate) struct Start {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    /// The 101 response, as on the wire.
    pub(crate) head: Vec<u8>,
    pub(crate) subscription: First,
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
    pub(crate) async fn open(app: &App, principal: &Principal, ask: Subscribe) -> Result<Self, Problem> {
        let Subscribe { filter, start, gap } = ask.clone();
        match app.open(principal, filter, start, gap, Format::Frame).await {
            Ok(reader) => Ok(Self::Open(Box::new(reader))),
            Err(problem) if problem.code == Code::Unauthorized => Ok(Self::Waits(Box::new(ask))),
            Err(problem) => Err(problem),
        }
    }
}
