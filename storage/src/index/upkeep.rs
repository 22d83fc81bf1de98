//! What is done to the index between commits: sealing older postings, burying dead messages, removing single ones.
//! Each is in two halves, one here and one in the store, and the order of the two is such that a crash between them
//! leaves something that the next opening understands.

use tailwire_model::{Position, Topic};

use super::{
    Index,
    blocks::{BLOCK_BYTES, Block, Blocks, Forwards, Unread},
    entry::{Sealed, flag},
    names::TopicId,
};

/// Dead messages of one topic, to be removed from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grave {
    pub(crate) topic: TopicId,
    /// The dead end here.
    pub(crate) upto: Position,
    /// Those whose postings are sealed lie beyond the first and up to the second; they come first.
    pub(crate) sealed: Option<(Position, Position)>,
    /// The others, oldest first.
    pub(crate) recent: Vec<Position>,
}

/// Where a message that is to be removed from the middle of a topic stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It was removed.
    Done,
    /// The index doesn't know it.
    Unknown,
    /// In a sealed block, which has to be written anew. Then comes [`Index::removed`].
    Sealed(SealedPlace),
}

/// The place of a message among a topic's sealed postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedPlace {
    pub(crate) topic: TopicId,
    pub(crate) position: Position,
    last: Position,
}

impl SealedPlace {
    /// The sealed message after it.
    pub(crate) fn next(&self, blocks: &impl Blocks) -> Result<Option<Position>, Unread> {
        let mut walk = Forwards::new(blocks, self.topic, self.position, self.last);
        while let Some(block) = walk.next()? {
            if let Some(next) = block.postings.beyond(self.position).next() {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }
}

impl Index {
    /// The oldest postings of a topic that has too many recent ones, as a block to be stored. Then comes [`Index::sealed`].
    pub(crate) fn ripe(&self) -> Option<(TopicId, Block)> {
        let &id = self.ripe.front()?;
        let entry = &self.entries[id.at()];
        let mut recent = entry.recent.clone();
        let postings = recent.take_front(BLOCK_BYTES);
        let first = postings.iter().next().map_or(postings.base().next(), |posting| posting.position);
        let previous = entry.sealed_last();
        Some((id, Block { previous, first, last: postings.last(), postings }))
    }

    /// A topic's oldest recent postings are stored as this block.
    pub(crate) fn sealed(&mut self, id: TopicId, block: &Block) {
        let entry = &mut self.entries[id.at()];
        let live = block.postings.iter().map(|posting| posting.position);
        let head = live.into_iter().find(|&position| !entry.is_dead(position));
        entry.recent = entry.recent.without(block.last);
        match &mut entry.sealed {
            Some(sealed) => {
                sealed.last = block.last;
                sealed.head = sealed.head.or(head);
            }
            None => {
                let sealed = Sealed { last: block.last, head, buried: block.first.previous() };
                entry.sealed = Some(Box::new(sealed));
            }
        }
        if entry.recent.encoded().len() < BLOCK_BYTES {
            entry.set(flag::RIPE, false);
            self.ripe.pop_front();
        }
        self.shelves.touch(id);
    }

    /// The dead of some topic, at most about `count` of them. Then comes [`Index::buried`].
    pub(crate) fn grave(&self, count: usize) -> Option<Grave> {
        let &topic = self.graves.front()?;
        let entry = &self.entries[topic.at()];
        let upto = entry.trim()?.upto;
        let sealed = entry.sealed.as_ref().filter(|sealed| sealed.buried < sealed.last.min(upto));
        let recent = entry.recent.iter().map(|posting| posting.position);
        Some(Grave {
            topic,
            upto,
            sealed: sealed.map(|sealed| (sealed.buried, sealed.last)),
            recent: recent.take_while(|&position| position <= upto).take(count).collect(),
        })
    }

    /// The dead of a topic up to here are no longer stored.
    pub(crate) fn buried(&mut self, topic: TopicId, upto: Position) {
        let entry = &mut self.entries[topic.at()];
        if let Some(sealed) = &mut entry.sealed {
            sealed.buried = sealed.buried.max(upto.min(sealed.last));
            if sealed.buried == sealed.last {
                entry.sealed = None;
            }
        }
        if upto > entry.recent.base() {
            entry.recent = entry.recent.without(upto);
        }
        if !entry.has_dead() && entry.set(flag::GRAVE, false) {
            self.graves.pop_front();
        }
        self.shelves.touch(topic);
    }

    /// Whether dead messages are still stored.
    pub(crate) fn has_graves(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Removes one message from the middle of a topic, which is from then on known to have lost some.
    // Compaction is what asks; so the next three.
    #[allow(dead_code)]
    pub(crate) fn remove(&mut self, topic: &str, position: Position) -> Removal {
        let Some(id) = self.names.find(topic) else { return Removal::Unknown };
        let entry = &mut self.entries[id.at()];
        if entry.is_dead(position) {
            return Removal::Unknown;
        }
        let last = entry.sealed_last();
        if position <= last {
            entry.set(flag::COMPACTED, true);
            return Removal::Sealed(SealedPlace { topic: id, position, last });
        }
        let Some(found) = entry.recent.iter().find(|posting| posting.position == position) else {
            return Removal::Unknown;
        };
        entry.recent = entry.recent.retain(|posting| posting.position != position);
        entry.set(flag::COMPACTED, true);
        entry.count = entry.count.saturating_sub(1);
        entry.bytes = entry.bytes.saturating_sub(found.cost);
        self.messages = self.messages.saturating_sub(1);
        self.shelves.touch(id);
        Removal::Done
    }

    /// A sealed message, which cost so much, was removed; `next` is the sealed one after it.
    #[allow(dead_code)]
    pub(crate) fn removed(&mut self, place: SealedPlace, cost: u64, next: Option<Position>) {
        let entry = &mut self.entries[place.topic.at()];
        entry.count = entry.count.saturating_sub(1);
        entry.bytes = entry.bytes.saturating_sub(cost);
        if let Some(sealed) = &mut entry.sealed
            && sealed.head == Some(place.position)
        {
            sealed.head = next;
        }
        self.messages = self.messages.saturating_sub(1);
        self.shelves.touch(place.topic);
    }

    /// Says whether messages may be removed from the middle of a topic: one that its postings name and the store
    /// doesn't have is then no damage. Not remembered when the log is closed.
    #[allow(dead_code)]
    pub(crate) fn set_compacted(&mut self, topic: &str, compacted: bool) {
        if let Some(id) = self.names.find(topic) {
            self.entries[id.at()].set(flag::COMPACTED, compacted);
        }
    }

    /// Takes up to `count` of the topics that got messages since they were last taken, longest ago first.
    #[allow(dead_code)]
    pub(crate) fn take_touched(&mut self, count: usize) -> Vec<Topic> {
        let taken = self.touched.len().min(count);
        let ids: Vec<TopicId> = self.touched.drain(..taken).collect();
        for id in &ids {
            self.entries[id.at()].set(flag::TOUCHED, false);
        }
        ids.iter().filter_map(|&id| Topic::parse(self.names.name(id)).ok()).collect()
    }

    /// Whether the store has to have a message that this topic's postings name.
    pub(crate) fn expects(&self, topic: TopicId, position: Position) -> bool {
        let entry = &self.entries[topic.at()];
        !entry.is_dead(position) && !entry.is(flag::COMPACTED)
    }
}
