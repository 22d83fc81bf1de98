//! Upkeep of the index between commits: sealing older postings, purging dead messages, removing single ones.
//! Each is in two halves, one here and one in the store, and the order of the two is such that a crash between them
//! leaves something that the next opening understands.

use std::ops::Bound::{Excluded, Unbounded};

use tailwire_model::Position;

use super::{
    Index,
    blocks::{BLOCK_BYTES, Block},
    entry::{SealedPostings, flag},
    order::TopicId,
};

/// Dead messages of one topic, to be removed from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PurgeStep {
    pub(crate) topic: TopicId,
    /// The dead end here.
    pub(crate) upto: Position,
    /// Those whose postings are sealed lie beyond the first and up to the second; they come first.
    pub(crate) sealed: Option<(Position, Position)>,
    /// The others, oldest first.
    pub(crate) recent: Vec<Position>,
}

impl Index {
    /// The oldest postings of a topic that has too many recent ones, as a block to be stored. Then comes [`Index::sealed`].
    pub(crate) fn sealable(&self) -> Option<(TopicId, Block)> {
        let &id = self.sealable.front()?;
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
                let sealed = SealedPostings { last: block.last, head, purged: block.first.previous() };
                entry.sealed = Some(Box::new(sealed));
            }
        }
        if entry.recent.encoded().len() < BLOCK_BYTES {
            entry.set(flag::SEALABLE, false);
            self.sealable.pop_front();
        }
        self.pages.touch(id);
    }

    /// The dead of some topic, at most about `count` of them. Then comes [`Index::purged`].
    pub(crate) fn next_purge(&self, count: usize) -> Option<PurgeStep> {
        let &topic = self.purgeable.front()?;
        let entry = &self.entries[topic.at()];
        let upto = entry.trim()?.upto;
        let sealed = entry.sealed.as_ref().filter(|sealed| sealed.purged < sealed.last.min(upto));
        let recent = entry.recent.iter().map(|posting| posting.position);
        Some(PurgeStep {
            topic,
            upto,
            sealed: sealed.map(|sealed| (sealed.purged, sealed.last)),
            recent: recent.take_while(|&position| position <= upto).take(count).collect(),
        })
    }

    /// The dead of a topic up to here are no longer stored.
    pub(crate) fn purged(&mut self, topic: TopicId, upto: Position) {
        let entry = &mut self.entries[topic.at()];
        if let Some(sealed) = &mut entry.sealed {
            sealed.purged = sealed.purged.max(upto.min(sealed.last));
            if sealed.purged == sealed.last {
                entry.sealed = None;
            }
        }
        if upto > entry.recent.base() {
            entry.recent = entry.recent.without(upto);
        }
        if !entry.has_dead() && entry.set(flag::PURGEABLE, false) {
            self.purgeable.pop_front();
        }
        self.unlist_sealable(topic);
        self.pages.touch(topic);
    }

    /// A topic that was to be sealed may have nothing left for that.
    fn unlist_sealable(&mut self, topic: TopicId) {
        let entry = &mut self.entries[topic.at()];
        if entry.recent.len() == 0 && entry.set(flag::SEALABLE, false) {
            self.sealable.retain(|other| *other != topic);
        }
    }

    /// Whether dead messages are still stored.
    pub(crate) fn has_purgeable(&self) -> bool {
        !self.purgeable.is_empty()
    }

    /// Takes one message, which cost so much, out of its topic. It is dead from here on, and stored until it is purged.
    /// Answers whether it was retained.
    pub(crate) fn mark_obsolete(&mut self, topic: &str, position: Position, cost: u64) -> bool {
        let Some(id) = self.names.find(topic) else { return false };
        let entry = &mut self.entries[id.at()];
        if entry.is_dead(position) || position > entry.tail || self.obsolete.contains_key(&position) {
            return false;
        }
        // A sealed posting is taken when the message is purged.
        if position > entry.sealed_last() {
            let count = entry.recent.len();
            entry.recent = entry.recent.retain(|posting| posting.position != position);
            if entry.recent.len() == count {
                return false;
            }
        }
        entry.set(flag::COMPACTED, true);
        let (before, bytes) = (entry.count, entry.bytes);
        entry.count = before.saturating_sub(1);
        entry.bytes = bytes.saturating_sub(cost);
        self.messages -= before - entry.count;
        self.bytes -= bytes - entry.bytes;
        self.unlist_sealable(id);
        self.sum_changed(id, bytes);
        self.obsolete.insert(position, id);
        self.removals += 1;
        self.pages.touch(id);
        true
    }

    /// Obsolete messages that are not purged, from after a position.
    pub(crate) fn obsolete(&self, after: Position, count: usize) -> Vec<(Position, TopicId)> {
        let beyond = self.obsolete.range((Excluded(after), Unbounded));
        beyond.take(count).map(|(&position, &topic)| (position, topic)).collect()
    }

    /// How many obsolete messages are not purged.
    pub(crate) fn obsolete_count(&self) -> usize {
        self.obsolete.len()
    }

    /// Where a topic's sealed postings begin and end, if this message's is one of them.
    pub(crate) fn sealed_span(&self, topic: TopicId, position: Position) -> Option<(Position, Position)> {
        let sealed = self.entries[topic.at()].sealed.as_ref()?;
        (position <= sealed.last).then(|| (sealed.head.unwrap_or(sealed.last), sealed.last))
    }

    /// An obsolete message is purged.
    pub(crate) fn unposted(&mut self, topic: TopicId, position: Position) {
        self.obsolete.remove(&position);
        self.pages.touch(topic);
    }

    /// The oldest sealed message of a topic that is retained.
    pub(crate) fn set_sealed_head(&mut self, topic: TopicId, head: Option<Position>) {
        if let Some(sealed) = &mut self.entries[topic.at()].sealed {
            sealed.head = head;
        }
        self.pages.touch(topic);
    }

    /// Says that messages may be gone from the middle of a topic: one that its postings name and the store doesn't have
    /// is then no damage.
    pub(crate) fn set_compacted(&mut self, topic: &str) {
        if let Some(id) = self.names.find(topic) {
            self.entries[id.at()].set(flag::COMPACTED, true);
        }
    }

    /// Sets what was found by counting.
    pub(crate) fn recount(&mut self, topic: &str, count: u64, bytes: u64) {
        let Some(id) = self.names.find(topic) else { return };
        let entry = &mut self.entries[id.at()];
        self.messages = (self.messages + count).saturating_sub(entry.count);
        let before = entry.bytes;
        self.bytes = (self.bytes + bytes).saturating_sub(before);
        (entry.count, entry.bytes) = (count, bytes);
        self.sum_changed(id, before);
        self.pages.touch(id);
    }

    /// Whether the store has to have a message that this topic's postings name.
    pub(crate) fn expects(&self, topic: TopicId, position: Position) -> bool {
        let entry = &self.entries[topic.at()];
        !entry.is_dead(position) && !entry.is(flag::COMPACTED)
    }
}
