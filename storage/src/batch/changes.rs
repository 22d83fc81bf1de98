//! The changes of a batch, as stores carry them out.

use std::{borrow::Cow, ops::Range, sync::Arc};

use tailwire_core::log::Commit;
use tailwire_model::{Message, Position, Topic, Trim};

use super::{Changes, Removal};
use crate::{
    ages::Ages,
    index::{Index, RetainedPart},
};

impl Changes {
    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.trims.is_empty()
            && self.forgotten.is_empty()
            && self.removed.is_empty()
            && self.options.is_empty()
            && self.openings.is_empty()
            && self.obsolete.is_empty()
            && self.latest.is_empty()
            && !self.has_new_token
    }

    /// Shows an index what is committed. `retained` are what was read for the trims, in their order.
    pub(crate) fn apply(&self, index: &mut Index, ages: &Ages, retained: Vec<Option<RetainedPart>>) {
        if self.has_new_ages {
            index.set_ages(ages.clone());
        }
        for message in &self.messages {
            let (topic, position) = (message.topic().as_str(), message.position());
            if self.is_volatile(message) {
                index.pass(topic, position, message.time);
            } else {
                index.add(topic, position, message.time, message.draft.cost());
            }
        }
        for ((topic, &(trim, time)), cut) in self.trims.iter().zip(retained) {
            index.trim(topic.as_str(), trim, time, cut);
        }
        for (topic, old) in &self.obsolete {
            index.mark_obsolete(topic.as_str(), old.position, old.cost as u64);
        }
        for (&upto, Removal { message, reason }) in &self.removed {
            let stored_cost = message.is_stored.then_some(message.cost as u64);
            index.remove(message.topic.as_str(), Trim { upto, reason: *reason }, stored_cost);
        }
        if let Some(floor) = self.floor {
            index.forget(self.forgotten.keys().map(Topic::as_str), floor);
        }
    }

    /// The commit as followers get it.
    pub(crate) fn into_commit(self, watermark: Position) -> Arc<Commit> {
        let trims = self.trims.into_iter().map(|(topic, (trim, _))| (topic, trim)).collect();
        let removed = self.removed.into_iter().map(|(position, own)| (own.message.topic, position)).collect();
        Arc::new(Commit { watermark, messages: self.messages, cost: self.bytes, trims, removed })
    }

    /// The messages that are not to be stored.
    pub(crate) fn volatile(&self) -> impl Iterator<Item = &Message> {
        // Most commits have none, and are not gone through.
        let messages = if self.volatile.is_empty() { &[] } else { self.messages.as_slice() };
        messages.iter().filter(|message| self.is_volatile(message))
    }

    pub(super) fn is_volatile(&self, message: &Message) -> bool {
        self.volatile.binary_search(&message.position()).is_ok()
    }

    /// Whether there is nothing to store.
    pub(crate) fn is_all_volatile(&self) -> bool {
        self.volatile.len() == self.messages.len()
            && self.keys.is_empty()
            && self.trims.is_empty()
            && self.forgotten.is_empty()
            && self.removed.is_empty()
            && self.options.is_empty()
            && self.openings.is_empty()
            && self.latest.is_empty()
            && !self.has_new_token
    }

    /// The messages that are to be stored, and their groups.
    pub(crate) fn stored(&self) -> (Cow<'_, [Message]>, Cow<'_, [Range<usize>]>) {
        if self.volatile.is_empty() {
            return (Cow::Borrowed(&self.messages), Cow::Borrowed(&self.groups));
        }
        let (mut messages, mut groups) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let start = messages.len();
            let is_stored = |message: &&Message| !self.is_volatile(message);
            messages.extend(self.messages[group.clone()].iter().filter(is_stored).cloned());
            if messages.len() > start {
                groups.push(start..messages.len());
            }
        }
        (Cow::Owned(messages), Cow::Owned(groups))
    }
}
