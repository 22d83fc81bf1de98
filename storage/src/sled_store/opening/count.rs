//! Counting the chunks that are read at an opening, and the check against the manifest. It finds what is missing, and
//! does not decide what becomes of such a log.

use std::fmt;

use tailwire_model::Position;

use crate::sled_store::{
    durability::manifest::{Manifest, Sum},
    layout::chunk::Chunk,
};

/// The count of records in chunks that are read, oldest first, up to the log's end.
#[derive(Debug)]
pub(crate) struct Count {
    /// The manifest to compare with. No chunk of it is shrinking.
    manifest: Manifest,
    /// How far the index is written, and from where on chunks are read.
    mark: Position,
    reads_from: Position,
    /// Of what is read: beyond the manifest's `from`, of these what the manifest doesn't know yet, and beyond the mark.
    beyond: Sum,
    fresh: Sum,
    since: Sum,
    /// Everything that is read.
    read: Sum,
    end: Position,
    /// The first and the last position of those that are in no chunk.
    holes: Option<(Position, Position)>,
}

/// Messages that should be there and aren't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    /// How many there are less.
    pub(crate) records: u64,
    /// They were among these positions, if that is known.
    pub(crate) among: Option<(Position, Position)>,
}

impl Count {
    /// A count to compare with a manifest.
    pub(crate) fn new(manifest: Manifest) -> Self {
        let mut own = Self {
            manifest,
            mark: Position::ZERO,
            reads_from: Position::ZERO,
            beyond: Sum::default(),
            fresh: Sum::default(),
            since: Sum::default(),
            read: Sum::default(),
            end: Position::ZERO,
            holes: None,
        };
        own.begin(Position::ZERO);
        own
    }

    /// Begins, also once more, for an index that is written up to `mark`. Answers after which position chunks are to be
    /// read.
    pub(crate) fn begin(&mut self, mark: Position) -> Position {
        let from = self.manifest.from.min(mark);
        let zero = Sum::default();
        (self.mark, self.reads_from, self.end, self.holes) = (mark, from, from, None);
        (self.beyond, self.fresh, self.since, self.read) = (zero, zero, zero, zero);
        from
    }

    /// Counts a chunk.
    pub(crate) fn see(&mut self, chunk: &Chunk) {
        let sum = Sum::of(chunk.first, chunk.count);
        self.read = self.read.plus(sum);
        if chunk.first > self.mark {
            self.since = self.since.plus(sum);
        }
        if chunk.first > self.manifest.from {
            self.beyond = self.beyond.plus(sum);
        }
        if chunk.last > self.manifest.newest {
            self.fresh = self.fresh.plus(sum);
            return;
        }
        self.skip(chunk.first);
        self.end = self.end.max(chunk.last);
    }

    /// Notes the positions before `next` that are in no chunk.
    fn skip(&mut self, next: Position) {
        if next > self.end.next() {
            let first = self.holes.map_or(self.end.next(), |(first, _)| first);
            self.holes = Some((first, next.previous()));
        }
    }

    fn reads_all(&self) -> bool {
        self.reads_from == Position::ZERO
    }

    /// The missing records, as far as chunks were read; after the last chunk.
    pub(crate) fn missing(&mut self) -> Option<Missing> {
        let (is, should) = if self.reads_all() {
            (self.read, self.manifest.all)
        } else {
            (self.beyond, self.manifest.beyond)
        };
        let is = is.minus(self.fresh);
        if is == should {
            return None;
        }
        let (records, newest) = (should.records.saturating_sub(is.records), self.manifest.newest);
        self.skip(newest.next());
        // Another order than the local one leaves holes of its own.
        let is_dense = self.manifest.token.0.is_empty();
        Some(Missing { records, among: self.holes.filter(|_| records > 0 && is_dense) })
    }

    /// The manifest of what there is, as of a commit with this number.
    pub(crate) fn into_manifest(self, commits: u64, newest: Position) -> Manifest {
        let before = self.manifest.all.minus(self.manifest.beyond);
        let all = if self.reads_all() { self.read } else { before.plus(self.beyond) };
        Manifest { commits, newest, all, from: self.mark, beyond: self.since, ..Manifest::default() }
    }
}

impl Missing {
    /// The loss in words, without the positions.
    pub(crate) fn what(&self) -> String {
        match self.records {
            0 => "it has not just the messages that were stored".into(),
            1 => "1 message that was stored is missing".into(),
            more => format!("{more} messages that were stored are missing"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what())?;
        self.among.map_or(Ok(()), |(from, to)| write!(f, ", from among positions {from} to {to}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tailwire_model::{Draft, Epoch, MediaType, Timestamp, Topic};

    use super::*;
    use crate::sled_store::{
        durability::manifest::Shrinking,
        layout::chunk::{PackedEntry, pack},
    };

    /// A chunk of so many messages.
    fn chunk(first: u64, count: u64) -> Chunk {
        let message = |position| {
            let draft = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, "x".into());
            draft.into_message(Epoch::new(1).unwrap(), Position(position), Timestamp(1))
        };
        let messages: Vec<_> = (first..first + count).map(message).collect();
        let group = 0..messages.len();
        let Some(PackedEntry::Chunk(first, value)) =
            pack(&messages, std::slice::from_ref(&group), &mut Timestamp(0)).pop()
        else {
            unreachable!()
        };
        Chunk::open(first, &value).unwrap()
    }

    fn chunks() -> [Chunk; 3] {
        [chunk(1, 2), chunk(3, 4), chunk(7, 3)]
    }

    /// The manifest of a log with these chunks, whose index is written up to here.
    fn manifest(chunks: &[Chunk], from: u64) -> Manifest {
        let mut manifest = Manifest::default();
        (manifest.commits, manifest.newest) = (5, Position(9));
        manifest.from = Position(from);
        chunks.iter().for_each(|chunk| manifest.add(chunk.first, chunk.count));
        manifest
    }

    fn missing(manifest: Manifest, mark: u64, chunks: &[Chunk]) -> Option<Missing> {
        let mut count = Count::new(manifest);
        let from = count.begin(Position(mark));
        chunks.iter().filter(|chunk| chunk.first > from).for_each(|chunk| count.see(chunk));
        count.missing()
    }

    #[test]
    fn what_is_there_is_not_missed() {
        let chunks = chunks();
        for from in [0, 2, 6, 9] {
            // The index may be written further than the manifest knows, or not at all.
            for mark in [0, from, 9] {
                assert_eq!(missing(manifest(&chunks, from), mark, &chunks), None);
            }
        }
        let more = [&chunks[..], &[chunk(10, 3)]].concat();
        assert_eq!(missing(manifest(&chunks, 2), 2, &more), None, "of a commit whose number was not written");
    }

    #[test]
    fn what_is_gone_is_missed() {
        let [a, b, c] = chunks();
        let whole = [a.clone(), b.clone(), c.clone()];
        let lost = |records, from, to| Some(Missing { records, among: Some((Position(from), Position(to))) });
        assert_eq!(missing(manifest(&whole, 2), 2, &[a.clone(), c.clone()]), lost(4, 3, 6));
        assert_eq!(missing(manifest(&whole, 2), 2, &[a.clone(), b.clone()]), lost(3, 7, 9));
        assert_eq!(missing(manifest(&whole, 2), 2, std::slice::from_ref(&a)), lost(7, 3, 9));
        // Only where all is read it is known that the index and the chunks were lost together.
        assert_eq!(missing(manifest(&whole, 2), 0, &[b.clone(), c.clone()]), lost(2, 1, 2));
        assert_eq!(missing(manifest(&whole, 2), 2, &[b.clone(), c.clone()]), None);
        // As many messages, but not the same.
        let other = [a, chunk(3, 3), chunk(6, 1), c];
        assert_eq!(missing(manifest(&whole, 2), 2, &other).unwrap().records, 0);
    }

    #[test]
    fn of_a_chunk_that_shrinks_either_state_is_right() {
        let [a, b, c] = chunks();
        let (smaller, _) = b.retain(|record| record.position == b.first).unwrap();
        let smaller = Chunk::open(b.first, &smaller).unwrap();
        for from in [0, 2, 6] {
            for is_done in [true, false] {
                let mut manifest = manifest(&[a.clone(), b.clone(), c.clone()], from);
                manifest.begin_shrinking(Shrinking { first: b.first, before: b.count, after: 1 });
                manifest.end_shrinking(is_done);
                let now = [a.clone(), if is_done { smaller.clone() } else { b.clone() }, c.clone()];
                assert_eq!(missing(manifest.clone(), 0, &now), None);
                assert_eq!(missing(manifest.clone(), from, &now), None);
            }
        }
    }

    #[test]
    fn it_goes_on_from_what_was_counted() {
        let chunks = chunks();
        for (from, mark) in [(0, 0), (2, 2), (2, 6), (6, 6), (2, 0)] {
            let mut count = Count::new(manifest(&chunks, from));
            let after = count.begin(Position(mark));
            let more = [&chunks[..], &[chunk(10, 3)]].concat();
            more.iter().filter(|chunk| chunk.first > after).for_each(|chunk| count.see(chunk));
            let mut wanted = manifest(&more, mark);
            (wanted.commits, wanted.newest) = (6, Position(12));
            assert_eq!(count.into_manifest(6, Position(12)), wanted);
        }
    }
}
