//! What is bounded, of whom: the settings.

use std::num::NonZeroU32;

use tailwire_model::Rate;

use super::kinds::{Flow, HeldKind, Scope};

/// ClientBounds of each scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of each address; of IPv6, of each network of 64 bits.
    pub address: ClientBounds,
    /// Of each principal, but of anonymous ones.
    pub principal: ClientBounds,
    /// Of all together.
    pub total: ClientBounds,
}

/// ClientBounds of each kind; a kind that has none is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientBounds {
    /// Open connections. Of a principal, and of a client behind a trusted proxy: streams and WebSockets.
    pub connections: Option<NonZeroU32>,
    /// Connections that are opened.
    pub connects: Option<Rate>,
    /// Requests, over HTTP and as lines of a WebSocket.
    pub requests: Option<Rate>,
    /// Messages that are published.
    pub publishes: Option<Rate>,
    /// Their bytes.
    pub bytes: Option<Rate>,
    /// Topics that are published to for the first time.
    pub new_topics: Option<Rate>,
    /// Streams, subscriptions of WebSockets, and polls that wait.
    pub subscriptions: Option<NonZeroU32>,
}

impl Limits {
    pub(super) const fn of(&self, scope: Scope) -> &ClientBounds {
        match scope {
            Scope::Address => &self.address,
            Scope::Principal => &self.principal,
            Scope::Total => &self.total,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ClientBounds> {
        [&self.address, &self.principal, &self.total].into_iter()
    }
}

impl ClientBounds {
    pub(super) const fn rate(&self, flow: Flow) -> Option<Rate> {
        match flow {
            Flow::Connects => self.connects,
            Flow::Requests => self.requests,
            Flow::Publishes => self.publishes,
            Flow::Bytes => self.bytes,
            Flow::NewTopics => self.new_topics,
        }
    }

    pub(super) const fn held(&self, held: HeldKind) -> Option<NonZeroU32> {
        match held {
            HeldKind::Connections => self.connections,
            HeldKind::Subscriptions => self.subscriptions,
        }
    }
}
