//! What a trim takes from a topic's counts. Recent postings tell it themselves; where a trim ends within the sealed ones,
//! their blocks have to be read first, outside the index's lock.

use tailwire_core::StoreError;
use tailwire_model::{Position, Timestamp, Trim};

use super::{
    Index, Unread,
    blocks::{Blocks, Forwards},
    entry::flag,
    names::TopicId,
};

/// A topic whose sealed postings a trim is going to part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parting {
    topic: TopicId,
    upto: Position,
    last: Position,
    head: Position,
    /// What is retained of them before the trim.
    before: Cut,
}

/// What is retained of some of a topic's postings: the oldest, how many, and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(super) head: Option<Position>,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Parting {
    /// Reads what remains, by what the trim takes: over all trims of a topic each block is read once or twice.
    pub(crate) fn read(&self, blocks: &impl Blocks) -> Result<Cut, Unread> {
        let mut cut = Cut { head: None, ..self.before };
        let mut walk = Forwards::new(blocks, self.topic, self.head.previous(), self.last);
        while let Some(block) = walk.next()? {
            for posting in block.postings.iter().filter(|posting| posting.position >= self.head) {
                if posting.position > self.upto {
                    return Ok(Cut { head: Some(posting.position), ..cut });
                }
                cut.count = cut.count.saturating_sub(1);
                cut.bytes = cut.bytes.saturating_sub(posting.cost);
            }
        }
        Ok(cut)
    }

    /// Reads what remains, and nothing else: what the trim takes may not be there any more.
    pub(crate) fn read_rest(&self, blocks: &impl Blocks) -> Result<Cut, Unread> {
        let mut cut = Cut::default();
        let mut walk = Forwards::new(blocks, self.topic, self.upto, self.last);
        while let Some(block) = walk.next()? {
            for posting in block.postings.iter().filter(|posting| posting.position > self.upto) {
                cut.head.get_or_insert(posting.position);
                cut.count += 1;
                cut.bytes += posting.cost;
            }
        }
        Ok(cut)
    }

    /// What to go by when the blocks can't be read: an estimate, until the index is built again.
    pub(crate) fn guess(&self) -> Cut {
        Cut { head: Some(self.upto.next()), ..self.before }
    }
}

impl Index {
    /// What has to be read before this trim: nothing, unless it parts sealed postings.
    pub(crate) fn parting(&self, topic: &str, upto: Position) -> Option<Parting> {
        let id = self.names.find(topic)?;
        let entry = &self.entries[id.at()];
        let sealed = entry.sealed.as_ref().filter(|sealed| upto < sealed.last)?;
        let head = sealed.head.filter(|&head| head <= upto)?;
        Some(Parting { topic: id, upto, last: sealed.last, head, before: entry.live_sealed() })
    }

    /// Takes a topic's messages up to `trim.upto`, whose newest came at `time`. `cut` is what was read of its sealed
    /// postings, if they are parted. What it takes is dead from here on, and stored until it is buried.
    pub(crate) fn trim(&mut self, topic: &str, trim: Trim, time: Timestamp, cut: Option<Cut>) {
        let id = self.entry(topic);
        let entry = &mut self.entries[id.at()];
        if let Some(before) = entry.trim() {
            self.trims.remove(&(before.upto, id));
        }
        let (count, bytes) = (entry.count, entry.bytes);
        entry.take(trim, time, cut);
        self.messages = (self.messages + entry.count).saturating_sub(count);
        self.bytes = (self.bytes + entry.bytes).saturating_sub(bytes);
        if entry.has_dead() && entry.set(flag::GRAVE, true) {
            self.graves.push_back(id);
        }
        self.trims.insert((trim.upto, id), trim.reason);
        self.removals += 1;
        self.shelves.touch(id);
    }
}

impl From<Unread> for StoreError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Broken => Self::Corrupt("the index of topics is not what was written".into()),
            Unread::Store(error) => error,
        }
    }
}
