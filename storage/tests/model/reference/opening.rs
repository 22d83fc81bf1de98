//! The reference at an opening: what has to be there, and what may be gone.

use tailwire_model::{Epoch, Trim};

use super::Reference;

impl Reference {
    /// Drops messages that waited for a commit.
    pub(crate) fn forget_pending(&mut self) {
        if let Some(before) = self.before.take() {
            *self = *before;
        }
    }

    /// The newest stored message that has to survive an end: all of them, or those that are safe.
    pub(crate) fn must_have(&self, killed: bool) -> u64 {
        let upto = if killed { self.safe } else { self.committed };
        let stored = self.entries.iter().filter(|entry| !entry.volatile && entry.position <= upto);
        stored.map(|entry| entry.position).max().unwrap_or(0)
    }

    /// The log was opened, and goes on after a position, in an epoch.
    pub(crate) fn reopened(&mut self, newest: u64, epoch: Epoch) {
        for (at, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.position > newest) {
            let kept = self.entries[..at]
                .iter()
                .find(|other| other.group == entry.group && other.position <= newest && !other.volatile);
            assert!(entry.volatile || kept.is_none(), "half of the group {} is left", entry.group);
        }
        self.entries.retain(|entry| entry.position <= newest);
        self.keys.retain(|_, record| record.first.position.0 <= newest);
        (self.newest, self.committed, self.epoch) = (newest, newest, epoch);
        for (topic, name) in &mut self.names {
            name.removed = name.removed.filter(|trim| trim.upto.0 <= newest);
            if name.tail > newest {
                let mut own = self.entries.iter().filter(|entry| entry.draft.topic == *topic);
                (name.tail, name.time) = own.next_back().map_or((0, 0), |entry| (entry.position, entry.time));
            }
        }
    }

    /// A topic as it is after an opening: what it may have lost is checked, and taken over.
    pub(crate) fn adopt(&mut self, topic: &str, trimmed: Option<Trim>, tail: u64, time: u64, killed: bool) {
        let in_memory = self.entries.iter().filter(|entry| entry.volatile && entry.draft.topic == topic);
        let lost = in_memory.map(|entry| entry.position).max().unwrap_or(0);
        let first = self.alive(|name| name == topic).first().map_or(u64::MAX, |entry| entry.position);
        let name = self.names.get_mut(topic).expect("it is known");
        if killed {
            let told = |trim: &&Option<Trim>| Trim::farther(**trim, name.removed) == trimmed;
            if let Some(known) = name.history.iter().rev().find(told).copied() {
                name.trimmed = known;
            }
        }
        let upto = trimmed.map_or(0, |trim| trim.upto.0);
        let known = [name.trimmed, name.removed].iter().flatten().map(|trim| trim.upto.0).max().unwrap_or(0);
        if !name.in_memory && upto > known.max(name.floor) {
            // Where the topic began isn't known any more: at the latest with the first message that is found.
            assert!(upto <= self.floor && upto < first, "{topic} began after {upto}, with {first} or before");
            name.floor = upto;
        }
        if name.in_memory {
            // It is not known which the topic lost: a reader is told of as many as it may be.
            let upto = trimmed.map_or(0, |trim| trim.upto.0);
            assert!((lost..=self.committed).contains(&upto), "{topic} lost {lost}, and tells {upto}");
            name.lost = upto;
            assert!(
                (name.tail..=self.committed).contains(&tail),
                "{topic}'s tail is {tail}, not {}",
                name.tail
            );
            (name.tail, name.time) = (tail, time);
        }
    }

    /// Topics that nothing is left of.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        assert_eq!(self.names[topic].tail, 0, "{topic} is not known any more");
        self.names.remove(topic);
    }
}
