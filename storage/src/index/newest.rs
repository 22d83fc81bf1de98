//! The newest messages of a filter up to a position: where they begin, by what memory knows and, where that is not enough, by
//! sealed postings, newest first.

use std::{cmp::Reverse, collections::BinaryHeap};

use tailwire_core::log::{Budget, Window};
use tailwire_model::Position;

use super::{
    BrokenPostings, Index, NewestTopics,
    blocks::{BackwardBlocks, Blocks},
    entry::IndexedTopic,
    order::TopicId,
    postings::Posting,
};

/// Messages that are taken and not purged, at most: with more a scan of the log is the better way.
const OBSOLETE_MAX: usize = 4096;

/// What memory knows of the newest messages: of each topic that may have some its recent postings, and where the sealed ones lie
/// that come before them.
#[derive(Debug, Default)]
pub(crate) struct NewestPlan {
    topics: Vec<NewestOfTopic>,
    upto: Position,
    /// Messages that are taken, in order: sealed postings name them until they are purged.
    obsolete: Vec<Position>,
}

#[derive(Debug)]
struct NewestOfTopic {
    topic: TopicId,
    /// What is retained lies beyond this.
    floor: Position,
    sealed_last: Position,
    /// Oldest first.
    recent: Vec<Posting>,
}

/// Some messages, among them the newest ones.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// In no order.
    pub(crate) postings: Vec<Posting>,
    /// Up to here nothing was looked at.
    pub(crate) floor: Position,
}

impl Index {
    /// The plan of the newest messages of the topics that have them. `None` when a scan of the log is the better way.
    pub(crate) fn newest_plan(&self, newest: &NewestTopics) -> Option<NewestPlan> {
        if newest.are_too_many() || self.obsolete.len() > OBSOLETE_MAX {
            return None;
        }
        let upto = newest.upto();
        let topics = newest.topics().into_iter().map(|id| newest_of(id, &self.entries[id.at()], upto));
        let obsolete = self.obsolete.keys().copied().collect();
        Some(NewestPlan { topics: topics.collect(), upto, obsolete })
    }
}

fn newest_of(topic: TopicId, entry: &IndexedTopic, upto: Position) -> NewestOfTopic {
    let floor = entry.trim().map_or(Position::ZERO, |trim| trim.upto);
    let recent = entry.recent.between(floor, upto).collect();
    NewestOfTopic { topic, floor, sealed_last: entry.sealed_last(), recent }
}

impl NewestPlan {
    /// The `count` newest messages.
    pub(crate) fn newest(self, blocks: &impl Blocks, count: usize) -> Result<Newest, BrokenPostings> {
        let mut newest: BinaryHeap<Reverse<(Position, u64)>> = BinaryHeap::new();
        for part in self.topics {
            let mut lane = LaneBack::new(blocks, part, self.upto);
            while let Some(posting) = lane.next()? {
                if self.obsolete.binary_search(&posting.position).is_ok() {
                    continue;
                }
                if newest.len() >= count
                    && newest.peek().is_none_or(|Reverse((oldest, _))| posting.position < *oldest)
                {
                    break;
                }
                newest.push(Reverse((posting.position, posting.cost)));
                if newest.len() > count {
                    newest.pop();
                }
            }
        }
        let postings = newest.into_iter().map(|Reverse((position, cost))| Posting { position, cost });
        Ok(Newest { postings: postings.collect(), floor: Position::ZERO })
    }
}

impl Newest {
    /// Those that a budget has room for, of all up to `upto`.
    pub(crate) fn window(mut self, upto: Position, budget: Budget) -> Window {
        self.postings.sort_unstable_by_key(|posting| Reverse(posting.position));
        self.postings.retain(|posting| posting.position > self.floor);
        let (mut taken, mut bytes, mut after) = (0, 0_u64, upto);
        for posting in &self.postings {
            bytes = bytes.saturating_add(posting.cost);
            if taken >= budget.messages || (taken > 0 && bytes > budget.bytes as u64) {
                return Window { after, is_full: true };
            }
            taken += 1;
            after = posting.position.previous();
        }
        match self.floor {
            Position::ZERO => Window { after, is_full: false },
            floor => Window { after: floor, is_full: true },
        }
    }
}

/// One topic's messages, newest first.
struct LaneBack<'a, B> {
    floor: Position,
    upto: Position,
    sealed: BackwardBlocks<'a, B>,
    loaded: Vec<Posting>,
}

impl<'a, B: Blocks> LaneBack<'a, B> {
    fn new(blocks: &'a B, part: NewestOfTopic, upto: Position) -> Self {
        let sealed = BackwardBlocks::new(blocks, part.topic, (part.floor, upto), part.sealed_last);
        Self { floor: part.floor, upto, sealed, loaded: part.recent }
    }

    fn next(&mut self) -> Result<Option<Posting>, BrokenPostings> {
        loop {
            if let Some(posting) = self.loaded.pop() {
                return Ok(Some(posting));
            }
            let Some(block) = self.sealed.next()? else { return Ok(None) };
            self.loaded = block.postings.between(self.floor, self.upto).collect();
        }
    }
}
