//! Messages that were taken one by one. A reader that has not seen one gets a gap, so of each topic the farthest of them is
//! remembered: a cursor before that has missed one, and a cursor beyond it none.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use tailwire_model::{Position, Trim, TrimReason};

use super::{Index, entry::IndexedTopic, order::TopicId};

/// The farthest that was taken of each topic that lost any.
#[derive(Debug, Default, Clone)]
pub(super) struct Removed {
    of_topics: HashMap<TopicId, Trim>,
    by_position: BTreeMap<(Position, TopicId), TrimReason>,
    /// Those before the farthest of their topic, which can be forgotten.
    nearer: Vec<(TopicId, Position)>,
}

impl Removed {
    fn note(&mut self, topic: TopicId, trim: Trim) {
        match self.of_topics.get(&topic).copied() {
            Some(before) if before.upto == trim.upto => return,
            Some(before) if before.upto > trim.upto => {
                self.nearer.push((topic, trim.upto));
                return;
            }
            Some(before) => {
                self.by_position.remove(&(before.upto, topic));
                self.nearer.push((topic, before.upto));
            }
            None => {}
        }
        self.of_topics.insert(topic, trim);
        self.by_position.insert((trim.upto, topic), trim.reason);
    }

    /// Forgets topics that are not there any more.
    pub(super) fn forget(&mut self, is_there: impl Fn(&TopicId) -> bool) {
        self.of_topics.retain(|id, _| is_there(id));
        self.by_position.retain(|(_, id), _| is_there(id));
        self.nearer.retain(|(id, _)| is_there(id));
    }

    pub(super) fn of(&self, topic: TopicId) -> Option<Trim> {
        self.of_topics.get(&topic).copied()
    }

    pub(super) fn by_position(&self) -> &BTreeMap<(Position, TopicId), TrimReason> {
        &self.by_position
    }
}

impl Index {
    /// Takes one message, at `trim.upto`. It is dead from here on, and if it is stored, which its cost says, it is so until it
    /// is purged.
    pub(crate) fn remove(&mut self, topic: &str, trim: Trim, stored_cost: Option<u64>) {
        let id = self.entry(topic, trim.upto);
        if let Some(cost) = stored_cost
            && !self.mark_obsolete(topic, trim.upto, cost)
            && !self.entries[id.at()].is_dead(trim.upto)
        {
            // The index was written without it, and a crash came before it was purged.
            self.obsolete.insert(trim.upto, id);
        }
        self.removed.note(id, trim);
        self.removals += 1;
    }

    /// The farthest message that a topic lost by itself.
    pub(crate) fn removed_of(&self, topic: TopicId) -> Option<Trim> {
        self.removed.of(topic)
    }

    /// Whether a message at a position, or one beyond it, was taken by itself.
    pub(crate) fn may_have_removed(&self, topic: &str, position: Position) -> bool {
        let removed = self.names.find(topic).and_then(|id| self.removed.of(id));
        removed.is_some_and(|farthest| position <= farthest.upto)
    }

    /// Whether messages were taken that a farther one of their topic makes forgettable.
    pub(crate) fn has_nearer_removals(&self) -> bool {
        !self.removed.nearer.is_empty()
    }

    /// Gives those of them that are purged; the others are forgotten when they are.
    pub(crate) fn take_nearer_removals(&mut self) -> Vec<(TopicId, Position)> {
        let nearer = mem::take(&mut self.removed.nearer);
        nearer.into_iter().filter(|(_, position)| !self.obsolete.contains_key(position)).collect()
    }

    /// How far a topic lost messages, by whatever took them.
    pub(crate) fn lost(&self, topic: &str) -> Option<Trim> {
        match self.names.find(topic) {
            Some(id) => self.lost_of(id, &self.entries[id.at()]),
            None => self.floor.trim(),
        }
    }

    pub(super) fn lost_of(&self, id: TopicId, entry: &IndexedTopic) -> Option<Trim> {
        Trim::farther(entry.cleared(), self.removed.of(id))
    }

    /// The name of a topic; empty where no topic has this number.
    pub(crate) fn name(&self, topic: TopicId) -> &str {
        self.names.name(topic)
    }
}
