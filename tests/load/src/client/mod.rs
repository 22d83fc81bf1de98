//! The client's side of HTTP and WebSocket: connections, requests, replies, frames.

pub(crate) mod connect;
pub mod frames;
pub mod http;
pub mod requests;
pub(crate) mod transport;
