//! The tally: how many messages there are in the chunks, kept with the number of the last commit. The engine can lose a part
//! from the middle of what came before a kill, and positions that are missing there look like trimmed ones; the tally is
//! how that is noticed. It knows chunks by their first positions and counts, and no store.
//!
//! ```text
//! commits  newest  all + 1 [digest]  from  beyond  digest  [first  before  after]   CRC-32
//! ```
//! Numbers are varints. `all` is the records of all chunks, zero if that isn't known, as in a log that was written before
//! there was a tally; `beyond` is those of the chunks after `from`, which is how far the index is written: the chunks after
//! it are read at every opening, the others only where the index is built again, as it tells itself which messages they have.
//! A digest stands after each, because a chunk that is gone and another that is back could have the same count.
//!
//! The engine recovers its writes in order, up to where a crash cut them off. So chunks of a commit may be there that the
//! tally doesn't know yet: they lie beyond `newest`. And before messages are taken out of a chunk, the tally names the chunk
//! and its counts before and after, and counts it as it will be: of that one chunk either state is right.

use std::fmt;

use tailwire_model::Position;

use super::{
    chunk::Chunk,
    codec::{Damage, Reader, put_varint, seal, unseal},
};

/// What a log has that was written before there was a tally: only the number of the last commit.
const BARE_BYTES: usize = 8;

/// Records of some chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) records: u64,
    digest: u64,
}

impl Sum {
    /// Of one chunk. One without records is none: it may be there or not.
    fn of(first: Position, count: u16) -> Self {
        if count == 0 {
            return Self::default();
        }
        Self { records: count.into(), digest: mixed(first.0 ^ u64::from(count) << 48) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.wrapping_add(other.records),
            digest: self.digest.wrapping_add(other.digest),
        }
    }

    fn minus(self, other: Self) -> Self {
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

/// A chunk that messages are being taken out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shrinking {
    pub(super) first: Position,
    pub(super) before: u16,
    pub(super) after: u16,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// The number of the last commit.
    pub(super) commits: u64,
    /// The newest position that is stored with it.
    pub(super) newest: Position,
    pub(super) all: Option<Sum>,
    pub(super) from: Position,
    pub(super) beyond: Sum,
    pub(super) shrinking: Option<Shrinking>,
    /// Where the index will be written up to, and the records of the chunks beyond. Not stored.
    pub(super) round: Option<(Position, Sum)>,
}

/// What is known of the last commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its number.
    Commits(u64),
    /// All of it.
    Tally(Tally),
}

impl Known {
    /// The number of the last commit; zero if there was none.
    pub(super) fn commits(&self) -> u64 {
        match self {
            Self::Commits(commits) => *commits,
            Self::Tally(tally) => tally.commits,
        }
    }

    /// The tally, if there is one.
    pub(super) fn tally(self) -> Option<Tally> {
        match self {
            Self::Commits(_) => None,
            Self::Tally(tally) => Some(tally),
        }
    }

    /// From what is stored under `key`.
    pub(super) fn take(key: &[u8], value: &[u8]) -> Result<Self, Damage> {
        match <[u8; BARE_BYTES]>::try_from(value) {
            Ok(bare) => Ok(Self::Commits(u64::from_le_bytes(bare))),
            Err(_) => Tally::take(key, value).map(Self::Tally),
        }
    }
}

impl Tally {
    /// Of a log without messages.
    pub(super) fn of_none() -> Self {
        Self { all: Some(Sum::default()), ..Self::default() }
    }

    /// A chunk has so many records that were not there.
    pub(super) fn add(&mut self, first: Position, count: u16) {
        self.change(first, |sum| sum.plus(Sum::of(first, count)));
    }

    /// Messages are about to be taken out of a chunk.
    pub(super) fn begin_shrinking(&mut self, shrinking: Shrinking) {
        let Shrinking { first, before, after } = shrinking;
        self.change(first, |sum| sum.minus(Sum::of(first, before)).plus(Sum::of(first, after)));
        self.shrinking = Some(shrinking);
    }

    /// It has become of a shrinking chunk what was to become of it, or not.
    pub(super) fn end_shrinking(&mut self, is_done: bool) {
        if let Some(Shrinking { first, before, after }) = self.shrinking.take()
            && !is_done
        {
            self.change(first, |sum| sum.minus(Sum::of(first, after)).plus(Sum::of(first, before)));
        }
    }

    /// The index begins to be written up to here.
    pub(super) fn begin_round(&mut self, upto: Position) {
        self.round = Some((upto, Sum::default()));
    }

    /// It is written.
    pub(super) fn end_round(&mut self) {
        if let Some(round) = self.round.take() {
            (self.from, self.beyond) = round;
        }
    }

    fn change(&mut self, first: Position, change: impl Fn(Sum) -> Sum) {
        self.all = self.all.map(&change);
        if first > self.from {
            self.beyond = change(self.beyond);
        }
        if let Some((upto, sum)) = &mut self.round
            && first > *upto
        {
            *sum = change(*sum);
        }
    }

    /// As it is stored under `key`.
    pub(super) fn put(&self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(64);
        put_varint(&mut value, self.commits);
        put_varint(&mut value, self.newest.0);
        put_varint(&mut value, self.all.map_or(0, |all| all.records + 1));
        if let Some(all) = self.all {
            value.extend_from_slice(&all.digest.to_le_bytes());
        }
        put_varint(&mut value, self.from.0);
        put_varint(&mut value, self.beyond.records);
        value.extend_from_slice(&self.beyond.digest.to_le_bytes());
        if let Some(Shrinking { first, before, after }) = self.shrinking {
            [first.0, before.into(), after.into()].into_iter().for_each(|n| put_varint(&mut value, n));
        }
        seal(key, &mut value);
        value
    }

    fn take(key: &[u8], sealed: &[u8]) -> Result<Self, Damage> {
        let mut reader = Reader(unseal(key, sealed)?);
        let (commits, newest) = (reader.varint()?, Position(reader.varint()?));
        let all = match reader.varint()?.checked_sub(1) {
            Some(records) => Some(Sum { records, digest: reader.u64()? }),
            None => None,
        };
        let from = Position(reader.varint()?);
        let beyond = Sum { records: reader.varint()?, digest: reader.u64()? };
        let shrinking = if reader.0.is_empty() { None } else { Some(take_shrinking(&mut reader)?) };
        Ok(Self { commits, newest, all, from, beyond, shrinking, round: None })
    }
}

fn take_shrinking(reader: &mut Reader<'_>) -> Result<Shrinking, Damage> {
    let first = Position(reader.varint()?);
    let mut count = || u16::try_from(reader.varint()?).map_err(|_| Damage("a count is too large"));
    Ok(Shrinking { first, before: count()?, after: count()? })
}

/// What is counted while chunks are read, oldest first, up to the log's end.
#[derive(Debug)]
pub(super) struct Count {
    /// What it is held against. No chunk of it is shrinking.
    tally: Option<Tally>,
    /// How far the index is written, and from where on chunks are read.
    mark: Position,
    reads_from: Position,
    /// Of what is read: beyond the tally's `from`, of these what the tally doesn't know yet, and beyond the mark.
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
pub(super) struct Missing {
    /// How many there are less.
    pub(super) records: u64,
    /// They were among these positions, if it can be told.
    pub(super) among: Option<(Position, Position)>,
}

impl Missing {
    /// What it is, in words, without the positions.
    pub(super) fn what(&self) -> String {
        match self.records {
            0 => "it has other messages than were stored".into(),
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

impl Count {
    /// To be held against a tally, if there is one.
    pub(super) fn new(tally: Option<Tally>) -> Self {
        let mut own = Self {
            tally,
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

    /// Begins, also once more, for an index that is written up to `mark`. Answers after which position chunks are to be read.
    pub(super) fn begin(&mut self, mark: Position) -> Position {
        let from = self.tally.as_ref().map_or(mark, |tally| tally.from.min(mark));
        let zero = Sum::default();
        (self.mark, self.reads_from, self.end, self.holes) = (mark, from, from, None);
        (self.beyond, self.fresh, self.since, self.read) = (zero, zero, zero, zero);
        from
    }

    /// Counts a chunk.
    pub(super) fn see(&mut self, chunk: &Chunk) {
        let sum = Sum::of(chunk.first, chunk.count);
        self.read = self.read.plus(sum);
        if chunk.first > self.mark {
            self.since = self.since.plus(sum);
        }
        let Some(tally) = &self.tally else { return };
        if chunk.first > tally.from {
            self.beyond = self.beyond.plus(sum);
        }
        if chunk.last > tally.newest {
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

    /// What is missing of what was stored, as far as it was read; after the last chunk.
    pub(super) fn missing(&mut self) -> Option<Missing> {
        let tally = self.tally.as_ref()?;
        let (is, should) = match tally.all {
            Some(all) if self.reads_all() => (self.read, all),
            _ => (self.beyond, tally.beyond),
        };
        let is = is.minus(self.fresh);
        if is == should {
            return None;
        }
        let (records, newest) = (should.records.saturating_sub(is.records), tally.newest);
        self.skip(newest.next());
        Some(Missing { records, among: self.holes })
    }

    /// The tally of what there is, as of a commit with this number.
    pub(super) fn into_tally(self, commits: u64, newest: Position) -> Tally {
        let all = match self.tally.as_ref() {
            _ if self.reads_all() => Some(self.read),
            Some(tally) => tally.all.map(|all| all.minus(tally.beyond).plus(self.beyond)),
            None => None,
        };
        Tally { commits, newest, all, from: self.mark, beyond: self.since, ..Tally::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tailwire_model::{Draft, Epoch, MediaType, Timestamp, Topic};

    use super::{
        super::chunk::{Entry, pack},
        *,
    };

    const KEY: &[u8] = b"key";

    /// A chunk of so many messages.
    fn chunk(first: u64, count: u64) -> Chunk {
        let message = |position| {
            let draft = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, "x".into());
            draft.into_message(Epoch::new(1).unwrap(), Position(position), Timestamp(1))
        };
        let messages: Vec<_> = (first..first + count).map(message).collect();
        let Some(Entry::Chunk(first, value)) = pack(&messages, &[0..messages.len()]).pop() else {
            unreachable!()
        };
        Chunk::open(first, &value).unwrap()
    }

    fn chunks() -> [Chunk; 3] {
        [chunk(1, 2), chunk(3, 4), chunk(7, 3)]
    }

    /// The tally of a log with these chunks, whose index is written up to here.
    fn tally(chunks: &[Chunk], from: u64) -> Tally {
        let mut tally = Tally::of_none();
        (tally.commits, tally.newest) = (5, Position(9));
        tally.begin_round(Position(from));
        chunks.iter().for_each(|chunk| tally.add(chunk.first, chunk.count));
        tally.end_round();
        tally
    }

    fn missing(tally: Tally, mark: u64, chunks: &[Chunk]) -> Option<Missing> {
        let mut count = Count::new(Some(tally));
        let from = count.begin(Position(mark));
        chunks.iter().filter(|chunk| chunk.first > from).for_each(|chunk| count.see(chunk));
        count.missing()
    }

    #[test]
    fn it_round_trips_and_is_checked() {
        let mut known = tally(&chunks(), 2);
        for shrinks in [false, true] {
            if shrinks {
                known.begin_shrinking(Shrinking { first: Position(3), before: 4, after: 1 });
            }
            for all in [known.all, None] {
                let tally = Tally { all, ..known.clone() };
                let mut value = tally.put(KEY);
                assert_eq!(Known::take(KEY, &value), Ok(Known::Tally(tally)));
                value[1] ^= 1;
                assert!(Known::take(KEY, &value).is_err());
            }
        }
        assert_eq!(Known::take(KEY, &7u64.to_le_bytes()), Ok(Known::Commits(7)));
    }

    #[test]
    fn what_is_there_is_not_missed() {
        let chunks = chunks();
        for from in [0, 2, 6, 9] {
            // The index may be written further than the tally knows, or not at all.
            for mark in [0, from, 9] {
                assert_eq!(missing(tally(&chunks, from), mark, &chunks), None);
            }
        }
        let more = [&chunks[..], &[chunk(10, 3)]].concat();
        assert_eq!(missing(tally(&chunks, 2), 2, &more), None, "of a commit whose number was not written");
    }

    #[test]
    fn what_is_gone_is_missed() {
        let [a, b, c] = chunks();
        let whole = [a.clone(), b.clone(), c.clone()];
        let lost = |records, from, to| Some(Missing { records, among: Some((Position(from), Position(to))) });
        assert_eq!(missing(tally(&whole, 2), 2, &[a.clone(), c.clone()]), lost(4, 3, 6));
        assert_eq!(missing(tally(&whole, 2), 2, &[a.clone(), b.clone()]), lost(3, 7, 9));
        assert_eq!(missing(tally(&whole, 2), 2, std::slice::from_ref(&a)), lost(7, 3, 9));
        // Only where all is read it is known that the index and the chunks were lost together.
        assert_eq!(missing(tally(&whole, 2), 0, &[b.clone(), c.clone()]), lost(2, 1, 2));
        assert_eq!(missing(tally(&whole, 2), 2, &[b.clone(), c.clone()]), None);
        // As many messages, but not the same.
        let other = [a, chunk(3, 3), chunk(6, 1), c];
        assert_eq!(missing(tally(&whole, 2), 2, &other).unwrap().records, 0);
    }

    #[test]
    fn of_a_chunk_that_shrinks_either_state_is_right() {
        let [a, b, c] = chunks();
        let (smaller, _) = b.retain(|record| record.position == b.first).unwrap();
        let smaller = Chunk::open(b.first, &smaller).unwrap();
        for from in [0, 2, 6] {
            for is_done in [true, false] {
                let mut tally = tally(&[a.clone(), b.clone(), c.clone()], from);
                tally.begin_round(Position(9));
                tally.begin_shrinking(Shrinking { first: b.first, before: b.count, after: 1 });
                tally.end_shrinking(is_done);
                let now = [a.clone(), if is_done { smaller.clone() } else { b.clone() }, c.clone()];
                assert_eq!(missing(tally.clone(), 0, &now), None);
                assert_eq!(missing(tally.clone(), from, &now), None);
                tally.end_round();
                assert_eq!(missing(tally, 9, &now), None);
            }
        }
    }

    #[test]
    fn it_goes_on_from_what_was_counted() {
        let chunks = chunks();
        for (from, mark) in [(0, 0), (2, 2), (2, 6), (6, 6), (2, 0)] {
            let mut count = Count::new(Some(tally(&chunks, from)));
            let after = count.begin(Position(mark));
            let more = [&chunks[..], &[chunk(10, 3)]].concat();
            more.iter().filter(|chunk| chunk.first > after).for_each(|chunk| count.see(chunk));
            let mut wanted = tally(&more, mark);
            (wanted.commits, wanted.newest) = (6, Position(12));
            assert_eq!(count.into_tally(6, Position(12)), wanted);
        }
    }
}
