//! The manifest: the number of the last commit, and with it the count of records in the chunks. Of a damaged file the
//! engine can lose a part in the middle of what came since it was opened, and positions that are missing there look like
//! trimmed ones; the count is how that is noticed. It knows chunks by their first positions and counts, and no store; the
//! check against it stands in `count`.
//!
//! ```text
//! commits  newest  length of the token  token  all  digest  from  beyond  digest
//! is there a digest  [digest]  number of the last change of small trees  its parts
//! [first  before  after]   CRC-32
//! ```
//! Numbers are varints. `all` is the records of all chunks; `beyond` is those of the chunks after `from`, which is how far the index was written at the opening:
//! of what was there before, the engine keeps a map, and takes nothing on trust. The chunks before are counted where the
//! index is built again. A digest stands after each, because a chunk that is gone and another that is back could have the
//! same count.
//!
//! The engine recovers its writes in order, up to where a crash cut them off. So chunks of a commit may be there that the
//! manifest doesn't know yet: they lie beyond `newest`. And before messages are taken out of a chunk, the manifest names
//! the chunk and its counts before and after, and counts it as it will be: of that one chunk either state is right.
//!
//! The last digest is of the entries of all trees that every opening reads as a whole, trims among them: a tree that falls
//! back to what it was undoes a DELETE. Before they change, the changes are written down in parts, beside the manifest that
//! has the digest after them; an opening makes them again.

use bytes::Bytes;
use tailwire_core::store::Token;
use tailwire_model::Position;

use crate::codec::{ByteReader, Damage, put_varint, seal, unseal};

/// Records of some chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) records: u64,
    digest: u64,
}

impl Sum {
    /// Of one chunk. One without records is none: it may be there or not.
    pub(crate) fn of(first: Position, count: u16) -> Self {
        if count == 0 {
            return Self::default();
        }
        Self { records: count.into(), digest: mixed(first.0 ^ u64::from(count) << 48) }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.wrapping_add(other.records),
            digest: self.digest.wrapping_add(other.digest),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            records: self.records.wrapping_sub(other.records),
            digest: self.digest.wrapping_sub(other.digest),
        }
    }
}

/// Spreads a number over all bits (the finaliser of splitmix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The digest of an entry of a tree.
pub(crate) fn digest_of(tree: &[u8], key: &[u8], value: &[u8]) -> u64 {
    let mut digest = 0;
    for part in [tree, key, value] {
        digest = mixed(digest ^ part.len() as u64);
        for word in part.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            digest = mixed(digest ^ u64::from_le_bytes(bytes));
        }
    }
    digest
}

/// A chunk that messages are being taken out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shrinking {
    pub(crate) first: Position,
    pub(crate) before: u16,
    pub(crate) after: u16,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The number of the last commit.
    pub(crate) commits: u64,
    /// The newest position that is stored with it.
    pub(crate) newest: Position,
    /// The order's token of its last entry.
    pub(crate) token: Token,
    pub(crate) all: Sum,
    pub(crate) from: Position,
    pub(crate) beyond: Sum,
    /// The digest of the small trees; none if that isn't known, as right after a repair.
    pub(crate) small: Option<u64>,
    /// The number of their last change, and in how many parts it is written down.
    pub(crate) small_writes: u64,
    pub(crate) small_parts: u32,
    pub(crate) shrinking: Option<Shrinking>,
}

impl Manifest {
    /// A chunk has so many records that were not there.
    pub(crate) fn add(&mut self, first: Position, count: u16) {
        self.change(first, |sum| sum.plus(Sum::of(first, count)));
    }

    /// Messages are about to be taken out of a chunk.
    pub(crate) fn begin_shrinking(&mut self, shrinking: Shrinking) {
        let Shrinking { first, before, after } = shrinking;
        self.change(first, |sum| sum.minus(Sum::of(first, before)).plus(Sum::of(first, after)));
        self.shrinking = Some(shrinking);
    }

    /// It has become of a shrinking chunk what was to become of it, or not.
    pub(crate) fn end_shrinking(&mut self, is_done: bool) {
        if let Some(Shrinking { first, before, after }) = self.shrinking.take()
            && !is_done
        {
            self.change(first, |sum| sum.minus(Sum::of(first, after)).plus(Sum::of(first, before)));
        }
    }

    fn change(&mut self, first: Position, change: impl Fn(Sum) -> Sum) {
        self.all = change(self.all);
        if first > self.from {
            self.beyond = change(self.beyond);
        }
    }

    /// As it is stored under `key`.
    pub(crate) fn put(&self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(64);
        put_varint(&mut value, self.commits);
        put_varint(&mut value, self.newest.0);
        put_varint(&mut value, self.token.0.len() as u64);
        value.extend_from_slice(&self.token.0);
        put_varint(&mut value, self.all.records);
        value.extend_from_slice(&self.all.digest.to_le_bytes());
        put_varint(&mut value, self.from.0);
        put_varint(&mut value, self.beyond.records);
        value.extend_from_slice(&self.beyond.digest.to_le_bytes());
        value.push(u8::from(self.small.is_some()));
        self.small.iter().for_each(|digest| value.extend_from_slice(&digest.to_le_bytes()));
        put_varint(&mut value, self.small_writes);
        put_varint(&mut value, self.small_parts.into());
        if let Some(Shrinking { first, before, after }) = self.shrinking {
            [first.0, before.into(), after.into()].into_iter().for_each(|n| put_varint(&mut value, n));
        }
        seal(key, &mut value);
        value
    }

    /// From what is stored under `key`.
    pub(crate) fn take(key: &[u8], sealed: &[u8]) -> Result<Self, Damage> {
        let mut reader = ByteReader(unseal(key, sealed)?);
        let (commits, newest) = (reader.varint()?, Position(reader.varint()?));
        let length = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let token = Token(Bytes::copy_from_slice(reader.bytes(length)?));
        let all = Sum { records: reader.varint()?, digest: reader.u64()? };
        let from = Position(reader.varint()?);
        let beyond = Sum { records: reader.varint()?, digest: reader.u64()? };
        let small = if reader.byte()? == 0 { None } else { Some(reader.u64()?) };
        let (small_writes, parts) = (reader.varint()?, reader.varint()?);
        let small_parts = u32::try_from(parts).map_err(|_| Damage("it has too many parts"))?;
        let shrinking = if reader.0.is_empty() { None } else { Some(take_shrinking(&mut reader)?) };
        Ok(Self { commits, newest, token, all, from, beyond, small, small_writes, small_parts, shrinking })
    }
}

fn take_shrinking(reader: &mut ByteReader<'_>) -> Result<Shrinking, Damage> {
    let first = Position(reader.varint()?);
    let mut count = || u16::try_from(reader.varint()?).map_err(|_| Damage("a count is too large"));
    Ok(Shrinking { first, before: count()?, after: count()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"key";

    #[test]
    fn it_round_trips_and_is_checked() {
        let mut known =
            Manifest { commits: 5, newest: Position(9), from: Position(2), ..Manifest::default() };
        known.add(Position(1), 2);
        known.add(Position(3), 4);
        (known.small, known.small_writes, known.small_parts) = (Some(u64::MAX), 300, 2);
        for shrinks in [false, true] {
            if shrinks {
                known.begin_shrinking(Shrinking { first: Position(3), before: 4, after: 1 });
            }
            let mut value = known.put(KEY);
            assert_eq!(Manifest::take(KEY, &value), Ok(known.clone()));
            value[1] ^= 1;
            assert!(Manifest::take(KEY, &value).is_err());
        }
    }
}
