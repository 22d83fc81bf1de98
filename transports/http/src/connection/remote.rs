//! The other end of a connection, as its requests have it.

use std::net::IpAddr;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remote {
    /// The address of the socket, or the one that a header of the PROXY protocol names; none of a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    /// Whether bytes are sealed on their way, as far as that is known.
    pub(crate) is_secure: bool,
    /// The certificate that the client has shown, and that was verified.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Remote {
    pub(crate) const fn new(peer: Option<IpAddr>) -> Self {
        Self { peer, is_secure: false, certificate: None }
    }

    /// Whether it is a process of this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.is_loopback())
    }
}
