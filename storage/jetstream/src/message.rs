//! A message of the stream: as it was republished, or as it was read.

use async_nats::{HeaderValue, Message};
use bytes::Bytes;
use tailwire_model::{Timestamp, time::parse_time};

/// A message of the stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamMessage {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    pub(crate) bytes: Bytes,
}

impl StreamMessage {
    /// What a message tells that the stream republished, or that was read from it.
    pub(crate) fn of(message: Message) -> Option<Self> {
        let headers = message.headers.as_ref()?;
        let header = |name: &str| headers.get(name).map(HeaderValue::as_str);
        let sequence = header("Nats-Sequence")?.parse().ok()?;
        let Timestamp(time) = parse_time(header("Nats-Time-Stamp")?)?;
        Some(Self { sequence, time, bytes: message.payload })
    }
}
