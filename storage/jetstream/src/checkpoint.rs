//! The bytes of a checkpoint in its stream, without network: parts of a content that this crate does not read, and a last
//! message by which a checkpoint is whole. Parts of several checkpoints may stand among each other, and come twice.
//!
//! A part: version, checksum (XXH3 of all that follows), the log's id, the checkpoint's number, the part's, and bytes. The last
//! message is JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    codec::{Malformed, Taker},
    frame::LogId,
};

/// The version of parts and of the last message.
const VERSION: u8 = 1;
const SUM_AT: usize = 1;
const SUMMED_AT: usize = SUM_AT + 8;
/// All that stands before a part's bytes.
const HEAD_BYTES: usize = SUMMED_AT + 16 + 8 + 8;

/// A whole checkpoint, as its last message has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub(crate) log: LogId,
    /// Drawn by its writer.
    pub(crate) id: u64,
    /// The message of the log's stream up to which it stands for everything.
    pub sequence: u64,
    /// The first message of the log's stream that is needed to go on from it: the next one, or the first part of an entry that was
    /// not complete.
    pub needs: u64,
    /// Where its first and its last part stand in the stream of checkpoints.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) parts: u64,
    /// Bytes of its content, and their digest.
    pub bytes: u64,
    pub(crate) digest: u128,
}

/// Why a checkpoint is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFlaw {
    /// Parts of it are missing, or not as they were written.
    #[error("its part {0} is missing or damaged")]
    Part(u64),
    /// All parts are there, and are not what was written.
    #[error("its content is not what was written")]
    Content,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Bytes {
        json!({
            "version": VERSION,
            "log": self.log.to_string(),
            "id": format!("{:016x}", self.id),
            "sequence": self.sequence,
            "needs": self.needs,
            "first": self.first,
            "last": self.last,
            "parts": self.parts,
            "bytes": self.bytes,
            "digest": format!("{:032x}", self.digest),
        })
        .to_string()
        .into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let number = |name: &str| value[name].as_u64();
        if number("version") != Some(VERSION.into()) {
            return None;
        }
        Some(Self {
            log: value["log"].as_str()?.parse().ok()?,
            id: u64::from_str_radix(value["id"].as_str()?, 16).ok()?,
            sequence: number("sequence")?,
            needs: number("needs")?,
            first: number("first")?,
            last: number("last")?,
            parts: number("parts")?,
            bytes: number("bytes")?,
            digest: u128::from_str_radix(value["digest"].as_str()?, 16).ok()?,
        })
    }
}

pub(crate) fn encode_part(log: LogId, id: u64, number: u64, content: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + content.len());
    out.put_u8(VERSION);
    out.put_u64_le(0);
    out.put_u128_le(log.0);
    out.put_u64_le(id);
    out.put_u64_le(number);
    out.put_slice(content);
    let sum = xxh3_64(&out[SUMMED_AT..]);
    out[SUM_AT..SUMMED_AT].copy_from_slice(&sum.to_le_bytes());
    out.freeze()
}

/// Log, checkpoint, number and content of a part; `None` if it is none, or damaged.
fn decode_part(bytes: &Bytes) -> Option<(LogId, u64, u64, Bytes)> {
    let mut from = Taker::new(bytes.clone());
    let (version, sum) = (from.byte().ok()?, from.u64().ok()?);
    if version != VERSION || sum != xxh3_64(&bytes[SUMMED_AT..]) {
        return None;
    }
    let head = |from: &mut Taker| Ok::<_, Malformed>((LogId(from.u128()?), from.u64()?, from.u64()?));
    let (log, id, number) = head(&mut from).ok()?;
    Some((log, id, number, from.into_rest()))
}

/// Puts the parts of a checkpoint together.
pub(crate) struct Assembly<'a> {
    of: &'a Checkpoint,
    parts: u64,
    bytes: u64,
    digest: Xxh3,
}

impl<'a> Assembly<'a> {
    pub(crate) fn of(of: &'a Checkpoint) -> Self {
        Self { of, parts: 0, bytes: 0, digest: Xxh3::new() }
    }

    /// Takes the next message of the stream of checkpoints. Answers what it adds to the content.
    pub(crate) fn take(&mut self, message: &Bytes) -> Result<Option<Bytes>, CheckpointFlaw> {
        let Some((log, id, number, content)) = decode_part(message) else { return Ok(None) };
        if (log, id) != (self.of.log, self.of.id) || number <= self.parts {
            return Ok(None);
        }
        if number != self.parts + 1 {
            return Err(CheckpointFlaw::Part(self.parts + 1));
        }
        self.parts = number;
        self.bytes += content.len() as u64;
        self.digest.update(&content);
        Ok(Some(content))
    }

    /// That it is whole, once the last part was taken.
    pub(crate) fn end(self) -> Result<(), CheckpointFlaw> {
        if self.parts < self.of.parts {
            return Err(CheckpointFlaw::Part(self.parts + 1));
        }
        let is_whole = (self.bytes, self.digest.digest128()) == (self.of.bytes, self.of.digest);
        if is_whole { Ok(()) } else { Err(CheckpointFlaw::Content) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

    use super::*;

    const LOG: LogId = LogId(7);

    fn checkpoint(contents: &[&[u8]]) -> (Checkpoint, Vec<Bytes>) {
        let mut digest = Xxh3::new();
        contents.iter().for_each(|content| digest.update(content));
        let parts = (1..).zip(contents).map(|(number, content)| encode_part(LOG, 5, number, content));
        let checkpoint = Checkpoint {
            log: LOG,
            id: 5,
            sequence: 40,
            needs: 41,
            first: 1,
            last: 3,
            parts: contents.len() as u64,
            bytes: contents.iter().map(|content| content.len() as u64).sum(),
            digest: digest.digest128(),
        };
        (checkpoint, parts.collect())
    }

    fn assemble(of: &Checkpoint, messages: &[Bytes]) -> Result<Vec<u8>, CheckpointFlaw> {
        let mut assembly = Assembly::of(of);
        let mut content = Vec::new();
        for message in messages {
            content.extend(assembly.take(message)?.into_iter().flatten());
        }
        assembly.end().map(|()| content)
    }

    #[test]
    fn the_last_message_round_trips() {
        let (checkpoint, _) = checkpoint(&[b"abc"]);
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
        assert_eq!(Checkpoint::decode(b"{}"), None);
        assert_eq!(Checkpoint::decode(b"{\"version\":2}"), None);
    }

    #[test]
    fn parts_are_put_together_among_others_and_repeats() {
        let (own, parts) = checkpoint(&[b"abc", b"", b"de"]);
        assert_eq!(assemble(&own, &parts).unwrap(), b"abcde");
        let others =
            [encode_part(LOG, 6, 2, b"x"), encode_part(LogId(8), 5, 1, b"y"), Bytes::from("foreign")];
        let mut mixed = parts.clone();
        mixed.splice(1..1, others);
        mixed.insert(1, parts[0].clone());
        assert_eq!(assemble(&own, &mixed).unwrap(), b"abcde");
    }

    #[test]
    fn what_is_missing_or_damaged_is_refused() {
        let (own, parts) = checkpoint(&[b"abc", b"fgh", b"de"]);
        for at in 0..parts.len() {
            let mut without = parts.clone();
            without.remove(at);
            assert_eq!(assemble(&own, &without), Err(CheckpointFlaw::Part(at as u64 + 1)));
            for bit in 0..8 * parts[at].len() {
                let mut damaged = parts[at].to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let mut changed = parts.clone();
                changed[at] = damaged.into();
                assert!(assemble(&own, &changed).is_err(), "part {at}, bit {bit}");
            }
        }
        let other = Checkpoint { digest: 1, ..own };
        assert_eq!(assemble(&other, &parts), Err(CheckpointFlaw::Content));
    }
}
