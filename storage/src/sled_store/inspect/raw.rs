//! Values in the engine's file and in the journal, found by their labels, independent of the engine.
//!
//! A file may hold a value several times, and values that don't count any more. Of chunks that share positions the
//! latest epoch's counts, and of two of one epoch the one with fewer records, as a chunk only ever loses some. What lies
//! beyond the end of its epoch was dropped when the next one began. Where a value's checksum is wrong, what its label says
//! is its length is passed over: nothing in a message's body is taken for a label.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use memchr::memchr;
use tailwire_model::{Epoch, EpochStart, Epochs, Opening, Position};

use super::{
    InspectError, io_error,
    ledger::{Small, SmallKind},
    legible,
};
use crate::{
    codec::Damage,
    sled_store::layout::{
        chunk::Chunk,
        label::{self, FIRST_BYTE, Kind, LABELLED_BYTES_MAX},
        values::{fragment_key, take_fragment},
    },
};

/// Bytes that are read at once; a label that begins near the end of it is looked at with the next.
const WINDOW_BYTES: usize = 1 << 20;

/// Where a value stands, with its label.
#[derive(Debug, Clone, Copy)]
struct ValueSpan {
    /// In which of the files.
    file: u8,
    offset: u64,
    bytes: usize,
}

/// A chunk that was found.
#[derive(Debug, Clone, Copy)]
struct FoundChunk {
    last: Position,
    epoch: Epoch,
    count: u16,
    place: ValueSpan,
}

/// The files, and what was found in them.
pub(super) struct RawFiles {
    files: Vec<File>,
    found: Vec<(Position, FoundChunk)>,
    /// Those that count.
    chunks: BTreeMap<Position, FoundChunk>,
    fragments: HashMap<(Position, u32, Epoch), ValueSpan>,
    small: Vec<Small>,
    spoiled: usize,
}

impl RawFiles {
    /// Goes through files, as far as they are there.
    pub(super) fn scan(paths: &[&Path]) -> Result<Self, InspectError> {
        let mut own = Self {
            files: Vec::new(),
            found: Vec::new(),
            chunks: BTreeMap::new(),
            fragments: HashMap::new(),
            small: Vec::new(),
            spoiled: 0,
        };
        for path in paths.iter().filter(|path| path.exists()) {
            let file = File::open(path).map_err(io_error(path))?;
            own.read_all(&file).map_err(io_error(path))?;
            own.files.push(file);
        }
        Ok(own)
    }

    fn read_all(&mut self, file: &File) -> io::Result<()> {
        let mut window = Vec::new();
        let mut start = 0;
        loop {
            let had = window.len();
            window.resize(WINDOW_BYTES, 0);
            let read = legible::read(file, start + had as u64, &mut window[had..])?;
            window.truncate(had + read.bytes);
            let is_last = window.len() < WINDOW_BYTES;
            // A value that begins after this may go beyond the window.
            let upto = if is_last { window.len() } else { window.len() - LABELLED_BYTES_MAX };
            let at = self.look_through(&window, upto, start);
            if is_last {
                return Ok(());
            }
            window.drain(..at);
            start += at as u64;
        }
    }

    /// Takes in what begins before `upto`. Answers how far it got, perhaps beyond.
    fn look_through(&mut self, window: &[u8], upto: usize, start: u64) -> usize {
        let mut at = 0;
        while at < upto {
            let Some(next) = memchr(FIRST_BYTE, &window[at..upto]) else { return upto };
            at += next;
            at += match label::find(&window[at..]) {
                Err(_) => 1,
                Ok(found) => {
                    let offset = start + at as u64;
                    let labelled = &window[at..at + found.bytes];
                    let place = ValueSpan { file: self.files.len() as u8, offset, bytes: found.bytes };
                    let taken = self.take_in(found.kind, found.key, labelled, place);
                    self.spoiled += usize::from(taken.is_err());
                    found.bytes
                }
            };
        }
        at
    }

    fn take_in(&mut self, kind: Kind, key: &[u8], labelled: &[u8], place: ValueSpan) -> Result<(), Damage> {
        let small = match kind {
            Kind::Chunk => {
                let first = key.try_into().map(u64::from_be_bytes).map_err(|_| Damage("its key is none"))?;
                let Chunk { last, epoch, count, .. } = Chunk::open(Position(first), labelled)?;
                let found = FoundChunk { last, epoch, count, place };
                self.found.push((Position(first), found));
                return Ok(());
            }
            Kind::Fragment => {
                let (epoch, _) = take_fragment(key, labelled)?;
                if let Some((position, number)) = key.split_first_chunk::<8>()
                    && let Ok(number) = number.try_into()
                {
                    let position = Position(u64::from_be_bytes(*position));
                    self.fragments.insert((position, u32::from_be_bytes(number), epoch), place);
                }
                return Ok(());
            }
            Kind::Epoch => SmallKind::Epoch,
            Kind::Trim => SmallKind::Trim,
            Kind::Lost => SmallKind::Lost,
            Kind::Removed => SmallKind::Removed,
        };
        label::open(kind, key, labelled)?;
        self.small.push(Small { kind: small, key: key.to_vec(), value: labelled.to_vec() });
        Ok(())
    }

    /// Values that are no messages.
    pub(super) fn small(&self) -> &[Small] {
        &self.small
    }

    /// Values with a label whose checksum is wrong.
    pub(super) fn spoiled(&self) -> usize {
        self.spoiled
    }

    /// Keeps the chunks that count. Where the epochs are known, none beyond the end of its own. Beyond `acknowledged`
    /// only what follows without a hole: it was never acknowledged, so it may be missing, but a batch may not be there in
    /// part.
    pub(super) fn choose_chunks(&mut self, epochs: Option<&Epochs>, acknowledged: Position) {
        let mut found = std::mem::take(&mut self.found);
        found.retain(|(first, found)| {
            epochs.is_none_or(|epochs| epochs.cursor_at(*first).epoch == found.epoch)
        });
        // The ones that count before the others that share positions with them.
        found.sort_by_key(|(_, found)| (Reverse(found.epoch), found.count));
        for (first, found) in found {
            let before = self.chunks.range(..=found.last).next_back();
            if before.is_none_or(|(_, before)| before.last < first) {
                self.chunks.insert(first, found);
            }
        }
        let mut upto = acknowledged;
        self.chunks.retain(|first, found| {
            let follows = *first <= upto.next();
            upto = if follows { upto.max(found.last) } else { upto };
            follows
        });
    }

    /// The epochs that are known, and those of chunks whose epochs are not: each from its first chunk that was found.
    /// Before [`RawFiles::choose_chunks`].
    pub(super) fn epochs(&self, known: &BTreeMap<Epoch, EpochStart>) -> Option<Epochs> {
        let mut starts = known.clone();
        for (first, FoundChunk { epoch, .. }) in &self.found {
            if !known.contains_key(epoch) {
                let start = EpochStart { epoch: *epoch, first: *first, opening: Opening::Unclean };
                let start = starts.entry(*epoch).or_insert(start);
                start.first = start.first.min(*first);
            }
        }
        if let Some(mut oldest) = starts.first_entry() {
            oldest.get_mut().first = Position(1);
        }
        Epochs::new(starts.into_values().collect())
    }

    /// The chunks that count, oldest first.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let chunk = |(first, found): (&Position, &FoundChunk)| {
            Chunk::open(*first, &self.read(found.place).ok()?).ok()
        };
        self.chunks.iter().filter_map(chunk)
    }

    /// A fragment of a message.
    pub(super) fn fragment(&self, position: Position, number: u32, epoch: Epoch) -> Option<Vec<u8>> {
        let place = self.fragments.get(&(position, number, epoch))?;
        let value = self.read(*place).ok()?;
        let (_, bytes) = take_fragment(&fragment_key(position, number), &value).ok()?;
        Some(bytes.to_vec())
    }

    fn read(&self, place: ValueSpan) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.bytes];
        let mut file = &self.files[usize::from(place.file)];
        file.seek(SeekFrom::Start(place.offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::slice;

    use tailwire_model::{Draft, MediaType, Message, Timestamp, Topic};

    use super::*;
    use crate::sled_store::layout::chunk::{PackedEntry, pack};

    /// A chunk of messages at these positions.
    fn chunk(epoch: u64, positions: std::ops::RangeInclusive<u64>, topic: &str) -> (Position, Vec<u8>) {
        let draft = || Draft::new(Topic::parse(topic).unwrap(), MediaType::NONE, "body".into());
        let epoch = Epoch::new(epoch).unwrap();
        let message = |position| draft().into_message(epoch, Position(position), Timestamp(1));
        let messages: Vec<Message> = positions.map(message).collect();
        let group = 0..messages.len();
        let Some(PackedEntry::Chunk(first, value)) =
            pack(&messages, slice::from_ref(&group), &mut Timestamp(0)).pop()
        else {
            unreachable!()
        };
        (first, value)
    }

    fn scanned(content: &[u8]) -> RawFiles {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        RawFiles::scan(&[file.path()]).unwrap()
    }

    fn spans(raw: &RawFiles) -> Vec<(u64, u64, u64)> {
        raw.chunks().map(|chunk| (chunk.epoch.number(), chunk.first.0, chunk.last.0)).collect()
    }

    #[test]
    fn values_are_found_wherever_they_stand() {
        let length = chunk(1, 1..=3, "a").1.len();
        let edge = WINDOW_BYTES - LABELLED_BYTES_MAX;
        let starts = [0, edge - length, edge, WINDOW_BYTES, 2 * edge - 3, 2 * WINDOW_BYTES + 7];
        // Rubbish that begins like a label.
        let mut content = b"\xF5tw\xF5\xF5tc".repeat(3 * WINDOW_BYTES / 7);
        let end = content.len() - length;
        for (n, at) in (0..).zip(starts.into_iter().chain([end])) {
            content[at..at + length].copy_from_slice(&chunk(1, 3 * n + 1..=3 * n + 3, "a").1);
        }
        let mut raw = scanned(&content);
        raw.choose_chunks(None, Position(100));
        assert_eq!(spans(&raw), (0..7).map(|n| (1, 3 * n + 1, 3 * n + 3)).collect::<Vec<_>>());
        assert_eq!(raw.spoiled(), 0);
    }

    #[test]
    fn the_latest_of_two_chunks_counts() {
        let (first, whole) = chunk(1, 1..=4, "a");
        let (rewritten, _) =
            Chunk::open(first, &whole).unwrap().retain(|record| record.position.0 > 2).unwrap();
        for content in [[whole.clone(), rewritten.clone()].concat(), [rewritten, whole].concat()] {
            let mut raw = scanned(&content);
            raw.choose_chunks(None, Position(100));
            assert_eq!(raw.chunks().map(|chunk| chunk.count).collect::<Vec<_>>(), [2]);
        }
        for order in [[1, 2], [2, 1]] {
            let chunks = order.map(|epoch| chunk(epoch, epoch..=4, "a").1);
            let mut raw = scanned(&chunks.concat());
            raw.choose_chunks(None, Position(100));
            assert_eq!(spans(&raw), [(2, 2, 4)]);
        }
    }

    #[test]
    fn beyond_what_was_promised_nothing_follows_a_hole() {
        let content = [1..=2, 5..=6, 7..=8, 10..=11].map(|positions| chunk(1, positions, "a").1).concat();
        let mut raw = scanned(&content);
        raw.choose_chunks(None, Position(6));
        assert_eq!(spans(&raw), [(1, 1, 2), (1, 5, 6), (1, 7, 8)]);
    }
}
