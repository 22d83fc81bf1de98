//! Whether a subscriber got every message, once and in order.

use std::collections::BTreeMap;

use crate::measure::payload::Stamp;
use crate::measure::topic_set::TopicShare;

/// One subscriber's count. Each publisher sends one message at a time and numbers them from 0, so a subscriber must
/// see each publisher's numbers without a hole; how publishers interleave is the server's to say, but the same for
/// all subscribers, which [`ReceivedMessages::order`] tells.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedMessages {
    /// The share that it asked for, of how many parts.
    pub(crate) share: TopicShare,
    parts: usize,
    pub(crate) seen: ReceivedSet,
    /// Messages that came, each counted once.
    pub(crate) distinct: u64,
    pub(crate) doubled: u64,
    /// Messages that came after a later one.
    pub(crate) reordered: u64,
    /// Messages of other runs on the same topic, or of topics that were not asked for.
    pub(crate) foreign: u64,
    /// A digest of all that came, in the order in which it came.
    pub(crate) order: u64,
}

/// Which messages came, by their ordinals within the share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReceivedSet {
    /// For each publisher, which of its messages should come next.
    next: Box<[u32]>,
    /// Those that were skipped and have not come since: by publisher and first ordinal, where the hole ends. A broker
    /// that does what it should leaves none, so that this takes no memory.
    holes: BTreeMap<(u32, u32), u32>,
}

/// How a message fits what came before it.
#[derive(Debug, PartialEq, Eq)]
enum Arrival {
    Next,
    Late,
    Doubled,
}

impl ReceivedMessages {
    pub(crate) fn new(share: TopicShare, parts: usize, publishers: usize) -> ReceivedMessages {
        ReceivedMessages {
            share,
            parts,
            seen: ReceivedSet { next: vec![0; publishers].into_boxed_slice(), holes: BTreeMap::new() },
            distinct: 0,
            doubled: 0,
            reordered: 0,
            foreign: 0,
            order: 0,
        }
    }

    /// Takes note of a message; false if no publisher of this run sent it to where it was asked for.
    pub(crate) fn record(&mut self, mark: Stamp) -> bool {
        let ordinal = self.share.ordinal(self.parts, mark);
        let Some(fit) = ordinal.and_then(|ordinal| self.seen.take(mark.from, ordinal)) else {
            self.foreign += 1;
            return false;
        };
        self.distinct += u64::from(fit != Arrival::Doubled);
        self.doubled += u64::from(fit == Arrival::Doubled);
        self.reordered += u64::from(fit == Arrival::Late);
        // The multiplier is the 64-bit FNV prime.
        let id = u64::from(mark.from) << 32 | u64::from(mark.seq);
        self.order = (self.order ^ id).wrapping_mul(0x0100_0000_01b3);
        true
    }
}

impl ReceivedSet {
    fn take(&mut self, from: u32, ordinal: u32) -> Option<Arrival> {
        let next = self.next.get_mut(from as usize)?;
        if ordinal >= *next {
            if ordinal > *next {
                self.holes.insert((from, *next), ordinal);
            }
            *next = ordinal.saturating_add(1);
            return Some(Arrival::Next);
        }
        let Some((start, end)) = self.hole(from, ordinal) else {
            return Some(Arrival::Doubled);
        };
        self.holes.remove(&(from, start));
        for (start, end) in [(start, ordinal), (ordinal + 1, end)] {
            if start < end {
                self.holes.insert((from, start), end);
            }
        }
        Some(Arrival::Late)
    }

    /// Whether this message came.
    pub(crate) fn has(&self, from: u32, ordinal: u32) -> bool {
        let reached = self.next.get(from as usize).is_some_and(|&next| ordinal < next);
        reached && self.hole(from, ordinal).is_none()
    }

    fn hole(&self, from: u32, ordinal: u32) -> Option<(u32, u32)> {
        let (&(of, start), &end) = self.holes.range(..=(from, ordinal)).next_back()?;
        (of == from && ordinal < end).then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(marks: &[(u32, u32)]) -> ReceivedMessages {
        let mut received = ReceivedMessages::new(TopicShare::All, 1, 2);
        for &(from, seq) in marks {
            received.record(Stamp { seq, from, at: 0 });
        }
        received
    }

    fn counts(marks: &[(u32, u32)]) -> (u64, u64, u64) {
        let received = received(marks);
        (received.distinct, received.doubled, received.reordered)
    }

    #[test]
    fn publishers_are_counted_apart() {
        assert_eq!(counts(&[(0, 0), (1, 0), (1, 1), (0, 1)]), (4, 0, 0));
    }

    #[test]
    fn a_hole_is_missing_until_it_is_filled() {
        assert_eq!(counts(&[(0, 0), (0, 2)]), (2, 0, 0));
        assert_eq!(counts(&[(0, 0), (0, 2), (0, 1)]), (3, 0, 1));
    }

    #[test]
    fn a_repeat_is_doubled() {
        assert_eq!(counts(&[(0, 0), (0, 0)]), (1, 1, 0));
        assert_eq!(counts(&[(0, 0), (0, 2), (0, 2), (0, 1), (0, 1)]), (3, 2, 1));
    }

    #[test]
    fn a_repeat_fills_no_hole() {
        assert_eq!(counts(&[(0, 0), (0, 2), (0, 0)]), (2, 1, 0));
        assert_eq!(counts(&[(0, 0), (1, 0), (1, 4), (0, 0), (1, 2), (1, 2), (1, 4)]), (4, 3, 1));
    }

    #[test]
    fn what_came_is_known_by_its_number() {
        let received = received(&[(0, 0), (0, 5), (0, 3), (1, 1)]);
        let came = |from| (0..7).filter(|&ordinal| received.seen.has(from, ordinal)).collect::<Vec<_>>();
        assert_eq!((came(0), came(1), came(2)), (vec![0, 3, 5], vec![1], vec![]));
    }

    #[test]
    fn unknown_publishers_do_not_count() {
        let received = received(&[(2, 0), (0, 0)]);
        assert_eq!((received.foreign, received.distinct), (1, 1));
    }

    #[test]
    fn another_topic_does_not_count() {
        let mut received = ReceivedMessages::new(TopicShare::Part(1), 3, 1);
        for seq in [1, 4, 5, 7] {
            received.record(Stamp { seq, from: 0, at: 0 });
        }
        assert_eq!((received.distinct, received.seen.holes.len(), received.foreign), (3, 0, 1));
    }

    #[test]
    fn the_order_tells_different_interleavings_apart() {
        let one = received(&[(0, 0), (1, 0), (0, 1)]).order;
        assert_eq!(one, received(&[(0, 0), (1, 0), (0, 1)]).order);
        assert_ne!(one, received(&[(1, 0), (0, 0), (0, 1)]).order);
    }
}
