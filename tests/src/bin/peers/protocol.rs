//! The protocols of peers, from the side of a client: as little as it takes to subscribe, to publish, and to know that a
//! publish was taken. Handshakes are checked by the words that end them; deliveries by their payloads alone (`payload`).

mod http2;
mod native;
mod post;

pub(crate) use post::reply;

use std::net::SocketAddr;

use tailwire_load::client::{frames, requests};

/// Where the peer is, and what to talk about.
#[derive(Debug, Clone)]
pub(crate) struct PeerPlace {
    pub(crate) subscribe: SocketAddr,
    /// Where publishers connect to, if that is elsewhere.
    pub(crate) publish: SocketAddr,
    pub(crate) topic: String,
    /// Which connection of its kind is meant, where it has to have a name of its own.
    pub(crate) number: usize,
}

impl PeerPlace {
    /// The same, for one connection.
    pub(crate) fn of(&self, number: usize) -> PeerPlace {
        PeerPlace { number, ..self.clone() }
    }
}

/// Something to send, and the words in the answer after which the next step begins.
pub(crate) struct HandshakeStep {
    pub(crate) send: Vec<u8>,
    /// Nothing: there is no answer to wait for.
    pub(crate) until: &'static [u8],
}

impl HandshakeStep {
    fn new(send: impl Into<Vec<u8>>, until: &'static [u8]) -> HandshakeStep {
        HandshakeStep { send: send.into(), until }
    }
}

/// Answers to publishes at the start of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerAnswers {
    pub(crate) taken: usize,
    pub(crate) refused: usize,
    /// How many bytes they are.
    pub(crate) length: usize,
}

/// One way to talk to one peer.
#[derive(Clone, Copy)]
pub(crate) struct PeerProtocol {
    pub(crate) name: &'static str,
    /// Makes a connection a subscriber of what is published from there on.
    pub(crate) subscribe: fn(&PeerPlace) -> Vec<HandshakeStep>,
    /// Makes it a reader of all that is stored, if the peer stores anything.
    pub(crate) replay: Option<fn(&PeerPlace) -> Vec<HandshakeStep>>,
    /// If every message is the reply to a request of its own: the next request, from the last reply's head.
    pub(crate) poll: Option<fn(&PeerPlace, &str) -> Vec<u8>>,
    /// Readies a publisher's connection.
    pub(crate) open: fn(&PeerPlace) -> Vec<HandshakeStep>,
    /// Appends the publish of a payload.
    pub(crate) publish: fn(&mut Vec<u8>, &PeerPlace, &[u8]),
    pub(crate) answers: fn(&[u8]) -> Result<PeerAnswers, String>,
}

impl PeerProtocol {
    pub(crate) fn all() -> impl Iterator<Item = PeerProtocol> {
        post::PROTOCOLS.into_iter().chain(native::PROTOCOLS)
    }

    pub(crate) fn parse(name: &str) -> Result<PeerProtocol, String> {
        PeerProtocol::all().find(|one| one.name == name).ok_or_else(|| {
            let names: Vec<&str> = PeerProtocol::all().map(|one| one.name).collect();
            format!("there are {}", names.join(", "))
        })
    }
}

/// The host that clients name; none of the peers looks at it.
const AUTHORITY: &str = "127.0.0.1";

/// A request that opens a WebSocket, with a subprotocol if one is named.
fn upgrade(path: &str, subprotocol: &str) -> String {
    requests::upgrade(AUTHORITY, path, subprotocol)
}

/// A client's text frame.
fn text(payload: &[u8]) -> Vec<u8> {
    frame(frames::TEXT, payload)
}

/// A client's binary frame.
fn binary(payload: &[u8]) -> Vec<u8> {
    frame(frames::BINARY, payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frames::append_masked(&mut out, opcode, |out| out.extend_from_slice(payload));
    out
}

/// For protocols whose publishers have nothing to say first.
fn nothing(_: &PeerPlace) -> Vec<HandshakeStep> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: Vec<&str> = PeerProtocol::all().map(|one| one.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
