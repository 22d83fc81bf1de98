//! One topic in memory. Its postings are in two parts: sealed ones in blocks in the store, of which
//! only the ends are known here, and recent ones. Both hold dead messages, too, until those are purged.

use tailwire_model::{Position, Timestamp, Trim, TrimReason};

use super::postings::{Posting, Postings};

/// No interval: fewer than two messages.
const NO_INTERVAL: u32 = u32::MAX;

/// The retained part of some of a topic's postings: the oldest, how many, and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RetainedPart {
    pub(crate) head: Option<Position>,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// One topic.
#[derive(Debug, Clone)]
pub(crate) struct IndexedTopic {
    /// Its newest message ever, and when that came.
    pub(crate) tail: Position,
    pub(crate) tail_time: Timestamp,
    interval_ms: u32,
    flags: u8,
    reason: TrimReason,
    trimmed: Position,
    /// Messages retained, and what they cost.
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Postings beyond the sealed ones.
    pub(crate) recent: Postings,
    pub(crate) sealed: Option<Box<SealedPostings>>,
}

/// A topic's sealed postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedPostings {
    /// Where they end.
    pub(crate) last: Position,
    /// The oldest of them that is retained; none if all are dead.
    pub(crate) head: Option<Position>,
    /// Up to here the dead are purged.
    pub(crate) purged: Position,
}

/// In which of the index's lists a topic stands, and what is known of it beside.
pub(crate) mod flag {
    /// It has more recent postings than it should.
    pub(crate) const SEALABLE: u8 = 1;
    /// It has dead messages that are not purged.
    pub(crate) const PURGEABLE: u8 = 2;
    /// Messages may be gone from its middle.
    pub(crate) const COMPACTED: u8 = 4;
    /// It was not trimmed: what stands there is the floor as of its first message. Messages of forgotten topics, so also of an
    /// earlier one of this name, lie no farther.
    pub(crate) const FLOORED: u8 = 8;
    /// Dead messages may be left in chunks, though they are purged: too few of a chunk to write it anew.
    pub(crate) const LEFTOVERS: u8 = 16;
    /// Those that are stored.
    pub(crate) const STORED: u8 = FLOORED | LEFTOVERS;
}

impl Default for IndexedTopic {
    fn default() -> Self {
        Self {
            tail: Position::ZERO,
            tail_time: Timestamp::default(),
            interval_ms: NO_INTERVAL,
            flags: 0,
            reason: TrimReason::Retention,
            trimmed: Position::ZERO,
            count: 0,
            bytes: 0,
            recent: Postings::default(),
            sealed: None,
        }
    }
}

impl IndexedTopic {
    /// One that begins, and the floor as of then.
    pub(crate) fn beginning(floor: Position) -> Self {
        let flags = if floor > Position::ZERO { flag::FLOORED } else { 0 };
        Self { trimmed: floor, flags, ..Self::default() }
    }

    /// None: a number that no topic has. Who asks for one that had it finds everything dead.
    pub(crate) fn vacant() -> Self {
        Self::beginning(Position::MAX)
    }

    /// Adds a message, which came so long after the one before.
    pub(crate) fn add(&mut self, posting: Posting, time: Timestamp, latest_ms: u64) {
        self.advance(posting.position, time, latest_ms);
        self.recent.push(posting);
        self.count += 1;
        self.bytes += posting.cost;
    }

    /// Moves the tail. The interval is a moving mean in which the latest eight messages weigh most.
    pub(crate) fn advance(&mut self, position: Position, time: Timestamp, latest_ms: u64) {
        if self.tail > Position::ZERO {
            let mean = self.interval_ms().map_or(latest_ms, |mean| (mean * 7 + latest_ms + 4) / 8);
            self.set_interval_ms(Some(mean));
        }
        self.tail = position;
        self.tail_time = time;
    }

    pub(crate) fn interval_ms(&self) -> Option<u64> {
        (self.interval_ms != NO_INTERVAL).then_some(u64::from(self.interval_ms))
    }

    pub(crate) fn set_interval_ms(&mut self, mean: Option<u64>) {
        // Seven weeks between messages are as good as for ever.
        let bounded = mean.map(|mean| u32::try_from(mean).unwrap_or(NO_INTERVAL).min(NO_INTERVAL - 1));
        self.interval_ms = bounded.unwrap_or(NO_INTERVAL);
    }

    pub(crate) fn trim(&self) -> Option<Trim> {
        self.cleared().filter(|_| !self.is(flag::FLOORED))
    }

    /// Up to here everything is gone, by a trim or because the topic was forgotten.
    pub(crate) fn cleared(&self) -> Option<Trim> {
        (self.trimmed > Position::ZERO).then_some(Trim { upto: self.trimmed, reason: self.reason })
    }

    /// Takes what a trim takes, and remembers it: the tail can't lie before it. `retained` is what remains of the sealed
    /// postings, if the trim splits them.
    pub(crate) fn take(&mut self, trim: Trim, time: Timestamp, retained: Option<RetainedPart>) {
        let mut sealed = self.live_sealed();
        self.remember_trim(trim);
        if self.tail < trim.upto {
            (self.tail, self.tail_time) = (trim.upto, time);
        }
        if let Some(retained) = retained {
            sealed = retained;
        } else if trim.upto >= self.sealed_last() {
            sealed = RetainedPart::default();
        }
        let recent = self.live_recent();
        (self.count, self.bytes) = (sealed.count + recent.count, sealed.bytes + recent.bytes);
        if let Some(state) = &mut self.sealed {
            state.head = sealed.head;
        }
    }

    /// Remembers a trim that the counts know of.
    pub(crate) fn remember_trim(&mut self, trim: Trim) {
        (self.trimmed, self.reason) = (trim.upto, trim.reason);
        self.set(flag::FLOORED, false);
    }

    /// The flags that are stored.
    pub(crate) fn stored_flags(&self) -> u8 {
        self.flags & flag::STORED
    }

    /// The recent postings that are retained.
    fn live_recent(&self) -> RetainedPart {
        let mut live = RetainedPart::default();
        for posting in self.recent.iter().filter(|posting| !self.is_dead(posting.position)) {
            live.head.get_or_insert(posting.position);
            live.count += 1;
            live.bytes += posting.cost;
        }
        live
    }

    /// The sealed postings that are retained.
    pub(crate) fn live_sealed(&self) -> RetainedPart {
        let recent = self.live_recent();
        RetainedPart {
            head: self.sealed.as_ref().and_then(|sealed| sealed.head),
            count: self.count.saturating_sub(recent.count),
            bytes: self.bytes.saturating_sub(recent.bytes),
        }
    }

    /// Whether a message at this position was taken.
    pub(crate) fn is_dead(&self, position: Position) -> bool {
        position <= self.trimmed
    }

    /// Where the sealed postings end; zero without any.
    pub(crate) fn sealed_last(&self) -> Position {
        self.sealed.as_ref().map_or(Position::ZERO, |sealed| sealed.last)
    }

    /// The oldest retained message.
    pub(crate) fn head(&self) -> Option<Position> {
        let sealed = self.sealed.as_ref().and_then(|sealed| sealed.head);
        sealed.or_else(|| if self.count == 0 { None } else { self.recent.beyond(self.trimmed).next() })
    }

    /// Whether dead messages are still stored.
    pub(crate) fn has_dead(&self) -> bool {
        let recent = self.recent.iter().next().is_some_and(|posting| self.is_dead(posting.position));
        let upto = self.trim().map_or(Position::ZERO, |trim| trim.upto);
        recent || self.sealed.as_ref().is_some_and(|sealed| sealed.purged < sealed.last.min(upto))
    }

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sets or clears a flag; answers whether that changed it.
    pub(crate) fn set(&mut self, flag: u8, on: bool) -> bool {
        let before = self.flags;
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
        self.flags != before
    }
}
