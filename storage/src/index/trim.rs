//! The part of a topic that a trim takes, and its counts. Recent postings tell it themselves; where a trim ends within
//! the sealed ones, their blocks have to be read first, outside the index's lock.

use tailwire_core::StoreError;
use tailwire_model::{Position, Timestamp, Trim};

use super::{
    BrokenPostings, Index,
    blocks::{Blocks, Forwards},
    entry::{RetainedPart, flag},
    order::TopicId,
};

/// A topic whose sealed postings a trim is going to split.
#[derive(Debug, Clone)]
pub(crate) struct TrimSplit {
    topic: TopicId,
    upto: Position,
    last: Position,
    head: Position,
    /// The retained part of them before the trim.
    before: RetainedPart,
    /// Those of them that are named still, and were taken before.
    obsolete: Vec<Position>,
}

impl TrimSplit {
    /// Reads what remains, by what the trim takes: over all trims of a topic each block is read once or twice.
    pub(crate) fn read(&self, blocks: &impl Blocks) -> Result<RetainedPart, BrokenPostings> {
        let mut retained = RetainedPart { head: None, ..self.before };
        let mut walk = Forwards::new(blocks, self.topic, self.head.previous(), self.last);
        while let Some(block) = walk.next()? {
            for posting in block.postings.iter().filter(|posting| posting.position >= self.head) {
                if posting.position > self.upto {
                    return Ok(RetainedPart { head: Some(posting.position), ..retained });
                }
                if self.obsolete.binary_search(&posting.position).is_ok() {
                    continue;
                }
                retained.count = retained.count.saturating_sub(1);
                retained.bytes = retained.bytes.saturating_sub(posting.cost);
            }
        }
        Ok(retained)
    }

    /// Reads what remains, and nothing else: what the trim takes may not be there any more.
    pub(crate) fn read_rest(&self, blocks: &impl Blocks) -> Result<RetainedPart, BrokenPostings> {
        let mut retained = RetainedPart::default();
        let mut walk = Forwards::new(blocks, self.topic, self.upto, self.last);
        while let Some(block) = walk.next()? {
            for posting in block.postings.iter().filter(|posting| posting.position > self.upto) {
                retained.head.get_or_insert(posting.position);
                retained.count += 1;
                retained.bytes += posting.cost;
            }
        }
        Ok(retained)
    }

    /// An estimate for when the blocks can't be read, until the index is built again.
    pub(crate) fn guess(&self) -> RetainedPart {
        RetainedPart { head: Some(self.upto.next()), ..self.before }
    }
}

impl Index {
    /// The blocks that have to be read before this trim: none, unless it splits sealed postings.
    pub(crate) fn split(&self, topic: &str, upto: Position) -> Option<TrimSplit> {
        let id = self.names.find(topic)?;
        let entry = &self.entries[id.at()];
        let sealed = entry.sealed.as_ref().filter(|sealed| upto < sealed.last)?;
        let head = sealed.head.filter(|&head| head <= upto)?;
        let obsolete = self.obsolete.range(head..=upto).filter(|(_, topic)| **topic == id);
        let obsolete = obsolete.map(|(position, _)| *position).collect();
        Some(TrimSplit { topic: id, upto, last: sealed.last, head, before: entry.live_sealed(), obsolete })
    }

    /// Takes a topic's messages up to `trim.upto`, whose newest came at `time`. `retained` is what was read of its sealed
    /// postings, if the trim splits them. What it takes is dead from here on, and stored until it is purged.
    pub(crate) fn trim(&mut self, topic: &str, trim: Trim, time: Timestamp, retained: Option<RetainedPart>) {
        let id = self.entry(topic, trim.upto);
        let entry = &mut self.entries[id.at()];
        if let Some(before) = entry.trim() {
            self.trims.remove(&(before.upto, id));
        }
        let (count, bytes) = (entry.count, entry.bytes);
        entry.take(trim, time, retained);
        self.messages = (self.messages + entry.count).saturating_sub(count);
        self.bytes = (self.bytes + entry.bytes).saturating_sub(bytes);
        if entry.has_dead() && entry.set(flag::PURGEABLE, true) {
            self.purgeable.push_back(id);
        }
        self.sum_changed(id, bytes);
        self.trims.insert((trim.upto, id), trim.reason);
        self.removals += 1;
        self.pages.touch(id);
    }
}

impl From<BrokenPostings> for StoreError {
    fn from(unread: BrokenPostings) -> Self {
        match unread {
            BrokenPostings::Broken => Self::Corrupt("the index of topics is not what was written".into()),
            BrokenPostings::Store(error) => error,
        }
    }
}
