//! Subscribers: connections, the messages that each received, and other incidents.

pub(crate) mod incidents;
pub(crate) mod received;
pub(crate) mod subscriber;
pub(crate) mod subscribers;
