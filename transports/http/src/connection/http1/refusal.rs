//! Requests that HTTP/1.1 itself refuses, before any resource is asked. Where a message ends is not known behind one of them, so
//! the connection ends with the answer.

use tailwire_wire::{Code, Problem};

/// Why a request can't be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It breaks the grammar or a rule of the framing, which is named.
    Malformed(&'static str),
    /// Its head has more bytes or more fields than are taken.
    HeadTooLarge,
    /// Its body has a transfer coding other than `chunked` (RFC 9112 §6.1).
    TransferCoding,
    /// It is of another major version of HTTP (RFC 9110 §15.6.6).
    Version,
    /// The client doesn't get on with its head, or what all clients are sending leaves no room for it.
    NoRoom,
}

impl Refusal {
    /// The refusal as clients get it.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Malformed(why) => Problem::detailed(Code::RequestInvalid, why),
            Self::HeadTooLarge => Problem::new(Code::RequestHeadTooLarge),
            Self::TransferCoding => Problem::new(Code::TransferCodingUnknown),
            Self::Version => Problem::new(Code::VersionUnknown),
            Self::NoRoom => Problem::new(Code::Overloaded).with_retry_after_ms(1000),
        }
    }
}
