//! WebSocket: many subscriptions, and every request of HTTP, over one socket that we own.
//!
//! [`session`] is the connection; [`inbound`] reads what the client sends; [`requests`] does what it asks.

mod inbound;
mod requests;
mod session;

use std::sync::Arc;

use tailwire_core::{Principal, Reader};

pub(crate) use self::session::Session;
use crate::api::app::App;

/// What a WebSocket begins with.
pub(crate) struct Start {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    /// The 101 response, as on the wire.
    pub(crate) head: Vec<u8>,
    /// The URL's subscription, if it names topics.
    pub(crate) subscription: Option<Reader>,
}
