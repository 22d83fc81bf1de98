//! What a peer's clients say and hear: as little as it takes to subscribe, to publish, and to know that a publish was
//! taken. Handshakes are checked by the words that end them; deliveries by their payloads alone (`payload`).

mod frames;
mod http2;
mod native;
mod post;

pub(crate) use post::reply;

use std::net::SocketAddr;

/// Where the peer is, and what to talk about.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) subscribe: SocketAddr,
    /// Where publishers connect to, if that is elsewhere.
    pub(crate) publish: SocketAddr,
    pub(crate) topic: String,
    /// Which connection of its kind is meant, where it has to have a name of its own.
    pub(crate) number: usize,
}

impl Place {
    /// The same, for one connection.
    pub(crate) fn of(&self, number: usize) -> Place {
        Place { number, ..self.clone() }
    }
}

/// Something to send, and the words in the answer after which the next step begins.
pub(crate) struct Step {
    pub(crate) send: Vec<u8>,
    /// Nothing: there is no answer to wait for.
    pub(crate) until: &'static [u8],
}

impl Step {
    fn new(send: impl Into<Vec<u8>>, until: &'static [u8]) -> Step {
        Step { send: send.into(), until }
    }
}

/// Answers to publishes at the start of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) taken: usize,
    pub(crate) refused: usize,
    /// How many bytes they are.
    pub(crate) length: usize,
}

/// One way to talk to one peer.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) name: &'static str,
    /// Makes a connection a subscriber of what is published from there on.
    pub(crate) subscribe: fn(&Place) -> Vec<Step>,
    /// Makes it a reader of all that is stored, if the peer stores anything.
    pub(crate) replay: Option<fn(&Place) -> Vec<Step>>,
    /// If every message is the reply to a request of its own: the next request, from the last reply's head.
    pub(crate) poll: Option<fn(&Place, &str) -> Vec<u8>>,
    /// Readies a publisher's connection.
    pub(crate) open: fn(&Place) -> Vec<Step>,
    /// Appends the publish of a payload.
    pub(crate) publish: fn(&mut Vec<u8>, &Place, &[u8]),
    pub(crate) answers: fn(&[u8]) -> Result<Answers, String>,
}

impl Protocol {
    pub(crate) fn all() -> impl Iterator<Item = Protocol> {
        post::PROTOCOLS.into_iter().chain(native::PROTOCOLS)
    }

    pub(crate) fn parse(name: &str) -> Result<Protocol, String> {
        Protocol::all().find(|one| one.name == name).ok_or_else(|| {
            let names: Vec<&str> = Protocol::all().map(|one| one.name).collect();
            format!("there are {}", names.join(", "))
        })
    }
}

/// For protocols whose publishers have nothing to say first.
fn nothing(_: &Place) -> Vec<Step> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: Vec<&str> = Protocol::all().map(|one| one.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
