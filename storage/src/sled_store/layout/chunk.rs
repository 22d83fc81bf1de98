//! Chunks: the unit in which messages are stored, one value of the `chunks` tree each, under its first position.
//! A chunk holds up to [`CHUNK_BYTES`] of records of one commit, because an insert costs the engine much the same
//! whether it brings one message or thirty.
//!
//! ```text
//! label  version: u8  flags: u8  count: u16  epoch: u64  last position: u64  time of the first: u64
//! latest time before: u64  records…  CRC-32: u32
//! ```
//! The label has the first position, and the epoch says which of two chunks counts, where a file that the engine can't read
//! has two of the same positions. Fixed numbers are little-endian. A group that fits into a chunk stands in one chunk; a larger one fills chunks of
//! its own, of which only the last carries [`ENDS`]. So a chunk without that flag at the end of the log is what a
//! crash left of a group.

use std::ops::Range;

use bytes::Bytes;
use tailwire_model::{Epoch, Message, Position, Timestamp};

use super::{
    label::{self, Kind},
    record::{Content, Fragmented, RECORD_OVERHEAD, Record, put_content},
    values::{put_fragment, take_epoch_number},
};
use crate::codec::{ByteReader, Damage};

/// Records of one chunk, in bytes. The engine splits a leaf at 16 entries, and a leaf must stay below the 128 KB
/// from where it is put into a file of its own, which is never synced.
pub(crate) const CHUNK_BYTES: usize = 4096;
/// One fragment of a content that is too large for a chunk; see [`CHUNK_BYTES`] for the bound.
pub(crate) const FRAGMENT_BYTES: usize = 6144;

const VERSION: u8 = 3;
/// All groups in the chunk, and before it, are whole.
const ENDS: u8 = 1;
/// Of the label and what follows it, up to the records.
const HEADER_BYTES: usize = 54;
const COUNT_AT: usize = 20;
/// A content of more than this goes into fragments.
const INLINE_BYTES_MAX: usize = CHUNK_BYTES - 512;

/// A stored chunk whose checksum was right.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// The one in which it was written.
    pub(crate) epoch: Epoch,
    /// All groups in it are whole.
    pub(crate) ends: bool,
    /// Its bytes in the store.
    pub(crate) bytes: usize,
    /// How many records it has.
    pub(crate) count: u16,
    /// When its first message came.
    pub(crate) time: Timestamp,
    /// The latest time of any message that was stored before it; of one without messages, also of those that it had.
    pub(crate) latest_before: Timestamp,
    records: Bytes,
}

impl Chunk {
    /// Opens the value stored under `first`.
    pub(crate) fn open(first: Position, labelled: &[u8]) -> Result<Self, Damage> {
        let value = label::open(Kind::Chunk, &first.0.to_be_bytes(), labelled)?;
        let mut reader = ByteReader(value);
        if reader.byte()? != VERSION {
            return Err(Damage("it is of an unknown version"));
        }
        let flags = reader.byte()?;
        let count = u16::from_le_bytes(reader.array()?);
        let epoch = take_epoch_number(&mut reader)?;
        let last = Position(reader.u64()?);
        let (time, latest_before) = (Timestamp(reader.u64()?), Timestamp(reader.u64()?));
        // A copy of its own: the engine's value is a slice of a whole page, and a body that a slow reader holds must
        // not hold that.
        let records = Bytes::copy_from_slice(reader.0);
        let (ends, bytes) = (flags & ENDS != 0, labelled.len());
        Ok(Self { first, last, epoch, ends, bytes, count, time, latest_before, records })
    }

    /// Its records, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = Result<Record<'_>, Damage>> {
        let mut reader = ByteReader(&self.records);
        (0..self.count).map(move |_| Record::take(&mut reader, (self.first, self.time)))
    }

    /// The backing bytes of the contents of its records.
    pub(crate) fn backing(&self) -> &Bytes {
        &self.records
    }

    /// The value of this chunk with only the records that `keep` keeps, and how many those are.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&Record<'_>) -> bool) -> Result<(Vec<u8>, u16), Damage> {
        let mut open = OpenChunk::new(self.first, self.epoch, self.time, self.latest_before);
        let mut latest = self.latest_before;
        for record in self.records() {
            let record = record?;
            latest = latest.max(record.time);
            if keep(&record) {
                open.push(&record);
            }
        }
        open.last = self.last;
        let count = open.count;
        if count == 0 {
            open.latest_before = latest;
        }
        Ok((open.seal(self.ends).1, count))
    }
}

/// How many records a chunk has that was just packed.
pub(crate) fn count_of(value: &[u8]) -> u16 {
    u16::from_le_bytes([value[COUNT_AT], value[COUNT_AT + 1]])
}

/// A chunk that is being filled.
struct OpenChunk {
    first: Position,
    last: Position,
    epoch: Epoch,
    time: Timestamp,
    latest_before: Timestamp,
    count: u16,
    value: Vec<u8>,
}

impl OpenChunk {
    fn new(first: Position, epoch: Epoch, time: Timestamp, latest_before: Timestamp) -> Self {
        let mut value = label::begin(Kind::Chunk, &first.0.to_be_bytes(), HEADER_BYTES + CHUNK_BYTES);
        value.resize(HEADER_BYTES, 0);
        Self { first, last: first, epoch, time, latest_before, count: 0, value }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.value.len() - HEADER_BYTES + bytes <= CHUNK_BYTES
    }

    fn push(&mut self, record: &Record<'_>) {
        record.put(&mut self.value, (self.first, self.time));
        self.last = record.position;
        self.count += 1;
    }

    fn seal(mut self, ends: bool) -> (Position, Vec<u8>) {
        let header = &mut self.value[..HEADER_BYTES];
        header[18] = VERSION;
        header[19] = if ends { ENDS } else { 0 };
        header[COUNT_AT..COUNT_AT + 2].copy_from_slice(&self.count.to_le_bytes());
        header[22..30].copy_from_slice(&self.epoch.number().to_le_bytes());
        header[30..38].copy_from_slice(&self.last.0.to_le_bytes());
        header[38..46].copy_from_slice(&self.time.0.to_le_bytes());
        header[46..].copy_from_slice(&self.latest_before.0.to_le_bytes());
        label::end(&mut self.value);
        (self.first, self.value)
    }
}

/// The values that a commit puts into the store, in this order: a fragment comes before the chunk that makes it reachable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PackedEntry {
    /// A part of a message's content, by the message's position and the part's number.
    Fragment(Position, u32, Vec<u8>),
    /// A chunk.
    Chunk(Position, Vec<u8>),
}

/// Packs messages, which come in these groups, into entries, oldest first. `latest` is the latest time of all that were stored
/// before, and becomes that of these, too.
pub(crate) fn pack(
    messages: &[Message],
    groups: &[Range<usize>],
    latest: &mut Timestamp,
) -> Vec<PackedEntry> {
    let mut packer = ChunkPacker { latest: *latest, ..ChunkPacker::default() };
    for group in groups {
        packer.group(&messages[group.clone()]);
    }
    packer.finish(true);
    *latest = packer.latest;
    packer.entries
}

#[derive(Default)]
struct ChunkPacker {
    entries: Vec<PackedEntry>,
    open: Option<OpenChunk>,
    /// The contents of a group's messages, one after the other, and where each ends.
    contents: Vec<u8>,
    ends: Vec<usize>,
    /// The latest time of all messages so far.
    latest: Timestamp,
}

impl ChunkPacker {
    fn group(&mut self, messages: &[Message]) {
        self.contents.clear();
        self.ends.clear();
        let mut bytes = 0;
        for message in messages {
            let start = self.contents.len();
            put_content(&mut self.contents, &message.draft);
            self.ends.push(self.contents.len());
            bytes += record_bytes(message, self.contents.len() - start);
        }
        let epoch = messages.first().map(|message| message.cursor.epoch);
        if self.open.as_ref().is_some_and(|open| Some(open.epoch) != epoch) {
            self.finish(true);
        }
        self.finish_without_room(bytes, true);
        let contents = std::mem::take(&mut self.contents);
        let mut start = 0;
        for (message, &end) in messages.iter().zip(&std::mem::take(&mut self.ends)) {
            self.message(message, &contents[start..end]);
            start = end;
        }
        self.contents = contents;
    }

    fn message(&mut self, message: &Message, content: &[u8]) {
        self.finish_without_room(record_bytes(message, content.len()), false);
        let (position, epoch, time) = (message.position(), message.cursor.epoch, message.time);
        let content = if is_inline(content.len()) {
            Content::Inline(content)
        } else {
            for (number, fragment) in (0..).zip(content.chunks(FRAGMENT_BYTES)) {
                let value = put_fragment(position, number, epoch, fragment);
                self.entries.push(PackedEntry::Fragment(position, number, value));
            }
            Content::Fragmented(Fragmented::of(message, content))
        };
        let latest = self.latest;
        let open = self.open.get_or_insert_with(|| OpenChunk::new(position, epoch, time, latest));
        self.latest = latest.max(time);
        open.push(&Record { position, time, topic: message.topic().as_str(), content });
    }

    fn finish_without_room(&mut self, bytes: usize, ends: bool) {
        if self.open.as_ref().is_some_and(|open| !open.has_room(bytes)) {
            self.finish(ends);
        }
    }

    fn finish(&mut self, ends: bool) {
        if let Some(open) = self.open.take() {
            let (first, value) = open.seal(ends);
            self.entries.push(PackedEntry::Chunk(first, value));
        }
    }
}

fn is_inline(content_bytes: usize) -> bool {
    content_bytes <= INLINE_BYTES_MAX
}

/// The size of a record, roughly: a chunk may come out somewhat larger than [`CHUNK_BYTES`], never near 7 KB.
fn record_bytes(message: &Message, content_bytes: usize) -> usize {
    RECORD_OVERHEAD
        + message.topic().as_str().len()
        + if is_inline(content_bytes) { content_bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use tailwire_model::{Draft, Epoch, MediaType, Topic};

    use super::*;

    /// Messages of these body sizes, one after the other, in groups of these lengths.
    fn packed(groups: &[Vec<usize>]) -> (Vec<Message>, Vec<PackedEntry>) {
        let epoch = Epoch::new(7).unwrap();
        let mut messages = Vec::new();
        let mut ranges = Vec::new();
        for group in groups {
            let start = messages.len();
            for &size in group {
                let position = Position(messages.len() as u64 + 1);
                let topic = Topic::parse(if size % 2 == 0 { "even" } else { "odd/topic" }).unwrap();
                let draft = Draft::new(topic, MediaType::JSON, vec![position.0 as u8; size].into());
                messages.push(draft.into_message(epoch, position, Timestamp(1000 + position.0)));
            }
            ranges.push(start..messages.len());
        }
        let entries = pack(&messages, &ranges, &mut Timestamp(0));
        (messages, entries)
    }

    fn chunks(entries: &[PackedEntry]) -> Vec<Chunk> {
        let chunk = |entry: &PackedEntry| match entry {
            PackedEntry::Chunk(first, value) => Some(Chunk::open(*first, value).unwrap()),
            PackedEntry::Fragment(..) => None,
        };
        entries.iter().filter_map(chunk).collect()
    }

    proptest! {
        #[test]
        fn packing_keeps_every_message(
            groups in proptest::collection::vec(proptest::collection::vec(0..9000usize, 1..6), 1..6),
        ) {
            let (messages, entries) = packed(&groups);
            let chunks = chunks(&entries);
            let records = chunks.iter().flat_map(|chunk| chunk.records().map(Result::unwrap));
            let places: Vec<_> = records.map(|record| (record.position, record.time, record.topic.to_owned())).collect();
            let wanted: Vec<_> =
                messages.iter().map(|m| (m.position(), m.time, m.topic().as_str().to_owned())).collect();
            prop_assert_eq!(places, wanted);
            for entry in &entries {
                let (PackedEntry::Chunk(_, value) | PackedEntry::Fragment(_, _, value)) = entry;
                prop_assert!(value.len() < 7000);
            }
        }
    }

    #[test]
    fn only_the_last_chunk_of_a_large_group_ends() {
        let (_, entries) = packed(&[vec![100], vec![1500, 1500, 1500, 1500], vec![100]]);
        let ends: Vec<bool> = chunks(&entries).iter().map(|chunk| chunk.ends).collect();
        assert_eq!(ends, [true, false, true]);
    }

    #[test]
    fn many_small_messages_share_a_chunk() {
        let groups = vec![vec![128]; 28];
        let (_, entries) = packed(&groups);
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn fragments_come_before_the_chunk_that_needs_them() {
        let (messages, entries) = packed(&[vec![FRAGMENT_BYTES * 2 + 1]]);
        assert!(matches!(
            entries.as_slice(),
            [
                PackedEntry::Fragment(_, 0, _),
                PackedEntry::Fragment(_, 1, _),
                PackedEntry::Fragment(_, 2, _),
                PackedEntry::Chunk(..)
            ]
        ));
        let chunk = chunks(&entries).remove(0);
        let record = chunk.records().next().unwrap().unwrap();
        let Content::Fragmented(fragmented) = record.content else { unreachable!() };
        assert_eq!(fragmented.cost, messages[0].draft.cost());
        assert!(fragmented.check(record.position, b"other").is_err());
    }

    #[test]
    fn what_is_retained_keeps_its_place() {
        let (_, entries) = packed(&[vec![10, 11, 12, 13]]);
        let chunk = chunks(&entries).remove(0);
        let (value, count) = chunk.retain(|record| record.topic == "even").unwrap();
        let kept = Chunk::open(chunk.first, &value).unwrap();
        let positions: Vec<u64> = kept.records().map(|record| record.unwrap().position.0).collect();
        assert_eq!((count, positions, kept.last, kept.ends), (2, vec![1, 3], Position(4), true));
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let (_, entries) = packed(&[vec![100, 100]]);
        let PackedEntry::Chunk(first, value) = &entries[0] else { unreachable!() };
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert!(Chunk::open(*first, &damaged).is_err());
        }
    }
}
