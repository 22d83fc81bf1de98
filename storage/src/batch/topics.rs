//! The bound on the number of topics, as far as a batch begins some.

use std::collections::HashSet;

use tailwire_core::log::Group;
use tailwire_model::{Position, Topic};

use super::Batch;
use crate::index::Index;

impl Batch {
    /// Whether all topics that a group begins may begin. Those of the broker's own have bounds of their own. Counted only where
    /// there are nearly as many as there may be.
    pub(super) fn has_room_for_topics(&mut self, group: &Group, topics_max: u64, index: &Index) -> bool {
        let stored = index.totals().0;
        let at_most = stored.saturating_add((self.tails.len() + group.drafts.len()) as u64);
        if at_most <= topics_max {
            self.begun = None;
            return true;
        }
        let is_stored = |topic: &Topic| index.tail(topic).0 > Position::ZERO;
        let count = || self.tails.keys().filter(|topic| !is_stored(topic)).count() as u64;
        let begun = self.begun.unwrap_or_else(count);
        let topics = group.drafts.iter().map(|draft| &draft.topic);
        let is_new =
            |topic: &&Topic| !topic.is_reserved() && !self.tails.contains_key(*topic) && !is_stored(topic);
        let new = topics.filter(is_new).collect::<HashSet<_>>().len() as u64;
        let has_room = new == 0 || stored.saturating_add(begun).saturating_add(new) <= topics_max;
        self.begun = Some(begun + if has_room { new } else { 0 });
        has_room
    }
}
