//! WebSocket: many subscriptions, and every request of HTTP, over one socket that we own.
//!
//! [`session`] is the connection; [`inbound`] reads what the client sends; [`requests`] does what it asks.

mod inbound;
mod requests;
mod session;

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use tailwire_core::{Principal, Reader};
use tokio::net::TcpStream;

use crate::{api::App, outgoing::hang_up};

/// What a WebSocket begins with.
pub(crate) struct Start {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    /// The 101 response, as on the wire.
    pub(crate) head: Vec<u8>,
    /// The URL's subscription, if it names topics.
    pub(crate) subscription: Option<Reader>,
}

/// Runs a WebSocket until one side ends it.
pub(crate) async fn run(socket: TcpStream, received: Bytes, shard: usize, start: Start) {
    let mut session = session::Session::new(socket, received, shard, start);
    poll_fn(|cx| session.poll(cx)).await;
    hang_up(session.into_socket()).await;
}
