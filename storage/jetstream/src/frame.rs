//! Frames: what one message of the stream holds, which is an entry or a part of one that is too large for one message.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version |
//! | 8 | checksum of all that follows (XXH3) |
//! | 16 | the log's id |
//! | 8 | incarnation of the proposer |
//! | 8 | number of the frame among the incarnation's |
//! | 1 | 1 if more parts follow |
//! | 8, 16 | what the proposer had applied: sequence, and digest of the stream up to there |
//! | 8 | how many topics there may be where the proposer stands, which holds for its entry at every node |
//! | rest | the entry's writes, or a part of them |
//!
//! Integers are little-endian. The place of version and checksum never changes, so that a node knows a frame of a later
//! version from one that is damaged.

use bytes::{BufMut, Bytes, BytesMut};
use tailwire_core::store::Write;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    codec::{Malformed, Taker, put_varint},
    write::{put_write, take_write},
};

/// The version that is written here.
pub(crate) const FRAME_VERSION: u8 = 2;
/// What a frame holds of an entry at most: half of what a NATS server takes by default.
pub(crate) const PART_BYTES_MAX: usize = 512 << 10;
/// All parts of an entry together: the largest batch with its topics, keys and headers takes less than half of that.
pub(crate) const ENTRY_BYTES_MAX: usize = 64 << 20;
const SUM_AT: usize = 1;
const SUMMED_AT: usize = SUM_AT + 8;
const INCARNATION_AT: usize = SUMMED_AT + 16;
const NUMBER_AT: usize = INCARNATION_AT + 8;
/// All that stands before the writes.
pub(crate) const HEAD_BYTES: usize = NUMBER_AT + 8 + 1 + 8 + 16 + 8;

/// A log's name, which its stream and every frame have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub u128);

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for LogId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// How far a node has come, and what led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) sequence: u64,
    pub(crate) digest: u128,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) log: LogId,
    pub(crate) incarnation: u64,
    pub(crate) number: u64,
    pub(crate) has_more: bool,
    pub(crate) applied: Applied,
    pub(crate) topics_max: u64,
    pub(crate) part: Bytes,
}

/// Why a message of the stream is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Not what a node has written.
    #[error("it is no entry")]
    Foreign,
    /// Of a version that is not known here.
    #[error("it is of version {0}")]
    Version(u8),
}

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES + self.part.len());
        out.put_u8(FRAME_VERSION);
        out.put_u64_le(0);
        out.put_u128_le(self.log.0);
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.number);
        out.put_u8(u8::from(self.has_more));
        out.put_u64_le(self.applied.sequence);
        out.put_u128_le(self.applied.digest);
        out.put_u64_le(self.topics_max);
        out.put_slice(&self.part);
        let sum = xxh3_64(&out[SUMMED_AT..]);
        out[SUM_AT..SUMMED_AT].copy_from_slice(&sum.to_le_bytes());
        out.freeze()
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let mut from = Taker::new(bytes.clone());
        let version = from.byte().map_err(|_| FrameError::Foreign)?;
        let sum = from.u64().map_err(|_| FrameError::Foreign)?;
        if sum != xxh3_64(&bytes[SUMMED_AT..]) {
            return Err(FrameError::Foreign);
        }
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        Self::decode_rest(from).map_err(|_| FrameError::Foreign)
    }

    fn decode_rest(mut from: Taker) -> Result<Self, Malformed> {
        let log = LogId(from.u128()?);
        let (incarnation, number) = (from.u64()?, from.u64()?);
        let has_more = from.byte()? != 0;
        let applied = Applied { sequence: from.u64()?, digest: from.u128()? };
        let topics_max = from.u64()?;
        Ok(Self { log, incarnation, number, has_more, applied, topics_max, part: from.into_rest() })
    }

    /// The log that a message of the stream names, if it is a frame: without a look at the rest.
    pub(crate) fn log_of(bytes: &[u8]) -> Option<LogId> {
        let id = bytes.get(SUMMED_AT..)?.first_chunk::<16>()?;
        (bytes.len() >= HEAD_BYTES).then(|| LogId(u128::from_le_bytes(*id)))
    }
}

/// The writes of an entry, as bytes.
pub(crate) fn encode_writes<'a>(writes: impl ExactSizeIterator<Item = &'a Write>, bytes: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes);
    put_varint(&mut out, writes.len() as u64);
    writes.for_each(|write| put_write(&mut out, write));
    out.freeze()
}

/// The writes that these bytes are.
pub(crate) fn decode_writes(bytes: Bytes) -> Result<Vec<Write>, Malformed> {
    let mut from = Taker::new(bytes);
    let count = from.count()?;
    let writes = (0..count).map(|_| take_write(&mut from)).collect::<Result<_, _>>()?;
    from.end().map(|()| writes)
}

/// Cuts the bytes of an entry into parts.
pub(crate) fn parts(mut bytes: Bytes) -> Vec<Bytes> {
    let mut parts = Vec::with_capacity(bytes.len() / PART_BYTES_MAX + 1);
    while bytes.len() > PART_BYTES_MAX {
        parts.push(bytes.split_to(PART_BYTES_MAX));
    }
    parts.push(bytes);
    parts
}

#[cfg(test)]
mod tests;
