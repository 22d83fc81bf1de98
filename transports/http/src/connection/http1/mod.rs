//! HTTP/1.1 and HTTP/1.0 (RFC 9112), all of it ours: what there is to hold of a client that waits is less than a generic server's
//! buffers, publishes of one connection share commits, and a connection that turns into a stream is simply handed on.
//!
//! The rules are pure ([`head`], [`chunked`], [`decoder`], [`refusal`]); [`peer`] is the client's socket with what was
//! received ahead, [`answers`] what it has yet to be given, [`pipeline`] the requests that are being answered, and [`connection`]
//! drives all of it.

mod answers;
pub(crate) mod chunked;
pub(crate) mod connection;
pub(crate) mod decoder;
pub(crate) mod head;
#[cfg(test)]
mod messages;
pub(crate) mod peer;
mod pipeline;
pub(crate) mod refusal;
#[cfg(test)]
mod tests;
