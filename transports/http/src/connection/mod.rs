//! Connections: the accept loop, the drivers of HTTP/1.1 and HTTP/2, what is received and not whole yet, and what a socket has yet
//! to write.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod caller;
pub(crate) mod coalesce;
pub(crate) mod descriptors;
pub(crate) mod driver;
pub(crate) mod ending;
pub(crate) mod exchange;
pub(crate) mod frames;
pub(crate) mod host;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod input;
pub(crate) mod listener;
pub(crate) mod metered;
pub(crate) mod outgoing;
pub(crate) mod patience;
#[allow(dead_code, reason = "its users follow")]
pub(crate) mod pinned;
pub(crate) mod protocol;
mod proxy_protocol;
pub(crate) mod remote;
pub(crate) mod serving;
pub(crate) mod socket;
