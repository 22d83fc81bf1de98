//! Postings: the places of a topic's messages and what each costs, oldest first, as varints of how far each lies behind
//! the one before. Four bytes a message, mostly; the first few need no allocation. They are decoded from the front.

use smallvec::SmallVec;
use tailwire_model::{Position, varint::varint};

use crate::codec::{ByteReader, Damage};

/// One message of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) position: Position,
    pub(crate) cost: u64,
}

/// Postings in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Postings {
    /// The origin of the first one's distance.
    base: Position,
    last: Position,
    count: u32,
    bytes: SmallVec<[u8; 16]>,
}

impl Postings {
    /// No postings; those to come lie beyond `base`.
    pub(crate) fn after(base: Position) -> Self {
        Self { base, last: base, ..Self::default() }
    }

    /// Reads back what [`Postings::encoded`] gave.
    pub(crate) fn decode(base: Position, count: u32, bytes: &[u8]) -> Result<Self, Damage> {
        let mut reader = ByteReader(bytes);
        let mut last = base;
        for _ in 0..count {
            let (distance, _) = (reader.varint()?, reader.varint()?);
            last = last.0.checked_add(distance).map(Position).ok_or(Damage("a position is too large"))?;
            if distance == 0 {
                return Err(Damage("positions are not in order"));
            }
        }
        if !reader.0.is_empty() {
            return Err(Damage("it has more postings than it says"));
        }
        Ok(Self { base, last, count, bytes: SmallVec::from_slice(bytes) })
    }

    /// The postings as they are stored, beside their base and count.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// The newest, or the base.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Adds a message beyond all that are there.
    pub(crate) fn push(&mut self, posting: Posting) {
        for number in [posting.position.0.saturating_sub(self.last.0), posting.cost] {
            let (bytes, length) = varint(number);
            self.bytes.extend_from_slice(&bytes[..length]);
        }
        self.last = posting.position;
        self.count += 1;
    }

    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter { reader: ByteReader(&self.bytes), position: self.base }
    }

    /// The positions beyond one, oldest first.
    pub(crate) fn beyond(&self, after: Position) -> impl Iterator<Item = Position> {
        self.between(after, Position::MAX).map(|posting| posting.position)
    }

    /// The postings beyond one position and up to another, oldest first.
    pub(crate) fn between(&self, after: Position, upto: Position) -> impl Iterator<Item = Posting> {
        // Most often nothing is: then nothing needs to be decoded.
        let all = (self.last > after).then(|| self.iter()).into_iter().flatten();
        all.skip_while(move |posting| posting.position <= after)
            .take_while(move |posting| posting.position <= upto)
    }

    /// The same postings as far as `keep` keeps them, beginning where these begin.
    pub(crate) fn retain(&self, mut keep: impl FnMut(Posting) -> bool) -> Self {
        let mut kept = Self::after(self.base);
        self.iter().filter(|&posting| keep(posting)).for_each(|posting| kept.push(posting));
        kept
    }

    /// Takes the oldest that together take up to `bytes` encoded, at least one of them; these begin after them.
    pub(crate) fn take_front(&mut self, bytes: usize) -> Self {
        let mut front = Self::after(self.base);
        for posting in self.iter() {
            if front.bytes.len() >= bytes {
                break;
            }
            front.push(posting);
        }
        *self = self.without(front.last);
        front
    }

    /// The postings beyond a position, which become ones that begin there.
    pub(crate) fn without(&self, upto: Position) -> Self {
        let mut rest = Self::after(upto.max(self.base));
        self.iter().filter(|posting| posting.position > upto).for_each(|posting| rest.push(posting));
        rest
    }
}

/// Postings, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Iter<'a> {
    reader: ByteReader<'a>,
    position: Position,
}

impl Iterator for Iter<'_> {
    type Item = Posting;

    fn next(&mut self) -> Option<Posting> {
        // The bytes were written here, or checked when they were read: an error is their end.
        let distance = self.reader.varint().ok()?;
        let cost = self.reader.varint().ok()?;
        self.position = Position(self.position.0 + distance);
        Some(Posting { position: self.position, cost })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn postings(base: u64, positions: &[u64]) -> Postings {
        let mut postings = Postings::after(Position(base));
        for &position in positions {
            postings.push(Posting { position: Position(position), cost: position * 3 });
        }
        postings
    }

    fn positions(postings: &Postings) -> Vec<u64> {
        postings.iter().map(|posting| posting.position.0).collect()
    }

    #[test]
    fn they_come_back_as_they_were() {
        let all = postings(4, &[5, 7, 1000, 1 << 40, u64::MAX / 4]);
        let again = Postings::decode(all.base(), all.len(), all.encoded()).unwrap();
        assert_eq!((positions(&again), again.last(), again.len()), (positions(&all), all.last(), 5));
        assert_eq!(again.iter().map(|posting| posting.cost).take(2).collect::<Vec<_>>(), [15, 21]);
        assert!(Postings::decode(all.base(), 4, all.encoded()).is_err());
        assert!(Postings::decode(all.base(), 6, all.encoded()).is_err());
        assert!(Postings::decode(Position(u64::MAX), 1, &[1, 1]).is_err());
        assert!(Postings::decode(Position(1), 1, &[0, 1]).is_err());
    }

    #[test]
    fn a_part_begins_where_it_should() {
        let mut all = postings(0, &[1, 2, 300, 400, 500]);
        assert_eq!(all.beyond(Position(2)).map(|position| position.0).collect::<Vec<_>>(), [300, 400, 500]);
        assert_eq!(all.beyond(Position(500)).count(), 0);
        assert_eq!(positions(&all.retain(|posting| posting.position != Position(300))), [1, 2, 400, 500]);
        let front = all.take_front(5);
        assert_eq!((positions(&front), front.last()), (vec![1, 2, 300], Position(300)));
        assert_eq!((positions(&all), all.base()), (vec![400, 500], Position(300)));
        let rest = all.without(Position(900));
        assert_eq!((rest.len(), rest.last()), (0, Position(900)));
    }
}
