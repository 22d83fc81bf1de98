//! Connections: the accept loop, the driver of one connection in HTTP/1.1 and HTTP/2, and what a socket has yet to write.

pub(crate) mod accept;
#[allow(dead_code, reason = "its users follow")]
pub(crate) mod budget;
pub(crate) mod descriptors;
pub(crate) mod driver;
pub(crate) mod ending;
pub(crate) mod frames;
pub(crate) mod held;
pub(crate) mod http2;
pub(crate) mod input;
pub(crate) mod joined;
pub(crate) mod outgoing;
#[allow(dead_code, reason = "its users follow")]
pub(crate) mod patience;
#[allow(dead_code, reason = "its users follow")]
pub(crate) mod pinned;
pub(crate) mod plain;
pub(crate) mod protocol;
pub(crate) mod request;
#[allow(dead_code, reason = "its users follow")]
pub(crate) mod socket;
pub(crate) mod takeover;
