//! Whether a subscriber got every message, once and in order.

use super::payload::Mark;
use super::spread::Share;

/// One subscriber's count. Each publisher sends one message at a time and numbers them from 0, so a subscriber must
/// see each publisher's numbers without a hole; how publishers interleave is the server's to say, but the same for
/// all subscribers, which [`Tally::order`] tells.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// What it asked for, of how many parts.
    pub(super) share: Share,
    parts: usize,
    /// For each publisher, which of its messages should come next.
    next: Box<[u32]>,
    /// Messages that came, each counted once.
    pub(super) distinct: u64,
    pub(super) doubled: u64,
    /// Messages that came after a later one.
    pub(super) reordered: u64,
    /// Messages of other runs on the same topic, or of topics that were not asked for.
    pub(super) foreign: u64,
    /// Numbers that were skipped and have not come since.
    missing: u64,
    /// A digest of all that came, in the order in which it came.
    pub(super) order: u64,
}

impl Tally {
    pub(super) fn new(share: Share, parts: usize, publishers: usize) -> Tally {
        Tally {
            share,
            parts,
            next: vec![0; publishers].into_boxed_slice(),
            distinct: 0,
            doubled: 0,
            reordered: 0,
            foreign: 0,
            missing: 0,
            order: 0,
        }
    }

    /// Takes note of a message; false if it doesn't belong to this run.
    pub(super) fn record(&mut self, mark: Mark) -> bool {
        let place = self.next.get_mut(mark.from as usize).zip(self.share.ordinal(self.parts, mark));
        let Some((next, ordinal)) = place else {
            self.foreign += 1;
            return false;
        };
        if ordinal >= *next {
            self.missing += u64::from(ordinal - *next);
            self.distinct += 1;
            *next = ordinal.saturating_add(1);
        } else if self.missing > 0 && ordinal + 1 != *next {
            // Late or doubled, which only a record of all numbers could tell apart; as long as some are missing,
            // this is taken for one of them.
            self.missing -= 1;
            self.distinct += 1;
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
        // The multiplier is the 64-bit FNV prime.
        let id = u64::from(mark.from) << 32 | u64::from(mark.seq);
        self.order = (self.order ^ id).wrapping_mul(0x0100_0000_01b3);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(marks: &[(u32, u32)]) -> Tally {
        let mut tally = Tally::new(Share::All, 1, 2);
        for &(from, seq) in marks {
            tally.record(Mark { seq, from, at: 0 });
        }
        tally
    }

    fn counts(marks: &[(u32, u32)]) -> (u64, u64, u64) {
        let tally = tally(marks);
        (tally.distinct, tally.doubled, tally.reordered)
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
    fn other_runs_do_not_count() {
        let tally = tally(&[(2, 0), (0, 0)]);
        assert_eq!((tally.foreign, tally.distinct), (1, 1));
    }

    #[test]
    fn another_topic_does_not_count() {
        let mut tally = Tally::new(Share::Part(1), 3, 1);
        for seq in [1, 4, 5, 7] {
            tally.record(Mark { seq, from: 0, at: 0 });
        }
        assert_eq!((tally.distinct, tally.missing, tally.foreign), (3, 0, 1));
    }

    #[test]
    fn the_order_tells_different_interleavings_apart() {
        let one = tally(&[(0, 0), (1, 0), (0, 1)]).order;
        assert_eq!(one, tally(&[(0, 0), (1, 0), (0, 1)]).order);
        assert_ne!(one, tally(&[(1, 0), (0, 0), (0, 1)]).order);
    }
}
